/*
 * A process that has put itself under a filter of system calls: what is refused has another way,
 * or is an error of the call that needs it, at once. Nothing waits for ever, and nothing ends by a
 * signal.
 *
 * Every test is a child process of its own, since a filter stays for good, with an alarm for what
 * does not return.
 */
#include "files.h"
#include "test.h"
#include "threads.h"

#ifndef __linux__

static void all(void)
{
    skip("only Linux has filters of system calls");
}

int main(void)
{
    RUN(all);
    return test_end();
}

#else

#include "refusal.h"

#include <sched.h>

enum { SIZE = 64 << 10 };

static const char *file, *other_file;

static memmgr_manager *open_with(uint32_t flags, uint32_t dimensions)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *manager = NULL;
    options.dimension_count = dimensions;
    options.capacity = SIZE;
    options.flags = flags;
    OK(memmgr_manager_open(&options, &manager, &error));
    return manager;
}

static memmgr_manager *open_loaded(void)
{
    memmgr_load_options copy = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_manager *manager = open_with(0, 2);
    copy.mode = MEMMGR_MODE_COPY;
    OK(memmgr_dimension_load(manager, 0, file, NULL, &error));
    OK(memmgr_dimension_load(manager, 1, file, &copy, &error));
    return manager;
}

static uint64_t allocated(memmgr_manager *manager)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    OK(memmgr_stats_get(manager, &stats, &error));
    return stats.allocated;
}

static uint32_t state_of(memmgr_manager *manager, uint32_t dimension)
{
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    OK(memmgr_dimension_stats_get(manager, dimension, &stats, &error));
    return stats.state;
}

static void read_one(memmgr_manager *manager, uint32_t dimension)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    OK(memmgr_view_acquire(manager, dimension, 0, 1, &view, &error));
    OK(memmgr_view_release(manager, &view, &error));
}

/* Everything that needs the barrier. */
static void use_barrier(memmgr_manager *manager)
{
    memmgr_write write = MEMMGR_WRITE_INIT;
    OK(memmgr_write_begin(manager, 1, 0, 0, &write, &error));
    OK(memmgr_write_end(manager, &write, &error));
    OK(memmgr_dimension_reload(manager, 0, other_file, NULL, &error));
    OK(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    OK(memmgr_dimension_load(manager, 0, file, NULL, &error));
    OK(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    OK(memmgr_dimension_deallocate(manager, 1, MEMMGR_ON_VIEWS_WAIT, 0, &error));
    OK(memmgr_pool_trim(manager, NULL, &error));
}

static void fork_and_use(memmgr_manager *manager)
{
    const pid_t child = fork();
    int outcome;
    if (child == 0) {
        void *block = memmgr_block_alloc(manager, 100, NULL);
        memmgr_view view = MEMMGR_VIEW_INIT;
        _exit(block == NULL || memmgr_block_free(manager, block, NULL) != MEMMGR_OK ||
              memmgr_view_acquire(manager, 0, 0, 1, &view, NULL) != MEMMGR_OK ||
              memmgr_view_release(manager, &view, NULL) != MEMMGR_OK);
    }
    waitpid(child, &outcome, 0);
    EQUAL(0, outcome);
}

/* The way round it: the calling thread visits every processor, and runs afterwards where it might
 * before. */
static void membarrier_later(int code)
{
    memmgr_manager *manager = open_loaded();
    cpu_set_t before, after;
    void *block = GET(memmgr_block_alloc(manager, 100, &error));
    read_one(manager, 0);
    refuse(SYS_membarrier, code);
    sched_getaffinity(0, sizeof before, &before);
    fork_and_use(manager);
    use_barrier(manager);
    fork_and_use(open_loaded());
    OK(memmgr_block_free(manager, block, &error));
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    sched_getaffinity(0, sizeof after, &after);
    CHECK(CPU_EQUAL(&before, &after));
}

static void membarrier_refused_later(void)
{
    in_child(membarrier_later, EPERM);
    in_child(membarrier_later, ENOSYS);
    in_child(membarrier_later, EINVAL);
}

/* A manager of before is closed, and one is opened after. */
static void membarrier_first(int code)
{
    memmgr_manager *manager = open_loaded();
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    refuse(SYS_membarrier, code);
    fork_and_use(open_loaded());
}

static void fork_after_closing(void)
{
    in_child(membarrier_first, ENOSYS);
}

/* Neither the barrier nor the way round it. */
static void no_barrier_at_all(int code)
{
    memmgr_manager *manager = open_loaded(), *closed = open_loaded(), *atomic;
    memmgr_write write = MEMMGR_WRITE_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    void *blocks[3];
    uint64_t charged, index;
    OK(memmgr_view_acquire(closed, 0, 0, 1, &view, &error));
    blocks[0] = GET(memmgr_block_alloc(manager, 100, &error));
    blocks[1] = GET(memmgr_block_alloc(closed, 100, &error));
    blocks[2] = GET(memmgr_block_alloc(closed, 1 << 20, &error));
    charged = allocated(manager);
    refuse(SYS_membarrier, code);
    refuse(SYS_sched_setaffinity, code);

    FAILS(ALLOCATION, memmgr_write_begin(manager, 1, 0, MEMMGR_FOREVER, &write, &error));
    EQUAL(code, error.system_code);
    CHECK(strstr(error.message, "barrier") != NULL);
    FAILS(ALLOCATION, memmgr_dimension_reload(manager, 0, other_file, NULL, &error));
    for (index = 0; index < 2; index++) {
        FAILS(ALLOCATION, memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
        FAILS(ALLOCATION, memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_WAIT,
                                                  MEMMGR_FOREVER, &error));
        FAILS(ALLOCATION, memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_DEFER, 0, &error));
        FAILS(ALLOCATION,
              memmgr_dimension_deallocate(manager, 1, MEMMGR_ON_VIEWS_DEFER, 0, &error));
        FAILS(ALLOCATION, memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
        FAILS(ALLOCATION,
              memmgr_manager_close(manager, MEMMGR_ON_VIEWS_WAIT, MEMMGR_FOREVER, &error));
        FAILS(ALLOCATION, memmgr_pool_trim(manager, NULL, &error));
    }
    EQUAL(charged, allocated(manager));
    EQUAL(MEMMGR_STATE_LOADED, state_of(manager, 0));
    EQUAL(MEMMGR_STATE_LOADED, state_of(manager, 1));
    read_one(manager, 0);
    fork_and_use(manager);

    /* What needs no barrier goes on. */
    atomic = open_with(MEMMGR_OPEN_GATE_ATOMIC, 2);
    OK(memmgr_dimension_load(atomic, 0, file, NULL, &error));
    OK(memmgr_dimension_reload(atomic, 0, other_file, NULL, &error));
    OK(memmgr_manager_close(atomic, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    OK(memmgr_block_free(manager, blocks[0], &error));

    /* Closing does not fail, and what is held stays valid; it never comes back. */
    OK(memmgr_manager_close(closed, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    EQUAL(7, *(const unsigned char *)view.data);
    memset(blocks[1], 1, 100);
    OK(memmgr_view_release(closed, &view, &error));
    OK(memmgr_block_free(closed, blocks[1], &error));
    OK(memmgr_block_free(closed, blocks[2], &error));
    FAILS(INVALID_ACCESS, memmgr_dimension_unload(closed, 0, 0, 0, &error));
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_DEFER, 0, &error));
}

static void nothing_in_place_of_the_barrier(void)
{
    in_child(no_barrier_at_all, EPERM);
    in_child(no_barrier_at_all, ENOSYS);
}

/* Readers must never see two stamps: the barrier that is left keeps them from the writer. */
static struct {
    memmgr_manager *manager;
    int stop;
    uint64_t torn, reads, refusals;
} race;

static void read_stamps(void *context)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    (void)context;
    while (!__atomic_load_n(&race.stop, __ATOMIC_RELAXED)) {
        const uint64_t *words;
        size_t index;
        if (memmgr_view_acquire(race.manager, 1, 0, SIZE, &view, NULL) != MEMMGR_OK) {
            __atomic_fetch_add(&race.refusals, 1, __ATOMIC_RELAXED);
            continue;
        }
        words = (const uint64_t *)view.data;
        for (index = 0; index < SIZE / 8; index += 61) {
            if (words[index] != words[0]) __atomic_fetch_add(&race.torn, 1, __ATOMIC_RELAXED);
        }
        memmgr_view_release(race.manager, &view, NULL);
        __atomic_fetch_add(&race.reads, 1, __ATOMIC_RELAXED);
    }
}

static void race_without_membarrier(int code)
{
    enum { READERS = 3, ROUNDS = 100 };
    thread readers[READERS];
    uint64_t round, index, blocks = 0;
    memmgr_write write = MEMMGR_WRITE_INIT;
    race.manager = open_loaded();
    refuse(SYS_membarrier, code);
    for (index = 0; index < READERS; index++) thread_start(&readers[index], read_stamps, NULL);
    for (round = 1; round <= ROUNDS; round++) {
        uint64_t *words;
        void *block = memmgr_block_alloc(race.manager, 64, NULL);
        blocks += block != NULL;
        if (!OK(memmgr_write_begin(race.manager, 1, 0, MEMMGR_FOREVER, &write, &error))) break;
        words = (uint64_t *)write.data;
        for (index = 0; index < SIZE / 8; index++) words[index] = round;
        OK(memmgr_write_end(race.manager, &write, &error));
        OK(memmgr_dimension_reload(race.manager, 0, round % 2 ? other_file : file, NULL, &error));
        OK(memmgr_block_free(race.manager, block, &error));
        OK(memmgr_pool_trim(race.manager, NULL, &error));
    }
    __atomic_store_n(&race.stop, 1, __ATOMIC_RELAXED);
    for (index = 0; index < READERS; index++) thread_join(&readers[index]);
    EQUAL(ROUNDS, blocks);
    EQUAL(0, race.torn);
    EQUAL(0, race.refusals);
    CHECK(race.reads > 0);
    OK(memmgr_manager_close(race.manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void readers_and_writers_without_membarrier(void)
{
    in_child(race_without_membarrier, EPERM);
}

int main(void)
{
    file = file_fill("a", 7, SIZE);
    other_file = file_fill("b", 8, SIZE);
    RUN(membarrier_refused_later);
    RUN(fork_after_closing);
    RUN(nothing_in_place_of_the_barrier);
    RUN(readers_and_writers_without_membarrier);
    return test_end();
}

#endif

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

static const char *file, *other_file, *writable, *small, *saved;

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

static void fork_only(void)
{
    const pid_t child = fork();
    int outcome;
    if (child == 0) _exit(0);
    waitpid(child, &outcome, 0);
    EQUAL(0, outcome);
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

/* Every system call that the library makes of its own accord, refused with each code that a filter
 * or an old kernel has for it: everything is done, first from the start, then with what was opened
 * and loaded before. Whatever a refusal means, it is told at once, by a status. */
enum { NEEDED, NOT_NEEDED };

static const struct {
    const char *name;
    long number;
    int needed; /* not NOT_NEEDED: a refusal may be an error */
} calls[] = {
    { "membarrier", SYS_membarrier, NOT_NEEDED },
    { "madvise", SYS_madvise, NOT_NEEDED },
    { "statx", SYS_statx, NOT_NEEDED },
    { "mincore", SYS_mincore, NOT_NEEDED },
    { "ioctl", SYS_ioctl, NOT_NEEDED },
    { "getcpu", SYS_getcpu, NOT_NEEDED },
    { "sched_setaffinity", SYS_sched_setaffinity, NOT_NEEDED },
    { "sched_getaffinity", SYS_sched_getaffinity, NOT_NEEDED },
    { "sched_yield", SYS_sched_yield, NOT_NEEDED },
    { "getrandom", SYS_getrandom, NOT_NEEDED },
    { "sysinfo", SYS_sysinfo, NOT_NEEDED },
    { "prlimit64", SYS_prlimit64, NOT_NEEDED },
    { "faccessat", SYS_faccessat, NOT_NEEDED },
    { "geteuid", SYS_geteuid, NOT_NEEDED },
    { "fstatfs", SYS_fstatfs, NOT_NEEDED },
    { "statfs", SYS_statfs, NOT_NEEDED },
    { "lseek", SYS_lseek, NEEDED },
    { "fallocate", SYS_fallocate, NEEDED },
    { "fsync", SYS_fsync, NEEDED },
    { "msync", SYS_msync, NEEDED },
    { "mlock", SYS_mlock, NEEDED },
    { "munlock", SYS_munlock, NEEDED },
    { "mprotect", SYS_mprotect, NEEDED },
    { "pread64", SYS_pread64, NEEDED },
    { "pwrite64", SYS_pwrite64, NEEDED },
    { "openat", SYS_openat, NEEDED },
    { "renameat", SYS_renameat, NEEDED },
#ifdef SYS_rename
    { "rename", SYS_rename, NEEDED },
    { "unlink", SYS_unlink, NEEDED },
#endif
    { "fchmod", SYS_fchmod, NEEDED },
    { "fchown", SYS_fchown, NOT_NEEDED },
    { "rt_sigaction", SYS_rt_sigaction, NEEDED },
    { "rt_sigprocmask", SYS_rt_sigprocmask, NOT_NEEDED },
    { "mmap", SYS_mmap, NEEDED },
    { "munmap", SYS_munmap, NEEDED },
};

/* One of them, as a number for in_child. */
#define CASE(index, code, later) ((int)(index) << 16 | (code) << 1 | (later))

static int is_needed;

/* It succeeded, or was allowed not to. */
static int done(memmgr_status status, const char *what)
{
    char more[200];
    if (status == MEMMGR_OK) return 1;
    snprintf(more, sizeof more, " (%s)", memmgr_status_name(status));
    test_check(is_needed, what, more, __FILE__, __LINE__);
    return 0;
}

#define DONE(call) (test_forget(), done((call), #call))

static memmgr_manager *begin_everything(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *manager = NULL;
    options.dimension_count = 5;
    options.capacity = SIZE;
    options.flags = MEMMGR_OPEN_FAULT_GUARD;
    if (!DONE(memmgr_manager_open(&options, &manager, &error))) return NULL;
    return manager;
}

static void load_everything(memmgr_manager *manager)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    for (options.mode = 0; options.mode < 4; options.mode++) {
        options.prefetch = options.mode % 2 ? MEMMGR_PREFETCH_POPULATE : MEMMGR_PREFETCH_LAZY;
        DONE(memmgr_dimension_load(manager, options.mode,
                                   options.mode == MEMMGR_MODE_READ_WRITE ? writable : file,
                                   &options, &error));
    }
}

static void do_everything(memmgr_manager *manager)
{
    memmgr_memory memory = MEMMGR_MEMORY_INIT;
    memmgr_residency residency = MEMMGR_RESIDENCY_INIT;
    memmgr_warming warming = MEMMGR_WARMING_INIT;
    memmgr_verification verification = MEMMGR_VERIFICATION_INIT;
    memmgr_array array = MEMMGR_ARRAY_INIT;
    uint32_t index;
    size_t length;
    void *block;
    OK(memmgr_memory_get(manager, MEMMGR_NONE, &memory, &error));
    OK(memmgr_dump_json(manager, NULL, 0, &length, &error));
    for (index = 0; index < 4; index++) {
        memmgr_view view = MEMMGR_VIEW_INIT;
        memmgr_write write = MEMMGR_WRITE_INIT;
        if (state_of(manager, index) != MEMMGR_STATE_LOADED) continue;
        OK(memmgr_residency_get(manager, index, 0, 0, &residency, &error));
        DONE(memmgr_dimension_warm(manager, index, NULL, &warming, &error));
        DONE(memmgr_dimension_evict(manager, index, &error));
        if (DONE(memmgr_dimension_lock(manager, index, &error)))
            OK(memmgr_dimension_unlock(manager, index, &error));
        OK(memmgr_view_acquire(manager, index, 0, SIZE, &view, &error));
        CHECK(*(const unsigned char *)view.data == 7);
        OK(memmgr_view_release(manager, &view, &error));
        DONE(memmgr_dimension_verify(manager, index, NULL, &verification, &error));
        if (index > 0 && DONE(memmgr_write_begin(manager, index, 0, 0, &write, &error))) {
            memset(write.data, 7, 100);
            OK(memmgr_write_end(manager, &write, &error));
            DONE(memmgr_dimension_flush(manager, index, &error));
        }
    }
    DONE(memmgr_dimension_would_fit(manager, 4, file, 0, MEMMGR_MODE_READ, &error));
    if (state_of(manager, 0) == MEMMGR_STATE_LOADED)
        DONE(memmgr_dimension_reload(manager, 0, other_file, NULL, &error));
    array.name = "data";
    array.dtype = MEMMGR_DTYPE_U8;
    array.rank = 1;
    array.shape[0] = 3;
    array.data = "abc";
    DONE(memmgr_array_save(saved, &array, 1, NULL, &error));
    block = memmgr_block_alloc(manager, 100, &error);
    if (block == NULL) {
        CHECK(is_needed);
    } else {
        OK(memmgr_block_free(manager, block, &error));
    }
    DONE(memmgr_pool_trim(manager, NULL, &error));
    fork_only();
    for (index = 0; index < 4; index++) {
        if (state_of(manager, index) != MEMMGR_STATE_LOADED) continue;
        DONE(memmgr_dimension_unload(manager, index, index % 2 ? MEMMGR_ON_VIEWS_WAIT
                                                               : MEMMGR_ON_VIEWS_DEFER,
                                     MEMMGR_FOREVER, &error));
    }
}

static void everything_refused(int which)
{
    const unsigned index = (unsigned)which >> 16;
    const int code = which >> 1 & 0x7fff, later = which & 1;
    memmgr_manager *manager = NULL;
    is_needed = 0;
    if (later) {
        manager = begin_everything();
        load_everything(manager);
    }
    refuse(calls[index].number, code);
    is_needed = calls[index].needed != NOT_NEEDED;
    if (!later) {
        manager = begin_everything();
        if (manager == NULL) return;
        load_everything(manager);
    }
    do_everything(manager);
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_DEFER, 0, &error));
}

static void each_call_refused(void)
{
    static const int codes[] = { EPERM, ENOSYS };
    unsigned index, code;
    int later;
    for (index = 0; index < sizeof calls / sizeof calls[0]; index++) {
        for (code = 0; code < sizeof codes / sizeof codes[0]; code++) {
            for (later = 0; later < 2; later++) {
                const unsigned failures = test.failures;
                in_child(everything_refused, CASE(index, codes[code], later));
                if (test.failures != failures)
                    fprintf(stderr, "  %s, code %d, %s\n", calls[index].name, codes[code],
                            later ? "later" : "from the start");
            }
        }
    }
}

/* Advice of single kinds, as kernels before 5.14 and 5.4 have it, and those built without. */
static void advice_refused(int advice)
{
    memmgr_manager *manager;
    refuse_where(SYS_madvise, EINVAL, 2, (uint32_t)advice);
    manager = begin_everything();
    load_everything(manager);
    do_everything(manager);
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void kinds_of_advice_refused(void)
{
    static const int kinds[] = { 14, 16, 20, 21, 22, 23 };
    unsigned index;
    for (index = 0; index < sizeof kinds / sizeof kinds[0]; index++)
        in_child(advice_refused, kinds[index]);
}

/* A file that is cut while its pages are brought in, where the kernel does not take advice to. */
static void cut_while_brought_in(int code)
{
    memmgr_manager *manager = open_with(0, 1);
    memmgr_warming warming = MEMMGR_WARMING_INIT;
    const char *cut = file_fill("cut", 1, SIZE);
    refuse_where(SYS_madvise, code, 2, 22);
    OK(memmgr_dimension_load(manager, 0, cut, NULL, &error));
    CHECK(truncate(cut, 1) == 0);
    FAILS(FAULTED, memmgr_dimension_warm(manager, 0, NULL, &warming, &error));
    FAILS(FAULTED, memmgr_dimension_lock(manager, 0, &error));
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void no_signal_from_bringing_in(void)
{
    in_child(cut_while_brought_in, EINVAL);
    in_child(cut_while_brought_in, ENOSYS);
}

/* A process of which the kernel does not tell what it has in memory. */
static void not_dumpable(int unused)
{
    memmgr_manager *manager = open_loaded();
    memmgr_memory memory = MEMMGR_MEMORY_INIT;
    memmgr_residency residency = MEMMGR_RESIDENCY_INIT;
    char text[16 << 10];
    (void)unused;
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(NO_FILTERS);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    OK(memmgr_dump_json(manager, text, sizeof text, NULL, &error));
    OK(memmgr_memory_get(manager, MEMMGR_NONE, &memory, &error));
    CHECK(memory.mapped == 2 * SIZE);
    OK(memmgr_residency_get(manager, 0, 0, 0, &residency, &error));
    if (access("/proc/self/pagemap", R_OK) == 0) return;
    EQUAL(MEMMGR_UNKNOWN, memory.resident);
    EQUAL(MEMMGR_UNKNOWN, memory.private_dirty);
    EQUAL(MEMMGR_UNKNOWN, memory.huge);
    EQUAL(MEMMGR_UNKNOWN, residency.resident);
    CHECK(strstr(text, "\"resident\":null") != NULL);
}

static void what_is_not_told_is_unknown(void)
{
    in_child(not_dumpable, 0);
}

/* Of more dimensions than a process has entries in its map. */
static void as_many_dimensions_as_there_can_be(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *manager = NULL;
    options.dimension_count = MEMMGR_DIMENSIONS_MAX;
    options.capacity = 4096;
    OK(memmgr_manager_open(&options, &manager, &error));
    OK(memmgr_dimension_load(manager, MEMMGR_DIMENSIONS_MAX - 1, small, NULL, &error));
    read_one(manager, MEMMGR_DIMENSIONS_MAX - 1);
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

int main(void)
{
    file = file_fill("a", 7, SIZE);
    writable = file_fill("w", 7, SIZE);
    small = file_fill("s", 7, 100);
    saved = file_path("saved.npy");
    (void)NEEDED;
    other_file = file_fill("b", 8, SIZE);
    RUN(membarrier_refused_later);
    RUN(fork_after_closing);
    RUN(nothing_in_place_of_the_barrier);
    RUN(readers_and_writers_without_membarrier);
    RUN(each_call_refused);
    RUN(kinds_of_advice_refused);
    RUN(no_signal_from_bringing_in);
    RUN(what_is_not_told_is_unknown);
    RUN(as_many_dimensions_as_there_can_be);
    return test_end();
}

#endif

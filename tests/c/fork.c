/*
 * A child of a fork uses the pools of its parent, whatever the parent's other threads were doing in
 * them at that moment, and opens managers of its own; the parent does not notice.
 */
#include "test.h"
#include "files.h"
#include "threads.h"

#ifdef _WIN32
static void forks(void)
{
    skip("processes are not forked here");
}

int main(void)
{
    RUN(forks);
    return test_end();
}
#else
#include <stdatomic.h>
#include <sys/wait.h>

enum { THREADS = 8, FORKS = 30, KEPT = 100 };

static memmgr_manager *manager;
static atomic_int stop;
static atomic_uint wrong;

static void alloc_and_free(void *context)
{
    uint64_t state = (uintptr_t)context;
    while (!atomic_load(&stop)) {
        const size_t size = 1 + next_random(&state) % ((size_t)1 << next_random(&state) % 18);
        void *const block = GET(memmgr_block_alloc(manager, size, &error));
        memset(block, 1, size);
        if (memmgr_block_free(manager, block, &error) != MEMMGR_OK) wrong++;
        if (size < 10 && memmgr_pool_trim(manager, NULL, &error) != MEMMGR_OK) wrong++;
    }
}

static void use_as_child(unsigned char *const kept[KEPT])
{
    memmgr_pool_stats stats = MEMMGR_POOL_STATS_INIT;
    memmgr_manager *own;
    void *blocks[200];
    size_t index;
    alarm(20); /* a child that waits for a thread it does not have would do so for ever */
    for (index = 0; index < 200; index++) {
        blocks[index] = GET(memmgr_block_alloc(manager, 1 + index * 500, &error));
        memset(blocks[index], 2, 1 + index * 500);
    }
    for (index = 0; index < KEPT; index++) {
        CHECK(kept[index][0] == index && kept[index][99] == index);
        OK(memmgr_block_free(manager, kept[index], &error));
    }
    OK(memmgr_block_free_batch(manager, blocks, 200, &error));
    OK(memmgr_pool_trim(manager, NULL, &error));
    OK(memmgr_pool_stats_get(manager, &stats, &error));
    /* At most one block of each thread that is not here. */
    CHECK(stats.blocks <= THREADS);
    EQUAL(0, stats.double_frees);
    OK(memmgr_manager_open(NULL, &own, &error));
    OK(memmgr_dimension_load(own, 0, file_path("raw"), NULL, &error));
    OK(memmgr_manager_close(own, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    fflush(NULL);
    _exit(test.failures != 0);
}

static void child_has_usable_pools(uint32_t flags)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_pool_stats stats = MEMMGR_POOL_STATS_INIT;
    unsigned char *kept[KEPT];
    thread threads[THREADS];
    size_t index;
    options.dimension_count = 1;
    options.capacity = 4096;
    options.flags = flags;
    OK(memmgr_manager_open(&options, &manager, &error));
    for (index = 0; index < KEPT; index++) {
        kept[index] = GET(memmgr_block_alloc(manager, 100, &error));
        memset(kept[index], (int)index, 100);
    }
    atomic_store(&stop, 0);
    for (index = 0; index < THREADS; index++) {
        thread_start(&threads[index], alloc_and_free, (void *)(uintptr_t)(index + 1));
    }
    for (index = 0; index < FORKS; index++) {
        int status = -1;
        const pid_t child = fork();
        if (child == 0) use_as_child(kept);
        CHECK(waitpid(child, &status, 0) == child);
        EQUAL(0, status);
    }
    atomic_store(&stop, 1);
    for (index = 0; index < THREADS; index++) thread_join(&threads[index]);
    EQUAL(0, atomic_load(&wrong));
    for (index = 0; index < KEPT; index++) {
        CHECK(kept[index][0] == index && kept[index][99] == index);
        OK(memmgr_block_free(manager, kept[index], &error));
    }
    OK(memmgr_pool_stats_get(manager, &stats, &error));
    EQUAL(0, stats.blocks);
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void child_of_the_usual(void)
{
    child_has_usable_pools(0);
}

static void child_without_the_barrier(void)
{
    child_has_usable_pools(MEMMGR_OPEN_GATE_ATOMIC);
}

static void child_with_poison(void)
{
    child_has_usable_pools(MEMMGR_OPEN_POISON);
}

int main(void)
{
    file_fill("raw", 1, 4000);
    RUN(child_of_the_usual);
    RUN(child_without_the_barrier);
    RUN(child_with_poison);
    return test_end();
}
#endif

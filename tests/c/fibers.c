/*
 * Fibers, which are the only threads of a kind that others can delete: the counters and the blocks
 * of the thread that ran one stay its own.
 */
#include "test.h"

#ifdef _WIN32
#include <windows.h>

enum { ROUNDS = 3000000 };

static memmgr_manager *manager;
static LPVOID main_fiber, worker_fiber;
static HANDLE fiber_deleted, fiber_done;
static volatile LONG clashes, refusals;

static void WINAPI use_in_fiber(void *context)
{
    (void)context;
    memmgr_block_free(manager, memmgr_block_alloc(manager, 64, NULL), NULL);
    SwitchToFiber(main_fiber);
}

/* Nobody else has the block meanwhile. */
static void use_blocks(LONG me)
{
    LONG round;
    for (round = 0; round < ROUNDS; round++) {
        volatile LONG *block = (volatile LONG *)memmgr_block_alloc(manager, 64, NULL);
        if (block == NULL) {
            InterlockedIncrement(&refusals);
            continue;
        }
        block[0] = me;
        block[1] = round;
        if (round % 8 == 0) YieldProcessor();
        if (block[0] != me || block[1] != round) InterlockedIncrement(&clashes);
        if (memmgr_block_free(manager, (void *)block, NULL)) InterlockedIncrement(&refusals);
    }
}

static DWORD WINAPI run_fiber(void *context)
{
    (void)context;
    main_fiber = ConvertThreadToFiber(NULL);
    worker_fiber = CreateFiber(0, use_in_fiber, NULL);
    SwitchToFiber(worker_fiber);
    SetEvent(fiber_done);
    WaitForSingleObject(fiber_deleted, INFINITE);
    use_blocks(1);
    return 0;
}

static DWORD WINAPI run_thread(void *context)
{
    (void)context;
    use_blocks(2);
    return 0;
}

static void fiber_deleted_by_another_thread_takes_nothing_from_its_own(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_pool_stats stats = MEMMGR_POOL_STATS_INIT;
    HANDLE threads[2];
    options.dimension_count = 1;
    OK(memmgr_manager_open(&options, &manager, &error));
    fiber_done = CreateEvent(NULL, TRUE, FALSE, NULL);
    fiber_deleted = CreateEvent(NULL, TRUE, FALSE, NULL);
    threads[0] = CreateThread(NULL, 0, run_fiber, NULL, 0, NULL);
    WaitForSingleObject(fiber_done, INFINITE);
    DeleteFiber(worker_fiber);
    /* Gets the index that is free, if there is one. */
    threads[1] = CreateThread(NULL, 0, run_thread, NULL, 0, NULL);
    SetEvent(fiber_deleted);
    WaitForMultipleObjects(2, threads, TRUE, INFINITE);
    EQUAL(0, clashes);
    EQUAL(0, refusals);
    OK(memmgr_pool_stats_get(manager, &stats, &error));
    EQUAL(0, stats.blocks);
    EQUAL(0, stats.double_frees);
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

int main(void)
{
    RUN(fiber_deleted_by_another_thread_takes_nothing_from_its_own);
    return test_end();
}

#else

static void fibers_are_deleted(void)
{
    skip("no fibers here");
}

int main(void)
{
    RUN(fibers_are_deleted);
    return test_end();
}

#endif

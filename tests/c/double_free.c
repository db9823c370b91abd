/*
 * Blocks that two threads free at the same moment: nothing is handed out twice, lost, or touched
 * after it went, with either gate.
 *
 *   double_free [--slow [SECONDS]]     a few thousand rounds, or all tests for so long (60)
 */
#include "test.h"
#include "threads.h"

#include <stdatomic.h>

enum { BLOCKS = 300, TAKEN = BLOCKS / 2, MANY = 100000 };

static uint32_t flags;
static unsigned rounds = 300;
static uint64_t seconds;
static memmgr_manager *manager;
static void *blocks[BLOCKS], *many[MANY];
static atomic_uint arrived, over;
static atomic_ullong freed_twice, neither, wrong, all_rounds;

static memmgr_manager *open_manager(uint32_t with)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened = NULL;
    options.dimension_count = 1;
    options.capacity = 4096;
    options.flags = with;
    OK(memmgr_manager_open(&options, &opened, &error));
    return opened;
}

static memmgr_pool_stats pool_stats(void)
{
    memmgr_pool_stats stats = MEMMGR_POOL_STATS_INIT;
    OK(memmgr_pool_stats_get(manager, &stats, &error));
    return stats;
}

/* Both threads go on at the same moment. */
static void meet(unsigned *count)
{
    unsigned spins = 0;
    *count += 2;
    arrived++;
    while (arrived < *count) {
        if (++spins % 1000 == 0) thread_yield();
    }
}

static void run_both(void (*run)(void *self))
{
    thread threads[2];
    int selves[2] = { 0, 1 };
    size_t index;
    arrived = over = 0;
    freed_twice = neither = wrong = 0;
    for (index = 0; index < 2; index++) thread_start(&threads[index], run, &selves[index]);
    for (index = 0; index < 2; index++) thread_join(&threads[index]);
    EQUAL(0, atomic_load(&wrong));
}

/* Decided by one of the two, between two meetings. */
static void count_round(unsigned round, uint64_t since)
{
    all_rounds++;
    if (seconds != 0 ? now_ms() - since > seconds * 1000 / 6 : round + 1 >= rounds) over = 1;
}

/* Of the blocks that both free, each is one thread's: what a thread writes into it stays. */
static void free_and_take(void *self)
{
    const int me = *(int *)self;
    const uint64_t since = now_ms();
    static atomic_int results[2][BLOCKS];
    unsigned count = 0, round, index;
    for (round = 0; !over; round++) {
        unsigned char *mine[TAKEN];
        if (me == 0) OK(memmgr_block_alloc_batch(manager, 64, BLOCKS, blocks, &error));
        meet(&count);
        for (index = 0; index < BLOCKS; index++) {
            results[me][index] = memmgr_block_free(manager, blocks[index], NULL);
        }
        meet(&count);
        for (index = 0; index < TAKEN; index++) {
            mine[index] = GET(memmgr_block_alloc(manager, 64, &error));
            memset(mine[index], me + 1, 64);
        }
        for (index = 0; me == 0 && index < BLOCKS; index++) {
            const int first = results[0][index], second = results[1][index];
            if (first == MEMMGR_OK && second == MEMMGR_OK) freed_twice++;
            if (first != MEMMGR_OK && second != MEMMGR_OK) neither++;
            if (first != MEMMGR_OK && first != MEMMGR_ERR_POOL_CORRUPTION) wrong++;
            if (second != MEMMGR_OK && second != MEMMGR_ERR_POOL_CORRUPTION) wrong++;
        }
        meet(&count);
        for (index = 0; index < TAKEN; index++) {
            if (mine[index][0] != me + 1 || mine[index][63] != me + 1) wrong++;
            if (memmgr_block_free(manager, mine[index], NULL) != MEMMGR_OK) wrong++;
        }
        if (me == 0) count_round(round, since);
        if (me == 0 && round % 7 == 0) OK(memmgr_pool_trim(manager, NULL, &error));
        meet(&count);
    }
}

/* R7.1: whoever is told that he freed a block when another was told so too is counted. */
static void expect_nothing_lost(void)
{
    EQUAL(0, atomic_load(&neither));
    OK(memmgr_pool_trim(manager, NULL, &error));
    EQUAL(0, pool_stats().blocks);
    EQUAL(0, pool_stats().allocated);
    EQUAL(atomic_load(&freed_twice), pool_stats().double_frees);
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void blocks_freed_by_two_threads(void)
{
    manager = open_manager(flags);
    run_both(free_and_take);
    expect_nothing_lost();
}

static void poisoned_blocks_freed_by_two_threads(void)
{
    manager = open_manager(flags | MEMMGR_OPEN_POISON);
    run_both(free_and_take);
    EQUAL(0, atomic_load(&freed_twice));
    expect_nothing_lost();
}

/* More magazines than there can be blocks for, if each block were in two. */
static void free_many(void *self)
{
    static atomic_uint done[2];
    static atomic_char told[MANY];
    const int me = *(int *)self;
    unsigned count = 0, index;
    done[me] = 0;
    meet(&count);
    for (index = 0; index < MANY; index++) {
        while (index % 16 == 0 && done[!me] + 16 < index) thread_yield();
        done[me] = index;
        if (memmgr_block_free(manager, many[index], NULL) == MEMMGR_OK) told[index]++;
    }
    done[me] = MANY;
    meet(&count);
    for (index = 0; me == 0 && index < MANY; index++) {
        if (told[index] == 2) freed_twice++;
        if (told[index] == 0) neither++;
        told[index] = 0;
    }
}

static void many_blocks_freed_by_two_threads(void)
{
    manager = open_manager(flags);
    OK(memmgr_block_alloc_batch(manager, 16, MANY, many, &error));
    run_both(free_many);
    expect_nothing_lost();
}

/* The last block of a closed manager takes it away, from under whoever frees it as well. */
static void free_last(void *self)
{
    static atomic_int results[2];
    const int me = *(int *)self;
    const uint64_t since = now_ms();
    unsigned count = 0, round;
    uint64_t state = 7;
    for (round = 0; !over; round++) {
        volatile unsigned pause = me ? (unsigned)(next_random(&state) % 4000) : 0;
        if (me == 0) {
            manager = open_manager(flags);
            blocks[0] = GET(memmgr_block_alloc(manager, 64, &error));
            OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
        }
        meet(&count);
        while (pause > 0) pause--;
        results[me] = memmgr_block_free(manager, blocks[0], NULL);
        meet(&count);
        if (me == 0) {
            const int other = results[0] == MEMMGR_OK ? results[1] : results[0];
            if (results[0] != MEMMGR_OK && results[1] != MEMMGR_OK) wrong++;
            if (other != MEMMGR_ERR_POOL_CORRUPTION) wrong++;
            count_round(round, since);
        }
        meet(&count);
    }
}

static void last_block_freed_by_two_threads(void)
{
    run_both(free_last);
}

/* One thread that allocates and one that trims; R4.1: blocks are nobody else's. */
static void use_and_trim(void *self)
{
    const int me = *(int *)self;
    const uint64_t since = now_ms();
    unsigned round, index;
    for (round = 0; !over; round++) {
        uint64_t *held[32];
        if (me == 1) {
            OK(memmgr_pool_trim(manager, NULL, &error));
            continue;
        }
        for (index = 0; index < 32; index++) {
            held[index] = GET(memmgr_block_alloc(manager, 64, &error));
            *held[index] = index + round;
        }
        for (index = 0; index < 32; index++) {
            if (*held[index] != index + round) wrong++;
            if (memmgr_block_free(manager, held[index], NULL) != MEMMGR_OK) wrong++;
        }
        /* A handle that none has, and the one of nobody. */
        if (memmgr_block_alloc(NULL, 64, NULL) != NULL) wrong++;
        count_round(round / 100, since);
    }
}

static void trimmed_under_the_owner(void)
{
    manager = open_manager(flags);
    run_both(use_and_trim);
    expect_nothing_lost();
}

/* The same, in memory that a manager with the other gate used before on this very thread. */
static void use_after_other(void *self)
{
    unsigned count = 0;
    if (*(int *)self == 0) {
        memmgr_manager *other = open_manager(0);
        void *block = GET(memmgr_block_alloc(other, 64, &error));
        OK(memmgr_block_free(other, block, &error));
        OK(memmgr_manager_close(other, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
        manager = open_manager(MEMMGR_OPEN_GATE_ATOMIC);
    }
    meet(&count);
    use_and_trim(self);
}

static void trimmed_after_the_other_gate(void)
{
    run_both(use_after_other);
    expect_nothing_lost();
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--slow") == 0) {
        seconds = argc > 2 ? strtoull(argv[2], NULL, 10) : 60;
        seconds = (seconds + 1) / 2;
    }
    for (flags = 0; flags <= MEMMGR_OPEN_GATE_ATOMIC; flags += MEMMGR_OPEN_GATE_ATOMIC) {
        unsigned repeat;
        RUN(blocks_freed_by_two_threads);
        RUN(poisoned_blocks_freed_by_two_threads);
        for (repeat = 0; repeat < (seconds ? 20 : 1); repeat++) {
            RUN(many_blocks_freed_by_two_threads);
        }
        RUN(last_block_freed_by_two_threads);
        RUN(trimmed_under_the_owner);
        RUN(trimmed_after_the_other_gate);
    }
    if (seconds) printf("%llu rounds\n", (unsigned long long)all_rounds);
    return test_end();
}

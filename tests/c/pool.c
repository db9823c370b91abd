/*
 * The pools as their criteria say (R6.1 is r6_1), what is no block of theirs, arguments that cannot
 * be, and a hundred threads that want all there is.
 */
#include "test.h"
#include "files.h"
#include "threads.h"

#include <stdatomic.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { POOL_LIMIT = 4 << 20 };

static memmgr_manager *manager;

static memmgr_manager *open_manager(uint64_t pool_limit, uint32_t flags)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened;
    options.dimension_count = 1;
    options.capacity = MIB;
    options.pool_limit = pool_limit;
    options.flags = flags;
    OK(memmgr_manager_open(&options, &opened, &error));
    return opened;
}

static memmgr_pool_stats pool_stats(memmgr_manager *of)
{
    memmgr_pool_stats stats = MEMMGR_POOL_STATS_INIT;
    OK(memmgr_pool_stats_get(of, &stats, &error));
    return stats;
}

static void set_up(void)
{
    manager = open_manager(POOL_LIMIT, 0);
}

/* Every test gives back what it took: the pools are as if nobody had ever asked them. */
static void tear_down(void)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    uint64_t bytes;
    EQUAL(0, pool_stats(manager).blocks);
    OK(memmgr_pool_trim(manager, &bytes, &error));
    EQUAL(0, pool_stats(manager).allocated);
    OK(memmgr_stats_get(manager, &stats, &error));
    EQUAL(MIB, stats.allocated);
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void *block_of(memmgr_manager *of, size_t size)
{
    return GET(memmgr_block_alloc(of, size, &error));
}

static void free_block(memmgr_manager *of, void *block)
{
    OK(memmgr_block_free(of, block, &error));
}

static int all(const void *block, int value, size_t size)
{
    const unsigned char *bytes = block;
    size_t index;
    for (index = 0; index < size; index++) {
        if (bytes[index] != value) return 0;
    }
    return 1;
}

/* The pool that has blocks of `size`. */
static memmgr_pool_class class_of(size_t size)
{
    memmgr_pool_class found = MEMMGR_POOL_CLASS_INIT;
    uint32_t index = 0;
    do {
        OK(memmgr_pool_class_get(manager, index++, &found, &error));
    } while (found.block_size < size);
    return found;
}

/* ---- R6 ---------------------------------------------------------------------------------- */

/* A request is met from a pool that is there. */
static void r6_1(void)
{
    void *first = block_of(manager, 1000), *second;
    const uint64_t allocated = pool_stats(manager).allocated;
    second = block_of(manager, 1000);
    CHECK(first != second);
    EQUAL(allocated, pool_stats(manager).allocated);
    EQUAL(1, class_of(1000).slabs);
    EQUAL(2, class_of(1000).blocks);
    free_block(manager, first);
    free_block(manager, second);
}

/* Where there is none, one is made, and charged. */
static void r6_2(void)
{
    memmgr_stats before = MEMMGR_STATS_INIT, after = MEMMGR_STATS_INIT;
    const memmgr_pool_class none = class_of(500);
    void *block;
    EQUAL(0, none.slabs);
    OK(memmgr_stats_get(manager, &before, &error));
    block = block_of(manager, 500);
    OK(memmgr_stats_get(manager, &after, &error));
    EQUAL(1, class_of(500).slabs);
    EQUAL(before.allocated + none.slab_size, after.allocated);
    EQUAL(none.slab_size, pool_stats(manager).allocated);
    free_block(manager, block);
}

/* Pools are by size, and the one of a size is the smallest that holds it. */
static void r6_3(void)
{
    const uint32_t count = pool_stats(manager).class_count;
    memmgr_pool_class pool = MEMMGR_POOL_CLASS_INIT;
    uint64_t smaller = 0;
    uint32_t index;
    for (index = 0; index < count; index++) {
        size_t sizes[2], room;
        unsigned which;
        OK(memmgr_pool_class_get(manager, index, &pool, &error));
        EQUAL(index, pool.index);
        CHECK(pool.block_size > smaller && pool.slab_size >= pool.block_size);
        sizes[0] = (size_t)smaller + 1;
        sizes[1] = (size_t)pool.block_size;
        for (which = 0; which < 2; which++) {
            void *block = block_of(manager, sizes[which]);
            OK(memmgr_block_size(manager, block, &room, &error));
            EQUAL(pool.block_size, room);
            CHECK(room - sizes[which] <= 15 || (room - sizes[which]) * 8 <= room);
            free_block(manager, block);
            (void)memmgr_pool_trim(manager, NULL, NULL);
        }
        smaller = pool.block_size;
    }
    FAILS(INVALID_ARGUMENT, memmgr_pool_class_get(manager, count, &pool, &error));
}

/* A freed block goes back to its pool, from any thread, and is handed out again. */
static void free_other(void *block)
{
    free_block(manager, block);
}

static void r6_4(void)
{
    void *const first = block_of(manager, 300);
    void *again;
    memset(first, 1, 300);
    free_block(manager, first);
    EQUAL(0, class_of(300).blocks);
    CHECK(class_of(300).free_blocks > 0);
    again = block_of(manager, 300);
    CHECK(again == first);
    thread_call(free_other, again);
    EQUAL(0, class_of(300).blocks);
    EQUAL(0, class_of(3000).slabs);
}

/* The pools never hold more than their limit, and say so with the numbers. */
static void r6_5(void)
{
    const size_t sizes[] = { 64, 5000, 64 * KIB, 300 * KIB };
    static void *blocks[POOL_LIMIT / 64 + 1];
    size_t which, count, index;
    for (which = 0; which < sizeof sizes / sizeof sizes[0]; which++) {
        memmgr_pool_stats stats;
        for (count = 0;; count++) {
            blocks[count] = memmgr_block_alloc(manager, sizes[which], &error);
            if (blocks[count] == NULL) break;
        }
        EQUAL(MEMMGR_ERR_LIMIT_EXCEEDED, error.status);
        EQUAL(MEMMGR_OPERATION_ALLOC, error.operation);
        EQUAL(POOL_LIMIT, error.limit);
        CHECK(error.requested >= sizes[which] || sizes[which] == 64);
        CHECK(error.used <= error.limit && error.used + error.requested > error.limit);
        CHECK(strstr(error.message, "4194304") != NULL);
        stats = pool_stats(manager);
        EQUAL(which + 1, stats.refusals);
        EQUAL(count, stats.blocks);
        EQUAL(error.used, stats.allocated);
        CHECK(stats.peak <= POOL_LIMIT && stats.bytes <= stats.allocated);
        CHECK(count * sizes[which] > POOL_LIMIT / 8 * 7);
        for (index = 0; index < count; index++) free_block(manager, blocks[index]);
    }
}

/* ---- One function each ------------------------------------------------------------------- */

static void aligned(void)
{
    memmgr_capabilities capabilities = MEMMGR_CAPABILITIES_INIT;
    size_t alignment;
    OK(memmgr_capabilities_get(&capabilities, &error));
    for (alignment = 1; alignment <= capabilities.page_size; alignment *= 2) {
        const size_t sizes[] = { 0, 1, 100, 5000, 64 * KIB, 200 * KIB };
        size_t index;
        for (index = 0; index < sizeof sizes / sizeof sizes[0]; index++) {
            void *block =
                GET(memmgr_block_alloc_aligned(manager, sizes[index], alignment, &error));
            EQUAL(0, (uintptr_t)block % alignment);
            EQUAL(0, (uintptr_t)block % 16);
            memset(block, 1, sizes[index]);
            free_block(manager, block);
            block = GET(memmgr_block_alloc_zeroed(manager, sizes[index], alignment, &error));
            EQUAL(0, (uintptr_t)block % alignment);
            CHECK(all(block, 0, sizes[index]));
            free_block(manager, block);
        }
    }
}

static void resized(void)
{
    const size_t sizes[] = { 10, 200, 150, 5000, 64 * KIB, MIB, 700 * KIB, 65 * KIB, 100, 0, 16 };
    void *block = NULL;
    size_t index, filled = 0;
    for (index = 0; index < sizeof sizes / sizeof sizes[0]; index++) {
        const size_t size = sizes[index];
        size_t room;
        block = GET(memmgr_block_resize(manager, block, size, &error));
        CHECK(all(block, 7, filled < size ? filled : size));
        OK(memmgr_block_size(manager, block, &room, &error));
        CHECK(room >= size);
        EQUAL(1, pool_stats(manager).blocks);
        memset(block, 7, filled = size);
    }
    /* A refusal leaves it as it was. */
    GET_FAILS(LIMIT_EXCEEDED, memmgr_block_resize(manager, block, POOL_LIMIT + 1, &error));
    EQUAL(MEMMGR_OPERATION_RESIZE, error.operation);
    CHECK(all(block, 7, 16));
    free_block(manager, block);
}

static void batches(void)
{
    void *blocks[300], *one;
    size_t index;
    OK(memmgr_block_alloc_batch(manager, 100, 300, blocks, &error));
    for (index = 0; index < 300; index++) memset(blocks[index], (int)index, 100);
    for (index = 0; index < 300; index++) CHECK(all(blocks[index], (int)(index & 255), 100));
    EQUAL(300, pool_stats(manager).blocks);
    one = blocks[200];
    free_block(manager, one);
    FAILS(POOL_CORRUPTION, memmgr_block_free_batch(manager, blocks, 300, &error));
    EQUAL(200, error.offset);
    EQUAL(99, pool_stats(manager).blocks);
    blocks[200] = NULL;
    OK(memmgr_block_free_batch(manager, blocks + 200, 100, &error));
    OK(memmgr_block_free_batch(manager, NULL, 0, &error));
    OK(memmgr_block_alloc_batch(manager, 1, 0, NULL, &error));
    /* All of them or none. */
    FAILS(LIMIT_EXCEEDED, memmgr_block_alloc_batch(manager, 64 * KIB, 300, blocks, &error));
    for (index = 0; index < 300; index++) CHECK(blocks[index] == NULL);
}

static void trimmed(void)
{
    void *small = block_of(manager, 100), *large = block_of(manager, MIB);
    uint64_t bytes = 1, held;
    memset(small, 1, 100);
    free_block(manager, large);
    held = pool_stats(manager).allocated;
    CHECK(pool_stats(manager).free_bytes >= MIB);
    OK(memmgr_pool_trim(manager, &bytes, &error));
    EQUAL(MIB, bytes);
    EQUAL(held - MIB, pool_stats(manager).allocated);
    EQUAL(0, pool_stats(manager).free_bytes);
    CHECK(all(small, 1, 100));
    OK(memmgr_pool_trim(manager, NULL, &error));
    free_block(manager, small);
}

/* Live blocks are not in the way of closing; the handle is dead with the last of them. */
static void outlived(void)
{
    memmgr_manager *const closed = open_manager(POOL_LIMIT, 0);
    void *small = block_of(closed, 100), *large = block_of(closed, MIB);
    uint64_t bytes;
    size_t room;
    memset(large, 3, MIB);
    OK(memmgr_manager_close(closed, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    GET_FAILS(INVALID_ACCESS, memmgr_block_alloc(closed, 1, &error));
    GET_FAILS(INVALID_ACCESS, memmgr_block_resize(closed, small, 200, &error));
    FAILS(INVALID_ACCESS, memmgr_pool_trim(closed, &bytes, &error));
    OK(memmgr_block_size(closed, small, &room, &error));
    CHECK(room >= 100);
    free_block(closed, small);
    FAILS(POOL_CORRUPTION, memmgr_block_free(closed, small, &error));
    CHECK(all(large, 3, MIB));
    thread_call(free_other, block_of(manager, 1));
    OK(memmgr_block_free(closed, large, &error));
    FAILS(POOL_CORRUPTION, memmgr_block_free(closed, large, &error));
    CHECK(strstr(error.message, "closed") != NULL);
}

/* ---- What is no block, and what is no argument -------------------------------------------- */

static void corruption(void)
{
    const size_t sizes[] = { 1, 64, 5000, 64 * KIB, MIB };
    memmgr_manager *const other = open_manager(POOL_LIMIT, 0);
    void *const theirs = block_of(other, 64);
    static char foreign[64] __attribute__((aligned(16)));
    size_t index, room;
    for (index = 0; index < sizeof sizes / sizeof sizes[0]; index++) {
        char *const block = block_of(manager, sizes[index]), *const freed = block_of(manager, 64);
        void *bad[8];
        size_t which;
        free_block(manager, freed);
        OK(memmgr_block_size(manager, block, &room, &error));
        memset(block, 5, room);
        bad[0] = freed;
        bad[1] = block + 1;
        bad[2] = block + (room > 16 ? 16 : 8);
        bad[3] = block + room - 1;
        bad[4] = theirs;
        bad[5] = foreign;
        bad[6] = (void *)16;
        bad[7] = (void *)~(uintptr_t)0;
        for (which = 0; which < 8; which++) {
            const memmgr_pool_stats before = pool_stats(manager);
            FAILS(POOL_CORRUPTION, memmgr_block_free(manager, bad[which], &error));
            EQUAL(MEMMGR_OPERATION_FREE, error.operation);
            FAILS(POOL_CORRUPTION, memmgr_block_free_batch(manager, &bad[which], 1, &error));
            GET_FAILS(POOL_CORRUPTION, memmgr_block_resize(manager, bad[which], 10, &error));
            FAILS(POOL_CORRUPTION, memmgr_block_size(manager, bad[which], &room, &error));
            EQUAL(0, room);
            EQUAL(before.blocks, pool_stats(manager).blocks);
            EQUAL(before.bytes, pool_stats(manager).bytes);
        }
        CHECK(all(block, 5, sizes[index]));
        free_block(manager, block);
        FAILS(POOL_CORRUPTION, memmgr_block_free(manager, block, &error));
        /* Its slab is gone, too. */
        OK(memmgr_pool_trim(manager, NULL, &error));
        FAILS(POOL_CORRUPTION, memmgr_block_free(manager, block, &error));
    }
    EQUAL(1, pool_stats(other).blocks);
    free_block(other, theirs);
    OK(memmgr_manager_close(other, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void bad_arguments(void)
{
    static const size_t alignments[] = { 0, 3, 24, (size_t)1 << 20, SIZE_MAX, SIZE_MAX / 2 + 1 };
    static const size_t sizes[] = { POOL_LIMIT + 1, SIZE_MAX / 2, SIZE_MAX - 100, SIZE_MAX };
    memmgr_pool_stats stats = MEMMGR_POOL_STATS_INIT;
    memmgr_pool_class class = MEMMGR_POOL_CLASS_INIT;
    void *const live = block_of(manager, 10);
    void *block = live;
    size_t index, room;
    for (index = 0; index < sizeof alignments / sizeof alignments[0]; index++) {
        const size_t alignment = alignments[index];
        GET_FAILS(INVALID_ARGUMENT, memmgr_block_alloc_aligned(manager, 100, alignment, &error));
        GET_FAILS(INVALID_ARGUMENT, memmgr_block_alloc_zeroed(manager, 100, alignment, &error));
    }
    for (index = 0; index < sizeof sizes / sizeof sizes[0]; index++) {
        const size_t size = sizes[index];
        GET_FAILS(LIMIT_EXCEEDED, memmgr_block_alloc(manager, size, &error));
        EQUAL(size, error.requested);
        EQUAL(POOL_LIMIT, error.limit);
        GET_FAILS(LIMIT_EXCEEDED, memmgr_block_alloc_aligned(manager, size, 4096, &error));
        GET_FAILS(LIMIT_EXCEEDED, memmgr_block_alloc_zeroed(manager, size, 1, &error));
        FAILS(LIMIT_EXCEEDED, memmgr_block_alloc_batch(manager, size, 1, &block, &error));
        CHECK(block == NULL);
        GET_FAILS(LIMIT_EXCEEDED, memmgr_block_resize(manager, NULL, size, &error));
    }
    FAILS(INVALID_ARGUMENT, memmgr_block_alloc_batch(manager, 1, 1, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_block_free_batch(manager, NULL, 1, &error));
    FAILS(INVALID_ARGUMENT, memmgr_block_size(manager, NULL, &room, &error));
    FAILS(INVALID_ARGUMENT, memmgr_pool_stats_get(manager, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_pool_class_get(manager, 0, NULL, &error));
    stats.struct_size = 4;
    FAILS(INVALID_ARGUMENT, memmgr_pool_stats_get(manager, &stats, &error));
    class.struct_size = 4;
    FAILS(INVALID_ARGUMENT, memmgr_pool_class_get(manager, 0, &class, &error));
    OK(memmgr_block_free(manager, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_block_size(manager, live, NULL, &error));
    /* Without a struct for the error. */
    CHECK(memmgr_block_free(manager, (char *)live + 1, NULL) == MEMMGR_ERR_POOL_CORRUPTION);
    CHECK(memmgr_block_alloc(manager, SIZE_MAX, NULL) == NULL);
    CHECK(memmgr_block_resize(manager, (char *)live + 1, 100, NULL) == NULL);
    EQUAL(1, pool_stats(manager).blocks);
    free_block(manager, live);
}

/* The tables of the pools address twice what they may be asked for. */
static void limit_too_large(void)
{
    const uint64_t limits[] = { ((uint64_t)32 << 30) + 1, UINT64_MAX };
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened;
    size_t index;
    options.dimension_count = 1;
    options.capacity = MIB;
    for (index = 0; index < 2; index++) {
        options.pool_limit = limits[index];
        FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
        EQUAL(limits[index], error.requested);
        EQUAL((uint64_t)32 << 30, error.limit);
        CHECK(strstr(error.message, "32 GiB") != NULL);
    }
    free_block(manager, block_of(manager, 1));
}

/* Every function that takes a handle, with what is none. */
static void dead_handles(void)
{
    memmgr_manager *const closed = open_manager(POOL_LIMIT, 0);
    memmgr_manager *handles[4];
    memmgr_pool_stats stats = MEMMGR_POOL_STATS_INIT;
    memmgr_pool_class class = MEMMGR_POOL_CLASS_INIT;
    void *const live = block_of(manager, 64);
    size_t index, room;
    uint64_t bytes;
    OK(memmgr_manager_close(closed, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    handles[0] = NULL;
    handles[1] = (memmgr_manager *)&stats;
    handles[2] = (memmgr_manager *)~(uintptr_t)0;
    handles[3] = closed;
    for (index = 0; index < 4; index++) {
        memmgr_manager *const dead = handles[index];
        void *block = live;
        memmgr_status expected = MEMMGR_ERR_INVALID_ARGUMENT;
        if (dead == closed) expected = MEMMGR_ERR_INVALID_ACCESS;
        CHECK(memmgr_block_alloc(dead, 1, &error) == NULL && error.status == expected);
        CHECK(memmgr_block_alloc_aligned(dead, 1, 16, &error) == NULL && error.status == expected);
        CHECK(memmgr_block_alloc_zeroed(dead, 1, 16, &error) == NULL && error.status == expected);
        CHECK(memmgr_block_resize(dead, NULL, 1, &error) == NULL && error.status == expected);
        EQUAL(expected, memmgr_block_alloc_batch(dead, 1, 1, &block, &error));
        EQUAL(expected, memmgr_pool_trim(dead, &bytes, &error));
        EQUAL(expected, memmgr_pool_stats_get(dead, &stats, &error));
        EQUAL(expected, memmgr_pool_class_get(dead, 0, &class, &error));
        /* A block of a manager that is gone was freed before. */
        if (dead == closed) expected = MEMMGR_ERR_POOL_CORRUPTION;
        block = live;
        EQUAL(expected, memmgr_block_free(dead, live, &error));
        EQUAL(expected, memmgr_block_free_batch(dead, &block, 1, &error));
        EQUAL(expected, memmgr_block_size(dead, live, &room, &error));
    }
    free_block(manager, live);
}

static void poisoned(void)
{
    memmgr_manager *const debug = open_manager(POOL_LIMIT, MEMMGR_OPEN_POISON);
    const size_t sizes[] = { 60, 5000, 100000 };
    size_t index;
    for (index = 0; index < 3; index++) {
        void *block = block_of(debug, sizes[index]);
        CHECK(all(block, 0xa5, sizes[index]));
        memset(block, 1, sizes[index]);
        free_block(debug, block);
        CHECK(all(block, 0x5a, sizes[index]));
        block = GET(memmgr_block_alloc_zeroed(debug, sizes[index], 16, &error));
        CHECK(all(block, 0, sizes[index]));
        free_block(debug, block);
    }
    OK(memmgr_manager_close(debug, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* ---- Log ----------------------------------------------------------------------------------- */

static unsigned operations[MEMMGR_OPERATION_GROW + 1];
static memmgr_log_record refusal;

static void hear(const memmgr_log_record *record, void *unused)
{
    (void)unused;
    operations[record->operation]++;
    if (record->level == MEMMGR_LOG_WARNING) refusal = *record;
}

/* R9.4: every block and every slab; R7.4: a refusal, with the numbers of what refused. */
static void logged(void)
{
    void *block = block_of(manager, 64);
    free_block(manager, block);
    OK(memmgr_log_set(MEMMGR_LOG_DEBUG, hear, NULL, &error));
    block = block_of(manager, 64);
    block = GET(memmgr_block_resize(manager, block, 4000, &error));
    free_block(manager, block);
    OK(memmgr_pool_trim(manager, NULL, &error));
    GET_FAILS(LIMIT_EXCEEDED, memmgr_block_alloc(manager, POOL_LIMIT + 1, &error));
    OK(memmgr_log_set(0, NULL, NULL, &error));
    free_block(manager, block_of(manager, 64));
    EQUAL(1, operations[MEMMGR_OPERATION_ALLOC]);
    EQUAL(1, operations[MEMMGR_OPERATION_RESIZE]);
    EQUAL(1, operations[MEMMGR_OPERATION_FREE]);
    EQUAL(1, operations[MEMMGR_OPERATION_GROW]);
    EQUAL(1, operations[MEMMGR_OPERATION_TRIM]);
    EQUAL(1, operations[MEMMGR_OPERATION_PRESSURE]);
    CHECK(refusal.bytes >= POOL_LIMIT + 1);
    EQUAL(error.used, refusal.allocated);
    EQUAL(POOL_LIMIT, refusal.limit);
}

/* ---- Threads ------------------------------------------------------------------------------ */

enum { THREADS = 100, HELD = 40 };

static atomic_uint passed_limit, unjust, wrong;

/* Takes what it can get, looks whether it is its own, and gives it back in another order. */
static void exhaust(void *context)
{
    uint64_t state = (uintptr_t)context;
    unsigned char *held[HELD] = { NULL };
    size_t sizes[HELD], round, index;
    for (round = 0; round < 400; round++) {
        memmgr_pool_stats stats = MEMMGR_POOL_STATS_INIT;
        index = next_random(&state) % HELD;
        if (held[index] != NULL) {
            if (!all(held[index], (int)(sizes[index] & 255), sizes[index])) wrong++;
            if (memmgr_block_free(manager, held[index], &error) != MEMMGR_OK) wrong++;
            held[index] = NULL;
            continue;
        }
        sizes[index] = 1 + next_random(&state) % ((size_t)1 << next_random(&state) % 18);
        held[index] = memmgr_block_alloc(manager, sizes[index], &error);
        if (held[index] != NULL) {
            memset(held[index], (int)(sizes[index] & 255), sizes[index]);
        } else if (error.status != MEMMGR_ERR_LIMIT_EXCEEDED) {
            wrong++;
        } else if (error.used + error.requested <= error.limit || error.used > error.limit) {
            unjust++;
        }
        if (memmgr_pool_stats_get(manager, &stats, &error) != MEMMGR_OK) wrong++;
        if (stats.allocated > POOL_LIMIT || stats.peak > POOL_LIMIT) passed_limit++;
    }
    for (index = 0; index < HELD; index++) {
        if (memmgr_block_free(manager, held[index], &error) != MEMMGR_OK) wrong++;
    }
}

/* R5.1, R5.2, R6.5 */
static void exhausted_by_a_hundred_threads(void)
{
    static thread threads[THREADS];
    size_t index;
    for (index = 0; index < THREADS; index++) {
        thread_start(&threads[index], exhaust, (void *)(uintptr_t)(index + 1));
    }
    for (index = 0; index < THREADS; index++) thread_join(&threads[index]);
    EQUAL(0, atomic_load(&passed_limit));
    EQUAL(0, atomic_load(&unjust));
    EQUAL(0, atomic_load(&wrong));
    CHECK(pool_stats(manager).refusals > 0);
    EQUAL(0, pool_stats(manager).double_frees);
}

int main(void)
{
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(r6_1);
    RUN(r6_2);
    RUN(r6_3);
    RUN(r6_4);
    RUN(r6_5);
    RUN(aligned);
    RUN(resized);
    RUN(batches);
    RUN(trimmed);
    RUN(outlived);
    RUN(corruption);
    RUN(bad_arguments);
    RUN(limit_too_large);
    RUN(dead_handles);
    RUN(poisoned);
    RUN(logged);
    RUN(exhausted_by_a_hundred_threads);
    return test_end();
}

/*
 * Blocks of memory from whichever allocator this is compiled with, and loops that use them.
 *
 * With WITH_MEMMGR they come from a manager's pools, through the C ABI, and with WITH_BATCH_CALLS
 * batches in one call each; without, they come from the malloc that the program is linked with.
 * What the loops need besides is ready before they begin.
 */
#ifndef BLOCKS_H
#define BLOCKS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline void must(int good, const char *what)
{
    if (good) return;
    fprintf(stderr, "cannot %s\n", what);
    exit(1);
}

#ifdef WITH_MEMMGR
#include <memmgr.h>

static memmgr_manager *manager;

static inline void open_allocator(void)
{
    memmgr_error error = MEMMGR_ERROR_INIT;
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.pool_limit = (uint64_t)1 << 30;
    must(memmgr_manager_open(&options, &manager, &error) == MEMMGR_OK, error.message);
}

static inline void *take(size_t size)
{
    void *block = memmgr_block_alloc(manager, size, NULL);
    must(block != NULL, "allocate");
    return block;
}

static inline void give(void *block)
{
    must(memmgr_block_free(manager, block, NULL) == MEMMGR_OK, "free");
}
#else
static inline void open_allocator(void)
{
}

static inline void *take(size_t size)
{
    void *block = malloc(size);
    must(block != NULL, "allocate");
    return block;
}

static inline void give(void *block)
{
    free(block);
}
#endif

/* As a program does with new memory. */
static inline void touch(void *block)
{
    *(volatile char *)block = 1;
}

static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#define SMALLEST 16u
#define SLOTS 4096
#define BATCH 1000
#define STEPS 16384 /* before the same sizes come again, for other slots */

/* What a thread holds, and what it is going to ask for. */
struct holder {
    void *blocks[SLOTS];
    uint32_t sizes[STEPS];
    uint16_t slots[STEPS];
    uint32_t step;
};

/* As many of each doubling as of the next. */
static inline uint32_t random_size(uint64_t *random, uint32_t size_max)
{
    uint32_t doublings = 0;
    while (SMALLEST << doublings < size_max) doublings++;
    uint32_t below = SMALLEST << next_random(random) % doublings;
    return below + (uint32_t)(next_random(random) % below) + 1;
}

static inline void holder_begin(struct holder *holder, uint64_t seed, uint32_t size_max)
{
    uint64_t random = seed * 0x9e3779b97f4a7c15u | 1;
    holder->step = 0;
    for (size_t i = 0; i < STEPS; i++) {
        holder->sizes[i] = random_size(&random, size_max);
        holder->slots[i] = (uint16_t)(next_random(&random) % SLOTS);
    }
    for (size_t i = 0; i < SLOTS; i++) holder->blocks[i] = take(holder->sizes[i]);
}

static inline void holder_end(struct holder *holder)
{
    for (size_t i = 0; i < SLOTS; i++) give(holder->blocks[i]);
}

/* One block, taken and given back at once. */
static inline void use_pairs(uint64_t count, size_t size)
{
    for (uint64_t i = 0; i < count; i++) {
        void *block = take(size);
        touch(block);
        give(block);
    }
}

/* Many blocks, all taken before the first is given back. */
static inline void use_batches(struct holder *holder, uint64_t count, size_t size)
{
    for (uint64_t done = 0; done < count; done += BATCH) {
#ifdef WITH_BATCH_CALLS
        void **blocks = holder->blocks;
        must(memmgr_block_alloc_batch(manager, size, BATCH, blocks, NULL) == MEMMGR_OK, "allocate");
        for (size_t i = 0; i < BATCH; i++) touch(blocks[i]);
        must(memmgr_block_free_batch(manager, blocks, BATCH, NULL) == MEMMGR_OK, "free");
#else
        for (size_t i = 0; i < BATCH; i++) {
            holder->blocks[i] = take(size);
            touch(holder->blocks[i]);
        }
        for (size_t i = 0; i < BATCH; i++) give(holder->blocks[i]);
#endif
    }
}

/* A random one of many blocks is replaced by one of a random size. Returns where that is. */
static inline void **replace_next(struct holder *holder, uint32_t *size_out)
{
    uint32_t step = holder->step++;
    void **slot = &holder->blocks[(holder->slots[step % STEPS] + step / STEPS * 77) % SLOTS];
    *size_out = holder->sizes[step % STEPS];
    give(*slot);
    *slot = take(*size_out);
    return slot;
}

static inline void use_at_random(struct holder *holder, uint64_t count)
{
    uint32_t size;
    for (uint64_t i = 0; i < count; i++) touch(*replace_next(holder, &size));
}

#endif

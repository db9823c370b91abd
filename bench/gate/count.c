/*
 * Acquires and releases a view so many times, and prints how often memory was allocated meanwhile.
 *
 *     count PAIRS
 *
 * Run twice with different PAIRS under a tool that counts instructions or system calls, the
 * difference is what the additional pairs did: everything else is the same in both runs.
 */
#include "table.h"

/* The C library's own, under the names by which it lets itself be replaced. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);

static unsigned long allocations;

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
    allocations++;
    return __libc_realloc(block, size);
}

int main(int argc, char **argv)
{
    must(argc == 2, "read the number of pairs");
    unsigned long pairs = strtoul(argv[1], NULL, 10);
    memmgr_manager *manager = table_open(0, MEMMGR_MODE_READ, 0);
    memmgr_stats stats = MEMMGR_STATS_INIT;
    must(memmgr_stats_get(manager, &stats, NULL) == MEMMGR_OK, "read the statistics");

    /* Not counted: what a thread does the first time it meets a manager. */
    memmgr_view view = MEMMGR_VIEW_INIT;
    must(memmgr_view_acquire(manager, 0, 0, 4096, &view, NULL) == MEMMGR_OK, "acquire");
    must(memmgr_view_release(manager, &view, NULL) == MEMMGR_OK, "release");

    unsigned long before = allocations;
    for (unsigned long i = 0; i < pairs; i++) {
        must(memmgr_view_acquire(manager, 0, i % 8 * 4096, 4096, &view, NULL) == MEMMGR_OK,
             "acquire");
        must(memmgr_view_release(manager, &view, NULL) == MEMMGR_OK, "release");
    }
    printf("{\"gate\": %u, \"allocations\": %lu}\n", stats.gate, allocations - before);
    return 0;
}

/*
 * What a program used: allocations and missing pages. Included by its one source file, because it
 * stands in for the C library's allocator.
 */
#ifndef USAGE_H
#define USAGE_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

/* The C library's own, under the names by which it lets itself be replaced. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);

struct usage {
    unsigned long allocations;
    long page_faults;
};

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

static inline struct usage usage_now(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (struct usage){ allocations, used.ru_minflt + used.ru_majflt };
}

/* What was used since. */
static inline void usage_print(struct usage before)
{
    struct usage now = usage_now();
    printf("{\"allocations\": %lu, \"page_faults\": %ld}\n", now.allocations - before.allocations,
           now.page_faults - before.page_faults);
}

#endif

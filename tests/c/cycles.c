/*
 * R5.3, R7.2: what is loaded and let go again, any number of times, leaves nothing behind: no entry
 * of the process's map, no descriptor, no resident page.
 *
 *   cycles [--slow]     a few thousand rounds, or a hundred thousand, of each way to let go
 *
 * Of resident pages only Linux tells; an emulator's and a sanitizer's are their own.
 */
#include "test.h"
#include "files.h"
#include "snapshot.h"
#include "threads.h"

enum { SMALL = 64 << 10, ROUNDS = 3000, ROUNDS_SLOW = 100000, WARM = 300, SLACK_PAGES = 64 };

static unsigned rounds = ROUNDS;
static memmgr_manager *manager;
static const char *files_of_a_table[2];

typedef struct footprint {
    unsigned entries, descriptors;
    unsigned long resident_pages;
    uint64_t allocated, mapped;
} footprint;

static footprint measure(void)
{
    footprint found = { 0, 0, 0, 0, 0 };
    memmgr_stats stats = MEMMGR_STATS_INIT;
    map_entry entry;
    entry.end = 0;
    while (map_next(entry.end, &entry)) found.entries++;
    found.descriptors = count_descriptors();
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
    {
        FILE *statm = fopen("/proc/self/statm", "r");
        CHECK(fscanf(statm, "%*u %lu", &found.resident_pages) == 1);
        fclose(statm);
        if (!map_is_true()) found.resident_pages = 0;
    }
#endif
    OK(memmgr_stats_get(manager, &stats, &error));
    found.allocated = stats.allocated;
    found.mapped = stats.mapped;
    return found;
}

/* Rounds that cost nothing in the end: after the first few, the last leaves the process as large
 * as they did. Pages may differ by what the C library and the kernel keep for later. */
static void repeat(void (*round)(unsigned number))
{
    footprint before, after;
    unsigned number;
    for (number = 0; number < WARM; number++) round(number);
    before = measure();
    for (number = 0; number < rounds && test.failures == 0; number++) round(number);
    after = measure();
    printf("%u rounds: %u -> %u entries, %u -> %u descriptors, %lu -> %lu resident pages\n", number,
           before.entries, after.entries, before.descriptors, after.descriptors,
           before.resident_pages, after.resident_pages);
    EQUAL(before.entries, after.entries);
    EQUAL(before.descriptors, after.descriptors);
    EQUAL(before.allocated, after.allocated);
    EQUAL(before.mapped, after.mapped);
    CHECK(after.resident_pages <= before.resident_pages + SLACK_PAGES);
}

static void load(unsigned number, uint32_t dimension)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = number % 4;
    options.prefetch = number / 4 % 2;
    OK(memmgr_dimension_load(manager, dimension, files_of_a_table[dimension], &options, &error));
}

static void read_all(uint32_t dimension)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    const unsigned char *bytes;
    OK(memmgr_view_acquire(manager, dimension, 0, SMALL, &view, &error));
    bytes = view.data;
    CHECK(bytes != NULL && bytes[0] == dimension + 1 && bytes[SMALL - 1] == dimension + 1);
    OK(memmgr_view_release(manager, &view, &error));
}

static void load_and_unload(unsigned number)
{
    const uint32_t dimension = number % 2;
    load(number / 2, dimension);
    read_all(dimension);
    OK(memmgr_dimension_unload(manager, dimension, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void load_and_deallocate(unsigned number)
{
    const uint32_t dimension = number % 2;
    load(number / 2, dimension);
    read_all(dimension);
    OK(memmgr_dimension_deallocate(manager, dimension, MEMMGR_ON_VIEWS_WAIT, MEMMGR_FOREVER,
                                   &error));
    if (number % 8 == 7) {
        /* Refused, and nothing stays of the attempt. */
        FAILS(FILE_ACCESS, memmgr_dimension_load(manager, dimension, file_folder(), NULL, &error));
        FAILS(LIMIT_EXCEEDED,
              memmgr_dimension_load(manager, dimension, file_path("large"), NULL, &error));
    }
}

/* The old version goes with its last view, which outlives the reload. */
static void reload(unsigned number)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_view old = MEMMGR_VIEW_INIT;
    options.mode = number % 2 ? MEMMGR_MODE_RAM : MEMMGR_MODE_READ;
    OK(memmgr_view_acquire(manager, 0, 0, SMALL, &old, &error));
    OK(memmgr_dimension_reload(manager, 0, files_of_a_table[0], &options, &error));
    read_all(0);
    CHECK(((const unsigned char *)old.data)[SMALL - 1] == 1);
    OK(memmgr_view_release(manager, &old, &error));
}

static void unload_under_a_view(unsigned number)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    load(number, 1);
    OK(memmgr_view_acquire(manager, 1, 0, SMALL, &view, &error));
    OK(memmgr_dimension_unload(manager, 1, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    CHECK(((const unsigned char *)view.data)[SMALL - 1] == 2);
    OK(memmgr_view_release(manager, &view, &error));
}

static memmgr_manager *open_manager(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened = NULL;
    options.dimension_count = 2;
    options.capacity = SMALL;
    OK(memmgr_manager_open(&options, &opened, &error));
    return opened;
}

/* Every fifth goes by its last view, and is used by nobody after it. */
static void open_and_close(unsigned number)
{
    memmgr_manager *other = open_manager();
    memmgr_view view = MEMMGR_VIEW_INIT;
    const int deferred = number % 5 == 0;
    void *block;
    OK(memmgr_dimension_load(other, 1, files_of_a_table[1], NULL, &error));
    block = GET(memmgr_block_alloc(other, 100 + number % 1000, &error));
    OK(memmgr_view_acquire(other, 1, 0, 1, &view, &error));
    if (!deferred) OK(memmgr_view_release(other, &view, &error));
    OK(memmgr_manager_close(other, deferred ? MEMMGR_ON_VIEWS_DEFER : MEMMGR_ON_VIEWS_REFUSE, 0,
                            &error));
    if (deferred) OK(memmgr_view_release(other, &view, &error));
    OK(memmgr_block_free(other, block, &error));
}

static void loads_and_unloads(void)
{
    repeat(load_and_unload);
}

static void loads_and_deallocations(void)
{
    repeat(load_and_deallocate);
}

static void reloads(void)
{
    load(MEMMGR_MODE_RAM, 0);
    repeat(reload);
    OK(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void unloads_under_a_view(void)
{
    repeat(unload_under_a_view);
}

static void managers(void)
{
    repeat(open_and_close);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--slow") == 0) rounds = ROUNDS_SLOW;
    if (!map_is_true()) rounds /= 10;
    files_of_a_table[0] = file_fill("one", 1, SMALL);
    files_of_a_table[1] = file_fill("two", 2, SMALL);
    file_fill("large", 3, SMALL + 1);
    manager = open_manager();
    RUN(loads_and_unloads);
    RUN(loads_and_deallocations);
    RUN(reloads);
    RUN(unloads_under_a_view);
    RUN(managers);
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    return test_end();
}

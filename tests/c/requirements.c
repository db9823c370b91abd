/*
 * The criteria of the requirements that a caller of the C library can check, one function each:
 * r1_1 is R1.1. What takes many threads or many bad inputs is in the programs beside this one.
 */
#include "test.h"
#include "files.h"
#include "snapshot.h"
#include "threads.h"

#include <stdatomic.h>

#define MIB ((uint64_t)1 << 20)
#define REGIONS_SIZE ((uint64_t)293601280) /* 14 x 20 MiB */

static memmgr_manager *manager; /* the default one */
static const char *raw_file;    /* 5000 bytes of 1 */
static const char *other_file;  /* 6000 bytes of 2 */
static const char *layers_file;

static void set_up(void)
{
    OK(memmgr_manager_open(NULL, &manager, &error));
}

static void tear_down(void)
{
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* A manager of small dimensions, whose readers do not wait long. */
static memmgr_manager *open_small(uint32_t count, uint64_t limit)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened = NULL;
    options.dimension_count = count;
    options.capacity = MIB;
    options.limit = limit;
    options.read_timeout_ns = 20000000;
    OK(memmgr_manager_open(&options, &opened, &error));
    return opened;
}

static void close_small(memmgr_manager *small)
{
    OK(memmgr_manager_close(small, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static memmgr_stats stats_of(memmgr_manager *of)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    OK(memmgr_stats_get(of, &stats, &error));
    return stats;
}

static memmgr_dimension_stats dimension_of(memmgr_manager *of, uint32_t index)
{
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    OK(memmgr_dimension_stats_get(of, index, &stats, &error));
    return stats;
}

static uint64_t page_size(void)
{
    memmgr_capabilities capabilities = MEMMGR_CAPABILITIES_INIT;
    OK(memmgr_capabilities_get(&capabilities, &error));
    return capabilities.page_size;
}

/* All bytes of a view have this value. */
static int view_is(const memmgr_view *view, int value)
{
    const unsigned char *bytes = (const unsigned char *)view->data;
    size_t index;
    for (index = 0; index < view->length; index++) {
        if (bytes[index] != value) return 0;
    }
    return 1;
}

/* R1 Opening ------------------------------------------------------------------------------ */

/* 280 MiB are charged, and the process's map shows each of the 14 regions. */
static void r1_1(void)
{
    const int in_map = map_is_true();
    uint64_t capacities = 0;
    uint32_t index;
    EQUAL(REGIONS_SIZE, stats_of(manager).allocated);
    for (index = 0; index < 14; index++) {
        const memmgr_dimension_stats dimension = dimension_of(manager, index);
        map_entry entry;
        EQUAL(20 * MIB, dimension.capacity);
        EQUAL(20 * MIB, dimension.charged);
        capacities += dimension.capacity;
        if (!in_map) continue;
        CHECK(map_next(dimension.address, &entry));
        EQUAL(dimension.address, entry.start);
        EQUAL(dimension.address + dimension.capacity, entry.end);
    }
    EQUAL(REGIONS_SIZE, capacities);
    if (!in_map) skip("the map does not show reservations");
}

/* 14 regions of their own, D01 to D14. */
static void r1_2(void)
{
    uint64_t end = 0;
    uint32_t index, found;
    EQUAL(14, stats_of(manager).dimension_count);
    for (index = 0; index < 14; index++) {
        const memmgr_dimension_stats dimension = dimension_of(manager, index);
        char name[16];
        snprintf(name, sizeof name, "D%02u", index + 1);
        CHECK(strcmp(dimension.name, name) == 0);
        OK(memmgr_dimension_find(manager, name, &found, &error));
        EQUAL(index, found);
        EQUAL(MEMMGR_STATE_EMPTY, dimension.state);
        CHECK(dimension.address >= end);
        end = dimension.address + dimension.capacity;
    }
}

/* Regions begin at a page, whatever their capacities are, which are whole pages. */
static void r1_3(void)
{
    static const uint64_t capacities[] = { 1, 4095, 4096, 4097, 100000, 3000000, 20 << 20 };
    enum { COUNT = sizeof capacities / sizeof capacities[0] };
    memmgr_dimension_spec specs[COUNT];
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *mixed;
    const uint64_t page = page_size();
    uint32_t index;
    CHECK(page >= 4096 && (page & (page - 1)) == 0);
    for (index = 0; index < 14; index++) EQUAL(0, dimension_of(manager, index).address % page);
    for (index = 0; index < COUNT; index++) {
        const memmgr_dimension_spec spec = MEMMGR_DIMENSION_SPEC_INIT;
        specs[index] = spec;
        specs[index].capacity = capacities[index];
    }
    options.dimension_count = COUNT;
    options.dimensions = specs;
    OK(memmgr_manager_open(&options, &mixed, &error));
    for (index = 0; index < COUNT; index++) {
        const memmgr_dimension_stats dimension = dimension_of(mixed, index);
        EQUAL(0, dimension.address % page);
        EQUAL((capacities[index] + page - 1) / page * page, dimension.capacity);
    }
    close_small(mixed);
}

/* Too little memory is an error that says how much was asked for, and leaves nothing behind. */
static void r1_4(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened = manager;
    uint64_t reserved;
    options.capacity = (uint64_t)1 << 44; /* 448 TiB with both slots */
    FAILS(ALLOCATION, memmgr_manager_open(&options, &opened, &error));
    reserved = map_reserved();
    FAILS(ALLOCATION, memmgr_manager_open(&options, &opened, &error));
    CHECK(!map_leaks(reserved));
    CHECK(opened == NULL);
    EQUAL(28 * options.capacity, error.requested);
    CHECK(error.system_code != 0);
    CHECK(strstr(error.message, "requested 492581209243648 bytes") != NULL);
    options.capacity = 0;
    options.limit = REGIONS_SIZE - 1;
    FAILS(LIMIT_EXCEEDED, memmgr_manager_open(&options, &opened, &error));
    EQUAL(REGIONS_SIZE, error.requested);
    EQUAL(REGIONS_SIZE - 1, error.limit);
}

/* R2 Loading ------------------------------------------------------------------------------ */

/* The file stands in the region that was there before. */
static void r2_1(void)
{
    const uint64_t region = dimension_of(manager, 3).address;
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_dimension_stats dimension;
    map_entry entry;
    OK(memmgr_dimension_load(manager, 3, raw_file, NULL, &error));
    dimension = dimension_of(manager, 3);
    EQUAL(region, dimension.address);
    EQUAL(region, dimension.generation_address);
    EQUAL(5000, dimension.file_size);
    CHECK(strcmp(dimension.file_name, raw_file) == 0);
    if (map_is_true()) {
        CHECK(map_next(region, &entry));
        EQUAL(region, entry.start);
        CHECK(!entry.reserved);
#ifdef __linux__
        CHECK(strstr(entry.text, raw_file) != NULL);
#endif
    }
    OK(memmgr_view_acquire(manager, 3, 0, 5000, &view, &error));
    EQUAL(region, (uintptr_t)view.data);
    CHECK(view_is(&view, 1));
    OK(memmgr_view_release(manager, &view, &error));
}

/* A second load is refused, and the first one's file stays. */
static void r2_2(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    OK(memmgr_dimension_load(manager, 0, raw_file, NULL, &error));
    REFUSED(ALREADY_LOADED, manager,
            memmgr_dimension_load(manager, 0, other_file, NULL, &error));
    CHECK(strstr(error.message, "D01") != NULL);
    OK(memmgr_view_acquire(manager, 0, 0, 5000, &view, &error));
    CHECK(view_is(&view, 1));
    OK(memmgr_view_release(manager, &view, &error));
}

/* What does not fit is refused with the limit in the error. */
static void r2_3(void)
{
    memmgr_manager *small = open_small(2, 2 * MIB);
    memmgr_view view = MEMMGR_VIEW_INIT;
    const char *large = file_fill("large", 1, (size_t)MIB + 1);
    OK(memmgr_dimension_load(small, 0, raw_file, NULL, &error));
    OK(memmgr_dimension_deallocate(small, 1, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    OK(memmgr_view_acquire(small, 0, 0, 1, &view, &error));
    OK(memmgr_dimension_reload(small, 0, other_file, NULL, &error));
    REFUSED(LIMIT_EXCEEDED, small, memmgr_dimension_load(small, 1, raw_file, NULL, &error));
    EQUAL(MIB, error.requested);
    EQUAL(2 * MIB, error.used);
    EQUAL(2 * MIB, error.limit);
    OK(memmgr_view_release(small, &view, &error));
    OK(memmgr_dimension_load(small, 1, raw_file, NULL, &error));
    close_small(small);

    small = open_small(1, 0);
    REFUSED(LIMIT_EXCEEDED, small, memmgr_dimension_load(small, 0, large, NULL, &error));
    EQUAL(MIB + 1, error.requested);
    EQUAL(MIB, error.limit);
    close_small(small);
}

/* A loaded dimension says so, and can be read. */
static void r2_4(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    EQUAL(MEMMGR_STATE_EMPTY, dimension_of(manager, 13).state);
    EQUAL(0, stats_of(manager).loaded_count);
    OK(memmgr_dimension_load(manager, 13, layers_file, NULL, &error));
    EQUAL(MEMMGR_STATE_LOADED, dimension_of(manager, 13).state);
    EQUAL(MEMMGR_FORMAT_SAFETENSORS, dimension_of(manager, 13).format);
    EQUAL(2, dimension_of(manager, 13).layer_count);
    EQUAL(1, stats_of(manager).loaded_count);
    OK(memmgr_layer_acquire(manager, 13, "b", NULL, &view, &error));
    EQUAL(5, view.length);
    OK(memmgr_view_release(manager, &view, &error));
    OK(memmgr_dimension_unload(manager, 13, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    EQUAL(MEMMGR_STATE_EMPTY, dimension_of(manager, 13).state);
}

/* R3 Reading ------------------------------------------------------------------------------ */

/* The pointer is the region's address and the offset, for bytes and for layers. */
static void r3_1(void)
{
    static const uint64_t offsets[] = { 0, 1, 4095, 4096, 4999, 5000 };
    const uint64_t region = dimension_of(manager, 0).address;
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    size_t index;
    OK(memmgr_dimension_load(manager, 0, raw_file, NULL, &error));
    for (index = 0; index < sizeof offsets / sizeof offsets[0]; index++) {
        OK(memmgr_view_acquire(manager, 0, offsets[index], 0, &view, &error));
        EQUAL(region + offsets[index], (uintptr_t)view.data);
        OK(memmgr_view_release(manager, &view, &error));
    }
    OK(memmgr_dimension_load(manager, 1, layers_file, NULL, &error));
    OK(memmgr_layer_acquire(manager, 1, "b", &layer, &view, &error));
    EQUAL(dimension_of(manager, 1).address + layer.offset, (uintptr_t)view.data);
    EQUAL(1, layer.index);
    EQUAL(MEMMGR_DTYPE_U8, layer.dtype);
    EQUAL(1, layer.rank);
    EQUAL(5, layer.shape[0]);
    EQUAL(5, layer.length);
    EQUAL(0, (uintptr_t)view.data % layer.alignment);
    OK(memmgr_view_release(manager, &view, &error));
}

/* No copy: two views are the same bytes, what a writer changes shows where readers looked before,
 * and a view of a file that nobody touched brings none of it into memory. */
static void r3_3(void)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_view first = MEMMGR_VIEW_INIT, second = MEMMGR_VIEW_INIT;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    memmgr_memory memory = MEMMGR_MEMORY_INIT;
    const char *path = file_fill("copied", 1, WHOLE_PAGES);
    const void *data;
    options.mode = MEMMGR_MODE_READ_WRITE;
    OK(memmgr_dimension_load(manager, 0, path, &options, &error));
    OK(memmgr_view_acquire(manager, 0, 0, WHOLE_PAGES, &first, &error));
    OK(memmgr_view_acquire(manager, 0, 0, WHOLE_PAGES, &second, &error));
    data = first.data;
    CHECK(first.data == second.data);
    OK(memmgr_view_release(manager, &first, &error));
    OK(memmgr_view_release(manager, &second, &error));
    OK(memmgr_write_begin(manager, 0, 0, 0, &writer, &error));
    CHECK(writer.data == data);
    memset(writer.data, 3, writer.length);
    OK(memmgr_write_end(manager, &writer, &error));
    OK(memmgr_view_acquire(manager, 0, 0, WHOLE_PAGES, &first, &error));
    CHECK(first.data == data && view_is(&first, 3));
    OK(memmgr_view_release(manager, &first, &error));
    OK(memmgr_dimension_flush(manager, 0, &error));
    {
        unsigned char byte = 0;
        FILE *file = fopen(path, "rb");
        CHECK(file != NULL && fread(&byte, 1, 1, file) == 1);
        EQUAL(3, byte);
        fclose(file);
    }
    OK(memmgr_dimension_load(manager, 1, file_fill("ten", 1, (size_t)(10 * MIB)), NULL, &error));
    OK(memmgr_dimension_evict(manager, 1, &error));
    OK(memmgr_view_acquire(manager, 1, 0, 10 * MIB, &first, &error));
    OK(memmgr_memory_get(manager, 1, &memory, &error));
    EQUAL(10 * MIB, memory.mapped);
    EQUAL(0, memory.private_dirty);
    CHECK(memory.resident < 10 * MIB);
    OK(memmgr_view_release(manager, &first, &error));
}

/* What is not there is an error that names it. */
static void r3_4(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    FAILS(NOT_LOADED, memmgr_layer_acquire(manager, 6, "a", NULL, &view, &error));
    CHECK(strstr(error.message, "D07") != NULL);
    CHECK(strstr(error.message, "'a'") != NULL);
    OK(memmgr_dimension_load(manager, 6, layers_file, NULL, &error));
    FAILS(UNKNOWN_LAYER, memmgr_layer_acquire(manager, 6, "c", NULL, &view, &error));
    CHECK(strstr(error.message, "D07") != NULL);
    CHECK(strstr(error.message, "'c'") != NULL);
    CHECK(view.data == NULL);
}

/* offset and length are held against the loaded size, without overflow. */
static void r3_5(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    uint64_t offset;
    OK(memmgr_dimension_load(manager, 0, raw_file, NULL, &error));
    for (offset = 4990; offset < 5010; offset++) {
        if (offset <= 5000) {
            OK(memmgr_view_acquire(manager, 0, offset, 5000 - offset, &view, &error));
            OK(memmgr_view_release(manager, &view, &error));
        }
        FAILS(OUT_OF_BOUNDS,
              memmgr_view_acquire(manager, 0, offset, offset < 5000 ? 5001 - offset : 1, &view,
                                  &error));
        FAILS(OUT_OF_BOUNDS,
              memmgr_view_acquire(manager, 0, offset, 0 - offset, &view, &error));
        EQUAL(offset, error.requested);
        EQUAL(5000, error.limit);
    }
}

/* R4 Threads ------------------------------------------------------------------------------ */

static atomic_int stop;
static atomic_uint torn, reads;

/* Every view is of one stamp. */
static void read_stamps(void *unused)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    (void)unused;
    while (!atomic_load(&stop)) {
        if (!OK(memmgr_view_acquire(manager, 0, 0, 5000, &view, &error))) return;
        if (!view_is(&view, *(const unsigned char *)view.data)) atomic_fetch_add(&torn, 1);
        atomic_fetch_add(&reads, 1);
        OK(memmgr_view_release(manager, &view, &error));
    }
}

/* Readers and a writer of one dimension never see each other's half-done work. */
static void r4_1(void)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    thread readers[4];
    const uint64_t end = now_ms() + 5000;
    int index;
    options.mode = MEMMGR_MODE_COPY;
    OK(memmgr_dimension_load(manager, 0, raw_file, &options, &error));
    atomic_store(&stop, 0);
    for (index = 0; index < 4; index++) thread_start(&readers[index], read_stamps, NULL);
    for (index = 0; index < 50; index++) {
        OK(memmgr_write_begin(manager, 0, 0, MEMMGR_FOREVER, &writer, &error));
        memset(writer.data, index, writer.length);
        OK(memmgr_write_end(manager, &writer, &error));
    }
    while (atomic_load(&reads) < 100 && now_ms() < end) sleep_ms(1);
    atomic_store(&stop, 1);
    for (index = 0; index < 4; index++) thread_join(&readers[index]);
    CHECK(atomic_load(&reads) >= 100);
    EQUAL(0, atomic_load(&torn));
    EQUAL(0, stats_of(manager).views);
}

/* While it is written to, a dimension lets no reader in; its neighbours notice nothing. */
static void r4_3(void)
{
    memmgr_manager *small = open_small(2, 0);
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    options.mode = MEMMGR_MODE_COPY;
    OK(memmgr_dimension_load(small, 0, raw_file, &options, &error));
    OK(memmgr_dimension_load(small, 1, raw_file, NULL, &error));
    OK(memmgr_write_begin(small, 0, 0, 0, &writer, &error));
    EQUAL(MEMMGR_STATE_WRITING, dimension_of(small, 0).state);
    FAILS(WAIT_TIMEOUT, memmgr_view_acquire(small, 0, 0, 1, &view, &error));
    CHECK(strstr(error.message, "D01") != NULL);
    OK(memmgr_view_acquire(small, 1, 0, 1, &view, &error));
    OK(memmgr_view_release(small, &view, &error));
    OK(memmgr_write_end(small, &writer, &error));
    OK(memmgr_view_acquire(small, 0, 0, 1, &view, &error));
    /* And the other way round: who reads keeps writers out. */
    FAILS(WAIT_TIMEOUT, memmgr_write_begin(small, 0, 0, 1000000, &writer, &error));
    EQUAL(1, error.views);
    OK(memmgr_view_release(small, &view, &error));
    close_small(small);
}

static void deallocate(void *unused)
{
    (void)unused;
    OK(memmgr_dimension_deallocate(manager, 2, MEMMGR_ON_VIEWS_WAIT, MEMMGR_FOREVER, &error));
}

/* Access to a region on its way out is refused as such, and later as to what is not there. */
static void r4_5(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT, refused = MEMMGR_VIEW_INIT;
    thread other;
    OK(memmgr_dimension_load(manager, 2, raw_file, NULL, &error));
    OK(memmgr_view_acquire(manager, 2, 0, 5000, &view, &error));
    thread_start(&other, deallocate, NULL);
    while (dimension_of(manager, 2).state != MEMMGR_STATE_UNLOADING) sleep_ms(1);
    FAILS(INVALID_ACCESS, memmgr_view_acquire(manager, 2, 0, 1, &refused, &error));
    CHECK(strstr(error.message, "D03") != NULL);
    /* What was handed out stays. */
    CHECK(view_is(&view, 1));
    OK(memmgr_view_release(manager, &view, &error));
    thread_join(&other);
    FAILS(NOT_LOADED, memmgr_view_acquire(manager, 2, 0, 1, &refused, &error));
    EQUAL(MEMMGR_STATE_DEALLOCATED, dimension_of(manager, 2).state);
    EQUAL(REGIONS_SIZE - 20 * MIB, stats_of(manager).allocated);
}

/* R5 The budget --------------------------------------------------------------------------- */

static memmgr_manager *contested;

/* Loads, reloads and deallocates the dimension of its own, until it is told to stop. */
static void charge_and_uncharge(void *context)
{
    const uint32_t index = *(const uint32_t *)context;
    do { /* once at least, also on a machine that is slow to start it */
        const memmgr_status loaded =
            memmgr_dimension_load(contested, index, raw_file, NULL, &error);
        CHECK(loaded == MEMMGR_OK || loaded == MEMMGR_ERR_LIMIT_EXCEEDED);
        if (loaded == MEMMGR_OK) {
            const memmgr_status reloaded =
                memmgr_dimension_reload(contested, index, other_file, NULL, &error);
            CHECK(reloaded == MEMMGR_OK || reloaded == MEMMGR_ERR_LIMIT_EXCEEDED);
        }
        OK(memmgr_dimension_deallocate(contested, index, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    } while (!atomic_load(&stop));
}

/* Threads that race for the budget's last bytes neither pass the limit nor lose a byte. */
static void r5_1(void)
{
    enum { COUNT = 4 };
    uint32_t indices[COUNT];
    thread threads[COUNT];
    uint32_t index;
    uint64_t highest = 0, end;
    contested = open_small(COUNT, COUNT * MIB);
    atomic_store(&stop, 0);
    for (index = 0; index < COUNT; index++) {
        indices[index] = index;
        thread_start(&threads[index], charge_and_uncharge, &indices[index]);
    }
    for (end = now_ms() + 100; now_ms() < end;) {
        const uint64_t allocated = stats_of(contested).allocated;
        if (allocated > highest) highest = allocated;
        EQUAL(0, allocated % MIB);
    }
    atomic_store(&stop, 1);
    for (index = 0; index < COUNT; index++) thread_join(&threads[index]);
    CHECK(highest <= COUNT * MIB);
    CHECK(stats_of(contested).peak <= COUNT * MIB);
    EQUAL(0, stats_of(contested).allocated);
    close_small(contested);
}

/* What would pass the limit is refused and changes nothing. */
static void r5_2(void)
{
    memmgr_manager *small = open_small(1, MIB);
    OK(memmgr_dimension_load(small, 0, raw_file, NULL, &error));
    REFUSED(LIMIT_EXCEEDED, small, memmgr_dimension_reload(small, 0, other_file, NULL, &error));
    EQUAL(1, stats_of(small).refusals);
    EQUAL(MIB, stats_of(small).allocated);
    close_small(small);
}

/* The total is the sum of what the dimensions are charged, after every operation. */
static void check_sum(uint64_t expected)
{
    uint64_t sum = 0;
    uint32_t index;
    for (index = 0; index < 14; index++) sum += dimension_of(manager, index).charged;
    EQUAL(expected, sum);
    EQUAL(expected, stats_of(manager).allocated);
}

static void r5_3(void)
{
    const uint64_t one = 20 * MIB;
    memmgr_view view = MEMMGR_VIEW_INIT;
    check_sum(14 * one);
    OK(memmgr_dimension_load(manager, 0, raw_file, NULL, &error));
    check_sum(14 * one);
    OK(memmgr_view_acquire(manager, 0, 0, 1, &view, &error));
    OK(memmgr_dimension_reload(manager, 0, other_file, NULL, &error));
    check_sum(15 * one); /* two generations */
    OK(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    check_sum(14 * one); /* the old one, with its view, uses the region's charge */
    OK(memmgr_dimension_deallocate(manager, 0, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    check_sum(14 * one);
    OK(memmgr_view_release(manager, &view, &error));
    check_sum(13 * one);
    OK(memmgr_dimension_load(manager, 0, raw_file, NULL, &error));
    check_sum(14 * one);
    EQUAL(15 * one, stats_of(manager).peak);
}

/* Deallocating gives back what the region was charged, once. */
static void r5_4(void)
{
    OK(memmgr_dimension_deallocate(manager, 4, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    EQUAL(REGIONS_SIZE - 20 * MIB, stats_of(manager).allocated);
    EQUAL(0, dimension_of(manager, 4).charged);
    OK(memmgr_dimension_deallocate(manager, 4, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    EQUAL(REGIONS_SIZE - 20 * MIB, stats_of(manager).allocated);
    OK(memmgr_dimension_load(manager, 5, raw_file, NULL, &error));
    OK(memmgr_dimension_deallocate(manager, 5, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    EQUAL(REGIONS_SIZE - 40 * MIB, stats_of(manager).allocated);
    EQUAL(0, stats_of(manager).mapped);
    EQUAL(MEMMGR_STATE_DEALLOCATED, dimension_of(manager, 5).state);
}

/* Use can be watched: now, at most, per dimension, and what of it is in memory. */
static void r5_5(void)
{
    memmgr_memory memory = MEMMGR_MEMORY_INIT;
    memmgr_stats stats;
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = MEMMGR_MODE_RAM;
    OK(memmgr_dimension_load(manager, 0, raw_file, &options, &error));
    OK(memmgr_view_acquire(manager, 0, 0, 1, &view, &error));
    stats = stats_of(manager);
    EQUAL(REGIONS_SIZE, stats.allocated);
    EQUAL(REGIONS_SIZE, stats.peak);
    EQUAL(REGIONS_SIZE + 20 * MIB + 64 * MIB, stats.limit);
    EQUAL(2 * REGIONS_SIZE, stats.reserved);
    EQUAL(5000, stats.mapped);
    EQUAL(1, stats.views);
    EQUAL(1, stats.loads);
    EQUAL(1, dimension_of(manager, 0).views);
    OK(memmgr_memory_get(manager, MEMMGR_NONE, &memory, &error));
    EQUAL(2 * REGIONS_SIZE, memory.reserved);
    EQUAL(5000, memory.mapped);
    if (map_is_true()) {
        CHECK(memory.resident >= 5000);
        CHECK(memory.private_dirty >= 5000);
    }
    OK(memmgr_view_release(manager, &view, &error));
    OK(memmgr_dimension_deallocate(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    OK(memmgr_memory_get(manager, MEMMGR_NONE, &memory, &error));
    EQUAL(0, memory.mapped);
    EQUAL(0, memory.resident);
    OK(memmgr_stats_reset_peak(manager, &error));
    EQUAL(REGIONS_SIZE - 20 * MIB, stats_of(manager).peak);
}

/* R7, R9 Errors --------------------------------------------------------------------------- */

/* Different failures are different statuses, each with a name and a sentence. */
static void r7_1(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    FAILS(NOT_LOADED, memmgr_view_acquire(manager, 0, 0, 1, &view, &error));
    FAILS(UNKNOWN_DIMENSION, memmgr_view_acquire(manager, 14, 0, 1, &view, &error));
    FAILS(FILE_ACCESS,
          memmgr_dimension_load(manager, 0, file_path("missing"), NULL, &error));
    FAILS(FORMAT, memmgr_dimension_load(manager, 0, file_fill("none", 0, 0), NULL, &error));
    OK(memmgr_dimension_load(manager, 0, raw_file, NULL, &error));
    FAILS(ALREADY_LOADED, memmgr_dimension_load(manager, 0, raw_file, NULL, &error));
    FAILS(OUT_OF_BOUNDS, memmgr_view_acquire(manager, 0, 5000, 1, &view, &error));
    FAILS(UNKNOWN_LAYER, memmgr_layer_acquire(manager, 0, "a", NULL, &view, &error));
    CHECK(strcmp(memmgr_status_name(error.status), "unknown_layer") == 0);
    CHECK(strcmp(memmgr_operation_name(error.operation), "acquire") == 0);
}

/* What a failing call had taken before it failed is given back, at whichever step it is. */
static void r7_2(void)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    const char *header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[9],\"data_offsets\":[0,36]}}";
    const char *bad = file_safetensors("bad", strlen(header), header, 35);
    memmgr_view view = MEMMGR_VIEW_INIT;
    /* Into a dimension that has to be charged for it, */
    OK(memmgr_dimension_deallocate(manager, 1, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    REFUSED(FORMAT, manager, memmgr_dimension_load(manager, 1, bad, NULL, &error));
    options.manifest = file_path("missing");
    REFUSED(FILE_ACCESS, manager, memmgr_dimension_load(manager, 1, raw_file, &options, &error));
    options.manifest = bad;
    REFUSED(FORMAT, manager, memmgr_dimension_load(manager, 1, raw_file, &options, &error));
    /* and beside a generation that goes on being read. */
    OK(memmgr_dimension_load(manager, 0, raw_file, NULL, &error));
    OK(memmgr_view_acquire(manager, 0, 0, 5000, &view, &error));
    REFUSED(FORMAT, manager, memmgr_dimension_reload(manager, 0, bad, NULL, &error));
    REFUSED(FORMAT, manager, memmgr_dimension_reload(manager, 0, other_file, &options, &error));
    CHECK(view_is(&view, 1));
    OK(memmgr_view_release(manager, &view, &error));
}

/* A file that cannot be opened: which, and what the system said. That descriptors run out is one
 * reason among others, and has its test with the bad inputs. */
static void r7_3(void)
{
    const char *path = file_path("missing");
    REFUSED(FILE_ACCESS, manager, memmgr_dimension_load(manager, 0, path, NULL, &error));
    CHECK(strcmp(error.file_name, path) == 0);
    CHECK(strstr(error.message, path) != NULL);
    EQUAL(2, error.system_code);
}

/* Dimension and layer stand in the message. */
static void r9_1(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    OK(memmgr_dimension_load(manager, 10, layers_file, NULL, &error));
    FAILS(UNKNOWN_LAYER, memmgr_layer_acquire(manager, 10, "weights", NULL, &view, &error));
    CHECK(strstr(error.message, "D11") != NULL && strstr(error.message, "weights") != NULL);
    EQUAL(10, error.dimension);
    CHECK(strcmp(error.layer_name, "weights") == 0);
    FAILS(OUT_OF_BOUNDS, memmgr_view_acquire(manager, 10, 1000, 1, &view, &error));
    CHECK(strstr(error.message, "D11") != NULL);
    FAILS(INVALID_ARGUMENT, memmgr_write_begin(manager, 10, 0, 0, &writer, &error));
    CHECK(strstr(error.message, "D11") != NULL);
    FAILS(NOT_LOADED, memmgr_dimension_flush(manager, 11, &error));
    CHECK(strstr(error.message, "D12") != NULL);
}

/* An error about the limit has the three numbers, as fields and in words. */
static void r9_2(void)
{
    memmgr_manager *small = open_small(1, MIB);
    OK(memmgr_dimension_load(small, 0, raw_file, NULL, &error));
    FAILS(LIMIT_EXCEEDED, memmgr_dimension_reload(small, 0, other_file, NULL, &error));
    EQUAL(MIB, error.requested);
    EQUAL(MIB, error.used);
    EQUAL(MIB, error.limit);
    CHECK(strstr(error.message, "requested 1048576 bytes, used 1048576, limit 1048576") != NULL);
    close_small(small);
}

/* The system's own code is there when a file is the reason. */
static void r9_3(void)
{
    memmgr_capabilities capabilities = MEMMGR_CAPABILITIES_INIT;
    FAILS(FILE_ACCESS, memmgr_dimension_load(manager, 0, file_path("missing"), NULL, &error));
    EQUAL(2, error.system_code); /* ENOENT, ERROR_FILE_NOT_FOUND */
    CHECK(strstr(error.message, "system error 2") != NULL);
    FAILS(FILE_ACCESS, memmgr_dimension_load(manager, 0, file_folder(), NULL, &error));
    CHECK(error.system_code != 0);
    OK(memmgr_capabilities_get(&capabilities, &error));
#ifdef _WIN32
    EQUAL(2, capabilities.system_code_kind);
#else
    EQUAL(1, capabilities.system_code_kind);
#endif
}

static struct {
    uint32_t operation, dimension;
    uint64_t bytes, allocated;
} heard[32];
static unsigned heard_count;

static void hear(const memmgr_log_record *record, void *user)
{
    CHECK(user == &heard_count);
    EQUAL(MEMMGR_LOG_DEBUG, record->level);
    CHECK(record->message != NULL && record->message[0] != 0);
    if (heard_count < sizeof heard / sizeof heard[0]) {
        heard[heard_count].operation = record->operation;
        heard[heard_count].dimension = record->dimension;
        heard[heard_count].bytes = record->bytes;
        heard[heard_count].allocated = record->allocated;
    }
    heard_count++;
}

/* The last records are of these operations, on this dimension. */
static void check_heard(uint32_t dimension, const uint32_t *operations, unsigned count,
                        uint64_t bytes, uint64_t allocated)
{
    unsigned index;
    EQUAL(count, heard_count);
    for (index = 0; index < count && index < heard_count; index++) {
        EQUAL(operations[index], heard[index].operation);
        EQUAL(dimension, heard[index].dimension);
        EQUAL(bytes, heard[index].bytes);
    }
    if (heard_count > 0) EQUAL(allocated, heard[heard_count - 1].allocated);
    heard_count = 0;
}

/* Every allocation and deallocation is a record of level DEBUG, with the bytes it is about and
 * what the budget holds after it. */
static void r9_4(void)
{
    static const uint32_t opened[] = { MEMMGR_OPERATION_OPEN };
    static const uint32_t loaded[] = { MEMMGR_OPERATION_LOAD };
    static const uint32_t reloaded[] = { MEMMGR_OPERATION_RELOAD };
    static const uint32_t retired[] = { MEMMGR_OPERATION_RETIRE };
    static const uint32_t unloaded[] = { MEMMGR_OPERATION_UNLOAD, MEMMGR_OPERATION_RETIRE };
    static const uint32_t gone[] = { MEMMGR_OPERATION_DEALLOCATE };
    memmgr_manager *small;
    memmgr_view view = MEMMGR_VIEW_INIT;
    heard_count = 0;
    OK(memmgr_log_set(MEMMGR_LOG_DEBUG, hear, &heard_count, &error));
    small = open_small(2, 0);
    check_heard(MEMMGR_NONE, opened, 1, 2 * MIB, 2 * MIB);
    OK(memmgr_dimension_load(small, 1, raw_file, NULL, &error));
    check_heard(1, loaded, 1, 5000, 2 * MIB);
    OK(memmgr_view_acquire(small, 1, 0, 1, &view, &error));
    OK(memmgr_dimension_reload(small, 1, other_file, NULL, &error));
    check_heard(1, reloaded, 1, 6000, 3 * MIB);
    OK(memmgr_view_release(small, &view, &error));
    check_heard(1, retired, 1, 5000, 2 * MIB);
    OK(memmgr_dimension_unload(small, 1, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    check_heard(1, unloaded, 2, 6000, 2 * MIB);
    OK(memmgr_dimension_deallocate(small, 1, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    check_heard(1, gone, 1, MIB, MIB);
    close_small(small);
    EQUAL(1, heard_count);
    EQUAL(MEMMGR_OPERATION_CLOSE, heard[0].operation);
    EQUAL(0, heard[0].allocated);
    OK(memmgr_log_set(0, NULL, NULL, &error));
}

/* The whole state in one text. */
static void r9_5(void)
{
    size_t length = 0, again = 0, index;
    int depth = 0, quoted = 0;
    char *text;
    OK(memmgr_dimension_load(manager, 0, layers_file, NULL, &error));
    OK(memmgr_dump_json(manager, NULL, 0, &length, &error));
    text = (char *)malloc(length + 2);
    text[length + 1] = 77;
    FAILS(INVALID_ARGUMENT, memmgr_dump_json(manager, text, length, &again, &error));
    EQUAL(length, again);
    OK(memmgr_dump_json(manager, text, length + 1, &again, &error));
    EQUAL(length, again);
    EQUAL(length, strlen(text));
    EQUAL(77, text[length + 1]);
    CHECK(strstr(text, "\"allocated\":293601280") != NULL);
    CHECK(strstr(text, "\"name\":\"D14\"") != NULL);
    CHECK(strstr(text, "\"safetensors\"") != NULL);
    CHECK(strstr(text, "\"name\":\"a\",\"dtype\":\"F32\"") != NULL);
    CHECK(strstr(text, "\"shape\":[2,3]") != NULL);
    for (index = 0; index < length; index++) {
        if (text[index] == '"' && text[index - 1] != '\\') quoted = !quoted;
        if (quoted) continue;
        depth += text[index] == '{' || text[index] == '[';
        depth -= text[index] == '}' || text[index] == ']';
        CHECK(depth > 0 || index == length - 1);
    }
    EQUAL(0, depth);
    free(text);
}

/* R10 Layout ------------------------------------------------------------------------------ */

/* All regions are there from the start, and stay where they are whatever is loaded. */
static void r10_1(void)
{
    uint64_t addresses[14];
    uint32_t index;
    const uint64_t reserved = stats_of(manager).reserved;
    for (index = 0; index < 14; index++) {
        addresses[index] = dimension_of(manager, index).address;
        CHECK(addresses[index] != 0);
    }
    for (index = 0; index < 14; index++) {
        OK(memmgr_dimension_load(manager, index, raw_file, NULL, &error));
        OK(memmgr_dimension_reload(manager, index, other_file, NULL, &error));
        if (index % 2 == 0)
            OK(memmgr_dimension_deallocate(manager, index, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    }
    for (index = 0; index < 14; index++) {
        EQUAL(addresses[index], dimension_of(manager, index).address);
    }
    EQUAL(reserved, stats_of(manager).reserved);
}

/* A dimension is one range without a seam, and the regions stand in one range in their order. */
static void r10_3(void)
{
    const uint64_t size = 20 * MIB, first = dimension_of(manager, 0).address;
    memmgr_view view = MEMMGR_VIEW_INIT;
    uint32_t index;
    OK(memmgr_dimension_load(manager, 0, file_fill("full", 1, (size_t)size), NULL, &error));
    OK(memmgr_view_acquire(manager, 0, 0, size, &view, &error));
    EQUAL(first, (uintptr_t)view.data);
    CHECK(view_is(&view, 1));
    OK(memmgr_view_release(manager, &view, &error));
    for (index = 0; index < 14; index++) {
        EQUAL(first + 2 * index * size, dimension_of(manager, index).address);
    }
    EQUAL(28 * size, stats_of(manager).reserved);
}

int main(void)
{
    raw_file = file_fill("raw", 1, 5000);
    other_file = file_fill("other", 2, 6000);
    layers_file = file_layers("layers");
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(r1_1);
    RUN(r1_2);
    RUN(r1_3);
    RUN(r1_4);
    RUN(r2_1);
    RUN(r2_2);
    RUN(r2_3);
    RUN(r2_4);
    RUN(r3_1);
    RUN(r3_3);
    RUN(r3_4);
    RUN(r3_5);
    RUN(r4_1);
    RUN(r4_3);
    RUN(r4_5);
    RUN(r5_1);
    RUN(r5_2);
    RUN(r5_3);
    RUN(r5_4);
    RUN(r5_5);
    RUN(r7_1);
    RUN(r7_2);
    RUN(r7_3);
    RUN(r9_1);
    RUN(r9_2);
    RUN(r9_3);
    RUN(r9_4);
    RUN(r9_5);
    RUN(r10_1);
    RUN(r10_3);
    return test_end();
}

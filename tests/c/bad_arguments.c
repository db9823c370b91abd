/*
 * What no correct program passes: NULL, dead, foreign and garbage handles, structs of wrong sizes,
 * unknown values, views and writes that are not one's own. Nothing of it crashes (R7.5), everything
 * is refused with its own status, and nothing has changed afterwards.
 */
#include "test.h"
#include "files.h"
#include "snapshot.h"
#include "threads.h"

#define MIB ((uint64_t)1 << 20)

enum { EMPTY, LOADED, WRITABLE, DIMENSIONS };

static memmgr_manager *manager;
static const char *raw_file, *layers_file, *writable_file;

static const float query[3];

static memmgr_manager *open_manager(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened;
    options.dimension_count = DIMENSIONS;
    options.capacity = MIB;
    options.read_timeout_ns = 20000000;
    OK(memmgr_manager_open(&options, &opened, &error));
    return opened;
}

static void set_up(void)
{
    memmgr_load_options write = MEMMGR_LOAD_OPTIONS_INIT;
    write.mode = MEMMGR_MODE_READ_WRITE;
    manager = open_manager();
    OK(memmgr_dimension_load(manager, LOADED, layers_file, NULL, &error));
    OK(memmgr_dimension_load(manager, WRITABLE, writable_file, &write, &error));
}

static void tear_down(void)
{
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* Handles --------------------------------------------------------------------------------- */

/* Every function that takes a manager, with arguments that are otherwise right. */
#define CALL(name, declarations, call)                                        \
    static memmgr_status call_##name(memmgr_manager *handle, memmgr_error *e) \
    {                                                                         \
        declarations;                                                         \
        return call;                                                          \
    }

CALL(close, , memmgr_manager_close(handle, MEMMGR_ON_VIEWS_REFUSE, 0, e))
CALL(find, uint32_t index, memmgr_dimension_find(handle, "D01", &index, e))
CALL(load, , memmgr_dimension_load(handle, EMPTY, raw_file, NULL, e))
CALL(reload, , memmgr_dimension_reload(handle, LOADED, raw_file, NULL, e))
CALL(would_fit, , memmgr_dimension_would_fit(handle, EMPTY, NULL, 1, MEMMGR_MODE_READ, e))
CALL(unload, , memmgr_dimension_unload(handle, LOADED, MEMMGR_ON_VIEWS_WAIT, 0, e))
CALL(deallocate, , memmgr_dimension_deallocate(handle, LOADED, MEMMGR_ON_VIEWS_WAIT, 0, e))
CALL(flush, , memmgr_dimension_flush(handle, WRITABLE, e))
CALL(evict, , memmgr_dimension_evict(handle, LOADED, e))
CALL(warm, memmgr_warming warming = MEMMGR_WARMING_INIT,
     memmgr_dimension_warm(handle, LOADED, NULL, &warming, e))
CALL(lock, , memmgr_dimension_lock(handle, LOADED, e))
CALL(unlock, , memmgr_dimension_unlock(handle, LOADED, e))
CALL(residency_get, memmgr_residency residency = MEMMGR_RESIDENCY_INIT,
     memmgr_residency_get(handle, LOADED, 0, 0, &residency, e))
CALL(layer_find, memmgr_layer layer = MEMMGR_LAYER_INIT,
     memmgr_layer_find(handle, LOADED, "a", &layer, e))
CALL(layer_at, memmgr_layer layer = MEMMGR_LAYER_INIT,
     memmgr_layer_at(handle, LOADED, 0, &layer, e))
CALL(view_acquire, memmgr_view view = MEMMGR_VIEW_INIT,
     memmgr_view_acquire(handle, LOADED, 0, 1, &view, e))
CALL(view_try_acquire, memmgr_view view = MEMMGR_VIEW_INIT,
     memmgr_view_try_acquire(handle, LOADED, 0, 1, &view, e))
CALL(layer_acquire, memmgr_view view = MEMMGR_VIEW_INIT,
     memmgr_layer_acquire(handle, LOADED, "a", NULL, &view, e))
CALL(write_begin, memmgr_write writer = MEMMGR_WRITE_INIT,
     memmgr_write_begin(handle, WRITABLE, 0, 0, &writer, e))
CALL(stats_get, memmgr_stats stats = MEMMGR_STATS_INIT, memmgr_stats_get(handle, &stats, e))
CALL(reset_peak, , memmgr_stats_reset_peak(handle, e))
CALL(dimension_stats_get, memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT,
     memmgr_dimension_stats_get(handle, LOADED, &stats, e))
CALL(memory_get, memmgr_memory memory = MEMMGR_MEMORY_INIT,
     memmgr_memory_get(handle, MEMMGR_NONE, &memory, e))
CALL(holders_get, size_t count, memmgr_holders_get(handle, MEMMGR_NONE, NULL, 0, &count, e))
CALL(dump_json, size_t length, memmgr_dump_json(handle, NULL, 0, &length, e))
CALL(scan_topk, uint64_t row; float score; size_t count,
     memmgr_scan_topk(handle, LOADED, "a", query, 3, 1, NULL, &row, &score, &count, e))
CALL(scan_ahead, , memmgr_scan_ahead(handle, LOADED, e))
/* The last two know views and writes, not managers. */
CALL(view_release, memmgr_view view = MEMMGR_VIEW_INIT, memmgr_view_release(handle, &view, e))
CALL(write_end, memmgr_write writer = MEMMGR_WRITE_INIT, memmgr_write_end(handle, &writer, e))

static const struct {
    const char *name;
    memmgr_status (*call)(memmgr_manager *handle, memmgr_error *e);
} calls[] = {
    { "close", call_close },
    { "find", call_find },
    { "load", call_load },
    { "reload", call_reload },
    { "would_fit", call_would_fit },
    { "unload", call_unload },
    { "deallocate", call_deallocate },
    { "flush", call_flush },
    { "evict", call_evict },
    { "warm", call_warm },
    { "lock", call_lock },
    { "unlock", call_unlock },
    { "residency_get", call_residency_get },
    { "layer_find", call_layer_find },
    { "layer_at", call_layer_at },
    { "view_acquire", call_view_acquire },
    { "view_try_acquire", call_view_try_acquire },
    { "layer_acquire", call_layer_acquire },
    { "write_begin", call_write_begin },
    { "stats_get", call_stats_get },
    { "reset_peak", call_reset_peak },
    { "dimension_stats_get", call_dimension_stats_get },
    { "memory_get", call_memory_get },
    { "holders_get", call_holders_get },
    { "dump_json", call_dump_json },
    { "scan_topk", call_scan_topk },
    { "scan_ahead", call_scan_ahead },
    { "view_release", call_view_release },
    { "write_end", call_write_end },
};

enum { CALLS = sizeof calls / sizeof calls[0], CALLS_ON_MANAGERS = CALLS - 2 };

/* Every function refuses the handle, with and without an error to write to, and `manager` is as
 * it was. Which of the two statuses a stranger gets depends on what it looks like. */
static void refuse_handle(memmgr_manager *handle, memmgr_status expected)
{
    snapshot before = snapshot_take(manager);
    size_t index;
    for (index = 0; index < CALLS; index++) {
        const int on_manager = index < CALLS_ON_MANAGERS;
        memmgr_status status, status_without;
        if (handle == NULL && index == 0) continue; /* allowed: see below */
        test_forget();
        status = calls[index].call(handle, &error);
        status_without = calls[index].call(handle, NULL);
        if (!test_check(expected != MEMMGR_OK && on_manager
                            ? status == expected
                            : status == MEMMGR_ERR_INVALID_ARGUMENT ||
                                  status == MEMMGR_ERR_INVALID_ACCESS,
                        calls[index].name, "", __FILE__, __LINE__))
            fprintf(stderr, "  handle %p: %s\n", (void *)handle, memmgr_status_name(status));
        CHECK(status == error.status && status == status_without);
        CHECK(error.message[0] != 0);
    }
    UNCHANGED(before);
}

static void null_handle(void)
{
    refuse_handle(NULL, MEMMGR_ERR_INVALID_ARGUMENT);
    OK(memmgr_manager_close(NULL, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void foreign_handles(void)
{
    uint64_t words[8];
    memset(words, 0x5a, sizeof words);
    refuse_handle((memmgr_manager *)(void *)words, MEMMGR_ERR_INVALID_ARGUMENT);
    refuse_handle((memmgr_manager *)((char *)words + 1), MEMMGR_ERR_INVALID_ARGUMENT);
    /* A struct of the library's own. */
    refuse_handle((memmgr_manager *)(void *)&error, MEMMGR_ERR_INVALID_ARGUMENT);
}

static void garbage_handles(void)
{
    const uintptr_t live = (uintptr_t)manager;
    uint64_t state = 42;
    unsigned index;
    refuse_handle((memmgr_manager *)(uintptr_t)1, MEMMGR_OK);
    refuse_handle((memmgr_manager *)UINTPTR_MAX, MEMMGR_OK);
    refuse_handle((memmgr_manager *)(uintptr_t)0xdeadbeefdeadbeef, MEMMGR_OK);
    /* Every handle one bit away from a living one, and some that are nothing. */
    for (index = 0; index < 64; index++) {
        refuse_handle((memmgr_manager *)(live ^ (uintptr_t)1 << index), MEMMGR_OK);
    }
    for (index = 0; index < 64; index++) {
        refuse_handle((memmgr_manager *)(uintptr_t)next_random(&state), MEMMGR_OK);
    }
}

/* Dead, and dead while a manager that may have its place is alive. */
static void dead_handle(void)
{
    memmgr_manager *dead = open_manager();
    memmgr_manager *next;
    OK(memmgr_manager_close(dead, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    refuse_handle(dead, MEMMGR_ERR_INVALID_ACCESS);
    next = open_manager();
    CHECK(next != dead);
    refuse_handle(dead, MEMMGR_ERR_INVALID_ACCESS);
    OK(memmgr_manager_close(next, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    refuse_handle(dead, MEMMGR_ERR_INVALID_ACCESS);
}

/* Closed with a view and a write held, which still end as they should. */
static void closed_with_views(void)
{
    memmgr_manager *closed = open_manager();
    memmgr_load_options copy = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT, second;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    copy.mode = MEMMGR_MODE_COPY;
    OK(memmgr_dimension_load(closed, 0, raw_file, NULL, &error));
    OK(memmgr_dimension_load(closed, 1, raw_file, &copy, &error));
    OK(memmgr_view_acquire(closed, 0, 100, 10, &view, &error));
    OK(memmgr_write_begin(closed, 1, 0, 0, &writer, &error));

    REFUSED(VIEWS_HELD, closed, memmgr_manager_close(closed, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    EQUAL(1, error.views);
    REFUSED(WAIT_TIMEOUT, closed,
            memmgr_manager_close(closed, MEMMGR_ON_VIEWS_WAIT, 5000000, &error));
    /* A refused close takes nothing from readers. */
    {
        memmgr_view other = MEMMGR_VIEW_INIT;
        OK(memmgr_view_acquire(closed, 0, 0, 1, &other, &error));
        OK(memmgr_view_release(closed, &other, &error));
    }
    OK(memmgr_manager_close(closed, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    refuse_handle(closed, MEMMGR_ERR_INVALID_ACCESS);
    CHECK(((const char *)view.data)[9] == 1);
    memset(writer.data, 2, writer.length);
    OK(memmgr_write_end(closed, &writer, &error));
    CHECK(((const char *)view.data)[0] == 1);
    second = view;
    OK(memmgr_view_release(closed, &view, &error));
    CHECK(view.data == NULL && view.length == 0);
    FAILS(INVALID_ARGUMENT, memmgr_view_release(closed, &view, &error));
    /* The manager is gone: not even a byte copy finds anything. */
    FAILS(INVALID_ARGUMENT, memmgr_view_release(closed, &second, &error));
    refuse_handle(closed, MEMMGR_ERR_INVALID_ACCESS);
}

static void null_arguments(void)
{
    uint32_t index;
    memmgr_load_options layers = MEMMGR_LOAD_OPTIONS_INIT;
    snapshot before = snapshot_take(manager);
    char byte;
    layers.layer_count = 1;
    FAILS(INVALID_ARGUMENT, memmgr_manager_open(NULL, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_capabilities_get(NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_dimension_find(manager, NULL, &index, &error));
    FAILS(INVALID_ARGUMENT, memmgr_dimension_find(manager, "D01", NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_dimension_load(manager, EMPTY, NULL, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_dimension_load(manager, EMPTY, raw_file, &layers, &error));
    FAILS(INVALID_ARGUMENT, memmgr_dimension_reload(manager, LOADED, NULL, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_layer_find(manager, LOADED, "a", NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_layer_at(manager, LOADED, 0, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_layer_acquire(manager, LOADED, "a", NULL, NULL, &error));
    {
        memmgr_layer layer = MEMMGR_LAYER_INIT;
        memmgr_view view = MEMMGR_VIEW_INIT;
        FAILS(INVALID_ARGUMENT, memmgr_layer_find(manager, LOADED, NULL, &layer, &error));
        FAILS(INVALID_ARGUMENT,
              memmgr_layer_acquire(manager, LOADED, NULL, &layer, &view, &error));
    }
    FAILS(INVALID_ARGUMENT, memmgr_view_acquire(manager, LOADED, 0, 1, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_view_try_acquire(manager, LOADED, 0, 1, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_view_release(manager, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_write_begin(manager, WRITABLE, 0, 0, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_write_end(manager, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_stats_get(manager, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_dimension_stats_get(manager, LOADED, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_memory_get(manager, LOADED, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_dimension_warm(manager, LOADED, NULL, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_residency_get(manager, LOADED, 0, 0, NULL, &error));
    {
        size_t count;
        FAILS(INVALID_ARGUMENT, memmgr_holders_get(manager, LOADED, NULL, 1, &count, &error));
        FAILS(INVALID_ARGUMENT, memmgr_holders_get(manager, LOADED, NULL, 0, NULL, &error));
    }
    FAILS(INVALID_ARGUMENT, memmgr_dump_json(manager, NULL, 1, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_dump_json(manager, &byte, 1, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_dump_json(manager, &byte, 0, NULL, &error));
    OK(memmgr_dump_json(manager, NULL, 0, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_failure_inject(NULL, &error));
    OK(memmgr_failure_count(MEMMGR_CALL_OPEN, NULL, NULL, &error));
    UNCHANGED(before);
}

/* Structs --------------------------------------------------------------------------------- */

/* Calls that take a struct at `at`, whose struct_size is anything, and undo what they did. */
static memmgr_status use_capabilities(void *at)
{
    return memmgr_capabilities_get((memmgr_capabilities *)at, &error);
}

static memmgr_status use_options(void *at)
{
    memmgr_manager *opened;
    const memmgr_status status =
        memmgr_manager_open((const memmgr_manager_options *)at, &opened, &error);
    if (status == MEMMGR_OK) OK(memmgr_manager_close(opened, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    return status;
}

static memmgr_status use_spec(void *at)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.dimension_count = 1;
    options.dimensions = (const memmgr_dimension_spec *)at;
    return use_options(&options);
}

static memmgr_status use_load_options(void *at)
{
    const memmgr_status status = memmgr_dimension_load(manager, EMPTY, raw_file,
                                                       (const memmgr_load_options *)at, &error);
    if (status == MEMMGR_OK)
        OK(memmgr_dimension_unload(manager, EMPTY, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    return status;
}

static memmgr_status use_layer_in(void *at)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_layer *layer = (memmgr_layer *)at;
    options.layers = layer;
    options.layer_count = 1;
    layer->dtype = MEMMGR_DTYPE_U8;
    memcpy(layer->name, "x", 2);
    return use_load_options(&options);
}

static memmgr_status use_layer_out(void *at)
{
    return memmgr_layer_find(manager, LOADED, "a", (memmgr_layer *)at, &error);
}

static memmgr_status use_view(void *at)
{
    memmgr_view *view = (memmgr_view *)at;
    const memmgr_status status = memmgr_view_acquire(manager, LOADED, 0, 1, view, &error);
    if (status == MEMMGR_OK) OK(memmgr_view_release(manager, view, &error));
    return status;
}

static memmgr_status use_write(void *at)
{
    memmgr_write *writer = (memmgr_write *)at;
    const memmgr_status status = memmgr_write_begin(manager, WRITABLE, 0, 0, writer, &error);
    if (status == MEMMGR_OK) OK(memmgr_write_end(manager, writer, &error));
    return status;
}

static memmgr_status use_stats(void *at)
{
    return memmgr_stats_get(manager, (memmgr_stats *)at, &error);
}

static memmgr_status use_dimension_stats(void *at)
{
    return memmgr_dimension_stats_get(manager, LOADED, (memmgr_dimension_stats *)at, &error);
}

static memmgr_status use_memory(void *at)
{
    return memmgr_memory_get(manager, LOADED, (memmgr_memory *)at, &error);
}

static memmgr_status use_failure(void *at)
{
    memmgr_failure *failure = (memmgr_failure *)at;
    memmgr_status status;
    failure->call = MEMMGR_CALL_ZERO;
    failure->system_code = 5;
    status = memmgr_failure_inject(failure, &error);
    OK(memmgr_failure_clear(0, &error));
    return status;
}

static memmgr_status use_warm_options(void *at)
{
    memmgr_warming warming = MEMMGR_WARMING_INIT;
    return memmgr_dimension_warm(manager, LOADED, (const memmgr_warm_options *)at, &warming, &error);
}

static memmgr_status use_warming(void *at)
{
    return memmgr_dimension_warm(manager, LOADED, NULL, (memmgr_warming *)at, &error);
}

static memmgr_status use_residency(void *at)
{
    return memmgr_residency_get(manager, LOADED, 0, 0, (memmgr_residency *)at, &error);
}

static memmgr_status use_scan_options(void *at)
{
    size_t count;
    return memmgr_scan_topk(manager, LOADED, "a", query, 3, 0, (const memmgr_scan_options *)at,
                            NULL, NULL, &count, &error);
}

static const struct {
    const char *name;
    uint32_t size;
    /* The library reads it: what it does not know must be zero. */
    int is_input;
    memmgr_status (*use)(void *at);
} structs[] = {
    { "memmgr_capabilities", sizeof(memmgr_capabilities), 0, use_capabilities },
    { "memmgr_manager_options", sizeof(memmgr_manager_options), 1, use_options },
    { "memmgr_dimension_spec", sizeof(memmgr_dimension_spec), 1, use_spec },
    { "memmgr_load_options", sizeof(memmgr_load_options), 1, use_load_options },
    { "memmgr_layer of the caller", sizeof(memmgr_layer), 1, use_layer_in },
    { "memmgr_layer", sizeof(memmgr_layer), 0, use_layer_out },
    { "memmgr_view", sizeof(memmgr_view), 0, use_view },
    { "memmgr_write", sizeof(memmgr_write), 0, use_write },
    { "memmgr_stats", sizeof(memmgr_stats), 0, use_stats },
    { "memmgr_dimension_stats", sizeof(memmgr_dimension_stats), 0, use_dimension_stats },
    { "memmgr_memory", sizeof(memmgr_memory), 0, use_memory },
    { "memmgr_failure", sizeof(memmgr_failure), 1, use_failure },
    { "memmgr_warm_options", sizeof(memmgr_warm_options), 1, use_warm_options },
    { "memmgr_warming", sizeof(memmgr_warming), 0, use_warming },
    { "memmgr_residency", sizeof(memmgr_residency), 0, use_residency },
    { "memmgr_scan_options", sizeof(memmgr_scan_options), 1, use_scan_options },
};

/* The struct, and behind it 64 bytes of which the last has a value. */
static void use_struct(size_t index, uint32_t struct_size, unsigned char last,
                       memmgr_status expected)
{
    static uint64_t room[1024];
    unsigned char *bytes = (unsigned char *)room;
    const uint32_t end = structs[index].size + 64;
    memmgr_status status;
    memset(room, 0, sizeof room);
    memcpy(room, &struct_size, sizeof struct_size);
    bytes[end - 1] = last;
    test_forget();
    status = structs[index].use(room);
    if (!test_check(status == expected, structs[index].name, "", __FILE__, __LINE__))
        fprintf(stderr, "  struct_size %u, last byte %u: expected %s, got %s\n", struct_size, last,
                memmgr_status_name(expected), memmgr_status_name(status));
    /* Nothing is written behind what the library knows. */
    CHECK(bytes[end - 1] == last);
    CHECK(memcmp(bytes + structs[index].size, bytes + structs[index].size + 1, 62) == 0);
}

static void struct_sizes(void)
{
    snapshot before = snapshot_take(manager);
    size_t index;
    for (index = 0; index < sizeof structs / sizeof structs[0]; index++) {
        const uint32_t size = structs[index].size;
        use_struct(index, 0, 0, MEMMGR_ERR_INVALID_ARGUMENT);
        use_struct(index, 1, 0, MEMMGR_ERR_INVALID_ARGUMENT);
        use_struct(index, size - 1, 0, MEMMGR_ERR_INVALID_ARGUMENT);
        use_struct(index, size / 2, 0, MEMMGR_ERR_INVALID_ARGUMENT);
        use_struct(index, size, 0, MEMMGR_OK);
        use_struct(index, size + 64, 0, MEMMGR_OK);
        /* What lies behind the struct is no part of it. */
        use_struct(index, size, 1, MEMMGR_OK);
        use_struct(index, size + 64, 1,
                   structs[index].is_input ? MEMMGR_ERR_INVALID_ARGUMENT : MEMMGR_OK);
    }
    /* Of each of the two structs that a load reads, three are right. */
    before.stats.loads += 6;
    before.stats.unloads += 6;
    UNCHANGED(before);
}

/* A failure is told by the status alone if the error is no struct. */
static void error_sizes(void)
{
    static const uint32_t sizes[] = { 0, 1, sizeof(memmgr_error) - 1 };
    static memmgr_error wrong, copy;
    size_t index;
    for (index = 0; index < sizeof sizes / sizeof sizes[0]; index++) {
        memset(&wrong, 0x77, sizeof wrong);
        wrong.struct_size = sizes[index];
        copy = wrong;
        CHECK(memmgr_dimension_evict(manager, EMPTY, &wrong) == MEMMGR_ERR_NOT_LOADED);
        CHECK(memcmp(&wrong, &copy, sizeof wrong) == 0);
    }
    {
        static struct {
            memmgr_error known;
            unsigned char more[64];
        } larger;
        memset(&larger, 0x77, sizeof larger);
        larger.known.struct_size = sizeof larger;
        CHECK(memmgr_dimension_evict(manager, EMPTY, &larger.known) == MEMMGR_ERR_NOT_LOADED);
        EQUAL(MEMMGR_ERR_NOT_LOADED, larger.known.status);
        EQUAL(0x77, larger.more[0]);
        EQUAL(0x77, larger.more[63]);
    }
}

/* An array whose elements do not agree on their size. */
static void array_sizes(void)
{
    /* Room behind the second, so that it may say that it is longer. */
    memmgr_dimension_spec specs[6] = { MEMMGR_DIMENSION_SPEC_INIT, MEMMGR_DIMENSION_SPEC_INIT };
    memmgr_layer layers[3] = { MEMMGR_LAYER_INIT, MEMMGR_LAYER_INIT };
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_load_options load = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_manager *opened;
    uint32_t size;
    options.dimensions = specs;
    FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
    options.dimension_count = 2;
    load.layers = layers;
    load.layer_count = 2;
    layers[0].dtype = layers[1].dtype = MEMMGR_DTYPE_U8;
    strcpy(layers[0].name, "a");
    strcpy(layers[1].name, "b");
    for (size = 0; size < 80; size += 4) {
        specs[1].struct_size = size;
        layers[1].struct_size = (uint32_t)sizeof layers[1] + size - 40;
        if (specs[1].struct_size != sizeof specs[1])
            FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
        if (layers[1].struct_size != sizeof layers[1])
            REFUSED(INVALID_ARGUMENT, manager,
                    memmgr_dimension_load(manager, EMPTY, raw_file, &load, &error));
    }
    specs[1].struct_size = sizeof specs[1];
    layers[1].struct_size = sizeof layers[1];
    specs[0].struct_size = sizeof specs[0] + 4; /* would misalign the second */
    layers[0].struct_size = sizeof layers[0] + 4;
    FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
    REFUSED(INVALID_ARGUMENT, manager,
            memmgr_dimension_load(manager, EMPTY, raw_file, &load, &error));
}

/* Outputs of a call that fails are empty, whatever stood in them. */
static void outputs_are_zero(void)
{
    union {
        memmgr_stats stats;
        memmgr_dimension_stats dimension;
        memmgr_memory memory;
        memmgr_layer layer;
        memmgr_view view;
        memmgr_write writer;
        memmgr_warming warming;
        memmgr_residency residency;
        unsigned char bytes[sizeof(memmgr_dimension_stats)];
    } output;
    size_t length = 7, index, size;
    unsigned which;
    memmgr_manager *dead = open_manager();
    OK(memmgr_manager_close(dead, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    for (which = 0; which < 9; which++) {
        memset(&output, 0x77, sizeof output);
        switch (which) {
        case 0:
            output.stats.struct_size = (uint32_t)(size = sizeof output.stats);
            FAILS(INVALID_ACCESS, memmgr_stats_get(dead, &output.stats, &error));
            break;
        case 1:
            output.dimension.struct_size = (uint32_t)(size = sizeof output.dimension);
            FAILS(UNKNOWN_DIMENSION,
                  memmgr_dimension_stats_get(manager, 99, &output.dimension, &error));
            break;
        case 2:
            output.memory.struct_size = (uint32_t)(size = sizeof output.memory);
            FAILS(UNKNOWN_DIMENSION, memmgr_memory_get(manager, 99, &output.memory, &error));
            break;
        case 3:
            output.layer.struct_size = (uint32_t)(size = sizeof output.layer);
            FAILS(UNKNOWN_LAYER, memmgr_layer_find(manager, LOADED, "z", &output.layer, &error));
            break;
        case 4:
            output.view.struct_size = (uint32_t)(size = sizeof output.view);
            FAILS(INVALID_ACCESS, memmgr_view_acquire(dead, LOADED, 0, 1, &output.view, &error));
            break;
        case 5:
            output.view.struct_size = (uint32_t)(size = sizeof output.view);
            FAILS(UNKNOWN_LAYER,
                  memmgr_layer_acquire(manager, LOADED, "z", NULL, &output.view, &error));
            break;
        case 6:
            output.warming.struct_size = (uint32_t)(size = sizeof output.warming);
            FAILS(NOT_LOADED,
                  memmgr_dimension_warm(manager, EMPTY, NULL, &output.warming, &error));
            break;
        case 7:
            output.residency.struct_size = (uint32_t)(size = sizeof output.residency);
            FAILS(OUT_OF_BOUNDS,
                  memmgr_residency_get(manager, LOADED, MIB, 1, &output.residency, &error));
            break;
        default:
            output.writer.struct_size = (uint32_t)(size = sizeof output.writer);
            FAILS(INVALID_ARGUMENT,
                  memmgr_write_begin(manager, LOADED, 0, 0, &output.writer, &error));
            break;
        }
        for (index = sizeof(uint32_t); index < size; index++) {
            if (output.bytes[index] == 0) continue;
            EQUAL(0, output.bytes[index]);
            fprintf(stderr, "  output %u, byte %u\n", which, (unsigned)index);
            break;
        }
    }
    FAILS(INVALID_ACCESS, memmgr_dump_json(dead, NULL, 0, &length, &error));
    EQUAL(0, length);
}

/* Values ---------------------------------------------------------------------------------- */

static void unknown_values(void)
{
    static const uint32_t beyond[] = { 4, 5, 1000, 0x80000000, UINT32_MAX };
    memmgr_manager_options open = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    size_t index;
    for (index = 0; index < sizeof beyond / sizeof beyond[0]; index++) {
        const memmgr_load_options none = MEMMGR_LOAD_OPTIONS_INIT;
        const uint32_t value = beyond[index];
        memmgr_load_options options[4];
        unsigned which;
        options[0] = options[1] = options[2] = options[3] = none;
        options[0].mode = value;
        options[1].prefetch = value;
        options[2].format = value;
        options[3].flags = value - 2;
        for (which = 0; which < 4; which++) {
            REFUSED(INVALID_ARGUMENT, manager,
                    memmgr_dimension_load(manager, EMPTY, raw_file, &options[which], &error));
            REFUSED(INVALID_ARGUMENT, manager,
                    memmgr_dimension_reload(manager, LOADED, raw_file, &options[which], &error));
        }
        REFUSED(INVALID_ARGUMENT, manager,
                memmgr_dimension_unload(manager, LOADED, value - 1, 0, &error));
        REFUSED(INVALID_ARGUMENT, manager,
                memmgr_dimension_deallocate(manager, LOADED, value - 1, 0, &error));
        REFUSED(INVALID_ARGUMENT, manager, memmgr_manager_close(manager, value - 1, 0, &error));
        REFUSED(INVALID_ARGUMENT, manager,
                memmgr_write_begin(manager, WRITABLE, value - 2, 0, &writer, &error));
        open.flags = value | 1u << 31;
        FAILS(INVALID_ARGUMENT, memmgr_manager_open(&open, &opened, &error));
        CHECK(opened == NULL);
    }
    CHECK(strcmp(memmgr_dtype_name(24), "unknown") == 0 && memmgr_dtype_bits(24) == 0);
    CHECK(strcmp(memmgr_dtype_name(UINT32_MAX), "unknown") == 0);
}

static void bad_timeouts(void)
{
    static const int64_t timeouts[] = { -2, -1000000000, INT64_MIN };
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    memmgr_warm_options warm = MEMMGR_WARM_OPTIONS_INIT;
    memmgr_warming warming = MEMMGR_WARMING_INIT;
    memmgr_manager *opened;
    size_t index;
    for (index = 0; index < 3; index++) {
        const int64_t timeout = timeouts[index];
        options.read_timeout_ns = timeout;
        FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
        REFUSED(INVALID_ARGUMENT, manager,
                memmgr_manager_close(manager, MEMMGR_ON_VIEWS_WAIT, timeout, &error));
        REFUSED(INVALID_ARGUMENT, manager,
                memmgr_dimension_unload(manager, LOADED, MEMMGR_ON_VIEWS_WAIT, timeout, &error));
        REFUSED(INVALID_ARGUMENT, manager,
                memmgr_dimension_deallocate(manager, LOADED, MEMMGR_ON_VIEWS_WAIT, timeout,
                                            &error));
        REFUSED(INVALID_ARGUMENT, manager,
                memmgr_write_begin(manager, WRITABLE, 0, timeout, &writer, &error));
        warm.timeout_ns = timeout;
        REFUSED(INVALID_ARGUMENT, manager,
                memmgr_dimension_warm(manager, LOADED, &warm, &warming, &error));
    }
    /* The longest is one. */
    OK(memmgr_write_begin(manager, WRITABLE, 0, INT64_MAX, &writer, &error));
    OK(memmgr_write_end(manager, &writer, &error));
}

static void bad_dimensions(void)
{
    static const char long_name[] = "0123456789012345678901234567890123456789012345678901234567890123";
    static const char *const names[] = { "", long_name, "\xff", "a\xc3", "\xed\xa0\x80", "twice" };
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_dimension_spec specs[2] = { MEMMGR_DIMENSION_SPEC_INIT, MEMMGR_DIMENSION_SPEC_INIT };
    memmgr_manager *opened;
    size_t index;
    options.dimension_count = 2;
    options.dimensions = specs;
    specs[0].name = "twice";
    for (index = 0; index < sizeof names / sizeof names[0]; index++) {
        specs[1].name = names[index];
        FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
        CHECK(opened == NULL);
    }
    /* The name that its position gives the second is the first one's. */
    specs[0].name = "D02";
    specs[1].name = NULL;
    FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
    CHECK(strcmp(error.dimension_name, "D02") == 0);
    specs[0].name = long_name + 1; /* 63 bytes */
    OK(memmgr_manager_open(&options, &opened, &error));
    OK(memmgr_manager_close(opened, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    specs[1].capacity = UINT64_MAX;
    FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
    options.dimensions = NULL;
    options.dimension_count = MEMMGR_DIMENSIONS_MAX + 1;
    FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
    options.dimension_count = UINT32_MAX;
    FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
    options.dimension_count = 1;
    options.capacity = UINT64_MAX;
    FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
}

/* Layers of the caller's for a file of 5000 bytes. */
static void bad_layers(void)
{
    const memmgr_layer none = MEMMGR_LAYER_INIT;
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_layer layers[2];
    unsigned which;
    options.layers = layers;
    options.layer_count = 2;
    for (which = 0; which < 15; which++) {
        layers[0] = layers[1] = none;
        strcpy(layers[0].name, "first");
        strcpy(layers[1].name, "second");
        layers[0].dtype = layers[1].dtype = MEMMGR_DTYPE_F32;
        layers[0].rank = layers[1].rank = 1;
        layers[0].shape[0] = layers[1].shape[0] = 10;
        layers[1].offset = 40;
        switch (which) {
        case 0: layers[1].offset = 39; break; /* overlaps */
        case 1: layers[1].offset = 4961; break; /* ends behind the end */
        case 2: layers[1].offset = UINT64_MAX - 3; break;
        case 3: layers[1].shape[0] = UINT64_MAX; break;
        case 4: layers[1].shape[0] = ((uint64_t)1 << 62) + 10; break; /* 40 bytes modulo 2^64 */
        case 5: layers[1].rank = MEMMGR_RANK_MAX + 1; break;
        case 6: layers[1].rank = UINT32_MAX; break;
        case 7: layers[1].dtype = 24; break;
        case 8: layers[1].order = 2; break;
        case 9: layers[1].name[0] = 0; break;
        case 10: strcpy(layers[1].name, "first"); break;
        case 11: memset(layers[1].name, 1, sizeof layers[1].name); break; /* no NUL */
        case 12: strcpy(layers[1].name, "\xff"); break;
        case 13: layers[1].length = 41; break;
        case 14: options.manifest = raw_file; break; /* one of the two */
        }
        REFUSED(INVALID_ARGUMENT, manager,
                memmgr_dimension_load(manager, EMPTY, raw_file, &options, &error));
        CHECK(strcmp(error.dimension_name, "D01") == 0);
    }
    options.manifest = NULL;
    /* For raw files only. */
    REFUSED(INVALID_ARGUMENT, manager,
            memmgr_dimension_load(manager, EMPTY, layers_file, &options, &error));
    layers[1].length = 40;
    OK(memmgr_dimension_load(manager, EMPTY, raw_file, &options, &error));
}

/* Views and writes ------------------------------------------------------------------------ */

static void bad_views(void)
{
    memmgr_manager *other = open_manager();
    memmgr_view view = MEMMGR_VIEW_INIT, zeroed = MEMMGR_VIEW_INIT;
    memmgr_view forged;
    REFUSED(INVALID_ARGUMENT, manager, memmgr_view_release(manager, &zeroed, &error));
    memset(&zeroed, 0, sizeof zeroed);
    REFUSED(INVALID_ARGUMENT, manager, memmgr_view_release(manager, &zeroed, &error));
    OK(memmgr_view_acquire(manager, LOADED, 0, 1, &view, &error));
    REFUSED(INVALID_ARGUMENT, manager, memmgr_view_release(other, &view, &error));
    REFUSED(INVALID_ARGUMENT, manager, memmgr_view_release(NULL, &view, &error));
    CHECK(view.data != NULL);
    forged = view;
    forged.dimension = DIMENSIONS;
    REFUSED(INVALID_ARGUMENT, manager, memmgr_view_release(manager, &forged, &error));
    forged = view;
    memset(forged.token, 0xff, sizeof forged.token);
    REFUSED(INVALID_ARGUMENT, manager, memmgr_view_release(manager, &forged, &error));
    forged = view;
    forged.token[1] = UINT64_MAX;
    REFUSED(INVALID_ARGUMENT, manager, memmgr_view_release(manager, &forged, &error));
    OK(memmgr_view_release(manager, &view, &error));
    CHECK(view.data == NULL && view.length == 0);
    REFUSED(INVALID_ARGUMENT, manager, memmgr_view_release(manager, &view, &error));
    OK(memmgr_manager_close(other, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static memmgr_write held_write;

static void end_held_write(void *expected)
{
    const memmgr_status status = memmgr_write_end(manager, &held_write, &error);
    EQUAL(*(memmgr_status *)expected, status);
}

static void bad_writes(void)
{
    memmgr_manager *other = open_manager();
    memmgr_write zeroed = MEMMGR_WRITE_INIT, second = MEMMGR_WRITE_INIT;
    memmgr_write forged;
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    memmgr_status status = MEMMGR_ERR_INVALID_ARGUMENT;
    const memmgr_write none = MEMMGR_WRITE_INIT;
    /* In mode r, into nothing, without begin. */
    REFUSED(INVALID_ARGUMENT, manager,
            memmgr_write_begin(manager, LOADED, 0, 0, &second, &error));
    CHECK(strcmp(error.dimension_name, "D02") == 0);
    REFUSED(NOT_LOADED, manager, memmgr_write_begin(manager, EMPTY, 0, 0, &second, &error));
    REFUSED(INVALID_ARGUMENT, manager, memmgr_write_end(manager, &zeroed, &error));

    held_write = none;
    OK(memmgr_write_begin(manager, WRITABLE, 0, 0, &held_write, &error));
    /* A second writer, another thread, another manager, a forgery. */
    REFUSED(WAIT_TIMEOUT, manager,
            memmgr_write_begin(manager, WRITABLE, 0, 1000000, &second, &error));
    EQUAL(1, error.views);
    {
        snapshot before = snapshot_take(manager);
        thread_call(end_held_write, &status);
        UNCHANGED(before);
    }
    CHECK(held_write.data != NULL);
    REFUSED(INVALID_ARGUMENT, manager, memmgr_write_end(other, &held_write, &error));
    REFUSED(INVALID_ARGUMENT, manager, memmgr_write_end(NULL, &held_write, &error));
    forged = held_write;
    forged.generation++;
    REFUSED(INVALID_ARGUMENT, manager, memmgr_write_end(manager, &forged, &error));
    forged = held_write;
    forged.token[1] = 77;
    REFUSED(INVALID_ARGUMENT, manager, memmgr_write_end(manager, &forged, &error));
    forged = held_write;
    forged.dimension = LOADED;
    REFUSED(INVALID_ARGUMENT, manager, memmgr_write_end(manager, &forged, &error));
    forged.dimension = DIMENSIONS;
    CHECK(memmgr_write_end(manager, &forged, &error) != MEMMGR_OK);
    OK(memmgr_dimension_stats_get(manager, WRITABLE, &stats, &error));
    EQUAL(MEMMGR_STATE_WRITING, stats.state);
    forged = held_write;
    OK(memmgr_write_end(manager, &held_write, &error));
    CHECK(held_write.data == NULL && held_write.length == 0);
    /* Twice, by the same struct and by a byte copy of it. */
    REFUSED(INVALID_ARGUMENT, manager, memmgr_write_end(manager, &held_write, &error));
    REFUSED(INVALID_ARGUMENT, manager, memmgr_write_end(manager, &forged, &error));
    /* On another thread, if it was agreed. */
    OK(memmgr_write_begin(manager, WRITABLE, MEMMGR_WRITE_ANY_THREAD, 0, &held_write, &error));
    status = MEMMGR_OK;
    thread_call(end_held_write, &status);
    OK(memmgr_dimension_stats_get(manager, WRITABLE, &stats, &error));
    EQUAL(MEMMGR_STATE_LOADED, stats.state);
    OK(memmgr_manager_close(other, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* A thread that holds a view of what it wants to write waits for itself, and not for ever. */
static void writer_with_a_view(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT, second = MEMMGR_VIEW_INIT;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    OK(memmgr_view_acquire(manager, WRITABLE, 0, 1, &view, &error));
    REFUSED(WAIT_TIMEOUT, manager,
            memmgr_write_begin(manager, WRITABLE, 0, 5000000, &writer, &error));
    EQUAL(1, error.views);
    OK(memmgr_view_acquire(manager, WRITABLE, 0, 1, &second, &error));
    OK(memmgr_view_release(manager, &second, &error));
    OK(memmgr_view_try_acquire(manager, WRITABLE, 0, 1, &second, &error));
    CHECK(second.data == view.data);
    OK(memmgr_view_release(manager, &second, &error));
    OK(memmgr_view_release(manager, &view, &error));
    FAILS(OUT_OF_BOUNDS,
          memmgr_view_try_acquire(manager, WRITABLE, UINT64_MAX, 2, &view, &error));
    /* And one that holds a write and wants to read. */
    OK(memmgr_write_begin(manager, WRITABLE, 0, 0, &writer, &error));
    REFUSED(WAIT_TIMEOUT, manager, memmgr_view_acquire(manager, WRITABLE, 0, 1, &view, &error));
    /* Or does not want to wait for it. */
    REFUSED(VIEWS_HELD, manager, memmgr_view_try_acquire(manager, WRITABLE, 0, 1, &view, &error));
    EQUAL(1, error.views);
    EQUAL(MEMMGR_ERR_VIEWS_HELD, memmgr_view_try_acquire(manager, WRITABLE, 0, 1, &view, NULL));
    REFUSED(VIEWS_HELD, manager,
            memmgr_dimension_unload(manager, WRITABLE, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    EQUAL(1, error.views);
    OK(memmgr_write_end(manager, &writer, &error));
}

static void bad_failures(void)
{
    char long_name[MEMMGR_DIMENSION_NAME_SIZE + 1];
    const memmgr_failure good = { sizeof good, MEMMGR_CALL_OPEN, 5, 0, 0, NULL };
    const int64_t codes[] = { 0, -1, (int64_t)1 << 31, INT64_MIN };
    const uint32_t calls[] = { 0, MEMMGR_CALL_BARRIER + 1, MEMMGR_NONE };
    uint64_t count = 7, failures = 7;
    unsigned index;
    memset(long_name, 'x', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    for (index = 0; index < sizeof codes / sizeof codes[0]; index++) {
        memmgr_failure failure = good;
        failure.system_code = codes[index];
        REFUSED(INVALID_ARGUMENT, manager, memmgr_failure_inject(&failure, &error));
    }
    for (index = 0; index < sizeof calls / sizeof calls[0]; index++) {
        memmgr_failure failure = good;
        failure.call = calls[index];
        REFUSED(INVALID_ARGUMENT, manager, memmgr_failure_inject(&failure, &error));
        FAILS(INVALID_ARGUMENT, memmgr_failure_count(calls[index], &count, &failures, &error));
        EQUAL(0, count + failures);
        CHECK(strcmp(memmgr_call_name(calls[index]), "unknown") == 0);
        if (calls[index] != 0)
            FAILS(INVALID_ARGUMENT, memmgr_failure_clear(calls[index], &error));
    }
    for (index = 0; index < 2; index++) {
        memmgr_failure failure = good;
        failure.dimension = index == 0 ? "" : long_name;
        REFUSED(INVALID_ARGUMENT, manager, memmgr_failure_inject(&failure, &error));
    }
    /* Of all that nothing was injected. */
    OK(memmgr_dimension_load(manager, EMPTY, raw_file, NULL, &error));
}

int main(void)
{
    raw_file = file_fill("raw", 1, 5000);
    layers_file = file_layers("layers");
    writable_file = file_fill("written", 1, WHOLE_PAGES);
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(null_handle);
    RUN(foreign_handles);
    RUN(garbage_handles);
    RUN(dead_handle);
    RUN(closed_with_views);
    RUN(null_arguments);
    RUN(struct_sizes);
    RUN(error_sizes);
    RUN(array_sizes);
    RUN(outputs_are_zero);
    RUN(unknown_values);
    RUN(bad_timeouts);
    RUN(bad_dimensions);
    RUN(bad_layers);
    RUN(bad_views);
    RUN(bad_failures);
    RUN(bad_writes);
    RUN(writer_with_a_view);
    return test_end();
}

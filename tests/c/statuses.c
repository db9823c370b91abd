/*
 * Every status of the header is provoked, and what its error says is checked field by field.
 *
 * One function a status; the table of them is compared with the names that the library declares,
 * so a status that nobody provokes is a failure.
 */
#include "test.h"
#include "faults.h"
#include "files.h"

#ifdef _WIN32
#include <windows.h>
/* A name of theirs that the macros would paste. */
#undef WAIT_TIMEOUT
#else
#include <sys/resource.h>
#endif

static memmgr_manager *manager;
static const char *raw_file; /* 5000 bytes */
static const char *layers_file;

/* What every error says; more is checked where a status has more. */
static void check_error(uint32_t operation, const char *dimension_name, const char *file_name)
{
    EQUAL(operation, error.operation);
    if (!CHECK(strcmp(error.dimension_name, dimension_name) == 0))
        fprintf(stderr, "  dimension_name: %s\n", error.dimension_name);
    CHECK((error.dimension != MEMMGR_NONE) == (dimension_name[0] != 0));
    CHECK(strcmp(error.file_name, file_name) == 0);
    /* Whatever is known stands in the message. */
    CHECK(strstr(error.message, dimension_name) != NULL);
    CHECK(strstr(error.message, error.layer_name) != NULL);
    CHECK(strstr(error.message, file_name) != NULL);
    CHECK(error.message[strlen(error.message) - 1] != '.');
}

static void check_numbers(uint64_t requested, uint64_t used, uint64_t limit)
{
    EQUAL(requested, error.requested);
    EQUAL(used, error.used);
    EQUAL(limit, error.limit);
}

#ifdef _WIN32
/* One call fails as it would on systems that cannot be brought to it. */
static void inject(uint32_t call, int64_t code)
{
    memmgr_failure failure = MEMMGR_FAILURE_INIT;
    failure.call = call;
    failure.system_code = code;
    OK(memmgr_failure_inject(&failure, &error));
}
#endif

static void invalid_argument(void)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = 99;
    FAILS(INVALID_ARGUMENT, memmgr_dimension_load(manager, 1, raw_file, &options, &error));
    check_error(MEMMGR_OPERATION_LOAD, "D02", "");
    EQUAL(1, error.dimension);
    CHECK(strstr(error.message, "mode") != NULL);
    EQUAL(MEMMGR_NONE, error.layer);
    EQUAL(0, error.system_code);
}

static void limit_exceeded(void)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    const char *path = file_fill("large", 1, (size_t)(20 << 20) + 1);
    FAILS(LIMIT_EXCEEDED, memmgr_dimension_load(manager, 2, path, NULL, &error));
    check_error(MEMMGR_OPERATION_LOAD, "D03", path);
    EQUAL((20 << 20) + 1, error.requested);
    EQUAL(20 << 20, error.limit);
    CHECK(strstr(error.message, "20971521") != NULL);
    CHECK(strstr(error.message, "20971520") != NULL);

    /* By the pools. */
    {
        GET_FAILS(LIMIT_EXCEEDED, memmgr_block_alloc(manager, (size_t)64 << 20 | 1, &error));
        check_error(MEMMGR_OPERATION_ALLOC, "", "");
        EQUAL(64 << 20, error.limit);
        CHECK(error.requested > error.limit - error.used);
        CHECK(strstr(error.message, "67108864") != NULL);
    }
    /* By the budget: all of its room above the regions is one dimension's. */
    {
        memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
        memmgr_manager *small;
        memmgr_view views[2] = { MEMMGR_VIEW_INIT, MEMMGR_VIEW_INIT };
        options.dimension_count = 2;
        options.capacity = 1 << 20;
        options.limit = 3 << 20;
        OK(memmgr_manager_open(&options, &small, &error));
        OK(memmgr_dimension_load(small, 0, raw_file, NULL, &error));
        OK(memmgr_dimension_load(small, 1, raw_file, NULL, &error));
        OK(memmgr_view_acquire(small, 0, 0, 1, &views[0], &error));
        OK(memmgr_view_acquire(small, 1, 0, 1, &views[1], &error));
        OK(memmgr_dimension_reload(small, 0, layers_file, NULL, &error));
        FAILS(LIMIT_EXCEEDED, memmgr_dimension_reload(small, 1, layers_file, NULL, &error));
        check_error(MEMMGR_OPERATION_RELOAD, "D02", layers_file);
        check_numbers(1 << 20, 3 << 20, 3 << 20);
        OK(memmgr_stats_get(small, &stats, &error));
        EQUAL(1, stats.refusals);
        OK(memmgr_view_release(small, &views[0], &error));
        OK(memmgr_view_release(small, &views[1], &error));
        OK(memmgr_manager_close(small, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    }
}

static void allocation(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *huge = manager;
    /* 256 TiB with both slots: more than any process can address. */
    options.dimension_count = 2;
    options.capacity = (uint64_t)1 << 46;
    FAILS(ALLOCATION, memmgr_manager_open(&options, &huge, &error));
    CHECK(huge == NULL);
    check_error(MEMMGR_OPERATION_OPEN, "", "");
    EQUAL((uint64_t)1 << 48, error.requested);
    CHECK(error.system_code != 0);
}

static void already_loaded(void)
{
    FAILS(ALREADY_LOADED, memmgr_dimension_load(manager, 0, raw_file, NULL, &error));
    check_error(MEMMGR_OPERATION_LOAD, "D01", raw_file);
    EQUAL(0, error.dimension);
    EQUAL(0, error.system_code);
}

static void not_loaded(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    FAILS(NOT_LOADED, memmgr_view_acquire(manager, 3, 0, 1, &view, &error));
    check_error(MEMMGR_OPERATION_ACQUIRE, "D04", "");
    CHECK(view.data == NULL);
}

static void unknown_dimension(void)
{
    uint32_t dimension = 7;
    FAILS(UNKNOWN_DIMENSION, memmgr_dimension_find(manager, "D15", &dimension, &error));
    EQUAL(0, dimension);
    EQUAL(MEMMGR_NONE, error.dimension);
    CHECK(strcmp(error.dimension_name, "D15") == 0);
    CHECK(strstr(error.message, "D15") != NULL);
    EQUAL(MEMMGR_OPERATION_FIND, error.operation);

    FAILS(UNKNOWN_DIMENSION, memmgr_dimension_flush(manager, 14, &error));
    check_error(MEMMGR_OPERATION_FLUSH, "", "");
    EQUAL(14, error.requested);
    EQUAL(14, error.limit);
    CHECK(strstr(error.message, "14") != NULL);
}

static void unknown_layer(void)
{
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    FAILS(UNKNOWN_LAYER,
          memmgr_layer_acquire(manager, 5, "weights", NULL, &view, &error));
    check_error(MEMMGR_OPERATION_ACQUIRE, "D06", "");
    CHECK(strcmp(error.layer_name, "weights") == 0);
    CHECK(strstr(error.message, "weights") != NULL);

    FAILS(UNKNOWN_LAYER, memmgr_layer_at(manager, 5, 2, &layer, &error));
    check_error(MEMMGR_OPERATION_FIND, "D06", "");
    EQUAL(2, error.layer);
}

static void out_of_bounds(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    FAILS(OUT_OF_BOUNDS, memmgr_view_acquire(manager, 0, 4000, 1001, &view, &error));
    check_error(MEMMGR_OPERATION_ACQUIRE, "D01", "");
    check_numbers(4000, 1001, 5000);
    CHECK(strstr(error.message, "4000") != NULL);
    CHECK(strstr(error.message, "1001") != NULL);
    CHECK(strstr(error.message, "5000") != NULL);
}

static void views_held(void)
{
    memmgr_view views[2] = { MEMMGR_VIEW_INIT, MEMMGR_VIEW_INIT };
    OK(memmgr_view_acquire(manager, 0, 0, 1, &views[0], &error));
    OK(memmgr_view_acquire(manager, 0, 1, 1, &views[1], &error));
    FAILS(VIEWS_HELD,
          memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    check_error(MEMMGR_OPERATION_UNLOAD, "D01", "");
    EQUAL(2, error.views);
    CHECK(strstr(error.message, "2 held") != NULL);
    OK(memmgr_view_release(manager, &views[0], &error));
    FAILS(VIEWS_HELD, memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    check_error(MEMMGR_OPERATION_CLOSE, "D01", "");
    EQUAL(1, error.views);
    OK(memmgr_view_release(manager, &views[1], &error));
}

static void wait_timeout(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    OK(memmgr_view_acquire(manager, 6, 0, 1, &view, &error));
    FAILS(WAIT_TIMEOUT, memmgr_write_begin(manager, 6, 0, 1000000, &writer, &error));
    check_error(MEMMGR_OPERATION_WRITE, "D07", "");
    EQUAL(1, error.views);
    CHECK(writer.data == NULL);
    OK(memmgr_view_release(manager, &view, &error));
}

static void invalid_access(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT, refused = MEMMGR_VIEW_INIT;
    memmgr_manager *other;
    /* A region on its way out, */
    OK(memmgr_view_acquire(manager, 5, 0, 1, &view, &error));
    OK(memmgr_dimension_deallocate(manager, 5, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    FAILS(INVALID_ACCESS, memmgr_view_acquire(manager, 5, 0, 1, &refused, &error));
    check_error(MEMMGR_OPERATION_ACQUIRE, "D06", "");
    OK(memmgr_view_release(manager, &view, &error));
    FAILS(NOT_LOADED, memmgr_view_acquire(manager, 5, 0, 1, &refused, &error));
    /* and a manager that was closed. */
    options.capacity = 1;
    OK(memmgr_manager_open(&options, &other, &error));
    OK(memmgr_manager_close(other, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    FAILS(INVALID_ACCESS, memmgr_dimension_evict(other, 0, &error));
    check_error(MEMMGR_OPERATION_EVICT, "", "");
}

static void file_access(void)
{
    const char *path = file_path("missing");
    FAILS(FILE_ACCESS, memmgr_dimension_load(manager, 4, path, NULL, &error));
    check_error(MEMMGR_OPERATION_LOAD, "D05", path);
    EQUAL(2, error.system_code); /* ENOENT and ERROR_FILE_NOT_FOUND are both 2 */
    CHECK(strstr(error.message, "system error 2") != NULL);
}

static void format(void)
{
    const char *header = "{\"a\":{\"dtype\":\"F99\",\"shape\":[],\"data_offsets\":[0,4]}}";
    const char *path = file_safetensors("bad", strlen(header), header, 4);
    FAILS(FORMAT, memmgr_dimension_load(manager, 4, path, NULL, &error));
    check_error(MEMMGR_OPERATION_LOAD, "D05", path);
    CHECK(strcmp(error.layer_name, "a") == 0);
    /* Behind the type that it does not know, and not beyond the header. */
    CHECK(error.offset > 8 && error.offset <= 8 + strlen(header));
    EQUAL(0, error.system_code);
}

static void faulted(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT, refused = MEMMGR_VIEW_INIT;
    const size_t page = fault_page_size();
    const char *path = file_fill("short", 1, 2 * page);
    memmgr_manager *guarded;
    options.capacity = 2 * page;
    options.flags = MEMMGR_OPEN_FAULT_GUARD;
    if (!fault_guard()) {
        FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &guarded, &error));
#ifdef _WIN32
        /* What a save comes to that meets such a page. */
        inject(MEMMGR_CALL_WRITE, ERROR_NOACCESS);
        path = file_path("faulted");
        FAILS(FAULTED, memmgr_dimension_save(manager, 0, path, NULL, &error));
        check_error(MEMMGR_OPERATION_SAVE, "D01", path);
        EQUAL(ERROR_NOACCESS, error.system_code);
#endif
        return;
    }
    OK(memmgr_manager_open(&options, &guarded, &error));
    OK(memmgr_dimension_load(guarded, 7, path, NULL, &error));
    OK(memmgr_view_acquire(guarded, 7, 0, 2 * page, &view, &error));
    EQUAL(0, fault_at(path, view.data, page));
    FAILS(FAULTED, memmgr_view_acquire(guarded, 7, 0, 1, &refused, &error));
    check_error(MEMMGR_OPERATION_ACQUIRE, "D08", "");
    EQUAL(page, error.offset);
    CHECK(error.system_code != 0);
    OK(memmgr_view_release(guarded, &view, &error));
    OK(memmgr_manager_close(guarded, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void pool_corruption(void)
{
    void *const block = GET(memmgr_block_alloc(manager, 100, &error));
    OK(memmgr_block_free(manager, block, &error));
    FAILS(POOL_CORRUPTION, memmgr_block_free(manager, block, &error));
    check_error(MEMMGR_OPERATION_FREE, "", "");
    CHECK(strstr(error.message, "freed before") != NULL);
}

/* Room for a file is asked for before its first byte is read. */
static void disk_full(void)
{
    memmgr_array array = MEMMGR_ARRAY_INIT;
    const char *path = file_path("full");
    const uint64_t size = 1 << 20;
#ifdef _WIN32
    inject(MEMMGR_CALL_ALLOCATE, ERROR_DISK_FULL);
#else
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 4096;
    setrlimit(RLIMIT_FSIZE, &small);
#endif
    array.name = "data";
    array.dtype = MEMMGR_DTYPE_U8;
    array.rank = 1;
    array.shape[0] = size;
    array.data = &array;
    FAILS(DISK_FULL, memmgr_array_save(path, &array, 1, NULL, &error));
#ifndef _WIN32
    setrlimit(RLIMIT_FSIZE, &old);
#endif
    check_error(MEMMGR_OPERATION_SAVE, "", path);
    EQUAL(size, error.requested);
    CHECK(error.system_code != 0);
}

static int32_t stop(uint64_t done, uint64_t total, void *user)
{
    (void)total;
    (void)user;
    return done > 0;
}

static void cancelled(void)
{
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    const char *path = file_path("cancelled");
    options.progress = stop;
    FAILS(CANCELLED, memmgr_dimension_save(manager, 0, path, &options, &error));
    check_error(MEMMGR_OPERATION_SAVE, "D01", path);
    EQUAL(0, error.system_code);
}

/* In the order of the header. */
static const struct {
    memmgr_status status;
    const char *name;
    void (*provoke)(void);
} statuses[] = {
    { MEMMGR_ERR_INVALID_ARGUMENT, "invalid_argument", invalid_argument },
    { MEMMGR_ERR_LIMIT_EXCEEDED, "limit_exceeded", limit_exceeded },
    { MEMMGR_ERR_ALLOCATION, "allocation", allocation },
    { MEMMGR_ERR_ALREADY_LOADED, "already_loaded", already_loaded },
    { MEMMGR_ERR_NOT_LOADED, "not_loaded", not_loaded },
    { MEMMGR_ERR_UNKNOWN_DIMENSION, "unknown_dimension", unknown_dimension },
    { MEMMGR_ERR_UNKNOWN_LAYER, "unknown_layer", unknown_layer },
    { MEMMGR_ERR_OUT_OF_BOUNDS, "out_of_bounds", out_of_bounds },
    { MEMMGR_ERR_VIEWS_HELD, "views_held", views_held },
    { MEMMGR_ERR_WAIT_TIMEOUT, "wait_timeout", wait_timeout },
    { MEMMGR_ERR_INVALID_ACCESS, "invalid_access", invalid_access },
    { MEMMGR_ERR_FILE_ACCESS, "file_access", file_access },
    { MEMMGR_ERR_FORMAT, "format", format },
    { MEMMGR_ERR_FAULTED, "faulted", faulted },
    { MEMMGR_ERR_POOL_CORRUPTION, "pool_corruption", pool_corruption },
    { MEMMGR_ERR_DISK_FULL, "disk_full", disk_full },
    { MEMMGR_ERR_CANCELLED, "cancelled", cancelled },
};

/* The table above has every status that the library knows, and nothing else. */
static void names(void)
{
    const size_t count = sizeof statuses / sizeof statuses[0];
    size_t index;
    int32_t status;
    CHECK(strcmp(memmgr_status_name(MEMMGR_OK), "ok") == 0);
    for (index = 0; index < count; index++) {
        EQUAL(index + 1, statuses[index].status);
        CHECK(strcmp(memmgr_status_name(statuses[index].status), statuses[index].name) == 0);
    }
    for (status = -20; status < 200; status++) {
        const int known = status >= 0 && status <= (int32_t)count;
        CHECK((strcmp(memmgr_status_name(status), "unknown") != 0) == known);
    }
    CHECK(strcmp(memmgr_operation_name(MEMMGR_OPERATION_GROW), "grow") == 0);
    CHECK(strcmp(memmgr_operation_name(MEMMGR_OPERATION_VERIFY), "verify") == 0);
    CHECK(strcmp(memmgr_operation_name(MEMMGR_OPERATION_SCAN), "scan") == 0);
    CHECK(strcmp(memmgr_operation_name(MEMMGR_OPERATION_INTERRUPT), "interrupt") == 0);
    CHECK(strcmp(memmgr_operation_name(MEMMGR_OPERATION_INTERRUPT + 1), "unknown") == 0);
    CHECK(strcmp(memmgr_operation_name(MEMMGR_NONE), "unknown") == 0);
}

/* Each status was returned by some call above. */
static void seen(void)
{
    unsigned expected = 1u << MEMMGR_OK;
    size_t index;
    for (index = 0; index < sizeof statuses / sizeof statuses[0]; index++) {
        expected |= 1u << statuses[index].status;
    }
    EQUAL(expected, test.seen);
}

int main(void)
{
    memmgr_load_options copy = MEMMGR_LOAD_OPTIONS_INIT;
    size_t index;
    raw_file = file_fill("raw", 1, 5000);
    layers_file = file_layers("layers");
    copy.mode = MEMMGR_MODE_COPY;
    OK(memmgr_manager_open(NULL, &manager, &error));
    OK(memmgr_dimension_load(manager, 0, raw_file, NULL, &error));
    OK(memmgr_dimension_load(manager, 5, layers_file, NULL, &error));
    OK(memmgr_dimension_load(manager, 6, raw_file, &copy, &error));
    RUN(names);
    for (index = 0; index < sizeof statuses / sizeof statuses[0]; index++) {
        test_run(statuses[index].name, statuses[index].provoke);
    }
    RUN(seen);
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    return test_end();
}

/*
 * Failures that a program injects, to see what it does then: each is told as the system's own would
 * be, changes nothing, and is over when it was to be. What every function does about every call is
 * in core/testing/failures.zig.
 */
#include "test.h"
#include "files.h"
#include "snapshot.h"
#include "threads.h"

#ifdef _WIN32
enum { NO_MEMORY = 8, NO_ROOM = 112, NO_ACCESS = 5, BROKEN = 1117 };
#else
enum { NO_MEMORY = 12, NO_ROOM = 28, NO_ACCESS = 13, BROKEN = 5 };
#endif

enum { D01, D02, D03, DIMENSIONS };

static memmgr_manager *manager;
static const char *raw_file, *layers_file;

static void set_up(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.dimension_count = DIMENSIONS;
    options.capacity = 1 << 20;
    OK(memmgr_manager_open(&options, &manager, &error));
}

static void tear_down(void)
{
    OK(memmgr_failure_clear(0, &error));
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void inject(uint32_t call, int64_t code, uint64_t after, uint64_t count, const char *name)
{
    memmgr_failure failure = MEMMGR_FAILURE_INIT;
    failure.call = call;
    failure.system_code = code;
    failure.after = after;
    failure.count = count;
    failure.dimension = name;
    OK(memmgr_failure_inject(&failure, &error));
}

static void check_counts(uint32_t call, uint64_t calls, uint64_t failures)
{
    uint64_t seen, failed;
    OK(memmgr_failure_count(call, &seen, &failed, &error));
    EQUAL(calls, seen);
    EQUAL(failures, failed);
}

static memmgr_status load(uint32_t dimension)
{
    return memmgr_dimension_load(manager, dimension, raw_file, NULL, &error);
}

static memmgr_status unload(uint32_t dimension)
{
    return memmgr_dimension_unload(manager, dimension, MEMMGR_ON_VIEWS_REFUSE, 0, &error);
}

/* R7.2, R9.1, R9.3: as if the system had said it. */
static void told_as_the_systems(void)
{
    char code[32];
    snprintf(code, sizeof code, "(system error %d)", NO_ACCESS);
    inject(MEMMGR_CALL_MAP, NO_ACCESS, 0, 0, NULL);
    REFUSED(FILE_ACCESS, manager, load(D02));
    EQUAL(NO_ACCESS, error.system_code);
    EQUAL(MEMMGR_OPERATION_LOAD, error.operation);
    CHECK(strcmp(error.dimension_name, "D02") == 0);
    CHECK(strcmp(error.file_name, raw_file) == 0);
    CHECK(strstr(error.message, code) != NULL);
    OK(load(D02));
    check_counts(MEMMGR_CALL_MAP, 2, 1);
}

/* The same call with another code is another status. */
static void told_by_its_code(void)
{
    memmgr_array array = MEMMGR_ARRAY_INIT;
    const char *path = file_path("saved");
    array.name = "data";
    array.dtype = MEMMGR_DTYPE_U8;
    array.rank = 1;
    array.shape[0] = 3;
    array.data = "abc";
    inject(MEMMGR_CALL_MAP, NO_MEMORY, 0, 0, NULL);
    REFUSED(ALLOCATION, manager, load(D01));
    inject(MEMMGR_CALL_READ, BROKEN, 0, 0, NULL);
    REFUSED(FILE_ACCESS, manager, memmgr_dimension_load(manager, D01, layers_file, NULL, &error));
    inject(MEMMGR_CALL_WRITE, NO_ROOM, 0, 0, NULL);
    REFUSED(DISK_FULL, manager, memmgr_array_save(path, &array, 1, NULL, &error));
    EQUAL(NO_ROOM, error.system_code);
    OK(memmgr_array_save(path, &array, 1, NULL, &error));
}

static void after_and_count(void)
{
    inject(MEMMGR_CALL_OPEN, NO_ACCESS, 1, 2, NULL);
    OK(load(D01));
    FAILS(FILE_ACCESS, load(D02));
    FAILS(FILE_ACCESS, load(D03));
    OK(load(D02));
    check_counts(MEMMGR_CALL_OPEN, 4, 2);
    /* What is injected now takes the place of what was. */
    inject(MEMMGR_CALL_OPEN, NO_ACCESS, 0, UINT64_MAX, NULL);
    check_counts(MEMMGR_CALL_OPEN, 0, 0);
    FAILS(FILE_ACCESS, load(D03));
    FAILS(FILE_ACCESS, load(D03));
    OK(memmgr_failure_clear(MEMMGR_CALL_OPEN, &error));
    OK(load(D03));
    check_counts(MEMMGR_CALL_OPEN, 0, 0);
}

static void only_counted(void)
{
    inject(MEMMGR_CALL_OPEN, NO_ACCESS, UINT64_MAX, UINT64_MAX, NULL);
    OK(load(D01));
    OK(load(D02));
    check_counts(MEMMGR_CALL_OPEN, 2, 0);
}

static void of_one_dimension(void)
{
    inject(MEMMGR_CALL_OPEN, NO_ACCESS, 1, 1, "D02");
    OK(load(D01));
    OK(load(D02));
    OK(load(D03));
    OK(unload(D02));
    FAILS(FILE_ACCESS, load(D02));
    check_counts(MEMMGR_CALL_OPEN, 2, 1);
    /* Not of what is called for none. */
    inject(MEMMGR_CALL_MEMORY_USE, NO_MEMORY, 0, 1, "D01");
    {
        memmgr_memory memory = MEMMGR_MEMORY_INIT;
        OK(memmgr_memory_get(manager, MEMMGR_NONE, &memory, &error));
        CHECK(memory.resident != MEMMGR_UNKNOWN);
        OK(memmgr_memory_get(manager, D01, &memory, &error));
        EQUAL(MEMMGR_UNKNOWN, memory.resident);
    }
}

/* One that is cleared leaves the others. */
static void several(void)
{
    inject(MEMMGR_CALL_OPEN, NO_ACCESS, 0, UINT64_MAX, NULL);
    inject(MEMMGR_CALL_MAP, BROKEN, 0, UINT64_MAX, NULL);
    FAILS(FILE_ACCESS, load(D01));
    EQUAL(NO_ACCESS, error.system_code);
    OK(memmgr_failure_clear(MEMMGR_CALL_OPEN, &error));
    FAILS(FILE_ACCESS, load(D01));
    EQUAL(BROKEN, error.system_code);
    OK(memmgr_failure_clear(MEMMGR_CALL_MAP, &error));
    OK(load(D01));
}

static int32_t load_another(uint64_t done, uint64_t total, void *user)
{
    (void)total;
    if (done == 0) *(memmgr_status *)user = load(D03);
    return 0;
}

/* A function that is called within another is for its own dimension, and the outer one goes on
 * with its own. */
static void within_another(void)
{
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    memmgr_status inner = MEMMGR_OK;
    OK(load(D01));
    options.progress = load_another;
    options.user = &inner;
    inject(MEMMGR_CALL_OPEN, NO_ACCESS, 0, 1, "D03");
    inject(MEMMGR_CALL_SYNC_FILE, BROKEN, 0, 1, "D01");
    FAILS(FILE_ACCESS, memmgr_dimension_save(manager, D01, file_path("copy"), &options, &error));
    EQUAL(BROKEN, error.system_code);
    EQUAL(MEMMGR_ERR_FILE_ACCESS, inner);
}

static void load_and_unload(void *argument)
{
    const uint32_t dimension = (uint32_t)(uintptr_t)argument;
    unsigned round;
    for (round = 0; round < 100; round++) {
        const memmgr_status status = load(dimension);
        if (status == MEMMGR_OK) OK(unload(dimension));
        else CHECK(status == MEMMGR_ERR_FILE_ACCESS && error.system_code == NO_ACCESS);
    }
}

/* Exactly as many fail as were told to, whoever makes them. */
static void on_many_threads(void)
{
    thread threads[DIMENSIONS];
    unsigned index;
    snapshot before = snapshot_take(manager);
    inject(MEMMGR_CALL_OPEN, NO_ACCESS, 10, 50, NULL);
    for (index = 0; index < DIMENSIONS; index++)
        thread_start(&threads[index], load_and_unload, (void *)(uintptr_t)index);
    for (index = 0; index < DIMENSIONS; index++) thread_join(&threads[index]);
    check_counts(MEMMGR_CALL_OPEN, 300, 50);
    before.stats.loads = 250;
    before.stats.unloads = 250;
    UNCHANGED(before);
}

static void names(void)
{
    uint32_t call, count = 0;
    for (call = 1; strcmp(memmgr_call_name(call), "unknown") != 0; call++) count++;
    EQUAL(MEMMGR_CALL_BARRIER, count);
    CHECK(strcmp(memmgr_call_name(MEMMGR_CALL_MAP), "map") == 0);
    CHECK(strcmp(memmgr_call_name(MEMMGR_CALL_CACHED), "cached") == 0);
}

int main(void)
{
    raw_file = file_fill("raw", 1, 5000);
    layers_file = file_layers("layers");
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(told_as_the_systems);
    RUN(told_by_its_code);
    RUN(after_and_count);
    RUN(only_counted);
    RUN(of_one_dimension);
    RUN(several);
    RUN(within_another);
    RUN(on_many_threads);
    RUN(names);
    return test_end();
}

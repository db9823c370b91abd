/*
 * What is in memory: warmed in steps and told (R2.5), kept there by a lock or refused with the
 * limit's name (R7.1, R9.3), evicted under readers who do not notice (R4.1), on huge pages where the system
 * has given them, and counted.
 */
#include "test.h"
#include "files.h"
#include "threads.h"

#ifndef _WIN32
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#endif

#define MIB ((uint64_t)1 << 20)

enum { TABLE, OTHER, DIMENSIONS };

static memmgr_manager *manager;
static memmgr_capabilities capabilities = MEMMGR_CAPABILITIES_INIT;
static const uint64_t size = 5 * MIB - 100;

static void set_up(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.dimension_count = DIMENSIONS;
    options.capacity = 8 * MIB;
    OK(memmgr_manager_open(&options, &manager, &error));
    OK(memmgr_dimension_load(manager, TABLE, file_fill("table.bin", 7, size), NULL, &error));
}

static void tear_down(void)
{
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static uint64_t pages(uint64_t bytes)
{
    return (bytes + capabilities.page_size - 1) / capabilities.page_size * capabilities.page_size;
}

static memmgr_residency residency(void)
{
    memmgr_residency found = MEMMGR_RESIDENCY_INIT;
    OK(memmgr_residency_get(manager, TABLE, 0, 0, &found, &error));
    EQUAL(TABLE, found.dimension);
    CHECK(found.resident <= found.cached && found.huge <= found.resident);
    return found;
}

/* An emulator of one process counts the pages of another. */
static int counts_pages(void)
{
    if (residency().resident == pages(size)) return 1;
    skip("the pages of a process are not told here");
    return 0;
}

static memmgr_warming warm(const memmgr_warm_options *options)
{
    memmgr_warming done = MEMMGR_WARMING_INIT;
    OK(memmgr_dimension_warm(manager, TABLE, options, &done, &error));
    EQUAL(size, done.size);
    CHECK(done.generation != 0 && done.warm <= size);
    return done;
}

static void warmed_pages_are_resident(void)
{
    memmgr_warming done;
    EQUAL(0, residency().resident);
    done = warm(NULL);
    EQUAL(MEMMGR_WARM_COMPLETE, done.stop);
    EQUAL(MEMMGR_LIMIT_NONE, done.limit_kind);
    EQUAL(size, done.warm);
    if (!counts_pages()) return;
    EQUAL(0, warm(NULL).read);
    OK(memmgr_dimension_evict(manager, TABLE, &error));
    EQUAL(size, warm(NULL).warm);
}

static void ranges_are_counted_in_pages(void)
{
    memmgr_residency found = MEMMGR_RESIDENCY_INIT;
    warm(NULL);
    if (!counts_pages()) return;
    OK(memmgr_residency_get(manager, TABLE, capabilities.page_size - 1, 2, &found, &error));
    EQUAL(capabilities.page_size - 1, found.offset);
    EQUAL(2, found.length);
    EQUAL(2 * capabilities.page_size, found.resident);
    OK(memmgr_residency_get(manager, TABLE, size, 0, &found, &error));
    EQUAL(0, found.length);
    EQUAL(0, found.resident);
    FAILS(OUT_OF_BOUNDS, memmgr_residency_get(manager, TABLE, size, 1, &found, &error));
    EQUAL(0, found.length);
    EQUAL(size, error.requested);
    EQUAL(size, error.limit);
    FAILS(OUT_OF_BOUNDS, memmgr_residency_get(manager, TABLE, size + 1, 0, &found, &error));
    FAILS(OUT_OF_BOUNDS, memmgr_residency_get(manager, TABLE, 1, UINT64_MAX, &found, &error));
}

typedef struct listener {
    unsigned calls;
    uint64_t last, stop_at;
    int unload;
} listener;

static int32_t hear(uint64_t done, uint64_t total, void *user)
{
    listener *who = (listener *)user;
    EQUAL(size, total);
    CHECK(who->calls == 0 ? done == 0 : done >= who->last);
    who->calls++;
    who->last = done;
    /* Nothing of the dimension is held meanwhile. */
    if (who->unload && done > 0) OK(memmgr_dimension_unload(manager, TABLE, 0, 0, &error));
    return done >= who->stop_at;
}

static void warming_is_told_and_stopped(void)
{
    listener who = { 0, 0, UINT64_MAX, 0 };
    memmgr_warm_options options = MEMMGR_WARM_OPTIONS_INIT;
    memmgr_warming done = MEMMGR_WARMING_INIT;
    options.progress = hear;
    options.user = &who;
    options.timeout_ns = MEMMGR_FOREVER;
    EQUAL(MEMMGR_WARM_COMPLETE, warm(&options).stop);
    EQUAL(4, who.calls);
    EQUAL(size, who.last);

    who.calls = 0;
    who.stop_at = 2 * MIB;
    done = warm(&options);
    EQUAL(MEMMGR_WARM_CANCELLED, done.stop);
    EQUAL(2 * MIB, done.warm);

    options.progress = NULL;
    options.timeout_ns = 1;
    done = warm(&options);
    EQUAL(MEMMGR_WARM_TIMEOUT, done.stop);
    EQUAL(0, done.warm);

    options.progress = hear;
    options.timeout_ns = 0;
    who.calls = 0;
    who.stop_at = UINT64_MAX;
    who.unload = 1;
    done = warm(&options);
    EQUAL(MEMMGR_WARM_UNLOADED, done.stop);
    EQUAL(2 * MIB, done.warm);
    FAILS(NOT_LOADED, memmgr_dimension_warm(manager, TABLE, NULL, &done, &error));
    EQUAL(0, done.generation);
}

static void what_is_not_in_memory_is_read_within_budget_and_rate(void)
{
    memmgr_warm_options options = MEMMGR_WARM_OPTIONS_INIT;
    memmgr_warming done;
    uint64_t begun, took;
    /* Nobody has looked at the pages of a hole. */
    const char *path = file_write("holes.bin", "", 0, 0, 0);
    FILE *file = fopen(path, "r+b");
    CHECK(file != NULL && fseek(file, (long)size - 1, SEEK_SET) == 0 && fputc(1, file) == 1);
    CHECK(fclose(file) == 0);
    OK(memmgr_dimension_unload(manager, TABLE, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    OK(memmgr_dimension_load(manager, TABLE, path, NULL, &error));
    options.budget = 1;
    done = warm(&options);
    if (done.stop == MEMMGR_WARM_COMPLETE) {
        skip("holes are in memory here");
        return;
    }
    EQUAL(MEMMGR_WARM_BUDGET, done.stop);
    EQUAL(0, done.read);
    options.budget = 0;
    options.bytes_per_second = 20 * MIB;
    options.timeout_ns = 50000000;
    begun = now_ms();
    done = warm(&options);
    took = now_ms() - begun;
    /* The first 2 MiB take nearly 100 ms. */
    EQUAL(MEMMGR_WARM_TIMEOUT, done.stop);
    EQUAL(2 * MIB, done.warm);
    CHECK(done.read > 0 && done.read <= 2 * MIB && took >= 30);
}

static void locked_pages_stay(void)
{
    memmgr_memory memory = MEMMGR_MEMORY_INIT;
    OK(memmgr_dimension_lock(manager, TABLE, &error));
    EQUAL(pages(size), residency().locked);
    OK(memmgr_dimension_evict(manager, TABLE, &error));
    OK(memmgr_memory_get(manager, TABLE, &memory, &error));
    EQUAL(pages(size), memory.locked);
    OK(memmgr_memory_get(manager, MEMMGR_NONE, &memory, &error));
    EQUAL(pages(size), memory.locked);
    if (!counts_pages()) return;
    EQUAL(pages(size), memory.resident);
    OK(memmgr_dimension_unlock(manager, TABLE, &error));
    OK(memmgr_dimension_unlock(manager, TABLE, &error));
    EQUAL(0, residency().locked);
    FAILS(NOT_LOADED, memmgr_dimension_lock(manager, OTHER, &error));
    FAILS(NOT_LOADED, memmgr_dimension_unlock(manager, OTHER, &error));
}

static void a_lock_ends_with_its_version(void)
{
    static const uint32_t modes[] = { MEMMGR_MODE_READ_WRITE, MEMMGR_MODE_COPY, MEMMGR_MODE_RAM };
    const char *path = file_fill("written.bin", 8, WHOLE_PAGES);
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_memory memory = MEMMGR_MEMORY_INIT;
    unsigned index;
    OK(memmgr_dimension_lock(manager, TABLE, &error));
    for (index = 0; index < 3; index++) {
        options.mode = modes[index];
        OK(memmgr_dimension_reload(manager, TABLE, path, &options, &error));
        EQUAL(0, residency().locked);
        OK(memmgr_dimension_lock(manager, TABLE, &error));
        EQUAL(WHOLE_PAGES, residency().locked);
        OK(memmgr_dimension_unload(manager, TABLE, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
        OK(memmgr_memory_get(manager, TABLE, &memory, &error));
        EQUAL(0, memory.locked);
        OK(memmgr_dimension_load(manager, TABLE, file_path("table.bin"), NULL, &error));
    }
}

/* In a child, which gives up what lets it lock more than its limit. */
static void a_lock_beyond_the_limit_is_refused_by_name(void)
{
#ifdef _WIN32
    skip("the limit grows with what is locked");
#else
    pid_t child;
    int status = 0;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        const struct rlimit limit = { MIB, MIB };
        const memmgr_status known = memmgr_dimension_lock(manager, TABLE, &error);
        const int has_locked = residency().locked == pages(size);
        OK(memmgr_dimension_unlock(manager, TABLE, &error));
        if (known != MEMMGR_OK || !has_locked) _exit(1);
        if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) _exit(1);
        if (getuid() == 0 && setuid(65534) != 0) _exit(77);
        FAILS(ALLOCATION, memmgr_dimension_lock(manager, TABLE, &error));
        EQUAL(MEMMGR_OPERATION_LOCK, error.operation);
        EQUAL(MEMMGR_LIMIT_LOCKED_MEMORY, error.limit_kind);
        EQUAL(pages(size), error.requested);
        EQUAL(0, error.used);
        EQUAL(MIB, error.limit);
        CHECK(error.system_code != 0);
        CHECK(strstr(error.message, "D01: cannot lock") == error.message);
        CHECK(strstr(error.message, "RLIMIT_MEMLOCK") != NULL);
        _exit(test.failures != 0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) skip("no other user to become");
    else CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#endif
}

/* Locks are the parent's. */
static void a_child_has_nothing_locked(void)
{
#ifdef _WIN32
    skip("processes are not forked here");
#else
    pid_t child;
    int status = 0;
    OK(memmgr_dimension_lock(manager, TABLE, &error));
    fflush(NULL);
    child = fork();
    if (child == 0) {
        EQUAL(0, residency().locked);
        OK(memmgr_dimension_evict(manager, TABLE, &error));
        EQUAL(size, warm(NULL).warm);
        _exit(test.failures != 0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    EQUAL(0, status);
    EQUAL(pages(size), residency().locked);
#endif
}

static int stop;

static void read_all_the_time(void *context)
{
    (void)context;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        memmgr_view view = MEMMGR_VIEW_INIT;
        const unsigned char *bytes;
        uint64_t at;
        OK(memmgr_view_acquire(manager, TABLE, 0, size, &view, &error));
        bytes = (const unsigned char *)view.data;
        for (at = 0; at < size; at += 4096) {
            if (bytes[at] != 7) CHECK(!"another byte");
        }
        OK(memmgr_view_release(manager, &view, &error));
    }
}

static void readers_do_not_notice(void)
{
    thread readers[4];
    unsigned index, round;
    stop = 0;
    for (index = 0; index < 4; index++) thread_start(&readers[index], read_all_the_time, NULL);
    for (round = 0; round < 30; round++) {
        OK(memmgr_dimension_evict(manager, TABLE, &error));
        EQUAL(MEMMGR_WARM_COMPLETE, warm(NULL).stop);
        OK(memmgr_dimension_lock(manager, TABLE, &error));
        residency();
        OK(memmgr_dimension_unlock(manager, TABLE, &error));
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (index = 0; index < 4; index++) thread_join(&readers[index]);
}

/* What comes of it is the system's to say: it is either all of the file or this file system has
 * none. */
static void huge_pages_are_asked_for_and_told(void)
{
    static unsigned char bytes[6 * 1024 * 1024 - 128];
    memmgr_array array = MEMMGR_ARRAY_INIT;
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    memmgr_memory memory = MEMMGR_MEMORY_INIT;
    memmgr_residency found = MEMMGR_RESIDENCY_INIT;
    const char *path = file_path("saved.npy");
    array.name = "data";
    array.data = bytes;
    array.dtype = MEMMGR_DTYPE_U8;
    array.rank = 1;
    array.shape[0] = sizeof bytes;
    OK(memmgr_array_save(path, &array, 1, NULL, &error));
    options.flags = MEMMGR_LOAD_HUGE_PAGES;
    options.prefetch = MEMMGR_PREFETCH_POPULATE;
    OK(memmgr_dimension_load(manager, OTHER, path, &options, &error));
    OK(memmgr_dimension_stats_get(manager, OTHER, &stats, &error));
    EQUAL(MEMMGR_LOAD_HUGE_PAGES, stats.load_flags);
    OK(memmgr_residency_get(manager, OTHER, 0, 0, &found, &error));
    OK(memmgr_memory_get(manager, OTHER, &memory, &error));
    EQUAL(found.huge, memory.huge);
    if (!capabilities.huge_pages) EQUAL(0, found.huge);
    if (found.huge == 0) {
        skip("this file system, or this kernel, has no huge pages");
        return;
    }
    EQUAL(6 * MIB, found.huge);
}

int main(void)
{
    OK(memmgr_capabilities_get(&capabilities, &error));
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(warmed_pages_are_resident);
    RUN(ranges_are_counted_in_pages);
    RUN(warming_is_told_and_stopped);
    RUN(what_is_not_in_memory_is_read_within_budget_and_rate);
    RUN(locked_pages_stay);
    RUN(a_lock_ends_with_its_version);
    RUN(a_lock_beyond_the_limit_is_refused_by_name);
    RUN(a_child_has_nothing_locked);
    RUN(readers_do_not_notice);
    RUN(huge_pages_are_asked_for_and_told);
    return test_end();
}

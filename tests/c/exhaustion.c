/*
 * R7.1, R7.2, R9.2, R9.3: each limit that a call can run into is told by its name, its value and
 * what was needed, and the refused call leaves everything as it was.
 *
 * The limits are this process's own, lowered for one call and raised again. Each test says on which
 * systems its limit can be had.
 */
#include "test.h"
#include "files.h"
#include "snapshot.h"

#ifndef _WIN32
#include <sys/resource.h>
#endif

#define SMALL ((uint64_t)64 << 10)

static memmgr_manager *manager;
static const char *file;

static memmgr_manager *open_small(uint32_t flags, uint64_t limit)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened = NULL;
    options.dimension_count = 2;
    options.capacity = SMALL;
    options.flags = flags;
    options.limit = limit;
    OK(memmgr_manager_open(&options, &opened, &error));
    return opened;
}

static void set_up(void)
{
    manager = open_small(0, 0);
}

static void tear_down(void)
{
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* The error says which limit, and in the message by the system's own name for it. */
static void told(uint32_t limit_kind, const char *system_name)
{
    if (!CHECK(error.limit_kind == limit_kind))
        fprintf(stderr, "  limit_kind: %s\n", memmgr_limit_name(error.limit_kind));
    CHECK(strstr(error.message, system_name) != NULL);
    CHECK(error.limit > 0);
    CHECK(error.requested > 0);
    CHECK(error.used + error.requested > error.limit);
}

static void loads_again(void)
{
    OK(memmgr_dimension_load(manager, 0, file, NULL, &error));
    OK(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

#ifndef _WIN32
static struct rlimit lower(int resource, uint64_t value)
{
    struct rlimit before, lowered;
    if (getrlimit(resource, &before) != 0) files_die("getrlimit");
    lowered = before;
    lowered.rlim_cur = value;
    if (setrlimit(resource, &lowered) != 0) files_die("setrlimit");
    return before;
}
#endif

/* RLIMIT_NOFILE. */
static void descriptors(void)
{
#ifdef _WIN32
    skip("Windows has no limit of handles that a process could lower");
#else
    /* The snapshot opens files itself, so that it is taken before and after. */
    snapshot before = snapshot_take(manager);
    struct rlimit limit = lower(RLIMIT_NOFILE, 3);
    FAILS(FILE_ACCESS, memmgr_dimension_load(manager, 0, file, NULL, &error));
    setrlimit(RLIMIT_NOFILE, &limit);
    UNCHANGED(before);
    told(MEMMGR_LIMIT_DESCRIPTORS, "RLIMIT_NOFILE");
    EQUAL(3, error.limit);
    EQUAL(1, error.requested);
    EQUAL(EMFILE, error.system_code);
    CHECK(strcmp(error.file_name, file) == 0);
    loads_again();
#endif
}

/* RLIMIT_AS. */
static void address_space(void)
{
#ifndef __linux__
    skip("only Linux keeps RLIMIT_AS");
#else
    snapshot before = snapshot_take(manager);
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *refused = manager;
    struct rlimit limit = lower(RLIMIT_AS, (uint64_t)1 << 30);
    uint64_t reserved;
    options.dimension_count = 1;
    options.capacity = (uint64_t)1 << 30;
    FAILS(ALLOCATION, memmgr_manager_open(&options, &refused, &error));
    reserved = map_reserved();
    FAILS(ALLOCATION, memmgr_manager_open(&options, &refused, &error));
    CHECK(!map_leaks(reserved));
    setrlimit(RLIMIT_AS, &limit);
    CHECK(refused == NULL);
    UNCHANGED(before);
    told(MEMMGR_LIMIT_ADDRESS_SPACE, "RLIMIT_AS");
    EQUAL((uint64_t)1 << 30, error.limit);
    EQUAL((uint64_t)2 << 30, error.requested);
    EQUAL(ENOMEM, error.system_code);
    loads_again();
#endif
}

/* RLIMIT_DATA. */
static void data(void)
{
#ifndef __linux__
    skip("only Linux counts private mappings in RLIMIT_DATA");
#else
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    snapshot before = snapshot_take(manager);
    struct rlimit limit = lower(RLIMIT_DATA, 4096);
    options.mode = MEMMGR_MODE_COPY;
    FAILS(ALLOCATION, memmgr_dimension_would_fit(manager, 0, file, 0, options.mode, &error));
    told(MEMMGR_LIMIT_DATA, "RLIMIT_DATA");
    FAILS(ALLOCATION, memmgr_dimension_load(manager, 0, file, &options, &error));
    setrlimit(RLIMIT_DATA, &limit);
    UNCHANGED(before);
    told(MEMMGR_LIMIT_DATA, "RLIMIT_DATA");
    EQUAL(4096, error.limit);
    EQUAL(ENOMEM, error.system_code);
    loads_again();
#endif
}

/* vm.max_map_count. */
static void map_entries(void)
{
#ifndef __linux__
    skip("only Linux limits the entries of a process's map");
#else
    const size_t page = 4096;
    unsigned long long most = 0, index;
    uint32_t loaded = 0;
    FILE *setting = fopen("/proc/sys/vm/max_map_count", "r");
    snapshot before;
    char *pages;
    if (setting == NULL || fscanf(setting, "%llu", &most) != 1 || most > 1 << 20)
        skip("the map may have too many entries to fill it");
    if (setting != NULL) fclose(setting);
    if (test.skip_reason != NULL) return;
    pages = (char *)mmap(NULL, 2 * most * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != (char *)MAP_FAILED);
    before = snapshot_take(manager);
    /* Every second page differs from its neighbours, until there is no entry left. */
    for (index = 0; index < most; index++) {
        if (mprotect(pages + 2 * index * page, page, PROT_READ) != 0) break;
    }
    if (index == most) {
        skip("the map has more entries than it says, as under an emulator");
    } else {
        /* What was asked for above was two entries: there may be one. */
        while (loaded < 2 && memmgr_dimension_load(manager, loaded, file, NULL, NULL) == MEMMGR_OK)
            loaded++;
        FAILS(ALLOCATION, memmgr_dimension_load(manager, loaded, file, NULL, &error));
        told(MEMMGR_LIMIT_MAP_ENTRIES, "vm.max_map_count");
        EQUAL(most, error.limit);
        /* 0: the C library's heap was the first to ask for an entry. */
        CHECK(error.system_code == ENOMEM || error.system_code == EAGAIN ||
              error.system_code == 0);
        FAILS(ALLOCATION,
              memmgr_dimension_would_fit(manager, 0, file, 0, MEMMGR_MODE_READ, &error));
        told(MEMMGR_LIMIT_MAP_ENTRIES, "vm.max_map_count");
    }
    munmap(pages, 2 * most * page);
    before.stats.loads += loaded;
    before.stats.unloads += loaded;
    while (loaded-- > 0)
        OK(memmgr_dimension_unload(manager, loaded, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    UNCHANGED(before);
    loads_again();
#endif
}

/* RLIMIT_MEMLOCK, for a process that locks all it maps. */
static void locked_memory(void)
{
#ifndef __linux__
    skip("only Linux has every new mapping locked");
#else
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *refused = manager;
    struct rlimit limit = lower(RLIMIT_MEMLOCK, 1 << 20);
    const uid_t user = geteuid();
    /* For a superuser there is no such limit. */
    const int able = (user != 0 || seteuid(65534) == 0) && mlockall(MCL_FUTURE) == 0;
    if (!able) {
        skip("this process may not lock its memory");
    } else {
        FAILS(ALLOCATION, memmgr_manager_open(&options, &refused, &error));
        CHECK(refused == NULL);
        told(MEMMGR_LIMIT_LOCKED_MEMORY, "RLIMIT_MEMLOCK");
        EQUAL(1 << 20, error.limit);
        EQUAL(EAGAIN, error.system_code);
    }
    munlockall();
    if (seteuid(user) != 0) files_die("seteuid");
    setrlimit(RLIMIT_MEMLOCK, &limit);
    loads_again();
#endif
}

/* More holes than the disk has room for. */
static void disk(void)
{
#ifndef __linux__
    skip("a file this large takes a file system that is known to have holes");
#else
    memmgr_manager_options open_options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    const char *path = file_fill("holes", 1, 4096);
    memmgr_manager *large = NULL;
    uint64_t size = (uint64_t)1 << 46;
    struct stat status;
    /* As large as the file system lets it be. */
    while (size > (uint64_t)1 << 40 && truncate(path, (off_t)size) != 0) size >>= 1;
    open_options.dimension_count = 1;
    open_options.capacity = size;
    open_options.limit = UINT64_MAX;
    options.mode = MEMMGR_MODE_READ_WRITE;
    if (size <= (uint64_t)1 << 40 ||
        memmgr_manager_open(&open_options, &large, NULL) != MEMMGR_OK) {
        skip("the file system has no files that are larger than it");
        return;
    }
    REFUSED(DISK_FULL, large,
            memmgr_dimension_would_fit(large, 0, path, 0, MEMMGR_MODE_READ_WRITE, &error));
    told(MEMMGR_LIMIT_DISK, "disk");
    REFUSED(DISK_FULL, large, memmgr_dimension_load(large, 0, path, &options, &error));
    told(MEMMGR_LIMIT_DISK, "disk");
    EQUAL(size, error.requested);
    EQUAL(ENOSPC, error.system_code);
    /* Not a block was taken for it. */
    CHECK(stat(path, &status) == 0 && status.st_blocks <= 4096 / 512 * 2);
    OK(memmgr_manager_close(large, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
#endif
}

/* The machine's memory, or the control group's, or the commit limit. */
static void memory(void)
{
    memmgr_manager_options open_options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *large;
    open_options.dimension_count = 1;
    open_options.capacity = (uint64_t)1 << 42;
    open_options.limit = UINT64_MAX;
    OK(memmgr_manager_open(&open_options, &large, &error));
    REFUSED(LIMIT_EXCEEDED, large,
            memmgr_dimension_would_fit(large, 0, NULL, (uint64_t)1 << 42, MEMMGR_MODE_RAM,
                                       &error));
    CHECK(error.limit_kind == MEMMGR_LIMIT_MEMORY ||
          error.limit_kind == MEMMGR_LIMIT_CONTROL_GROUP ||
          error.limit_kind == MEMMGR_LIMIT_COMMIT);
    told(error.limit_kind, "memory");
    EQUAL((uint64_t)1 << 42, error.requested);
    CHECK(error.limit > error.used && error.limit < (uint64_t)1 << 42);
    OK(memmgr_manager_close(large, MEMMGR_ON_VIEWS_REFUSE, 0, &error));

    open_options.flags = MEMMGR_OPEN_POPULATE;
    large = manager;
    FAILS(LIMIT_EXCEEDED, memmgr_manager_open(&open_options, &large, &error));
    CHECK(large == NULL && error.limit_kind != MEMMGR_LIMIT_NONE);
    loads_again();
}

/* The budget and the capacity: would_fit says what a load and a reload say. */
static void budget_and_capacity(void)
{
    memmgr_manager *full = open_small(0, 2 * SMALL);
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_error load = MEMMGR_ERROR_INIT;
    OK(memmgr_dimension_would_fit(full, 0, file, 0, MEMMGR_MODE_READ, &error));
    OK(memmgr_dimension_would_fit(full, 0, NULL, SMALL, MEMMGR_MODE_RAM, &error));
    REFUSED(LIMIT_EXCEEDED, full,
            memmgr_dimension_would_fit(full, 0, NULL, SMALL + 1, MEMMGR_MODE_READ, &error));
    EQUAL(MEMMGR_LIMIT_CAPACITY, error.limit_kind);
    EQUAL(SMALL + 1, error.requested);
    EQUAL(SMALL, error.limit);

    OK(memmgr_dimension_load(full, 0, file, NULL, &error));
    OK(memmgr_view_acquire(full, 0, 0, 1, &view, &error));
    CHECK(memmgr_dimension_reload(full, 0, file, NULL, &load) == MEMMGR_ERR_LIMIT_EXCEEDED);
    REFUSED(LIMIT_EXCEEDED, full,
            memmgr_dimension_would_fit(full, 0, file, 0, MEMMGR_MODE_READ, &error));
    EQUAL(MEMMGR_LIMIT_BUDGET, error.limit_kind);
    EQUAL(load.limit_kind, error.limit_kind);
    EQUAL(load.requested, error.requested);
    EQUAL(load.used, error.used);
    EQUAL(load.limit, error.limit);
    CHECK(strstr(error.message, "cannot load") != NULL);
    OK(memmgr_view_release(full, &view, &error));
    OK(memmgr_manager_close(full, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* Free slabs are in nobody's way: a load takes their room, so would_fit counts it. */
static void free_slabs_make_room(void)
{
    const uint64_t limit = 3 * SMALL;
    memmgr_manager *full = open_small(0, limit);
    memmgr_stats stats = MEMMGR_STATS_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    void *block;
    OK(memmgr_dimension_load(full, 0, file, NULL, &error));
    OK(memmgr_view_acquire(full, 0, 0, 1, &view, &error));
    block = GET(memmgr_block_alloc(full, 1000, &error));
    FAILS(LIMIT_EXCEEDED,
          memmgr_dimension_would_fit(full, 0, file, 0, MEMMGR_MODE_RAM, &error));
    OK(memmgr_block_free(full, block, &error));
    OK(memmgr_stats_get(full, &stats, &error));
    CHECK(stats.allocated + SMALL > limit);
    OK(memmgr_dimension_would_fit(full, 0, file, 0, MEMMGR_MODE_RAM, &error));
    OK(memmgr_stats_get(full, &stats, &error));
    EQUAL(0, stats.refusals);
    OK(memmgr_view_release(full, &view, &error));
    OK(memmgr_manager_close(full, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* What is not a matter of room has no limit. */
static void would_fit_refuses_what_a_load_refuses(void)
{
    memmgr_manager *closed = open_small(0, 0);
    FAILS(FILE_ACCESS, memmgr_dimension_would_fit(manager, 0, file_path("missing"), 0,
                                                  MEMMGR_MODE_READ, &error));
    EQUAL(MEMMGR_LIMIT_NONE, error.limit_kind);
    FAILS(FILE_ACCESS, memmgr_dimension_would_fit(manager, 0, file_folder(), 0, MEMMGR_MODE_READ,
                                                  &error));
    FAILS(FORMAT, memmgr_dimension_would_fit(manager, 0, file_fill("empty", 0, 0), 0,
                                             MEMMGR_MODE_READ, &error));
    FAILS(INVALID_ARGUMENT,
          memmgr_dimension_would_fit(manager, 0, NULL, 0, MEMMGR_MODE_READ, &error));
    FAILS(INVALID_ARGUMENT,
          memmgr_dimension_would_fit(manager, 0, file, 1, MEMMGR_MODE_READ, &error));
    FAILS(INVALID_ARGUMENT, memmgr_dimension_would_fit(manager, 0, file, 0, 4, &error));
    FAILS(UNKNOWN_DIMENSION,
          memmgr_dimension_would_fit(manager, 2, file, 0, MEMMGR_MODE_READ, &error));
    FAILS(INVALID_ARGUMENT,
          memmgr_dimension_would_fit(NULL, 0, file, 0, MEMMGR_MODE_READ, &error));
    OK(memmgr_manager_close(closed, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    FAILS(INVALID_ACCESS,
          memmgr_dimension_would_fit(closed, 0, file, 0, MEMMGR_MODE_READ, &error));
}

/* R5.2: the budget's limit taken from the system's. */
static void limit_auto(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_stats stats = MEMMGR_STATS_INIT;
    memmgr_manager *opened;
    OK(memmgr_stats_get(manager, &stats, &error));
    EQUAL(MEMMGR_LIMIT_BUDGET, stats.limit_kind);

    opened = open_small(MEMMGR_OPEN_LIMIT_AUTO, 0);
    OK(memmgr_stats_get(opened, &stats, &error));
    CHECK(stats.limit_kind >= MEMMGR_LIMIT_MEMORY && stats.limit_kind <= MEMMGR_LIMIT_DATA);
    CHECK(stats.limit > stats.allocated && stats.limit < (uint64_t)1 << 50);
    OK(memmgr_manager_close(opened, MEMMGR_ON_VIEWS_REFUSE, 0, &error));

    options.flags = MEMMGR_OPEN_LIMIT_AUTO;
    options.limit = 1;
    FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
#ifdef __linux__
    {
        const struct rlimit space = lower(RLIMIT_AS, (uint64_t)1 << 30);
        opened = open_small(MEMMGR_OPEN_LIMIT_AUTO, 0);
        OK(memmgr_stats_get(opened, &stats, &error));
        EQUAL(MEMMGR_LIMIT_ADDRESS_SPACE, stats.limit_kind);
        CHECK(stats.limit < (uint64_t)1 << 30);
        OK(memmgr_manager_close(opened, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
        /* Regions that it cannot hold. */
        options.limit = 0;
        options.capacity = (uint64_t)1 << 30;
        FAILS(LIMIT_EXCEEDED, memmgr_manager_open(&options, &opened, &error));
        setrlimit(RLIMIT_AS, &space);
        told(MEMMGR_LIMIT_ADDRESS_SPACE, "RLIMIT_AS");
        EQUAL((uint64_t)14 << 30, error.requested);
    }
#endif
}

static struct {
    unsigned warnings;
    uint32_t threshold_percent;
} heard;

static void hear(const memmgr_log_record *record, void *user)
{
    (void)user;
    if (record->operation != MEMMGR_OPERATION_PRESSURE) return;
    heard.warnings++;
    heard.threshold_percent = record->threshold_percent;
}

/* R7.4: one warning for each crossing, also for one that follows a fall that no call looked at. */
static void pressure(void)
{
    /* The room beyond the regions is one capacity: a reload under a view fills it. */
    memmgr_manager *small = open_small(0, 3 * SMALL);
    const char *versions[2] = { file_fill("v1", 1, 100), file_fill("v2", 2, 100) };
    unsigned round;
    OK(memmgr_dimension_load(small, 0, versions[0], NULL, &error));
    OK(memmgr_log_set(MEMMGR_LOG_WARNING, hear, NULL, &error));
    for (round = 1; round <= 3; round++) {
        memmgr_view view = MEMMGR_VIEW_INIT;
        OK(memmgr_view_acquire(small, 0, 0, 1, &view, &error));
        OK(memmgr_dimension_reload(small, 0, versions[round % 2], NULL, &error));
        EQUAL(round, heard.warnings);
        EQUAL(95, heard.threshold_percent);
        OK(memmgr_view_release(small, &view, &error));
        EQUAL(round, heard.warnings);
    }
    /* A refusal is a warning too, and crosses nothing. */
    {
        memmgr_view views[2] = { MEMMGR_VIEW_INIT, MEMMGR_VIEW_INIT };
        OK(memmgr_dimension_load(small, 1, versions[0], NULL, &error));
        OK(memmgr_view_acquire(small, 0, 0, 1, &views[0], &error));
        OK(memmgr_view_acquire(small, 1, 0, 1, &views[1], &error));
        OK(memmgr_dimension_reload(small, 0, versions[0], NULL, &error));
        EQUAL(round, heard.warnings);
        FAILS(LIMIT_EXCEEDED, memmgr_dimension_reload(small, 1, versions[1], NULL, &error));
        EQUAL(round + 1, heard.warnings);
        EQUAL(0, heard.threshold_percent);
        OK(memmgr_view_release(small, &views[0], &error));
        OK(memmgr_view_release(small, &views[1], &error));
    }
    OK(memmgr_log_set(MEMMGR_LOG_WARNING, NULL, NULL, &error));
    OK(memmgr_manager_close(small, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void names(void)
{
    CHECK(strcmp(memmgr_limit_name(MEMMGR_LIMIT_NONE), "none") == 0);
    CHECK(strcmp(memmgr_limit_name(MEMMGR_LIMIT_QUOTA), "quota") == 0);
    CHECK(strcmp(memmgr_limit_name(MEMMGR_LIMIT_ADDRESSABLE), "addressable") == 0);
    CHECK(strcmp(memmgr_limit_name(MEMMGR_LIMIT_ADDRESSABLE + 1), "unknown") == 0);
}

static void emulated(void)
{
    skip("the system's limits are those of the emulator's own process");
}

int main(void)
{
    file = file_fill("file", 1, 5000);
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(names);
    RUN(budget_and_capacity);
    RUN(free_slabs_make_room);
    RUN(would_fit_refuses_what_a_load_refuses);
    RUN(pressure);
    /* An emulator is a process with limits of its own, and takes memory for what is reserved. */
    if (!map_is_true()) {
        RUN(emulated);
        return test_end();
    }
    RUN(descriptors);
    RUN(address_space);
    RUN(data);
    RUN(map_entries);
    RUN(locked_memory);
    RUN(disk);
    RUN(memory);
    RUN(limit_auto);
    return test_end();
}

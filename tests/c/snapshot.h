/*
 * Everything that a refused call must not change: the budget, the state of every dimension, the
 * process's map as far as the manager reserved it, and the open descriptors.
 *
 * The map is looked at on Linux and Windows, descriptors on Linux and macOS; a test that wants
 * more of a system says so itself.
 */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include "test.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#endif
#ifdef __APPLE__
#include <mach/mach.h>
#endif

/* One entry of the process's map. */
typedef struct map_entry {
    uint64_t start, end;
    /* No bytes stand behind it. */
    int reserved;
    /* All that the system says of it. */
    char text[1200];
} map_entry;

/* The entry that begins at `address`, or the next one; 0 if there is none. */
static inline int map_next(uint64_t address, map_entry *entry)
{
#if defined(__linux__)
    FILE *maps = fopen("/proc/self/maps", "r");
    int found = 0;
    while (!found && fgets(entry->text, sizeof entry->text, maps) != NULL) {
        char access[5] = "";
        unsigned long long start, end;
        if (sscanf(entry->text, "%llx-%llx %4s", &start, &end, access) != 3) continue;
        entry->start = start;
        entry->end = end;
        entry->reserved = strcmp(access, "---p") == 0;
        found = start >= address;
    }
    fclose(maps);
    return found;
#elif defined(_WIN32)
    MEMORY_BASIC_INFORMATION info;
    if (VirtualQuery((void *)(uintptr_t)address, &info, sizeof info) == 0) return 0;
    entry->start = (uintptr_t)info.BaseAddress;
    entry->end = entry->start + info.RegionSize;
    entry->reserved = info.State == MEM_RESERVE;
    snprintf(entry->text, sizeof entry->text, "%llx-%llx state %lx type %lx access %lx\n",
             (unsigned long long)entry->start, (unsigned long long)entry->end, info.State,
             info.Type, info.Protect);
    return 1;
#elif defined(__APPLE__)
    vm_address_t start = address;
    vm_size_t size = 0;
    vm_region_basic_info_data_64_t info;
    mach_msg_type_number_t count = VM_REGION_BASIC_INFO_COUNT_64;
    mach_port_t object;
    if (vm_region_64(mach_task_self(), &start, &size, VM_REGION_BASIC_INFO_64,
                     (vm_region_info_t)&info, &count, &object) != KERN_SUCCESS)
        return 0;
    entry->start = start;
    entry->end = start + size;
    entry->reserved = info.protection == VM_PROT_NONE;
    entry->text[0] = 0;
    return 1;
#endif
}

/* False under an emulator whose map shows neighbours that differ as one entry. */
static inline int map_is_true(void)
{
#ifdef __linux__
    const size_t size = 1 << 20;
    char *probe = (char *)mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    map_entry entry;
    int shown;
    madvise(probe, size, MADV_DONTDUMP);
    shown = map_next((uintptr_t)probe + size, &entry) && entry.start == (uintptr_t)probe + size;
    munmap(probe, 2 * size);
    return shown;
#else
    return 1;
#endif
}

/* Writes the map from start to end as text, cut if there is too little room. Windows keeps
 * neighbours apart where a file ended once; as long as nothing stands there they are one. */
static inline void map_text(uint64_t start, uint64_t end, char *text, size_t room)
{
    int after_reserved = 0;
    map_entry entry;
    text[0] = 0;
    for (; start < end && map_next(start, &entry) && entry.start < end; start = entry.end) {
        size_t length;
#ifdef _WIN32
        const int joins = after_reserved && entry.reserved;
        after_reserved = entry.reserved;
        if (joins) continue;
        if (entry.reserved)
            snprintf(entry.text, sizeof entry.text, "%llx- reserved\n",
                     (unsigned long long)entry.start);
#endif
        length = strlen(entry.text);
        if (!CHECK(length < room)) break;
        memcpy(text, entry.text, length + 1);
        text += length;
        room -= length;
    }
    (void)after_reserved;
}

/* Bytes of address space that the process has reserved with nothing behind them. */
static inline uint64_t map_reserved(void)
{
    uint64_t sum = 0;
    map_entry entry;
    entry.end = 0;
    while (map_next(entry.end, &entry)) {
        if (entry.reserved) sum += entry.end - entry.start;
    }
    return sum;
}

/* The process has so much more reserved than before that a manager must be the reason: every test
 * opens one of at least 80 MiB, and a C library's heap is smaller. */
static inline int map_leaks(uint64_t reserved_before)
{
    return map_reserved() > reserved_before + (16 << 20);
}

static inline unsigned count_descriptors(void)
{
    unsigned count = 0;
#ifndef _WIN32
    int fd;
    for (fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) != -1;
#endif
    return count;
}

/* No heap: the C library's own calls for memory are no part of what is looked at. */
typedef struct snapshot {
    memmgr_manager *manager;
    memmgr_stats stats;
    memmgr_dimension_stats dimensions[14];
    char map[16 << 10];
    unsigned descriptors;
} snapshot;

static inline snapshot snapshot_take(memmgr_manager *manager)
{
    const memmgr_stats no_stats = MEMMGR_STATS_INIT;
    const memmgr_dimension_stats no_dimension = MEMMGR_DIMENSION_STATS_INIT;
    snapshot taken;
    uint32_t index;
    taken.manager = manager;
    taken.stats = no_stats;
    CHECK(memmgr_stats_get(manager, &taken.stats, NULL) == MEMMGR_OK);
    CHECK(taken.stats.dimension_count <= 14);
    /* These may count what was refused. */
    taken.stats.refusals = 0;
    taken.stats.peak = 0;
    for (index = 0; index < 14; index++) {
        taken.dimensions[index] = no_dimension;
        if (index >= taken.stats.dimension_count) continue;
        CHECK(memmgr_dimension_stats_get(manager, index, &taken.dimensions[index], NULL) ==
              MEMMGR_OK);
    }
    map_text(taken.dimensions[0].address, taken.dimensions[0].address + taken.stats.reserved,
             taken.map, sizeof taken.map);
    taken.descriptors = count_descriptors();
    return taken;
}

/* Everything is as it was. */
#define UNCHANGED(before) snapshot_check(&(before), __FILE__, __LINE__)

static inline void snapshot_check(const snapshot *before, const char *file, int line)
{
    snapshot after = snapshot_take(before->manager);
    uint32_t index;
    test_check(memcmp(&before->stats, &after.stats, sizeof after.stats) == 0,
               "the manager's stats are unchanged", "", file, line);
    for (index = 0; index < after.stats.dimension_count; index++) {
        test_check(memcmp(&before->dimensions[index], &after.dimensions[index],
                          sizeof(memmgr_dimension_stats)) == 0,
                   "unchanged: ", after.dimensions[index].name, file, line);
    }
    if (!test_check(strcmp(before->map, after.map) == 0, "the map is unchanged", "", file, line))
        fprintf(stderr, "before:\n%safter:\n%s", before->map, after.map);
    test_check(before->descriptors == after.descriptors, "the descriptors are unchanged", "",
               file, line);
}

/* The call fails with MEMMGR_ERR_NAME, and changes nothing of the manager. Not by way of FAILS:
 * the name is pasted before windows.h, which has a WAIT_TIMEOUT too, can replace it. */
#define REFUSED(NAME, refusing_manager, call)                                              \
    do {                                                                                   \
        snapshot before_it = snapshot_take(refusing_manager);                              \
        test_forget();                                                                     \
        test_status(MEMMGR_ERR_##NAME, (call), #call, __FILE__, __LINE__);                 \
        UNCHANGED(before_it);                                                              \
    } while (0)

#endif

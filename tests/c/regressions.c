/*
 * What other libraries of mapped files got wrong, and what stands at the edge of a page, of a
 * granularity, of 32 bits, of a count and of an alphabet. Answers are the same on every system;
 * where one has an answer of its own, the test says which.
 */
#include "test.h"
#include "files.h"
#include "snapshot.h"

#ifdef _WIN32
#include <winioctl.h>
#endif

#define GIB ((uint64_t)1 << 30)

static memmgr_capabilities machine = MEMMGR_CAPABILITIES_INIT;

static memmgr_manager *open_manager(uint32_t count, uint64_t capacity)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened = NULL;
    options.dimension_count = count;
    options.capacity = capacity;
    OK(memmgr_manager_open(&options, &opened, &error));
    return opened;
}

static void close_manager(memmgr_manager *manager)
{
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static memmgr_dimension_stats dimension_of(memmgr_manager *manager, uint32_t index)
{
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    OK(memmgr_dimension_stats_get(manager, index, &stats, &error));
    return stats;
}

static void load(memmgr_manager *manager, uint32_t dimension, const char *path, uint32_t mode)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = mode;
    options.format = MEMMGR_FORMAT_RAW;
    OK(memmgr_dimension_load(manager, dimension, path, &options, &error));
}

static void unload(memmgr_manager *manager, uint32_t dimension)
{
    OK(memmgr_dimension_unload(manager, dimension, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static memmgr_view acquire(memmgr_manager *manager, uint32_t dimension, uint64_t offset,
                           uint64_t length)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    OK(memmgr_view_acquire(manager, dimension, offset, length, &view, &error));
    return view;
}

static void release(memmgr_manager *manager, memmgr_view *view)
{
    OK(memmgr_view_release(manager, view, &error));
}

/* What a dimension shows is `size` bytes, all of this value, and no more. */
static void shows(memmgr_manager *manager, uint32_t dimension, int value, uint64_t size)
{
    memmgr_view view = acquire(manager, dimension, 0, size);
    const unsigned char *bytes = (const unsigned char *)view.data;
    uint64_t index = 0;
    if (bytes == NULL) return;
    while (index < size && bytes[index] == value) index++;
    EQUAL(size, index);
    release(manager, &view);
    FAILS(OUT_OF_BOUNDS, memmgr_view_acquire(manager, dimension, size, 1, &view, &error));
}

/* Pages and granularity ------------------------------------------------------------------- */

/* R8.4: whatever capacity is asked for, a region is that many bytes rounded up to the page, begins
 * at a granularity, holds a file that fills it, and refuses one of a byte more. */
static void capacity_of_any_size_is_rounded_up_to_the_page(void)
{
    const uint64_t page = machine.page_size, granularity = machine.granularity;
    const uint64_t capacities[] = { 1, page - 1, page, page + 1, granularity - 1, granularity,
                                    granularity + 1, 3 * granularity + page + 1 };
    enum { COUNT = sizeof capacities / sizeof capacities[0] };
    memmgr_dimension_spec specs[COUNT];
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *manager;
    uint32_t index;
    char name[32];
    for (index = 0; index < COUNT; index++) {
        const memmgr_dimension_spec spec = MEMMGR_DIMENSION_SPEC_INIT;
        specs[index] = spec;
        specs[index].capacity = capacities[index];
    }
    options.dimension_count = COUNT;
    options.dimensions = specs;
    OK(memmgr_manager_open(&options, &manager, &error));
    for (index = 0; index < COUNT; index++) {
        const uint64_t capacity = (capacities[index] + page - 1) / page * page;
        const memmgr_dimension_stats stats = dimension_of(manager, index);
        EQUAL(capacity, stats.capacity);
        EQUAL(capacity, stats.charged);
        EQUAL(0, stats.address % granularity);
        snprintf(name, sizeof name, "over%u", index);
        FAILS(LIMIT_EXCEEDED,
              memmgr_dimension_load(manager, index, file_fill(name, 1, (size_t)capacity + 1), NULL,
                                    &error));
        snprintf(name, sizeof name, "full%u", index);
        load(manager, index, file_fill(name, (int)index + 1, (size_t)capacity), MEMMGR_MODE_READ);
    }
    for (index = 0; index < COUNT; index++) {
        shows(manager, index, (int)index + 1, dimension_of(manager, index).capacity);
    }
    close_manager(manager);
}

/* R8.4: a region of one page takes a file of one byte and of one page, in every mode, and a reload
 * of it too. */
static void region_of_one_page(void)
{
    const uint64_t page = machine.page_size;
    const char *byte = file_fill("byte", 7, 1), *whole = file_fill("whole", 8, (size_t)page);
    memmgr_manager *manager = open_manager(1, page);
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    uint32_t mode;
    EQUAL(page, dimension_of(manager, 0).capacity);
    for (mode = MEMMGR_MODE_READ; mode <= MEMMGR_MODE_RAM; mode++) {
        options.mode = mode;
        load(manager, 0, whole, mode);
        shows(manager, 0, 8, page);
        if (mode == MEMMGR_MODE_READ_WRITE) {
            /* An emulator may map nothing else but whole pages so. */
            unload(manager, 0);
            continue;
        }
        OK(memmgr_dimension_reload(manager, 0, byte, &options, &error));
        shows(manager, 0, 7, 1);
        unload(manager, 0);
    }
    close_manager(manager);
}

/* R8.4: files one byte short of a page or a granularity, as large, and one byte larger stand in
 * one region after the other, growing and shrinking, while the regions beside it keep theirs
 * (simdjson/simdjson#2728 mapped the sizes between a page and a granularity wrongly). */
static void files_of_all_sizes_follow_each_other(void)
{
    const uint64_t page = machine.page_size, granularity = machine.granularity;
    const uint64_t capacity = 4 * granularity;
    const uint64_t sizes[] = { 1, capacity, page, granularity + 1, page + 1, 2 * granularity,
                               page - 1, granularity, capacity - 1, 2 * page, granularity - 1, 1 };
    static const uint32_t modes[] = { MEMMGR_MODE_READ, MEMMGR_MODE_COPY, MEMMGR_MODE_RAM };
    memmgr_manager *manager = open_manager(3, capacity);
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    const char *paths[sizeof sizes / sizeof sizes[0]];
    size_t mode, index;
    char name[32];
    for (index = 0; index < sizeof sizes / sizeof sizes[0]; index++) {
        snprintf(name, sizeof name, "size%u", (unsigned)index);
        paths[index] = file_fill(name, (int)index + 1, (size_t)sizes[index]);
    }
    load(manager, 0, file_fill("before", 101, (size_t)capacity), MEMMGR_MODE_READ);
    load(manager, 2, file_fill("behind", 102, (size_t)capacity), MEMMGR_MODE_READ);
    for (mode = 0; mode < sizeof modes / sizeof modes[0]; mode++) {
        for (index = 0; index < sizeof sizes / sizeof sizes[0]; index++) {
            load(manager, 1, paths[index], modes[mode]);
            shows(manager, 1, (int)index + 1, sizes[index]);
            unload(manager, 1);
        }
        /* And from slot to slot. */
        options.mode = modes[mode];
        load(manager, 1, paths[0], modes[mode]);
        for (index = 1; index < sizeof sizes / sizeof sizes[0] - 1; index++) {
            OK(memmgr_dimension_reload(manager, 1, paths[index], &options, &error));
            shows(manager, 1, (int)index + 1, sizes[index]);
        }
        unload(manager, 1);
    }
    shows(manager, 0, 101, capacity);
    shows(manager, 2, 102, capacity);
    close_manager(manager);
}

/* R8.4: a view and a layer begin at any byte, also where no system could map a file from
 * (microsoft/onnxruntime#21195 aligned such offsets to the page in place of the granularity). */
static void views_begin_at_any_byte(void)
{
    enum { LENGTH = 5 };
    const uint64_t granularity = machine.granularity, size = 3 * granularity + 7;
    const uint64_t units[] = { 512, 4096, machine.page_size, granularity };
    memmgr_manager *manager = open_manager(1, size);
    unsigned char *bytes = (unsigned char *)malloc((size_t)size);
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    const char *path;
    uint64_t address, offset;
    size_t index;
    for (index = 0; index < size; index++) bytes[index] = (unsigned char)(index % 251);
    path = file_write("counting", bytes, (size_t)size, 0, 0);
    load(manager, 0, path, MEMMGR_MODE_READ);
    address = dimension_of(manager, 0).address;
    for (index = 0; index < sizeof units / sizeof units[0]; index++) {
        for (offset = units[index] - 1; offset <= 2 * units[index] + 1; offset++) {
            /* What is between the two edges is as good as any other. */
            if (offset == units[index] + 2) offset = 2 * units[index] - 1;
            view = acquire(manager, 0, offset, LENGTH);
            EQUAL(address + offset, (uintptr_t)view.data);
            CHECK(memcmp(view.data, bytes + offset, LENGTH) == 0);
            release(manager, &view);
        }
    }
    unload(manager, 0);

    layer.dtype = MEMMGR_DTYPE_U8;
    layer.rank = 1;
    layer.shape[0] = LENGTH;
    layer.offset = granularity + 1;
    strcpy(layer.name, "odd");
    options.layers = &layer;
    options.layer_count = 1;
    OK(memmgr_dimension_load(manager, 0, path, &options, &error));
    OK(memmgr_layer_acquire(manager, 0, "odd", NULL, &view, &error));
    EQUAL(address + layer.offset, (uintptr_t)view.data);
    CHECK(memcmp(view.data, bytes + layer.offset, LENGTH) == 0);
    release(manager, &view);
    close_manager(manager);
    free(bytes);
}

/* R8.3: what is loaded is a mapping of the file, by the system's own account; what is loaded into
 * memory is none. */
static void loading_maps_the_file(void)
{
    const char *path = file_fill("mapped", 1, (size_t)machine.granularity);
    memmgr_manager *manager = open_manager(1, machine.granularity);
    const uint64_t address = dimension_of(manager, 0).address;
    load(manager, 0, path, MEMMGR_MODE_READ);
    {
#if defined(_WIN32)
        MEMORY_BASIC_INFORMATION info;
        CHECK(VirtualQuery((void *)(uintptr_t)address, &info, sizeof info) != 0);
        EQUAL(MEM_MAPPED, info.Type);
        unload(manager, 0);
        load(manager, 0, path, MEMMGR_MODE_RAM);
        CHECK(VirtualQuery((void *)(uintptr_t)address, &info, sizeof info) != 0);
        EQUAL(MEM_PRIVATE, info.Type);
#elif defined(__linux__)
        map_entry entry;
        if (map_is_true()) {
            CHECK(map_next(address, &entry) && strstr(entry.text, path) != NULL);
            unload(manager, 0);
            load(manager, 0, path, MEMMGR_MODE_RAM);
            CHECK(map_next(address, &entry) && strstr(entry.text, path) == NULL);
        } else {
            skip("the map does not show single mappings");
        }
#else
        (void)address;
        skip("the map is not compared here");
#endif
    }
    close_manager(manager);
}

/* 32 bits --------------------------------------------------------------------------------- */

/* Puts bytes at an offset of a file that exists, and leaves a hole before them where the file
 * system can. */
static int put(const char *path, uint64_t offset, const void *bytes, unsigned length)
{
#ifdef _WIN32
    const HANDLE file = CreateFileW(widen(path).text, GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0,
                                    NULL);
    LARGE_INTEGER position;
    DWORD done = 0;
    int written;
    if (file == INVALID_HANDLE_VALUE) return 0;
    position.QuadPart = (LONGLONG)offset;
    /* Where it is refused the file has no holes. */
    (void)DeviceIoControl(file, FSCTL_SET_SPARSE, NULL, 0, NULL, 0, &done, NULL);
    written = SetFilePointerEx(file, position, NULL, FILE_BEGIN) &&
              WriteFile(file, bytes, length, &done, NULL) && done == length;
    CloseHandle(file);
    return written;
#else
    const int file = open(path, O_WRONLY);
    int written;
    if (file < 0) return 0;
    written = pwrite(file, bytes, length, (off_t)offset) == (ssize_t)length;
    close(file);
    return written;
#endif
}

/* R3.5: a file of more than 4 GiB, read on both sides of 2^32, by offset and by layer, in one view
 * longer than that (unum-cloud/usearch kept sizes in 32 bits). */
static void offsets_beyond_32_bits(void)
{
    static const char header[] = "{\"low\":{\"dtype\":\"U8\",\"shape\":[4294967296],"
                                 "\"data_offsets\":[0,4294967296]},"
                                 "\"high\":{\"dtype\":\"F32\",\"shape\":[3],"
                                 "\"data_offsets\":[4294967296,4294967308]}}";
    static const float values[3] = { 1.5f, -2.5f, 3.5f };
    const uint64_t data = 8 + strlen(header), high = data + 4 * GIB;
    const char *path = file_safetensors("sparse.safetensors", strlen(header), header, 0);
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_manager *manager;
    const unsigned char *bytes;
    if (!put(path, high, values, sizeof values) || !put(path, 4 * GIB - 1, "<>", 2)) {
        skip("no room for a file of 4 GiB with holes");
        return;
    }
    manager = open_manager(1, 5 * GIB);
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    EQUAL(high + sizeof values, dimension_of(manager, 0).file_size);

    OK(memmgr_layer_acquire(manager, 0, "high", &layer, &view, &error));
    EQUAL(high, layer.offset);
    EQUAL(sizeof values, view.length);
    EQUAL(dimension_of(manager, 0).address + high, (uintptr_t)view.data);
    CHECK(memcmp(view.data, values, sizeof values) == 0);
    release(manager, &view);

    OK(memmgr_layer_acquire(manager, 0, "low", &layer, &view, &error));
    EQUAL(4 * GIB, view.length);
    release(manager, &view);

    view = acquire(manager, 0, 4 * GIB - 1, 2);
    CHECK(memcmp(view.data, "<>", 2) == 0);
    release(manager, &view);

    view = acquire(manager, 0, 0, high + sizeof values);
    EQUAL(high + sizeof values, view.length);
    bytes = (const unsigned char *)view.data;
    EQUAL('{', bytes[8]);
    EQUAL('>', bytes[4 * GIB]);
    CHECK(memcmp(bytes + high, values, sizeof values) == 0);
    release(manager, &view);

    /* Cut to 32 bits, each of these would be within. */
    FAILS(OUT_OF_BOUNDS, memmgr_view_acquire(manager, 0, 8 * GIB, 1, &view, &error));
    EQUAL(8 * GIB, error.requested);
    FAILS(OUT_OF_BOUNDS, memmgr_view_acquire(manager, 0, 0, 8 * GIB + 1, &view, &error));
    EQUAL(8 * GIB + 1, error.used);
    close_manager(manager);

    manager = open_manager(1, 4 * GIB);
    FAILS(LIMIT_EXCEEDED, memmgr_dimension_load(manager, 0, path, NULL, &error));
    EQUAL(high + sizeof values, error.requested);
    EQUAL(4 * GIB, error.limit);
    close_manager(manager);
}

/* Counts ---------------------------------------------------------------------------------- */

/* Names, order, and a file in each that is tried. */
static void count_of_dimensions(uint32_t count)
{
    const uint64_t granularity = machine.granularity;
    const uint64_t reserved = map_reserved();
    memmgr_manager *manager = open_manager(count, granularity);
    const uint32_t tried[] = { 0, count / 2, count - 1 };
    memmgr_stats stats = MEMMGR_STATS_INIT;
    uint64_t end = 0;
    uint32_t index, found;
    char name[16];
    OK(memmgr_stats_get(manager, &stats, &error));
    EQUAL(count, stats.dimension_count);
    EQUAL(count * granularity, stats.allocated);
    for (index = 0; index < count; index++) {
        const memmgr_dimension_stats dimension = dimension_of(manager, index);
        CHECK(dimension.address >= end);
        end = dimension.address + dimension.capacity;
    }
    for (index = 0; index < sizeof tried / sizeof tried[0]; index++) {
        snprintf(name, sizeof name, "D%02u", tried[index] + 1);
        OK(memmgr_dimension_find(manager, name, &found, &error));
        EQUAL(tried[index], found);
        if (dimension_of(manager, found).state == MEMMGR_STATE_LOADED) continue;
        snprintf(name, sizeof name, "one%u", index);
        load(manager, found, file_fill(name, 5, (size_t)granularity - 1), MEMMGR_MODE_READ);
        shows(manager, found, 5, granularity - 1);
    }
    snprintf(name, sizeof name, "D%02u", count + 1);
    FAILS(UNKNOWN_DIMENSION, memmgr_dimension_find(manager, name, &found, &error));
    FAILS(UNKNOWN_DIMENSION, memmgr_dimension_load(manager, count, file_path("one0"), NULL, &error));
    close_manager(manager);
    CHECK(!map_leaks(reserved));
}

/* R1.2: so many regions of their own as are asked for. */
static void one_dimension(void)
{
    count_of_dimensions(1);
}

/* R1.2. */
static void four_thousand_dimensions(void)
{
    count_of_dimensions(4096);
}

/* Names ----------------------------------------------------------------------------------- */

/* R9.3: a path of letters that no code page has all of is loaded, and told as it was given. */
static void path_beyond_ascii(void)
{
    const char *path = file_fill("Gr\xc3\xb6\xc3\x9f" "e \xe8\xa1\xa8 \xf0\x9f\x97\xba.bin", 9, 100);
    const char *missing = file_path("\xd0\xbd\xd0\xb5\xd1\x82.bin");
    memmgr_manager *manager = open_manager(1, machine.page_size);
    memmgr_verification verification = MEMMGR_VERIFICATION_INIT;
    load(manager, 0, path, MEMMGR_MODE_READ);
    shows(manager, 0, 9, 100);
    CHECK(strcmp(dimension_of(manager, 0).file_name, path) == 0);
    OK(memmgr_dimension_verify(manager, 0, NULL, &verification, &error));
    EQUAL(0, verification.changes);
    FAILS(FILE_ACCESS, memmgr_dimension_reload(manager, 0, missing, NULL, &error));
    CHECK(strcmp(error.file_name, missing) == 0);
    CHECK(strstr(error.message, missing) != NULL);
    close_manager(manager);
}

/* Files that change their names ------------------------------------------------------------ */

static int rename_over(const char *from, const char *to)
{
#ifdef _WIN32
    return MoveFileExW(widen(from).text, widen(to).text, MOVEFILE_REPLACE_EXISTING) != 0;
#else
    return rename(from, to) == 0;
#endif
}

/* Only where nothing is mapped or Windows would say no: elsewhere readers would die by it. */
static int cut(const char *path)
{
    FILE *file = file_open(path, "wb");
    if (file == NULL) return 0;
    fclose(file);
    return 1;
}

/* R2.1: the way to publish under one name that every system has: the mapped file is renamed away,
 * the new one gets its name, and a reload takes it. Views of the old one stay what they are. */
static void mapped_file_is_renamed_away(void)
{
    const char *path = file_fill("published", 1, 100), *away = file_path("published.old");
    memmgr_manager *manager = open_manager(1, machine.page_size);
    memmgr_verification verification = MEMMGR_VERIFICATION_INIT;
    memmgr_view view;
    load(manager, 0, path, MEMMGR_MODE_READ);
    view = acquire(manager, 0, 0, 100);
    CHECK(rename_over(path, away));
    CHECK(rename_over(file_fill("next", 2, 100), path));
    OK(memmgr_dimension_verify(manager, 0, NULL, &verification, &error));
    EQUAL(MEMMGR_CHANGE_REPLACED, verification.changes);
    shows(manager, 0, 1, 100);
    OK(memmgr_dimension_reload(manager, 0, path, NULL, &error));
    shows(manager, 0, 2, 100);
    EQUAL(1, ((const unsigned char *)view.data)[99]);
    release(manager, &view);
    CHECK(file_remove(away) == 0);
    close_manager(manager);
}

/* R7.5: what becomes of a mapped file that is replaced, deleted or cut is the system's to say; what
 * is loaded stays readable, whatever it says (huggingface/safetensors#164, #574). Linux and macOS
 * let all three be, and cutting kills readers, which the fault guard is for; Windows lets none be,
 * except that Wine, and perhaps some Windows, deletes the name. */
static void mapped_file_is_replaced_and_deleted(void)
{
    const char *path = file_fill("replaced", 1, 100), *next = file_fill("replacing", 2, 100);
    memmgr_manager *manager = open_manager(1, machine.page_size);
    load(manager, 0, path, MEMMGR_MODE_READ);
#ifdef _WIN32
    CHECK(!rename_over(next, path));
    CHECK(GetLastError() == ERROR_ACCESS_DENIED || GetLastError() == ERROR_USER_MAPPED_FILE);
    CHECK(!cut(path));
    if (!DeleteFileW(widen(path).text))
        CHECK(GetLastError() == ERROR_ACCESS_DENIED || GetLastError() == ERROR_USER_MAPPED_FILE);
#else
    CHECK(rename_over(next, path));
    shows(manager, 0, 1, 100);
    CHECK(file_remove(path) == 0);
#endif
    shows(manager, 0, 1, 100);
    unload(manager, 0);
    /* Nothing of it is held any more. */
    path = file_fill("replaced", 3, 100);
    CHECK(cut(path));
    CHECK(file_remove(path) == 0);
    close_manager(manager);
}

/* R7.5: a file that was read into memory is anybody's again, on every system. */
static void file_in_memory_is_free(void)
{
    const char *path = file_fill("free", 1, 100);
    memmgr_manager *manager = open_manager(1, machine.page_size);
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    load(manager, 0, path, MEMMGR_MODE_RAM);
    CHECK(cut(path));
    shows(manager, 0, 1, 100);
    CHECK(rename_over(file_fill("freed", 2, 50), path));
    shows(manager, 0, 1, 100);
    options.mode = MEMMGR_MODE_RAM;
    OK(memmgr_dimension_reload(manager, 0, path, &options, &error));
    CHECK(file_remove(path) == 0);
    shows(manager, 0, 2, 50);
    close_manager(manager);
}

/* Words ----------------------------------------------------------------------------------- */

static int ends_with(const char *text, const char *end)
{
    const size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

/* Names come from files: what a terminal would obey is seen, and the reason follows. */
static void names_in_messages_are_escaped(void)
{
    const char *header = "{\"a\\u0000\\u001b[31m\":"
                         "{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}";
    memmgr_manager *manager = open_manager(1, machine.page_size);
    const char *path = file_safetensors("nul.safetensors", strlen(header), header, 8);
    FAILS(FORMAT, memmgr_dimension_load(manager, 0, path, NULL, &error));
    CHECK(strstr(error.message, "D01 layer 'a\\x00\\x1b[31m': cannot load '") == error.message);
    CHECK(strstr(error.message, ".safetensors': layer's name has a NUL inside: at byte ") != NULL);
    CHECK(strcmp(error.layer_name, "a\\x00\\x1b[31m") == 0);
    path = "no\nsuch\x1b\x7f\xe2\x80\xae";
    FAILS(FILE_ACCESS, memmgr_dimension_load(manager, 0, path, NULL, &error));
    CHECK(strstr(error.message, "'no\\nsuch\\x1b\\x7f\\u202e'") != NULL);
    CHECK(strcmp(error.file_name, path) == 0);
    close_manager(manager);
}

/* Of a path that is too long for the message the middle is left out, and nothing else. */
static void long_path_leaves_room_for_the_reason(void)
{
    static char path[MEMMGR_FILE_NAME_SIZE];
    char end[64];
    memmgr_manager *manager = open_manager(1, machine.page_size);
    memset(path, 'x', 4000);
    memcpy(path, "first/", 6);
    strcpy(path + 4000, "/last.npy");
    FAILS(FILE_ACCESS, memmgr_dimension_load(manager, 0, path, NULL, &error));
    CHECK(strstr(error.message, "D01: cannot load 'first/xxx") == error.message);
    CHECK(strstr(error.message, "xxx...xxx") != NULL);
    CHECK(strstr(error.message, "xxx/last.npy': cannot open the file: ") != NULL);
    snprintf(end, sizeof end, " (system error %ld)", (long)error.system_code);
    CHECK(ends_with(error.message, end));
    CHECK(strcmp(error.file_name, path) == 0);
    close_manager(manager);
}

#if !defined _WIN32 && !defined __APPLE__
/* A name is text in a dump, whatever its bytes are. */
static void dumped_name_is_text(void)
{
    static char dump[1 << 16];
    memmgr_manager *manager = open_manager(1, machine.page_size);
    load(manager, 0, file_fill("caf\xe9 \x1b\"\xc3\xa9", 1, 8), MEMMGR_MODE_READ);
    OK(memmgr_dump_json(manager, dump, sizeof dump, NULL, &error));
    CHECK(strstr(dump, "/caf\\\\xe9 \\u001b\\\"\xc3\xa9\",\"size\":8") != NULL);
    close_manager(manager);
}
#endif

static memmgr_status open_counted(uint32_t count, memmgr_manager **opened)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.dimension_count = count;
    options.capacity = machine.page_size;
    return memmgr_manager_open(&options, opened, &error);
}

/* A place in the table of managers is not kept for the size that it was first used for. */
static void closed_managers_are_not_in_the_way(void)
{
    enum { MANAGERS = 1024 };
    static memmgr_manager *managers[MANAGERS];
    static const uint32_t counts[] = { 17, 300, 16, 40 };
    memmgr_manager *stale, *manager;
    unsigned index;
    for (index = 0; index < MANAGERS; index++) managers[index] = open_manager(1, machine.page_size);
    manager = NULL;
    FAILS(ALLOCATION, open_counted(1, &manager));
    EQUAL(1024, error.limit);
    FAILS(ALLOCATION, open_counted(17, &manager));
    stale = managers[500];
    close_manager(stale);
    for (index = 0; index < 4; index++) {
        OK(open_counted(counts[index], &manager));
        CHECK(manager != stale);
        /* Its handle is known, and is not the new one's. */
        FAILS(INVALID_ACCESS, memmgr_pool_trim(stale, NULL, &error));
        FAILS(POOL_CORRUPTION, memmgr_block_free(stale, managers, &error));
        OK(memmgr_pool_trim(manager, NULL, &error));
        close_manager(manager);
        stale = manager;
    }
    for (index = 0; index < MANAGERS; index++) {
        if (index != 500) close_manager(managers[index]);
    }
    for (index = 0; index < 10; index++) OK(open_counted(17 + index * 20, &managers[index]));
    for (index = 0; index < 10; index++) close_manager(managers[index]);
}

int main(void)
{
    OK(memmgr_capabilities_get(&machine, &error));
    RUN(capacity_of_any_size_is_rounded_up_to_the_page);
    RUN(region_of_one_page);
    RUN(files_of_all_sizes_follow_each_other);
    RUN(views_begin_at_any_byte);
    RUN(loading_maps_the_file);
    RUN(offsets_beyond_32_bits);
    RUN(one_dimension);
    RUN(four_thousand_dimensions);
    RUN(closed_managers_are_not_in_the_way);
    RUN(path_beyond_ascii);
    RUN(mapped_file_is_renamed_away);
    RUN(mapped_file_is_replaced_and_deleted);
    RUN(file_in_memory_is_free);
    RUN(names_in_messages_are_escaped);
    RUN(long_path_leaves_room_for_the_reason);
#if !defined _WIN32 && !defined __APPLE__
    RUN(dumped_name_is_text);
#endif
    return test_end();
}

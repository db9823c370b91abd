/*
 * Saving and verifying: every format comes back as it was saved, a file is the old one or the new
 * one whatever fails, and what became of a loaded file is told.
 */
#include "test.h"
#include "files.h"
#include "snapshot.h"

#ifdef _WIN32
#include <io.h>
#include <sys/stat.h>
#include <sys/utime.h>
#define protect(path, yes) _chmod(path, (yes) ? _S_IREAD : _S_IREAD | _S_IWRITE)
#define set_time(path, seconds)                                     \
    do {                                                            \
        struct _utimbuf times = { seconds, seconds };               \
        _utime(path, &times);                                       \
    } while (0)
#else
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>
#define protect(path, yes) chmod(path, (yes) ? 0444 : 0644)
#define set_time(path, seconds)                                     \
    do {                                                            \
        struct utimbuf times = { seconds, seconds };                \
        utime(path, &times);                                        \
    } while (0)
#endif

static memmgr_manager *manager;

static void set_up(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.dimension_count = 3;
    options.capacity = 64 << 20;
    OK(memmgr_manager_open(&options, &manager, &error));
}

static void tear_down(void)
{
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* Files of the test's folder whose name begins as those of unfinished saves do. */
static unsigned unfinished(void)
{
    unsigned count = 0;
#ifdef _WIN32
    struct _finddata_t found;
    char pattern[300];
    intptr_t search;
    snprintf(pattern, sizeof pattern, "%s/.memmgr-*", file_folder());
    search = _findfirst(pattern, &found);
    if (search == -1) return 0;
    do count++;
    while (_findnext(search, &found) == 0);
    _findclose(search);
#else
    DIR *folder = opendir(file_folder());
    struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) count += strncmp(entry->d_name, ".memmgr-", 8) == 0;
    closedir(folder);
#endif
    return count;
}

static uint64_t size_of(const char *path)
{
    FILE *file = fopen(path, "rb");
    long size;
    if (!CHECK(file != NULL)) return 0;
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    fclose(file);
    return (uint64_t)size;
}

/* The file's first byte; -1 if it has none. */
static int first_of(const char *path)
{
    FILE *file = fopen(path, "rb");
    int byte = file == NULL ? -1 : fgetc(file);
    if (file != NULL) fclose(file);
    return byte;
}

static memmgr_array array_of(const char *name, uint32_t dtype, const void *data, uint64_t rows,
                             uint64_t columns)
{
    memmgr_array array = MEMMGR_ARRAY_INIT;
    array.name = name;
    array.dtype = dtype;
    array.data = data;
    array.rank = 2;
    array.shape[0] = rows;
    array.shape[1] = columns;
    return array;
}

static memmgr_verification verify(uint32_t flags, const char *manifest)
{
    memmgr_verify_options options = MEMMGR_VERIFY_OPTIONS_INIT;
    memmgr_verification found = MEMMGR_VERIFICATION_INIT;
    options.flags = flags;
    options.manifest = manifest;
    OK(memmgr_dimension_verify(manager, 0, &options, &found, &error));
    return found;
}

static void every_format_comes_back(void)
{
    static const char *const names[] = { "s.safetensors", "s.npy", "s.bin" };
    float table[6] = { 1, 2, 3, 4, 5, 6 };
    unsigned char ids[5] = { 9, 8, 7, 6, 5 };
    unsigned index;
    for (index = 0; index < 3; index++) {
        const int one = index == 1, described = index != 0;
        const char *path = file_path(names[index]), *manifest = file_path("s.json");
        memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
        memmgr_load_options load = MEMMGR_LOAD_OPTIONS_INIT;
        memmgr_layer layer = MEMMGR_LAYER_INIT;
        memmgr_view view = MEMMGR_VIEW_INIT;
        memmgr_verification found;
        memmgr_array arrays[3];
        arrays[0] = array_of("ids", MEMMGR_DTYPE_U8, ids, 1, 5);
        arrays[1] = array_of("nothing", MEMMGR_DTYPE_F64, NULL, 0, 4);
        arrays[2] = array_of(one ? "data" : "table \xc3\xa9\"", MEMMGR_DTYPE_F32, table, 2, 3);
        options.flags = MEMMGR_SAVE_CHECKSUMS;
        if (described) options.manifest = manifest;
        OK(memmgr_array_save(path, one ? arrays + 2 : arrays, one ? 1 : 3, &options, &error));
        EQUAL(0, unfinished());

        if (index == 2) load.manifest = manifest;
        OK(memmgr_dimension_load(manager, 0, path, &load, &error));
        OK(memmgr_layer_acquire(manager, 0, arrays[2].name, &layer, &view, &error));
        EQUAL(MEMMGR_DTYPE_F32, layer.dtype);
        EQUAL(2, layer.rank);
        EQUAL(3, layer.shape[1]);
        EQUAL(0, layer.offset % (index == 0 ? 4 : 64));
        CHECK(memcmp(view.data, table, sizeof table) == 0);
        OK(memmgr_view_release(manager, &view, &error));

        found = verify(MEMMGR_VERIFY_CHECKSUMS, one ? manifest : NULL);
        EQUAL(0, found.changes);
        EQUAL(one ? 1 : 3, found.checked_count);
        EQUAL(0, found.unchecked_count + found.corrupt_count);
        EQUAL(size_of(path), found.new_size);
        OK(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    }
}

/* A dimension is saved with what was written to it, and as itself again from there. */
static void dimension_is_saved_in_its_format(void)
{
    const char *path = file_path("d1.safetensors"), *again = file_path("d2.safetensors");
    memmgr_load_options load = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    memmgr_write write = MEMMGR_WRITE_INIT;
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    load.mode = MEMMGR_MODE_COPY;
    OK(memmgr_dimension_load(manager, 0, file_layers("layers"), &load, &error));
    OK(memmgr_layer_find(manager, 0, "b", &layer, &error));
    OK(memmgr_write_begin(manager, 0, 0, 0, &write, &error));
    memset((char *)write.data + layer.offset, 'x', (size_t)layer.length);
    /* Not while somebody writes. */
    FAILS(WAIT_TIMEOUT, memmgr_dimension_save(manager, 0, path, NULL, &error));
    OK(memmgr_write_end(manager, &write, &error));
    options.flags = MEMMGR_SAVE_CHECKSUMS;
    OK(memmgr_dimension_save(manager, 0, path, &options, &error));
    OK(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error));

    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    EQUAL(2, verify(MEMMGR_VERIFY_CHECKSUMS, NULL).checked_count);
    OK(memmgr_layer_acquire(manager, 0, "b", &layer, &view, &error));
    CHECK(memcmp(view.data, "xxxxx", 5) == 0);
    OK(memmgr_view_release(manager, &view, &error));
    /* Checksums that nobody asked for are not copied. */
    OK(memmgr_dimension_save(manager, 0, again, NULL, &error));
    OK(memmgr_dimension_reload(manager, 0, again, NULL, &error));
    EQUAL(2, verify(MEMMGR_VERIFY_CHECKSUMS, NULL).unchecked_count);
    options.format = MEMMGR_FORMAT_NPY;
    FAILS(INVALID_ARGUMENT, memmgr_dimension_save(manager, 0, path, &options, &error));
}

static void mapped_file_is_not_saved_over(void)
{
    const char *path = file_fill("mapped", 'm', 5000);
    memmgr_array array = array_of("data", MEMMGR_DTYPE_U8, path, 1, 4);
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    OK(memmgr_dimension_load(manager, 1, path, NULL, &error));
    OK(memmgr_dimension_load(manager, 0, file_fill("other", 'o', 100), NULL, &error));
    REFUSED(ALREADY_LOADED, manager, memmgr_array_save(path, &array, 1, NULL, &error));
    EQUAL(1, error.dimension);
    CHECK(strcmp(error.dimension_name, "D02") == 0);
    CHECK(strstr(error.message, "D02") != NULL && strstr(error.message, path) != NULL);
    REFUSED(ALREADY_LOADED, manager, memmgr_dimension_save(manager, 0, path, NULL, &error));
    EQUAL(1, error.dimension);
    /* Nor as a manifest. */
    options.manifest = path;
    REFUSED(ALREADY_LOADED, manager,
            memmgr_array_save(file_path("unmapped"), &array, 1, &options, &error));
    CHECK(first_of(file_path("unmapped")) == -1);
    EQUAL(0, unfinished());
    OK(memmgr_dimension_unload(manager, 1, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    OK(memmgr_array_save(path, &array, 1, NULL, &error));
    EQUAL(4, size_of(path));
}

static void refused_saves_change_nothing(void)
{
    const char *path = file_fill("kept", 'k', 5000);
    memmgr_array arrays[2];
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    unsigned index;
    arrays[0] = array_of("a", MEMMGR_DTYPE_U8, "abcd", 1, 4);
    arrays[1] = array_of("b", MEMMGR_DTYPE_U8, "abcd", 1, 4);
    /* More than one layer without a manifest; checksums without a place; nothing at all. */
    FAILS(INVALID_ARGUMENT, memmgr_array_save(path, arrays, 2, NULL, &error));
    options.flags = MEMMGR_SAVE_CHECKSUMS;
    FAILS(INVALID_ARGUMENT, memmgr_array_save(path, arrays, 1, &options, &error));
    FAILS(INVALID_ARGUMENT, memmgr_array_save(path, arrays, 0, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_array_save(NULL, arrays, 1, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_array_save(path, NULL, 1, NULL, &error));
    options.manifest = path;
    FAILS(INVALID_ARGUMENT, memmgr_array_save(path, arrays, 1, &options, &error));
    options.manifest = NULL;
    options.flags = 2;
    FAILS(INVALID_ARGUMENT, memmgr_array_save(path, arrays, 1, &options, &error));
    options.flags = 0;
    /* What the formats cannot hold. */
    options.format = MEMMGR_FORMAT_NPY;
    FAILS(INVALID_ARGUMENT, memmgr_array_save(path, arrays, 1, &options, &error));
    arrays[0].name = "data";
    arrays[0].dtype = MEMMGR_DTYPE_F8_E5M2;
    FAILS(INVALID_ARGUMENT, memmgr_array_save(path, arrays, 1, &options, &error));
    options.format = MEMMGR_FORMAT_SAFETENSORS;
    arrays[0].order = MEMMGR_ORDER_FORTRAN;
    FAILS(INVALID_ARGUMENT, memmgr_array_save(path, arrays, 1, &options, &error));
    CHECK(strcmp(error.layer_name, "data") == 0);
    arrays[0].order = MEMMGR_ORDER_C;
    arrays[0].dtype = MEMMGR_DTYPE_C128;
    arrays[0].shape[1] = 0;
    FAILS(INVALID_ARGUMENT, memmgr_array_save(path, arrays, 1, &options, &error));
    arrays[0] = array_of("data", MEMMGR_DTYPE_U8, "abcd", 1, 4);
    arrays[1].name = "data";
    FAILS(INVALID_ARGUMENT, memmgr_array_save(path, arrays, 2, &options, &error));
    options.manifest = file_path("never.json");
    FAILS(INVALID_ARGUMENT, memmgr_array_save(path, arrays, 1, &options, &error));
    /* Arrays that are none. */
    options.manifest = NULL;
    for (index = 0; index < 6; index++) {
        memmgr_array bad = array_of("data", MEMMGR_DTYPE_U8, "abcd", 1, 4);
        if (index == 0) bad.name = NULL;
        if (index == 1) bad.name = "";
        if (index == 2) bad.data = NULL;
        if (index == 3) bad.rank = MEMMGR_RANK_MAX + 1;
        if (index == 4) bad.length = 5;
        if (index == 5) bad.struct_size = 8;
        FAILS(INVALID_ARGUMENT, memmgr_array_save(path, &bad, 1, &options, &error));
    }
    FAILS(FILE_ACCESS, memmgr_array_save(file_folder(), arrays, 1, &options, &error));
    FAILS(FILE_ACCESS, memmgr_array_save(file_path("none/x"), arrays, 1, &options, &error));
    /* ENOENT, or ERROR_PATH_NOT_FOUND. */
    CHECK(error.system_code == 2 || error.system_code == 3);
    EQUAL('k', first_of(path));
    EQUAL(5000, size_of(path));
    EQUAL(0, unfinished());
}

/* However the two names are spelled, a manifest does not take the place of the data. */
static void manifest_is_never_the_file(void)
{
    const char *path = file_path("twice.bin");
    memmgr_array arrays[2];
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    char other[600];
    unsigned index;
    arrays[0] = array_of("a", MEMMGR_DTYPE_U8, "abcd", 1, 4);
    arrays[1] = array_of("b", MEMMGR_DTYPE_U8, "efgh", 1, 4);
    options.manifest = other;
#ifndef _WIN32
    CHECK(symlink(file_folder(), file_path("linked")) == 0);
#endif
    for (index = 0; index < 8; index++) {
        const char *spelling = index % 4 == 0   ? "twice.bin"
                               : index % 4 == 1 ? "./twice.bin"
                               : index % 4 == 2 ? "/./twice.bin"
                                                : "linked/twice.bin";
        snprintf(other, sizeof other, "%s/%s", file_folder(), spelling);
#ifdef _WIN32
        if (index % 4 == 3) continue;
#endif
        if (index == 4) file_fill("twice.bin", 'o', 100);
        FAILS(INVALID_ARGUMENT, memmgr_array_save(path, arrays, 2, &options, &error));
        CHECK(strstr(error.message, "the manifest has the name of the file") != NULL);
        EQUAL(index < 4 ? -1 : 'o', first_of(path));
        EQUAL(0, unfinished());
    }
#ifndef _WIN32
    /* A second name of the old file is another name. */
    snprintf(other, sizeof other, "%s/twice.json", file_folder());
    CHECK(link(path, file_path("twice.json")) == 0);
    OK(memmgr_array_save(path, arrays, 2, &options, &error));
    EQUAL(68, size_of(path));
    EQUAL('a', first_of(path));
    EQUAL('{', first_of(other));
    CHECK(unlink(file_path("linked")) == 0);
#endif
    EQUAL(0, unfinished());
}

/* A file and its manifest get their names together, also if a folder cannot be waited for. */
static void file_and_manifest_belong_together(void)
{
    const char *path = file_path("pair.bin"), *manifest = file_path("pair.json");
    memmgr_array arrays[2];
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    memmgr_load_options load = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_failure failure = MEMMGR_FAILURE_INIT;
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    uint64_t after;
    arrays[0] = array_of("old", MEMMGR_DTYPE_U8, "abcd", 1, 4);
    arrays[1] = array_of("other", MEMMGR_DTYPE_U8, "efgh", 1, 4);
    options.manifest = load.manifest = manifest;
    for (after = 0; after < 2; after++) {
        arrays[0].name = "old";
        OK(memmgr_array_save(path, arrays, 2, &options, &error));
        arrays[0].name = "new";
        failure.call = MEMMGR_CALL_SYNC_FOLDER;
        failure.system_code = 5;
        failure.after = after;
        failure.count = 1;
        OK(memmgr_failure_inject(&failure, &error));
        FAILS(FILE_ACCESS, memmgr_array_save(path, arrays, 2, &options, &error));
        CHECK(strcmp(error.file_name, after == 0 ? path : manifest) == 0);
        CHECK(strstr(error.message, "is in place") != NULL);
        OK(memmgr_failure_clear(0, &error));
        OK(memmgr_dimension_load(manager, 0, path, &load, &error));
        OK(memmgr_layer_find(manager, 0, "new", &layer, &error));
        OK(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    }
    EQUAL(0, unfinished());
}

/* Who has taken away the right to write a file does not want it replaced. */
static void protected_file_is_not_replaced(void)
{
    const char *path = file_fill("protected", 'p', 100), *manifest = file_path("protected.json");
    memmgr_array array = array_of("data", MEMMGR_DTYPE_U8, "abcd", 1, 4);
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    CHECK(protect(path, 1) == 0);
    FAILS(FILE_ACCESS, memmgr_array_save(path, &array, 1, NULL, &error));
    CHECK(strstr(error.message, "write-protected") != NULL);
    /* EACCES, or ERROR_ACCESS_DENIED. */
    CHECK(error.system_code == 13 || error.system_code == 5);
    options.manifest = path;
    FAILS(FILE_ACCESS, memmgr_array_save(file_path("beside"), &array, 1, &options, &error));
    CHECK(strcmp(error.file_name, path) == 0);
    EQUAL(-1, first_of(file_path("beside")));
    EQUAL('p', first_of(path));
    EQUAL(0, unfinished());
    CHECK(protect(path, 0) == 0);
    options.manifest = manifest;
    OK(memmgr_array_save(path, &array, 1, &options, &error));
    EQUAL('a', first_of(path));
}

typedef struct watched {
    uint64_t done, total, calls, stop_at;
} watched;

static int32_t watch(uint64_t done, uint64_t total, void *user)
{
    watched *seen = (watched *)user;
    CHECK(done >= seen->done && done <= total);
    CHECK(seen->calls == 0 ? done == 0 : total == seen->total);
    seen->done = done;
    seen->total = total;
    return ++seen->calls == seen->stop_at;
}

static void progress_is_told_and_can_stop(void)
{
    const size_t size = 9 << 20;
    const char *path = file_path("watched"), *manifest = file_path("watched.json");
    char *bytes = (char *)calloc(1, size);
    memmgr_array array = array_of("data", MEMMGR_DTYPE_U8, bytes, 1, size);
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    memmgr_verify_options verify_options = MEMMGR_VERIFY_OPTIONS_INIT;
    memmgr_verification found = MEMMGR_VERIFICATION_INIT;
    memmgr_load_options load = MEMMGR_LOAD_OPTIONS_INIT;
    watched seen = { 0, 0, 0, 0 };
    uint64_t calls, stop_at;
    options.flags = MEMMGR_SAVE_CHECKSUMS;
    options.manifest = manifest;
    options.progress = watch;
    options.user = &seen;
    OK(memmgr_array_save(path, &array, 1, &options, &error));
    EQUAL(2 * size, seen.total);
    EQUAL(seen.total, seen.done);
    calls = seen.calls;
    CHECK(calls >= 10);
    memset(bytes, 1, size);
    for (stop_at = 1; stop_at <= calls; stop_at++) {
        memset(&seen, 0, sizeof seen);
        seen.stop_at = stop_at;
        FAILS(CANCELLED, memmgr_array_save(path, &array, 1, &options, &error));
        EQUAL(0, first_of(path));
        EQUAL(0, unfinished());
    }
    load.manifest = manifest;
    OK(memmgr_dimension_load(manager, 0, path, &load, &error));
    memset(&seen, 0, sizeof seen);
    verify_options.flags = MEMMGR_VERIFY_CHECKSUMS;
    verify_options.progress = watch;
    verify_options.user = &seen;
    OK(memmgr_dimension_verify(manager, 0, &verify_options, &found, &error));
    EQUAL(size, seen.total);
    CHECK(seen.calls >= 5);
    memset(&seen, 0, sizeof seen);
    seen.stop_at = 3;
    REFUSED(CANCELLED, manager,
            memmgr_dimension_verify(manager, 0, &verify_options, &found, &error));
    EQUAL(0, found.generation);
    free(bytes);
}

static void changes_of_a_file_are_told(void)
{
    const char *path = file_path("changing.safetensors"), *away = file_path("away");
    memmgr_array arrays[2];
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    memmgr_load_options load = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_verify_options verify_options = MEMMGR_VERIFY_OPTIONS_INIT;
    memmgr_verification found = MEMMGR_VERIFICATION_INIT;
    uint32_t corrupt[1] = { 7 };
    uint64_t size;
    FILE *file;
    arrays[0] = array_of("a", MEMMGR_DTYPE_U8, "abcdefgh", 1, 8);
    arrays[1] = array_of("b", MEMMGR_DTYPE_U8, "ijklmnop", 1, 8);
    options.flags = MEMMGR_SAVE_CHECKSUMS;
    OK(memmgr_array_save(path, arrays, 2, &options, &error));
    size = size_of(path);
    /* So that the file is free on every system. */
    load.mode = MEMMGR_MODE_RAM;
    OK(memmgr_dimension_load(manager, 0, path, &load, &error));
    found = verify(0, NULL);
    EQUAL(0, found.changes);
    EQUAL(found.old_inode, found.new_inode);
    EQUAL(found.old_mtime_ns, found.new_mtime_ns);
    EQUAL(0, found.checked_count);

    file = fopen(path, "r+b");
    fseek(file, -1, SEEK_END);
    fputc('!', file);
    fclose(file);
    set_time(path, 1000000000);
    verify_options.flags = MEMMGR_VERIFY_CHECKSUMS;
    verify_options.corrupt_layers = corrupt;
    verify_options.corrupt_capacity = 1;
    OK(memmgr_dimension_verify(manager, 0, &verify_options, &found, &error));
    EQUAL(MEMMGR_CHANGE_REWRITTEN | MEMMGR_CHANGE_CORRUPT, found.changes);
    EQUAL(1000000000ll * 1000000000, found.new_mtime_ns);
    EQUAL(2, found.checked_count);
    EQUAL(1, found.corrupt_count);
    EQUAL(1, corrupt[0]);

    file = fopen(path, "ab");
    fputc('+', file);
    fclose(file);
    found = verify(MEMMGR_VERIFY_CHECKSUMS, NULL);
    EQUAL(MEMMGR_CHANGE_GROWN, found.changes);
    EQUAL(size, found.old_size);
    EQUAL(size + 1, found.new_size);
    EQUAL(2, found.unchecked_count);

    file = fopen(path, "wb");
    fclose(file);
    EQUAL(MEMMGR_CHANGE_SHRUNK, verify(MEMMGR_VERIFY_CHECKSUMS, NULL).changes);

    CHECK(rename(path, away) == 0);
    found = verify(MEMMGR_VERIFY_CHECKSUMS, NULL);
    EQUAL(MEMMGR_CHANGE_GONE, found.changes);
    EQUAL(0, found.new_inode);
    OK(memmgr_array_save(path, arrays, 2, NULL, &error));
    EQUAL(MEMMGR_CHANGE_REPLACED, verify(MEMMGR_VERIFY_CHECKSUMS, NULL).changes);

    OK(memmgr_dimension_reload(manager, 0, path, &load, &error));
    EQUAL(0, verify(0, NULL).changes);
    OK(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    FAILS(NOT_LOADED, memmgr_dimension_verify(manager, 0, NULL, &found, &error));
    FAILS(NOT_LOADED, memmgr_dimension_save(manager, 0, away, NULL, &error));
}

/* What this process writes itself is no change, once it was flushed. */
static void own_writes_are_no_change(void)
{
    const char *path = file_fill("own", 'o', WHOLE_PAGES);
    memmgr_load_options load = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_write write = MEMMGR_WRITE_INIT;
    set_time(path, 1000000000);
    load.mode = MEMMGR_MODE_READ_WRITE;
    OK(memmgr_dimension_load(manager, 0, path, &load, &error));
    EQUAL(0, verify(0, NULL).changes);
    OK(memmgr_write_begin(manager, 0, 0, 0, &write, &error));
    memset(write.data, 'w', 100);
    EQUAL(0, verify(0, NULL).changes);
    OK(memmgr_write_end(manager, &write, &error));
    EQUAL(0, verify(0, NULL).changes);
    OK(memmgr_dimension_flush(manager, 0, &error));
    EQUAL(0, verify(0, NULL).changes);
    set_time(path, 1100000000);
    EQUAL(MEMMGR_CHANGE_REWRITTEN, verify(0, NULL).changes);
}

/* Pages that are gone are an error and no signal, and the error says which. */
static void cut_file_is_not_saved(void)
{
#ifdef _WIN32
    skip("a mapped file cannot be cut on Windows");
#else
    const char *path = file_path("cut.safetensors"), *target = file_fill("target", 't', 10);
    const size_t size = 4 * WHOLE_PAGES;
    char *bytes = (char *)calloc(1, size);
    memmgr_array arrays[2];
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    if (!map_is_true()) {
        free(bytes);
        skip("the emulator ends the program instead of the call");
        return;
    }
    arrays[0] = array_of("first", MEMMGR_DTYPE_U8, bytes, 1, size);
    arrays[1] = array_of("second", MEMMGR_DTYPE_U8, bytes, 1, size);
    OK(memmgr_array_save(path, arrays, 2, NULL, &error));
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    CHECK(truncate(path, (off_t)(size + WHOLE_PAGES)) == 0);
    EQUAL(MEMMGR_CHANGE_SHRUNK, verify(MEMMGR_VERIFY_CHECKSUMS, NULL).changes);
    options.flags = MEMMGR_SAVE_CHECKSUMS;
    REFUSED(FAULTED, manager, memmgr_dimension_save(manager, 0, target, &options, &error));
    CHECK(strcmp(error.layer_name, "second") == 0);
    EQUAL(1, error.layer);
    EQUAL(size + WHOLE_PAGES, error.offset);
    EQUAL('t', first_of(target));
    EQUAL(0, unfinished());
    free(bytes);
#endif
}

int main(void)
{
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(every_format_comes_back);
    RUN(dimension_is_saved_in_its_format);
    RUN(mapped_file_is_not_saved_over);
    RUN(refused_saves_change_nothing);
    RUN(manifest_is_never_the_file);
    RUN(file_and_manifest_belong_together);
    RUN(protected_file_is_not_replaced);
    RUN(progress_is_told_and_can_stop);
    RUN(changes_of_a_file_are_told);
    RUN(own_writes_are_no_change);
    RUN(cut_file_is_not_saved);
    return test_end();
}

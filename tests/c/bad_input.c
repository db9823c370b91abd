/*
 * Files that cannot be loaded and requests that do not fit, each with its own error and each
 * followed by the look that nothing has changed: budget, dimensions, map, descriptors (R7.2).
 */
#include "test.h"
#include "files.h"
#include "snapshot.h"
#include "threads.h"

#ifndef _WIN32
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#endif

#define MIB ((uint64_t)1 << 20)

enum { EMPTY, LOADED, WRITABLE, GONE, DIMENSIONS };

/* One dimension each: without a file, with one in mode r, with one in mode r+, deallocated. */
static memmgr_manager *manager;
static const char *raw_file, *writable_file;

static const char *const dimension_names[] = { "empty", "loaded", "writable", "gone" };

static memmgr_manager *open_manager(uint64_t limit)
{
    memmgr_dimension_spec specs[DIMENSIONS];
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened;
    unsigned index;
    for (index = 0; index < DIMENSIONS; index++) {
        const memmgr_dimension_spec spec = MEMMGR_DIMENSION_SPEC_INIT;
        specs[index] = spec;
        specs[index].name = dimension_names[index];
    }
    options.dimension_count = DIMENSIONS;
    options.dimensions = specs;
    options.capacity = MIB;
    options.limit = limit;
    options.read_timeout_ns = 20000000;
    OK(memmgr_manager_open(&options, &opened, &error));
    return opened;
}

static memmgr_load_options load_options(uint32_t mode, uint32_t format)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = mode;
    options.format = format;
    return options;
}

/* Every dimension that could take a file refuses this one in the same way, and so does a reload,
 * in every mode. */
#define ALL_REFUSE(NAME, path)                                                                  \
    do {                                                                                        \
        uint32_t mode_;                                                                         \
        for (mode_ = MEMMGR_MODE_READ; mode_ <= MEMMGR_MODE_RAM; mode_++) {                     \
            const memmgr_load_options options_ = load_options(mode_, MEMMGR_FORMAT_AUTO);       \
            REFUSED(NAME, manager, memmgr_dimension_load(manager, EMPTY, path, &options_, &error)); \
            CHECK(strcmp(error.dimension_name, "empty") == 0);                                  \
            REFUSED(NAME, manager, memmgr_dimension_load(manager, GONE, path, &options_, &error)); \
            REFUSED(NAME, manager,                                                              \
                    memmgr_dimension_reload(manager, LOADED, path, &options_, &error));         \
            CHECK(strcmp(error.dimension_name, "loaded") == 0);                                 \
        }                                                                                       \
    } while (0)

/* Files ----------------------------------------------------------------------------------- */

static void missing_file(void)
{
    const char *path = file_path("missing");
    ALL_REFUSE(FILE_ACCESS, path);
    CHECK(strcmp(error.file_name, path) == 0);
    EQUAL(2, error.system_code);
    ALL_REFUSE(FILE_ACCESS, "");
    ALL_REFUSE(FILE_ACCESS, "\xff\xfe no text \xc3");
}

static void long_path(void)
{
    static char path[3 * MEMMGR_FILE_NAME_SIZE];
    memset(path, 'x', sizeof path - 1);
    memcpy(path + sizeof path - 5, "tail", 4);
    ALL_REFUSE(FILE_ACCESS, path);
    CHECK(error.system_code != 0);
    /* What is kept of it is its end. */
    EQUAL(MEMMGR_FILE_NAME_SIZE - 1, strlen(error.file_name));
    CHECK(strcmp(error.file_name + strlen(error.file_name) - 4, "tail") == 0);
}

static void empty_file(void)
{
    ALL_REFUSE(FORMAT, file_fill("no bytes", 0, 0));
    CHECK(strstr(error.message, "empty") != NULL);
}

static void large_file(void)
{
    const char *path = file_fill("large", 1, MIB + 1);
    ALL_REFUSE(LIMIT_EXCEEDED, path);
    EQUAL(MIB + 1, error.requested);
    EQUAL(MIB, error.limit);
    CHECK(strcmp(error.file_name, path) == 0);
    /* One byte less fits. */
    OK(memmgr_dimension_load(manager, EMPTY, file_fill("full", 1, MIB), NULL, &error));
    OK(memmgr_dimension_unload(manager, EMPTY, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void folder(void)
{
    ALL_REFUSE(FILE_ACCESS, file_folder());
    CHECK(error.system_code != 0);
    CHECK(strcmp(error.file_name, file_folder()) == 0);
}

static void device(void)
{
#ifdef _WIN32
    ALL_REFUSE(FILE_ACCESS, "NUL");
#else
    ALL_REFUSE(FILE_ACCESS, "/dev/null");
#endif
    CHECK(error.system_code != 0);
}

static void fifo(void)
{
#ifdef _WIN32
    skip("pipes have no place among Windows' files");
#else
    const char *path = file_path("fifo");
    if (!CHECK(mkfifo(path, 0600) == 0)) return;
    /* Nobody ever opens the other end: a load that waited for one would not return. */
    ALL_REFUSE(FILE_ACCESS, path);
    CHECK(error.system_code != 0);
#endif
}

/* Even the superuser cannot read it: the user is another one while it is loaded, or the file is
 * open for nobody else. */
static void unreadable_file(void)
{
    const char *path = file_fill("unreadable", 1, 100);
#ifdef _WIN32
    HANDLE alone = CreateFileA(path, GENERIC_READ, 0, NULL, OPEN_EXISTING, 0, NULL);
    ALL_REFUSE(FILE_ACCESS, path);
    EQUAL(ERROR_SHARING_VIOLATION, error.system_code);
    CloseHandle(alone);
#else
    const uid_t user = geteuid();
    memmgr_status status;
    snapshot before = snapshot_take(manager);
    CHECK(chmod(path, 0) == 0);
    if (user == 0) CHECK(seteuid(65534) == 0);
    status = memmgr_dimension_load(manager, EMPTY, path, NULL, &error);
    if (user == 0) CHECK(seteuid(0) == 0);
    EQUAL(MEMMGR_ERR_FILE_ACCESS, status);
    EQUAL(EACCES, error.system_code);
    UNCHANGED(before);
#endif
}

/* To be read by others, and not to be written by them. */
static void read_only_file(void)
{
    const char *path = file_fill("read-only", 1, 100);
    const memmgr_load_options options = load_options(MEMMGR_MODE_READ_WRITE, MEMMGR_FORMAT_AUTO);
#ifdef _WIN32
    HANDLE reader = CreateFileA(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
    REFUSED(FILE_ACCESS, manager, memmgr_dimension_load(manager, EMPTY, path, &options, &error));
    EQUAL(ERROR_SHARING_VIOLATION, error.system_code);
    CloseHandle(reader);
#else
    const uid_t user = geteuid();
    memmgr_status status;
    CHECK(chmod(path, 0444) == 0 && chmod(file_folder(), 0755) == 0);
    if (user == 0) CHECK(seteuid(65534) == 0);
    status = memmgr_dimension_load(manager, EMPTY, path, &options, &error);
    if (user == 0) CHECK(seteuid(0) == 0);
    EQUAL(MEMMGR_ERR_FILE_ACCESS, status);
    EQUAL(EACCES, error.system_code);
#endif
}

/* Twice ----------------------------------------------------------------------------------- */

static void second_load(void)
{
    const char *path = file_fill("other", 1, 100);
    REFUSED(ALREADY_LOADED, manager, memmgr_dimension_load(manager, LOADED, path, NULL, &error));
    CHECK(strcmp(error.dimension_name, "loaded") == 0);
    REFUSED(NOT_LOADED, manager, memmgr_dimension_reload(manager, EMPTY, path, NULL, &error));
    REFUSED(NOT_LOADED, manager, memmgr_dimension_reload(manager, GONE, path, NULL, &error));
}

static void same_file(void)
{
    const memmgr_load_options write = load_options(MEMMGR_MODE_READ_WRITE, MEMMGR_FORMAT_AUTO);
    const memmgr_load_options ram = load_options(MEMMGR_MODE_RAM, MEMMGR_FORMAT_AUTO);
    memmgr_manager *other = open_manager(0);
    /* One of the two is writable: no, in this manager or in another. */
    REFUSED(ALREADY_LOADED, manager,
            memmgr_dimension_load(manager, EMPTY, writable_file, NULL, &error));
    CHECK(strcmp(error.file_name, writable_file) == 0);
    REFUSED(ALREADY_LOADED, manager,
            memmgr_dimension_load(manager, EMPTY, raw_file, &write, &error));
    REFUSED(ALREADY_LOADED, other, memmgr_dimension_load(other, 0, writable_file, NULL, &error));
    REFUSED(ALREADY_LOADED, other, memmgr_dimension_load(other, 0, raw_file, &write, &error));
    REFUSED(ALREADY_LOADED, manager,
            memmgr_dimension_reload(manager, LOADED, writable_file, NULL, &error));
    /* In place, unless the bytes are copied. */
    REFUSED(ALREADY_LOADED, manager,
            memmgr_dimension_reload(manager, LOADED, raw_file, NULL, &error));
#ifndef _WIN32
    {
        const char *link_path = file_path("link");
        CHECK(link(writable_file, link_path) == 0);
        REFUSED(ALREADY_LOADED, manager,
                memmgr_dimension_load(manager, EMPTY, link_path, NULL, &error));
    }
#endif
    /* Two readers: yes; a copy of what a writer has: yes. */
    OK(memmgr_dimension_load(other, 0, raw_file, NULL, &error));
    OK(memmgr_dimension_load(other, 1, writable_file, &ram, &error));
    OK(memmgr_manager_close(other, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* Ranges ---------------------------------------------------------------------------------- */

static void bounds(void)
{
    static const struct {
        uint64_t offset, length;
        int inside;
    } ranges[] = {
        { 0, 5000, 1 },         { 0, 0, 1 },
        { 4999, 1, 1 },         { 5000, 0, 1 },
        { 2500, 2500, 1 },      { 0, 5001, 0 },
        { 5000, 1, 0 },         { 5001, 0, 0 },
        { 5001, 1, 0 },         { 2500, 2501, 0 },
        { 0, UINT64_MAX, 0 },   { UINT64_MAX, 0, 0 },
        { UINT64_MAX, 1, 0 },   { 1, UINT64_MAX, 0 },
        { UINT64_MAX, UINT64_MAX, 0 },
        { 2, UINT64_MAX - 1, 0 }, /* the sum is 0 */
        { (uint64_t)1 << 63, (uint64_t)1 << 63, 0 },
        { 4096, 905, 0 },       { 8191, 1, 0 }, /* in the last page, behind the end */
        { MIB - 1, 1, 0 },      { MIB, 0, 0 },  /* the capacity is no bound */
    };
    size_t index;
    for (index = 0; index < sizeof ranges / sizeof ranges[0]; index++) {
        memmgr_view view = MEMMGR_VIEW_INIT;
        const uint64_t offset = ranges[index].offset, length = ranges[index].length;
        if (ranges[index].inside) {
            OK(memmgr_view_acquire(manager, LOADED, offset, length, &view, &error));
            EQUAL(offset, view.offset);
            EQUAL(length, view.length);
            CHECK(view.data != NULL);
            OK(memmgr_view_release(manager, &view, &error));
        } else {
            view.data = &view;
            view.length = 77;
            REFUSED(OUT_OF_BOUNDS, manager,
                    memmgr_view_acquire(manager, LOADED, offset, length, &view, &error));
            EQUAL(offset, error.requested);
            EQUAL(length, error.used);
            EQUAL(5000, error.limit);
            CHECK(view.data == NULL && view.length == 0 && view.token[0] == 0);
        }
    }
}

static void unknown(void)
{
    static const char *const names[] = { "", "Loaded", "loaded ", "empt", "D01", "\xff" };
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    size_t index;
    for (index = 0; index < sizeof names / sizeof names[0]; index++) {
        uint32_t dimension = 1;
        REFUSED(UNKNOWN_DIMENSION, manager,
                memmgr_dimension_find(manager, names[index], &dimension, &error));
        EQUAL(0, dimension);
        REFUSED(UNKNOWN_LAYER, manager,
                memmgr_layer_find(manager, LOADED, names[index], &layer, &error));
        REFUSED(UNKNOWN_LAYER, manager,
                memmgr_layer_acquire(manager, LOADED, names[index], &layer, &view, &error));
        CHECK(view.data == NULL);
    }
    REFUSED(UNKNOWN_DIMENSION, manager,
            memmgr_view_acquire(manager, DIMENSIONS, 0, 0, &view, &error));
    REFUSED(UNKNOWN_DIMENSION, manager,
            memmgr_view_acquire(manager, MEMMGR_NONE, 0, 0, &view, &error));
    REFUSED(UNKNOWN_LAYER, manager, memmgr_layer_at(manager, LOADED, 0, &layer, &error));
    REFUSED(UNKNOWN_LAYER, manager, memmgr_layer_at(manager, LOADED, MEMMGR_NONE, &layer, &error));
    REFUSED(NOT_LOADED, manager, memmgr_layer_at(manager, EMPTY, 0, &layer, &error));
    REFUSED(NOT_LOADED, manager, memmgr_layer_find(manager, GONE, "a", &layer, &error));
}

/* Headers --------------------------------------------------------------------------------- */

#define LAYER(name, dtype, shape, offsets) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define ONE_LAYER(dtype, shape, offsets) "{" LAYER("a", dtype, shape, offsets) "}"

#define ONES "1,1,1,1,1,1,1,1"

/* What is wrong with it in any file: of 8 bytes of data. */
static const char *const bad_layers[] = {
    "{\"",
    "{\"a\"",
    "{\"a\":7}",
    "{\"a\":{}}",
    "{\"a\":[]}",
    "{}{}",
    "{} x",
    "{ ,}",
    ONE_LAYER("F32", "[2]", "[0,8]") "\x01",
    ONE_LAYER("F33", "[2]", "[0,8]"),
    ONE_LAYER("f32", "[2]", "[0,8]"),
    ONE_LAYER("F32", "[3]", "[0,8]"),
    ONE_LAYER("F32", "[3]", "[0,12]"),
    ONE_LAYER("F32", "[2]", "[1,9]"),
    ONE_LAYER("F32", "[2]", "[8,0]"),
    ONE_LAYER("F32", "[2]", "[0]"),
    ONE_LAYER("F32", "[2]", "[0,8,8]"),
    ONE_LAYER("F32", "[-2]", "[0,8]"),
    ONE_LAYER("F32", "[2.0]", "[0,8]"),
    ONE_LAYER("F32", "[2e0]", "[0,8]"),
    ONE_LAYER("F32", "[\"2\"]", "[0,8]"),
    ONE_LAYER("F32", "2", "[0,8]"),
    /* 2^64 + 2 elements, 2^62 + 2 elements, 2^32 x 2^32 elements: nearly 8 bytes, modulo 2^64 */
    ONE_LAYER("F32", "[18446744073709551618]", "[0,8]"),
    ONE_LAYER("F32", "[4611686018427387906]", "[0,8]"),
    ONE_LAYER("U8", "[4294967296,4294967296]", "[0,0]"),
    ONE_LAYER("U8", "[8]", "[18446744073709551608,18446744073709551616]"),
    ONE_LAYER("U8", "[8]", "[18446744073709551600,18446744073709551608]"),
    ONE_LAYER("F4", "[3]", "[0,2]"),
    "{" LAYER("a", "U8", "[5]", "[0,5]") "," LAYER("b", "U8", "[4]", "[4,8]") "}",
    "{" LAYER("a", "U8", "[4]", "[0,4]") "," LAYER("a", "U8", "[4]", "[4,8]") "}",
    "{" LAYER("", "U8", "[8]", "[0,8]") "}",
    "{" LAYER("\xff", "U8", "[8]", "[0,8]") "}",
    "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}",
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8],\"more\":1}}",
    "{\"a\":{\"shape\":[8],\"data_offsets\":[0,8]}}",
    "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,8]}}",
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[8]}}",
    "{\"__metadata__\":{\"a\":1}}",
    /* 33 axes */
    ONE_LAYER("U8", "[" ONES "," ONES "," ONES "," ONES ",8]", "[0,8]"),
};

/* A file that is wrong: as it is, and also if its format is named. */
static void refuse_file(const char *path, uint32_t format)
{
    const memmgr_load_options named = load_options(MEMMGR_MODE_READ, format);
    REFUSED(FORMAT, manager, memmgr_dimension_load(manager, EMPTY, path, NULL, &error));
    CHECK(strcmp(error.file_name, path) == 0);
    REFUSED(FORMAT, manager, memmgr_dimension_load(manager, EMPTY, path, &named, &error));
    REFUSED(FORMAT, manager, memmgr_dimension_reload(manager, LOADED, path, NULL, &error));
}

static void bad_safetensors(void)
{
    static const char good[] = ONE_LAYER("F32", "[2]", "[0,8]");
    const uint64_t size = strlen(good);
    const memmgr_load_options named = load_options(MEMMGR_MODE_READ, MEMMGR_FORMAT_SAFETENSORS);
    size_t index;
    OK(memmgr_dimension_load(manager, EMPTY, file_safetensors("good.st", size, good, 8), NULL,
                             &error));
    OK(memmgr_dimension_unload(manager, EMPTY, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    for (index = 0; index < sizeof bad_layers / sizeof bad_layers[0]; index++) {
        const char *header = bad_layers[index];
        const unsigned failures = test.failures;
        refuse_file(file_safetensors("bad.st", strlen(header), header, 8),
                    MEMMGR_FORMAT_SAFETENSORS);
        if (test.failures != failures) fprintf(stderr, "  header: %s\n", header);
    }
    /* Data that is missing, or belongs to no layer. */
    refuse_file(file_safetensors("short.st", size, good, 7), MEMMGR_FORMAT_SAFETENSORS);
    refuse_file(file_safetensors("none.st", size, good, 0), MEMMGR_FORMAT_SAFETENSORS);
    refuse_file(file_safetensors("long.st", size, good, 9), MEMMGR_FORMAT_SAFETENSORS);
    {
        static const char hole[] =
            "{" LAYER("a", "U8", "[3]", "[0,3]") "," LAYER("b", "U8", "[4]", "[4,8]") "}";
        refuse_file(file_safetensors("hole.st", strlen(hole), hole, 8),
                    MEMMGR_FORMAT_SAFETENSORS);
    }
    /* A header that says it is longer or shorter than it is. */
    refuse_file(file_safetensors("lie-1.st", size + 1, good, 8), MEMMGR_FORMAT_SAFETENSORS);
    refuse_file(file_safetensors("lie-2.st", size - 1, good, 8), MEMMGR_FORMAT_SAFETENSORS);
    refuse_file(file_safetensors("lie-3.st", size + 9, good, 8), MEMMGR_FORMAT_SAFETENSORS);
    refuse_file(file_safetensors("lie-4.st", 0, good, 8), MEMMGR_FORMAT_SAFETENSORS);
    refuse_file(file_safetensors("lie-5.st", 100000001, good, 8), MEMMGR_FORMAT_SAFETENSORS);
    refuse_file(file_safetensors("lie-6.st", 0xffffffff, good, 8), MEMMGR_FORMAT_SAFETENSORS);
    /* So long that it is taken for raw bytes, unless the format is named. */
    REFUSED(FORMAT, manager,
            memmgr_dimension_load(manager, EMPTY,
                                  file_safetensors("lie-7.st", UINT64_MAX, good, 8), &named,
                                  &error));
    REFUSED(FORMAT, manager,
            memmgr_dimension_load(manager, EMPTY, file_fill("seven.st", 0, 7), &named, &error));
    /* Cut off at every byte: refused, or too short to be told from raw bytes. */
    for (index = 1; index < 8 + size + 8; index++) {
        char file[256];
        memset(file, 1, sizeof file);
        memset(file, 0, 8);
        file[0] = (char)size;
        memcpy(file + 8, good, size);
        REFUSED(FORMAT, manager,
                memmgr_dimension_load(manager, EMPTY, file_write("cut.st", file, index, 0, 0),
                                      &named, &error));
    }
}

static void bad_npy(void)
{
    static const char good[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
    static const char *const bad[] = {
        "",
        "{",
        "{}",
        "{'descr': '<f4'}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<q9', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 2}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387906,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551618,)}",
        "{'descr': '<u1', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x",
        "[('descr', '<f4')]",
    };
    const memmgr_load_options named = load_options(MEMMGR_MODE_READ, MEMMGR_FORMAT_NPY);
    const unsigned size = (unsigned)strlen(good);
    size_t index;
    OK(memmgr_dimension_load(manager, EMPTY, file_npy("good.npy", size, good, 8), NULL, &error));
    OK(memmgr_dimension_unload(manager, EMPTY, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    for (index = 0; index < sizeof bad / sizeof bad[0]; index++) {
        const unsigned failures = test.failures;
        refuse_file(file_npy("bad.npy", (unsigned)strlen(bad[index]), bad[index], 8),
                    MEMMGR_FORMAT_NPY);
        if (test.failures != failures) fprintf(stderr, "  header: %s\n", bad[index]);
    }
    refuse_file(file_npy("short.npy", size, good, 7), MEMMGR_FORMAT_NPY);
    refuse_file(file_npy("none.npy", size, good, 0), MEMMGR_FORMAT_NPY);
    refuse_file(file_npy("lie-1.npy", 65535, good, 8), MEMMGR_FORMAT_NPY);
    refuse_file(file_npy("lie-2.npy", size - 5, good, 8), MEMMGR_FORMAT_NPY);
    refuse_file(file_write("version.npy", "\x93NUMPY\x04\x00\x00\x00", 10, 0, 8),
                MEMMGR_FORMAT_NPY);
    for (index = 1; index < 10 + size + 8; index++) {
        char file[256];
        memset(file, 1, sizeof file);
        memcpy(file, "\x93NUMPY\x01\x00", 8);
        file[8] = (char)size;
        file[9] = 0;
        memcpy(file + 10, good, size);
        REFUSED(FORMAT, manager,
                memmgr_dimension_load(manager, EMPTY, file_write("cut.npy", file, index, 0, 0),
                                      &named, &error));
    }
}

static void bad_manifests(void)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    const char *path = file_path("manifest.json");
    const char *data = file_fill("data", 1, 8);
    const char *layers = file_layers("layers");
    size_t index;
    options.manifest = path;
    REFUSED(FILE_ACCESS, manager, memmgr_dimension_load(manager, EMPTY, data, &options, &error));
    CHECK(strcmp(error.file_name, path) == 0);
    EQUAL(2, error.system_code);
    for (index = 0; index < sizeof bad_layers / sizeof bad_layers[0]; index++) {
        const unsigned failures = test.failures;
        file_write("manifest.json", bad_layers[index], strlen(bad_layers[index]), 0, 0);
        REFUSED(FORMAT, manager,
                memmgr_dimension_load(manager, EMPTY, data, &options, &error));
        CHECK(strcmp(error.file_name, path) == 0);
        REFUSED(FORMAT, manager,
                memmgr_dimension_reload(manager, LOADED, data, &options, &error));
        if (test.failures != failures) fprintf(stderr, "  manifest: %s\n", bad_layers[index]);
    }
    file_write("manifest.json", "", 0, 0, 0);
    REFUSED(FORMAT, manager, memmgr_dimension_load(manager, EMPTY, data, &options, &error));
    options.manifest = file_folder();
    REFUSED(FILE_ACCESS, manager, memmgr_dimension_load(manager, EMPTY, data, &options, &error));
    CHECK(strcmp(error.file_name, file_folder()) == 0);
    /* A file that describes itself needs no second description. */
    options.manifest = path;
    file_write("manifest.json", "{}", 2, 0, 0);
    REFUSED(INVALID_ARGUMENT, manager,
            memmgr_dimension_load(manager, EMPTY, layers, &options, &error));
    OK(memmgr_dimension_load(manager, EMPTY, data, &options, &error));
    OK(memmgr_dimension_unload(manager, EMPTY, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* Limits ---------------------------------------------------------------------------------- */

static void limit_below_regions(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened = manager;
    const uint64_t reserved = map_reserved();
    const unsigned descriptors = count_descriptors();
    options.limit = 14 * 20 * MIB - 1;
    FAILS(LIMIT_EXCEEDED, memmgr_manager_open(&options, &opened, &error));
    CHECK(opened == NULL);
    EQUAL(14 * 20 * MIB, error.requested);
    EQUAL(0, error.used);
    EQUAL(14 * 20 * MIB - 1, error.limit);
    CHECK(!map_leaks(reserved));
    EQUAL(descriptors, count_descriptors());
    options.limit = 14 * 20 * MIB;
    OK(memmgr_manager_open(&options, &opened, &error));
    OK(memmgr_manager_close(opened, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* The limit has room for the regions and nothing else. */
static void limit_met_later(void)
{
    memmgr_manager *full = open_manager(DIMENSIONS * MIB);
    const char *path = file_fill("other", 1, 100);
    memmgr_view view = MEMMGR_VIEW_INIT;
    OK(memmgr_dimension_load(full, LOADED, raw_file, NULL, &error));
    REFUSED(LIMIT_EXCEEDED, full, memmgr_dimension_reload(full, LOADED, path, NULL, &error));
    EQUAL(MIB, error.requested);
    EQUAL(DIMENSIONS * MIB, error.used);
    EQUAL(DIMENSIONS * MIB, error.limit);
    /* What one dimension gives back another takes for its reload; then the first cannot load. */
    OK(memmgr_dimension_deallocate(full, GONE, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    OK(memmgr_view_acquire(full, LOADED, 0, 1, &view, &error));
    OK(memmgr_dimension_reload(full, LOADED, path, NULL, &error));
    REFUSED(LIMIT_EXCEEDED, full, memmgr_dimension_load(full, GONE, path, NULL, &error));
    CHECK(strcmp(error.dimension_name, "gone") == 0);
    EQUAL(DIMENSIONS * MIB, error.used);
    OK(memmgr_view_release(full, &view, &error));
    OK(memmgr_dimension_load(full, GONE, path, NULL, &error));
    OK(memmgr_manager_close(full, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* A third version while views hold the first two. */
static void both_slots_held(void)
{
    memmgr_manager *other = open_manager(0);
    memmgr_view views[2] = { MEMMGR_VIEW_INIT, MEMMGR_VIEW_INIT };
    const char *path = file_fill("other", 1, 100);
    OK(memmgr_dimension_load(other, 0, raw_file, NULL, &error));
    OK(memmgr_view_acquire(other, 0, 0, 1, &views[0], &error));
    OK(memmgr_dimension_reload(other, 0, path, NULL, &error));
    OK(memmgr_view_acquire(other, 0, 0, 1, &views[1], &error));
    REFUSED(VIEWS_HELD, other, memmgr_dimension_reload(other, 0, raw_file, NULL, &error));
    EQUAL(2, error.views);
    OK(memmgr_dimension_unload(other, 0, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    REFUSED(VIEWS_HELD, other, memmgr_dimension_load(other, 0, raw_file, NULL, &error));
    OK(memmgr_view_release(other, &views[0], &error));
    OK(memmgr_dimension_load(other, 0, raw_file, NULL, &error));
    OK(memmgr_view_release(other, &views[1], &error));
    OK(memmgr_manager_close(other, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* The system ------------------------------------------------------------------------------- */

#ifndef _WIN32
static struct rlimit set_limit(int resource, rlim_t value)
{
    struct rlimit before, now;
    CHECK(getrlimit(resource, &before) == 0);
    now = before;
    now.rlim_cur = value;
    CHECK(setrlimit(resource, &now) == 0);
    return before;
}
#endif

static void no_descriptors(void)
{
#ifdef _WIN32
    skip("handles have no limit");
#else
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    snapshot before = snapshot_take(manager);
    const char *manifest = file_write("manifest.json", "{}", 2, 0, 0);
    const char *data = file_fill("data", 1, 8);
    memmgr_status status;
    struct rlimit limit;
    int free_fd;

    limit = set_limit(RLIMIT_NOFILE, 0);
    status = memmgr_dimension_load(manager, EMPTY, data, NULL, &error);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    EQUAL(MEMMGR_ERR_FILE_ACCESS, status);
    EQUAL(EMFILE, error.system_code);
    CHECK(strcmp(error.file_name, data) == 0);
    CHECK(strcmp(error.dimension_name, "empty") == 0);

    /* One is left: enough for the data and not for its manifest. */
    free_fd = dup(0);
    CHECK(close(free_fd) == 0);
    limit = set_limit(RLIMIT_NOFILE, (rlim_t)free_fd + 1);
    options.manifest = manifest;
    status = memmgr_dimension_load(manager, EMPTY, data, &options, &error);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    EQUAL(MEMMGR_ERR_FILE_ACCESS, status);
    EQUAL(EMFILE, error.system_code);
    CHECK(strcmp(error.file_name, manifest) == 0);
    UNCHANGED(before);
#endif
}

#ifndef _WIN32
/* True if the limit is one in deed: an emulator may not pass it on. */
static int is_refused(int protection)
{
    const size_t size = (size_t)1 << 30;
    void *probe = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (probe == MAP_FAILED) return 1;
    munmap(probe, size);
    return 0;
}
#endif

static void no_address_space(void)
{
#ifdef _WIN32
    skip("a process has no limit of its own");
#else
    memmgr_manager *opened = manager;
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_status status = MEMMGR_OK;
    uint64_t reserved;
    struct rlimit limit;
    int works;
    options.dimension_count = 5;
    options.capacity = 100 * MIB;
    /* What a manager of this size keeps for the next one is there already. */
    OK(memmgr_manager_open(&options, &opened, &error));
    OK(memmgr_manager_close(opened, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    reserved = map_reserved();

    limit = set_limit(RLIMIT_AS, 100 * MIB);
    works = is_refused(PROT_NONE);
    if (works) status = memmgr_manager_open(&options, &opened, &error);
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    if (!works) {
        skip("RLIMIT_AS has no effect");
        return;
    }
    EQUAL(MEMMGR_ERR_ALLOCATION, status);
    CHECK(opened == NULL);
    EQUAL(1000 * MIB, error.requested);
    EQUAL(ENOMEM, error.system_code);
    CHECK(!map_leaks(reserved));
    OK(memmgr_manager_open(&options, &opened, &error));
    OK(memmgr_manager_close(opened, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
#endif
}

/* Address space is there, memory is not. */
static void no_memory(void)
{
#if defined(__linux__)
    const memmgr_load_options ram = load_options(MEMMGR_MODE_RAM, MEMMGR_FORMAT_AUTO);
    const memmgr_load_options copy = load_options(MEMMGR_MODE_COPY, MEMMGR_FORMAT_AUTO);
    const char *path = file_fill("full", 1, MIB);
    const struct rlimit limit = set_limit(RLIMIT_DATA, 4096);
    memmgr_status statuses[2] = { MEMMGR_OK, MEMMGR_OK };
    int64_t codes[2] = { 0, 0 };
    const int works = is_refused(PROT_READ | PROT_WRITE);
    snapshot before;
    CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    if (!works) {
        skip("RLIMIT_DATA has no effect");
        return;
    }
    before = snapshot_take(manager);
    set_limit(RLIMIT_DATA, 4096);
    statuses[0] = memmgr_dimension_load(manager, EMPTY, path, &ram, &error);
    codes[0] = error.system_code;
    statuses[1] = memmgr_dimension_load(manager, EMPTY, path, &copy, &error);
    codes[1] = error.system_code;
    CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    EQUAL(MEMMGR_ERR_ALLOCATION, statuses[0]);
    EQUAL(MEMMGR_ERR_ALLOCATION, statuses[1]);
    EQUAL(ENOMEM, codes[0]);
    EQUAL(ENOMEM, codes[1]);
    EQUAL(MIB, error.requested);
    UNCHANGED(before);
#else
    skip("only Linux limits memory and address space apart");
#endif
}

/* A file system that is full, or a file that may grow no more: r+ allocates a file's holes. */
static void no_disk(void)
{
#if defined(__linux__)
    const memmgr_load_options write = load_options(MEMMGR_MODE_READ_WRITE, MEMMGR_FORMAT_AUTO);
    const char *path = "/dev/full";
    REFUSED(FILE_ACCESS, manager, memmgr_dimension_load(manager, EMPTY, path, &write, &error));
#else
    skip("no device that is always full");
#endif
}

/* What fails a thousand times leaves nothing behind, in whatever the system counts. */
static void no_leaks(void)
{
    memmgr_dimension_spec specs[2] = { MEMMGR_DIMENSION_SPEC_INIT, MEMMGR_DIMENSION_SPEC_INIT };
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened;
    const char *path = file_safetensors("bad.st", 3, "{ ,", 8);
    const uint64_t reserved = map_reserved();
    unsigned count;
#ifdef _WIN32
    DWORD handles_before = 0, handles_after = 0;
    GetProcessHandleCount(GetCurrentProcess(), &handles_before);
#endif
    specs[0].name = specs[1].name = "twice";
    options.dimension_count = 2;
    options.dimensions = specs;
    for (count = 0; count < 1000; count++) {
        memmgr_status opening = memmgr_manager_open(&options, &opened, NULL);
        memmgr_status loading = memmgr_dimension_load(manager, EMPTY, path, NULL, NULL);
        if (opening == MEMMGR_ERR_INVALID_ARGUMENT && loading == MEMMGR_ERR_FORMAT) continue;
        EQUAL(MEMMGR_ERR_INVALID_ARGUMENT, opening);
        EQUAL(MEMMGR_ERR_FORMAT, loading);
        return;
    }
    CHECK(!map_leaks(reserved));
#ifdef _WIN32
    GetProcessHandleCount(GetCurrentProcess(), &handles_after);
    CHECK(handles_after < handles_before + 100);
#endif
}

static void set_up(void)
{
    const memmgr_load_options write = load_options(MEMMGR_MODE_READ_WRITE, MEMMGR_FORMAT_AUTO);
    manager = open_manager(0);
    OK(memmgr_dimension_load(manager, LOADED, raw_file, NULL, &error));
    OK(memmgr_dimension_load(manager, WRITABLE, writable_file, &write, &error));
    OK(memmgr_dimension_deallocate(manager, GONE, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void tear_down(void)
{
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

int main(void)
{
    raw_file = file_fill("raw", 1, 5000);
    writable_file = file_fill("written", 1, WHOLE_PAGES);
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(missing_file);
    RUN(long_path);
    RUN(empty_file);
    RUN(large_file);
    RUN(folder);
    RUN(device);
    RUN(fifo);
    RUN(unreadable_file);
    RUN(read_only_file);
    RUN(second_load);
    RUN(same_file);
    RUN(bounds);
    RUN(unknown);
    RUN(bad_safetensors);
    RUN(bad_npy);
    RUN(bad_manifests);
    RUN(limit_below_regions);
    RUN(limit_met_later);
    RUN(both_slots_held);
    RUN(no_descriptors);
    RUN(no_address_space);
    RUN(no_memory);
    RUN(no_disk);
    RUN(no_leaks);
    return test_end();
}

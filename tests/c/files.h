/*
 * Files to load, in a folder of the program's own that goes when it exits.
 *
 * Every function returns the path, which stays valid. A name used again is the same file: where
 * the old one may be mapped, use another name.
 */
#ifndef FILES_H
#define FILES_H

#include "test.h"

#ifdef _WIN32
#include <direct.h>
#include <process.h>
#include <windows.h>
#define files_make_folder(path) _mkdir(path)
#define files_remove_folder(path) _rmdir(path)
#else
#include <sys/stat.h>
#include <unistd.h>
#define files_make_folder(path) mkdir(path, 0755)
#define files_remove_folder(path) rmdir(path)
#endif

#ifdef _WIN32
/* A path in UTF-8 as Windows takes it, which reads `char` in a code page of its own. */
typedef struct wide_path {
    wchar_t text[512];
} wide_path;

static inline wide_path widen(const char *path)
{
    wide_path wide;
    MultiByteToWideChar(CP_UTF8, 0, path, -1, wide.text, sizeof wide.text / sizeof wide.text[0]);
    return wide;
}
#endif

/* fopen and remove, of a path in UTF-8. */
static inline FILE *file_open(const char *path, const char *mode)
{
#ifdef _WIN32
    return _wfopen(widen(path).text, widen(mode).text);
#else
    return fopen(path, mode);
#endif
}

static inline int file_remove(const char *path)
{
#ifdef _WIN32
    return _wremove(widen(path).text);
#else
    return remove(path);
#endif
}

static struct {
    char folder[256];
    char paths[128][320];
    unsigned count;
} files;

static inline void files_die(const char *what)
{
    perror(what);
    exit(2);
}

static inline void files_remove_all(void)
{
    unsigned index;
    for (index = 0; index < files.count; index++) file_remove(files.paths[index]);
    files_remove_folder(files.folder);
}

static inline const char *file_folder(void)
{
    const char *parent = getenv("TMPDIR");
    unsigned number = 0;
    if (files.folder[0] != 0) return files.folder;
#ifdef _WIN32
    parent = getenv("TEMP");
#define getpid _getpid
#endif
    do {
        snprintf(files.folder, sizeof files.folder, "%s/memmgr-test-%ld-%u",
                 parent != NULL ? parent : "/tmp", (long)getpid(), number);
    } while (files_make_folder(files.folder) != 0 && ++number < 100);
    if (number == 100) files_die(files.folder);
    atexit(files_remove_all);
    return files.folder;
}

/* The path of a file of that name, which need not exist. */
static inline const char *file_path(const char *name)
{
    char path[320];
    unsigned index;
    snprintf(path, sizeof path, "%s/%s", file_folder(), name);
    for (index = 0; index < files.count; index++) {
        if (strcmp(files.paths[index], path) == 0) return files.paths[index];
    }
    if (files.count == sizeof files.paths / sizeof files.paths[0]) files_die("too many files");
    return strcpy(files.paths[files.count++], path);
}

/* A file of some bytes, and behind them as many of the value `fill`. */
static inline const char *file_write(const char *name, const void *bytes, size_t size, int fill,
                                     size_t fill_size)
{
    const char *path = file_path(name);
    FILE *file = file_open(path, "wb");
    unsigned char block[4096];
    if (file == NULL) files_die(path);
    if (size > 0 && fwrite(bytes, 1, size, file) != size) files_die(path);
    memset(block, fill, sizeof block);
    while (fill_size > 0) {
        const size_t part = fill_size < sizeof block ? fill_size : sizeof block;
        if (fwrite(block, 1, part, file) != part) files_die(path);
        fill_size -= part;
    }
    if (fclose(file) != 0) files_die(path);
    return path;
}

/* A size for files that are written to: an emulator may map nothing else but whole pages so. */
#define WHOLE_PAGES ((size_t)64 << 10)

/* A raw file of `size` bytes of one value. */
static inline const char *file_fill(const char *name, int value, size_t size)
{
    return file_write(name, "", 0, value, size);
}

/* A file that says that a header of header_size bytes follows, then has this one, then data_size
 * bytes of 1: right if header_size is strlen(header). */
static inline const char *file_safetensors(const char *name, uint64_t header_size,
                                           const char *header, size_t data_size)
{
    char start[2048];
    unsigned index;
    for (index = 0; index < 8; index++) start[index] = (char)(header_size >> 8 * index);
    strcpy(start + 8, header);
    return file_write(name, start, 8 + strlen(header), 1, data_size);
}

/* The same for version 1.0 of NumPy's format. */
static inline const char *file_npy(const char *name, unsigned header_size, const char *header,
                                   size_t data_size)
{
    char start[1024] = "\x93NUMPY\x01";
    start[8] = (char)header_size;
    start[9] = (char)(header_size >> 8);
    strcpy(start + 10, header);
    return file_write(name, start, 10 + strlen(header), 1, data_size);
}

/* Two layers: "a" of 2 x 3 F32 at 0, and "b" of 5 U8 behind it. */
#define FILES_LAYERS                                               \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}," \
    "\"b\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[24,29]}}"

/* A right file with these layers. */
static inline const char *file_layers(const char *name)
{
    return file_safetensors(name, strlen(FILES_LAYERS), FILES_LAYERS, 29);
}

#endif

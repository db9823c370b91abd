/*
 * A table to read: a file of random bytes, loaded into dimension 0 of a manager.
 */
#ifndef TABLE_H
#define TABLE_H

#include <memmgr.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TABLE_SIZE ((uint64_t)20 << 20)

static inline void must(int good, const char *what)
{
    if (good) return;
    fprintf(stderr, "cannot %s\n", what);
    exit(1);
}

/* The file has a name only while this runs. */
static inline memmgr_manager *table_open(uint32_t open_flags, uint32_t mode,
                                         int64_t read_timeout_ns)
{
    static uint64_t block[1 << 16];
    uint64_t random = 1;
    char path[] = "memmgr-bench-XXXXXX";
    int file = mkstemp(path);
    must(file >= 0, "create a file in the current folder");
    for (uint64_t written = 0; written < TABLE_SIZE; written += sizeof block) {
        for (size_t i = 0; i < sizeof block / sizeof *block; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            block[i] = random;
        }
        must(write(file, block, sizeof block) == (ssize_t)sizeof block, "write the file");
    }
    close(file);

    memmgr_manager *manager;
    memmgr_error error = MEMMGR_ERROR_INIT;
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.flags = open_flags;
    options.read_timeout_ns = read_timeout_ns;
    memmgr_load_options load = MEMMGR_LOAD_OPTIONS_INIT;
    load.mode = mode;
    load.prefetch = MEMMGR_PREFETCH_POPULATE;
    must(memmgr_manager_open(&options, &manager, &error) == MEMMGR_OK, error.message);
    must(memmgr_dimension_load(manager, 0, path, &load, &error) == MEMMGR_OK, error.message);
    unlink(path);
    return manager;
}

#endif

/*
 * Opens and closes a manager, loads and unloads a file, or reloads one, so many times, and prints
 * how often memory was allocated and how often a page was missing meanwhile.
 *
 *     count open|load|reload COUNT
 *
 * Run twice with different COUNTs under a tool that counts system calls, the difference is what
 * the additional ones did: everything else is the same in both runs.
 */
#include "../table.h"
#include "../usage.h"

#include <string.h>

#define FILES 2 /* a file is not reloaded from itself */

static const char *paths[FILES] = { "count-0.npy", "count-1.npy" };

/* A header of 128 bytes and 32 KiB of float32. */
static void write_file(const char *path)
{
    static const char magic[10] = "\x93NUMPY\x01\x00\x76\x00";
    static char header[118];
    static const char zeros[32768];
    const char *text = "{'descr': '<f4', 'fortran_order': False, 'shape': (64, 128), }";
    memset(header, ' ', sizeof header);
    memcpy(header, text, strlen(text));
    header[sizeof header - 1] = '\n';
    FILE *file = fopen(path, "wb");
    must(file != NULL, "create the file");
    must(fwrite(magic, sizeof magic, 1, file) == 1, "write the file");
    must(fwrite(header, sizeof header, 1, file) == 1, "write the file");
    must(fwrite(zeros, sizeof zeros, 1, file) == 1, "write the file");
    must(fclose(file) == 0, "write the file");
}

static memmgr_manager *open_manager(void)
{
    memmgr_manager *manager = NULL;
    must(memmgr_manager_open(NULL, &manager, NULL) == MEMMGR_OK, "open");
    return manager;
}

static void close_manager(memmgr_manager *manager)
{
    must(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, NULL) == MEMMGR_OK, "close");
}

static void load(memmgr_manager *manager)
{
    must(memmgr_dimension_load(manager, 0, paths[0], NULL, NULL) == MEMMGR_OK, "load");
}

static void unload(memmgr_manager *manager)
{
    must(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, NULL) == MEMMGR_OK,
         "unload");
}

static void reload(memmgr_manager *manager, const char *path)
{
    must(memmgr_dimension_reload(manager, 0, path, NULL, NULL) == MEMMGR_OK, "reload");
}

int main(int argc, char **argv)
{
    must(argc == 3, "read the workload and the count");
    const char *what = argv[1];
    unsigned long count = strtoul(argv[2], NULL, 10);
    for (size_t i = 0; i < FILES; i++) write_file(paths[i]);
    memmgr_manager *manager = open_manager();
    load(manager);

    struct usage before = usage_now();
    if (strcmp(what, "open") == 0) {
        for (unsigned long i = 0; i < count; i++) close_manager(open_manager());
    } else if (strcmp(what, "load") == 0) {
        for (unsigned long i = 0; i < count; i++) {
            unload(manager);
            load(manager);
        }
    } else if (strcmp(what, "reload") == 0) {
        for (unsigned long i = 0; i < count; i++) reload(manager, paths[(i + 1) % FILES]);
    } else {
        must(0, "find the workload");
    }
    usage_print(before);
    close_manager(manager);
    return 0;
}

/*
 * Times what is done once and not per view: opening, loading, the first view of a child, views of
 * very many dimensions and layers, and a whole query of all fourteen dimensions.
 *
 *     load WORKLOAD ROUNDS
 *
 * Prints an object of JSON per round; within one, all that is compared has its turn.
 */
#define _GNU_SOURCE
#include "../table.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

enum { HOT = 14, TIMES = 50 };

#define FILE_SIZE TABLE_SIZE
#define HEADER_SIZE 128
/* What the manager has, of which the other half is not charged: see slot B. */
#define REGIONS_SIZE (HOT * FILE_SIZE)

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Files ------------------------------------------------------------------------------------ */

/* Saved by the library, so that it stands on huge pages where there are such. */
static const char *saved_file(unsigned index)
{
    static char path[32];
    static uint64_t words[(FILE_SIZE - HEADER_SIZE) / sizeof(uint64_t)];
    memmgr_array array = MEMMGR_ARRAY_INIT;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) words[i] = i * (index + 1);
    array.name = "data";
    array.dtype = MEMMGR_DTYPE_U64;
    array.rank = 1;
    array.shape[0] = sizeof words / sizeof *words;
    array.data = words;
    snprintf(path, sizeof path, "saved-%u.npy", index);
    must(memmgr_array_save(path, &array, 1, NULL, NULL) == MEMMGR_OK, "save a file");
    return path;
}

/* So many layers of 8 bytes, "l0" and so on. */
static const char *layered_file(unsigned count)
{
    static char path[32];
    char *header = malloc((size_t)count * 80 + 16), *end = header;
    must(header != NULL, "allocate a header");
    *end++ = '{';
    for (unsigned i = 0; i < count; i++) {
        end += sprintf(end,
                       "%s\"l%u\":{\"dtype\":\"U64\",\"shape\":[1],\"data_offsets\":[%u,%u]}",
                       i > 0 ? "," : "", i, 8 * i, 8 * i + 8);
    }
    *end++ = '}';
    while ((end - header) % 8 != 0) *end++ = ' ';
    const uint64_t size = (uint64_t)(end - header);
    snprintf(path, sizeof path, "layers-%u.safetensors", count);
    FILE *file = fopen(path, "wb");
    must(file != NULL && fwrite(&size, 8, 1, file) == 1, "write a file");
    must(fwrite(header, size, 1, file) == 1, "write a file");
    must(fseek(file, (long)count * 8 - 1, SEEK_CUR) == 0 && fputc(0, file) == 0, "write a file");
    must(fclose(file) == 0, "write a file");
    free(header);
    return path;
}

static void forget(const char *path)
{
    const int file = open(path, O_RDONLY);
    must(file >= 0 && fsync(file) == 0, "bring a file to the disk");
    must(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0, "drop a file from memory");
    close(file);
}

static memmgr_manager *open_manager(uint32_t count, uint64_t capacity)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *manager = NULL;
    options.dimension_count = count;
    options.capacity = capacity;
    must(memmgr_manager_open(&options, &manager, NULL) == MEMMGR_OK, "open a manager");
    return manager;
}

static void close_manager(memmgr_manager *manager)
{
    must(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, NULL) == MEMMGR_OK, "close");
}

static void load(memmgr_manager *manager, uint32_t dimension, const char *path, uint32_t prefetch,
                 uint32_t flags)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.prefetch = prefetch;
    options.flags = flags;
    must(memmgr_dimension_load(manager, dimension, path, &options, NULL) == MEMMGR_OK, "load");
}

/* A view of a word, or of a layer of one. */
static uint64_t look(memmgr_manager *manager, uint32_t dimension, const char *layer)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    must((layer == NULL ? memmgr_view_acquire(manager, dimension, 0, 8, &view, NULL)
                        : memmgr_layer_acquire(manager, dimension, layer, NULL, &view, NULL)) ==
             MEMMGR_OK,
         "acquire a view");
    const uint64_t word = *(const volatile uint64_t *)view.data;
    must(memmgr_view_release(manager, &view, NULL) == MEMMGR_OK, "release a view");
    return word;
}

/* Loading ---------------------------------------------------------------------------------- */

static uint64_t raw_load_ns(const char *path, int populate)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < TIMES; i++) {
        struct stat status;
        const uint64_t begin = now_ns();
        const int file = open(path, O_RDONLY | O_CLOEXEC);
        must(file >= 0 && fstat(file, &status) == 0, "open a file");
        const size_t size = (size_t)status.st_size;
        void *bytes =
            mmap(NULL, size, PROT_READ, MAP_SHARED | (populate ? MAP_POPULATE : 0), file, 0);
        close(file);
        sum += now_ns() - begin;
        must(bytes != MAP_FAILED && munmap(bytes, size) == 0, "map a file");
    }
    return sum / TIMES;
}

static uint64_t load_ns(memmgr_manager *manager, const char *path, uint32_t prefetch)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < TIMES; i++) {
        const uint64_t begin = now_ns();
        load(manager, 0, path, prefetch, 0);
        sum += now_ns() - begin;
        must(memmgr_dimension_unload(manager, 0, 0, 0, NULL) == MEMMGR_OK, "unload");
    }
    return sum / TIMES;
}

static void time_loads(unsigned rounds)
{
    const char *path = saved_file(0);
    memmgr_manager *manager = open_manager(HOT, 0);
    memmgr_residency found = MEMMGR_RESIDENCY_INIT;
    load(manager, 1, path, MEMMGR_PREFETCH_POPULATE, 0);
    must(memmgr_residency_get(manager, 1, 0, 0, &found, NULL) == MEMMGR_OK, "look at the pages");
    for (unsigned i = 0; i < rounds; i++) {
        printf("{\"raw\": %lu, ", raw_load_ns(path, 0));
        printf("\"memmgr\": %lu, ", load_ns(manager, path, MEMMGR_PREFETCH_LAZY));
        printf("\"raw_populate\": %lu, ", raw_load_ns(path, 1));
        printf("\"memmgr_populate\": %lu, ", load_ns(manager, path, MEMMGR_PREFETCH_POPULATE));
        printf("\"huge\": %lu}\n", found.huge);
    }
    close_manager(manager);
}

/* Opening ---------------------------------------------------------------------------------- */

/* As a program would reserve it: in one piece, or with regions that the process's map shows. */
static uint64_t raw_open_ns(int regions)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < TIMES; i++) {
        const uint64_t begin = now_ns();
        char *base = mmap(NULL, REGIONS_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                          -1, 0);
        must(base != MAP_FAILED, "reserve addresses");
        for (unsigned r = 0; regions && r < HOT; r += 2) {
            must(madvise(base + r * FILE_SIZE, FILE_SIZE, MADV_DONTDUMP) == 0, "divide a range");
        }
        sum += now_ns() - begin;
        must(munmap(base, REGIONS_SIZE) == 0, "give addresses back");
    }
    return sum / TIMES;
}

static void time_opens(unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t sum = 0;
        printf("{\"raw\": %lu, \"regions\": %lu, ", raw_open_ns(0), raw_open_ns(1));
        for (unsigned t = 0; t < TIMES; t++) {
            const uint64_t begin = now_ns();
            memmgr_manager *manager = open_manager(0, 0);
            sum += now_ns() - begin;
            close_manager(manager);
        }
        printf("\"memmgr\": %lu}\n", sum / TIMES);
    }
}

/* Growth ----------------------------------------------------------------------------------- */

static const unsigned dimension_counts[] = { 14, 140, 1400, 14000 };
static const unsigned layer_counts[] = { 10, 1000, 100000, 1000000 };

enum { COUNTS = 4, PASSES = 20000 };

static uint64_t sink;

/* Views of fourteen dimensions, spread over all there are. */
static void time_dimensions(unsigned rounds)
{
    const char *path = saved_file(0);
    memmgr_manager *managers[COUNTS];
    must(truncate(path, 65536) == 0, "cut a file");
    for (unsigned c = 0; c < COUNTS; c++) {
        managers[c] = open_manager(dimension_counts[c], 65536);
        for (unsigned i = 0; i < HOT; i++) {
            memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
            options.format = MEMMGR_FORMAT_RAW;
            must(memmgr_dimension_load(managers[c], i * dimension_counts[c] / HOT, path, &options,
                                       NULL) == MEMMGR_OK,
                 "load");
        }
    }
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned c = 0; c < COUNTS; c++) {
            const uint64_t begin = now_ns();
            for (unsigned pass = 0; pass < PASSES; pass++) {
                for (unsigned i = 0; i < HOT; i++) {
                    sink += look(managers[c], i * dimension_counts[c] / HOT, NULL);
                }
            }
            printf("%s\"%u\": %.2f", c == 0 ? "{" : ", ", dimension_counts[c],
                   (double)(now_ns() - begin) / (PASSES * HOT));
        }
        printf("}\n");
    }
    for (unsigned c = 0; c < COUNTS; c++) close_manager(managers[c]);
}

/* Views of fourteen layers by name, spread over all there are. */
static void time_layers(unsigned rounds)
{
    memmgr_manager *managers[COUNTS];
    char names[COUNTS][HOT][16];
    uint64_t load_ns_of[COUNTS];
    for (unsigned c = 0; c < COUNTS; c++) {
        const char *path = layered_file(layer_counts[c]);
        managers[c] = open_manager(1, 256u << 20);
        const uint64_t begin = now_ns();
        load(managers[c], 0, path, MEMMGR_PREFETCH_POPULATE, 0);
        load_ns_of[c] = now_ns() - begin;
        for (unsigned i = 0; i < HOT; i++) {
            sprintf(names[c][i], "l%u", (unsigned)((uint64_t)i * layer_counts[c] / HOT));
        }
    }
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned c = 0; c < COUNTS; c++) {
            const uint64_t begin = now_ns();
            for (unsigned pass = 0; pass < PASSES; pass++) {
                for (unsigned i = 0; i < HOT; i++) sink += look(managers[c], 0, names[c][i]);
            }
            printf("%s\"%u\": %.2f", c == 0 ? "{" : ", ", layer_counts[c],
                   (double)(now_ns() - begin) / (PASSES * HOT));
        }
        printf(", \"load_ms\": [");
        for (unsigned c = 0; c < COUNTS; c++) {
            printf("%s%.3f", c == 0 ? "" : ", ", (double)load_ns_of[c] / 1e6);
        }
        printf("]}\n");
    }
    for (unsigned c = 0; c < COUNTS; c++) close_manager(managers[c]);
}

/* Children --------------------------------------------------------------------------------- */

/* Pages of files that nobody else maps do not count. */
static uint64_t private_bytes(void)
{
    char line[200];
    unsigned long sum = 0, kib;
    FILE *rollup = fopen("/proc/self/smaps_rollup", "r");
    must(rollup != NULL, "ask what is private");
    while (fgets(line, sizeof line, rollup) != NULL) {
        if (sscanf(line, "Private_Dirty: %lu", &kib) == 1) sum += kib;
    }
    fclose(rollup);
    return (uint64_t)sum << 10;
}

/* What a child reports. */
struct child {
    uint64_t first_view_ns, private_bytes;
};

static struct child child_of(memmgr_manager *manager, unsigned views)
{
    int ends[2];
    struct child found;
    must(pipe(ends) == 0, "make a pipe");
    fflush(NULL);
    const uint64_t begin = now_ns();
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        for (unsigned i = 0; i < views; i++) {
            sink += look(manager, i, NULL);
            if (i == 0) found.first_view_ns = now_ns() - begin;
        }
        if (views == 0) found.first_view_ns = now_ns() - begin;
        found.private_bytes = private_bytes();
        must(write(ends[1], &found, sizeof found) == (ssize_t)sizeof found, "report");
        _exit(0);
    }
    must(read(ends[0], &found, sizeof found) == (ssize_t)sizeof found, "hear of the child");
    must(waitpid(child, NULL, 0) == child, "wait for the child");
    close(ends[0]);
    close(ends[1]);
    return found;
}

static void time_children(unsigned rounds)
{
    const char *path = saved_file(0);
    memmgr_manager *manager = open_manager(HOT, 0);
    for (unsigned i = 0; i < HOT; i++) load(manager, i, path, MEMMGR_PREFETCH_POPULATE, 0);
    for (unsigned i = 0; i < rounds; i++) {
        const struct child nothing = child_of(manager, 0), viewing = child_of(manager, HOT);
        printf("{\"fork\": %lu, \"first_view\": %lu, \"private_before\": %lu, \"private\": %lu}\n",
               nothing.first_view_ns, viewing.first_view_ns, nothing.private_bytes,
               viewing.private_bytes);
    }
    close_manager(manager);
}

/* A query of everything --------------------------------------------------------------------- */

/* The longest of its kind. */
struct longest {
    uint64_t open, load, scan, access, all;
};

static void keep(uint64_t *longest, uint64_t ns)
{
    if (ns > *longest) *longest = ns;
}

static uint64_t scan(memmgr_manager *manager, uint32_t dimension)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    uint64_t sum = 0;
    must(memmgr_view_acquire(manager, dimension, 0, FILE_SIZE, &view, NULL) == MEMMGR_OK, "acquire");
    const uint64_t *words = view.data;
    for (size_t i = 0; i < FILE_SIZE / sizeof *words; i++) sum += words[i];
    must(memmgr_view_release(manager, &view, NULL) == MEMMGR_OK, "release a view");
    return sum;
}

static struct longest query(char paths[HOT][32], uint32_t prefetch, uint32_t flags)
{
    struct longest times = { 0 };
    const uint64_t begin = now_ns();
    memmgr_manager *manager = open_manager(0, 0);
    times.open = now_ns() - begin;
    for (unsigned i = 0; i < HOT; i++) {
        const uint64_t before = now_ns();
        load(manager, i, paths[i], prefetch, flags);
        keep(&times.load, now_ns() - before);
    }
    for (unsigned i = 0; i < HOT; i++) {
        const uint64_t before = now_ns();
        sink += look(manager, i, "data");
        keep(&times.access, now_ns() - before);
    }
    for (unsigned i = 0; i < HOT; i++) {
        const uint64_t before = now_ns();
        sink += scan(manager, i);
        keep(&times.scan, now_ns() - before);
    }
    times.all = now_ns() - begin;
    close_manager(manager);
    return times;
}

static void time_queries(unsigned rounds)
{
    static const struct {
        const char *name;
        int cold;
        uint32_t prefetch, flags;
    } kinds[] = {
        { "cold_lazy", 1, MEMMGR_PREFETCH_LAZY, 0 },
        { "cold_populate", 1, MEMMGR_PREFETCH_POPULATE, 0 },
        { "cold_huge", 1, MEMMGR_PREFETCH_POPULATE, MEMMGR_LOAD_HUGE_PAGES },
        { "warm_lazy", 0, MEMMGR_PREFETCH_LAZY, 0 },
        { "warm_populate", 0, MEMMGR_PREFETCH_POPULATE, 0 },
    };
    char paths[HOT][32];
    for (unsigned i = 0; i < HOT; i++) strcpy(paths[i], saved_file(i));
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
            for (unsigned i = 0; kinds[kind].cold && i < HOT; i++) forget(paths[i]);
            const struct longest times = query(paths, kinds[kind].prefetch, kinds[kind].flags);
            printf("%s\"%s\": {\"open\": %lu, \"load\": %lu, \"access\": %lu, \"scan\": %lu, "
                   "\"all\": %lu}",
                   kind == 0 ? "{" : ", ", kinds[kind].name, times.open, times.load, times.access,
                   times.scan, times.all);
        }
        printf("}\n");
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(unsigned rounds);
    } workloads[] = {
        { "loads", time_loads },           { "opens", time_opens },
        { "dimensions", time_dimensions }, { "layers", time_layers },
        { "children", time_children },     { "queries", time_queries },
    };
    must(argc == 3, "read the workload and the rounds");
    for (unsigned i = 0; i < sizeof workloads / sizeof workloads[0]; i++) {
        if (strcmp(argv[1], workloads[i].name) != 0) continue;
        workloads[i].run((unsigned)strtoul(argv[2], NULL, 10));
        fprintf(stderr, "%lu\n", sink);
        return 0;
    }
    must(0, "find the workload");
    return 1;
}

/*
 * The best ten rows of many dimensions beside reading the same bytes, on one thread and in turns.
 *
 *     scan ROUNDS FILE...
 *
 * Each file becomes a dimension with one layer of rows. Every line printed is a JSON object: the
 * milliseconds of one pass over all of them. Passes go through all schemes before the next round.
 *
 * The floor is a sum of all bytes as floats, which needs every byte and does as little as can be
 * done with it: in one stream, and in four with their lines fetched ahead. What is read is what a
 * view shows; no row is scored and nothing is found.
 */
#define _GNU_SOURCE
#include <memmgr.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DIMENSIONS_MAX 64
#define BEST 10

/* The widest registers the processor has, as the scan itself takes. */
#if defined(__x86_64__) && defined(__linux__)
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST
#endif

typedef float lane __attribute__((vector_size(64), aligned(4), may_alias));

static memmgr_manager *manager;
static memmgr_view views[DIMENSIONS_MAX];
static memmgr_layer layers[DIMENSIONS_MAX];
static unsigned dimensions;
static float *query;
static memmgr_error error = MEMMGR_ERROR_INIT;

static void must(memmgr_status status)
{
    if (status == MEMMGR_OK) return;
    fprintf(stderr, "%s\n", error.message);
    exit(1);
}

static double now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

/* What both floors do with 256 bytes of each of their streams. */
#define ADD(at)                                       \
    do {                                              \
        const lane *bytes = (const lane *)(at);       \
        a += bytes[0];                                \
        b += bytes[1];                                \
        c += bytes[2];                                \
        d += bytes[3];                                \
    } while (0)

static volatile float sink;

WIDEST static void sum(const unsigned char *data, size_t size)
{
    lane a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };
    size_t at;
    for (at = 0; at + 256 <= size; at += 256) ADD(data + at);
    a += b + c + d;
    sink = a[0];
}

WIDEST static void sum_streams(const unsigned char *data, size_t size)
{
    lane a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };
    const size_t part = size / 4 & ~(size_t)63;
    size_t at;
    for (at = 0; at < part; at += 64) {
        const unsigned char *first = data + at;
        __builtin_prefetch(first + 1024);
        __builtin_prefetch(first + part + 1024);
        __builtin_prefetch(first + 2 * part + 1024);
        __builtin_prefetch(first + 3 * part + 1024);
        a += *(const lane *)first;
        b += *(const lane *)(first + part);
        c += *(const lane *)(first + 2 * part);
        d += *(const lane *)(first + 3 * part);
    }
    a += b + c + d;
    sink = a[0];
}

/* The best of all dimensions: each one's rows join those of the ones before. */
static void topk(uint32_t instructions)
{
    struct found { float score; uint32_t dimension; uint64_t row; } best[BEST + 1];
    memmgr_scan_options options = MEMMGR_SCAN_OPTIONS_INIT;
    unsigned dimension, count = 0;
    options.instructions = instructions;
    for (dimension = 0; dimension < dimensions; dimension++) {
        uint64_t rows[BEST];
        float scores[BEST];
        size_t found, index;
        must(memmgr_scan_topk(manager, dimension, NULL, query, layers[dimension].shape[1], BEST,
                              &options, rows, scores, &found, &error));
        for (index = 0; index < found; index++) {
            unsigned at = count;
            for (; at > 0 && best[at - 1].score < scores[index]; at--) best[at] = best[at - 1];
            best[at] = (struct found){ scores[index], dimension, rows[index] };
            if (count < BEST) count++;
        }
    }
    sink = best[0].score;
}

static const struct { const char *name; uint32_t instructions; } levels[] = {
    { "topk", MEMMGR_INSTRUCTIONS_AUTO },
    { "topk_baseline", MEMMGR_INSTRUCTIONS_BASELINE },
    { "topk_avx2", MEMMGR_INSTRUCTIONS_AVX2 },
    { "topk_avx512", MEMMGR_INSTRUCTIONS_AVX512 },
};

static int has(uint32_t instructions)
{
    memmgr_scan_options options = MEMMGR_SCAN_OPTIONS_INIT;
    size_t found;
    options.instructions = instructions;
    return memmgr_scan_topk(manager, 0, NULL, query, layers[0].shape[1], 0, &options, NULL, NULL,
                            &found, NULL) == MEMMGR_OK;
}

static void tell(const char *scheme, double start_ms)
{
    printf("{\"scheme\": \"%s\", \"ms\": %.4f}\n", scheme, now_ms() - start_ms);
}

int main(int argc, char **argv)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_load_options populate = MEMMGR_LOAD_OPTIONS_INIT;
    unsigned index, round;
    if (argc < 3 || argc - 2 > DIMENSIONS_MAX) return 2;
    dimensions = (unsigned)argc - 2;
    options.dimension_count = dimensions;
    must(memmgr_manager_open(&options, &manager, &error));
    populate.prefetch = MEMMGR_PREFETCH_POPULATE;
    for (index = 0; index < dimensions; index++) {
        must(memmgr_dimension_load(manager, index, argv[2 + index], &populate, &error));
        layers[index].struct_size = sizeof layers[index];
        views[index].struct_size = sizeof views[index];
        must(memmgr_layer_at(manager, index, 0, &layers[index], &error));
        must(memmgr_layer_acquire(manager, index, layers[index].name, NULL, &views[index], &error));
    }
    query = malloc(layers[0].shape[1] * sizeof *query);
    for (index = 0; index < layers[0].shape[1]; index++) query[index] = 1.0f / (float)(index + 1);

    for (round = 0; round < (unsigned)atoi(argv[1]); round++) {
        double start = now_ms();
        for (index = 0; index < dimensions; index++) sum(views[index].data, views[index].length);
        tell("sum", start);
        start = now_ms();
        for (index = 0; index < dimensions; index++) {
            sum_streams(views[index].data, views[index].length);
        }
        tell("sum_streams", start);
        for (index = 0; index < sizeof levels / sizeof levels[0]; index++) {
            if (!has(levels[index].instructions)) continue;
            start = now_ms();
            topk(levels[index].instructions);
            tell(levels[index].name, start);
        }
    }
    for (index = 0; index < dimensions; index++) {
        must(memmgr_view_release(manager, &views[index], &error));
    }
    must(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    free(query);
    return 0;
}

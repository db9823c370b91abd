/*
 * The best rows by dot product: right for every type, shape, address and set of instructions, with
 * the dimension held exactly as long as it takes.
 *
 * Numbers are small integers, so that every order of additions comes to the same float; what is
 * expected is computed by a loop and a sort.
 */
#include "test.h"
#include "faults.h"
#include "files.h"
#include "snapshot.h"

#include <math.h>

#define MIB ((uint64_t)1 << 20)
#define ROWS_MAX 700
#define LENGTH_MAX 200

static memmgr_manager *manager;

static void set_up(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.dimension_count = 3;
    options.capacity = 4 * MIB;
    options.read_timeout_ns = 20000000;
    if (fault_guard()) options.flags = MEMMGR_OPEN_FAULT_GUARD;
    OK(memmgr_manager_open(&options, &manager, &error));
}

static void tear_down(void)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    OK(memmgr_stats_get(manager, &stats, &error));
    EQUAL(0, stats.views);
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Types ----------------------------------------------------------------------------------- */

static size_t write_f32(unsigned char *at, int value)
{
    const float number = (float)value;
    memcpy(at, &number, 4);
    return 4;
}

static size_t write_bf16(unsigned char *at, int value)
{
    unsigned char bytes[4];
    write_f32(bytes, value);
    memcpy(at, bytes + 2, 2);
    return 2;
}

/* For integers of up to 11 bits. */
static size_t write_f16(unsigned char *at, int value)
{
    unsigned magnitude = (unsigned)abs(value), exponent = 25, bits = 0;
    if (magnitude != 0) {
        while (magnitude < 1024) {
            magnitude <<= 1;
            exponent--;
        }
        bits = exponent << 10 | (magnitude & 1023);
    }
    if (value < 0) bits |= 0x8000;
    at[0] = (unsigned char)bits;
    at[1] = (unsigned char)(bits >> 8);
    return 2;
}

static size_t write_i8(unsigned char *at, int value)
{
    *at = (unsigned char)value;
    return 1;
}

static const struct {
    uint32_t dtype;
    size_t (*write)(unsigned char *at, int value);
} types[] = {
    { MEMMGR_DTYPE_F32, write_f32 },
    { MEMMGR_DTYPE_F16, write_f16 },
    { MEMMGR_DTYPE_BF16, write_bf16 },
    { MEMMGR_DTYPE_I8, write_i8 },
};

enum { TYPES = sizeof types / sizeof types[0] };

/* Loads a raw file with one layer of a type and two axes, which begins at `offset`. */
static int load(uint32_t dimension, uint32_t dtype, uint64_t rows, uint64_t length,
                const void *bytes, size_t size, size_t offset)
{
    static unsigned number;
    static unsigned char data[ROWS_MAX * LENGTH_MAX * 4 + 64];
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    char name[40];
    snprintf(name, sizeof name, "rows-%u", number++ % 8);
    memset(data, 0, offset);
    memcpy(data + offset, bytes, size);
    strcpy(layer.name, "rows");
    layer.dtype = dtype;
    layer.rank = 2;
    layer.shape[0] = rows;
    layer.shape[1] = length;
    layer.offset = offset;
    options.layers = &layer;
    options.layer_count = 1;
    return OK(memmgr_dimension_load(manager, dimension,
                                    file_write(name, data, offset + size, 0, size == 0),
                                    &options, &error));
}

static void unload(uint32_t dimension)
{
    OK(memmgr_dimension_unload(manager, dimension, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* Whether this processor has these instructions; asks with a layer that is loaded. */
static int has(uint32_t dimension, uint32_t instructions, size_t length)
{
    static const float query[LENGTH_MAX];
    memmgr_scan_options options = MEMMGR_SCAN_OPTIONS_INIT;
    size_t count;
    options.instructions = instructions;
    return memmgr_scan_topk(manager, dimension, NULL, query, length, 0, &options, NULL, NULL,
                            &count, NULL) == MEMMGR_OK;
}

/* Rows that are right ------------------------------------------------------------------------ */

static float expected_scores[ROWS_MAX];

static int compare(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    if (expected_scores[left] != expected_scores[right])
        return expected_scores[left] < expected_scores[right] ? 1 : -1;
    return left < right ? -1 : 1;
}

/* One matrix, of numbers from -range to range, with every set of instructions. */
static void check_matrix(unsigned type, size_t rows, size_t length, size_t offset, size_t k,
                         int range, uint64_t *random)
{
    static unsigned char bytes[ROWS_MAX * LENGTH_MAX * 4];
    static uint64_t order[ROWS_MAX], rows_out[ROWS_MAX + 8];
    static float query[LENGTH_MAX], scores[ROWS_MAX + 8];
    const size_t expected = k < rows ? k : rows;
    uint32_t instructions;
    size_t row, at, size = 0;
    for (at = 0; at < length; at++) query[at] = (float)((int)(next_random(random) % 7) - 3);
    for (row = 0; row < rows; row++) {
        expected_scores[row] = 0;
        order[row] = row;
        for (at = 0; at < length; at++) {
            const int value = (int)(next_random(random) % (unsigned)(2 * range + 1)) - range;
            expected_scores[row] += (float)value * query[at];
            size += types[type].write(bytes + size, value);
        }
    }
    qsort(order, rows, sizeof order[0], compare);
    if (!load(0, types[type].dtype, rows, length, bytes, size, offset)) return;
    for (instructions = 0; instructions <= MEMMGR_INSTRUCTIONS_AVX512; instructions++) {
        memmgr_scan_options options = MEMMGR_SCAN_OPTIONS_INIT;
        size_t count = 77, index;
        options.instructions = instructions;
        if (instructions > MEMMGR_INSTRUCTIONS_BASELINE && !has(0, instructions, length)) continue;
        rows_out[expected] = 99;
        scores[expected] = 99;
        OK(memmgr_scan_topk(manager, 0, "rows", query, length, k, &options, rows_out, scores,
                            &count, &error));
        EQUAL(expected, count);
        CHECK(rows_out[expected] == 99 && scores[expected] == 99);
        for (index = 0; index < count; index++) {
            if (rows_out[index] == order[index] &&
                scores[index] == expected_scores[order[index]])
                continue;
            CHECK(!"the row of that rank");
            fprintf(stderr, "  type %u, %zu x %zu at %zu, k %zu, instructions %u: rank %zu\n", type,
                    rows, length, offset, k, instructions, index);
            break;
        }
    }
    unload(0);
}

static void every_length(void)
{
    uint64_t random = 1;
    size_t length;
    unsigned type;
    for (type = 0; type < TYPES; type++) {
        for (length = 1; length <= 70; length++) {
            check_matrix(type, 9, length, length % 5, 4, 100, &random);
        }
    }
}

static void few_rows_and_many(void)
{
    static const size_t counts[] = { 0, 1, 2, 3, 4, 127, 128, 129, 255, 256, 257, 513, 700 };
    uint64_t random = 2;
    size_t index;
    for (index = 0; index < sizeof counts / sizeof counts[0]; index++) {
        check_matrix(0, counts[index], 5, 0, 10, 100, &random);
        check_matrix(1, counts[index], 33, 2, counts[index], 100, &random);
        check_matrix(3, counts[index], 7, 1, counts[index] + 5, 100, &random);
    }
}

/* With few values, almost every score is that of many rows. */
static void equal_rows(void)
{
    uint64_t random = 3;
    unsigned type;
    for (type = 0; type < TYPES; type++) {
        check_matrix(type, 600, 3, 0, 50, 1, &random);
        check_matrix(type, 600, 20, 0, 300, 0, &random);
    }
}

static void any_shape(void)
{
    uint64_t random = 4;
    unsigned round;
    for (round = 0; round < 150; round++) {
        const size_t rows = next_random(&random) % ROWS_MAX;
        const size_t length = 1 + next_random(&random) % LENGTH_MAX;
        const size_t offset = next_random(&random) % 64;
        const size_t k = next_random(&random) % (rows + 8);
        check_matrix(round % TYPES, rows, length, offset, k, 1 + (int)(round % 100), &random);
    }
}

/* Rows of more than a chunk, and chunks of a few rows. */
static void long_rows(void)
{
    const uint64_t length = 300001;
    static float values[2 * 300001];
    uint64_t rows[3];
    float scores[3];
    size_t count, at;
    memmgr_array array = MEMMGR_ARRAY_INIT;
    const char *path = file_path("long.safetensors");
    for (at = 0; at < 2 * length; at++) values[at] = at < length ? 1 : 2;
    array.name = "rows";
    array.dtype = MEMMGR_DTYPE_F32;
    array.rank = 2;
    array.shape[0] = 2;
    array.shape[1] = length;
    array.data = values;
    OK(memmgr_array_save(path, &array, 1, NULL, &error));
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    OK(memmgr_scan_topk(manager, 0, NULL, values, length, 3, NULL, rows, scores, &count, &error));
    EQUAL(2, count);
    CHECK(rows[0] == 1 && rows[1] == 0);
    CHECK(scores[0] == 600002 && scores[1] == 300001);
}

static void no_numbers_come_last(void)
{
    /* Rows of one element; the seventh is a signalling NaN. */
    static const uint32_t bits[] = {
        0x7fc00000, 0xff800000, 0x7f800000, 0x3f800000, 0xffc00000, 0x80000000, 0x7f800001, 0,
    };
    static const uint64_t expected[] = { 2, 3, 5, 7, 1, 0, 4, 6 };
    const float one = 1, zero = 0;
    uint64_t rows[8];
    float scores[8];
    size_t count, index;
    load(0, MEMMGR_DTYPE_F32, 8, 1, bits, sizeof bits, 0);
    OK(memmgr_scan_topk(manager, 0, NULL, &one, 1, 8, NULL, rows, scores, &count, &error));
    EQUAL(8, count);
    for (index = 0; index < count; index++) EQUAL(expected[index], rows[index]);
    for (index = 5; index < count; index++) CHECK(isnan(scores[index]));
    /* An infinity times zero is none either. */
    OK(memmgr_scan_topk(manager, 0, NULL, &zero, 1, 4, NULL, rows, scores, &count, &error));
    CHECK(rows[0] == 3 && rows[1] == 5 && rows[2] == 7 && rows[3] == 0);
    unload(0);
}

static void smallest_and_largest_halves(void)
{
    /* The smallest above 0, the largest below 2^-14, the largest, and both infinities. */
    static const uint16_t bits[] = { 0x0001, 0x03ff, 0x7bff, 0x7c00, 0xfc00 };
    static const float expected[] = { 0x1p-24f, 0x3ffp-24f, 65504, INFINITY, -INFINITY };
    const float one = 1;
    uint32_t instructions;
    load(0, MEMMGR_DTYPE_F16, 5, 1, bits, sizeof bits, 0);
    for (instructions = 0; instructions <= MEMMGR_INSTRUCTIONS_AVX512; instructions++) {
        memmgr_scan_options options = MEMMGR_SCAN_OPTIONS_INIT;
        uint64_t rows[5];
        float scores[5];
        size_t count, index;
        options.instructions = instructions;
        if (!has(0, instructions, 1)) continue;
        OK(memmgr_scan_topk(manager, 0, NULL, &one, 1, 5, &options, rows, scores, &count, &error));
        for (index = 0; index < 5; index++) CHECK(scores[index] == expected[rows[index]]);
    }
    unload(0);
}

/* A row that stands several times has one score, whatever stands around it. */
static void same_rows_have_one_score(void)
{
    static float values[301][37], query[37];
    uint64_t random = 5, rows[301];
    float scores[301];
    size_t count, index, at;
    for (at = 0; at < 37; at++) {
        const float value = (float)next_random(&random) / 3e18f;
        query[at] = (float)next_random(&random) / 7e17f - 9;
        for (index = 0; index < 301; index++) values[index][at] = value;
    }
    load(0, MEMMGR_DTYPE_F32, 301, 37, values, sizeof values, 3);
    OK(memmgr_scan_topk(manager, 0, NULL, query, 37, 301, NULL, rows, scores, &count, &error));
    for (index = 0; index < count; index++) CHECK(rows[index] == index);
    CHECK(scores[0] == scores[300]);
    unload(0);
}

/* What is refused ----------------------------------------------------------------------------- */

static void refusals(void)
{
    static const unsigned char bytes[64];
    static const float query[8];
    memmgr_scan_options options = MEMMGR_SCAN_OPTIONS_INIT;
    memmgr_load_options fortran = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    uint64_t rows[2];
    float scores[2];
    size_t count = 5;
    snapshot before;
#define SCAN(layer_, query_, length_, k_, options_, rows_, scores_, count_)                      \
    memmgr_scan_topk(manager, 0, layer_, query_, length_, k_, options_, rows_, scores_, count_, \
                     &error)
    FAILS(NOT_LOADED, SCAN(NULL, query, 4, 2, NULL, rows, scores, &count));
    EQUAL(0, count);
    EQUAL(MEMMGR_OPERATION_SCAN, error.operation);
    load(0, MEMMGR_DTYPE_F32, 4, 4, bytes, sizeof bytes, 0);
    before = snapshot_take(manager);
    FAILS(INVALID_ARGUMENT, SCAN(NULL, NULL, 4, 2, NULL, rows, scores, &count));
    FAILS(INVALID_ARGUMENT, SCAN(NULL, query, 0, 2, NULL, rows, scores, &count));
    FAILS(INVALID_ARGUMENT, SCAN(NULL, query, 4, 2, NULL, NULL, scores, &count));
    FAILS(INVALID_ARGUMENT, SCAN(NULL, query, 4, 2, NULL, rows, NULL, &count));
    FAILS(INVALID_ARGUMENT, SCAN(NULL, query, 4, 2, NULL, rows, scores, NULL));
    FAILS(INVALID_ARGUMENT, SCAN(NULL, query, 3, 2, NULL, rows, scores, &count));
    EQUAL(3, error.requested);
    EQUAL(4, error.limit);
    CHECK(strcmp(error.layer_name, "rows") == 0 && error.layer == 0);
    FAILS(INVALID_ARGUMENT, SCAN(NULL, query, SIZE_MAX, 2, NULL, rows, scores, &count));
    FAILS(UNKNOWN_LAYER, SCAN("row", query, 4, 2, NULL, rows, scores, &count));
    CHECK(strcmp(error.layer_name, "row") == 0);
    FAILS(UNKNOWN_LAYER, SCAN("", query, 4, 2, NULL, rows, scores, &count));
    options.instructions = MEMMGR_INSTRUCTIONS_AVX512 + 1;
    FAILS(INVALID_ARGUMENT, SCAN(NULL, query, 4, 2, &options, rows, scores, &count));
    options.instructions = 0;
    options.struct_size = 8;
    FAILS(INVALID_ARGUMENT, SCAN(NULL, query, 4, 2, &options, rows, scores, &count));
    /* Room for more rows than can be is none that is looked at. */
    OK(SCAN(NULL, query, 4, 0, NULL, NULL, NULL, &count));
    EQUAL(0, count);
    UNCHANGED(before);
    unload(0);

    /* One axis, another order, another type, and rows of nothing, of which there are as many as a
     * file can claim. */
    fortran.layers = &layer;
    fortran.layer_count = 1;
    strcpy(layer.name, "rows");
    layer.dtype = MEMMGR_DTYPE_F32;
    layer.rank = 1;
    layer.shape[0] = 16;
    OK(memmgr_dimension_load(manager, 0, file_fill("f", 0, 64), &fortran, &error));
    FAILS(INVALID_ARGUMENT, SCAN(NULL, query, 1, 2, NULL, rows, scores, &count));
    unload(0);
    layer.rank = 2;
    layer.shape[0] = layer.shape[1] = 4;
    layer.order = MEMMGR_ORDER_FORTRAN;
    OK(memmgr_dimension_load(manager, 0, file_path("f"), &fortran, &error));
    FAILS(INVALID_ARGUMENT, SCAN(NULL, query, 4, 2, NULL, rows, scores, &count));
    unload(0);
    load(0, MEMMGR_DTYPE_F64, 2, 4, bytes, sizeof bytes, 0);
    FAILS(INVALID_ARGUMENT, SCAN(NULL, query, 4, 2, NULL, rows, scores, &count));
    unload(0);
    load(0, MEMMGR_DTYPE_F32, (uint64_t)1 << 50, 0, bytes, 0, 0);
    FAILS(INVALID_ARGUMENT, SCAN(NULL, query, 1, 2, NULL, rows, scores, &count));
    unload(0);

    OK(memmgr_dimension_load(manager, 0, file_layers("two.safetensors"), NULL, &error));
    FAILS(UNKNOWN_LAYER, SCAN(NULL, query, 3, 2, NULL, rows, scores, &count));
    OK(SCAN("a", query, 3, 2, NULL, rows, scores, &count));
    EQUAL(2, count);
    FAILS(INVALID_ARGUMENT, SCAN("b", query, 5, 2, NULL, rows, scores, &count));
    unload(0);
}

/* Meanwhile ----------------------------------------------------------------------------------- */

struct visit {
    uint64_t last;
    unsigned calls;
    uint64_t stop_at;
    const char *path;
};

/* 3 MiB of rows of which the last is the best: 1 MiB is a chunk. */
#define BIG_ROWS 12288

static const char *big_file(const char *name, float best)
{
    static float values[BIG_ROWS][64];
    memmgr_array array = MEMMGR_ARRAY_INIT;
    const char *path = file_path(name);
    values[BIG_ROWS - 1][0] = best;
    array.name = "rows";
    array.dtype = MEMMGR_DTYPE_F32;
    array.rank = 2;
    array.shape[0] = BIG_ROWS;
    array.shape[1] = 64;
    array.data = values;
    OK(memmgr_array_save(path, &array, 1, NULL, &error));
    return path;
}

static const float big_query[64] = { 1 };

static memmgr_status scan_big(memmgr_progress_function function, struct visit *visit, float *score)
{
    memmgr_scan_options options = MEMMGR_SCAN_OPTIONS_INIT;
    uint64_t row = 0;
    size_t count;
    memmgr_status status;
    options.progress = function;
    options.user = visit;
    test_forget();
    status = memmgr_scan_topk(manager, 0, NULL, big_query, 64, 1, &options, &row, score, &count,
                              &error);
    if (status == MEMMGR_OK) CHECK(count == 1 && row == BIG_ROWS - 1);
    return status;
}

static int32_t count_calls(uint64_t done, uint64_t total, void *user)
{
    struct visit *visit = user;
    EQUAL(BIG_ROWS * 256, total);
    CHECK(visit->calls == 0 ? done == 0 : done > visit->last);
    visit->last = done;
    visit->calls++;
    return done >= visit->stop_at;
}

static void cancelled(void)
{
    struct visit visit = { 0, 0, UINT64_MAX, NULL };
    float score;
    OK(memmgr_dimension_load(manager, 0, big_file("big.safetensors", 5), NULL, &error));
    EQUAL(MEMMGR_OK, scan_big(count_calls, &visit, &score));
    EQUAL(BIG_ROWS * 256, visit.last);
    EQUAL(4, visit.calls);
    for (visit.stop_at = 0; visit.stop_at <= 3 * MIB; visit.stop_at += MIB) {
        visit.calls = 0;
        EQUAL(MEMMGR_ERR_CANCELLED, scan_big(count_calls, &visit, &score));
        EQUAL(MEMMGR_ERR_CANCELLED, error.status);
        EQUAL(visit.stop_at, visit.last);
    }
}

static int32_t try_the_rest(uint64_t done, uint64_t total, void *user)
{
    struct visit *visit = user;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    (void)total;
    if (done != MIB) return 0;
    FAILS(VIEWS_HELD, memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    EQUAL(1, error.views);
    FAILS(VIEWS_HELD, memmgr_write_begin(manager, 0, 0, 0, &writer, &error));
    OK(memmgr_dimension_reload(manager, 0, visit->path, NULL, &error));
    return 0;
}

/* It is held while it is scanned, and what is reloaded meanwhile is what the next scan finds. */
static void held_and_reloaded(void)
{
    struct visit visit = { 0, 0, 0, NULL };
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    memmgr_load_options copy = MEMMGR_LOAD_OPTIONS_INIT;
    float score = 0;
    copy.mode = MEMMGR_MODE_COPY;
    OK(memmgr_dimension_load(manager, 0, big_file("old.safetensors", 5), &copy, &error));
    visit.path = big_file("new.safetensors", 6);
    EQUAL(MEMMGR_OK, scan_big(try_the_rest, &visit, &score));
    CHECK(score == 5);
    OK(memmgr_dimension_stats_get(manager, 0, &stats, &error));
    EQUAL(0, stats.views);
    EQUAL(0, stats.retiring_views);
    EQUAL(MEMMGR_OK, scan_big(NULL, NULL, &score));
    CHECK(score == 6);
}

static int32_t cut(uint64_t done, uint64_t total, void *user)
{
    struct visit *visit = user;
    memmgr_view view = MEMMGR_VIEW_INIT;
    (void)total;
    if (done != MIB) return 0;
    OK(memmgr_view_acquire(manager, 0, 0, 3 * MIB, &view, &error));
    EQUAL(0, fault_at(visit->path, view.data, 2 * MIB));
    OK(memmgr_view_release(manager, &view, &error));
    return 0;
}

/* The zeros in place of what cannot be read are not scored in silence. */
static void faulted(void)
{
    struct visit visit = { 0, 0, 0, NULL };
    float score;
    if (!fault_guard()) {
        skip("no guard here");
        return;
    }
    visit.path = big_file("cut.safetensors", 5);
    OK(memmgr_dimension_load(manager, 0, visit.path, NULL, &error));
    EQUAL(MEMMGR_ERR_FAULTED, scan_big(cut, &visit, &score));
    EQUAL(2 * MIB, error.offset);
    EQUAL(MEMMGR_ERR_FAULTED, scan_big(NULL, NULL, &score));
    unload(0);
}

/* A hint changes nothing that can be seen, and is refused where there is nothing to read. */
static void read_ahead(void)
{
    float score = 0;
    snapshot before;
    FAILS(NOT_LOADED, memmgr_scan_ahead(manager, 0, &error));
    FAILS(UNKNOWN_DIMENSION, memmgr_scan_ahead(manager, 3, &error));
    OK(memmgr_dimension_load(manager, 0, big_file("ahead.safetensors", 5), NULL, &error));
    before = snapshot_take(manager);
    OK(memmgr_scan_ahead(manager, 0, &error));
    UNCHANGED(before);
    EQUAL(MEMMGR_OK, scan_big(NULL, NULL, &score));
    CHECK(score == 5);
}

int main(void)
{
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(every_length);
    RUN(few_rows_and_many);
    RUN(equal_rows);
    RUN(any_shape);
    RUN(long_rows);
    RUN(no_numbers_come_last);
    RUN(smallest_and_largest_halves);
    RUN(same_rows_have_one_score);
    RUN(refusals);
    RUN(cancelled);
    RUN(held_and_reloaded);
    RUN(faulted);
    RUN(read_ahead);
    return test_end();
}

/*
 * Readers, writers, unloads and reloads at the same time, seen from outside: no reader ever sees
 * half of something, fails for a reason that is not its own, or is left counted (R4.1, R4.3, R4.5).
 *
 *   threads [--long] [SEED]     a third of a second for each test, or twenty seconds
 *
 * Every file and every write is of one 64-bit stamp repeated, so that a torn read is a view with
 * two different words. The readers' reason to believe a stamp is its first word.
 */
#include "test.h"
#include "files.h"
#include "threads.h"

#include <stdatomic.h>

enum { DIMENSIONS = 4, REGION_SIZE = 64 << 10, WORDS = REGION_SIZE / 8, STAMPS = 8 };

static memmgr_manager *manager;
static uint64_t seed, duration_ms = 300;
static atomic_int stop;
static atomic_ullong done, torn, unexpected;
static unsigned progress; /* what was done meanwhile */
static const char *stamped[STAMPS]; /* files of the stamps 1, 2, … */

static void set_up(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.dimension_count = DIMENSIONS;
    options.capacity = REGION_SIZE;
    options.read_timeout_ns = MEMMGR_FOREVER;
    OK(memmgr_manager_open(&options, &manager, &error));
    atomic_store(&stop, 0);
    atomic_store(&done, 0);
    atomic_store(&torn, 0);
    atomic_store(&unexpected, 0);
}

/* Nobody is left inside, whatever went on: the pins balance to zero. */
static void tear_down(void)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    EQUAL(0, atomic_load(&torn));
    EQUAL(0, atomic_load(&unexpected));
    CHECK(atomic_load(&done) > 0);
    OK(memmgr_stats_get(manager, &stats, &error));
    EQUAL(0, stats.views);
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void load(uint32_t dimension, const char *path, uint32_t mode)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = mode;
    options.format = MEMMGR_FORMAT_RAW;
    OK(memmgr_dimension_load(manager, dimension, path, &options, &error));
}

static const char *stamp_file(const char *name, uint64_t stamp)
{
    static uint64_t words[WORDS];
    size_t index;
    for (index = 0; index < WORDS; index++) words[index] = stamp;
    return file_write(name, words, sizeof words, 0, 0);
}

/* Looks at every word; counts a torn read. Returns the stamp. */
static uint64_t read_stamp(const memmgr_view *view)
{
    const uint64_t *words = (const uint64_t *)view->data;
    const uint64_t first = words[0];
    size_t index;
    for (index = 0; index < view->length / 8; index++) {
        if (words[index] == first) continue;
        atomic_fetch_add(&torn, 1);
        break;
    }
    return first;
}

/* Acquires all of a dimension; a status that `allowed` has no bit for is a failure. */
static int acquire(uint32_t dimension, memmgr_view *view, unsigned allowed)
{
    const memmgr_status status =
        memmgr_view_acquire(manager, dimension, 0, REGION_SIZE, view, &error);
    if (status == MEMMGR_OK) return 1;
    if (!(allowed & 1u << status) && atomic_fetch_add(&unexpected, 1) == 0)
        fprintf(stderr, "%s: %s\n", memmgr_status_name(status), error.message);
    return 0;
}

static void release(memmgr_view *view)
{
    if (memmgr_view_release(manager, view, &error) != MEMMGR_OK) atomic_fetch_add(&unexpected, 1);
    atomic_fetch_add(&done, 1);
}

/* Runs `count` threads for the duration while `meanwhile`, if any, is called again and again;
 * longer where the machine is so busy that it has not done its work three times by then. */
static void run_threads(unsigned count, void (*run)(void *context), void (*meanwhile)(void))
{
    static thread threads[128];
    static uint64_t states[128];
    const uint64_t end = now_ms() + duration_ms;
    unsigned index;
    for (index = 0; index < count; index++) {
        states[index] = next_random(&seed) | 1;
        thread_start(&threads[index], run, &states[index]);
    }
    progress = 0;
    while (now_ms() < end || (meanwhile != NULL && progress < 3 && now_ms() < end + 10000)) {
        if (meanwhile != NULL) {
            meanwhile();
        } else {
            sleep_ms(1);
        }
    }
    atomic_store(&stop, 1);
    for (index = 0; index < count; index++) thread_join(&threads[index]);
    CHECK(meanwhile == NULL || progress >= 3);
}

/* 100 readers ----------------------------------------------------------------------------- */

static void read_any(void *context)
{
    uint64_t *state = (uint64_t *)context;
    memmgr_view view = MEMMGR_VIEW_INIT;
    while (!atomic_load(&stop)) {
        const uint32_t dimension = next_random(state) % DIMENSIONS;
        if (!acquire(dimension, &view, 0)) return;
        if (read_stamp(&view) != dimension + 1) atomic_fetch_add(&unexpected, 1);
        release(&view);
    }
}

static void hundred_readers(void)
{
    uint32_t index;
    for (index = 0; index < DIMENSIONS; index++) load(index, stamped[index], MEMMGR_MODE_READ);
    run_threads(100, read_any, NULL);
}

/* A writer -------------------------------------------------------------------------------- */

static uint64_t last_stamp;

static void read_written(void *unused)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    uint64_t seen = 0;
    (void)unused;
    while (!atomic_load(&stop)) {
        uint64_t stamp;
        if (!acquire(0, &view, 0)) return;
        stamp = read_stamp(&view);
        if (stamp < seen) atomic_fetch_add(&unexpected, 1); /* time does not run backwards */
        seen = stamp;
        release(&view);
    }
}

static void stamp_region(void)
{
    memmgr_write writer = MEMMGR_WRITE_INIT;
    uint64_t *words;
    size_t index;
    if (!OK(memmgr_write_begin(manager, 0, 0, MEMMGR_FOREVER, &writer, &error))) return;
    last_stamp++;
    words = (uint64_t *)writer.data;
    for (index = 0; index < WORDS; index++) words[index] = last_stamp;
    OK(memmgr_write_end(manager, &writer, &error));
    progress++;
}

static void write_while_reading(const char *path, uint32_t mode)
{
    last_stamp = 1;
    load(0, path, mode);
    run_threads(6, read_written, stamp_region);
}

static void writer_of_a_copy(void)
{
    write_while_reading(stamped[0], MEMMGR_MODE_COPY);
}

static void writer_of_a_file(void)
{
    write_while_reading(stamp_file("written", 1), MEMMGR_MODE_READ_WRITE);
}

/* Unloading ------------------------------------------------------------------------------- */

enum {
    NOT_THERE = 1u << MEMMGR_ERR_NOT_LOADED | 1u << MEMMGR_ERR_INVALID_ACCESS,
};

/* The file changes and goes while readers look at it: what they hold stays what it is. */
static void read_what_goes(void *context)
{
    uint64_t *state = (uint64_t *)context;
    memmgr_view view = MEMMGR_VIEW_INIT;
    while (!atomic_load(&stop)) {
        uint64_t stamp;
        if (!acquire(0, &view, NOT_THERE)) continue;
        stamp = read_stamp(&view);
        if (next_random(state) % 64 == 0) sleep_ms(1);
        if (read_stamp(&view) != stamp) atomic_fetch_add(&torn, 1);
        release(&view);
    }
}

static unsigned turn;

static void load_and_wait(void)
{
    load(0, stamped[turn++ % STAMPS], MEMMGR_MODE_READ);
    sleep_ms(1);
    OK(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_WAIT, MEMMGR_FOREVER, &error));
    progress++;
}

static void unload_waiting(void)
{
    run_threads(6, read_what_goes, load_and_wait);
}

static void load_and_defer(void)
{
    const memmgr_status status =
        memmgr_dimension_load(manager, 0, stamped[turn++ % STAMPS], NULL, &error);
    /* Views of two that went before may still be held. */
    CHECK(status == MEMMGR_OK || status == MEMMGR_ERR_VIEWS_HELD);
    if (status != MEMMGR_OK) return;
    progress++;
    sleep_ms(1);
    if (turn % 2 == 0) {
        OK(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    } else {
        OK(memmgr_dimension_deallocate(manager, 0, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    }
}

static void unload_deferring(void)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    memmgr_dimension_stats dimension = MEMMGR_DIMENSION_STATS_INIT;
    run_threads(6, read_what_goes, load_and_defer);
    /* The last view took the memory with it, and nothing but the region is charged. */
    OK(memmgr_stats_get(manager, &stats, &error));
    OK(memmgr_dimension_stats_get(manager, 0, &dimension, &error));
    EQUAL(0, stats.mapped);
    CHECK(dimension.charged <= dimension.capacity);
    EQUAL((DIMENSIONS - 1) * (uint64_t)dimension.capacity + dimension.charged, stats.allocated);
}

/* Reloading ------------------------------------------------------------------------------- */

/* Readers never fail, never see two versions in one view, never an older one after a newer one,
 * and never another content under the same number. */
static void read_versions(void *context)
{
    uint64_t *state = (uint64_t *)context;
    memmgr_view view = MEMMGR_VIEW_INIT;
    uint64_t generation = 0, stamp = 0;
    while (!atomic_load(&stop)) {
        uint64_t seen;
        if (!acquire(0, &view, 0)) return;
        seen = read_stamp(&view);
        if (next_random(state) % 64 == 0) sleep_ms(1);
        if (read_stamp(&view) != seen) atomic_fetch_add(&torn, 1);
        if (view.generation < generation) atomic_fetch_add(&unexpected, 1);
        if (view.generation == generation && seen != stamp) atomic_fetch_add(&torn, 1);
        generation = view.generation;
        stamp = seen;
        release(&view);
    }
}

static uint64_t versions;

static void reload_next(void)
{
    const memmgr_status status =
        memmgr_dimension_reload(manager, 0, stamped[versions % STAMPS], NULL, &error);
    CHECK(status == MEMMGR_OK || status == MEMMGR_ERR_VIEWS_HELD);
    if (status == MEMMGR_OK) {
        versions++;
        progress++;
    } else {
        sleep_ms(1);
    }
}

static void reload_under_fire(void)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    load(0, stamped[0], MEMMGR_MODE_READ);
    versions = 1;
    run_threads(100, read_versions, reload_next);
    OK(memmgr_stats_get(manager, &stats, &error));
    EQUAL(versions - 1, stats.reloads);
    EQUAL(REGION_SIZE, stats.mapped);
    EQUAL(stats.allocated, stats.reserved / 2);
}

/* Views that travel ----------------------------------------------------------------------- */

/* Boxes of one view each: who finds a box empty puts one in, who finds it full releases it. */
enum { BOXES = 16 };

static struct {
    atomic_int state; /* 0 empty, 1 somebody is at it, 2 full */
    memmgr_view view;
} boxes[BOXES];

static void pass_views_on(void *context)
{
    uint64_t *state = (uint64_t *)context;
    const memmgr_view none = MEMMGR_VIEW_INIT;
    while (!atomic_load(&stop)) {
        const uint32_t index = next_random(state) % BOXES;
        int found = 0;
        if (atomic_compare_exchange_strong(&boxes[index].state, &found, 1)) {
            boxes[index].view = none;
            found = acquire(index % DIMENSIONS, &boxes[index].view, 0) ? 2 : 0;
            atomic_store(&boxes[index].state, found);
        } else if (found == 2 && atomic_compare_exchange_strong(&boxes[index].state, &found, 1)) {
            if (read_stamp(&boxes[index].view) != index % DIMENSIONS + 1)
                atomic_fetch_add(&unexpected, 1);
            release(&boxes[index].view);
            atomic_store(&boxes[index].state, 0);
        }
    }
}

/* Some of them come to their end on threads that never acquired any. */
static void released_elsewhere(void)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    uint64_t left = 0;
    uint32_t index;
    for (index = 0; index < DIMENSIONS; index++) load(index, stamped[index], MEMMGR_MODE_READ);
    run_threads(16, pass_views_on, NULL);
    for (index = 0; index < BOXES; index++) left += atomic_load(&boxes[index].state) == 2;
    OK(memmgr_stats_get(manager, &stats, &error));
    EQUAL(left, stats.views);
    for (index = 0; index < BOXES; index++) {
        if (atomic_load(&boxes[index].state) == 2) release(&boxes[index].view);
        atomic_store(&boxes[index].state, 0);
    }
}

/* Everything ------------------------------------------------------------------------------ */

enum {
    BUSY = NOT_THERE | 1u << MEMMGR_ERR_VIEWS_HELD | 1u << MEMMGR_ERR_WAIT_TIMEOUT |
           1u << MEMMGR_ERR_ALREADY_LOADED,
};

static void expect_busy_or_done(memmgr_status status)
{
    if (status == MEMMGR_OK || BUSY & 1u << status) return;
    if (atomic_fetch_add(&unexpected, 1) == 0)
        fprintf(stderr, "%s: %s\n", memmgr_status_name(status), error.message);
}

static void do_anything(void *context)
{
    uint64_t *state = (uint64_t *)context;
    while (!atomic_load(&stop)) {
        const uint32_t dimension = next_random(state) % DIMENSIONS;
        const uint32_t on_views = next_random(state) % 3;
        const int64_t timeout = (int64_t)(next_random(state) % 2000000);
        const char *path = stamped[next_random(state) % STAMPS];
        memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
        memmgr_view view = MEMMGR_VIEW_INIT;
        memmgr_write writer = MEMMGR_WRITE_INIT;
        options.mode = next_random(state) % 2 == 0 ? MEMMGR_MODE_COPY : MEMMGR_MODE_RAM;
        switch (next_random(state) % 16) {
        case 0:
        case 1:
            expect_busy_or_done(
                memmgr_dimension_load(manager, dimension, path, &options, &error));
            break;
        case 2:
            expect_busy_or_done(
                memmgr_dimension_reload(manager, dimension, path, &options, &error));
            break;
        case 3:
            expect_busy_or_done(
                memmgr_dimension_unload(manager, dimension, on_views, timeout, &error));
            break;
        case 4:
            expect_busy_or_done(
                memmgr_dimension_deallocate(manager, dimension, on_views, timeout, &error));
            break;
        case 5: {
            const memmgr_status status =
                memmgr_write_begin(manager, dimension, 0, timeout, &writer, &error);
            expect_busy_or_done(status);
            if (status != MEMMGR_OK) break;
            {
                const uint64_t stamp = next_random(state);
                uint64_t *words = (uint64_t *)writer.data;
                size_t index;
                for (index = 0; index < WORDS; index++) words[index] = stamp;
            }
            expect_busy_or_done(memmgr_write_end(manager, &writer, &error));
            break;
        }
        case 6: {
            memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
            expect_busy_or_done(memmgr_dimension_stats_get(manager, dimension, &stats, &error));
            if (stats.charged > 2 * stats.capacity) atomic_fetch_add(&unexpected, 1);
            break;
        }
        default:
            if (!acquire(dimension, &view, BUSY)) break;
            if (read_stamp(&view) == 0) atomic_fetch_add(&unexpected, 1);
            release(&view);
        }
    }
}

static void everything_at_once(void)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    uint32_t index;
    run_threads(24, do_anything, NULL);
    for (index = 0; index < DIMENSIONS; index++) {
        OK(memmgr_dimension_deallocate(manager, index, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    }
    OK(memmgr_stats_get(manager, &stats, &error));
    EQUAL(0, stats.allocated);
    EQUAL(0, stats.mapped);
}

/* Managers -------------------------------------------------------------------------------- */

static void open_and_close(void *unused)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    (void)unused;
    options.dimension_count = 3;
    options.capacity = REGION_SIZE;
    while (!atomic_load(&stop)) {
        memmgr_manager *own;
        memmgr_view view = MEMMGR_VIEW_INIT;
        if (!OK(memmgr_manager_open(&options, &own, &error))) return;
        OK(memmgr_dimension_load(own, 2, stamped[2], NULL, &error));
        OK(memmgr_view_acquire(own, 2, 0, REGION_SIZE, &view, &error));
        OK(memmgr_manager_close(own, MEMMGR_ON_VIEWS_DEFER, 0, &error));
        if (read_stamp(&view) != 3) atomic_fetch_add(&unexpected, 1);
        OK(memmgr_view_release(own, &view, &error));
        atomic_fetch_add(&done, 1);
    }
}

/* They come and go on every thread, each with its own addresses and its own end. */
static void managers_at_once(void)
{
    memmgr_capabilities capabilities = MEMMGR_CAPABILITIES_INIT;
    OK(memmgr_capabilities_get(&capabilities, &error));
    if (!capabilities.atomic_placement) {
        atomic_store(&done, 1);
        skip("another thread may take an address that is given up for a moment");
        return;
    }
    run_threads(8, open_and_close, NULL);
}

int main(int argc, char **argv)
{
    static char names[STAMPS][20];
    int index;
    seed = now_ms() | 1;
    for (index = 1; index < argc; index++) {
        if (strcmp(argv[index], "--long") == 0) {
            duration_ms = 20000;
        } else {
            seed = strtoull(argv[index], NULL, 10) | 1;
        }
    }
    printf("seed %llu\n", (unsigned long long)seed);
    for (index = 0; index < STAMPS; index++) {
        snprintf(names[index], sizeof names[index], "stamp-%d", index + 1);
        stamped[index] = stamp_file(names[index], (uint64_t)index + 1);
    }
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(hundred_readers);
    RUN(writer_of_a_copy);
    RUN(writer_of_a_file);
    RUN(unload_waiting);
    RUN(unload_deferring);
    RUN(reload_under_fire);
    RUN(released_elsewhere);
    RUN(everything_at_once);
    RUN(managers_at_once);
    return test_end();
}

/*
 * The interrupt function: every wait and all long work asks it, and ends if it says so, with
 * everything as before; whatever it calls on the thread that waits comes back at once.
 */
#include "test.h"
#include "files.h"
#include "threads.h"

#define MIB ((uint64_t)1 << 20)

enum { TABLE, WRITABLE, EMPTY, DIMENSIONS };

static memmgr_manager *manager;
static const uint64_t size = 20 * MIB;

static THREAD_LOCAL unsigned asked;
static THREAD_LOCAL unsigned ends_at;
/* What it calls at the first question, once. */
static void (*nested)(void);

static int32_t ask(void *user)
{
    void (*call)(void) = nested;
    CHECK(user == &manager);
    asked++;
    nested = NULL;
    if (call != NULL) call();
    return asked == ends_at;
}

/* From now on the thread's calls end at that question; 0: at none. */
static void end_at(unsigned count)
{
    OK(memmgr_interrupt_set(ask, &manager, &error));
    asked = 0;
    ends_at = count;
}

static const char *path, *other_path, *npy_path;

static void set_up(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_load_options writable = MEMMGR_LOAD_OPTIONS_INIT;
    path = file_fill("table.bin", 7, size);
    other_path = file_fill("other.bin", 8, size);
    npy_path = file_fill("writable.bin", 9, size);
    writable.mode = MEMMGR_MODE_READ_WRITE;
    options.dimension_count = DIMENSIONS;
    options.capacity = size;
    options.read_timeout_ns = MEMMGR_FOREVER;
    OK(memmgr_manager_open(&options, &manager, &error));
    OK(memmgr_dimension_load(manager, TABLE, path, NULL, &error));
    OK(memmgr_dimension_load(manager, WRITABLE, npy_path, &writable, &error));
}

static void tear_down(void)
{
    OK(memmgr_interrupt_set(NULL, NULL, &error));
    if (manager != NULL) OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static memmgr_dimension_stats stats_of(uint32_t dimension)
{
    memmgr_dimension_stats found = MEMMGR_DIMENSION_STATS_INIT;
    OK(memmgr_dimension_stats_get(manager, dimension, &found, &error));
    return found;
}

static uint64_t allocated(void)
{
    memmgr_stats found = MEMMGR_STATS_INIT;
    OK(memmgr_stats_get(manager, &found, &error));
    return found.allocated;
}

static void waits_of_readers_end(void)
{
    memmgr_write write = MEMMGR_WRITE_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    OK(memmgr_write_begin(manager, WRITABLE, 0, 0, &write, &error));
    end_at(3);
    FAILS(CANCELLED, memmgr_view_acquire(manager, WRITABLE, 0, 1, &view, &error));
    EQUAL(3, asked);
    end_at(3);
    FAILS(CANCELLED, memmgr_dimension_reload(manager, WRITABLE, other_path, NULL, &error));
    EQUAL(3, asked);
    end_at(3);
    FAILS(CANCELLED, memmgr_dimension_save(manager, WRITABLE, file_path("copy.bin"), NULL, &error));
    EQUAL(3, asked);
    /* Layers are described without a wait. */
    end_at(1);
    FAILS(UNKNOWN_LAYER, memmgr_layer_at(manager, WRITABLE, 0, &layer, &error));
    EQUAL(0, asked);
    EQUAL(MEMMGR_STATE_WRITING, stats_of(WRITABLE).state);
    OK(memmgr_write_end(manager, &write, &error));
    OK(memmgr_view_acquire(manager, WRITABLE, 0, 1, &view, &error));
    OK(memmgr_view_release(manager, &view, &error));
}

static void waits_for_views_end(void)
{
    memmgr_write write = MEMMGR_WRITE_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_view second = MEMMGR_VIEW_INIT;
    OK(memmgr_view_acquire(manager, WRITABLE, 0, 1, &view, &error));
    end_at(3);
    FAILS(CANCELLED,
          memmgr_write_begin(manager, WRITABLE, 0, MEMMGR_FOREVER, &write, &error));
    EQUAL(3, asked);
    end_at(3);
    FAILS(CANCELLED, memmgr_dimension_unload(manager, WRITABLE, MEMMGR_ON_VIEWS_WAIT,
                                             MEMMGR_FOREVER, &error));
    end_at(3);
    FAILS(CANCELLED, memmgr_dimension_deallocate(manager, WRITABLE, MEMMGR_ON_VIEWS_WAIT,
                                                 MEMMGR_FOREVER, &error));
    end_at(3);
    FAILS(CANCELLED,
          memmgr_manager_close(manager, MEMMGR_ON_VIEWS_WAIT, MEMMGR_FOREVER, &error));
    EQUAL(3, asked);
    for (uint32_t dimension = TABLE; dimension <= WRITABLE; dimension++) {
        EQUAL(MEMMGR_STATE_LOADED, stats_of(dimension).state);
        OK(memmgr_view_acquire(manager, dimension, 0, 1, &second, &error));
        OK(memmgr_view_release(manager, &second, &error));
    }
    OK(memmgr_view_release(manager, &view, &error));
    OK(memmgr_write_begin(manager, WRITABLE, 0, 0, &write, &error));
    OK(memmgr_write_end(manager, &write, &error));
}

/* Ends `call` at its first question, and then at none. */
static void end_first(memmgr_status (*call)(void))
{
    const uint64_t before = allocated();
    const uint64_t views = stats_of(TABLE).views;
    /* A new function is asked at once, and then every 100 ms. */
    end_at(1);
    EQUAL(MEMMGR_ERR_CANCELLED, call());
    EQUAL(1, asked);
    EQUAL(before, allocated());
    EQUAL(views, stats_of(TABLE).views);
    EQUAL(MEMMGR_STATE_EMPTY, stats_of(EMPTY).state);
    EQUAL(0, stats_of(EMPTY).file_size);
    end_at(0);
    EQUAL(MEMMGR_OK, call());
}

static memmgr_status load(uint32_t mode, uint32_t prefetch)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_status status;
    options.mode = mode;
    options.prefetch = prefetch;
    status = memmgr_dimension_load(manager, EMPTY, other_path, &options, NULL);
    if (status == MEMMGR_OK)
        OK(memmgr_dimension_unload(manager, EMPTY, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    return status;
}

static memmgr_status load_ram(void)
{
    return load(MEMMGR_MODE_RAM, MEMMGR_PREFETCH_LAZY);
}

static memmgr_status load_populated(void)
{
    return load(MEMMGR_MODE_READ, MEMMGR_PREFETCH_POPULATE);
}

static memmgr_status warm(void)
{
    memmgr_warming warming = MEMMGR_WARMING_INIT;
    return memmgr_dimension_warm(manager, TABLE, NULL, &warming, NULL);
}

static memmgr_status flush(void)
{
    return memmgr_dimension_flush(manager, WRITABLE, NULL);
}

static memmgr_status save(void)
{
    return memmgr_dimension_save(manager, TABLE, file_path("copy.bin"), NULL, NULL);
}

static memmgr_status save_rows(void)
{
    return memmgr_dimension_save(manager, EMPTY, file_path("copy.bin"), NULL, NULL);
}

static memmgr_status verify(void)
{
    memmgr_verify_options options = MEMMGR_VERIFY_OPTIONS_INIT;
    memmgr_verification found = MEMMGR_VERIFICATION_INIT;
    options.flags = MEMMGR_VERIFY_CHECKSUMS;
    return memmgr_dimension_verify(manager, EMPTY, &options, &found, NULL);
}

static memmgr_status scan(void)
{
    static const float query[4] = { 1, 1, 1, 1 };
    uint64_t row;
    size_t count;
    float score;
    return memmgr_scan_topk(manager, EMPTY, NULL, query, 4, 1, NULL, &row, &score, &count, NULL);
}

/* A file with rows of four numbers, of more bytes than are scanned at once. */
static void load_rows(void)
{
    static const char header[] =
        "{\"rows\":{\"dtype\":\"F32\",\"shape\":[524288,4],\"data_offsets\":[0,8388608]}}";
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = MEMMGR_MODE_COPY;
    OK(memmgr_dimension_load(manager, EMPTY,
                             file_safetensors("rows", strlen(header), header, 8 * MIB), &options,
                             &error));
}

static void long_work_ends(void)
{
    end_first(load_ram);
    end_first(load_populated);
    end_first(warm);
    end_first(flush);
    end_first(save);
    load_rows();
    end_at(1);
    EQUAL(MEMMGR_ERR_CANCELLED, scan());
    EQUAL(1, asked);
    end_at(1);
    EQUAL(MEMMGR_ERR_CANCELLED, verify());
    EQUAL(1, asked);
    EQUAL(0, stats_of(EMPTY).views);
    end_at(0);
    EQUAL(MEMMGR_OK, scan());
    EQUAL(MEMMGR_OK, verify());
}

static void call_within_wait(void)
{
    memmgr_write write = MEMMGR_WRITE_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    const int64_t forever = MEMMGR_FOREVER;
    FAILS(INVALID_ARGUMENT, memmgr_interrupt_set(NULL, NULL, &error));
    FAILS(VIEWS_HELD, memmgr_view_acquire(manager, WRITABLE, 0, 1, &view, &error));
    FAILS(VIEWS_HELD, memmgr_write_begin(manager, WRITABLE, 0, forever, &write, &error));
    FAILS(VIEWS_HELD, memmgr_dimension_reload(manager, WRITABLE, other_path, NULL, &error));
    FAILS(VIEWS_HELD, memmgr_dimension_unload(manager, WRITABLE, MEMMGR_ON_VIEWS_WAIT, forever,
                                              &error));
    FAILS(VIEWS_HELD,
          memmgr_manager_close(manager, MEMMGR_ON_VIEWS_WAIT, forever, &error));
    FAILS(VIEWS_HELD, memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    CHECK(strlen(memmgr_operation_name(MEMMGR_OPERATION_INTERRUPT)) > 0);
    OK(memmgr_dimension_unload(manager, WRITABLE, MEMMGR_ON_VIEWS_DEFER, 0, &error));
}

static void what_would_wait_for_its_own_thread_fails(void)
{
    memmgr_write write = MEMMGR_WRITE_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    OK(memmgr_view_acquire(manager, WRITABLE, 0, 1, &view, &error));
    end_at(0);
    nested = call_within_wait;
    FAILS(INVALID_ACCESS,
          memmgr_write_begin(manager, WRITABLE, 0, MEMMGR_FOREVER, &write, &error));
    CHECK(nested == NULL);
    OK(memmgr_view_release(manager, &view, &error));
    EQUAL(MEMMGR_STATE_EMPTY, stats_of(WRITABLE).state);
}

static void close_within_wait(void)
{
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_DEFER, 0, &error));
}

static void a_manager_is_closed_within_its_own_wait(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    OK(memmgr_view_acquire(manager, TABLE, 0, 1, &view, &error));
    end_at(0);
    nested = close_within_wait;
    FAILS(INVALID_ACCESS, memmgr_dimension_unload(manager, TABLE, MEMMGR_ON_VIEWS_WAIT,
                                                  MEMMGR_FOREVER, &error));
    CHECK(nested == NULL);
    OK(memmgr_view_release(manager, &view, &error));
    manager = NULL;
    set_up();
    OK(memmgr_view_acquire(manager, TABLE, 0, 1, &view, &error));
    nested = close_within_wait;
    FAILS(INVALID_ACCESS,
          memmgr_manager_close(manager, MEMMGR_ON_VIEWS_WAIT, MEMMGR_FOREVER, &error));
    OK(memmgr_view_release(manager, &view, &error));
    manager = NULL;
}

static void call_within_load(void)
{
    memmgr_write write = MEMMGR_WRITE_INIT;
    FAILS(VIEWS_HELD, memmgr_dimension_load(manager, EMPTY, path, NULL, &error));
    FAILS(VIEWS_HELD, memmgr_dimension_unload(manager, EMPTY, MEMMGR_ON_VIEWS_WAIT,
                                              MEMMGR_FOREVER, &error));
    FAILS(NOT_LOADED,
          memmgr_write_begin(manager, EMPTY, 0, MEMMGR_FOREVER, &write, &error));
    OK(memmgr_dimension_unload(manager, EMPTY, MEMMGR_ON_VIEWS_DEFER, 0, &error));
}

static void what_is_unloaded_while_it_is_loaded_is_gone(void)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    const uint64_t before = allocated();
    options.mode = MEMMGR_MODE_RAM;
    end_at(0);
    nested = call_within_load;
    FAILS(INVALID_ACCESS, memmgr_dimension_load(manager, EMPTY, other_path, &options, &error));
    CHECK(nested == NULL);
    EQUAL(MEMMGR_STATE_EMPTY, stats_of(EMPTY).state);
    EQUAL(0, stats_of(EMPTY).file_size);
    EQUAL(before, allocated());
}

/* ---- calls that hold what is loaded as a view does ---- */

static uint32_t held_dimension;

static void call_within_hold(void)
{
    memmgr_write write = MEMMGR_WRITE_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    const int64_t forever = MEMMGR_FOREVER;
    FAILS(VIEWS_HELD, memmgr_dimension_unload(manager, held_dimension, MEMMGR_ON_VIEWS_WAIT,
                                              forever, &error));
    CHECK(strstr(error.message, "inside a call that waits") != NULL);
    EQUAL(1, error.views);
    FAILS(VIEWS_HELD, memmgr_dimension_deallocate(manager, held_dimension, MEMMGR_ON_VIEWS_WAIT,
                                                  forever, &error));
    FAILS(VIEWS_HELD, memmgr_manager_close(manager, MEMMGR_ON_VIEWS_WAIT, forever, &error));
    FAILS(VIEWS_HELD, memmgr_dimension_unload(manager, held_dimension, MEMMGR_ON_VIEWS_REFUSE, 0,
                                              &error));
    FAILS(VIEWS_HELD, memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    if (held_dimension != TABLE)
        FAILS(VIEWS_HELD, memmgr_write_begin(manager, held_dimension, 0, forever, &write, &error));
    EQUAL(MEMMGR_STATE_LOADED, stats_of(held_dimension).state);
    /* What does not wait for it works, and so does everything with another dimension. */
    OK(memmgr_view_acquire(manager, held_dimension, 0, 1, &view, &error));
    OK(memmgr_view_release(manager, &view, &error));
    OK(memmgr_write_begin(manager, held_dimension == WRITABLE ? EMPTY : WRITABLE, 0, forever,
                          &write, &error));
    OK(memmgr_write_end(manager, &write, &error));
}

static int32_t progress_within_hold(uint64_t done, uint64_t total, void *user)
{
    (void)total, (void)user;
    if (done == 0) call_within_hold();
    return 0;
}

static memmgr_status lock(void)
{
    return memmgr_dimension_lock(manager, TABLE, NULL);
}

static memmgr_status evict(void)
{
    return memmgr_dimension_evict(manager, TABLE, NULL);
}

static void what_would_wait_for_its_own_view_fails(void)
{
    static const struct {
        uint32_t dimension;
        memmgr_status (*call)(void);
        /* The system may not let it: what is called before that is the same. */
        int may_fail;
    } calls[] = { { TABLE, warm, 0 },      { WRITABLE, flush, 0 }, { TABLE, save, 0 },
                  { TABLE, evict, 0 },     { TABLE, lock, 1 },     { EMPTY, scan, 0 },
                  { EMPTY, save_rows, 0 }, { EMPTY, verify, 0 } };
    load_rows();
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        const uint64_t views = stats_of(calls[i].dimension).views;
        memmgr_status status;
        held_dimension = calls[i].dimension;
        end_at(0);
        nested = call_within_hold;
        status = calls[i].call();
        CHECK(status == MEMMGR_OK || calls[i].may_fail);
        CHECK(nested == NULL);
        EQUAL(views, stats_of(calls[i].dimension).views);
    }
}

static void a_progress_function_is_refused_its_own_wait(void)
{
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    options.progress = progress_within_hold;
    held_dimension = WRITABLE;
    load_rows();
    EQUAL(MEMMGR_OK,
          memmgr_dimension_save(manager, WRITABLE, file_path("copy.bin"), &options, NULL));
    OK(memmgr_dimension_unload(manager, WRITABLE, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

/* A writer of another thread's waits for the view, and a reader would wait for that writer. */
static int writing;

static void write_once(void *unused)
{
    memmgr_write write = MEMMGR_WRITE_INIT;
    (void)unused;
    OK(memmgr_write_begin(manager, WRITABLE, 0, MEMMGR_FOREVER, &write, &error));
    OK(memmgr_write_end(manager, &write, &error));
}

static int32_t progress_behind_a_writer(uint64_t done, uint64_t total, void *user)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_write write = MEMMGR_WRITE_INIT;
    (void)total;
    if (done != 0 || writing) return 0;
    writing = 1;
    thread_start(user, write_once, NULL);
    while (stats_of(WRITABLE).state != MEMMGR_STATE_WRITING) sleep_ms(1);
    FAILS(VIEWS_HELD, memmgr_view_acquire(manager, WRITABLE, 0, 1, &view, &error));
    CHECK(strstr(error.message, "inside a call that waits") != NULL);
    FAILS(VIEWS_HELD,
          memmgr_write_begin(manager, WRITABLE, 0, MEMMGR_FOREVER, &write, &error));
    FAILS(VIEWS_HELD, memmgr_dimension_unload(manager, WRITABLE, MEMMGR_ON_VIEWS_WAIT,
                                              MEMMGR_FOREVER, &error));
    FAILS(VIEWS_HELD, memmgr_manager_close(manager, MEMMGR_ON_VIEWS_WAIT, MEMMGR_FOREVER, &error));
    return 0;
}

static void who_would_wait_behind_one_that_waits_for_it_fails(void)
{
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    thread writer;
    options.progress = progress_behind_a_writer;
    options.user = &writer;
    writing = 0;
    EQUAL(MEMMGR_OK,
          memmgr_dimension_save(manager, WRITABLE, file_path("copy.bin"), &options, NULL));
    EQUAL(1, writing);
    thread_join(&writer);
}

/* ---- a load that does not come to its end ---- */

static int held, released;

static void hold_on(void)
{
    __atomic_store_n(&held, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&released, __ATOMIC_ACQUIRE)) sleep_ms(1);
}

static void reload_held(void *unused)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    (void)unused;
    options.mode = MEMMGR_MODE_RAM;
    FAILS(INVALID_ACCESS, memmgr_dimension_reload(manager, TABLE, other_path, &options, &error));
}

static void begin_held(thread *loader)
{
    held = released = 0;
    end_at(0);
    nested = hold_on;
    thread_start(loader, reload_held, NULL);
    while (!__atomic_load_n(&held, __ATOMIC_ACQUIRE)) sleep_ms(1);
}

static void end_held(thread *loader)
{
    __atomic_store_n(&released, 1, __ATOMIC_RELEASE);
    thread_join(loader);
}

/* Each returns while the load is held: otherwise this would not end. */
static void timeouts_hold_while_a_file_is_loaded(void)
{
    const uint64_t before = allocated();
    thread loader;
    begin_held(&loader);
    FAILS(WAIT_TIMEOUT,
          memmgr_dimension_unload(manager, TABLE, MEMMGR_ON_VIEWS_WAIT, 1000000, &error));
    FAILS(VIEWS_HELD, memmgr_dimension_unload(manager, TABLE, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    FAILS(WAIT_TIMEOUT, memmgr_manager_close(manager, MEMMGR_ON_VIEWS_WAIT, 1000000, &error));
    FAILS(VIEWS_HELD, memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    OK(memmgr_dimension_unload(manager, TABLE, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    end_held(&loader);
    EQUAL(MEMMGR_STATE_EMPTY, stats_of(TABLE).state);
    EQUAL(before, allocated());
    OK(memmgr_dimension_load(manager, TABLE, path, NULL, &error));
}

static void a_manager_is_closed_while_a_file_is_loaded(void)
{
    thread loader;
    begin_held(&loader);
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    end_held(&loader);
    manager = NULL;
}

/* ---- looks that keep nobody out ---- */

static int stop;

static void refuse(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        FAILS(VIEWS_HELD, memmgr_dimension_unload(manager, TABLE, MEMMGR_ON_VIEWS_REFUSE, 0,
                                                  &error));
        FAILS(VIEWS_HELD, memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    }
}

static void a_look_at_the_views_keeps_no_reader_out(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT, other = MEMMGR_VIEW_INIT;
    thread lookers[2];
    OK(memmgr_view_acquire(manager, TABLE, 0, 1, &view, &error));
    stop = 0;
    for (int i = 0; i < 2; i++) thread_start(&lookers[i], refuse, NULL);
    for (int i = 0; i < 2000; i++) {
        if (!OK(memmgr_view_try_acquire(manager, TABLE, 0, 1, &other, &error))) break;
        OK(memmgr_view_release(manager, &other, &error));
        if (i % 100 == 0) sleep_ms(1);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++) thread_join(&lookers[i]);
    OK(memmgr_view_release(manager, &view, &error));
}

/* ---- a region that is populated ---- */

static void a_load_that_fails_leaves_what_was_populated(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_load_options ram = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_memory before = MEMMGR_MEMORY_INIT, after = MEMMGR_MEMORY_INIT;
    memmgr_manager *populated;
    ram.mode = MEMMGR_MODE_RAM;
    options.dimension_count = 1;
    options.capacity = size;
    options.flags = MEMMGR_OPEN_POPULATE;
    OK(memmgr_manager_open(&options, &populated, &error));
    OK(memmgr_memory_get(populated, 0, &before, &error));
    FAILS(FILE_ACCESS, memmgr_dimension_load(populated, 0, file_path("none"), NULL, &error));
    OK(memmgr_memory_get(populated, 0, &after, &error));
    EQUAL(before.resident, after.resident);
    /* This one has taken its place already. */
    end_at(1);
    FAILS(CANCELLED, memmgr_dimension_load(populated, 0, path, &ram, &error));
    OK(memmgr_memory_get(populated, 0, &after, &error));
    EQUAL(before.resident, after.resident);
    OK(memmgr_dimension_load(populated, 0, path, &ram, &error));
    OK(memmgr_manager_close(populated, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

int main(void)
{
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(waits_of_readers_end);
    RUN(waits_for_views_end);
    RUN(long_work_ends);
    RUN(what_would_wait_for_its_own_thread_fails);
    RUN(a_manager_is_closed_within_its_own_wait);
    RUN(what_would_wait_for_its_own_view_fails);
    RUN(a_progress_function_is_refused_its_own_wait);
    RUN(who_would_wait_behind_one_that_waits_for_it_fails);
    RUN(what_is_unloaded_while_it_is_loaded_is_gone);
    RUN(timeouts_hold_while_a_file_is_loaded);
    RUN(a_manager_is_closed_while_a_file_is_loaded);
    RUN(a_look_at_the_views_keeps_no_reader_out);
    RUN(a_load_that_fails_leaves_what_was_populated);
    return test_end();
}

/*
 * A manager that tracks its views: who holds what, and that a thread which would wait for itself
 * is told at once instead.
 */
#include "test.h"
#include "files.h"
#include "threads.h"

static memmgr_manager *manager;
static const char *layers_file, *raw_file;

static void set_up(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_load_options copy = MEMMGR_LOAD_OPTIONS_INIT;
    options.dimension_count = 2;
    options.capacity = 8192;
    options.read_timeout_ns = MEMMGR_FOREVER;
    options.flags = MEMMGR_OPEN_TRACK_VIEWS;
    copy.mode = MEMMGR_MODE_COPY;
    OK(memmgr_manager_open(&options, &manager, &error));
    OK(memmgr_dimension_load(manager, 0, layers_file, NULL, &error));
    OK(memmgr_dimension_load(manager, 1, raw_file, &copy, &error));
}

static void tear_down(void)
{
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static size_t count_of(uint32_t dimension)
{
    size_t count = 77;
    OK(memmgr_holders_get(manager, dimension, NULL, 0, &count, &error));
    return count;
}

static void acquire_elsewhere(void *view)
{
    OK(memmgr_view_acquire(manager, 1, 100, 10, (memmgr_view *)view, &error));
}

static void are_listed(void)
{
    memmgr_holder holders[2] = { MEMMGR_HOLDER_INIT, MEMMGR_HOLDER_INIT };
    memmgr_view layer = MEMMGR_VIEW_INIT, range = MEMMGR_VIEW_INIT;
    size_t count;
    EQUAL(0, count_of(MEMMGR_NONE));
    OK(memmgr_layer_acquire(manager, 0, "b", NULL, &layer, &error));
    thread_call(acquire_elsewhere, &range);
    EQUAL(2, count_of(MEMMGR_NONE));
    EQUAL(1, count_of(0));
    OK(memmgr_holders_get(manager, 0, &holders[0], 1, &count, &error));
    EQUAL(1, count);
    EQUAL(0, holders[0].dimension);
    EQUAL(1, holders[0].layer);
    EQUAL(layer.offset, holders[0].offset);
    EQUAL(5, holders[0].length);
    EQUAL(layer.generation, holders[0].generation);
    EQUAL(layer.token[1] >> 32, holders[0].ticket);
    OK(memmgr_holders_get(manager, 1, &holders[1], 1, &count, &error));
    EQUAL(1, holders[1].dimension);
    EQUAL(MEMMGR_NONE, holders[1].layer);
    EQUAL(100, holders[1].offset);
    EQUAL(10, holders[1].length);
    CHECK(holders[1].thread != holders[0].thread);
    CHECK(holders[1].ticket != holders[0].ticket);
    sleep_ms(2);
    OK(memmgr_holders_get(manager, 0, &holders[0], 1, &count, &error));
    CHECK(holders[0].age_ns >= 1000000);
    /* There may be more than there is room for. */
    OK(memmgr_holders_get(manager, MEMMGR_NONE, holders, 1, &count, &error));
    EQUAL(2, count);
    OK(memmgr_view_release(manager, &layer, &error));
    EQUAL(1, count_of(MEMMGR_NONE));
    OK(memmgr_view_release(manager, &range, &error));
    EQUAL(0, count_of(MEMMGR_NONE));
}

/* With timeouts that never pass: whoever waited here would wait for ever. */
static void are_told_at_once(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    OK(memmgr_view_acquire(manager, 1, 0, 1, &view, &error));
    FAILS(VIEWS_HELD, memmgr_write_begin(manager, 1, 0, MEMMGR_FOREVER, &writer, &error));
    EQUAL(1, error.views);
    CHECK(writer.data == NULL);
    OK(memmgr_view_release(manager, &view, &error));
    OK(memmgr_write_begin(manager, 1, 0, MEMMGR_FOREVER, &writer, &error));
    OK(memmgr_write_end(manager, &writer, &error));
}

static void write_elsewhere(void *status)
{
    memmgr_write writer = MEMMGR_WRITE_INIT;
    *(memmgr_status *)status = memmgr_write_begin(manager, 1, 0, MEMMGR_FOREVER, &writer, &error);
    OK(memmgr_write_end(manager, &writer, &error));
}

/* The second view of a thread that a writer waits for would wait for that writer. */
static void are_told_of_a_writer(void)
{
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT, second = MEMMGR_VIEW_INIT;
    memmgr_status status = MEMMGR_ERR_INVALID_ARGUMENT;
    thread writer;
    OK(memmgr_view_acquire(manager, 1, 0, 1, &view, &error));
    thread_start(&writer, write_elsewhere, &status);
    while (stats.state != MEMMGR_STATE_WRITING) {
        sleep_ms(1);
        stats.struct_size = sizeof stats;
        OK(memmgr_dimension_stats_get(manager, 1, &stats, &error));
    }
    FAILS(VIEWS_HELD, memmgr_view_acquire(manager, 1, 0, 1, &second, &error));
    OK(memmgr_view_release(manager, &view, &error));
    thread_join(&writer);
    EQUAL(MEMMGR_OK, status);
}

/* Nobody waits for a view of what was replaced, so its holder may write, and is told what else is
 * in the way. */
static void may_hold_what_was_replaced(void)
{
    memmgr_load_options copy = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_view old = MEMMGR_VIEW_INIT;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    copy.mode = MEMMGR_MODE_COPY;
    OK(memmgr_view_acquire(manager, 1, 0, 1, &old, &error));
    OK(memmgr_dimension_reload(manager, 1, layers_file, &copy, &error));
    OK(memmgr_write_begin(manager, 1, 0, 0, &writer, &error));
    OK(memmgr_write_end(manager, &writer, &error));
    OK(memmgr_dimension_unload(manager, 1, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    FAILS(NOT_LOADED, memmgr_write_begin(manager, 1, 0, 0, &writer, &error));
    OK(memmgr_dimension_load(manager, 1, raw_file, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_write_begin(manager, 1, 0, 0, &writer, &error));
    OK(memmgr_view_release(manager, &old, &error));
}

static void sizes(void)
{
    static union {
        memmgr_holder holder;
        unsigned char bytes[4 * sizeof(memmgr_holder)];
    } room;
    const uint32_t size = sizeof(memmgr_holder);
    memmgr_view views[2] = { MEMMGR_VIEW_INIT, MEMMGR_VIEW_INIT };
    size_t count, index;
    OK(memmgr_view_acquire(manager, 0, 0, 1, &views[0], &error));
    OK(memmgr_view_acquire(manager, 0, 1, 1, &views[1], &error));
    for (index = 0; index < 4; index++) {
        static const uint32_t wrong[] = { 0, 1, sizeof(memmgr_holder) - 1,
                                          sizeof(memmgr_holder) + 4 };
        room.holder.struct_size = wrong[index];
        FAILS(INVALID_ARGUMENT, memmgr_holders_get(manager, 0, &room.holder, 2, &count, &error));
        EQUAL(0, count);
    }
    /* A newer caller's are further apart. */
    memset(&room, 0, sizeof room);
    room.holder.struct_size = size + 16;
    memcpy(room.bytes + size + 16, &room.holder.struct_size, sizeof room.holder.struct_size);
    memset(room.bytes + size, 0x77, 16);
    OK(memmgr_holders_get(manager, 0, &room.holder, 2, &count, &error));
    EQUAL(2, count);
    EQUAL(1, room.holder.length);
    EQUAL(0x77, room.bytes[size]);
    EQUAL(0x77, room.bytes[size + 15]);
    OK(memmgr_view_release(manager, &views[0], &error));
    OK(memmgr_view_release(manager, &views[1], &error));
}

int main(void)
{
    layers_file = file_layers("layers");
    raw_file = file_fill("raw", 1, 5000);
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(are_listed);
    RUN(are_told_at_once);
    RUN(are_told_of_a_writer);
    RUN(may_hold_what_was_replaced);
    RUN(sizes);
    return test_end();
}

/*
 * A child of a fork reads, loads and unloads what its parent had loaded, whatever the parent's
 * other threads were doing at that moment, and what it does touches nothing of the parent. Views
 * that it inherits stay valid for good.
 */
#include "test.h"
#include "files.h"
#include "snapshot.h"
#include "threads.h"

#ifdef _WIN32
static void forks(void)
{
    skip("processes are not forked here");
}

int main(void)
{
    RUN(forks);
    return test_end();
}
#else
#include <stdatomic.h>
#include <sys/wait.h>

enum { SIZE = 64 << 10, THREADS = 8, FORKS = 200, SLOW_MS = 5000 };

static memmgr_manager *manager;
static uint32_t flags;

static void open_manager(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.dimension_count = 4;
    options.capacity = SIZE;
    options.flags = flags;
    OK(memmgr_manager_open(&options, &manager, &error));
}

static void close_manager(void)
{
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static memmgr_status load(uint32_t dimension, const char *name, uint32_t mode)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = mode;
    return memmgr_dimension_load(manager, dimension, file_path(name), &options, &error);
}

static memmgr_status unload(uint32_t dimension, uint32_t on_views)
{
    return memmgr_dimension_unload(manager, dimension, on_views, 0, &error);
}

static memmgr_view acquire(uint32_t dimension)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    OK(memmgr_view_acquire(manager, dimension, 0, SIZE, &view, &error));
    return view;
}

static int is_filled(const void *data, int value)
{
    const unsigned char *bytes = data;
    return bytes[0] == value && memcmp(bytes, bytes + 1, SIZE - 1) == 0;
}

static void expect(uint32_t dimension, int value)
{
    memmgr_view view = acquire(dimension);
    if (CHECK(view.data != NULL)) CHECK(is_filled(view.data, value));
    OK(memmgr_view_release(manager, &view, &error));
}

static void in_child(void (*live)(void *context), void *context)
{
    int status = -1;
    const pid_t child = fork();
    if (child == 0) {
        alarm(20); /* waiting for a thread that is not here lasts for ever */
        test.failures = 0;
        live(context);
        fflush(NULL);
        _exit(test.failures != 0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    EQUAL(0, status);
}

/* ==== What a child may do =================================================================== */

static void live_with_a_view(void *context)
{
    memmgr_view *inherited = context;
    const void *data = inherited->data;
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_manager *parents = manager, *own;

    CHECK(is_filled(data, 1));
    expect(0, 1);
    view = acquire(0);
    FAILS(VIEWS_HELD, unload(0, MEMMGR_ON_VIEWS_REFUSE));
    OK(memmgr_view_release(manager, &view, &error));

    /* Giving it back changes nothing: some other thread's may be meant, or still be used. */
    OK(memmgr_view_release(manager, inherited, &error));
    FAILS(INVALID_ARGUMENT, memmgr_view_release(manager, inherited, &error));
    FAILS(VIEWS_HELD, unload(0, MEMMGR_ON_VIEWS_REFUSE));
    EQUAL(1, error.views);
    OK(unload(0, MEMMGR_ON_VIEWS_DEFER));
    CHECK(is_filled(data, 1));
    OK(load(0, "two", MEMMGR_MODE_READ));
    expect(0, 2);
    CHECK(is_filled(data, 1));

    /* A dimension without views is like one of the child's own. */
    OK(memmgr_dimension_reload(manager, 1, file_path("two"), NULL, &error));
    OK(memmgr_dimension_reload(manager, 1, file_path("one"), NULL, &error));
    OK(memmgr_dimension_reload(manager, 1, file_path("two"), NULL, &error));
    expect(1, 2);
    OK(unload(1, MEMMGR_ON_VIEWS_REFUSE));
    OK(load(1, "one", MEMMGR_MODE_RAM));
    expect(1, 1);

    open_manager();
    own = manager;
    OK(load(0, "two", MEMMGR_MODE_READ));
    expect(0, 2);
    close_manager();
    CHECK(own != parents);
    manager = parents;
    FAILS(VIEWS_HELD, memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    CHECK(is_filled(data, 1));
}

static void child_reads_loads_and_unloads(void)
{
    memmgr_view view;
    open_manager();
    OK(load(0, "one", MEMMGR_MODE_READ));
    OK(load(1, "one", MEMMGR_MODE_READ));
    view = acquire(0);
    in_child(live_with_a_view, &view);
    CHECK(is_filled(view.data, 1));
    OK(memmgr_view_release(manager, &view, &error));
    OK(unload(0, MEMMGR_ON_VIEWS_REFUSE));
    expect(1, 1);
    close_manager();
}

static void live_as_grandchild(void *context)
{
    memmgr_view *views = context;
    size_t index;
    for (index = 0; index < 3; index++) {
        const void *data = views[index].data;
        OK(memmgr_view_release(manager, &views[index], &error));
        CHECK(is_filled(data, 1));
        FAILS(VIEWS_HELD, unload((uint32_t)index, MEMMGR_ON_VIEWS_REFUSE));
        EQUAL(1, error.views);
    }
    expect(2, 1);
}

static void live_and_fork(void *context)
{
    memmgr_view views[3];
    memmgr_manager *own;
    views[0] = *(memmgr_view *)context;
    views[1] = acquire(1);
    views[2] = acquire(2);
    in_child(live_as_grandchild, views);
    OK(memmgr_view_release(manager, &views[1], &error));
    OK(unload(1, MEMMGR_ON_VIEWS_REFUSE));
    FAILS(VIEWS_HELD, unload(0, MEMMGR_ON_VIEWS_REFUSE));
    /* A manager of the child's own is one that a grandchild inherits, too. */
    open_manager();
    own = manager;
    for (uint32_t index = 0; index < 3; index++) {
        OK(load(index, "one", MEMMGR_MODE_READ));
        views[index] = acquire(index);
    }
    in_child(live_as_grandchild, views);
    for (size_t index = 0; index < 3; index++) {
        OK(memmgr_view_release(own, &views[index], &error));
    }
    close_manager();
}

static void child_forks_again(void)
{
    memmgr_view view;
    open_manager();
    for (uint32_t index = 0; index < 3; index++) OK(load(index, "one", MEMMGR_MODE_READ));
    view = acquire(0);
    in_child(live_and_fork, &view);
    OK(memmgr_view_release(manager, &view, &error));
    close_manager();
}

static memmgr_status begin_write(uint32_t dimension, memmgr_write *write)
{
    return memmgr_write_begin(manager, dimension, 0, 0, write, &error);
}

static void live_with_modes(void *context)
{
    memmgr_write write = MEMMGR_WRITE_INIT;
    (void)context;
    FAILS(INVALID_ARGUMENT, begin_write(0, &write));
    OK(memmgr_dimension_flush(manager, 0, &error));
    expect(0, 3);
    OK(load(3, "writable", MEMMGR_MODE_READ));
    expect(3, 3);
    /* What is private is this process's own. */
    OK(begin_write(1, &write));
    memset(write.data, 9, SIZE);
    OK(memmgr_write_end(manager, &write, &error));
    expect(1, 9);
    OK(begin_write(2, &write));
    memset(write.data, 9, SIZE);
    OK(memmgr_write_end(manager, &write, &error));
    expect(2, 9);
    /* Loaded here, it can be written here. */
    OK(unload(3, MEMMGR_ON_VIEWS_REFUSE));
    OK(unload(0, MEMMGR_ON_VIEWS_REFUSE));
    OK(load(0, "writable", MEMMGR_MODE_READ_WRITE));
    OK(begin_write(0, &write));
    memset(write.data, 4, SIZE);
    OK(memmgr_write_end(manager, &write, &error));
}

static void child_writes_what_is_its_own(void)
{
    open_manager();
    OK(load(0, "writable", MEMMGR_MODE_READ_WRITE));
    OK(load(1, "one", MEMMGR_MODE_COPY));
    OK(load(2, "one", MEMMGR_MODE_RAM));
    in_child(live_with_modes, NULL);
    expect(0, 4); /* the file's bytes, which both show */
    expect(1, 1);
    expect(2, 1);
    close_manager();
}

/* ==== What was under way ==================================================================== */

static void live_with_a_write(void *context)
{
    memmgr_write *inherited = context, write = MEMMGR_WRITE_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    uint32_t index;
    for (index = 0; index < 2; index++) {
        FAILS(NOT_LOADED, memmgr_view_acquire(manager, index, 0, 1, &view, &error));
        OK(memmgr_write_end(manager, &inherited[index], &error));
        FAILS(NOT_LOADED, memmgr_view_acquire(manager, index, 0, 1, &view, &error));
        OK(load(index, "two", MEMMGR_MODE_COPY));
        expect(index, 2);
        OK(begin_write(index, &write));
        OK(memmgr_write_end(manager, &write, &error));
    }
}

static void half_a_write_is_not_shown(void)
{
    memmgr_write writes[2] = { MEMMGR_WRITE_INIT, MEMMGR_WRITE_INIT };
    open_manager();
    file_fill("writable", 3, SIZE);
    OK(load(0, "one", MEMMGR_MODE_COPY));
    OK(load(1, "writable", MEMMGR_MODE_READ_WRITE));
    OK(begin_write(0, &writes[0]));
    OK(begin_write(1, &writes[1]));
    memset(writes[0].data, 7, SIZE / 2);
    in_child(live_with_a_write, writes);
    memset(writes[0].data, 7, SIZE);
    OK(memmgr_write_end(manager, &writes[0], &error));
    OK(memmgr_write_end(manager, &writes[1], &error));
    expect(0, 7);
    expect(1, 3);
    close_manager();
}

static void wait_to_write(void *context)
{
    memmgr_write write = MEMMGR_WRITE_INIT;
    (void)context;
    OK(memmgr_write_begin(manager, 0, 0, MEMMGR_FOREVER, &write, &error));
    OK(memmgr_write_end(manager, &write, &error));
}

static void wait_to_read(void *context)
{
    memmgr_view view;
    (void)context;
    view = acquire(0);
    OK(memmgr_view_release(manager, &view, &error));
}

static void wait_to_unload(void *context)
{
    (void)context;
    OK(memmgr_dimension_unload(manager, 1, MEMMGR_ON_VIEWS_WAIT, MEMMGR_FOREVER, &error));
}

static void wait_to_close(void *context)
{
    (void)context;
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_WAIT, MEMMGR_FOREVER, &error));
}

static uint32_t state_of(uint32_t dimension)
{
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    OK(memmgr_dimension_stats_get(manager, dimension, &stats, &error));
    return stats.state;
}

static void await_change(uint32_t dimension)
{
    const uint64_t end = now_ms() + SLOW_MS;
    while (state_of(dimension) == MEMMGR_STATE_LOADED && now_ms() < end) sleep_ms(1);
    CHECK(state_of(dimension) != MEMMGR_STATE_LOADED);
    sleep_ms(10);
}

static void live_without_waiting(void *context)
{
    (void)context;
    expect(0, 1);
    expect(1, 1);
    EQUAL(MEMMGR_STATE_LOADED, state_of(0));
    EQUAL(MEMMGR_STATE_LOADED, state_of(1));
    FAILS(VIEWS_HELD, unload(0, MEMMGR_ON_VIEWS_REFUSE));
    OK(unload(0, MEMMGR_ON_VIEWS_DEFER));
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_DEFER, 0, &error));
}

static void nobody_waits_in_the_child(void)
{
    void (*const first[])(void *) = { wait_to_write, wait_to_unload, wait_to_close };
    size_t index;
    for (index = 0; index < 3; index++) {
        memmgr_view views[2];
        thread waiter, reader;
        uint32_t waited_for = index == 1;
        open_manager();
        OK(load(0, "one", MEMMGR_MODE_COPY));
        OK(load(1, "one", MEMMGR_MODE_COPY));
        views[0] = acquire(0);
        views[1] = acquire(1);
        thread_start(&waiter, first[index], NULL);
        await_change(waited_for);
        if (index == 0) {
            thread_start(&reader, wait_to_read, NULL);
            sleep_ms(10);
        }
        in_child(live_without_waiting, NULL);
        OK(memmgr_view_release(manager, &views[0], &error));
        OK(memmgr_view_release(manager, &views[1], &error));
        thread_join(&waiter);
        if (index == 0) thread_join(&reader);
        if (index < 2) close_manager();
    }
}

/* ==== Races ================================================================================= */

static struct {
    atomic_int stop;
    atomic_uint wrong;
    _Atomic(memmgr_view *) passed_on;
} race;

static void fail_race(const char *what)
{
    if (race.wrong++ == 0) fprintf(stderr, "%s: %s\n", what, error.message);
}

static void read_and_pass_on(void *context)
{
    uint64_t state = (uintptr_t)context;
    while (!race.stop) {
        memmgr_view *view = calloc(1, sizeof *view);
        const uint32_t dimension = next_random(&state) % 2;
        view->struct_size = sizeof *view;
        if (memmgr_view_acquire(manager, dimension, 0, SIZE, view, &error) != MEMMGR_OK) {
            fail_race("acquire");
        } else if (!is_filled(view->data, 1) && !is_filled(view->data, 2)) {
            fail_race("torn");
        }
        /* It is given back by whoever comes next. */
        view = atomic_exchange(&race.passed_on, view);
        if (view != NULL && memmgr_view_release(manager, view, &error) != MEMMGR_OK) {
            fail_race("release");
        }
        free(view);
    }
}

static void reload_in_turn(void *context)
{
    unsigned round = 0;
    (void)context;
    while (!race.stop) {
        const char *name = round++ % 2 ? "one" : "two";
        const memmgr_status status =
            memmgr_dimension_reload(manager, 0, file_path(name), NULL, &error);
        if (status != MEMMGR_OK && status != MEMMGR_ERR_VIEWS_HELD &&
            status != MEMMGR_ERR_ALREADY_LOADED)
            fail_race("reload");
    }
}

static void write_all(void *context)
{
    memmgr_write write = MEMMGR_WRITE_INIT;
    int value = 0;
    (void)context;
    while (!race.stop) {
        if (memmgr_write_begin(manager, 2, 0, MEMMGR_FOREVER, &write, &error) != MEMMGR_OK) {
            fail_race("write");
            continue;
        }
        memset(write.data, ++value, SIZE);
        if (memmgr_write_end(manager, &write, &error) != MEMMGR_OK) fail_race("end");
    }
}

static void read_what_is_written(void *context)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    (void)context;
    while (!race.stop) {
        if (memmgr_view_acquire(manager, 2, 0, SIZE, &view, &error) != MEMMGR_OK) {
            fail_race("acquire");
            continue;
        }
        if (!is_filled(view.data, *(const unsigned char *)view.data)) fail_race("torn");
        if (memmgr_view_release(manager, &view, &error) != MEMMGR_OK) fail_race("release");
    }
}

static void load_and_unload(void *context)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    (void)context;
    while (!race.stop) {
        if (load(3, "one", MEMMGR_MODE_RAM) != MEMMGR_OK) fail_race("load");
        if (memmgr_view_acquire(manager, 3, 0, SIZE, &view, &error) != MEMMGR_OK) {
            fail_race("acquire");
        }
        if (unload(3, MEMMGR_ON_VIEWS_DEFER) != MEMMGR_OK) fail_race("unload");
        if (memmgr_view_release(manager, &view, &error) != MEMMGR_OK) fail_race("release");
    }
}

static int is_one_of(memmgr_status status, memmgr_status a, memmgr_status b, memmgr_status c)
{
    return status == a || status == b || status == c;
}

static void live_after_a_race(void *context)
{
    const memmgr_view *kept = context;
    const unsigned char first = *(const unsigned char *)kept->data;
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_write write = MEMMGR_WRITE_INIT;
    memmgr_status status;
    uint32_t index;
    for (index = 0; index < 2; index++) {
        view = acquire(index);
        CHECK(is_filled(view.data, 1) || is_filled(view.data, 2));
        OK(memmgr_view_release(manager, &view, &error));
    }
    status = memmgr_dimension_reload(manager, 0, file_path("three"), NULL, &error);
    CHECK(is_one_of(status, MEMMGR_OK, MEMMGR_ERR_VIEWS_HELD, MEMMGR_OK));
    if (status == MEMMGR_OK) expect(0, 3);

    status = memmgr_view_acquire(manager, 2, 0, SIZE, &view, &error);
    CHECK(is_one_of(status, MEMMGR_OK, MEMMGR_ERR_NOT_LOADED, MEMMGR_OK));
    if (status == MEMMGR_OK) {
        CHECK(is_filled(view.data, *(const unsigned char *)view.data));
        OK(memmgr_view_release(manager, &view, &error));
        status = begin_write(2, &write);
        CHECK(is_one_of(status, MEMMGR_OK, MEMMGR_ERR_WAIT_TIMEOUT, MEMMGR_OK));
        if (status == MEMMGR_OK) OK(memmgr_write_end(manager, &write, &error));
    } else {
        OK(load(2, "two", MEMMGR_MODE_COPY));
        expect(2, 2);
    }

    status = load(3, "three", MEMMGR_MODE_READ);
    CHECK(is_one_of(status, MEMMGR_OK, MEMMGR_ERR_ALREADY_LOADED, MEMMGR_ERR_VIEWS_HELD));
    if (status == MEMMGR_OK) expect(3, 3);
    if (status == MEMMGR_ERR_ALREADY_LOADED) expect(3, 1);

    CHECK(is_filled(kept->data, first));
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    CHECK(is_filled(kept->data, first));
    open_manager();
    OK(load(0, "one", MEMMGR_MODE_READ));
    expect(0, 1);
    close_manager();
}

static void forks_race_with_everything(void)
{
    void (*const work[THREADS])(void *) = {
        read_and_pass_on, read_and_pass_on, read_and_pass_on,     reload_in_turn,
        write_all,        write_all,        read_what_is_written, load_and_unload,
    };
    thread threads[THREADS];
    memmgr_view *left;
    /* An emulator copies itself each time. */
    const unsigned forks = map_is_true() ? FORKS : FORKS / 4;
    size_t index;
#if defined(__linux__) && !defined(__GLIBC__)
    /* A program that does nothing but malloc on eight threads and in its children hangs as well. */
    skip("the malloc that Zig has for musl keeps, in the child, what other threads had locked");
    return;
#endif
    open_manager();
    OK(load(0, "one", MEMMGR_MODE_READ));
    OK(load(1, "one", MEMMGR_MODE_READ));
    OK(load(2, "one", MEMMGR_MODE_COPY));
    race.stop = 0;
    for (index = 0; index < THREADS; index++) {
        thread_start(&threads[index], work[index], (void *)(uintptr_t)(index + 1));
    }
    for (index = 0; index < forks && test.failures == 0; index++) {
        memmgr_view view = acquire(index % 2);
        in_child(live_after_a_race, &view);
        OK(memmgr_view_release(manager, &view, &error));
    }
    race.stop = 1;
    for (index = 0; index < THREADS; index++) thread_join(&threads[index]);
    EQUAL(0, race.wrong);
    left = atomic_exchange(&race.passed_on, NULL);
    if (left != NULL) OK(memmgr_view_release(manager, left, &error));
    free(left);
    close_manager();
}

static void with_atomic_gate(void)
{
    flags = MEMMGR_OPEN_GATE_ATOMIC;
    child_reads_loads_and_unloads();
    child_forks_again();
    forks_race_with_everything();
    flags = 0;
}

static void with_tracked_views(void)
{
    flags = MEMMGR_OPEN_TRACK_VIEWS;
    child_reads_loads_and_unloads();
    child_forks_again();
    flags = 0;
}

int main(void)
{
    file_fill("one", 1, SIZE);
    file_fill("two", 2, SIZE);
    file_fill("three", 3, SIZE);
    file_fill("writable", 3, SIZE);
    RUN(child_reads_loads_and_unloads);
    RUN(child_forks_again);
    RUN(child_writes_what_is_its_own);
    RUN(half_a_write_is_not_shown);
    RUN(nobody_waits_in_the_child);
    RUN(forks_race_with_everything);
    RUN(with_atomic_gate);
    RUN(with_tracked_views);
    return test_end();
}
#endif

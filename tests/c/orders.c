/*
 * R7.2, R7.5: calls in any order, right and hostile ones, against a model of what each of them has
 * to come to and of what the budget holds after it.
 *
 * The model is short because the rules are: a dimension has two slots, a generation goes with its
 * last view, and the charge follows the generations. A status is foretold exactly, except where it
 * depends on how full the pools are; and a refusal by a limit has to be one.
 *
 *   orders [--slow]     many orders, or fifty times as many
 *   orders SEED [COUNT] one order that failed, and those after it
 */
#include "test.h"
#include "files.h"
#include "snapshot.h"
#include "threads.h"

enum {
    ORDERS = 60,
    STEPS = 400,
    WORLDS = 2,
    DIMENSIONS = 3,
    VIEWS = 6,
    WRITES = 2,
    BLOCKS = 12,
    WHOLE = WHOLE_PAGES,
    SMALL = 1000,
    /* What a block may cost beyond its size: a slab of its class, or a page on either side. */
    SLAB = 512 << 10,
    POOL_LIMIT = 2 << 20,
    NOBODY = -1
};

#define BIT(NAME) (1u << MEMMGR_ERR_##NAME)
#define BIT_OK (1u << MEMMGR_OK)

/* ==== The model ============================================================================= */

/* What can be loaded; the last ones never can. */
enum { TABLE, OTHER, TENSORS, LITTLE, FILES, MISSING = FILES, EMPTY, LARGE, FOLDER, PATHS };

static struct {
    const char *path;
    uint64_t size;
    int value; /* of all its bytes from TAIL on */
    int has_layer;
} table[PATHS];

/* Behind every header. */
enum { TAIL = 512 };

typedef struct generation {
    uint64_t number; /* 0: the slot is free */
    int file, value, writing;
    uint32_t mode;
    unsigned views;
    const unsigned char *address;
} generation;

typedef struct place {
    generation slots[2];
    int current; /* the slot that readers are let into, or NOBODY */
    int going;   /* the slot whose unloading new readers are told of, or NOBODY */
    int charged; /* the region, whatever is loaded */
    uint64_t last_number;
} place;

typedef struct world {
    memmgr_manager *handle;
    int open;
    uint32_t flags;
    place places[DIMENSIONS];
    uint64_t limit, loads, reloads, unloads;
    unsigned blocks;
} world;

typedef struct block {
    world *owner;
    unsigned char *data;
    size_t size;
    int value;
} block;

static world worlds[WORLDS];
static struct {
    memmgr_view view;
    world *owner;
    generation *of;
} views[VIEWS];
static struct {
    memmgr_write write;
    world *owner;
    generation *of;
} writes[WRITES];
static block blocks[BLOCKS];
static memmgr_manager *dead;
static uint64_t capacity;

static uint64_t random_state, seed;
static unsigned step;
static const char *doing;

static unsigned below(unsigned count)
{
    return (unsigned)((next_random(&random_state) >> 16) % count);
}

static int one_in(unsigned count)
{
    return below(count) == 0;
}

static uint64_t generations_of(const place *at)
{
    return (uint64_t)(at->slots[0].number != 0) + (uint64_t)(at->slots[1].number != 0);
}

static uint64_t charge_of(const place *at, uint64_t more)
{
    const uint64_t count = generations_of(at) + more;
    return capacity * (count != 0 ? count : (uint64_t)at->charged);
}

static unsigned holders_of(const generation *of)
{
    return of->number != 0 ? of->views + (unsigned)of->writing : 0;
}

static generation *current_of(place *at)
{
    return at->current == NOBODY ? NULL : &at->slots[at->current];
}

static uint64_t size_of(const generation *of)
{
    return table[of->file].size;
}

/* A generation that is no longer the current one goes when nobody holds it. */
static void settle(place *at)
{
    int slot;
    for (slot = 0; slot < 2; slot++) {
        generation *of = &at->slots[slot];
        if (of->number == 0 || slot == at->current || holders_of(of) != 0) continue;
        memset(of, 0, sizeof *of);
        if (at->going == slot) at->going = NOBODY;
    }
}

static void settle_all(void)
{
    unsigned index;
    for (index = 0; index < WORLDS * DIMENSIONS; index++) {
        settle(&worlds[index / DIMENSIONS].places[index % DIMENSIONS]);
    }
}

static void retire(place *at)
{
    at->going = at->current;
    at->current = NOBODY;
    settle(at);
}

static unsigned holders_in(const world *in)
{
    unsigned sum = 0, index;
    for (index = 0; index < 2 * DIMENSIONS; index++) {
        sum += holders_of(&in->places[index / 2].slots[index % 2]);
    }
    return sum;
}

/* Its file is mapped by somebody, in a way that keeps this one out. Memory is no mapping. */
static int is_excluded(int file, uint32_t mode)
{
    unsigned index;
    if (mode == MEMMGR_MODE_RAM) return 0;
    for (index = 0; index < WORLDS * DIMENSIONS * 2; index++) {
        const place *at = &worlds[index / 2 / DIMENSIONS].places[index / 2 % DIMENSIONS];
        const generation *of = &at->slots[index % 2];
        if (of->number == 0 || of->file != file || of->mode == MEMMGR_MODE_RAM) continue;
        if (of->mode == MEMMGR_MODE_READ_WRITE || mode == MEMMGR_MODE_READ_WRITE) return 1;
    }
    return 0;
}

static int is_mapped(int file)
{
    return is_excluded(file, MEMMGR_MODE_READ_WRITE);
}

/* ==== Calls ================================================================================= */

static void wrong(const char *what, const char *got)
{
    fprintf(stderr, "orders %llu, step %u, %s: %s%s\n", (unsigned long long)seed, step, doing,
            what, got);
    test_check(0, "the model is right", "", __FILE__, __LINE__);
}

static void expect(int holds, const char *what)
{
    if (!holds) wrong(what, "");
}

/* The call came to one of what was foretold, and told so. */
static memmgr_status came_to(unsigned foretold, memmgr_status status)
{
    if (!(foretold >> status & 1)) {
        char text[200] = "foretold";
        int index;
        for (index = 0; index < 32; index++) {
            if (!(foretold >> index & 1)) continue;
            strcat(strcat(text, " "), memmgr_status_name(index));
        }
        wrong(strcat(text, ", got "), memmgr_status_name(status));
    }
    expect(error.status == status, "the error has the status");
    expect((error.message[0] == 0) == (status == MEMMGR_OK), "the error says why");
    return status;
}

#define CAME_TO(foretold, call) (test_forget(), doing = #call, came_to(foretold, (call)))

/* At what a call is aimed; `refused` is what it comes to for that reason alone, or 0. */
typedef struct target {
    world *in;
    place *at;
    memmgr_manager *handle;
    uint32_t dimension;
    unsigned refused;
} target;

static memmgr_manager *a_stranger(void)
{
    switch (below(4)) {
    case 0: return NULL;
    case 1: return (memmgr_manager *)(uintptr_t)1;
    case 2: return (memmgr_manager *)(void *)worlds;
    default: return (memmgr_manager *)UINTPTR_MAX;
    }
}

/* What the handle of a world without a manager comes to. */
static unsigned nobody(const world *in)
{
    return in->handle != NULL ? BIT(INVALID_ACCESS) : BIT(INVALID_ARGUMENT);
}

static target aim_at_manager(void)
{
    target to;
    to.in = &worlds[below(WORLDS)];
    to.dimension = below(DIMENSIONS);
    to.at = &to.in->places[to.dimension];
    to.handle = to.in->handle;
    to.refused = to.in->open ? 0 : nobody(to.in);
    if (one_in(40)) {
        to.handle = a_stranger();
        to.refused = BIT(INVALID_ARGUMENT);
    } else if (dead != NULL && one_in(40)) {
        to.handle = dead;
        to.refused = BIT(INVALID_ACCESS);
    }
    return to;
}

static target aim(void)
{
    target to = aim_at_manager();
    if (one_in(40)) {
        to.dimension = one_in(2) ? DIMENSIONS : MEMMGR_NONE - below(2) - 1;
        if (to.refused == 0) to.refused = BIT(UNKNOWN_DIMENSION);
    }
    return to;
}

/* A call that has an argument which is never right, besides what it is aimed at. */
static unsigned spoilt(unsigned foretold, int is_spoilt)
{
    return is_spoilt ? (foretold & ~BIT_OK) | BIT(INVALID_ARGUMENT) : foretold;
}

/* What whoever wants the bytes of a dimension gets where there are none. */
static unsigned absence(const place *at)
{
    return at->going != NOBODY ? BIT(INVALID_ACCESS) : BIT(NOT_LOADED);
}

static int is_tracked(const target *to)
{
    return (to->in->flags & MEMMGR_OPEN_TRACK_VIEWS) != 0;
}

/* A reader comes in, waits for a writer in vain, or finds nothing. */
static unsigned entry(const target *to)
{
    const generation *now = current_of(to->at);
    if (to->refused != 0) return to->refused;
    if (now == NULL) return absence(to->at);
    return now->writing ? BIT(WAIT_TIMEOUT) : BIT_OK;
}

/* Whoever does not wait for writers. */
static unsigned presence(const target *to)
{
    if (to->refused != 0) return to->refused;
    return to->at->current == NOBODY ? absence(to->at) : BIT_OK;
}

static uint32_t a_number_beyond(uint32_t last)
{
    return one_in(2) ? last + 1 : (uint32_t)next_random(&random_state) | 0x80000000;
}

static memmgr_stats stats_of(const world *in)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    expect(memmgr_stats_get(in->handle, &stats, NULL) == MEMMGR_OK, "stats");
    return stats;
}

static memmgr_pool_stats pool_stats_of(const world *in)
{
    memmgr_pool_stats stats = MEMMGR_POOL_STATS_INIT;
    expect(memmgr_pool_stats_get(in->handle, &stats, NULL) == MEMMGR_OK, "stats of the pools");
    return stats;
}

/* Whether a charge fits: it must if it does as things are, it cannot if it would not without any
 * slab; in between it depends on how many are free. */
static unsigned charge(const world *in, uint64_t bytes)
{
    const memmgr_stats stats = stats_of(in);
    const uint64_t pools = pool_stats_of(in).allocated;
    if (bytes <= stats.limit - stats.allocated) return BIT_OK;
    if (bytes > stats.limit - (stats.allocated - pools)) return BIT(LIMIT_EXCEEDED);
    return BIT_OK | BIT(LIMIT_EXCEEDED);
}

/* ==== Loading =============================================================================== */

static unsigned file_outcome(int path, uint32_t mode)
{
    switch (path) {
    case MISSING: return BIT(FILE_ACCESS);
    case FOLDER: return BIT(FILE_ACCESS);
    case EMPTY: return BIT(FORMAT);
    case LARGE: return BIT(LIMIT_EXCEEDED);
    default: return is_excluded(path, mode) ? BIT(ALREADY_LOADED) : BIT_OK;
    }
}

static void take_in(target *to, int path, uint32_t mode)
{
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    place *at = to->at;
    generation *loaded = &at->slots[at->slots[0].number != 0];
    expect(memmgr_dimension_stats_get(to->handle, to->dimension, &stats, NULL) == MEMMGR_OK,
           "stats of the dimension");
    expect(stats.generation > at->last_number, "the number is larger than those before");
    loaded->number = at->last_number = stats.generation;
    loaded->address = (const unsigned char *)(uintptr_t)stats.generation_address;
    loaded->file = path;
    loaded->mode = mode;
    loaded->value = table[path].value;
    at->current = (int)(loaded - at->slots);
    at->going = NOBODY;
    at->charged = 1;
}

/* A mode for a file: an emulator may map nothing else but whole pages for writing. */
static uint32_t a_mode(int path)
{
    const uint32_t mode = below(4);
    return mode == MEMMGR_MODE_READ_WRITE && path == LITTLE ? MEMMGR_MODE_COPY : mode;
}

static int a_path(void)
{
    return (int)(one_in(12) ? FILES + below(PATHS - FILES) : below(FILES));
}

static memmgr_load_options load_options(int path, int *is_spoilt)
{
    static const memmgr_layer no_layer = { sizeof(memmgr_layer), 0, 0, 0, 0, 0, 0, 0, { 0 }, "" };
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = a_mode(path);
    options.prefetch = below(2);
    *is_spoilt = one_in(20);
    if (*is_spoilt) switch (below(6)) {
    case 0: options.mode = a_number_beyond(MEMMGR_MODE_RAM); break;
    case 1: options.prefetch = a_number_beyond(MEMMGR_PREFETCH_POPULATE); break;
    case 2: options.format = a_number_beyond(MEMMGR_FORMAT_SAFETENSORS); break;
    case 3: options.struct_size = below(sizeof options); break;
    case 4: options.layer_count = 1; break; /* of no layers */
    default:
        /* A layer without a name. */
        options.layers = &no_layer;
        options.layer_count = 1;
    }
    return options;
}

static void load(void)
{
    target to = aim();
    const int path = a_path();
    int is_spoilt;
    const memmgr_load_options options = load_options(path, &is_spoilt);
    unsigned foretold = to.refused;
    if (foretold == 0) {
        if (to.at->current != NOBODY) foretold = BIT(ALREADY_LOADED);
        else if (generations_of(to.at) == 2) foretold = BIT(VIEWS_HELD);
        else foretold = charge(to.in, charge_of(to.at, 1) - charge_of(to.at, 0));
        if (foretold & BIT_OK) foretold = (foretold & ~BIT_OK) | file_outcome(path, options.mode);
    }
    foretold = to.refused != 0 ? foretold : spoilt(foretold, is_spoilt);
    if (CAME_TO(foretold, memmgr_dimension_load(to.handle, to.dimension, table[path].path,
                                                &options, &error)) == MEMMGR_OK) {
        take_in(&to, path, options.mode);
        to.in->loads++;
    }
}

static void reload(void)
{
    target to = aim();
    const int path = a_path();
    int is_spoilt;
    const memmgr_load_options options = load_options(path, &is_spoilt);
    const generation *now = to.refused == 0 ? current_of(to.at) : NULL;
    unsigned foretold = to.refused;
    if (foretold == 0) {
        if (now == NULL) foretold = absence(to.at);
        else if (now->writing) foretold = BIT(WAIT_TIMEOUT);
        else if (generations_of(to.at) == 2) foretold = BIT(VIEWS_HELD);
        else foretold = charge(to.in, charge_of(to.at, 1) - charge_of(to.at, 0));
        if (foretold & BIT_OK) {
            const int same = now->file == path && now->mode != MEMMGR_MODE_RAM &&
                             options.mode != MEMMGR_MODE_RAM;
            foretold &= ~BIT_OK;
            foretold |= same ? BIT(ALREADY_LOADED) : file_outcome(path, options.mode);
        }
        foretold = spoilt(foretold, is_spoilt);
    }
    if (CAME_TO(foretold, memmgr_dimension_reload(to.handle, to.dimension, table[path].path,
                                                  &options, &error)) == MEMMGR_OK) {
        const int old = to.at->current;
        take_in(&to, path, options.mode);
        expect(to.at->current != old, "a reload takes the other slot");
        settle(to.at);
        to.in->reloads++;
    }
}

static void would_fit(void)
{
    target to = aim();
    const int by_size = one_in(3), path = a_path();
    const uint64_t size = !by_size ? 0 : one_in(4) ? capacity + 1 : 1 + below((unsigned)capacity);
    const uint32_t mode = a_mode(path);
    const int is_spoilt = one_in(20);
    unsigned foretold = to.refused;
    if (foretold == 0) {
        if (generations_of(to.at) == 2) foretold = BIT(VIEWS_HELD);
        else foretold = charge(to.in, charge_of(to.at, 1) - charge_of(to.at, 0));
        if (foretold & BIT_OK) {
            foretold &= ~BIT_OK;
            if (!by_size) foretold |= path < FILES ? BIT_OK : file_outcome(path, mode);
            else foretold |= size > capacity ? BIT(LIMIT_EXCEEDED) : BIT_OK;
        }
        foretold = spoilt(foretold, is_spoilt);
    }
    CAME_TO(foretold, memmgr_dimension_would_fit(
                          to.handle, to.dimension, by_size ? NULL : table[path].path,
                          is_spoilt && !by_size ? 1 : size,
                          is_spoilt && by_size ? a_number_beyond(MEMMGR_MODE_RAM) : mode, &error));
}

/* ==== Leaving =============================================================================== */

static int64_t a_timeout(int is_spoilt)
{
    if (is_spoilt) return -2 - (int64_t)below(1000);
    return one_in(2) ? 0 : below(1000);
}

/* What live views do to whoever would take them away. */
static unsigned in_the_way(uint32_t on_views)
{
    switch (on_views) {
    case MEMMGR_ON_VIEWS_REFUSE: return BIT(VIEWS_HELD);
    case MEMMGR_ON_VIEWS_WAIT: return BIT(WAIT_TIMEOUT);
    default: return BIT_OK;
    }
}

static void leave(int deallocates)
{
    target to = aim();
    const int is_spoilt = one_in(20), is_late = is_spoilt && one_in(2);
    const uint32_t on_views = below(3);
    const uint32_t how = is_spoilt && !is_late ? a_number_beyond(MEMMGR_ON_VIEWS_DEFER) : on_views;
    const int64_t timeout_ns = a_timeout(is_late);
    unsigned foretold = to.refused;
    memmgr_status status;
    if (foretold == 0) {
        const generation *now = current_of(to.at);
        if (now != NULL) foretold = holders_of(now) != 0 ? in_the_way(on_views) : BIT_OK;
        else if (!deallocates) foretold = absence(to.at);
        else foretold = to.at->going != NOBODY ? in_the_way(on_views) : BIT_OK;
        foretold = spoilt(foretold, is_spoilt);
    }
    if (deallocates) {
        status = CAME_TO(foretold, memmgr_dimension_deallocate(to.handle, to.dimension, how,
                                                               timeout_ns, &error));
    } else {
        status = CAME_TO(foretold, memmgr_dimension_unload(to.handle, to.dimension, how,
                                                           timeout_ns, &error));
    }
    if (status != MEMMGR_OK) return;
    if (to.at->current != NOBODY) retire(to.at);
    if (deallocates) to.at->charged = 0;
    to.in->unloads++;
}

static void unload(void)
{
    leave(0);
}

static void deallocate(void)
{
    leave(1);
}

static void flush_and_evict(void)
{
    target to = aim();
    if (one_in(2)) CAME_TO(presence(&to), memmgr_dimension_evict(to.handle, to.dimension, &error));
    else CAME_TO(presence(&to), memmgr_dimension_flush(to.handle, to.dimension, &error));
}

/* ==== Views and writes ====================================================================== */

static void check_bytes(const unsigned char *data, uint64_t length, uint64_t offset,
                        const generation *of)
{
    const uint64_t end = offset + length;
    uint64_t at = offset < TAIL && table[of->file].has_layer ? TAIL : offset;
    if (at >= end) return;
    expect(data[at - offset] == of->value && data[end - 1 - offset] == of->value, "the bytes");
}

static void hold(unsigned index, target *to, const memmgr_view *view)
{
    generation *of = current_of(to->at);
    expect(view->generation == of->number, "the view is of the current generation");
    expect(view->data == of->address + view->offset, "the view is where the file is mapped");
    check_bytes(view->data, view->length, view->offset, of);
    views[index].view = *view;
    views[index].owner = to->in;
    views[index].of = of;
    of->views++;
}

/* A thread that tracks its views is told at once that it would wait for itself. */
static unsigned told_at_once(const target *to, unsigned foretold)
{
    const generation *now = to->refused == 0 ? current_of(to->at) : NULL;
    const int holds = now != NULL && now->views != 0;
    if (!is_tracked(to) || !holds || !(foretold & BIT(WAIT_TIMEOUT))) return foretold;
    return (foretold & ~BIT(WAIT_TIMEOUT)) | BIT(VIEWS_HELD);
}

static void acquire(void)
{
    target to = aim();
    const unsigned index = below(VIEWS);
    memmgr_view view = MEMMGR_VIEW_INIT;
    unsigned foretold = told_at_once(&to, entry(&to));
    uint64_t size = WHOLE, offset, length;
    const int is_spoilt = one_in(20);
    if (views[index].owner != NULL) return;
    if (to.refused == 0 && to.at->current != NOBODY) size = size_of(current_of(to.at));
    offset = below((unsigned)size + 1);
    length = below((unsigned)(size - offset) + 1);
    if (is_spoilt) {
        view.struct_size = below(sizeof view);
        foretold = BIT(INVALID_ARGUMENT) | (foretold & ~BIT_OK);
    } else if (one_in(10)) {
        switch (below(4)) {
        case 0: offset = size, length = 1; break;
        case 1: length = size - offset + 1; break;
        case 2: offset = UINT64_MAX - below(2), length = below(4096) + 2; break;
        default: length = UINT64_MAX - offset; break;
        }
        if (foretold & BIT_OK) foretold = BIT(OUT_OF_BOUNDS);
    }
    if (CAME_TO(foretold, memmgr_view_acquire(to.handle, to.dimension, offset, length, &view,
                                              &error)) == MEMMGR_OK) {
        expect(view.offset == offset && view.length == length, "the view is what was asked for");
        hold(index, &to, &view);
    } else {
        expect(view.data == NULL && view.token[0] == 0, "nothing is held after a failure");
    }
}

static void layers(void)
{
    target to = aim();
    const unsigned index = below(VIEWS), how = below(3);
    const int is_known = !one_in(8);
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    /* Only who acquires waits for a writer. */
    unsigned foretold = how == 2 ? told_at_once(&to, entry(&to)) : presence(&to);
    const char *name = is_known ? "a" : "b";
    memmgr_status status;
    if (views[index].owner != NULL) return;
    if (foretold & BIT_OK && !(is_known && table[current_of(to.at)->file].has_layer))
        foretold = BIT(UNKNOWN_LAYER);
    if (one_in(30)) {
        layer.struct_size = 3;
        foretold = spoilt(foretold, 1);
    }
    switch (how) {
    case 0:
        status = CAME_TO(foretold, memmgr_layer_find(to.handle, to.dimension, name, &layer,
                                                     &error));
        break;
    case 1:
        status = CAME_TO(foretold, memmgr_layer_at(to.handle, to.dimension, !is_known, &layer,
                                                   &error));
        break;
    default:
        status = CAME_TO(foretold, memmgr_layer_acquire(to.handle, to.dimension, name, &layer,
                                                        &view, &error));
    }
    if (status != MEMMGR_OK) {
        expect(view.data == NULL, "nothing is held after a failure");
        return;
    }
    expect(layer.offset + layer.length == size_of(current_of(to.at)), "the layer ends the file");
    if (how == 2) hold(index, &to, &view);
}

static void release(void)
{
    const unsigned index = below(VIEWS);
    memmgr_view *view = &views[index].view;
    world *owner = views[index].owner;
    if (owner == NULL) {
        memmgr_view nothing = MEMMGR_VIEW_INIT;
        nothing.dimension = below(DIMENSIONS);
        nothing.token[one_in(2)] = next_random(&random_state);
        CAME_TO(BIT(INVALID_ARGUMENT),
                memmgr_view_release(worlds[below(WORLDS)].handle, &nothing, &error));
        return;
    }
    if (one_in(10)) {
        memmgr_manager *other = one_in(2) ? a_stranger() : worlds[owner == worlds].handle;
        CAME_TO(BIT(INVALID_ARGUMENT), memmgr_view_release(other, view, &error));
    }
    check_bytes(view->data, view->length, view->offset, views[index].of);
    CAME_TO(BIT_OK, memmgr_view_release(owner->handle, view, &error));
    expect(view->data == NULL, "a released view shows nothing");
    views[index].of->views--;
    views[index].owner = NULL;
    CAME_TO(BIT(INVALID_ARGUMENT), memmgr_view_release(owner->handle, view, &error));
}

static void begin_write(void)
{
    target to = aim();
    const unsigned index = below(WRITES);
    const generation *now = to.refused == 0 ? current_of(to.at) : NULL;
    memmgr_write write = MEMMGR_WRITE_INIT;
    uint32_t how = below(2);
    const int is_spoilt = one_in(20), is_late = is_spoilt && one_in(2);
    unsigned foretold = to.refused;
    if (writes[index].owner != NULL) return;
    if (is_spoilt && !is_late) how = a_number_beyond(MEMMGR_WRITE_ANY_THREAD);
    if (foretold == 0) {
        if (now == NULL) foretold = absence(to.at);
        else if (now->mode == MEMMGR_MODE_READ) foretold = BIT(INVALID_ARGUMENT);
        else if (holders_of(now) != 0) foretold = told_at_once(&to, BIT(WAIT_TIMEOUT));
        else foretold = BIT_OK;
        foretold = spoilt(foretold, is_spoilt);
    }
    if (CAME_TO(foretold, memmgr_write_begin(to.handle, to.dimension, how, a_timeout(is_late),
                                             &write, &error)) != MEMMGR_OK) {
        expect(write.data == NULL && write.token[0] == 0, "nothing is begun after a failure");
        return;
    }
    expect(write.data == now->address && write.length == size_of(now), "all of it is to write");
    writes[index].write = write;
    writes[index].owner = to.in;
    writes[index].of = current_of(to.at);
    writes[index].of->writing = 1;
}

static void end_write(void)
{
    const unsigned index = below(WRITES);
    memmgr_write *write = &writes[index].write;
    world *owner = writes[index].owner;
    generation *of = writes[index].of;
    if (owner == NULL) return;
    if (one_in(10)) {
        memmgr_manager *other = one_in(2) ? a_stranger() : worlds[owner == worlds].handle;
        CAME_TO(BIT(INVALID_ARGUMENT), memmgr_write_end(other, write, &error));
    }
    of->value = (int)below(256);
    memset((unsigned char *)write->data + TAIL, of->value, write->length - TAIL);
    if (!table[of->file].has_layer) memset(write->data, of->value, TAIL);
    if (of->mode == MEMMGR_MODE_READ_WRITE) table[of->file].value = of->value;
    CAME_TO(BIT_OK, memmgr_write_end(owner->handle, write, &error));
    of->writing = 0;
    writes[index].owner = NULL;
    CAME_TO(BIT(INVALID_ARGUMENT), memmgr_write_end(owner->handle, write, &error));
}

static void holders(void)
{
    target to = aim();
    memmgr_holder list[2] = { MEMMGR_HOLDER_INIT, MEMMGR_HOLDER_INIT };
    size_t count = 4711, expected = 0;
    unsigned index;
    if (CAME_TO(to.refused != 0 ? to.refused : BIT_OK,
                memmgr_holders_get(to.handle, to.dimension, list, 2, &count, &error)) !=
        MEMMGR_OK) {
        expect(count == 0, "no count after a failure");
        return;
    }
    for (index = 0; is_tracked(&to) && index < 2; index++) expected += to.at->slots[index].views;
    expect(count == expected, "as many holders as views");
    for (index = 0; index < 2 && index < count; index++) {
        expect(list[index].dimension == to.dimension && list[index].ticket != 0, "a holder");
    }
}

/* ==== Files ================================================================================= */

static void save(void)
{
    target to = aim();
    const int onto = one_in(2) ? (int)below(FILES) : MISSING;
    unsigned foretold = told_at_once(&to, entry(&to));
    memmgr_save_options options = MEMMGR_SAVE_OPTIONS_INIT;
    const char *path = onto == MISSING ? file_path("saved") : table[onto].path;
    if (onto != MISSING && !is_mapped(onto)) return;
    if (foretold & BIT_OK && onto != MISSING) foretold = BIT(ALREADY_LOADED);
    if (one_in(10)) {
        options.format = a_number_beyond(MEMMGR_FORMAT_SAFETENSORS);
        foretold = spoilt(foretold, 1);
    }
    CAME_TO(foretold, memmgr_dimension_save(to.handle, to.dimension, path, &options, &error));
}

static void save_array(void)
{
    static const uint32_t numbers[4] = { 1, 2, 3, 4 };
    memmgr_array array = MEMMGR_ARRAY_INIT;
    unsigned foretold = BIT_OK;
    const char *path = file_path("saved.npy");
    array.dtype = MEMMGR_DTYPE_U32;
    array.rank = 1;
    array.shape[0] = 4;
    array.name = "data";
    array.data = numbers;
    switch (below(6)) {
    case 0: array.dtype = a_number_beyond(MEMMGR_DTYPE_F4), foretold = BIT(INVALID_ARGUMENT); break;
    case 1: array.rank = a_number_beyond(MEMMGR_RANK_MAX), foretold = BIT(INVALID_ARGUMENT); break;
    case 2: array.shape[0] = UINT64_MAX / 2, foretold = BIT(INVALID_ARGUMENT); break;
    case 3: array.data = NULL, foretold = BIT(INVALID_ARGUMENT); break;
    case 4:
        path = table[LITTLE].path;
        if (!is_mapped(LITTLE)) return;
        foretold = BIT(ALREADY_LOADED);
        break;
    default: break;
    }
    CAME_TO(foretold, memmgr_array_save(path, &array, 1, NULL, &error));
}

static void verify(void)
{
    target to = aim();
    memmgr_verify_options options = MEMMGR_VERIFY_OPTIONS_INIT;
    memmgr_verification found = MEMMGR_VERIFICATION_INIT;
    unsigned foretold;
    options.flags = one_in(4) ? MEMMGR_VERIFY_CHECKSUMS : 0;
    foretold = options.flags != 0 ? told_at_once(&to, entry(&to)) : presence(&to);
    if (one_in(10)) {
        options.flags = a_number_beyond(MEMMGR_VERIFY_CHECKSUMS);
        foretold = spoilt(foretold, 1);
    }
    if (CAME_TO(foretold, memmgr_dimension_verify(to.handle, to.dimension, &options, &found,
                                                  &error)) != MEMMGR_OK)
        return;
    expect(found.generation == current_of(to.at)->number, "what is loaded was verified");
    expect((found.changes & ~(uint32_t)MEMMGR_CHANGE_REWRITTEN) == 0, "no file was replaced");
}

/* ==== Blocks ================================================================================ */

static size_t a_size(void)
{
    switch (below(8)) {
    case 0: return below(3);
    case 1: return 60000 + below(10000);
    case 2: return 100000 + below(100000);
    default: return below(5000);
    }
}

/* A refusal is one only if what was asked for does not fit. */
static void check_refusal(const world *in, size_t size)
{
    const memmgr_stats stats = stats_of(in);
    const memmgr_pool_stats pools = pool_stats_of(in);
    expect(pools.allocated + size + SLAB > pools.limit ||
               stats.allocated + size + SLAB > stats.limit,
           "the limit was reached");
}

static void fill(block *of)
{
    of->value = (int)below(256);
    memset(of->data, of->value, of->size);
}

static void check_block(const block *of)
{
    size_t index;
    for (index = 0; index < of->size; index++) {
        if (of->data[index] == of->value) continue;
        expect(0, "a block keeps its bytes");
        return;
    }
}

static void check_room(const block *of)
{
    size_t room = 0;
    CAME_TO(BIT_OK, memmgr_block_size(of->owner->handle, of->data, &room, &error));
    expect(room >= of->size, "a block has room for what was asked for");
}

/* What a function that returns a block came to. */
static memmgr_status got(void *block, void **data)
{
    *data = block;
    return block != NULL ? MEMMGR_OK : error.status;
}

static void alloc(void)
{
    target to = aim_at_manager();
    block *into = &blocks[below(BLOCKS)];
    const size_t size = a_size(), alignment = (size_t)1 << below(13);
    const unsigned how = below(3);
    const unsigned foretold = to.refused != 0 ? to.refused : BIT_OK | BIT(LIMIT_EXCEEDED);
    void *data = worlds;
    memmgr_status status;
    if (into->owner != NULL) return;
    if (one_in(20)) {
        static const size_t never[] = { SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2, (size_t)1 << 40 };
        const unsigned refused = BIT(LIMIT_EXCEEDED) | BIT(INVALID_ARGUMENT) | BIT(ALLOCATION);
        CAME_TO(foretold & BIT_OK ? refused : foretold,
                got(memmgr_block_alloc(to.handle, never[below(4)], &error), &data));
        expect(data == NULL, "no block after a failure");
        return;
    }
    if (one_in(20)) {
        static const size_t never[] = { 0, 3, 48, (size_t)1 << 40 };
        CAME_TO(spoilt(foretold & ~BIT(LIMIT_EXCEEDED), 1),
                got(memmgr_block_alloc_aligned(to.handle, size, never[below(4)], &error),
                    &data));
        expect(data == NULL, "no block after a failure");
        return;
    }
    if (how == 0)
        status = CAME_TO(foretold, got(memmgr_block_alloc(to.handle, size, &error), &data));
    else if (how == 1)
        status = CAME_TO(foretold, got(memmgr_block_alloc_aligned(to.handle, size, alignment, &error),
                                       &data));
    else
        status = CAME_TO(foretold, got(memmgr_block_alloc_zeroed(to.handle, size, alignment, &error),
                                       &data));
    if (status != MEMMGR_OK) {
        expect(data == NULL, "no block after a failure");
        if (status == MEMMGR_ERR_LIMIT_EXCEEDED) check_refusal(to.in, size);
        return;
    }
    into->owner = to.in;
    into->data = data;
    into->size = size;
    expect((uintptr_t)data % (how == 0 ? 16 : alignment) == 0, "a block is aligned");
    if (how == 2) {
        into->value = 0;
        check_block(into);
    }
    fill(into);
    check_room(into);
    to.in->blocks++;
}

static void alloc_batch(void)
{
    target to = aim_at_manager();
    enum { COUNT = 40 };
    void *many[COUNT];
    const size_t size = one_in(3) ? a_size() : below(200);
    const unsigned foretold = to.refused != 0 ? to.refused : BIT_OK | BIT(LIMIT_EXCEEDED);
    memmgr_status status =
        CAME_TO(foretold, memmgr_block_alloc_batch(to.handle, size, COUNT, many, &error));
    unsigned index;
    if (status != MEMMGR_OK) {
        for (index = 0; index < COUNT; index++) expect(many[index] == NULL, "none or all");
        return;
    }
    for (index = 0; index < COUNT; index++) memset(many[index], (int)index, size);
    if (one_in(4)) {
        /* Twice in one batch: those before it are freed, those after it are not. */
        void *twice = many[COUNT / 2];
        many[COUNT / 2] = many[0];
        CAME_TO(BIT(POOL_CORRUPTION), memmgr_block_free_batch(to.handle, many, COUNT, &error));
        expect(error.offset == COUNT / 2, "the index of the wrong one");
        many[COUNT / 2] = twice;
        memset(many, 0, COUNT / 2 * sizeof many[0]);
    }
    CAME_TO(BIT_OK, memmgr_block_free_batch(to.handle, many, COUNT, &error));
}

static void resize(void)
{
    block *of = &blocks[below(BLOCKS)];
    const size_t size = a_size() + 1, kept = size < of->size ? size : of->size;
    const unsigned open = BIT_OK | BIT(LIMIT_EXCEEDED);
    void *data = NULL;
    memmgr_status status;
    if (of->owner == NULL) return;
    status = CAME_TO(of->owner->open ? open : open | BIT(INVALID_ACCESS),
                     got(memmgr_block_resize(of->owner->handle, of->data, size, &error), &data));
    if (status != MEMMGR_OK) {
        expect(data == NULL, "no block after a failure");
        if (of->owner->open) check_refusal(of->owner, size);
        check_block(of);
        return;
    }
    of->data = data;
    of->size = kept;
    check_block(of);
    of->size = size;
    fill(of);
    check_room(of);
}

static void free_block(void)
{
    block *of = &blocks[below(BLOCKS)];
    world *owner = of->owner;
    void *data = of->data;
    if (owner == NULL) return;
    check_block(of);
    if (one_in(10)) {
        static char foreign[64];
        /* Behind a block of 16 bytes another one may begin. */
        void *const strangers[] = { foreign + 16, (char *)data + 1, worlds,
                                    (char *)data + (of->size > 16 ? 16 : 8) };
        CAME_TO(BIT(POOL_CORRUPTION),
                memmgr_block_free(owner->handle, strangers[below(4)], &error));
        CAME_TO(BIT(POOL_CORRUPTION) | BIT(INVALID_ARGUMENT),
                memmgr_block_free(worlds[owner == worlds].handle, data, &error));
    }
    CAME_TO(BIT_OK, memmgr_block_free(owner->handle, NULL, &error));
    CAME_TO(BIT_OK, memmgr_block_free(owner->handle, data, &error));
    of->owner = NULL;
    owner->blocks--;
    CAME_TO(BIT(POOL_CORRUPTION), memmgr_block_free(owner->handle, data, &error));
}

static void trim(void)
{
    target to = aim_at_manager();
    uint64_t bytes = 4711;
    memmgr_pool_stats stats;
    if (CAME_TO(to.refused != 0 ? to.refused : BIT_OK,
                memmgr_pool_trim(to.handle, &bytes, &error)) != MEMMGR_OK)
        return;
    stats = pool_stats_of(to.in);
    expect(stats.free_bytes == 0, "nothing is free after a trim");
    if (to.in->blocks == 0) expect(stats.allocated == 0, "no block, no charge");
}

/* ==== Managers ============================================================================== */

/* It is closed, and nobody holds anything of it. */
static int is_gone(const world *in)
{
    return !in->open && in->blocks == 0 && holders_in(in) == 0;
}

static void open_world(void)
{
    static const uint32_t flags[] = { 0, 0, MEMMGR_OPEN_GATE_ATOMIC, MEMMGR_OPEN_TRACK_VIEWS,
                                      MEMMGR_OPEN_POISON, MEMMGR_OPEN_GUARD_PAGES };
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened = (memmgr_manager *)(uintptr_t)4711;
    world *in = &worlds[below(WORLDS)];
    unsigned index, foretold = BIT_OK;
    if (!is_gone(in)) return;
    options.dimension_count = DIMENSIONS;
    options.capacity = capacity;
    options.flags = flags[below(sizeof flags / sizeof flags[0])];
    options.pool_limit = POOL_LIMIT;
    options.limit = capacity * (DIMENSIONS + below(3)) + below(POOL_LIMIT);
    options.read_timeout_ns = 1;
    if (one_in(4)) switch (below(6)) {
    case 0: options.struct_size = below(56), foretold = BIT(INVALID_ARGUMENT); break;
    case 1: options.limit = capacity * DIMENSIONS - 1, foretold = BIT(LIMIT_EXCEEDED); break;
    case 2: options.flags = (uint32_t)1 << 31, foretold = BIT(INVALID_ARGUMENT); break;
    case 3: options.capacity = UINT64_MAX, foretold = BIT(INVALID_ARGUMENT); break;
    case 4:
        options.dimension_count = MEMMGR_DIMENSIONS_MAX + 1;
        foretold = BIT(INVALID_ARGUMENT);
        break;
    default: options.read_timeout_ns = -2, foretold = BIT(INVALID_ARGUMENT);
    }
    if (CAME_TO(foretold, memmgr_manager_open(&options, &opened, &error)) != MEMMGR_OK) {
        expect(opened == NULL, "no manager after a failure");
        return;
    }
    if (in->handle != NULL) dead = in->handle;
    memset(in, 0, sizeof *in);
    in->handle = opened;
    in->open = 1;
    in->flags = options.flags;
    in->limit = options.limit;
    for (index = 0; index < DIMENSIONS; index++) {
        place *at = &in->places[index];
        at->current = at->going = NOBODY;
        at->charged = 1;
    }
}

static void close_world(world *in, uint32_t on_views)
{
    unsigned index;
    const unsigned foretold = in->handle == NULL  ? BIT_OK
                              : !in->open         ? BIT(INVALID_ACCESS)
                              : holders_in(in) != 0 ? in_the_way(on_views)
                                                    : BIT_OK;
    if (CAME_TO(foretold, memmgr_manager_close(in->handle, on_views, 0, &error)) != MEMMGR_OK ||
        !in->open)
        return;
    in->open = 0;
    for (index = 0; index < DIMENSIONS; index++) {
        in->places[index].charged = 0;
        in->places[index].current = NOBODY;
        settle(&in->places[index]);
    }
}

static void close_any(void)
{
    if (one_in(3)) close_world(&worlds[below(WORLDS)], below(3));
}

static void ask(void)
{
    target to = aim_at_manager();
    const unsigned foretold = to.refused != 0 ? to.refused : BIT_OK;
    memmgr_memory memory = MEMMGR_MEMORY_INIT;
    size_t length = 0;
    uint32_t found = 4711;
    char text[8192];
    switch (below(4)) {
    case 0:
        if (CAME_TO(foretold, memmgr_memory_get(to.handle, to.dimension, &memory, &error)) ==
            MEMMGR_OK)
            expect(memory.reserved >= 2 * capacity, "two slots are reserved");
        return;
    case 1:
        if (CAME_TO(foretold, memmgr_dump_json(to.handle, text, sizeof text, &length, &error)) ==
            MEMMGR_OK)
            expect(strlen(text) == length && text[0] == '{', "an object");
        return;
    case 2:
        if (CAME_TO(foretold, memmgr_dimension_find(to.handle, "D03", &found, &error)) == MEMMGR_OK)
            expect(found == 2, "the third");
        else
            expect(found == 0, "no index after a failure");
        return;
    default:
        CAME_TO(foretold, memmgr_stats_reset_peak(to.handle, &error));
    }
}

/* Called with no lock held: so it may ask. */
static void hear(const memmgr_log_record *record, void *user)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    const memmgr_status status = memmgr_stats_get(worlds[0].handle, &stats, NULL);
    expect(user == worlds && record->message[0] != 0, "a record");
    expect(status == MEMMGR_OK || status == MEMMGR_ERR_INVALID_ACCESS ||
               worlds[0].handle == NULL,
           "a log function may call the library");
}

static void log_on_or_off(void)
{
    CAME_TO(BIT_OK, memmgr_log_set(MEMMGR_LOG_DEBUG, one_in(4) ? hear : NULL, worlds, &error));
}

/* ==== Every step ============================================================================ */

static void check_dimension(const world *in, uint32_t index)
{
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    place *at = (place *)&in->places[index];
    const generation *now = current_of(at);
    uint32_t state = at->charged ? MEMMGR_STATE_EMPTY : MEMMGR_STATE_DEALLOCATED;
    uint64_t retiring = holders_of(&at->slots[0]) + holders_of(&at->slots[1]);
    if (now != NULL) state = now->writing ? MEMMGR_STATE_WRITING : MEMMGR_STATE_LOADED;
    else if (at->going != NOBODY) state = MEMMGR_STATE_UNLOADING;
    if (now != NULL) retiring -= holders_of(now);
    expect(memmgr_dimension_stats_get(in->handle, index, &stats, NULL) == MEMMGR_OK, "stats");
    expect(stats.state == state, "the state");
    expect(stats.charged == charge_of(at, 0), "the dimension's charge");
    expect(stats.retiring_views == retiring, "the views of what is replaced");
    expect(stats.views == (now != NULL ? holders_of(now) : 0), "the views");
    expect(stats.generation == (now != NULL ? now->number : 0), "the generation");
    expect(now == NULL || (stats.mode == now->mode && stats.file_size == size_of(now)),
           "mode and size");
}

static void check_world(const world *in)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    memmgr_pool_stats pools;
    uint64_t allocated = 0, mapped = 0;
    unsigned loaded = 0, index;
    if (!in->open) {
        const memmgr_status status = memmgr_stats_get(in->handle, &stats, NULL);
        expect(status == (in->handle != NULL ? MEMMGR_ERR_INVALID_ACCESS
                                             : MEMMGR_ERR_INVALID_ARGUMENT),
               "a closed manager tells nothing");
        return;
    }
    stats = stats_of(in);
    pools = pool_stats_of(in);
    for (index = 0; index < 2 * DIMENSIONS; index++) {
        const generation *of = &in->places[index / 2].slots[index % 2];
        if (of->number != 0) mapped += size_of(of);
    }
    for (index = 0; index < DIMENSIONS; index++) {
        allocated += charge_of(&in->places[index], 0);
        loaded += in->places[index].current != NOBODY;
    }
    expect(stats.allocated == allocated + pools.allocated, "the budget is the sum of the charges");
    expect(stats.allocated <= stats.limit && stats.limit == in->limit, "the limit holds");
    expect(stats.peak >= stats.allocated && stats.peak <= stats.limit, "the peak");
    expect(stats.mapped == mapped && stats.loaded_count == loaded, "what is mapped");
    expect(stats.views == holders_in(in), "the views held");
    expect(stats.loads == in->loads && stats.reloads == in->reloads &&
               stats.unloads == in->unloads,
           "the calls that succeeded");
    expect(pools.allocated <= pools.limit && pools.blocks == in->blocks, "the blocks");
    check_dimension(in, below(DIMENSIONS));
}

static void (*const actions[])(void) = {
    load,        load,   load,    reload,  reload,  would_fit,   unload,    deallocate,
    acquire,     layers, acquire, acquire, release, release,     release,   begin_write,
    begin_write, alloc,  alloc,   alloc,   resize,  alloc_batch, end_write, end_write,
    free_block,  trim,   holders, verify,  ask,     open_world,  close_any, log_on_or_off,
    free_block,  flush_and_evict,
};

static void write_files(void)
{
    enum { DATA = 65408 };
    char header[WHOLE - DATA - 8 + 1];
    unsigned index;
    for (index = 0; index < FILES; index++) table[index].value = (int)index + 1;
    file_fill("table", table[TABLE].value, WHOLE);
    file_fill("other", table[OTHER].value, WHOLE);
    file_fill("little", table[LITTLE].value, SMALL);
    table[TENSORS].value = 1;
    snprintf(header, sizeof header, "%-*s", (int)sizeof header - 1,
             "{\"a\":{\"dtype\":\"U8\",\"shape\":[65408],\"data_offsets\":[0,65408]}}");
    file_safetensors("tensors", strlen(header), header, DATA);
}

static void name_files(void)
{
    static const char *const names[PATHS] = { "table", "other", "tensors", "little",
                                              "missing", "empty", "large", "" };
    unsigned index;
    for (index = 0; index < FOLDER; index++) {
        table[index].path = file_path(names[index]);
        table[index].size = index == LITTLE ? SMALL : WHOLE;
    }
    table[FOLDER].path = file_folder();
    table[TENSORS].has_layer = 1;
    file_fill("empty", 0, 0);
    file_fill("large", 9, (size_t)capacity + 1);
}

/* Ends what is held, and finds nothing left. */
static void finish(void)
{
    unsigned index;
    for (index = 0; index < WORLDS; index++) {
        if (worlds[index].open) close_world(&worlds[index], MEMMGR_ON_VIEWS_DEFER);
    }
    for (index = 0; index < WRITES; index++) {
        const world *owner = writes[index].owner;
        if (owner == NULL) continue;
        CAME_TO(BIT_OK, memmgr_write_end(owner->handle, &writes[index].write, &error));
        writes[index].owner = NULL;
    }
    for (index = 0; index < VIEWS; index++) {
        const world *owner = views[index].owner;
        if (owner == NULL) continue;
        CAME_TO(BIT_OK, memmgr_view_release(owner->handle, &views[index].view, &error));
        views[index].owner = NULL;
    }
    for (index = 0; index < BLOCKS; index++) {
        const world *owner = blocks[index].owner;
        if (owner == NULL) continue;
        CAME_TO(BIT_OK, memmgr_block_free(owner->handle, blocks[index].data, &error));
        blocks[index].owner = NULL;
    }
    CAME_TO(BIT_OK, memmgr_log_set(MEMMGR_LOG_DEBUG, NULL, NULL, &error));
    memset(worlds, 0, sizeof worlds);
}

static void run_order(void)
{
    unsigned index;
    random_state = (seed + 1) * 0x9e3779b97f4a7c15;
    write_files();
    for (step = 0; step < STEPS && test.failures == 0; step++) {
        /* A file that is written to the disk takes as long as a hundred of the others. */
        if (one_in(100)) one_in(2) ? save() : save_array();
        else actions[below(sizeof actions / sizeof actions[0])]();
        settle_all();
        for (index = 0; index < WORLDS; index++) check_world(&worlds[index]);
    }
    finish();
}

static uint64_t first_order, order_count = ORDERS;

static void any_order(void)
{
    const uint64_t reserved = map_reserved();
    const unsigned descriptors = count_descriptors();
    for (seed = first_order; seed < first_order + order_count && test.failures == 0; seed++) {
        run_order();
    }
    EQUAL(descriptors, count_descriptors());
    CHECK(!map_leaks(reserved));
}

int main(int argc, char **argv)
{
    memmgr_capabilities capabilities = MEMMGR_CAPABILITIES_INIT;
    OK(memmgr_capabilities_get(&capabilities, &error));
    capacity = WHOLE;
    CHECK(capacity % capabilities.page_size == 0);
    if (argc > 1 && strcmp(argv[1], "--slow") == 0) {
        order_count *= 50;
    } else if (argc > 1) {
        first_order = strtoull(argv[1], NULL, 10);
        order_count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    }
    name_files();
    RUN(any_order);
    return test_end();
}

/*
 * memmgr.hpp: what it owns is given back on every way out, what fails is thrown with all its
 * detail, a view is of the type that its layer has, and reading allocates nothing.
 */
#include "../c/files.h"

#include <memmgr.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <list>
#include <new>
#include <numeric>
#include <thread>
#if defined(__STDCPP_FLOAT16_T__) || defined(__STDCPP_BFLOAT16_T__)
#include <stdfloat>
#endif

static unsigned long allocations;

void *operator new(std::size_t size)
{
    allocations++;
    if (void *memory = std::malloc(size)) return memory;
    throw std::bad_alloc();
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }

namespace {

/* A type that C++ does not know, and one that only a program knows. */
struct Half {
    uint16_t bits;
};
struct Point {
    float x, y;
};

} // namespace

template <> inline constexpr uint32_t memmgr::dtype_of<Half> = MEMMGR_DTYPE_F16;

/* Qualified types are what they are without, those of programs too; what no layer has is opaque. */
static_assert(memmgr::dtype_of<const bool> == MEMMGR_DTYPE_BOOL);
static_assert(memmgr::dtype_of<volatile bool> == MEMMGR_DTYPE_BOOL);
static_assert(memmgr::dtype_of<const volatile char> == MEMMGR_DTYPE_OPAQUE);
static_assert(memmgr::dtype_of<const float> == MEMMGR_DTYPE_F32);
static_assert(memmgr::dtype_of<const std::complex<double>> == MEMMGR_DTYPE_C128);
static_assert(memmgr::dtype_of<const Half> == MEMMGR_DTYPE_F16);
static_assert(memmgr::dtype_of<long long> == MEMMGR_DTYPE_I64);
#ifdef __SIZEOF_INT128__
static_assert(memmgr::dtype_of<__int128> == MEMMGR_DTYPE_OPAQUE);
static_assert(memmgr::dtype_of<unsigned __int128> == MEMMGR_DTYPE_OPAQUE);
#endif
#ifdef __STDCPP_FLOAT16_T__
static_assert(memmgr::dtype_of<const std::float16_t> == MEMMGR_DTYPE_F16);
#endif
#ifdef __STDCPP_BFLOAT16_T__
static_assert(memmgr::dtype_of<std::bfloat16_t> == MEMMGR_DTYPE_BF16);
#endif

namespace {

memmgr::Manager open_small()
{
    auto options = memmgr::init<memmgr_manager_options>();
    options.dimension_count = 2;
    options.capacity = 4096;
    options.pool_limit = 1 << 20;
    return memmgr::Manager(options);
}

/* Layers "floats" (F32, 0 to 9), "halves" (F16) and "bytes" (U8), of the same 40 bytes. */
const char *file_of_types()
{
    float floats[10];
    std::iota(floats, floats + 10, 0.0f);
    const char *const names[] = {"floats", "halves", "bytes"};
    const uint32_t dtypes[] = {MEMMGR_DTYPE_F32, MEMMGR_DTYPE_F16, MEMMGR_DTYPE_U8};
    std::vector<memmgr_array> arrays;
    for (unsigned index = 0; index < 3; index++) {
        auto array = memmgr::init<memmgr_array>();
        array.name = names[index];
        array.dtype = dtypes[index];
        array.data = floats;
        array.rank = 1;
        array.shape[0] = 10u << index;
        arrays.push_back(array);
    }
    const char *path = file_path("types.safetensors");
    memmgr::save(path, arrays);
    return path;
}

/* The error that a call throws; a call that throws none fails. */
template <class Function> memmgr_error thrown_by(Function function)
{
    try {
        function();
    } catch (const memmgr::Error &caught) {
        CHECK(std::strcmp(caught.what(), caught.detail().message) == 0);
        EQUAL(caught.status(), caught.detail().status);
        return caught.detail();
    }
    CHECK(!"it throws");
    return memmgr::init<memmgr_error>();
}

void structs_are_initialized_as_by_the_macros()
{
    const memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    const auto same = memmgr::init<memmgr_manager_options>();
    CHECK(std::memcmp(&options, &same, sizeof same) == 0);
    EQUAL(MEMMGR_VERSION_MAJOR, memmgr_version() >> 16);
    CHECK(memmgr::capabilities().page_size >= 4096);
}

void the_default_manager_has_fourteen_dimensions()
{
    const memmgr::Manager manager;
    EQUAL(293601280, manager.stats().allocated); /* R1.1 */
    EQUAL(13, manager["D14"].index());
    EQUAL(20 << 20, manager[13].stats().capacity);
    CHECK(manager.dump().front() == '{' && manager.dump().back() == '}');
    CHECK(manager.memory().reserved >= 293601280);
}

void views_are_of_their_layers_type()
{
    const memmgr::Manager manager = open_small();
    const memmgr::Dimension types = manager["D01"];
    types.load(std::string(file_of_types()));
    memmgr_layer layer;
    const memmgr::View<float> floats = types.view<float>("floats", &layer);
    EQUAL(10, floats.size());
    EQUAL(1, layer.rank);
    EQUAL(10, layer.shape[0]);
    CHECK(std::accumulate(floats.begin(), floats.end(), 0.0f) == 45.0f);
    CHECK(types.view<Point>("floats")[4].y == 9.0f);
    EQUAL(10, types.view<const float>("floats").size());
    EQUAL(MEMMGR_ERR_INVALID_ARGUMENT,
          thrown_by([&] { (void)types.view<const double>("floats"); }).status);
    EQUAL(20, types.view<Half>("halves").size());
    EQUAL(40, types.view<unsigned char>("bytes").size());
    EQUAL(40, types.view("bytes").size());
    EQUAL(40, types.view<char>("bytes").size());
    CHECK(types.view<float>(layer.offset, 10)[3] == 3.0f);
    EQUAL(layer.offset, floats.offset());
    EQUAL(types.stats().generation, floats.generation());
    EQUAL(1, manager.stats().views);

    memmgr_error refusal = thrown_by([&] { (void)types.view<double>("floats"); });
    EQUAL(MEMMGR_ERR_INVALID_ARGUMENT, refusal.status);
    CHECK(std::strcmp(refusal.layer_name, "floats") == 0);
    CHECK(std::strstr(refusal.message, "F32") && std::strstr(refusal.message, "F64"));
    refusal = thrown_by([&] { (void)types.view<float>(layer.offset + 1, 1); });
    CHECK(std::strstr(refusal.message, "aligned") != nullptr);
    refusal = thrown_by([&] { (void)types.view<float>(0, SIZE_MAX / 2); });
    EQUAL(MEMMGR_ERR_OUT_OF_BOUNDS, refusal.status);
    struct Triple {
        char bytes[3];
    };
    refusal = thrown_by([&] { (void)types.view<Triple>("floats"); });
    CHECK(std::strstr(refusal.message, "multiple") != nullptr);
    EQUAL(1, manager.stats().views);
#ifdef __cpp_lib_span
    const std::span<const float> span(floats);
    CHECK(span.data() == floats.span().data() && span.size() == floats.size());
#endif
}

void views_are_released_wherever_they_were_moved()
{
    const memmgr::Manager manager = open_small();
    const memmgr::Dimension layers = manager[0];
    layers.load(file_layers("layers"));
    {
        memmgr::View<> view = layers.view("b");
        EQUAL(5, view.end() - view.begin());
        for (const std::byte byte : view) EQUAL(1, std::to_integer<int>(byte));
        memmgr::View<> moved(std::move(view));
        EQUAL(1, manager.stats().views);
        view = layers.view("a");
        EQUAL(2, manager.stats().views);
        moved = std::move(view);
        EQUAL(1, manager.stats().views);
        CHECK(!view && view.empty() && moved);
        moved.release();
        moved.release();
        EQUAL(0, manager.stats().views);
        view = layers.view("a");
    }
    EQUAL(0, manager.stats().views);
}

void failures_are_exceptions_with_all_detail()
{
    const memmgr::Manager manager = open_small();
    const memmgr::Dimension layers = manager[0];
    layers.load(file_layers("layers"));
    const memmgr::View<> held = layers.view("a");
    memmgr_error told = thrown_by([&] { (void)layers.view("c"); });
    EQUAL(MEMMGR_ERR_UNKNOWN_LAYER, told.status);
    CHECK(std::strcmp(told.dimension_name, "D01") == 0);
    CHECK(std::strstr(told.message, "'c'") != nullptr);
    told = thrown_by([&] { layers.unload(); });
    EQUAL(MEMMGR_ERR_VIEWS_HELD, told.status);
    EQUAL(1, told.views);
    told = thrown_by([&] { layers.unload(MEMMGR_ON_VIEWS_WAIT, std::chrono::milliseconds(1)); });
    EQUAL(MEMMGR_ERR_WAIT_TIMEOUT, told.status);
    EQUAL(MEMMGR_ERR_UNKNOWN_DIMENSION, thrown_by([&] { (void)manager["D99"]; }).status);
    layers.would_fit(4096);
    EQUAL(MEMMGR_ERR_LIMIT_EXCEEDED, thrown_by([&] { layers.would_fit(1 << 20); }).status);
    EQUAL(MEMMGR_ERR_FILE_ACCESS, thrown_by([&] { manager[1].load("nowhere"); }).status);
    EQUAL(MEMMGR_ERR_INVALID_ARGUMENT,
          thrown_by([&] { memmgr::call(memmgr_memory_get, manager.get(), 0u, nullptr); }).status);
}

void a_view_outlives_its_manager()
{
    memmgr::View<> held;
    {
        const memmgr::Manager manager = open_small();
        manager[0].load(file_layers("layers"));
        held = manager[0].view("b");
    }
    EQUAL(1, std::to_integer<int>(held[0]));
}

void closing_refuses_while_views_are_held()
{
    memmgr::Manager manager = open_small();
    manager[0].load(file_layers("layers"));
    memmgr::View<> held = manager[0].view("b");
    EQUAL(MEMMGR_ERR_VIEWS_HELD, thrown_by([&] { manager.close(); }).status);
    held.release();
    manager.close();
    manager.close();
    EQUAL(MEMMGR_ERR_INVALID_ARGUMENT, thrown_by([&] { (void)manager.stats(); }).status);
    manager = open_small();
    EQUAL(2, manager.stats().dimension_count);
}

void a_writer_has_the_dimension_to_itself_until_it_ends()
{
    const memmgr::Manager manager = open_small();
    const memmgr::Dimension types = manager[0];
    auto copy = memmgr::init<memmgr_load_options>();
    copy.mode = MEMMGR_MODE_COPY;
    types.load(file_of_types(), copy);
    const memmgr_layer floats = types.layer("floats");
    EQUAL(floats.offset, types.layer(floats.index).offset);
    {
        memmgr::Writer writer = types.write();
        EQUAL(MEMMGR_STATE_WRITING, types.stats().state);
        float *values = writer.layer<float>(floats);
        std::fill(values, values + 10, 1.0f);
        EQUAL(MEMMGR_ERR_INVALID_ARGUMENT,
              thrown_by([&] { (void)writer.layer<double>(floats); }).status);
        memmgr_layer beyond = floats;
        beyond.offset = writer.size();
        EQUAL(MEMMGR_ERR_INVALID_ARGUMENT,
              thrown_by([&] { (void)writer.layer<float>(beyond); }).status);
#ifdef __cpp_lib_span
        CHECK(writer.span<float>(floats).data() == values);
        EQUAL(writer.size(), writer.span().size());
#endif
        memmgr::Writer moved(std::move(writer));
        moved.end();
        moved.end();
        CHECK(types.view<float>("floats")[9] == 1.0f);
        moved = types.write(std::chrono::seconds(1), MEMMGR_WRITE_ANY_THREAD);
    }
    EQUAL(MEMMGR_STATE_LOADED, types.stats().state);
    types.flush();
    types.evict();
    const char *path = file_path("written.safetensors");
    types.save(path);
    types.reload(path);
    EQUAL(0, types.verify().changes);
    types.deallocate();
    EQUAL(MEMMGR_STATE_DEALLOCATED, types.stats().state);
}

void a_writer_may_end_on_another_thread()
{
    const memmgr::Manager manager = open_small();
    const memmgr::Dimension types = manager[0];
    auto copy = memmgr::init<memmgr_load_options>();
    copy.mode = MEMMGR_MODE_COPY;
    types.load(file_of_types(), copy);
    memmgr::Writer writer = types.write();
    std::thread([&] { writer.end(); }).join();
    CHECK(!writer);
    EQUAL(MEMMGR_STATE_LOADED, types.stats().state);
    writer = types.write();
    std::thread([moved = std::move(writer)] {}).join();
    EQUAL(MEMMGR_STATE_LOADED, types.stats().state);
    EQUAL(10, types.view<float>("floats").size());
}

void a_write_of_one_thread_is_kept_when_another_cannot_end_it()
{
    const memmgr::Manager manager = open_small();
    const memmgr::Dimension types = manager[0];
    auto copy = memmgr::init<memmgr_load_options>();
    copy.mode = MEMMGR_MODE_COPY;
    types.load(file_of_types(), copy);
    memmgr::Writer writer = types.write(std::chrono::seconds(5), 0);
    std::thread([&] {
        EQUAL(MEMMGR_ERR_INVALID_ARGUMENT, thrown_by([&] { writer.end(); }).status);
    }).join();
    CHECK(writer && writer.data() != nullptr);
    EQUAL(MEMMGR_STATE_WRITING, types.stats().state);
    writer.end();
    CHECK(!writer);
    EQUAL(MEMMGR_STATE_LOADED, types.stats().state);
    EQUAL(10, types.view<float>("floats").size());
    types.unload();
}

void holders_are_listed_if_they_are_tracked()
{
    auto options = memmgr::init<memmgr_manager_options>();
    options.dimension_count = 1;
    options.capacity = 4096;
    options.flags = MEMMGR_OPEN_TRACK_VIEWS;
    const memmgr::Manager manager(options);
    manager[0].load(file_layers("layers"));
    CHECK(manager.holders().empty());
    const memmgr::View<> first = manager[0].view("a"), second = manager[0].view("b");
    EQUAL(2, manager.holders().size());
    EQUAL(first.generation(), manager.holders(0).front().generation);
    EQUAL(second.get()->length, second.size());
}

void blocks_and_containers_live_in_the_pools()
{
    const memmgr::Manager manager = open_small();
    {
        memmgr::Block block = manager.alloc(100), aligned = manager.alloc(100, 256);
        EQUAL(0, reinterpret_cast<uintptr_t>(aligned.data()) % 256);
        *static_cast<char *>(block.data()) = 'x';
        block.resize(5000);
        EQUAL(5000, block.size());
        EQUAL('x', *static_cast<char *>(block.data()));
        EQUAL(0, *static_cast<char *>(manager.alloc_zeroed(10).data()));
        aligned = std::move(block);
        EQUAL(1, manager.pool_stats().blocks);
        aligned.free();
        aligned.free();
        CHECK(!aligned && !block);
        EQUAL(16, manager.pool_class(0).block_size);

        std::list<int, memmgr::Allocator<int>> numbers(manager.allocator<int>());
        std::vector<int, memmgr::Allocator<int>> squares(manager.allocator<int>());
        for (int i = 0; i < 1000; i++) {
            numbers.push_back(i);
            squares.push_back(i * i);
        }
        EQUAL(1001, manager.pool_stats().blocks);
        CHECK(std::equal(numbers.begin(), numbers.end(), squares.begin(),
                         [](int number, int square) { return number * number == square; }));
        EQUAL(MEMMGR_ERR_LIMIT_EXCEEDED, thrown_by([&] { squares.resize(1 << 20); }).status);
        EQUAL(999 * 999, squares.back());
    }
    EQUAL(0, manager.pool_stats().blocks);
    CHECK(manager.trim() > 0);
    manager.reset_peak();
    EQUAL(manager.stats().allocated, manager.stats().peak);
}

void reading_allocates_nothing() /* R10.2 */
{
    const memmgr::Manager manager = open_small();
    const memmgr::Dimension types = manager[0];
    types.load(file_of_types());
    float sum = 0;
    const unsigned long before = allocations;
    for (int round = 0; round < 100; round++) {
        for (const float value : types.view<float>("floats")) sum += value;
        sum += static_cast<float>(types.view<unsigned char>(0, 100).size());
    }
    EQUAL(before, allocations);
    CHECK(sum == 14500.0f);
}

} // namespace

int main()
{
    RUN(structs_are_initialized_as_by_the_macros);
    RUN(the_default_manager_has_fourteen_dimensions);
    RUN(views_are_of_their_layers_type);
    RUN(views_are_released_wherever_they_were_moved);
    RUN(failures_are_exceptions_with_all_detail);
    RUN(a_view_outlives_its_manager);
    RUN(closing_refuses_while_views_are_held);
    RUN(a_writer_has_the_dimension_to_itself_until_it_ends);
    RUN(a_writer_may_end_on_another_thread);
    RUN(a_write_of_one_thread_is_kept_when_another_cannot_end_it);
    RUN(holders_are_listed_if_they_are_tracked);
    RUN(blocks_and_containers_live_in_the_pools);
    RUN(reading_allocates_nothing);
    return test_end();
}

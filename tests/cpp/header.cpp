/*
 * The header from C++: every initializer, and handles in the guards that a C++ program would wrap
 * them in, so that an exception on the way gives back what was taken.
 */
#include "../c/files.h"

#include <cstdint>
#include <cstring>
#include <list>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

struct Failure : std::runtime_error {
    memmgr_status status;
    explicit Failure(const memmgr_error &told)
        : std::runtime_error(told.message), status(told.status) {}
};

/* For calls that end with &error. */
void require(memmgr_status status)
{
    if (status != MEMMGR_OK) throw Failure(error);
}

/* Closes as a `with` block does: what still has views goes with the last of them. */
struct Close {
    void operator()(memmgr_manager *manager) const noexcept
    {
        memmgr_manager_close(manager, MEMMGR_ON_VIEWS_DEFER, 0, nullptr);
    }
};
using Manager = std::unique_ptr<memmgr_manager, Close>;

Manager open(const memmgr_manager_options &options)
{
    memmgr_manager *manager = nullptr;
    require(memmgr_manager_open(&options, &manager, &error));
    return Manager(manager);
}

class View {
public:
    View(memmgr_manager *manager, uint32_t dimension, const char *layer) : manager_(manager)
    {
        require(memmgr_layer_acquire(manager, dimension, layer, nullptr, &view_, &error));
    }
    View(View &&other) noexcept : manager_(other.manager_), view_(other.view_)
    {
        other.manager_ = nullptr;
    }
    View(const View &) = delete;
    View &operator=(const View &) = delete;
    ~View()
    {
        if (manager_ != nullptr) memmgr_view_release(manager_, &view_, nullptr);
    }
    const unsigned char *begin() const { return static_cast<const unsigned char *>(view_.data); }
    const unsigned char *end() const { return begin() + view_.length; }

private:
    memmgr_manager *manager_;
    memmgr_view view_ = MEMMGR_VIEW_INIT;
};

/* Memory of a container, from a manager's pools. */
template <class T> struct PoolAllocator {
    using value_type = T;
    memmgr_manager *manager;
    explicit PoolAllocator(memmgr_manager *from) : manager(from) {}
    template <class U> PoolAllocator(const PoolAllocator<U> &other) : manager(other.manager) {}
    T *allocate(std::size_t count)
    {
        if (count > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
        void *const block = memmgr_block_alloc(manager, count * sizeof(T), &error);
        if (block == nullptr) require(error.status);
        return static_cast<T *>(block);
    }
    void deallocate(T *block, std::size_t) noexcept { memmgr_block_free(manager, block, nullptr); }
    template <class U> bool operator==(const PoolAllocator<U> &other) const
    {
        return manager == other.manager;
    }
    template <class U> bool operator!=(const PoolAllocator<U> &other) const
    {
        return manager != other.manager;
    }
};

uint64_t blocks_live(memmgr_manager *manager)
{
    memmgr_pool_stats stats = MEMMGR_POOL_STATS_INIT;
    require(memmgr_pool_stats_get(manager, &stats, &error));
    return stats.blocks;
}

uint64_t views_held(memmgr_manager *manager)
{
    memmgr_stats stats = MEMMGR_STATS_INIT;
    require(memmgr_stats_get(manager, &stats, &error));
    return stats.views;
}

Manager open_loaded()
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.dimension_count = 1;
    options.capacity = 4096;
    Manager manager = open(options);
    require(memmgr_dimension_load(manager.get(), 0, file_layers("layers"), nullptr, &error));
    return manager;
}

void initializers()
{
    memmgr_error told = MEMMGR_ERROR_INIT;
    memmgr_capabilities capabilities = MEMMGR_CAPABILITIES_INIT;
    memmgr_dimension_spec spec = MEMMGR_DIMENSION_SPEC_INIT;
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_layer layer = MEMMGR_LAYER_INIT;
    memmgr_write writer = MEMMGR_WRITE_INIT;
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    memmgr_memory memory = MEMMGR_MEMORY_INIT;
    memmgr_pool_stats pools = MEMMGR_POOL_STATS_INIT;
    memmgr_pool_class pool = MEMMGR_POOL_CLASS_INIT;
    EQUAL(sizeof told, told.struct_size);
    EQUAL(sizeof capabilities, capabilities.struct_size);
    EQUAL(sizeof spec, spec.struct_size);
    EQUAL(sizeof options, options.struct_size);
    EQUAL(sizeof layer, layer.struct_size);
    EQUAL(sizeof writer, writer.struct_size);
    EQUAL(sizeof stats, stats.struct_size);
    EQUAL(sizeof memory, memory.struct_size);
    EQUAL(sizeof pools, pools.struct_size);
    EQUAL(sizeof pool, pool.struct_size);
    EQUAL(MEMMGR_VERSION_MAJOR, memmgr_version() >> 16);
    OK(memmgr_capabilities_get(&capabilities, &error));
    CHECK(capabilities.page_size >= 4096);
}

void views_are_released()
{
    const Manager manager = open_loaded();
    {
        View bytes(manager.get(), 0, "b");
        EQUAL(5, bytes.end() - bytes.begin());
        for (unsigned char byte : bytes) EQUAL(1, byte);
        const View moved(std::move(bytes));
        EQUAL(1, views_held(manager.get()));
        EQUAL(1, *moved.begin());
    }
    EQUAL(0, views_held(manager.get()));
}

void failures_are_exceptions()
{
    const Manager manager = open_loaded();
    memmgr_status caught = MEMMGR_OK;
    try {
        const View held(manager.get(), 0, "a");
        const View missing(manager.get(), 0, "c");
    } catch (const Failure &failure) {
        caught = failure.status;
        CHECK(std::string(failure.what()).find("'c'") != std::string::npos);
    }
    EQUAL(MEMMGR_ERR_UNKNOWN_LAYER, caught);
    EQUAL(0, views_held(manager.get()));
}

void a_view_outlives_its_manager()
{
    Manager manager = open_loaded();
    const View held(manager.get(), 0, "b");
    manager.reset();
    EQUAL(1, *held.begin());
}

void containers_live_in_the_pools()
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.dimension_count = 1;
    options.capacity = 4096;
    options.pool_limit = 1 << 20;
    const Manager manager = open(options);
    {
        const PoolAllocator<int> pool(manager.get());
        std::list<int, PoolAllocator<int>> numbers(pool);
        std::vector<int, PoolAllocator<int>> squares(pool);
        for (int i = 0; i < 1000; i++) {
            numbers.push_back(i);
            squares.push_back(i * i);
        }
        EQUAL(1001, blocks_live(manager.get()));
        int index = 0;
        for (const int number : numbers) {
            CHECK(number == index);
            CHECK(squares[number] == index * index);
            index++;
        }
        memmgr_status caught = MEMMGR_OK;
        try {
            squares.resize(1 << 20);
        } catch (const Failure &failure) {
            caught = failure.status;
        }
        EQUAL(MEMMGR_ERR_LIMIT_EXCEEDED, caught);
        EQUAL(999 * 999, squares.back());
    }
    EQUAL(0, blocks_live(manager.get()));
}

} // namespace

int main()
{
    RUN(initializers);
    RUN(views_are_released);
    RUN(failures_are_exceptions);
    RUN(a_view_outlives_its_manager);
    RUN(containers_live_in_the_pools);
    return test_end();
}

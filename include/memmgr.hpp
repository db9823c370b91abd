/*
 * memmgr for C++17 and later: memmgr.h with owners that give back, views that know their type, and
 * failures as exceptions. Header only; the manual is memmgr.h, whose words are kept.
 *
 *   memmgr::Manager manager;
 *   memmgr::Dimension words = manager["D01"];
 *   words.load("words.npy");
 *   for (const float value : words.view<float>("data")) ...
 *
 * What owns (Manager, View, Writer, Block) can be moved but not copied, gives back in its
 * destructor, and has a function that does so and throws. It may outlive the manager, and may be
 * destroyed on any thread. Reading allocates nothing.
 *
 * Constants, structs of options and structs of answers are those of memmgr.h: make one with
 * init<memmgr_load_options>(). What has no member here, logs and batches for instance, is called as
 * call(memmgr_log_set, level, function, user). An exception must not leave a function that the
 * library calls.
 */
#ifndef MEMMGR_HPP
#define MEMMGR_HPP

#include "memmgr.h"

#include <chrono>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#if __has_include(<span>)
#include <span>
#endif

namespace memmgr {

using Timeout = std::chrono::nanoseconds;
inline constexpr Timeout forever{MEMMGR_FOREVER};

/* A struct of memmgr.h with its struct_size set and everything else zero, which is default. */
template <class Struct> constexpr Struct init() noexcept
{
    Struct result{};
    result.struct_size = sizeof(Struct);
    return result;
}

/* ==== Error ================================================================================= */

/* The one exception: a call failed, and nothing has changed. */
class Error : public std::exception {
public:
    explicit Error(const memmgr_error &detail) noexcept : detail_(detail) {}
    /* One sentence, with all that matters of detail(). */
    const char *what() const noexcept override { return detail_.message; }
    /* MEMMGR_ERR_... */
    memmgr_status status() const noexcept { return detail_.status; }
    const memmgr_error &detail() const noexcept { return detail_; }

private:
    memmgr_error detail_;
};

/* Calls a function of memmgr.h that returns a memmgr_status. Its last argument, the error, is not
 * to be given: if the function fails, it is thrown. */
template <class... Parameters, class... Arguments>
void call(memmgr_status (*function)(Parameters...), Arguments... arguments)
{
    memmgr_error error; /* 5 KB, of which a call that succeeds touches these four bytes */
    error.struct_size = sizeof error;
    if (function(arguments..., &error) != MEMMGR_OK) throw Error(error);
}

/* The same for a function that returns a block. */
template <class... Parameters, class... Arguments>
void *call(void *(*function)(Parameters...), Arguments... arguments)
{
    memmgr_error error;
    error.struct_size = sizeof error;
    void *block = function(arguments..., &error);
    if (block == nullptr) throw Error(error);
    return block;
}

/* ==== Text and types ======================================================================== */

/* UTF-8 that ends with NUL, for the length of a call. */
class Text {
public:
    Text(const char *text) noexcept : text_(text) {}
    Text(const std::string &text) noexcept : text_(text.c_str()) {}
    operator const char *() const noexcept { return text_; }

private:
    const char *text_;
};

/* The element type that a T is: MEMMGR_DTYPE_OPAQUE for bytes and for structs, which go with every
 * layer. A type that C++ does not know can be told:
 * template <> inline constexpr uint32_t memmgr::dtype_of<my::half> = MEMMGR_DTYPE_F16; */
template <class T>
inline constexpr uint32_t dtype_of =
    std::is_same_v<T, bool>                   ? MEMMGR_DTYPE_BOOL
    : std::is_same_v<T, char>                 ? MEMMGR_DTYPE_OPAQUE
    : std::is_same_v<T, std::complex<float>>  ? MEMMGR_DTYPE_C64
    : std::is_same_v<T, std::complex<double>> ? MEMMGR_DTYPE_C128
    : std::is_floating_point_v<T>
        /* std::float16_t and std::bfloat16_t are known by their precision, and need no <stdfloat>. */
        ? (sizeof(T) == 2 && std::numeric_limits<T>::digits == 11  ? MEMMGR_DTYPE_F16
           : sizeof(T) == 2 && std::numeric_limits<T>::digits == 8 ? MEMMGR_DTYPE_BF16
           : sizeof(T) == 4                                        ? MEMMGR_DTYPE_F32
           : sizeof(T) == 8                                        ? MEMMGR_DTYPE_F64
                                                                   : MEMMGR_DTYPE_OPAQUE)
    : std::is_integral_v<T>
        ? (sizeof(T) == 1   ? (std::is_signed_v<T> ? MEMMGR_DTYPE_I8 : MEMMGR_DTYPE_U8)
           : sizeof(T) == 2 ? (std::is_signed_v<T> ? MEMMGR_DTYPE_I16 : MEMMGR_DTYPE_U16)
           : sizeof(T) == 4 ? (std::is_signed_v<T> ? MEMMGR_DTYPE_I32 : MEMMGR_DTYPE_U32)
           : sizeof(T) == 8 ? (std::is_signed_v<T> ? MEMMGR_DTYPE_I64 : MEMMGR_DTYPE_U64)
                            : MEMMGR_DTYPE_OPAQUE)
        : MEMMGR_DTYPE_OPAQUE;
template <class T> inline constexpr uint32_t dtype_of<const T> = dtype_of<T>;
template <class T> inline constexpr uint32_t dtype_of<volatile T> = dtype_of<T>;
template <class T> inline constexpr uint32_t dtype_of<const volatile T> = dtype_of<T>;

namespace detail {

[[noreturn]] inline void refuse(uint32_t operation, uint32_t dimension, const memmgr_layer *layer,
                                const char *reason)
{
    memmgr_error error = init<memmgr_error>();
    error.status = MEMMGR_ERR_INVALID_ARGUMENT;
    error.operation = operation;
    error.dimension = dimension;
    error.layer = layer != nullptr ? layer->index : MEMMGR_NONE;
    if (layer != nullptr) {
        std::snprintf(error.layer_name, sizeof error.layer_name, "%s", layer->name);
        std::snprintf(error.message, sizeof error.message, "layer '%s': %s", layer->name, reason);
    } else {
        std::snprintf(error.message, sizeof error.message, "%s", reason);
    }
    throw Error(error);
}

/* Bytes of count elements; what no file has if there is no such number. */
template <class T> constexpr uint64_t length_of(std::size_t count) noexcept
{
    return count <= UINT64_MAX / sizeof(T) ? uint64_t{count} * sizeof(T) : UINT64_MAX;
}

template <class T>
void check_elements(const void *data, std::size_t length, uint32_t operation, uint32_t dimension,
                    const memmgr_layer *layer = nullptr)
{
    static_assert(std::is_trivially_copyable_v<T>, "a file holds bytes: no such T can be in it");
    if (length % sizeof(T) != 0)
        refuse(operation, dimension, layer,
               "its length is no multiple of the size of the type that is asked for");
    if (reinterpret_cast<std::uintptr_t>(data) % alignof(T) != 0)
        refuse(operation, dimension, layer,
               "its address is not aligned for the type that is asked for: copy it from bytes");
}

template <class T>
void check_layer(const void *data, const memmgr_layer &layer, uint32_t operation,
                 uint32_t dimension)
{
    if (dtype_of<T> != MEMMGR_DTYPE_OPAQUE && dtype_of<T> != layer.dtype) {
        char reason[64];
        std::snprintf(reason, sizeof reason, "its type is %s, and %s is asked for",
                      memmgr_dtype_name(layer.dtype), memmgr_dtype_name(dtype_of<T>));
        refuse(operation, dimension, &layer, reason);
    }
    check_elements<T>(data, static_cast<std::size_t>(layer.length), operation, dimension, &layer);
}

} // namespace detail

/* ==== View ================================================================================== */

/* Read access to elements of a generation, which stays as it is while this lives. Contiguous:
 * std::span and the algorithms of ranges take it, and are not to outlive it. */
template <class T = std::byte> class View {
public:
    using value_type = std::remove_cv_t<T>;

    View() noexcept = default;
    View(View &&other) noexcept
        : manager_(std::exchange(other.manager_, nullptr)),
          view_(std::exchange(other.view_, memmgr_view{}))
    {
    }
    View &operator=(View &&other) noexcept
    {
        View taken(std::move(other));
        std::swap(manager_, taken.manager_);
        std::swap(view_, taken.view_);
        return *this;
    }
    ~View()
    {
        if (manager_ != nullptr) memmgr_view_release(manager_, &view_, nullptr);
    }

    /* What is empty stays so. */
    void release()
    {
        if (memmgr_manager *manager = std::exchange(manager_, nullptr))
            call(memmgr_view_release, manager, &view_);
    }

    explicit operator bool() const noexcept { return manager_ != nullptr; }
    const T *data() const noexcept { return static_cast<const T *>(view_.data); }
    std::size_t size() const noexcept { return view_.length / sizeof(T); }
    bool empty() const noexcept { return size() == 0; }
    const T *begin() const noexcept { return data(); }
    const T *end() const noexcept { return data() + size(); }
    const T &operator[](std::size_t index) const noexcept { return data()[index]; }
#ifdef __cpp_lib_span
    std::span<const T> span() const noexcept { return {data(), size()}; }
#endif

    /* Where it is in its file, in bytes, and which version of it is shown. */
    uint64_t offset() const noexcept { return view_.offset; }
    uint64_t generation() const noexcept { return view_.generation; }
    const memmgr_view *get() const noexcept { return &view_; }

private:
    friend class Dimension;

    /* Both delegate, so that what throws after the acquisition gives it back. */
    View(memmgr_manager *manager, uint32_t dimension, uint64_t offset, std::size_t count) : View()
    {
        view_.struct_size = sizeof view_;
        call(memmgr_view_acquire, manager, dimension, offset, detail::length_of<T>(count), &view_);
        manager_ = manager;
        detail::check_elements<T>(view_.data, view_.length, MEMMGR_OPERATION_ACQUIRE, dimension);
    }
    View(memmgr_manager *manager, uint32_t dimension, const char *name, memmgr_layer *layer_out)
        : View()
    {
        memmgr_layer own;
        memmgr_layer &layer = layer_out != nullptr ? *layer_out : own;
        layer.struct_size = sizeof layer;
        view_.struct_size = sizeof view_;
        call(memmgr_layer_acquire, manager, dimension, name, &layer, &view_);
        manager_ = manager;
        detail::check_layer<T>(view_.data, layer, MEMMGR_OPERATION_ACQUIRE, dimension);
    }

    memmgr_manager *manager_ = nullptr;
    memmgr_view view_ = {};
};

/* ==== Writer ================================================================================ */

/* Exclusive access to a dimension, for whichever thread has this object. */
class Writer {
public:
    Writer(Writer &&other) noexcept
        : manager_(std::exchange(other.manager_, nullptr)),
          write_(std::exchange(other.write_, memmgr_write{}))
    {
    }
    Writer &operator=(Writer &&other) noexcept
    {
        Writer taken(std::move(other));
        std::swap(manager_, taken.manager_);
        std::swap(write_, taken.write_);
        return *this;
    }
    /* Ends the write, and cannot say if it failed: end() can. */
    ~Writer()
    {
        if (manager_ != nullptr) memmgr_write_end(manager_, &write_, nullptr);
    }

    /* Readers go on, also if it throws FAULTED. If it throws anything else, the write goes on, and
     * can be ended again. What has ended stays so. */
    void end()
    {
        if (manager_ == nullptr) return;
        memmgr_error error;
        error.struct_size = sizeof error;
        const memmgr_status status = memmgr_write_end(manager_, &write_, &error);
        if (status == MEMMGR_OK || status == MEMMGR_ERR_FAULTED) manager_ = nullptr;
        if (status != MEMMGR_OK) throw Error(error);
    }

    explicit operator bool() const noexcept { return manager_ != nullptr; }
    std::byte *data() const noexcept { return static_cast<std::byte *>(write_.data); }
    std::size_t size() const noexcept { return write_.length; }
    uint64_t generation() const noexcept { return write_.generation; }
    const memmgr_write *get() const noexcept { return &write_; }

    /* The first of the layer's elements, of which there are layer.length / sizeof(T). The layer is
     * one that Dimension::layer told. */
    template <class T> T *layer(const memmgr_layer &layer) const
    {
        if (layer.offset > write_.length || layer.length > write_.length - layer.offset)
            detail::refuse(MEMMGR_OPERATION_WRITE, write_.dimension, &layer,
                           "it is not within what is written");
        detail::check_layer<T>(data() + layer.offset, layer, MEMMGR_OPERATION_WRITE,
                               write_.dimension);
        return reinterpret_cast<T *>(data() + layer.offset);
    }
#ifdef __cpp_lib_span
    std::span<std::byte> span() const noexcept { return {data(), size()}; }
    template <class T> std::span<T> span(const memmgr_layer &layer) const
    {
        return {this->layer<T>(layer), static_cast<std::size_t>(layer.length) / sizeof(T)};
    }
#endif

private:
    friend class Dimension;

    Writer(memmgr_manager *manager, uint32_t dimension, uint32_t flags, Timeout timeout)
    {
        write_.struct_size = sizeof write_;
        call(memmgr_write_begin, manager, dimension, flags, timeout.count(), &write_);
        manager_ = manager;
    }

    memmgr_manager *manager_ = nullptr;
    memmgr_write write_ = {};
};

/* ==== Dimension ============================================================================= */

/* The name of a place in a manager, free to copy. It owns nothing. */
class Dimension {
public:
    Dimension(memmgr_manager *manager, uint32_t index) noexcept
        : manager_(manager), index_(index)
    {
    }

    uint32_t index() const noexcept { return index_; }

    void load(Text path, const memmgr_load_options &options = init<memmgr_load_options>()) const
    {
        call(memmgr_dimension_load, manager_, index_, path, &options);
    }
    void reload(Text path, const memmgr_load_options &options = init<memmgr_load_options>()) const
    {
        call(memmgr_dimension_reload, manager_, index_, path, &options);
    }
    /* Throws what the load would throw. */
    void would_fit(Text path, uint32_t mode = MEMMGR_MODE_READ) const
    {
        call(memmgr_dimension_would_fit, manager_, index_, path, uint64_t{0}, mode);
    }
    void would_fit(uint64_t size, uint32_t mode = MEMMGR_MODE_READ) const
    {
        call(memmgr_dimension_would_fit, manager_, index_, nullptr, size, mode);
    }
    void unload(uint32_t on_views = MEMMGR_ON_VIEWS_REFUSE, Timeout timeout = forever) const
    {
        call(memmgr_dimension_unload, manager_, index_, on_views, timeout.count());
    }
    void deallocate(uint32_t on_views = MEMMGR_ON_VIEWS_REFUSE, Timeout timeout = forever) const
    {
        call(memmgr_dimension_deallocate, manager_, index_, on_views, timeout.count());
    }
    void flush() const { call(memmgr_dimension_flush, manager_, index_); }
    void evict() const { call(memmgr_dimension_evict, manager_, index_); }

    memmgr_layer layer(Text name) const
    {
        auto layer = init<memmgr_layer>();
        call(memmgr_layer_find, manager_, index_, name, &layer);
        return layer;
    }
    /* Indices are below stats().layer_count. */
    memmgr_layer layer(uint32_t index) const
    {
        auto layer = init<memmgr_layer>();
        call(memmgr_layer_at, manager_, index_, index, &layer);
        return layer;
    }

    /* A layer, all of it; its shape and the rest of its description in layer_out. */
    template <class T = std::byte> View<T> view(Text layer, memmgr_layer *layer_out = nullptr) const
    {
        return View<T>(manager_, index_, static_cast<const char *>(layer), layer_out);
    }
    /* count elements from offset on, which is in bytes from the start of the file. */
    template <class T = std::byte> View<T> view(uint64_t offset, std::size_t count) const
    {
        return View<T>(manager_, index_, offset, count);
    }
    /* With flags of 0 only the thread that begins it may end it, or destroy the Writer: of another
     * thread, end() throws, and a destructor leaves the dimension closed to readers. */
    Writer write(Timeout timeout = std::chrono::seconds(5),
                 uint32_t flags = MEMMGR_WRITE_ANY_THREAD) const
    {
        return Writer(manager_, index_, flags, timeout);
    }

    void save(Text path, const memmgr_save_options &options = init<memmgr_save_options>()) const
    {
        call(memmgr_dimension_save, manager_, index_, path, &options);
    }
    memmgr_verification
    verify(const memmgr_verify_options &options = init<memmgr_verify_options>()) const
    {
        auto verification = init<memmgr_verification>();
        call(memmgr_dimension_verify, manager_, index_, &options, &verification);
        return verification;
    }
    memmgr_dimension_stats stats() const
    {
        auto stats = init<memmgr_dimension_stats>();
        call(memmgr_dimension_stats_get, manager_, index_, &stats);
        return stats;
    }
    memmgr_memory memory() const
    {
        auto memory = init<memmgr_memory>();
        call(memmgr_memory_get, manager_, index_, &memory);
        return memory;
    }

private:
    memmgr_manager *manager_;
    uint32_t index_;
};

/* ==== Block ================================================================================= */

/* Working memory inside the budget. */
class Block {
public:
    Block() noexcept = default;
    Block(Block &&other) noexcept
        : manager_(other.manager_), data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0))
    {
    }
    Block &operator=(Block &&other) noexcept
    {
        Block taken(std::move(other));
        std::swap(manager_, taken.manager_);
        std::swap(data_, taken.data_);
        std::swap(size_, taken.size_);
        return *this;
    }
    ~Block()
    {
        if (data_ != nullptr) memmgr_block_free(manager_, data_, nullptr);
    }

    void free()
    {
        size_ = 0;
        if (void *block = std::exchange(data_, nullptr)) call(memmgr_block_free, manager_, block);
    }
    /* May move it; if it throws, it is as it was. */
    void resize(std::size_t size)
    {
        data_ = call(memmgr_block_resize, manager_, data_, size);
        size_ = size;
    }

    explicit operator bool() const noexcept { return data_ != nullptr; }
    void *data() const noexcept { return data_; }
    /* What was asked for. */
    std::size_t size() const noexcept { return size_; }

private:
    friend class Manager;

    Block(memmgr_manager *manager, void *data, std::size_t size) noexcept
        : manager_(manager), data_(data), size_(size)
    {
    }

    memmgr_manager *manager_ = nullptr;
    void *data_ = nullptr;
    std::size_t size_ = 0;
};

/* Lets containers live in the pools. It throws Error, and owns nothing: what it handed out may
 * outlive the manager, but more is to be had only while that is open. */
template <class T> class Allocator {
public:
    using value_type = T;

    explicit Allocator(memmgr_manager *manager) noexcept : manager_(manager) {}
    template <class U> Allocator(const Allocator<U> &other) noexcept : manager_(other.get()) {}

    memmgr_manager *get() const noexcept { return manager_; }
    T *allocate(std::size_t count)
    {
        const auto size = static_cast<std::size_t>(detail::length_of<T>(count));
        if constexpr (alignof(T) <= 16)
            return static_cast<T *>(call(memmgr_block_alloc, manager_, size));
        else
            return static_cast<T *>(call(memmgr_block_alloc_aligned, manager_, size, alignof(T)));
    }
    void deallocate(T *block, std::size_t) noexcept { memmgr_block_free(manager_, block, nullptr); }
    template <class U> bool operator==(const Allocator<U> &other) const noexcept
    {
        return manager_ == other.get();
    }
    template <class U> bool operator!=(const Allocator<U> &other) const noexcept
    {
        return manager_ != other.get();
    }

private:
    memmgr_manager *manager_;
};

/* ==== Manager =============================================================================== */

class Manager {
public:
    /* 14 dimensions of 20 MiB, D01 to D14. */
    Manager() : Manager(init<memmgr_manager_options>()) {}
    explicit Manager(const memmgr_manager_options &options)
    {
        call(memmgr_manager_open, &options, &manager_);
    }
    Manager(Manager &&other) noexcept : manager_(std::exchange(other.manager_, nullptr)) {}
    Manager &operator=(Manager &&other) noexcept
    {
        Manager taken(std::move(other));
        std::swap(manager_, taken.manager_);
        return *this;
    }
    /* What still has views goes with the last of them. */
    ~Manager() { memmgr_manager_close(manager_, MEMMGR_ON_VIEWS_DEFER, 0, nullptr); }

    /* If it throws, the manager is open. What is closed stays so. */
    void close(uint32_t on_views = MEMMGR_ON_VIEWS_REFUSE, Timeout timeout = forever)
    {
        call(memmgr_manager_close, manager_, on_views, timeout.count());
        manager_ = nullptr;
    }

    /* For call(), and for the C API. */
    memmgr_manager *get() const noexcept { return manager_; }

    Dimension operator[](uint32_t index) const noexcept { return Dimension(manager_, index); }
    Dimension operator[](Text name) const
    {
        uint32_t index = MEMMGR_NONE;
        call(memmgr_dimension_find, manager_, name, &index);
        return Dimension(manager_, index);
    }

    Block alloc(std::size_t size) const
    {
        return Block(manager_, call(memmgr_block_alloc, manager_, size), size);
    }
    Block alloc(std::size_t size, std::size_t alignment) const
    {
        void *block = call(memmgr_block_alloc_aligned, manager_, size, alignment);
        return Block(manager_, block, size);
    }
    Block alloc_zeroed(std::size_t size, std::size_t alignment = 16) const
    {
        void *block = call(memmgr_block_alloc_zeroed, manager_, size, alignment);
        return Block(manager_, block, size);
    }
    template <class T> Allocator<T> allocator() const noexcept { return Allocator<T>(manager_); }
    /* Bytes that were given back. */
    uint64_t trim() const
    {
        uint64_t bytes = 0;
        call(memmgr_pool_trim, manager_, &bytes);
        return bytes;
    }

    memmgr_stats stats() const
    {
        auto stats = init<memmgr_stats>();
        call(memmgr_stats_get, manager_, &stats);
        return stats;
    }
    void reset_peak() const { call(memmgr_stats_reset_peak, manager_); }
    memmgr_pool_stats pool_stats() const
    {
        auto stats = init<memmgr_pool_stats>();
        call(memmgr_pool_stats_get, manager_, &stats);
        return stats;
    }
    /* Indices are below pool_stats().class_count. */
    memmgr_pool_class pool_class(uint32_t index) const
    {
        auto pool = init<memmgr_pool_class>();
        call(memmgr_pool_class_get, manager_, index, &pool);
        return pool;
    }
    memmgr_memory memory() const { return Dimension(manager_, MEMMGR_NONE).memory(); }
    /* Of one dimension, or of all. */
    std::vector<memmgr_holder> holders(uint32_t dimension = MEMMGR_NONE) const
    {
        std::vector<memmgr_holder> holders;
        std::size_t count = 0;
        do {
            holders.resize(count, init<memmgr_holder>());
            call(memmgr_holders_get, manager_, dimension, holders.data(), holders.size(), &count);
        } while (count > holders.size());
        holders.resize(count);
        return holders;
    }
    /* JSON. */
    std::string dump() const
    {
        std::string text;
        std::size_t length = 0;
        call(memmgr_dump_json, manager_, nullptr, std::size_t{0}, &length);
        for (;;) {
            /* It may have grown meanwhile; there is room for the NUL behind a string. */
            text.resize(length);
            memmgr_error error;
            error.struct_size = sizeof error;
            const memmgr_status status =
                memmgr_dump_json(manager_, text.data(), length + 1, &length, &error);
            if (status == MEMMGR_OK) break;
            if (length <= text.size()) throw Error(error);
        }
        text.resize(length);
        return text;
    }

private:
    memmgr_manager *manager_ = nullptr;
};

/* ==== Without a manager ===================================================================== */

inline memmgr_capabilities capabilities()
{
    auto capabilities = init<memmgr_capabilities>();
    call(memmgr_capabilities_get, &capabilities);
    return capabilities;
}

inline void save(Text path, const std::vector<memmgr_array> &arrays,
                 const memmgr_save_options &options = init<memmgr_save_options>())
{
    call(memmgr_array_save, path, arrays.data(), arrays.size(), &options);
}

} // namespace memmgr

#endif /* MEMMGR_HPP */

/*
 * serve [SECONDS]: a table that is replaced again and again while threads answer queries from it.
 *
 * Four threads sum up a table of 1 MiB without a lock; meanwhile new versions of it are published
 * by a reload. No query ever fails, waits, or sees two versions at once: a version is all ones, all
 * twos and so on, so a sum that is not a multiple of the table's length would show.
 */
#include <memmgr.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr size_t table_size = 1 << 20;

struct Tally {
    std::atomic<uint64_t> answered{0}, mixed{0};
};

void require(memmgr_status status, const memmgr_error &error)
{
    if (status == MEMMGR_OK) return;
    std::fprintf(stderr, "serve: %s\n", error.message);
    std::exit(1);
}

/* A new version is a new file: a mapping would show a rewrite in place half done. */
std::string write_version(unsigned version)
{
    const std::string path = "serve-" + std::to_string(version % 3) + ".bin";
    const std::vector<unsigned char> table(table_size, static_cast<unsigned char>(version));
    std::remove(path.c_str());
    std::FILE *file = std::fopen(path.c_str(), "wb");
    if (file == nullptr || std::fwrite(table.data(), 1, table.size(), file) != table.size() ||
        std::fclose(file) != 0) {
        std::perror(path.c_str());
        std::exit(1);
    }
    return path;
}

void answer(memmgr_manager *manager, const std::atomic<bool> &stop, Tally &tally)
{
    memmgr_error error = MEMMGR_ERROR_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    while (!stop.load(std::memory_order_relaxed)) {
        require(memmgr_view_acquire(manager, 0, 0, table_size, &view, &error), error);
        const auto *table = static_cast<const unsigned char *>(view.data);
        uint64_t sum = 0;
        for (size_t index = 0; index < view.length; index++) sum += table[index];
        if (sum % table_size != 0) tally.mixed++;
        tally.answered++;
        require(memmgr_view_release(manager, &view, &error), error);
    }
}

} // namespace

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? std::atof(argv[1]) : 1;
    memmgr_error error = MEMMGR_ERROR_INIT;
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *manager = nullptr;
    options.dimension_count = 1;
    options.capacity = table_size;
    require(memmgr_manager_open(&options, &manager, &error), error);
    require(memmgr_dimension_load(manager, 0, write_version(1).c_str(), nullptr, &error), error);

    std::atomic<bool> stop{false};
    Tally tally;
    std::vector<std::thread> threads;
    for (int index = 0; index < 4; index++)
        threads.emplace_back(answer, manager, std::cref(stop), std::ref(tally));

    unsigned version = 1;
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (std::chrono::steady_clock::now() < end) {
        const std::string path = write_version(version + 1);
        /* The dimension has room for two versions. While a slow query holds the one before the
         * last, the next has to wait; the queries do not. */
        memmgr_status status;
        while ((status = memmgr_dimension_reload(manager, 0, path.c_str(), nullptr, &error)) ==
               MEMMGR_ERR_VIEWS_HELD)
            std::this_thread::yield();
        require(status, error);
        version++;
    }
    stop = true;
    for (auto &thread : threads) thread.join();

    std::printf("%llu queries answered from %u versions, %llu saw two at once\n",
                static_cast<unsigned long long>(tally.answered), version,
                static_cast<unsigned long long>(tally.mixed));
    require(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error), error);
    for (int index = 0; index < 3; index++)
        std::remove(("serve-" + std::to_string(index) + ".bin").c_str());
    return tally.mixed == 0 ? 0 : 1;
}

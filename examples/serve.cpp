/*
 * serve [SECONDS]: a table that is replaced again and again while threads answer queries from it.
 *
 * Four threads sum up a table of 1 MiB without a lock; meanwhile new versions of it are published
 * by a reload. No query ever fails, waits, or sees two versions at once: a version is all ones, all
 * twos and so on, so a sum that is not a multiple of the table's length would show.
 */
#include <memmgr.hpp>

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

void answer(memmgr::Dimension dimension, const std::atomic<bool> &stop, Tally &tally)
{
    while (!stop.load(std::memory_order_relaxed)) {
        uint64_t sum = 0;
        for (const unsigned char byte : dimension.view<unsigned char>(0, table_size)) sum += byte;
        if (sum % table_size != 0) tally.mixed++;
        tally.answered++;
    }
}

/* The dimension has room for two versions. While a slow query holds the one before the last, the
 * next has to wait; the queries do not. */
void publish(memmgr::Dimension dimension, const std::string &path)
{
    for (;;) {
        try {
            return dimension.reload(path);
        } catch (const memmgr::Error &error) {
            if (error.status() != MEMMGR_ERR_VIEWS_HELD) throw;
            std::this_thread::yield();
        }
    }
}

} // namespace

int main(int argc, char **argv)
try {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 1;
    auto options = memmgr::init<memmgr_manager_options>();
    options.dimension_count = 1;
    options.capacity = table_size;
    memmgr::Manager manager(options);
    const memmgr::Dimension dimension = manager[0];
    dimension.load(write_version(1));

    std::atomic<bool> stop{false};
    Tally tally;
    std::vector<std::thread> threads;
    for (int index = 0; index < 4; index++)
        threads.emplace_back(answer, dimension, std::cref(stop), std::ref(tally));

    unsigned version = 1;
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (std::chrono::steady_clock::now() < end) publish(dimension, write_version(++version));
    stop = true;
    for (auto &thread : threads) thread.join();

    std::printf("%llu queries answered from %u versions, %llu saw two at once\n",
                static_cast<unsigned long long>(tally.answered), version,
                static_cast<unsigned long long>(tally.mixed));
    manager.close();
    for (int index = 0; index < 3; index++)
        std::remove(("serve-" + std::to_string(index) + ".bin").c_str());
    return tally.mixed == 0 ? 0 : 1;
} catch (const memmgr::Error &error) {
    std::fprintf(stderr, "serve: %s\n", error.what());
    return 1;
}

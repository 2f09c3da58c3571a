// A team of threads that runs one function together: the caller is member 0, the others wait in a short spin, then asleep.
#pragma once
#include <immintrin.h>
#include <sched.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

class Team {
  public:
    explicit Team(int size) : size(size) {
        for (int t = 1; t < size; t++) threads.emplace_back([this, t] { wait_for_work(t); });
    }
    ~Team() {
        ending = true;
        turn.fetch_add(1);
        turn.notify_all();
        for (auto& thread : threads) thread.join();
    }
    // Every member calls f(member); returns when all have.
    void run(const std::function<void(int)>& f) {
        if (size == 1) return f(0);
        work = &f;
        finished.store(0, std::memory_order_relaxed);
        turn.fetch_add(1, std::memory_order_release);
        turn.notify_all();
        f(0);
        for (int spins = 0; finished.load(std::memory_order_acquire) != size - 1;) pause(spins);
    }
    // Inside run: no member goes on before all have come here.
    void barrier() {
        if (size == 1) return;
        int mine = generation.load(std::memory_order_acquire);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
            arrived.store(0, std::memory_order_relaxed);
            generation.fetch_add(1, std::memory_order_release);
            return;
        }
        for (int spins = 0; generation.load(std::memory_order_acquire) == mine;) pause(spins);
    }
    const int size;

  private:
    static void pause(int& spins) {
        _mm_pause();
        if (++spins > 20000) {  // the other member has lost its processor to somebody: let it have this one
            sched_yield();
            spins = 0;
        }
    }
    void wait_for_work(int member) {
        for (int seen = 0;;) {
            for (int spins = 0; turn.load(std::memory_order_acquire) == seen && spins < 50000; spins++) _mm_pause();
            turn.wait(seen, std::memory_order_acquire);
            if (ending) return;
            seen = turn.load(std::memory_order_acquire);
            (*work)(member);
            finished.fetch_add(1, std::memory_order_release);
        }
    }
    const std::function<void(int)>* work = nullptr;
    std::vector<std::thread> threads;
    std::atomic<int> turn{0}, finished{0}, arrived{0}, generation{0};
    std::atomic<bool> ending{false};
};

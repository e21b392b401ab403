// The threads of one block. They run one at a time: each until it returns or waits for others (`stop`), and when all
// have had their turn, those that need not wait any longer get another, in the order that the launch asks for.
//
// A thread runs on a fiber. As long as no thread waits, one fiber runs them all in a plain loop.
//
// A thread that returns or waits elsewhere while others wait for it is an error here. A GPU is more lenient in some of
// these cases and hangs in others.

#pragma once

#include <stdarg.h>
#include <stdio.h>

#include "fibers.h"
#include "types.h"

static dim3 gridDim, blockDim;
static uint3 blockIdx, threadIdx;

namespace cuda_on_cpu {

constexpr int warp_size = 32, max_threads = 1024;

// A call in which threads meet. They must be in the same one: of this name, in this line, for the same lanes.
struct Call {
    const char* name;
    const char* file;
    int line;
    unsigned int mask;  // the lanes of the warp that meet; 0: all threads of the block
};

enum State : unsigned char { ready, waiting, returned };

struct Values;

struct Thread {
    uint3 index;
    State state;
    Call call;            // where it is waiting
    Fiber* fiber;         // where it has stopped
    const void* offered;  // its own value, to the other lanes
    Values* received;     // the values of all lanes
    void* meeting;        // an address that stands for this one time that the threads meet
    int copies, groups;   // asynchronous copies not waited for, and groups of them begun
};

static Thread threads[max_threads];  // counted with x fastest, as CUDA counts them
static int thread_count;
static const int* thread_order;
static int next_thread;   // the first in this order that has not begun
static int at_barrier;    // how many wait at __syncthreads
static Thread* current;   // the one that runs
static void (*run_kernel)(const void* kernel, void** args);
static const void* kernel_to_run;
static void** kernel_args;

static Fiber fibers[max_threads];
static int fibers_used;
static Fiber* running;

// ThreadSanitizer tells threads apart by their fibers, so those of one launch need one each; to make one takes it a
// third of a millisecond. The first of each launch take fibers that were kept, whose past is before the launch anyway.
// (`inline`, not `static`: one array for all kernels' libraries.)
inline Fiber kept_fibers[with_tsan ? 1024 : 1];
static int kept_used;
inline char begin_address;  // what happened before a launch happens before its threads

static char end_address;  // what happened before a thread's end happens before what follows the launch

static char failure[1000];  // what a thread did wrong, "" if nothing; threadIdx says which

// Ends the launch.
[[noreturn, gnu::format(printf, 1, 2)]] UNSEEN inline void fail(const char* format, ...)
{
    va_list words;
    va_start(words, format);
    vsnprintf(failure, sizeof failure, format, words);
    va_end(words);
    publish(&end_address);
    switch_fiber(*running, scheduler);
    __builtin_unreachable();
}

UNSEEN inline void stop()
{
    current->fiber = running;
    switch_fiber(*running, scheduler);
}

UNSEEN inline void go_on(Thread& thread)
{
    current = &thread;
    threadIdx = thread.index;
    running = thread.fiber;
    switch_fiber(scheduler, *running);
}

// A new address for every time that threads meet: one that is used again would order more than it should.
UNSEEN inline void* new_meeting()
{
    static char addresses[1 << 20];
    static size_t used;
    return &addresses[8 * used++ % sizeof addresses];
}

UNSEEN inline bool same(const Call& a, const Call& b)
{
    return a.line == b.line && a.mask == b.mask && a.name == b.name;
}

UNSEEN inline bool waits_at(const Thread& thread, const Call& call)
{
    return thread.state == waiting && same(thread.call, call);
}

UNSEEN inline void sync_threads(const Call& call)
{
    Thread& me = *current;
    static void* meeting;
    if (at_barrier++ == 0) meeting = new_meeting();
    me.meeting = meeting;
    me.call = call;
    me.state = waiting;
    publish(me.meeting);
    if (at_barrier == thread_count) {
        bool together = true;
        for (int t = 0; t < thread_count; t++) together = together && same(threads[t].call, call);
        if (together) {
            at_barrier = 0;
            for (int t = 0; t < thread_count; t++) threads[t].state = ready;
        }
    }
    stop();
    observe(me.meeting);
}

// What a fiber does: run threads from their start, until one of them waits. When that one goes on and returns, all
// threads have begun.
UNSEEN inline void run_threads()
{
    arrived_in_fiber();
    observe(&begin_address);
    do {
        current = &threads[thread_order[next_thread++]];
        threadIdx = current->index;
        run_kernel(kernel_to_run, kernel_args);
        current->state = returned;
        publish(&end_address);
    } while (next_thread < thread_count && !with_tsan);  // ThreadSanitizer knows threads by their fibers
    switch_fiber(*running, scheduler);
}

// Which thread keeps this one waiting; null if that is not to be told, as all wait for each other.
UNSEEN inline const Thread* missing(const Thread& thread)
{
    const int first = thread.call.mask ? int(&thread - threads) / warp_size * warp_size : 0;
    for (int t = first; t < thread_count && (!thread.call.mask || t < first + warp_size); t++) {
        const bool meant = !thread.call.mask || thread.call.mask >> (t - first) & 1;
        if (meant && !waits_at(threads[t], thread.call)) return &threads[t];
    }
    return nullptr;
}

UNSEEN inline void describe(const Call& call, char* words, size_t size)
{
    const char* file = strrchr(call.file, '/');
    int used = snprintf(words, size, "waits at %s", call.name);
    if (call.mask) used += snprintf(words + used, size - used, "(mask 0x%08x)", call.mask);
    snprintf(words + used, size - used, " in line %d of %s", call.line, file ? file + 1 : call.file);
}

// No thread can go on: say why, if some still wait.
UNSEEN inline void report_waiting()
{
    for (int t = 0; t < thread_count; t++) {
        if (threads[t].state != waiting) continue;
        char mine[300], others[300] = "has returned";
        describe(threads[t].call, mine, sizeof mine);
        const Thread* other = missing(threads[t]);
        if (!other) continue;
        if (other->state == waiting) describe(other->call, others, sizeof others);
        const uint3 index = other->index;
        threadIdx = threads[t].index;
        snprintf(failure, sizeof failure, "it %s, but thread (%u, %u, %u) %s", mine, index.x, index.y, index.z, others);
        return;
    }
}

UNSEEN inline uint3 unravel(long long number, dim3 size)
{
    const long long row = number / size.x;
    return {(unsigned int)(number % size.x), (unsigned int)(row % size.y), (unsigned int)(row / size.y)};
}

// Run all threads of one block; blockIdx and blockDim are set. `failure` is "" if all returned.
UNSEEN inline void run_block()
{
    uint3 index = {0, 0, 0};
    for (int t = 0; t < thread_count; t++) {
        threads[t] = {};
        threads[t].index = index;
        if (++index.x < blockDim.x) continue;
        index.x = 0;
        if (++index.y < blockDim.y) continue;
        index.y = 0;
        index.z++;
    }
    next_thread = at_barrier = fibers_used = 0;
    while (next_thread < thread_count && !failure[0]) {
        const bool keep = with_tsan && kept_used < int(sizeof kept_fibers / sizeof *kept_fibers);
        running = keep ? &kept_fibers[kept_used++] : &fibers[fibers_used++];
        if (!prepare(*running, run_threads, next_thread)) {
            snprintf(failure, sizeof failure, "no memory for the stack of thread number %d", next_thread);
            return;
        }
        switch_fiber(scheduler, *running);
    }
    for (bool some = true; some && !failure[0];) {
        some = false;
        for (int i = 0; i < thread_count && !failure[0]; i++) {
            Thread& thread = threads[thread_order[i]];
            if (thread.state != ready) continue;
            some = true;
            go_on(thread);
        }
    }
    if (!failure[0]) report_waiting();
    for (int i = 0; i < fibers_used; i++) end_fiber(fibers[i]);
}

UNSEEN inline void begin_launch()
{
    begin_fibers();
    kept_used = 0;
    publish(&begin_address);
}

UNSEEN inline void end_of_launch()
{
    observe(&end_address);
    for (int i = 0; i < kept_used && failure[0]; i++) end_fiber(kept_fibers[i]);  // they stopped anywhere
}

}  // namespace cuda_on_cpu

// Where a call stands comes with the call: default arguments are evaluated in the caller's line.
#define CUDA_ON_CPU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CUDA_ON_CPU_HERE) { cuda_on_cpu::sync_threads({"__syncthreads", file, line, 0}); }

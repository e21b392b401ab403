// Enough of CUDA C++ to run a kernel on the CPU. g++ -std=c++20, no GPU, no CUDA toolkit.
//
// The Python side (__init__.py) writes a file that includes this header, then the .cu file, then names each kernel with
// CUDA_ON_CPU_KERNEL. What CUDA C++ adds to C++ is little:
//
//   __global__, __device__, float4, min ...    types.h: words that vanish, and ordinary C++
//   threadIdx, __syncthreads                   block.h: one thread runs at a time, each on a fiber (fibers.h)
//   __shfl_sync, __ballot_sync ...             warp.h: lanes that exchange values
//   __shared__, asynchronous copies            shared.h
//   kernel<<<grid, block, bytes>>>(args...)    `launch`, below: a loop over blocks
//
// sanitizers.h: what differs under AddressSanitizer and ThreadSanitizer.

#pragma once

#define CUDA_ON_CPU

#include <setjmp.h>
#include <signal.h>

#include <utility>

#include "block.h"
#include "shared.h"
#include "types.h"
#include "warp.h"

namespace cuda_on_cpu {

// The type of each parameter in NumPy's words, so that Python can check what it passes.

template <typename T> constexpr const char* type_name = nullptr;
#define CUDA_ON_CPU_TYPE(type, name)                                       \
    template <> inline constexpr const char* type_name<type> = name;       \
    template <> inline constexpr const char* type_name<type*> = name "*";  \
    template <> inline constexpr const char* type_name<const type*> = "const " name "*";
CUDA_ON_CPU_TYPE(signed char, "int8")
CUDA_ON_CPU_TYPE(unsigned char, "uint8")
CUDA_ON_CPU_TYPE(unsigned short, "uint16")
CUDA_ON_CPU_TYPE(int, "int32")
CUDA_ON_CPU_TYPE(long long, "int64")
CUDA_ON_CPU_TYPE(unsigned int, "uint32")
CUDA_ON_CPU_TYPE(unsigned long long, "uint64")
CUDA_ON_CPU_TYPE(float, "float32")
CUDA_ON_CPU_TYPE(double, "float64")

template <typename... P>
const char* const* signature(void (*)(P...))
{
    static_assert(((type_name<P> != nullptr) && ...), "a parameter has a type that cuda_on_cpu.h does not list");
    static const char* const names[] = {type_name<P>..., nullptr};
    return names;
}

// Which blocks run, which threads of a block, and in which order: numbers counted with x fastest, as CUDA counts them.
struct Launch {
    unsigned int grid[3], block[3];
    const long long* blocks;
    long long block_count;
    const int* threads;
    int thread_count;
    long long shared_bytes;
};

template <typename... P, size_t... I>
UNSEEN void call(void (*kernel)(P...), void** args, std::index_sequence<I...>)
{
    kernel(*static_cast<P*>(args[I])...);
}

template <typename... P>
UNSEEN void call_kernel(const void* kernel, void** args)
{
    call(reinterpret_cast<void (*)(P...)>(const_cast<void*>(kernel)), args, std::index_sequence_for<P...>{});
}

UNSEEN inline void run_grid(const Launch& launch)
{
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    thread_order = launch.threads;
    thread_count = launch.thread_count;
    dynamic_bytes = launch.shared_bytes;
    begin_launch();
    for (long long b = 0; b < launch.block_count && !failure[0]; b++) {
        blockIdx = unravel(launch.blocks[b], gridDim);
        reset_warps();
        if (!begin_shared()) snprintf(failure, sizeof failure, "no memory for shared arrays");
        else run_block();
        if (!failure[0] && !shared_intact()) {
            threadIdx = {0, 0, 0};
            snprintf(failure, sizeof failure, "a thread of the block wrote outside its shared arrays");
        }
    }
    end_of_launch();
}

// A thread that crashes ends the launch, not the test run: its signal brings us back here, from a stack of the
// handler's own, as the thread's may be the one that is too small. The file is compiled with traps for undefined
// behaviour, so an overflowing index or a division by zero is such a crash, too. Sanitizers have their own handlers.

constexpr int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
constexpr int crash_count = sizeof(crashes) / sizeof(crashes[0]);
static sigjmp_buf before_launch;

inline void jump_back(int signal_number) { siglongjmp(before_launch, signal_number); }

inline int run_grid_or_crash(const Launch& launch)
{
    static char handler_stack[1 << 16];
    stack_t our_stack = {}, their_stack;
    our_stack.ss_sp = handler_stack;
    our_stack.ss_size = sizeof handler_stack;
    sigaltstack(&our_stack, &their_stack);
    struct sigaction ours = {}, theirs[crash_count];
    ours.sa_handler = jump_back;
    ours.sa_flags = SA_ONSTACK;
    for (int i = 0; i < crash_count; i++) sigaction(crashes[i], &ours, &theirs[i]);
    const int crashed = sigsetjmp(before_launch, 1);
    if (!crashed) run_grid(launch);
    for (int i = 0; i < crash_count; i++) sigaction(crashes[i], &theirs[i], nullptr);
    sigaltstack(&their_stack, nullptr);
    return crashed;
}

// Returns 0, or the number of the signal that ended the launch, or -1 and the reason in `failure`; blockIdx and
// threadIdx then say which thread it was.
template <typename... P>
UNSEEN int launch(void (*kernel)(P...), const Launch& launch, void** args)
{
    run_kernel = call_kernel<P...>;
    kernel_to_run = reinterpret_cast<const void*>(kernel);
    kernel_args = args;
    failure[0] = 0;
    int crashed = 0;
    if (with_asan || with_tsan) run_grid(launch);
    else crashed = run_grid_or_crash(launch);
    return crashed ? crashed : failure[0] ? -1 : 0;
}

}  // namespace cuda_on_cpu

#define CUDA_ON_CPU_KERNEL(number, ...)                                                                              \
    extern "C" const char* const* signature_##number() { return cuda_on_cpu::signature(&__VA_ARGS__); }              \
    extern "C" int launch_##number(const cuda_on_cpu::Launch* launch, void** args)                                   \
    {                                                                                                                \
        return cuda_on_cpu::launch(&__VA_ARGS__, *launch, args);                                                     \
    }

extern "C" const unsigned int* crashed_block() { return &blockIdx.x; }
extern "C" const unsigned int* crashed_thread() { return &threadIdx.x; }
extern "C" const char* failure_message() { return cuda_on_cpu::failure; }
extern "C" void poison(const void* start, long long bytes) { cuda_on_cpu::poison(start, bytes); }
extern "C" void unpoison(const void* start, long long bytes) { cuda_on_cpu::unpoison(start, bytes); }

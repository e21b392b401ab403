// Enough of CUDA C++ to run a kernel on the CPU, one thread after another. g++ -std=c++20, no GPU, no CUDA toolkit.
//
// The Python side (__init__.py) writes a file that includes this header, then the .cu file, then names each kernel with
// CUDA_ON_CPU_KERNEL. What CUDA C++ adds to C++ is little, as long as no thread waits for another:
//
//   __global__, __device__             vanish: a kernel is an ordinary function
//   threadIdx, blockIdx, ...           are global variables, set before every call of that function
//   kernel<<<grid, block>>>(args...)   is `launch`: two loops, over blocks and over the threads of a block
//
// Not here: __shared__, __syncthreads, warp shuffles, atomics. A kernel that uses them does not compile. They need the
// threads of a block as fibers that switch at every barrier; `run_block` is the function that would change.

#pragma once

#include <math.h>
#include <setjmp.h>
#include <signal.h>

#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

// Built-in types and functions, with CUDA's names.

struct uint2 { unsigned int x, y; };
struct uint3 { unsigned int x, y, z; };
struct uint4 { unsigned int x, y, z, w; };
struct dim3 { unsigned int x = 1, y = 1, z = 1; };

inline uint2 make_uint2(unsigned int x, unsigned int y) { return {x, y}; }
inline uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w) { return {x, y, z, w}; }

template <typename T> T min(T a, T b) { return b < a ? b : a; }
template <typename T> T max(T a, T b) { return a < b ? b : a; }

static dim3 gridDim, blockDim;
static uint3 blockIdx, threadIdx;

namespace cuda_on_cpu {

// The type of each parameter in NumPy's words, so that Python can check what it passes.

template <typename T> constexpr const char* type_name = nullptr;
#define CUDA_ON_CPU_TYPE(type, name)                                       \
    template <> inline constexpr const char* type_name<type> = name;       \
    template <> inline constexpr const char* type_name<type*> = name "*";  \
    template <> inline constexpr const char* type_name<const type*> = "const " name "*";
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
};

inline uint3 unravel(long long number, dim3 size)
{
    const long long row = number / size.x;
    return {(unsigned int)(number % size.x), (unsigned int)(row % size.y), (unsigned int)(row / size.y)};
}

template <typename... P, size_t... I>
void run_block(void (*kernel)(P...), const Launch& launch, void** args, std::index_sequence<I...>)
{
    for (int t = 0; t < launch.thread_count; t++) {
        threadIdx = unravel(launch.threads[t], blockDim);
        kernel(*static_cast<P*>(args[I])...);
    }
}

template <typename... P>
void run_grid(void (*kernel)(P...), const Launch& launch, void** args)
{
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    for (long long b = 0; b < launch.block_count; b++) {
        blockIdx = unravel(launch.blocks[b], gridDim);
        run_block(kernel, launch, args, std::index_sequence_for<P...>{});
    }
}

// A thread that crashes ends the launch, not the test run: its signal brings us back here. The file is compiled with
// traps for undefined behaviour, so an overflowing index or a division by zero is such a crash, too.

constexpr int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
constexpr int crash_count = sizeof(crashes) / sizeof(crashes[0]);
static sigjmp_buf before_launch;

inline void jump_back(int signal_number) { siglongjmp(before_launch, signal_number); }

// Returns 0, or the number of the signal that ended the launch; blockIdx and threadIdx then say which thread it was.
template <typename... P>
int launch(void (*kernel)(P...), const Launch& launch, void** args)
{
    struct sigaction ours = {}, theirs[crash_count];
    ours.sa_handler = jump_back;
    for (int i = 0; i < crash_count; i++) sigaction(crashes[i], &ours, &theirs[i]);
    const int crashed = sigsetjmp(before_launch, 1);
    if (!crashed) run_grid(kernel, launch, args);
    for (int i = 0; i < crash_count; i++) sigaction(crashes[i], &theirs[i], nullptr);
    return crashed;
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

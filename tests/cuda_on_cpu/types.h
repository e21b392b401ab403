// CUDA's words, built-in types and functions, as far as C++ lacks them.

#pragma once

#include <math.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

// float2, make_float2, ...: with CUDA's alignment, so that a misaligned load of one shows.
#define CUDA_ON_CPU_VECTORS(type, name)                                                         \
    struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                    \
    struct alignas(16) name##4 { type x, y, z, w; };                                            \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                            \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
CUDA_ON_CPU_VECTORS(float, float)
CUDA_ON_CPU_VECTORS(int, int)
CUDA_ON_CPU_VECTORS(unsigned int, uint)

struct alignas(16) double2 { double x, y; };
inline double2 make_double2(double x, double y) { return {x, y}; }
struct uint3 { unsigned int x, y, z; };
struct dim3 { unsigned int x = 1, y = 1, z = 1; };

// Of two floats, CUDA's min and max take the one that is not NaN. Arguments of two types are ambiguous, as in CUDA.
template <typename T> T min(T a, T b) { return b < a ? b : a; }
template <typename T> T max(T a, T b) { return a < b ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float rsqrt(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
// the fast ones, which round less well on a GPU
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frsqrt_rn(float x) { return float(1 / sqrt(double(x))); }
inline float __fmul_rn(float x, float y) { return x * y; }  // never part of a fused multiply-add
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }

inline int __popc(unsigned int bits) { return __builtin_popcount(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(bits) : 32; }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline unsigned int __umulhi(unsigned int a, unsigned int b) { return (1ull * a * b) >> 32; }

// The same bits as another type.
#define CUDA_ON_CPU_BITS(name, to, from)                                        \
    inline to name(from value)                                                  \
    {                                                                           \
        to result;                                                              \
        static_assert(sizeof result == sizeof value);                           \
        memcpy(&result, &value, sizeof value);                                  \
        return result;                                                          \
    }
CUDA_ON_CPU_BITS(__float_as_int, int, float)
CUDA_ON_CPU_BITS(__float_as_uint, unsigned int, float)
CUDA_ON_CPU_BITS(__int_as_float, float, int)
CUDA_ON_CPU_BITS(__uint_as_float, float, unsigned int)
CUDA_ON_CPU_BITS(__double_as_longlong, long long, double)
CUDA_ON_CPU_BITS(__longlong_as_double, double, long long)

template <typename T> T __ldg(const T* address) { return *address; }

// One thread runs at a time, so a plain sum would do; written as an atomic one, ThreadSanitizer knows it for one. It
// orders nothing else (relaxed), as on a GPU. Returns the value before.
inline int atomicAdd(int* at, int value) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }
inline unsigned int atomicAdd(unsigned int* at, unsigned int value)
{
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}
inline unsigned long long atomicAdd(unsigned long long* at, unsigned long long value)
{
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

namespace cuda_on_cpu {

template <typename T> T atomic_float_add(T* at, T value)
{
    T old, sum;
    __atomic_load(at, &old, __ATOMIC_RELAXED);
    do sum = old + value;
    while (!__atomic_compare_exchange(at, &old, &sum, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}

}  // namespace cuda_on_cpu

inline float atomicAdd(float* at, float value) { return cuda_on_cpu::atomic_float_add(at, value); }
inline double atomicAdd(double* at, double value) { return cuda_on_cpu::atomic_float_add(at, value); }

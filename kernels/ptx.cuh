// The few instructions that C++ has no words for, in PTX, NVIDIA's portable assembly.
//
//   cp.async    copies from global to shared memory while the thread goes on: start some copies, close the group with
//               cp_async_commit, later wait until at most so many groups are still on their way
//   mma.sync    the tensor cores: the 32 threads of a warp multiply two small matrices, d += a * b, together
//   cvt         rounds a float to the shorter formats that the tensor cores take
//
// All of it came with sm_80. On older GPUs the copies are ordinary ones, done at once; the tensor-core functions
// compile and stop the kernel, so nothing may call them there. Under CUDA_ON_CPU, the tests' stand-in for a GPU, each
// function has a twin in C++, written from the PTX manual's tables.

#pragma once

#ifdef CUDA_ON_CPU
#define SINCE_SM_80 0
#else
#define SINCE_SM_80 (__CUDA_ARCH__ >= 800)
#endif

// --- copies of 16, 8 or 4 bytes from global to shared memory, both aligned to as many; zeros if not valid ---

template <typename Word>
__device__ inline void copy_at_once(void* shared, const void* global, bool valid)
{
    *static_cast<Word*>(shared) = valid ? *static_cast<const Word*>(global) : Word{};
}

__device__ inline void cp_async_16(void* shared, const void* global, bool valid)
{
#if defined(CUDA_ON_CPU)
    cuda_on_cpu::async_copy(shared, global, 16, valid);
#elif SINCE_SM_80
    const unsigned to = unsigned(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 ::"r"(to), "l"(global), "r"(valid ? 16 : 0) : "memory");
#else
    copy_at_once<uint4>(shared, global, valid);
#endif
}

__device__ inline void cp_async_8(void* shared, const void* global, bool valid)
{
#if defined(CUDA_ON_CPU)
    cuda_on_cpu::async_copy(shared, global, 8, valid);
#elif SINCE_SM_80
    const unsigned to = unsigned(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;"
                 ::"r"(to), "l"(global), "r"(valid ? 8 : 0) : "memory");
#else
    copy_at_once<uint2>(shared, global, valid);
#endif
}

__device__ inline void cp_async_4(void* shared, const void* global, bool valid)
{
#if defined(CUDA_ON_CPU)
    cuda_on_cpu::async_copy(shared, global, 4, valid);
#elif SINCE_SM_80
    const unsigned to = unsigned(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 ::"r"(to), "l"(global), "r"(valid ? 4 : 0) : "memory");
#else
    copy_at_once<unsigned>(shared, global, valid);
#endif
}

__device__ inline void cp_async_commit()
{
#if defined(CUDA_ON_CPU)
    cuda_on_cpu::async_commit();
#elif SINCE_SM_80
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most GROUPS of this thread's groups are on their way. The other threads' copies need a barrier, too.
template <int GROUPS>
__device__ inline void cp_async_wait()
{
#if defined(CUDA_ON_CPU)
    cuda_on_cpu::async_wait(GROUPS);
#elif SINCE_SM_80
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
#endif
}

// --- formats of the tensor cores ---

// The bits of the nearest TF32 number: a float with 10 bits after the point instead of 23; ties away from zero.
__device__ inline unsigned to_tf32(float value)
{
#if defined(CUDA_ON_CPU)
    const unsigned bits = __float_as_uint(value);
    if (value != value) return 0x7fffffffu;
    return (bits + 0x1000u) & ~0x1fffu;
#elif SINCE_SM_80
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
#else
    __trap();
    return unsigned(value);
#endif
}

// Two bf16 numbers, floats with 7 bits after the point, in one word; ties to even.
__device__ inline unsigned pack_bf16(float low, float high)
{
#if defined(CUDA_ON_CPU)
    const auto upper_half = [](float value) {
        const unsigned bits = __float_as_uint(value);
        return value != value ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    };
    return upper_half(high) << 16 | upper_half(low);
#elif SINCE_SM_80
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
#else
    __trap();
    return unsigned(low + high);
#endif
}

// --- d += a * b on the tensor cores, where a has 16 rows, b and d have 8 columns ---
//
// Each lane of the warp holds a part of every matrix. With group = lane / 4 and member = lane % 4:
//
//   d[0], d[1]: row group,     columns 2 * member and 2 * member + 1
//   d[2], d[3]: row group + 8, the same columns
//
//   mma_tf32, a 16 x 8 and b 8 x 8, one number a word      mma_bf16, a 16 x 16 and b 16 x 8, two numbers a word
//     a[0]: row group,     k = member                         a[0]: row group,     k = 2 * member and 2 * member + 1
//     a[1]: row group + 8, k = member                         a[1]: row group + 8, the same k
//     a[2], a[3]: the same rows, k + 4                        a[2], a[3]: the same rows, k + 8
//     b[0]: k = member,     column group                      b[0]: k = 2 * member and 2 * member + 1, column group
//     b[1]: k = member + 4, column group                      b[1]: k + 8, column group

#ifdef CUDA_ON_CPU
struct MmaWords {
    unsigned a[4], b[2];
};

// number(word, k) takes number k % 2 out of a word that holds PER_WORD of them.
template <int PER_WORD, class Number>
inline void mma_twin(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], Number number)
{
    const MmaWords* lanes = cuda_on_cpu::warp_share(MmaWords{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
    const int group = cuda_on_cpu::lane() / 4, member = cuda_on_cpu::lane() % 4;
    for (int i = 0; i < 4; i++) {
        const int row = group + i / 2 * 8, column = 2 * member + i % 2;
        for (int k = 0; k < 8 * PER_WORD; k++) {
            const int half = k / (4 * PER_WORD), owner = k / PER_WORD % 4;
            const unsigned left = lanes[row % 8 * 4 + owner].a[row / 8 + 2 * half];
            const unsigned right = lanes[column * 4 + owner].b[half];
            d[i] += number(left, k) * number(right, k);
        }
    }
}
#endif

__device__ inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
#if defined(CUDA_ON_CPU)
    mma_twin<1>(d, a, b, [](unsigned word, int) { return __uint_as_float(word & ~0x1fffu); });
#elif SINCE_SM_80
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    d[0] += float(a[0] + b[0]);
    __trap();
#endif
}

__device__ inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
#if defined(CUDA_ON_CPU)
    mma_twin<2>(d, a, b, [](unsigned word, int k) { return __uint_as_float(k % 2 ? word & 0xffff0000u : word << 16); });
#elif SINCE_SM_80
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    d[0] += float(a[0] + b[0]);
    __trap();
#endif
}

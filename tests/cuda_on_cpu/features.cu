// What CUDA C++ offers, a little of everything, for test_features.py. Also compiled for real GPUs: so CUDA has it, too.

#include "sums.cuh"

// Sums of blocks, in three ways at once: sums.cuh, a tile with a size, and shared memory with the launch's size.
// instances: <float, 64>; <double, 128>
template <typename T, int THREADS>
__global__ void __launch_bounds__(128) block_sums(const T* __restrict__ x /* N */, const T* bias /* N or null */,
                                                  T* __restrict__ out /* 3, (N + THREADS - 1) / THREADS */, int N)
{
    extern __shared__ __align__(16) unsigned char shared[];
    __shared__ T tile[THREADS / 32][32 + 1];
    T* values = reinterpret_cast<T*>(shared);
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    const T mine = i < N ? __ldg(x + i) + (bias ? bias[i] : 0) : 0;
    values[t] = tile[t / 32][t % 32] = mine;
    const T first = sum_of_block<T, THREADS>(mine);
    T second = 0, third = 0;
#pragma unroll
    for (int row = 0; row < THREADS / 32; row++)
        for (int column = 0; column < 32; column++) {
            second += tile[row][column];
            third += values[row * 32 + column];
        }
    if (t >= 3) return;
    out[t * gridDim.x + blockIdx.x] = t == 0 ? first : t == 1 ? second : third;
}

// A mask of 16 lanes and groups of 8 or 4.
__global__ void shuffles(const int* x /* 32 */, int* out /* 6, 32 */)
{
    const unsigned all = 0xffffffff;
    const int lane = threadIdx.x, half = lane < 16 ? 0x0000ffff : 0xffff0000;
    out[lane] = __shfl_sync(all, x[lane], lane + 3);
    out[32 + lane] = __shfl_up_sync(all, x[lane], 5);
    out[64 + lane] = __shfl_down_sync(all, x[lane], 5, 8);
    out[96 + lane] = __shfl_xor_sync(all, x[lane], 6, 4);
    out[128 + lane] = __shfl_xor_sync(half, x[lane], 9);
    out[160 + lane] = (int)__shfl_sync(half, (double)x[lane], lane + 1, 16);
}

__global__ void votes(const int* x /* 32 */, unsigned int* out /* 4, 32 */)
{
    const unsigned odd = 0xaaaaaaaa;
    const int lane = threadIdx.x;
    out[lane] = __ballot_sync(0xffffffff, x[lane]);
    out[32 + lane] = __any_sync(0xffffffff, x[lane] > 1);
    out[64 + lane] = __all_sync(0xffffffff, x[lane]);
    __syncwarp();
    out[96 + lane] = lane % 2 ? __all_sync(odd, x[lane]) : 0;
}

// Shared memory that nobody has written: what it holds, and writes to it, for the next block to find or not.
__global__ void shows_shared(unsigned int* out /* blocks, 2 */)
{
    extern __shared__ __align__(16) unsigned char shared[];
    __shared__ unsigned int word;
    unsigned int* words = reinterpret_cast<unsigned int*>(shared);
    out[2 * blockIdx.x] = word;
    out[2 * blockIdx.x + 1] = words[0];
    word = words[0] = 1;
}

__global__ void every_type(const unsigned char* a /* 1 */, const signed char* b /* 1 */,
                           const unsigned short* c /* 1 */, const unsigned long long* d /* 1 */,
                           const long long* e /* 1 */, double* out /* 1 */)
{
    *out = double(*a) + *b + *c + double(*d) + double(*e);
}

__global__ void adds_atomically(int* i /* 1 */, unsigned int* u /* 1 */, unsigned long long* l /* 1 */,
                                float* f /* 1 */, double* d /* 1 */)
{
    atomicAdd(i, -1);
    atomicAdd(u, 1u);
    atomicAdd(l, 1ull << 40);
    atomicAdd(f, 0.5f);
    atomicAdd(d, 0.25);
}

__global__ void vectors_and_bits(const float* x /* 8 */, float* out /* 12 */)
{
    const float4 four = *reinterpret_cast<const float4*>(x + 4);
    const float2 two = make_float2(four.x, four.y);
    const int4 whole = make_int4(1, 2, 3, 4);
    const uint2 words = make_uint2(__float_as_uint(two.x), 7u);
    *reinterpret_cast<float4*>(out) = make_float4(four.w, four.z, two.y, __uint_as_float(words.x));
    out[4] = __int_as_float(__float_as_int(x[0]));
    out[5] = max(x[1], __int_as_float(0x7fc00000));  // of a number and NaN, CUDA takes the number
    out[6] = min(whole.x + whole.w, max(2, whole.y));
    out[7] = fmaf(x[1], x[2], x[3]) + rsqrtf(4.0f) + __expf(0.0f);
    out[8] = __popc(words.y) + __ffs(8) + __clz(1);
    out[9] = (float)__umulhi(1u << 31, 6u);
    out[10] = (float)sizeof(int2) + alignof(double2);
    out[11] = (float)(__longlong_as_double(__double_as_longlong(1.5)) + fma(2.0, 3.0, 4.0));
}

// More local memory than a fiber's stack has.
__global__ void fills_its_stack(float* out /* 1 */, int count)
{
    float many[1 << 17];
    for (int i = 0; i < count; i++) many[i] = i;
    out[0] = many[count / 2];
}

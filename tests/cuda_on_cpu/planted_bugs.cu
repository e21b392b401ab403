// Kernels with one mistake each, <true>, and the same without it, <false>. What sees which: test_planted_bugs.py.
//
// All are launched alike: two blocks of 64 threads, 64 floats of dynamic shared memory, x and out of N <= 128 elements.

constexpr int THREADS = 64;

__device__ int here() { return blockIdx.x * THREADS + threadIdx.x; }
__device__ int mirrored() { return THREADS - 1 - threadIdx.x; }

// The value of another thread is taken before that one has put it there.
// instances: <true>; <false>
template <bool BUG>
__global__ void missing_barrier(const float* x /* N */, float* out /* N */, int)
{
    __shared__ float tile[THREADS];
    tile[threadIdx.x] = x[here()];
    if (!BUG) __syncthreads();
    out[here()] = tile[mirrored()];
}

// A tile is filled again while others still read from it.
// instances: <true>; <false>
template <bool BUG>
__global__ void missing_barrier_in_a_loop(const float* x /* N */, float* out /* N */, int)
{
    __shared__ float tile[THREADS];
    float sum = 0;
    for (int round = 0; round < 2; round++) {
        tile[threadIdx.x] = x[here()] + 1000 * round;
        __syncthreads();
        sum += tile[mirrored()];
        if (!BUG) __syncthreads();
    }
    out[here()] = sum;
}

// A warp does not run in lockstep: its lanes must meet before they read what others wrote.
// instances: <true>; <false>
template <bool BUG>
__global__ void missing_syncwarp(const float* x /* N */, float* out /* N */, int)
{
    __shared__ float tile[THREADS];
    tile[threadIdx.x] = x[here()];
    if (!BUG) __syncwarp();
    out[here()] = tile[threadIdx.x ^ 31];
}

// Two threads of a block add to one sum at a time.
// instances: <true>; <false>
template <bool BUG>
__global__ void missing_atomic_in_a_block(const float* x /* N */, float* out /* N */, int)
{
    __shared__ float sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    if (BUG) sum += x[here()];
    else atomicAdd(&sum, x[here()]);
    __syncthreads();
    out[here()] = sum;
}

// Two blocks add to one sum at a time. out starts as zeros here.
// instances: <true>; <false>
template <bool BUG>
__global__ void missing_atomic_between_blocks(const float* x /* N */, float* out /* N */, int)
{
    if (threadIdx.x != 0) return;
    if (BUG) out[0] += x[here()];
    else atomicAdd(out, x[here()]);
}

// instances: <true>; <false>
template <bool BUG>
__global__ void reads_one_too_many(const float* x /* N */, float* out /* N */, int N)
{
    const int i = here(), last = BUG ? N : N - 1;
    out[i] = x[i] + (i + 1 <= last ? x[i + 1] : 0);
}

// instances: <true>; <false>
template <bool BUG>
__global__ void writes_one_too_many(const float* x /* N */, float* out /* N */, int N)
{
    const int i = here(), last = BUG ? N : N - 1;
    if (i <= last) out[i] = x[min(i, N - 1)];
}

// instances: <true>; <false>
template <bool BUG>
__global__ void leaves_one_unwritten(const float* x /* N */, float* out /* N */, int N)
{
    const int i = here(), last = BUG ? N - 2 : N - 1;
    if (i <= last) out[i] = x[i];
}

// instances: <true>; <false>
template <bool BUG>
__global__ void overruns_dynamic_shared(const float* x /* N */, float* out /* N */, int)
{
    extern __shared__ __align__(16) unsigned char shared[];
    float* tile = reinterpret_cast<float*>(shared);
    tile[threadIdx.x + BUG] = x[here()];
    __syncthreads();
    out[here()] = tile[threadIdx.x + BUG];
}

// instances: <true>; <false>
template <bool BUG>
__global__ void overruns_static_shared(const float* x /* N */, float* out /* N */, int)
{
    __shared__ float tile[THREADS];
    float* place = tile;  // C++ knows no size of what this points at
    place[threadIdx.x + BUG] = x[here()];
    __syncthreads();
    out[here()] = place[threadIdx.x + BUG];
}

// A row too long: within the array, but in the next row.
// instances: <true>; <false>
template <bool BUG>
__global__ void wrong_inner_index(const float* x /* N */, float* out /* N */, int)
{
    __shared__ float tile[8][9];
    const int row = threadIdx.x / 8, column = threadIdx.x % 8;
    tile[row][column + 2 * BUG] = x[here()];
    __syncthreads();
    out[here()] = tile[column][row + 2 * BUG];
}

// Half of the threads wait in one line, half in another.
// instances: <true>; <false>
template <bool BUG>
__global__ void divergent_barrier(const float* x /* N */, float* out /* N */, int)
{
    __shared__ float tile[THREADS];
    tile[threadIdx.x] = x[here()];
    if (BUG && threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[here()] = tile[mirrored()];
}

// The threads past the end return before the others wait for them.
// instances: <true>; <false>
template <bool BUG>
__global__ void returns_before_a_barrier(const float* x /* N */, float* out /* N */, int N)
{
    __shared__ float tile[THREADS];
    const int i = here();
    if (BUG && i >= N) return;
    tile[threadIdx.x] = i < N ? x[i] : 0;
    __syncthreads();
    if (i < N) out[i] = tile[threadIdx.x];
}

// Half of the tile has no value.
// instances: <true>; <false>
template <bool BUG>
__global__ void uninitialised_shared(const float* x /* N */, float* out /* N */, int)
{
    __shared__ float tile[2 * THREADS];
    tile[threadIdx.x] = x[here()];
    if (!BUG) tile[threadIdx.x + THREADS] = 0;
    __syncthreads();
    out[here()] = tile[mirrored()] + tile[mirrored() + THREADS];
}

// 2**25 times 127 does not fit an int.
// instances: <true>; <false>
template <bool BUG>
__global__ void overflowing_index(const float* x /* N */, float* out /* N */, int N)
{
    const int i = here(), plane = 1 << 25;
    const long long place = BUG ? i * plane : (long long)i * plane;
    out[i] = x[place / plane % N];
}

// Four floats at an address that is no multiple of 16.
// instances: <true>; <false>
template <bool BUG>
__global__ void misaligned_load(const float* x /* N */, float* out /* N */, int N)
{
    if (here() >= N / 4 - 1) return;
    const float4 four = *reinterpret_cast<const float4*>(x + 4 * here() + BUG);
    out[here()] = four.x + four.y + four.z + four.w;
}

// All lanes call, and the mask names half of them.
// instances: <true>; <false>
template <bool BUG>
__global__ void wrong_shuffle_mask(const float* x /* N */, float* out /* N */, int)
{
    out[here()] = __shfl_xor_sync(BUG ? 0x0000ffff : 0xffffffff, x[here()], 8);
}

// The mask names all lanes, and some do not come.
// instances: <true>; <false>
template <bool BUG>
__global__ void missing_lanes(const float* x /* N */, float* out /* N */, int)
{
    const bool last = threadIdx.x % 32 >= 24;
    float value = x[here()];
    if (!BUG || !last) value = __shfl_xor_sync(0xffffffff, value, 1);
    out[here()] = value;
}

// The copy may still be under way.
// instances: <true>; <false>
template <bool BUG>
__global__ void missing_copy_wait(const float* x /* N */, float* out /* N */, int)
{
    __shared__ __align__(16) float tile[THREADS];
    cuda_on_cpu::async_copy(&tile[threadIdx.x], &x[here()], 4, true);
    cuda_on_cpu::async_commit();
    if (!BUG) cuda_on_cpu::async_wait(0);
    __syncthreads();
    out[here()] = tile[mirrored()];
}

// A wait is for the thread's own copies: those of others are there only after a barrier.
// instances: <true>; <false>
template <bool BUG>
__global__ void missing_barrier_after_copy(const float* x /* N */, float* out /* N */, int)
{
    __shared__ __align__(16) float tile[THREADS];
    cuda_on_cpu::async_copy(&tile[threadIdx.x], &x[here()], 4, true);
    cuda_on_cpu::async_commit();
    cuda_on_cpu::async_wait(0);
    if (!BUG) __syncthreads();
    out[here()] = tile[mirrored()];
}

// Two buffers, one filled while the other is in use: it must not be filled again before all have done with it.
// instances: <true>; <false>
template <bool BUG>
__global__ void missing_barrier_in_a_pipeline(const float* x /* N */, float* out /* N */, int)
{
    __shared__ __align__(16) float buffer[2][16];
    float sum = 0;
    for (int step = 0; step <= 4; step++) {
        const float* next = x + blockIdx.x * THREADS + 16 * step + threadIdx.x;
        if (step < 4 && threadIdx.x < 16) cuda_on_cpu::async_copy(&buffer[step % 2][threadIdx.x], next, 4, true);
        cuda_on_cpu::async_commit();
        if (step == 0) continue;
        cuda_on_cpu::async_wait(1);
        __syncthreads();
        sum += buffer[(step - 1) % 2][(threadIdx.x + 5) % 16];
        if (!BUG) __syncthreads();
    }
    out[here()] = sum;
}

// A word has 32 bits.
// instances: <true>; <false>
template <bool BUG>
__global__ void shifts_too_far(const float* x /* N */, float* out /* N */, int)
{
    const int bit = threadIdx.x - (BUG ? 0 : threadIdx.x / 32 * 32);
    out[here()] = 1u << bit & 8 ? x[here()] : 0;
}

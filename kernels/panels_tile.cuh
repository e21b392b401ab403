// One tile of a matrix product, sum[row, column] = sum over k of a[row, k] * b[k, column], by the threads of one block.
// panels.cu says what a and b are; panels_loaders.cuh brings them to shared memory.
//
// The block sums DEPTH values of k at a time, a chunk. While it multiplies one chunk, the next STAGES - 1 are on their
// way to shared memory:
//
//   stage 0   [multiply 0]  [load 4 ......................]     with STAGES = 4: a stage is filled again as soon as
//   stage 1   [load 1 ..]   [multiply 1]  [load 5 ........]     every thread has done with it, and has the time of
//   stage 2   [load 2 ..............]     [multiply 2] ...      three multiplications to arrive
//   stage 3   [load 3 ............................]
//
// Each warp owns a part of the tile, ROWS / 2 rows by 64 columns, so a block has COLUMNS threads: two warps above each
// other, COLUMNS / 64 side by side. Sums stay in registers to the end. A warp reads ROWS / 2 + 64 numbers from shared
// memory to do ROWS / 2 * 64 multiplications: the larger its part, the less it waits for shared memory.

#pragma once

#include "ptx.cuh"

using index_t = long long;

// How to multiply: plain multiply-adds in T; or float on the tensor cores, by TF32 (10 bits after the point), by bf16
// (7 bits), or, as exact as float, by three TF32 products. Sums are float in all of these.
constexpr int FMA = 0, TF32 = 1, TF32X3 = 2, BF16 = 3;

constexpr int DEPTH = 16;

template <int ARITHMETIC>
constexpr int STAGES = ARITHMETIC == FMA ? 3 : 4;

// --- where a number of a chunk lies in shared memory ---
//
// A line is a row of a or a column of b. Copies go along what is contiguous in global memory, so a chunk lies either
// line by line, k innermost, or k by k, lines innermost. Shared memory has 32 banks of 4 bytes, and a warp reads in one
// go only what lies in different banks (or at the same address). Lanes read 4 neighbours in one direction and 8 in the
// other, and without the gaps at the ends of lines many of these would share a bank:
//
//   KInner  8 lines apart by 20 words: banks 0, 20, 8, 28, 16, 4, 24, 12, each followed by 4 values of k: all 32 banks
//   KOuter  4 values of k apart by 136 or 264 words: banks 0, 8, 16, 24, each followed by 8 lines: all 32 banks
//
// (For double, 16 lanes read at a time, two banks each; the same gaps do.) 16-byte copies need lines that start at
// multiples of 16 bytes: both gaps leave that.

template <typename T, int LINES>
struct KInner {
    static constexpr int PITCH = DEPTH + 16 / int(sizeof(T)), SIZE = LINES * PITCH;
    static __device__ int at(int line, int k) { return line * PITCH + k; }
};

template <typename T, int LINES>
struct KOuter {
    static constexpr int PITCH = LINES + 8, SIZE = DEPTH * PITCH;
    static __device__ int at(int line, int k) { return k * PITCH + line; }
};

// --- one thread's sums: `add` a chunk, at the end visit `each` ---

// Place(column) gives an index to remember for the column, or -1 to leave it out; Store(row, index, sum) follows for
// every row. Rows and columns count from the tile's corner.

template <typename T, int ARITHMETIC, int ROWS, int COLUMNS>
struct Sums {  // float on the tensor cores
    static constexpr int HEIGHT = ROWS / 2 / 16, WIDTH = 64 / 8;
    static constexpr int STEP = ARITHMETIC == BF16 ? 16 : 8;  // values of k in one instruction
    static constexpr int PART = ARITHMETIC == TF32X3 ? 2 : HEIGHT;  // of a's words: more of both kinds fit no registers

    const int member = threadIdx.x % 4;
    const int first_row = threadIdx.x / 32 % 2 * (ROWS / 2) + threadIdx.x % 32 / 4;
    const int first_column = threadIdx.x / 64 * 64;
    float sum[HEIGHT][WIDTH][4] = {};

    template <int COUNT>
    struct Words {
        unsigned big[COUNT], small[COUNT];

        // An instruction sums over k, in any order as long as a and b agree: so the two numbers of a bf16 word may be
        // those at k and k + 4, and the pattern of reads is that of TF32, which the layouts above are made for.
        template <class Layout>
        __device__ void read(int i, const float* chunk, int line, int k)
        {
            const float value = chunk[Layout::at(line, k)];
            if constexpr (ARITHMETIC == BF16) {
                big[i] = pack_bf16(value, chunk[Layout::at(line, k + 4)]);
            } else {
                big[i] = to_tf32(value);
                if constexpr (ARITHMETIC == TF32X3) small[i] = to_tf32(value - __uint_as_float(big[i]));
            }
        }
    };

    // value = big + small, but for 2**-22 of it; small * small is left out, as small as that. The tensor cores round
    // every sum towards zero. Over thousands of sums that would show, so these end after one step.
    static __device__ void multiply(float (&d)[4], const Words<4>& a, const Words<2>& b)
    {
        if constexpr (ARITHMETIC == BF16) mma_bf16(d, a.big, b.big);
        if constexpr (ARITHMETIC == TF32) mma_tf32(d, a.big, b.big);
        if constexpr (ARITHMETIC == TF32X3) {
            float step[4] = {};
            mma_tf32(step, a.small, b.big);
            mma_tf32(step, a.big, b.small);
            mma_tf32(step, a.big, b.big);
#pragma unroll
            for (int i = 0; i < 4; i++) d[i] += step[i];
        }
    }

    template <class LayoutA, class LayoutB>
    __device__ void add(const float* chunk_a, const float* chunk_b)
    {
        const int group = threadIdx.x % 32 / 4;
#pragma unroll (ARITHMETIC == TF32X3 ? 1 : 2)
        for (int k = 0; k < DEPTH; k += STEP) {
#pragma unroll
            for (int part = 0; part < HEIGHT; part += PART) {
                if constexpr (PART < HEIGHT) __syncwarp();  // keeps the compiler from reading the next part's words now
                add_part<LayoutA, LayoutB>(part, chunk_a, chunk_b, k, first_column + group);
            }
        }
    }

    template <class LayoutA, class LayoutB>
    __device__ void add_part(int part, const float* chunk_a, const float* chunk_b, int k, int column)
    {
        Words<4> a[PART];
#pragma unroll
        for (int i = 0; i < PART * 4; i++) {
            const int row = first_row + (part + i / 4) * 16 + i % 2 * 8;
            a[i / 4].template read<LayoutA>(i % 4, chunk_a, row, k + member + i % 4 / 2 * (STEP / 2));
        }
#pragma unroll
        for (int j = 0; j < WIDTH; j++) {
            Words<2> b;
#pragma unroll
            for (int i = 0; i < 2; i++)
                b.template read<LayoutB>(i, chunk_b, column + j * 8, k + member + i * (STEP / 2));
#pragma unroll
            for (int i = 0; i < PART; i++) multiply(sum[part + i][j], a[i], b);
        }
    }

    template <class Place, class Store>
    __device__ void each(Place place, Store store) const
    {
#pragma unroll
        for (int j = 0; j < WIDTH * 2; j++) {
            const index_t index = place(first_column + j / 2 * 8 + 2 * member + j % 2);
            if (index < 0) continue;
#pragma unroll
            for (int i = 0; i < HEIGHT * 2; i++)
                store(first_row + i * 8, index, sum[i / 2][j / 2][i % 2 * 2 + j % 2]);
        }
    }
};

template <typename T, int ROWS, int COLUMNS>
struct Sums<T, FMA, ROWS, COLUMNS> {  // every fourth row and every eighth column of the warp's part
    static constexpr int HEIGHT = ROWS / 2 / 4, WIDTH = 64 / 8;

    const int first_row = threadIdx.x / 32 % 2 * (ROWS / 2) + threadIdx.x % 32 / 8;
    const int first_column = threadIdx.x / 64 * 64 + threadIdx.x % 8;
    T sum[HEIGHT][WIDTH] = {};

    template <class LayoutA, class LayoutB>
    __device__ void add(const T* chunk_a, const T* chunk_b)
    {
#pragma unroll 2
        for (int k = 0; k < DEPTH; k++) {
            T a[HEIGHT], b[WIDTH];
#pragma unroll
            for (int i = 0; i < HEIGHT; i++) a[i] = chunk_a[LayoutA::at(first_row + 4 * i, k)];
#pragma unroll
            for (int j = 0; j < WIDTH; j++) b[j] = chunk_b[LayoutB::at(first_column + 8 * j, k)];
#pragma unroll
            for (int i = 0; i < HEIGHT; i++)
#pragma unroll
                for (int j = 0; j < WIDTH; j++) sum[i][j] += a[i] * b[j];
        }
    }

    template <class Place, class Store>
    __device__ void each(Place place, Store store) const
    {
#pragma unroll
        for (int j = 0; j < WIDTH; j++) {
            const index_t index = place(first_column + 8 * j);
            if (index < 0) continue;
#pragma unroll
            for (int i = 0; i < HEIGHT; i++) store(first_row + 4 * i, index, sum[i][j]);
        }
    }
};

// --- the loop over the chunks ---

// A loader's load(chunk) starts the copies of its next chunk; beyond the end of the matrix they bring zeros.
template <int STAGE_COUNT, typename T, class Sums, class LoaderA, class LoaderB>
__device__ void sum_up(Sums& sums, LoaderA& a, LoaderB& b, int chunks, T* shared)
{
    using LayoutA = typename LoaderA::Layout;
    using LayoutB = typename LoaderB::Layout;
    constexpr int SIZE = LayoutA::SIZE + LayoutB::SIZE;

    const auto load = [&](int chunk) {
        T* stage = shared + chunk % STAGE_COUNT * SIZE;
        if (chunk < chunks) {
            a.load(stage);
            b.load(stage + LayoutA::SIZE);
        }
        cp_async_commit();  // an empty group at the end, so that counting groups stays simple
    };

#pragma unroll 1
    for (int chunk = 1 - STAGE_COUNT; chunk < chunks; chunk++) {
        if (chunk >= 0) {
            cp_async_wait<STAGE_COUNT - 2>();  // this thread's part of the chunk is here,
            __syncthreads();  // now everybody's; and all have done with the chunk before, whose stage is free
        }
        load(chunk + STAGE_COUNT - 1);
        if (chunk >= 0) {
            const T* stage = shared + chunk % STAGE_COUNT * SIZE;
            sums.template add<LayoutA, LayoutB>(stage, stage + LayoutA::SIZE);
        }
    }
    cp_async_wait<0>();
}

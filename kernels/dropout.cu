// Inverted dropout, forward and backward. CPU twin: tinynet/ops/dropout.py.
//
//   y[f, n] = x[f, n] * scale  where bits(n * whole + offset + f) >= threshold, else 0
//   scale = 1 / (1 - p)     threshold = round(p * 2**32)
//
// In memory the batch is innermost, (F, N), where F counts all that one picture has: units, or C * H * W. To the user
// the array is (N, F), and the mask must be the CPU's: bits(i) is word i of the stream (seed, stream, step), as
// tinynet.random.bits gives it, and i = n * F + f the position in the user's C order. Where x is a tower's part of an
// array, i counts in the whole: `whole` is the F of the whole, `offset` the part's first f in it; else they are F and 0.
//
// The gradient is the same function of dy: with the same seed, stream and step, dropout(dy) draws the same mask again.
// (The CPU, which draws slowly, keeps it instead.) p so near to 1 that threshold = 2**32 drops everything, so threshold
// has 64 bits.
//
// The step is `step`, plus first_step[0] if there is such an array: a CUDA graph must read what changes from memory.
//
// One call of the generator, about 80 instructions, gives the words of four neighbouring f of one picture. So a thread
// takes one picture and four rows at a time, and threads that follow each other take pictures that follow each other.
// Where `whole` or `offset` is no multiple of 4, the first and last call of a picture reach into its neighbours' words,
// and are made for each of them.
//
// Block: any, best (about min(N, 32), 256 / that). Any one-dimensional grid, best F / 4 + 2 over blockDim.y. No shared
// memory. Bytes of DRAM per float: 8, and 20 instructions of the generator.

#include "philox.cuh"

using index_t = long long;

// Four blocks at a time on a multiprocessor: left to itself, the compiler spills.
template <typename T>
__global__ void __launch_bounds__(256, 4)
    dropout(const T* __restrict__ x /* F, N */, T* __restrict__ y /* F, N */, long long F, int N,
            long long whole, long long offset, unsigned long long threshold, T scale, unsigned long long seed,
            unsigned stream, unsigned step, const unsigned* __restrict__ first_step /* 1 or null */)
{
    if (first_step) step += first_step[0];
    const index_t calls = F / 4 + 2;  // of a picture, at most: one for each four words, and one more at either end
    const index_t threads = index_t(gridDim.x) * blockDim.y;
    for (index_t call = index_t(blockIdx.x) * blockDim.y + threadIdx.y; call < calls; call += threads) {
        for (int n = threadIdx.x; n < N; n += blockDim.x) {
            const index_t begin = n * whole + offset;
            const index_t block = begin / 4 + call;
            const index_t f = 4 * block - begin;  // of its first word; below 0 if that is the last picture's
            if (f >= F) continue;
            const uint4 bits = philox_block(block, seed, stream, step);
            const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
            index_t at = f * N + n;
            for (int j = 0; j < 4; j++, at += N) {
                if (f + j < 0 || f + j >= F) continue;
                y[at] = words[j] >= threshold ? x[at] * scale : T(0);
            }
        }
    }
}

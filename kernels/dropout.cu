// Inverted dropout, forward and backward. CPU twin: tinynet/ops/dropout.py.
//
//   y[i] = x[i] * scale  where bits(i) >= threshold, else 0     scale = 1 / (1 - p)     threshold = round(p * 2**32)
//
//   x, y: `count` elements, contiguous; i is the position in that order, for x of shape (N, units...): C order.
//   bits(i) is word i of the stream (seed, stream, step), the same that tinynet.random.bits gives.
//
// The gradient is the same function of dy: with the same seed, stream and step, dropout(dy) draws the same mask again,
// so no mask is kept. p so near to 1 that threshold = 2**32 drops everything, so threshold has 64 bits.
//
// T is float or double: dropout<float>, ... Any one-dimensional grid. One call of the generator gives four words, so
// thread i does elements 4 * i to 4 * i + 3.

#include "philox.cuh"

using index_t = long long;

template <typename T>
__global__ void dropout(const T* __restrict__ x, T* __restrict__ y, index_t count,
                        unsigned long long threshold, T scale,
                        unsigned long long seed, unsigned int stream, unsigned int step)
{
    const index_t threads = index_t(gridDim.x) * blockDim.x;
    for (index_t i = index_t(blockIdx.x) * blockDim.x + threadIdx.x; 4 * i < count; i += threads) {
        const uint4 block = philox_block(i, seed, stream, step);
        const unsigned int words[4] = {block.x, block.y, block.z, block.w};
        for (int j = 0; j < 4 && 4 * i + j < count; j++) {
            const index_t at = 4 * i + j;
            y[at] = words[j] >= threshold ? x[at] * scale : T(0);
        }
    }
}

// The first `count` words of a stream of random bits. CPU twin: tinynet/ops/philox.py; the generator is in philox.cuh.
//
//   out: (count,), 32 bits each; out[i] is word i % 4 of Philox4x32-10 with
//   counter = (low half of i / 4, high half of i / 4, step, stream)     key = (low half of seed, high half of seed)
//
// Any one-dimensional grid. One call of the generator gives four words, so thread i writes words 4 * i to 4 * i + 3.

#include "philox.cuh"

using index_t = long long;

__global__ void philox_bits(unsigned* __restrict__ out /* count */, long long count,
                            unsigned long long seed, unsigned stream, unsigned step)
{
    const index_t threads = index_t(gridDim.x) * blockDim.x;
    for (index_t i = index_t(blockIdx.x) * blockDim.x + threadIdx.x; 4 * i < count; i += threads) {
        const uint4 block = philox_block(i, seed, stream, step);
        const unsigned words[4] = {block.x, block.y, block.z, block.w};
        for (int j = 0; j < 4 && 4 * i + j < count; j++) out[4 * i + j] = words[j];
    }
}

// Philox4x32-10: random bits that are a pure function of a counter and a key.
//
// Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011), section 3.3. There is no state to
// keep or to pass on: a thread asks for the number with the index it works on, and gets the bits that the CPU gets.

#pragma once

// Ten rounds on the counter (x, y, z, w) with the key (x, y): four words of 32 random bits.
__device__ inline uint4 philox4x32(uint4 counter, uint2 key)
{
    for (int round = 0; round < 10; round++) {
        const unsigned long long product0 = 0xD2511F53ull * counter.x;
        const unsigned long long product1 = 0xCD9E8D57ull * counter.z;
        counter = make_uint4((unsigned int)(product1 >> 32) ^ counter.y ^ key.x, (unsigned int)product1,
                             (unsigned int)(product0 >> 32) ^ counter.w ^ key.y, (unsigned int)product0);
        key = make_uint2(key.x + 0x9E3779B9u, key.y + 0xBB67AE85u);
    }
    return counter;
}

// Words 4 * block to 4 * block + 3 of the stream (seed, stream, step): what tinynet.random.bits gives at these indices.
__device__ inline uint4 philox_block(unsigned long long block, unsigned long long seed,
                                     unsigned int stream, unsigned int step)
{
    const uint4 counter = make_uint4((unsigned int)block, (unsigned int)(block >> 32), step, stream);
    return philox4x32(counter, make_uint2((unsigned int)seed, (unsigned int)(seed >> 32)));
}

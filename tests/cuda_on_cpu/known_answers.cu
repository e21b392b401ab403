// The generator on counters and keys of one's choice, for the known answers of test_kernels.py.

#include "philox.cuh"

// counter, out: (4,)    key: (2,)
__global__ void philox_known_answer(const unsigned int* counter, const unsigned int* key, unsigned int* out)
{
    const uint4 where = make_uint4(counter[0], counter[1], counter[2], counter[3]);
    const uint4 block = philox4x32(where, make_uint2(key[0], key[1]));
    out[0] = block.x;
    out[1] = block.y;
    out[2] = block.z;
    out[3] = block.w;
}

// Shared memory of a function that several kernels call, for features.cu.

#pragma once

template <typename T, int THREADS>
__device__ inline T sum_of_block(T mine)
{
    __shared__ T part[THREADS];
    part[threadIdx.x] = mine;
    for (int step = THREADS / 2; step > 0; step /= 2) {
        __syncthreads();
        if (int(threadIdx.x) < step) part[threadIdx.x] += part[threadIdx.x + step];
    }
    __syncthreads();
    return part[0];
}

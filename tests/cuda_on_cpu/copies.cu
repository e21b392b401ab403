// The words that cuda_on_cpu adds to CUDA's, for the C++ twins of PTX instructions. Only test_features.py runs them.

struct Pair {
    double number;
    int lane;
};

// All lanes see all values, of two meetings at once: the pointer from the first still holds.
__global__ void shares(const double* x /* 32 */, double* out /* 32 */)
{
    const Pair mine = {x[threadIdx.x], int(cuda_on_cpu::lane())};
    const Pair* all = cuda_on_cpu::warp_share(mine);
    double sum = 0;
    for (int i = 0; i < 32; i++) sum += all[i].number * all[i].lane;
    const float* others = cuda_on_cpu::warp_share(float(threadIdx.x));
    out[threadIdx.x] = sum + others[31 - threadIdx.x];
}

// Three copies in two groups; then a wait that allows `allowed` groups to be under way.
__global__ void copies(const float* x /* 12 */, float* out /* 12 */, int allowed, int commits)
{
    __shared__ __align__(16) float tile[12];
    cuda_on_cpu::async_copy(tile, x, 16, true);
    cuda_on_cpu::async_copy(tile + 4, x + 4, 8, true);
    cuda_on_cpu::async_copy(tile + 6, nullptr, 8, false);
    cuda_on_cpu::async_commit();
    cuda_on_cpu::async_copy(tile + 8, x + 8, 16, true);
    if (commits == 2) cuda_on_cpu::async_commit();
    cuda_on_cpu::async_wait(allowed);
    for (int i = 0; i < 12; i++) out[i] = tile[i];
}

__global__ void copies_badly(const float* x /* 12 */, float* out /* 12 */, int to, int bytes)
{
    __shared__ __align__(16) float tile[12];
    cuda_on_cpu::async_copy(tile + to, x, bytes, true);
    cuda_on_cpu::async_commit();
    cuda_on_cpu::async_wait(0);
    out[0] = tile[to];
}

__global__ void copies_elsewhere(const float* x /* 12 */, float* out /* 12 */)
{
    cuda_on_cpu::async_copy(out, x, 4, true);
}

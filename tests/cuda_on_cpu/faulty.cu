// Kernels with one mistake each: what cuda_on_cpu must catch. Only test_kernels.py runs them.

__global__ void writes_past_the_end(float* out, int count) { out[count] = 0; }

__global__ void writes_before_the_start(float* out, int count) { out[-count] = 0; }

__global__ void changes_its_input(const float* x, float* out) { const_cast<float*>(x)[0] = out[0] = 0; }

__global__ void reads_past_the_end(const float* x, float* out, int count) { out[0] = x[0] + x[count]; }

__global__ void points_nowhere(float* out, long long far) { out[far] = 0; }

__global__ void overflows(int* out, int count) { out[threadIdx.x] = count * count; }

__global__ void divides_by_zero(int* out, int count) { out[threadIdx.x] = 1 / (count - int(threadIdx.x)); }

__global__ void leaves_the_last_to_win(int* out) { out[0] = blockIdx.x * blockDim.x + threadIdx.x; }

// No mistake: every thread of a three-dimensional launch counts itself at the place that its index says.
__global__ void counts_itself(int* out)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    const int z = blockIdx.z * blockDim.z + threadIdx.z;
    out[(z * gridDim.y * blockDim.y + y) * gridDim.x * blockDim.x + x] += 1;
}

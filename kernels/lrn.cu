// Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3). CPU twin: tinynet/ops/lrn.py.
//
//   s_i  = k + alpha * (sum of x_j**2 over the channels j in window(i))
//   y_i  = x_i * s_i**-beta
//   dx_j = dy_j * s_j**-beta - 2 * alpha * beta * x_j * (sum of dy_i * x_i * s_i**(-beta - 1) over i in window(j))
//
//   x, y, dy, dx: (N, C, H, W), contiguous. i and j are channels of one pixel.
//
// window(i) is `size` channels wide (odd), centred on i and cut off at the ends of i's group of C / groups channels. As
// it is centred, j lies in window(i) exactly when i lies in window(j): backward sums over the same window.
//
// T is float or double: lrn_forward<float>, ... Any one-dimensional grid; thread i computes element i, i + threads, ...
// Neighbouring threads take neighbouring pixels of one channel, so all their reads are of neighbours in memory.

using index_t = long long;

struct Window {
    int first, last;  // channels, both included
};

__device__ Window window_around(int channel, int size, int group_size)
{
    const int group_start = channel / group_size * group_size;
    return {max(channel - size / 2, group_start), min(channel + size / 2, group_start + group_size - 1)};
}

// s of one channel. `pixel` points at channel 0 of a pixel; its next channel is H*W elements on.
template <typename T>
__device__ T scale_of(const T* pixel, index_t plane, int channel, int size, int group_size, T alpha, T k)
{
    const Window window = window_around(channel, size, group_size);
    T sum = 0;
    for (int j = window.first; j <= window.last; j++) {
        const T value = pixel[j * plane];
        sum += value * value;
    }
    return k + alpha * sum;
}

template <typename T>
__global__ void lrn_forward(const T* __restrict__ x, T* __restrict__ y, int N, int C, int H, int W,
                            int size, int groups, T alpha, T beta, T k)
{
    const index_t plane = index_t(H) * W;
    const index_t count = index_t(N) * C * plane;
    const index_t threads = index_t(gridDim.x) * blockDim.x;
    for (index_t i = index_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += threads) {
        const int c = i / plane % C;
        const T scale = scale_of(x + (i - c * plane), plane, c, size, C / groups, alpha, k);
        y[i] = x[i] * pow(scale, -beta);
    }
}

// Nothing is kept from forward: the scales of the window are computed again, size**2 reads that mostly hit the cache.
template <typename T>
__global__ void lrn_backward(const T* __restrict__ x, const T* __restrict__ dy, T* __restrict__ dx,
                             int N, int C, int H, int W, int size, int groups, T alpha, T beta, T k)
{
    const index_t plane = index_t(H) * W;
    const index_t count = index_t(N) * C * plane;
    const index_t threads = index_t(gridDim.x) * blockDim.x;
    for (index_t i = index_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += threads) {
        const int c = i / plane % C;
        const index_t pixel = i - c * plane;
        const Window window = window_around(c, size, C / groups);
        T own = 0, spread = 0;
        for (int j = window.first; j <= window.last; j++) {
            const index_t at = pixel + j * plane;
            const T scale = scale_of(x + pixel, plane, j, size, C / groups, alpha, k);
            const T power = pow(scale, -beta);
            spread += dy[at] * x[at] * power / scale;
            if (j == c) own = dy[at] * power;
        }
        dx[i] = own - 2 * alpha * beta * x[i] * spread;
    }
}

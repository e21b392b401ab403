// Max pooling with the place of each maximum, and its backward. CPU twin: tinynet/ops/max_pool.py.
//
//   y[c, oh, ow, n]     = the largest x[c, oh * stride_h - padding_h + kh, ow * stride_w - padding_w + kw, n]
//   place[c, oh, ow, n] = kh * KW + kw of that element; the first one among equals, in the order of kh, then kw
//   dx[c, h, w, n]      = the sum of dy over the windows whose maximum was x[c, h, w, n]
//
// Padding never wins, and the last window may hang over the edge. NaN wins over every number, so that it is not lost.
// A window that holds no pixel at all (no layer makes one: padding <= kernel_size / 2) gets y = 0 and the place -1, or
// what is left of that in an unsigned char. Place is unsigned char where KH*KW <= 256, else int.
//
// Any grid and block. Best: block (about min(N, 32), 256 / that), so that threads that follow each other take pictures
// that follow each other, and, if the pictures are few, pixels; then what depends on the pixel alone is worked out once
// for N / 32 pictures. Grid: x: the columns of y, or of dx, over blockDim.y; y: the rows; z: the channels. No shared
// memory.
//
// Bytes of DRAM per float of x, at 3 x 3 and stride 2, where y has a quarter of the elements and place takes one byte:
// forward 4 + 1 + 0.25, backward 1 + 0.25 + 4. Windows overlap, so 9/4 of that is asked for; the rest is in the caches.

#include "pool.cuh"

// instances: <float, unsigned char>; <double, unsigned char>; <float, int>; <double, int>
template <typename T, typename Place>
__global__ void __launch_bounds__(256)
    max_pool_forward(const T* __restrict__ x /* C, H, W, N */, T* __restrict__ y /* C, OH, OW, N */,
                     Place* __restrict__ place /* C, OH, OW, N */, int C, int H, int W, int N, int OH, int OW, int KH,
                     int KW, int stride_h, int stride_w, int padding_h, int padding_w)
{
    for (int c = blockIdx.z; c < C; c += gridDim.z) {
        for (int oh = blockIdx.y; oh < OH; oh += gridDim.y) {
            for (int ow = blockIdx.x * blockDim.y + threadIdx.y; ow < OW; ow += gridDim.x * blockDim.y) {
                const int top = oh * stride_h - padding_h, left = ow * stride_w - padding_w;
                const int first_kh = max(0, -top), end_kh = min(KH, H - top);
                const int first_kw = max(0, -left), end_kw = min(KW, W - left);
                const index_t window = ((index_t(c) * OH + oh) * OW + ow) * N;
                for (int n = threadIdx.x; n < N; n += blockDim.x) {
                    Best<T> best;
                    for (int kh = first_kh; kh < end_kh; kh++) {
                        for (int kw = first_kw; kw < end_kw; kw++) {
                            const index_t pixel = (index_t(c) * H + top + kh) * W + left + kw;
                            best.offer(x[pixel * N + n], kh * KW + kw);
                        }
                    }
                    y[window + n] = best.value;
                    place[window + n] = best.place;
                }
            }
        }
    }
}

// Each thread owns elements of dx, and gathers. Four blocks at a time on a multiprocessor, so at most 64 registers: left
// to itself, the compiler takes fewer, for more blocks, and spills.
// instances: <float, unsigned char>; <double, unsigned char>; <float, int>; <double, int>
template <typename T, typename Place>
__global__ void __launch_bounds__(256, 4)
    max_pool_backward(const T* __restrict__ dy /* C, OH, OW, N */, const Place* __restrict__ place /* C, OH, OW, N */,
                      T* __restrict__ dx /* C, H, W, N */, int C, int H, int W, int N, int OH, int OW, int KH, int KW,
                      int stride_h, int stride_w, int padding_h, int padding_w)
{
    for (int c = blockIdx.z; c < C; c += gridDim.z) {
        const index_t windows = index_t(c) * OH * OW * N;  // the first window of this channel
        for (int h = blockIdx.y; h < H; h += gridDim.y) {
            const Windows rows = windows_over(h + padding_h, KH, stride_h, OH);
            for (int w = blockIdx.x * blockDim.y + threadIdx.y; w < W; w += gridDim.x * blockDim.y) {
                const Windows columns = windows_over(w + padding_w, KW, stride_w, OW);
                const index_t pixel = ((index_t(c) * H + h) * W + w) * N;
                for (int n = threadIdx.x; n < N; n += blockDim.x) {
                    const index_t at = windows + n;
                    dx[pixel + n] = gathered(dy + at, place + at, rows, columns, OW, N, KW);
                }
            }
        }
    }
}

// Max pooling with the place of each maximum, and its backward. CPU twin: tinynet/ops/max_pool.py.
//
//   y[n, c, oh, ow]     = the largest x[n, c, oh * stride_h - padding_h + kh, ow * stride_w - padding_w + kw]
//   place[n, c, oh, ow] = kh * KW + kw of that element; the first one among equals, in the order of kh, then kw
//   dx[n, c, h, w]      = the sum of dy over the windows whose maximum was x[n, c, h, w]
//
//   x, dx: (N, C, H, W)     y, dy: (N, C, OH, OW)     place: (N, C, OH, OW), int     all contiguous
//
// Padding never wins, and the last window may hang over the edge. NaN wins over every number, so that it is not lost.
// A window that holds no pixel at all (no layer makes one: padding <= kernel_size / 2) gets y = 0, place = -1.
//
// T is float or double: max_pool_forward<float>, ... Any one-dimensional grid; thread i computes element i, then
// i + threads, i + 2 * threads, ... (a grid-stride loop).

using index_t = long long;

// Thread i looks through the window of element i of y.
template <typename T>
__global__ void max_pool_forward(const T* __restrict__ x, T* __restrict__ y, int* __restrict__ place,
                                 int N, int C, int H, int W, int OH, int OW, int KH, int KW,
                                 int stride_h, int stride_w, int padding_h, int padding_w)
{
    const index_t count = index_t(N) * C * OH * OW;
    const index_t threads = index_t(gridDim.x) * blockDim.x;
    for (index_t i = index_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += threads) {
        // i = (picture * OH + oh) * OW + ow, where picture = n * C + c
        const int ow = i % OW;
        const int oh = i / OW % OH;
        const T* picture = x + i / OW / OH * H * W;
        const int top = oh * stride_h - padding_h;
        const int left = ow * stride_w - padding_w;

        T best = 0;
        int best_place = -1;
        for (int kh = max(0, -top); kh < min(KH, H - top); kh++) {
            for (int kw = max(0, -left); kw < min(KW, W - left); kw++) {
                const T value = picture[index_t(top + kh) * W + left + kw];
                if (best_place < 0 || value > best || value != value) {  // value != value: NaN
                    best = value;
                    best_place = kh * KW + kw;
                }
            }
        }
        y[i] = best;
        place[i] = best_place;
    }
}

// Thread i owns element i of dx and asks every window that holds it whether it was the maximum there. No atomics: the
// order of the sum is fixed, and so is the result.
template <typename T>
__global__ void max_pool_backward(const T* __restrict__ dy, const int* __restrict__ place, T* __restrict__ dx,
                                  int N, int C, int H, int W, int OH, int OW, int KH, int KW,
                                  int stride_h, int stride_w, int padding_h, int padding_w)
{
    const index_t count = index_t(N) * C * H * W;
    const index_t threads = index_t(gridDim.x) * blockDim.x;
    for (index_t i = index_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += threads) {
        // i = (picture * H + h) * W + w, where picture = n * C + c
        const int w = i % W;
        const int h = i / W % H;
        const index_t windows = i / W / H * OH * OW;  // the first window of this picture

        // row h is row kh of window oh when kh = h + padding_h - oh * stride_h lies in [0, KH)
        const int down = h + padding_h;
        const int right = w + padding_w;
        const int first_oh = down < KH ? 0 : (down - KH) / stride_h + 1;
        const int first_ow = right < KW ? 0 : (right - KW) / stride_w + 1;
        T sum = 0;
        for (int oh = first_oh; oh <= min(OH - 1, down / stride_h); oh++) {
            for (int ow = first_ow; ow <= min(OW - 1, right / stride_w); ow++) {
                const int here = (down - oh * stride_h) * KW + right - ow * stride_w;
                const index_t window = windows + index_t(oh) * OW + ow;
                if (place[window] == here) sum += dy[window];
            }
        }
        dx[i] = sum;
    }
}

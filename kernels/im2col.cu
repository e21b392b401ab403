// im2col and col2im: convolution as one matrix product. CPU twin: tinynet/ops/im2col.py.
//
//   cols[(c, kh, kw), (oh, ow, n)] = x[c, h, w, n]    where  h = oh * stride_h - padding_h + kh * dilation_h
//                                  = 0 outside x             w = ow * stride_w - padding_w + kw * dilation_w
//   dx[c, h, w, n] = the sum of all entries of cols that im2col copies from x[c, h, w, n]
//
//   x, dx: (C, H, W, N)     cols: (C, KH, KW, OH, OW, N)     all contiguous, the last index fastest
//   OH = (H + 2*padding_h - dilation_h * (KH - 1) - 1) / stride_h + 1, and likewise OW
//
// T is float or double; a kernel is asked for by its name expression, im2col<float>. Any one-dimensional grid will do:
// a thread takes element i, then i + threads, i + 2 * threads, ... (a grid-stride loop). One side of the picture is an
// int; the number of elements may exceed 2**31, so what counts elements is an index_t.

using index_t = long long;

// Thread i writes element i of cols: neighbours in a warp write neighbours in memory.
template <typename T>
__global__ void im2col(const T* __restrict__ x /* C, H, W, N */, T* __restrict__ cols /* C, KH, KW, OH, OW, N */,
                       int C, int H, int W, int N, int OH, int OW, int KH, int KW,
                       int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w)
{
    const index_t count = index_t(C) * KH * KW * OH * OW * N;
    const index_t threads = index_t(gridDim.x) * blockDim.x;
    for (index_t i = index_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += threads) {
        // i = ((((c * KH + kh) * KW + kw) * OH + oh) * OW + ow) * N + n, taken apart from the right
        index_t rest = i;
        const int n = rest % N;
        const int ow = (rest /= N) % OW;
        const int oh = (rest /= OW) % OH;
        const int kw = (rest /= OH) % KW;
        const int kh = (rest /= KW) % KH;
        const int c = rest / KH;

        const int h = oh * stride_h - padding_h + kh * dilation_h;
        const int w = ow * stride_w - padding_w + kw * dilation_w;
        const bool inside = 0 <= h && h < H && 0 <= w && w < W;
        cols[i] = inside ? x[((index_t(c) * H + h) * W + w) * N + n] : T(0);
    }
}

// Thread i owns element i of dx and gathers all that im2col copies from there. (Adding every entry of cols to its pixel
// instead would need atomics, and the rounding would change from run to run.)
template <typename T>
__global__ void col2im(const T* __restrict__ cols /* C, KH, KW, OH, OW, N */, T* __restrict__ dx /* C, H, W, N */,
                       int C, int H, int W, int N, int OH, int OW, int KH, int KW,
                       int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w)
{
    const index_t count = index_t(C) * H * W * N;
    const index_t threads = index_t(gridDim.x) * blockDim.x;
    for (index_t i = index_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += threads) {
        // i = ((c * H + h) * W + w) * N + n
        index_t rest = i;
        const int n = rest % N;
        const int w = (rest /= N) % W;
        const int h = (rest /= W) % H;
        const int c = rest / H;

        T sum = 0;
        for (int kh = 0; kh < KH; kh++) {
            const int down = h + padding_h - kh * dilation_h;  // = oh * stride_h, if this kh ever meets row h
            if (down < 0 || down % stride_h != 0 || down / stride_h >= OH) continue;
            const int oh = down / stride_h;
            for (int kw = 0; kw < KW; kw++) {
                const int right = w + padding_w - kw * dilation_w;
                if (right < 0 || right % stride_w != 0 || right / stride_w >= OW) continue;
                const int ow = right / stride_w;
                const index_t row = (index_t(c) * KH + kh) * KW + kw;
                sum += cols[((row * OH + oh) * OW + ow) * N + n];
            }
        }
        dx[i] = sum;
    }
}

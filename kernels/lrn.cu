// Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3), alone and with the ReLU before
// and the max pooling behind it. CPU twin: tinynet/ops/lrn.py.
//
//   s_i  = k + alpha * (sum of x_j**2 over the channels j in window(i))
//   y_i  = x_i * s_i**-beta
//   dx_j = dy_j * s_j**-beta - 2 * alpha * beta * x_j * (sum of dy_i * x_i * s_i**(-beta - 1) over i in window(j))
//
// window(i) is `size` channels wide (odd), centred on i and cut off at the ends of i's group of C / groups channels. As
// it is centred, j lies in window(i) exactly when i lies in window(j): backward sums over the same window.
//
// A column is one pixel of one picture: C values that stand `plane` = H * W * N elements apart in memory. A thread
// walks along `chunk` channels of a column and carries what it needs of the last few with it; neighbouring threads have
// neighbouring columns. So x is read from memory once. Only where a chunk begins or ends inside of a group, its
// neighbours' channels are read, too: half = size / 2 on each side forward; backward, 2 * half of x and half of dy.
// Small chunks give few columns enough threads to fill the GPU; chunk = C / groups reads least.
//
// lrn_forward, lrn_backward, relu_lrn_pool_backward: any grid and block. Best: 256 threads; x: as many blocks as give
// every column a thread; y: one block for each part, groups * (chunks of a group). No shared memory.
// SIZE = 5 is the paper's window, kept in registers; with SIZE = 0 the argument `size`, which else nobody looks at, is
// any odd number up to 63, a good deal slower. (A window of 2 * C / groups - 1 reaches all, so none need be larger.)
//
// Bytes of DRAM per float of x: forward 8, backward 12. With pooling of 3 x 3 and stride 2, whose y has a quarter of
// x's elements and whose place takes one byte: lrn_pool_forward 5.25; one after another, 8 + 5.25, since what LRN gives
// is written and read. relu_lrn_pool_backward 9.25; one after another, pooling 5.25 + LRN 12 + ReLU 12.

#include "lrn.cuh"
#include "pool.cuh"

// instances: <float, 5>; <double, 5>; <float, 0>; <double, 0>
template <typename T, int SIZE>
__global__ void __launch_bounds__(256)
    lrn_forward(const T* __restrict__ x /* C, H, W, N */, T* __restrict__ y /* C, H, W, N */, int C, int H, int W,
                int N, int size, int groups, int chunk, T alpha, T beta, T k)
{
    constexpr int AHEAD = 4;
    const index_t plane = index_t(H) * W * N, threads = index_t(gridDim.x) * blockDim.x;
    const int half = (SIZE ? SIZE : size) / 2, group_size = C / groups;
    for (int part = blockIdx.y; part < groups * parts_of_group(group_size, chunk); part += gridDim.y) {
        const Channels channels = channels_of(part, group_size, chunk);
        for (index_t column = index_t(blockIdx.x) * blockDim.x + threadIdx.x; column < plane; column += threads) {
            Trail<T, SIZE> window(2 * half + 1);
            for (int c = channels.first - half; c < channels.first + half; c++)
                window.push(channels.reach(c) ? x[c * plane + column] : T(0));
            for (int start = channels.first; start < channels.last; start += AHEAD) {
                T next[AHEAD];  // read together, so that this many loads are under way at once
                for (int j = 0; j < AHEAD; j++) {
                    const int c = start + j + half;
                    next[j] = channels.reach(c) ? x[c * plane + column] : T(0);
                }
                for (int j = 0; j < AHEAD; j++) {
                    const int c = start + j;
                    window.push(next[j]);  // now it is centred on c
                    const T power = inverse_power(k + alpha * window.sum_of_squares(), beta);
                    if (c < channels.last) y[c * plane + column] = window.at[half] * power;
                }
            }
        }
    }
}

// One column of dx. x and dx point at its channel 0; gradient(c) is dy of channel c. Nothing is kept from forward: the
// scales are computed again. dx_c needs the ratios dy x s**(-beta - 1) up to channel c + half, the last of them needs x
// up to c + 2 * half: the walk is that far ahead with x, half as far with the ratios. The next x and dy are read before
// they are needed, so that they come while others are worked on.
template <int SIZE, typename T, typename Gradient>
__device__ void walk_back(const T* __restrict__ x, T* __restrict__ dx, index_t plane, Channels channels, int size,
                          T alpha, T beta, T k, bool relu, Gradient gradient)
{
    const int half = size / 2;
    const T factor = 2 * alpha * beta;
    Trail<T, SIZE> xs(size), ratios(size);
    Trail<T, (SIZE + 1) / 2> owns(half + 1);  // dy s**-beta; 0 stays 0
    T next_x = 0, next_dy = 0;
    for (int c = channels.first - 4 * half - 1; c < channels.last; c++) {
        const T dy = next_dy;  // of channel c + half
        xs.push(next_x);       // now channels c to c + 2 * half, the window of c + half
        const int next = c + 1;
        next_x = channels.reach(next + 2 * half) ? x[(next + 2 * half) * plane] : T(0);
        if (next < channels.first - 2 * half) continue;
        next_dy = channels.reach(next + half) ? gradient(next + half) : T(0);
        if (c < channels.first - 2 * half) continue;
        const T scale = k + alpha * xs.sum_of_squares();
        const T own = dy * inverse_power(scale, beta);
        owns.push(own);                          // now channels c to c + half
        ratios.push(own * xs.at[half] / scale);  // now channels c - half to c + half, the window of c
        if (c < channels.first) continue;
        const T value = owns.at[0] - factor * xs.at[0] * ratios.sum();
        dx[c * plane] = xs.at[0] > 0 || !relu ? value : T(0);
    }
}

// instances: <float, 5>; <double, 5>; <float, 0>; <double, 0>
template <typename T, int SIZE>
__global__ void __launch_bounds__(256)
    lrn_backward(const T* __restrict__ x /* C, H, W, N */, const T* __restrict__ dy /* C, H, W, N */,
                 T* __restrict__ dx /* C, H, W, N */, int C, int H, int W, int N, int size, int groups, int chunk,
                 T alpha, T beta, T k)
{
    const index_t plane = index_t(H) * W * N, threads = index_t(gridDim.x) * blockDim.x;
    const int group_size = C / groups;
    for (int part = blockIdx.y; part < groups * parts_of_group(group_size, chunk); part += gridDim.y) {
        const Channels channels = channels_of(part, group_size, chunk);
        for (index_t column = index_t(blockIdx.x) * blockDim.x + threadIdx.x; column < plane; column += threads) {
            walk_back<SIZE>(x + column, dx + column, plane, channels, SIZE ? SIZE : size, alpha, beta, k, false,
                            [=](int c) { return dy[c * plane + column]; });
        }
    }
}

// dx of a ReLU, LRN and pooling, one after another, from pooling's dy: x is what the ReLU gave, so dx = 0 where x is
// not positive. LRN's own gradient is gathered from the windows over each pixel, and never written. KH*KW <= 256.
// instances: <float, 5>; <double, 5>; <float, 0>; <double, 0>
template <typename T, int SIZE>
__global__ void __launch_bounds__(256)
    relu_lrn_pool_backward(const T* __restrict__ x /* C, H, W, N */, const T* __restrict__ dy /* C, OH, OW, N */,
                           const unsigned char* __restrict__ place /* C, OH, OW, N */,
                           T* __restrict__ dx /* C, H, W, N */, int C, int H, int W, int N, int OH, int OW, int KH,
                           int KW, int stride_h, int stride_w, int padding_h, int padding_w, int size, int groups,
                           int chunk, T alpha, T beta, T k)
{
    const index_t plane = index_t(H) * W * N, threads = index_t(gridDim.x) * blockDim.x;
    const index_t pooled_plane = index_t(OH) * OW * N;
    const int window = SIZE ? SIZE : size, group_size = C / groups;
    for (int part = blockIdx.y; part < groups * parts_of_group(group_size, chunk); part += gridDim.y) {
        const Channels channels = channels_of(part, group_size, chunk);
        for (index_t column = index_t(blockIdx.x) * blockDim.x + threadIdx.x; column < plane; column += threads) {
            const int n = column % N, w = column / N % W, h = column / N / W;
            const Windows rows = windows_over(h + padding_h, KH, stride_h, OH);
            const Windows columns = windows_over(w + padding_w, KW, stride_w, OW);
            auto gradient = [=](int c) {
                const index_t at = c * pooled_plane + n;
                return gathered(dy + at, place + at, rows, columns, OW, N, KW);
            };
            walk_back<SIZE>(x + column, dx + column, plane, channels, window, alpha, beta, k, true, gradient);
        }
    }
}

// LRN, then max pooling: y and place are max_pool.cu's for lrn_forward's output, which stays in shared memory.
//
// A block makes tile_h x tile_w pixels of y of blockDim.x pictures, channel after channel. Under the tile lie rows x
// columns pixels of x, rows = (tile_h - 1) * stride_h + KH, and likewise columns: each thread walks along the channels
// of up to four of them, and the windows are looked through in shared memory. Where tiles meet, pixels are normalised
// by both: a tile of 3 x 4 windows of 3 x 3, stride 2, normalises 63 pixels and has 48 to itself, 1.3 times the work; a
// thread on its own for each window would do 9/4 times the work. What both read of x is in the second-level cache.
//
// Block: (about min(N, 32), 512 / that); rows * columns <= 4 * blockDim.y, else y is NaN. Grid: x: (tiles of a
// picture) * (N / blockDim.x, rounded up); y: the parts, groups * (chunks of a group); both exactly. KH*KW <= 256.
// Dynamic shared memory: 2 * rows * columns * blockDim.x * sizeof(T).
// instances: <float, 5>; <double, 5>
template <typename T, int SIZE>
__global__ void __launch_bounds__(512)
    lrn_pool_forward(const T* __restrict__ x /* C, H, W, N */, T* __restrict__ y /* C, OH, OW, N */,
                     unsigned char* __restrict__ place /* C, OH, OW, N */, int C, int H, int W, int N, int OH, int OW,
                     int KH, int KW, int stride_h, int stride_w, int padding_h, int padding_w, int groups, int chunk,
                     int tile_h, int tile_w, T alpha, T beta, T k)
{
    constexpr int PIXELS = 4;  // of a thread, at most
    extern __shared__ __align__(16) unsigned char shared[];
    T* const normalised = reinterpret_cast<T*>(shared);  // (2, rows, columns, blockDim.x)
    const index_t plane = index_t(H) * W * N;
    const int half = SIZE / 2, columns = (tile_w - 1) * stride_w + KW;
    const int pixels = ((tile_h - 1) * stride_h + KH) * columns;
    const bool fits = pixels <= int(PIXELS * blockDim.y);
    const Channels channels = channels_of(blockIdx.y, C / groups, chunk);

    const int batches = (N + blockDim.x - 1) / blockDim.x, tiles_in_row = (OW + tile_w - 1) / tile_w;
    const int n = blockIdx.x % batches * blockDim.x + threadIdx.x;
    const int tile = blockIdx.x / batches;
    const int first_oh = tile / tiles_in_row * tile_h, top = first_oh * stride_h - padding_h;
    const int first_ow = tile % tiles_in_row * tile_w, left = first_ow * stride_w - padding_w;

    Trail<T, SIZE> windows[PIXELS];
    index_t column[PIXELS];  // of each pixel; -1: none, or outside of the picture
    T next[PIXELS];          // x, one channel ahead: on its way from memory while a channel is pooled
    auto load = [=](index_t at, int c) { return at >= 0 && channels.reach(c) ? x[c * plane + at] : T(0); };
    for (int p = 0; p < PIXELS; p++) {
        const int pixel = threadIdx.y + p * blockDim.y;
        const int h = top + pixel / columns, w = left + pixel % columns;
        const bool inside = pixel < pixels && n < N && 0 <= h && h < H && 0 <= w && w < W;
        column[p] = inside ? (index_t(h) * W + w) * N + n : -1;
        for (int c = channels.first - half; c < channels.first + half; c++) windows[p].push(load(column[p], c));
        next[p] = load(column[p], channels.first + half);
    }
    for (int c = channels.first; c < channels.last; c++) {
        T* const picture = normalised + c % 2 * pixels * blockDim.x + threadIdx.x;
        for (int p = 0; p < PIXELS; p++) {
            windows[p].push(next[p]);
            next[p] = load(column[p], c + 1 + half);
            const T power = inverse_power(k + alpha * windows[p].sum_of_squares(), beta);
            if (column[p] >= 0) picture[(threadIdx.y + p * blockDim.y) * blockDim.x] = windows[p].at[half] * power;
        }
        // One barrier a channel is enough: the next channel is written to the other half of the shared memory, and
        // nobody gets to the one after it before all have passed the next barrier and so have finished with this one.
        __syncthreads();
        for (int pixel = threadIdx.y; pixel < tile_h * tile_w; pixel += blockDim.y) {
            const int oh = first_oh + pixel / tile_w, ow = first_ow + pixel % tile_w;
            if (oh >= OH || ow >= OW || n >= N) continue;
            const int window_top = oh * stride_h - padding_h, window_left = ow * stride_w - padding_w;
            Best<T> best;
            for (int kh = max(0, -window_top); kh < min(KH, H - window_top); kh++) {
                for (int kw = max(0, -window_left); kw < min(KW, W - window_left); kw++) {
                    const int under = (window_top + kh - top) * columns + window_left + kw - left;
                    best.offer(picture[under * blockDim.x], kh * KW + kw);
                }
            }
            const index_t at = ((index_t(c) * OH + oh) * OW + ow) * N + n;
            y[at] = fits ? best.value : T(nan(""));
            place[at] = best.place;
        }
    }
}

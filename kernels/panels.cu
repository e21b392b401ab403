// Convolution as a matrix product whose large matrix is never written down: implicit GEMM. CPU twin:
// tinynet/ops/conv/panels.py. Any stride, padding, dilation, number of groups; no size needs to be a multiple of anything.
//
// cols[(c, kh, kw), (oh, ow, n)] = x[c, h, w, n] with h = oh*stride_h - padding_h + kh*dilation_h, w likewise, and 0
// outside the picture (see conv2d.cu). Then, for each group of channels,
//
//   y       = weight @ cols + bias   rows o         columns (oh, ow, n)   sum over (c, kh, kw)
//   dweight = dy @ cols.T            rows o         columns (c, kh, kw)   sum over (oh, ow, n)
//   dx      = a convolution of dy    rows c         columns (h, w, n)     sum over (o, kh, kw), see below
//   dbias   = the sum of dy over (oh, ow, n)
//
//                    columns j                        A block of threads makes one tile of the result, ROWS x COLUMNS.
//                 +-----+-----+-----+                 It walks along k, a chunk of 16 at a time: the tile's rows of
//        cols     |     |#####|     |  k              the left matrix and its columns of the upper one (#) are copied
//    (imagined)   |     |#####|     |                 to shared memory. A picture of a chunk of cols is all that ever
//                 +-----+-----+-----+                 exists of it: each thread works out where its numbers lie in x.
//           k     +-----+-----+-----+
//        +------+ |     |     |     |                 n is innermost in memory and among the columns, so a run of
//   rows |######| |     |tile |     | rows o          columns is a run in memory, whatever the window.
//        |      | |     |     |     |
//        +------+ +-----+-----+-----+                 panels_tile.cuh multiplies, panels_loaders.cuh copies.
//         weight          y
//
// Instances <T, ARITHMETIC, ROWS, COLUMNS>. ARITHMETIC is FMA (T's own), or for float on the tensor cores, sm_80 and
// later: TF32 (numbers rounded to 10 bits after the point), BF16 (7 bits), TF32X3 (as exact as float; but infinity may
// come out as NaN). A launch wants blocks of COLUMNS threads and, for the tiles of STAGES chunks, this much dynamic
// shared memory (more than 48 KB must be asked for, and some GPUs have no more than 64 or 99 KB):
//
//   STAGES * sizeof(T) * (ROWS * LINE + right) bytes, where STAGES = 3 for FMA, else 4; LINE = 16 + 16 / sizeof(T);
//   right = 16 * (COLUMNS + 8), but COLUMNS * LINE for the weight gradient
//
//                               y, dx    dweight   registers a thread (y, dx, dweight for sm_90)   blocks at a time
//   <float, FMA, 128, 128>      56832     61440    255, 219, 215                                   2
//   <float, FMA, 64, 128>       41472     46080    127, 168, 168                                   4, 3, 3
//   <double, FMA, 64, 64>       55296     55296    216, 234, 221                                   4
//   <float, TF32, 128, 256>    108544    122880    198, 220, 216; BF16 207, 231, 229               1
//   <float, TF32, 128, 128>     75776     81920    the same; TF32X3 254, 255, 255 and 12 bytes     2
//   <float, TF32, 64, 128>      55296     61440    127, 128, 144; TF32X3 126, 165, 168             4, 4, 3 or 4, 3, 3
//
// (blocks at a time: on a multiprocessor of an H100 or H200, which has 65536 registers, 228 KB and 4 tensor cores; the
// Python twin of this table, which the launches go by, is in tinynet/ops/gpu/conv/choose.py)
//
//   grid x: tiles = ceil(rows / ROWS) * ceil(columns / COLUMNS), with the rows and columns of one group; for the input
//           gradient columns = ceil(H / stride_h) * ceil(W / stride_w) * N
//   grid y: forward 1; input gradient stride_h * stride_w; weight gradient `parts`, see there
//   grid z: groups
//
// Which tile? A chunk of ROWS x COLUMNS costs ROWS + COLUMNS copies for ROWS * COLUMNS multiplications, so large tiles
// save memory traffic: 128 x 128 read 4 bytes for every 128 operations, more than the L2 cache of an H100 can give when
// TF32 or BF16 run at full speed, hence 128 x 256. (FMA and TF32X3 are slower, and have no registers left.) But a tile
// that hangs over the edge wastes work, as does a multiprocessor without a tile. So take the largest tile for which
//
//   ceil(tiles * grid y * groups / multiprocessors) * ROWS * COLUMNS
//
// is within a tenth of the least. With 128 pictures on 132 multiprocessors that is 128 x 256 for the forward pass of
// AlexNet's layers 1 to 3; 64 x 128 for layer 4, with 192 rows in each of two groups; 128 x 128 for layer 5. All this
// is arithmetic: it has not been measured yet.

#include "panels_loaders.cuh"

// The tile of this block: rows vary fastest, so that blocks at work at the same time share columns in the L2 cache.
template <int ROWS, int COLUMNS>
struct Corner {
    int row;
    index_t column;

    __device__ Corner(int rows)
    {
        const unsigned down = (rows + ROWS - 1) / ROWS;
        row = blockIdx.x % down * ROWS;
        column = index_t(blockIdx.x / down) * COLUMNS;
    }
};

// y = convolution of x by weight, + bias, and with relu negative values become 0 (but NaN and -inf give NaN: a plain 0
// would hide them).
// instances: <float, FMA, 128, 128>; <float, FMA, 64, 128>; <double, FMA, 64, 64>; <float, TF32, 128, 256>; <float, TF32, 128, 128>; <float, TF32, 64, 128>; <float, TF32X3, 128, 128>; <float, TF32X3, 64, 128>; <float, BF16, 128, 256>; <float, BF16, 128, 128>; <float, BF16, 64, 128>
template <typename T, int ARITHMETIC, int ROWS, int COLUMNS>
__global__ void __launch_bounds__(COLUMNS) panels_forward(
    const T* __restrict__ x /* C, H, W, N */, const T* __restrict__ weight /* O, C/groups, KH, KW */,
    const T* __restrict__ bias /* O or null */, T* __restrict__ y /* O, OH, OW, N */,
    int C, int H, int W, int N, int O, int OH, int OW, int KH, int KW, int stride_h, int stride_w,
    int padding_h, int padding_w, int dilation_h, int dilation_w, int groups, int relu)
{
    extern __shared__ __align__(16) unsigned char shared[];
    const int group = blockIdx.z, channels = C / groups, rows = O / groups, K = channels * KH * KW;
    const index_t columns = index_t(OH) * OW * N;
    const Corner<ROWS, COLUMNS> corner(rows);
    const int first_o = group * rows + corner.row;

    MatrixLoader<T, ROWS, COLUMNS> a(weight + index_t(first_o) * K, K, rows - corner.row, 0, K);
    const Picture<T> picture{x + index_t(group) * channels * H * W * N, H, W, N};
    const Window down{KH, stride_h, -padding_h, dilation_h}, right{KW, stride_w, -padding_w, dilation_w};
    PositionLoader<T, COLUMNS, COLUMNS> b(picture, down, right, channels, corner.column, columns, OW);

    Sums<T, ARITHMETIC, ROWS, COLUMNS> sums;
    sum_up<STAGES<ARITHMETIC>>(sums, a, b, (K + DEPTH - 1) / DEPTH, reinterpret_cast<T*>(shared));

    const T below = relu ? T(0) : T(1);  // the slope there
    const auto place = [&](int column) { return corner.column + column < columns ? corner.column + column : -1; };
    sums.each(place, [&](int row, index_t j, T value) {
        if (corner.row + row >= rows) return;
        value += bias ? __ldg(bias + first_o + row) : T(0);
        y[(first_o + row) * columns + j] = value > 0 ? value : value * below + T(0);
    });
}

// --- input gradient ---
//
// Pixel h gets from output row oh, by row kh of the kernel, where h = oh*stride - padding + kh*dilation: if stride
// divides h + padding - kh*dilation. For stride 2 that is every other kh at most, and which ones is the same for all h
// of the same phase, h % stride. So each phase is a convolution of dy with some of the taps, by a window that moves on
// by 1: with h = phase + stride*p, tap t is kh = first + t*spacing, which sees oh = p + (a constant) - t*(another one).
struct Phase {
    Taps taps;
    Window window;  // over the rows of dy
    int positions;  // pixels of the phase

    __device__ Phase(int phase, int size, int kernel_size, int stride, int padding, int dilation)
    {
        int spacing = 1;
        while (spacing * dilation % stride != 0) spacing++;
        int first = 0;
        while (first < spacing && (phase + padding - first * dilation) % stride != 0) first++;
        const bool any = first < spacing && first < kernel_size;
        taps = {any ? (kernel_size - first + spacing - 1) / spacing : 0, first, spacing};
        window = {taps.taps, 1, (phase + padding - first * dilation) / stride, -(spacing * dilation / stride)};
        positions = (size - phase + stride - 1) / stride;
    }
};

// dx for dy; each element is written once. grid x is for phase 0, the largest: other phases may leave a block idle.
// instances: <float, FMA, 128, 128>; <float, FMA, 64, 128>; <double, FMA, 64, 64>; <float, TF32, 128, 256>; <float, TF32, 128, 128>; <float, TF32, 64, 128>; <float, TF32X3, 128, 128>; <float, TF32X3, 64, 128>; <float, BF16, 128, 256>; <float, BF16, 128, 128>; <float, BF16, 64, 128>
template <typename T, int ARITHMETIC, int ROWS, int COLUMNS>
__global__ void __launch_bounds__(COLUMNS) panels_input_gradient(
    const T* __restrict__ dy /* O, OH, OW, N */, const T* __restrict__ weight /* O, C/groups, KH, KW */,
    T* __restrict__ dx /* C, H, W, N */,
    int C, int H, int W, int N, int O, int OH, int OW, int KH, int KW, int stride_h, int stride_w,
    int padding_h, int padding_w, int dilation_h, int dilation_w, int groups)
{
    extern __shared__ __align__(16) unsigned char shared[];
    const int group = blockIdx.z, rows = C / groups, channels = O / groups;
    const int phase_h = blockIdx.y / stride_w, phase_w = blockIdx.y % stride_w;
    const Phase down(phase_h, H, KH, stride_h, padding_h, dilation_h);
    const Phase right(phase_w, W, KW, stride_w, padding_w, dilation_w);
    const index_t columns = index_t(down.positions) * right.positions * N;
    const Corner<ROWS, COLUMNS> corner(rows);
    if (corner.column >= columns) return;

    const int K = channels * down.taps.taps * right.taps.taps;
    Sums<T, ARITHMETIC, ROWS, COLUMNS> sums;
    if (K > 0) {
        const T* first = weight + (index_t(group) * channels * rows + corner.row) * KH * KW;
        WeightLoader<T, ROWS, COLUMNS> a(first, rows, KH, KW, channels, rows - corner.row, down.taps, right.taps);
        const Picture<T> picture{dy + index_t(group) * channels * OH * OW * N, OH, OW, N};
        PositionLoader<T, COLUMNS, COLUMNS> b(picture, down.window, right.window, channels, corner.column, columns,
                                              right.positions);
        sum_up<STAGES<ARITHMETIC>>(sums, a, b, (K + DEPTH - 1) / DEPTH, reinterpret_cast<T*>(shared));
    }

    const auto place = [&](int column) -> index_t {
        if (corner.column + column >= columns) return -1;
        const Odometer position = Odometer::of(corner.column + column, right.positions, N);
        const int h = phase_h + position.high * stride_h, w = phase_w + position.middle * stride_w;
        return (index_t(h) * W + w) * N + position.low;
    };
    sums.each(place, [&](int row, index_t pixel, T value) {
        if (corner.row + row < rows) dx[index_t(group * rows + corner.row + row) * H * W * N + pixel] = value;
    });
}

// --- weight and bias gradient ---
//
// Few tiles, and a long way to sum: 128 pictures of AlexNet's first layer have three tiles of 387,200 columns. So the
// sum is split into `parts`, each with its own blocks, and panels_sum_parts adds them in their order, the same in every
// run. As many parts as fill the GPU, but none with more than 8192 columns, so that rounding errors stay near 1e-6:
//
//   parts = max(1, ceil(columns / 8192), floor(blocks at a time * multiprocessors / (tiles * groups)))
//
// and at most ceil(columns / 16) and 65535, where columns = OH * OW * N. As parts fill the GPU, the best tile is that
// with the least overhang, tiles * ROWS * COLUMNS, and the largest among equals.

// Blocks at a time: left to itself, the compiler aims at more, and some numbers no longer fit the registers.
template <int ROWS, int COLUMNS>
constexpr int AT_ONCE = COLUMNS == 256 ? 1 : COLUMNS == 64 ? 4 : ROWS == 128 ? 2 : 3;

// partial[part] = dweight from the columns of a part; grid y is `parts`.
// instances: <float, FMA, 128, 128>; <float, FMA, 64, 128>; <double, FMA, 64, 64>; <float, TF32, 128, 256>; <float, TF32, 128, 128>; <float, TF32, 64, 128>; <float, TF32X3, 128, 128>; <float, TF32X3, 64, 128>; <float, BF16, 128, 256>; <float, BF16, 128, 128>; <float, BF16, 64, 128>
template <typename T, int ARITHMETIC, int ROWS, int COLUMNS>
__global__ void __launch_bounds__(COLUMNS, AT_ONCE<ROWS, COLUMNS>) panels_weight_gradient(
    const T* __restrict__ x /* C, H, W, N */, const T* __restrict__ dy /* O, OH, OW, N */,
    T* __restrict__ partial /* parts, O, C/groups, KH, KW */,
    int C, int H, int W, int N, int O, int OH, int OW, int KH, int KW, int stride_h, int stride_w,
    int padding_h, int padding_w, int dilation_h, int dilation_w, int groups, int parts)
{
    extern __shared__ __align__(16) unsigned char shared[];
    const int group = blockIdx.z, part = blockIdx.y, channels = C / groups, rows = O / groups, K = channels * KH * KW;
    const index_t columns = index_t(OH) * OW * N;  // of dy: what is summed over
    const index_t chunks = (columns + DEPTH - 1) / DEPTH;
    const index_t begin = chunks * part / parts * DEPTH, end = min(chunks * (part + 1) / parts * DEPTH, columns);
    const Corner<ROWS, COLUMNS> corner(rows);
    const int first_o = group * rows + corner.row;

    MatrixLoader<T, ROWS, COLUMNS> a(dy + first_o * columns, columns, rows - corner.row, begin, end);
    const Picture<T> picture{x + index_t(group) * channels * H * W * N, H, W, N};
    const Window down{KH, stride_h, -padding_h, dilation_h}, right{KW, stride_w, -padding_w, dilation_w};
    TapLoader<T, COLUMNS, COLUMNS> b(picture, down, right, channels, int(corner.column), begin, end, OW);

    Sums<T, ARITHMETIC, ROWS, COLUMNS> sums;
    sum_up<STAGES<ARITHMETIC>>(sums, a, b, int((end - begin + DEPTH - 1) / DEPTH), reinterpret_cast<T*>(shared));

    const auto place = [&](int column) { return corner.column + column < K ? corner.column + column : -1; };
    sums.each(place, [&](int row, index_t k, T value) {
        if (corner.row + row < rows) partial[(index_t(part) * O + first_o + row) * K + k] = value;
    });
}

// partial[part, o] = the sum of a part of row o of dy. Grid (parts, O), block 256, no dynamic shared memory. With at
// most 8192 columns a part each thread adds 32 numbers, and the threads' sums are added in pairs, pairs of pairs, ...
template <typename T>
__global__ void panels_bias_gradient(const T* __restrict__ dy /* O, OH, OW, N */,
                                     T* __restrict__ partial /* parts, O */, int O, int OH, int OW, int N, int parts)
{
    __shared__ T sums[256];
    const index_t columns = index_t(OH) * OW * N;
    const index_t begin = columns * blockIdx.x / parts, end = columns * (blockIdx.x + 1) / parts;
    const T* row = dy + blockIdx.y * columns;
    T sum = 0;
    for (index_t j = begin + threadIdx.x; j < end; j += 256) sum += row[j];
    sums[threadIdx.x] = sum;
    for (unsigned half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) partial[index_t(blockIdx.x) * O + blockIdx.y] = sums[0];
}

// total = the sum over all parts, or total += it. Summed as double: this step loses nothing. Any one-dimensional grid.
template <typename T>
__global__ void panels_sum_parts(const T* __restrict__ partial /* parts, count */, T* __restrict__ total /* count */,
                                 int parts, long long count, int accumulate)
{
    const index_t threads = index_t(gridDim.x) * blockDim.x;
    for (index_t i = index_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += threads) {
        double sum = accumulate ? total[i] : 0;
        for (int part = 0; part < parts; part++) sum += partial[part * count + i];
        total[i] = T(sum);
    }
}

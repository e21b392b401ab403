// Loops over all elements of an array, and sums over its rows. CPU twin: tinynet/ops/elementwise.py.
//
//   relu_forward     y = x where x > 0, else 0; NaN and -inf give NaN, so that a check of the result finds them
//   relu_backward    dx = dy where y > 0, else 0; dx may be dy
//   add_bias         y[o, j] += bias[o], then ReLU if relu is not 0
//   bias_gradient    dbias[o] = the sum of dy[o, j] over j, in the same order in every run; += if add is not 0
//   mark_not_finite  flag = 1 if some element of x is NaN or infinite, else flag stays as it is
//   sgd_step         v = momentum * v - lr * (decay * w + grad);  w += v, for all parameters of a net at once
//
// `count` elements, contiguous, in any order that is the same for all arrays of a call; rows (O, J): the channels or
// units, and for each all that belongs to it, OH * OW * N or N.
//
// Any one-dimensional grid and block, but bias_gradient wants blocks of 256. Best: 256 threads, and a grid that fills
// the GPU about once (8 blocks for each multiprocessor): then a thread has several elements. No shared memory, but 256
// values in bias_gradient.
// Bytes of DRAM per float: relu_forward 8, relu_backward 12, add_bias 8, bias_gradient 4, mark_not_finite 4, sgd_step
// 20.

using index_t = long long;

// write(i, read(i)) for i = first, first + step, ... below end. Four are read before the first is written: a compiler
// may not do that by itself where arrays could overlap, and a GPU is kept busy by many loads under way at once.
template <typename Read, typename Write>
__device__ void in_fours(index_t first, index_t step, index_t end, Read read, Write write)
{
    for (index_t i = first; i < end; i += 4 * step) {
        decltype(read(i)) values[4] = {};
        for (int j = 0; j < 4; j++)
            if (i + j * step < end) values[j] = read(i + j * step);
        for (int j = 0; j < 4; j++)
            if (i + j * step < end) write(i + j * step, values[j]);
    }
}

// Element i for thread i, then i + threads, i + 2 * threads, ... (a grid-stride loop).
template <typename Read, typename Write>
__device__ void all_of(index_t count, Read read, Write write)
{
    in_fours(index_t(blockIdx.x) * blockDim.x + threadIdx.x, index_t(gridDim.x) * blockDim.x, count, read, write);
}

template <typename T>
__device__ T relu_of(T value)
{
    return value > 0 ? value : value * T(0) + T(0);  // NaN stays, and -inf times 0 is NaN; + 0 makes -0 a 0
}

template <typename T>
__global__ void __launch_bounds__(256)
    relu_forward(const T* __restrict__ x /* count */, T* __restrict__ y /* count */, long long count)
{
    all_of(count, [=](index_t i) { return relu_of(x[i]); }, [=](index_t i, T value) { y[i] = value; });
}

// dy and dx are not __restrict__: the gradient may be changed in place.
template <typename T>
__global__ void __launch_bounds__(256)
    relu_backward(const T* dy /* count */, const T* __restrict__ y /* count */, T* dx /* count */, long long count)
{
    all_of(count, [=](index_t i) { return y[i] > 0 ? dy[i] : T(0); }, [=](index_t i, T value) { dx[i] = value; });
}

// Grid: x and y any; best O for y, and for x J / 1024, so that a thread has four elements of its row.
template <typename T>
__global__ void __launch_bounds__(256)
    add_bias(T* __restrict__ y /* O, J */, const T* __restrict__ bias /* O */, int O, long long J, int relu)
{
    for (int o = blockIdx.y; o < O; o += gridDim.y) {
        T* const row = y + o * J;
        const T its_bias = bias[o];
        auto read = [=](index_t j) { return relu ? relu_of(row[j] + its_bias) : row[j] + its_bias; };
        all_of(J, read, [=](index_t j, T value) { row[j] = value; });
    }
}

// One block of 256 threads, exactly, for a row; any one-dimensional grid, best O blocks. Each thread sums every 256th
// element, then the sums are added in pairs: by 128 threads, by 64, by 32, ...
template <typename T>
__global__ void __launch_bounds__(256)
    bias_gradient(const T* __restrict__ dy /* O, J */, T* __restrict__ dbias /* O */, int O, long long J, int add)
{
    __shared__ T sums[256];
    for (int o = blockIdx.x; o < O; o += gridDim.x) {
        const T* const row = dy + o * J;
        T sum = 0;
        in_fours(threadIdx.x, 256, J, [=](index_t j) { return row[j]; }, [&](index_t, T value) { sum += value; });
        sums[threadIdx.x] = sum;
        for (unsigned half = 128; half > 0; half /= 2) {
            __syncthreads();
            if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        }
        if (threadIdx.x == 0) dbias[o] = add ? dbias[o] + sums[0] : sums[0];
        __syncthreads();  // only now may the next row's sums overwrite these
    }
}

// x - x is 0 for a number, and NaN for NaN and infinity. All who write the flag write the same.
template <typename T>
__global__ void __launch_bounds__(256)
    mark_not_finite(const T* __restrict__ x /* count */, int* __restrict__ flag /* 1 */, long long count)
{
    bool finite = true;
    all_of(count, [=](index_t i) { return x[i]; }, [&](index_t, T value) { finite &= value - value == 0; });
    if (!finite) flag[0] = 1;
}

template <typename T>
struct Step {
    T v, w;
};

// P parameters in one launch: a net has many small ones, and a launch costs as much time as updating 10**6 elements.
// table: the addresses of all w, then of all v, then of all grad; sizes: how many elements each has. Every parameter is
// cut into pieces of 4096 elements, and the blocks take the pieces of all parameters in turn. bad, as in softmax_ce.cu:
// if bad[0] is set nothing is done, so that weights stay as they were when the first number went bad; bad[1] is set if a
// new weight is NaN or infinite.
template <typename T>
__global__ void __launch_bounds__(256)
    sgd_step(const unsigned long long* __restrict__ table /* 3, P */, const long long* __restrict__ sizes /* P */,
             const T* __restrict__ lr /* P */, const T* __restrict__ decay /* P */, int* bad /* 3 or null */, int P,
             T momentum)
{
    if (bad && bad[0]) return;
    bool finite = true;
    constexpr int PIECE = 4096;
    int p = 0;
    index_t first_piece = 0;  // of parameter p
    for (index_t piece = blockIdx.x;; piece += gridDim.x) {
        for (; p < P; p++) {
            const index_t pieces = (sizes[p] + PIECE - 1) / PIECE;
            if (piece < first_piece + pieces) break;
            first_piece += pieces;
        }
        if (p == P) break;
        T* const w = reinterpret_cast<T*>(table[p]);
        T* const v = reinterpret_cast<T*>(table[P + p]);
        const T* const grad = reinterpret_cast<const T*>(table[2 * P + p]);
        const T its_lr = lr[p], its_decay = decay[p];
        const index_t start = (piece - first_piece) * PIECE, end = min(start + PIECE, index_t(sizes[p]));
        auto read = [=](index_t i) {
            const T speed = momentum * v[i] - its_lr * (its_decay * w[i] + grad[i]);
            return Step<T>{speed, w[i] + speed};
        };
        auto write = [=, &finite](index_t i, Step<T> step) {
            v[i] = step.v;
            w[i] = step.w;
            finite &= step.w - step.w == 0;
        };
        in_fours(start + threadIdx.x, blockDim.x, end, read, write);
    }
    if (bad && !finite) bad[1] = 1;
}

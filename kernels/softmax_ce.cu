// Softmax with cross-entropy, and its gradient. CPU twin: tinynet/ops/softmax_ce.py.
//
//   p[j, n]       = exp(z[j, n] - m) / sum_i exp(z[i, n] - m)     m = the largest z[i, n] of picture n
//   loss[n]       = -ln p[label[n], n] = ln(sum_i exp(z[i, n] - m)) - (z[label[n], n] - m)
//   mean          = the mean of loss over n
//   dlogits[j, n] = (p[j, n] - (1 where j = label[n], else 0)) * factor     factor = dmean / N
//
//   z, p, dlogits: (K, N), the batch innermost: K classes, N pictures     loss: (N,)     labels: (N,), in [0, K)
//
// Subtracting m changes nothing in the formulas and keeps exp from overflowing. A GPU cannot raise an error for a label
// that is no class; it must not pass in silence, either: that picture's loss is NaN then, the mean with it, and so are
// its dlogits. (Labels have 64 bits, so that none that is no class becomes one by losing some.) In a picture with a
// logit of NaN or +infinity all is NaN, too.
//
// Sums are taken in one fixed order, so results are the same in every run. K * N is small, some 10**5: all that matters
// is that there be enough threads, so 32 of them share the classes of a picture.

using index_t = long long;

enum {
    LANES = 32,   // pictures of a block
    SLICES = 32,  // threads of a picture; slice s takes the classes s, s + 32, ...
};

template <typename T>
__device__ T not_a_number()
{
    return T(nan(""));
}

// All threads of a block call it. What the slices of this thread's picture give for `mine`, combined in their order.
template <typename T, typename Combine>
__device__ T over_slices(T* shared, T mine, Combine combine)
{
    __syncthreads();  // all must have read the values of the last call
    shared[threadIdx.y * LANES + threadIdx.x] = mine;
    __syncthreads();
    T result = shared[threadIdx.x];
    for (int slice = 1; slice < SLICES; slice++) result = combine(result, shared[slice * LANES + threadIdx.x]);
    return result;
}

// Block: (32, 32), exactly. Any one-dimensional grid, best N / 32 blocks. Bytes of DRAM per float of z: 4 read, 4
// written; what is read a second time is in the cache.
template <typename T>
__global__ void __launch_bounds__(1024)
    softmax_ce_forward(const T* __restrict__ logits /* K, N */, const long long* __restrict__ labels /* N */,
                       T* __restrict__ loss /* N */, T* __restrict__ p /* K, N */, int K, int N)
{
    __shared__ T shared[SLICES * LANES];
    for (int first = blockIdx.x * LANES; first < N; first += gridDim.x * LANES) {
        const bool inside = first + int(threadIdx.x) < N;
        const int n = inside ? first + threadIdx.x : first;  // beyond the last picture: read another one, write nothing
        T largest = logits[n];
        for (int k = threadIdx.y; k < K; k += SLICES) largest = max(largest, logits[index_t(k) * N + n]);
        largest = over_slices(shared, largest, [](T a, T b) { return max(a, b); });

        T total = 0;
        for (int k = threadIdx.y; k < K; k += SLICES) {
            const T value = exp(logits[index_t(k) * N + n] - largest);
            total += value;
            if (inside) p[index_t(k) * N + n] = value;
        }
        total = over_slices(shared, total, [](T a, T b) { return a + b; });

        if (!inside) continue;
        for (int k = threadIdx.y; k < K; k += SLICES) p[index_t(k) * N + n] /= total;  // a thread's own values
        const index_t label = labels[n];
        const bool known = 0 <= label && label < K;
        if (threadIdx.y == 0)
            loss[n] = known ? log(total) - (logits[index_t(label) * N + n] - largest) : not_a_number<T>();
    }
}

// One block of 256 threads, exactly. The sum is taken in double, whatever T is: by each thread over every 256th value,
// then in pairs, by 128 threads, by 64, by 32, ...
template <typename T>
__global__ void __launch_bounds__(256)
    softmax_ce_mean(const T* __restrict__ loss /* N */, double* __restrict__ mean /* 1 */, int N)
{
    __shared__ double sums[256];
    double sum = 0;
    for (int n = threadIdx.x; n < N; n += 256) sum += loss[n];
    sums[threadIdx.x] = sum;
    for (unsigned half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) mean[0] = sums[0] / N;
}

// What a training run must know of a step, counted where it is, so that the host need not wait to look:
//
//   wrong[0]  grows by the pictures whose label is not the most likely class; among equals the first one counts
//   bad[0]    1 if this step's weights must not be changed any more: one of the following, or a mean that is not finite
//   bad[1]    as sgd_step (elementwise.cu) left it: 1 if a weight is NaN or infinite
//   bad[2]    1 if a logit is NaN or infinite
//
// Once set, a number of `bad` stays. Block: (32, 32), exactly. Any one-dimensional grid, best N / 32 blocks. Bytes of
// DRAM per float of z: 4. All who write to `bad` write the same.
template <typename T>
__global__ void __launch_bounds__(1024)
    softmax_ce_wrong(const T* __restrict__ logits /* K, N */, const long long* __restrict__ labels /* N */,
                     const double* __restrict__ mean /* 1 */, int* wrong /* 1 */, int* bad /* 3 */, int K, int N)
{
    __shared__ int shared[SLICES * LANES];
    for (int first = blockIdx.x * LANES; first < N; first += gridDim.x * LANES) {
        const bool inside = first + int(threadIdx.x) < N;
        const int n = inside ? first + threadIdx.x : first;
        const index_t label = labels[n];
        const T own = 0 <= label && label < K ? logits[index_t(label) * N + n] : not_a_number<T>();
        bool beaten = false, finite = true;
        for (int k = threadIdx.y; k < K; k += SLICES) {
            const T value = logits[index_t(k) * N + n];
            beaten |= value > own || (value == own && k < label);
            finite &= value - value == 0;
        }
        const int by_any = over_slices(shared, int(beaten), [](int a, int b) { return a | b; });
        if (inside && threadIdx.y == 0 && by_any) atomicAdd(wrong, 1);
        if (!finite) bad[0] = bad[2] = 1;
    }
    const bool one = blockIdx.x + threadIdx.x + threadIdx.y == 0;
    if (one && (bad[1] || mean[0] - mean[0] != 0)) bad[0] = 1;
}

// Any one-dimensional grid; block: any, best (about min(N, 32), 256 / that). Bytes of DRAM per float: 8.
template <typename T>
__global__ void __launch_bounds__(256)
    softmax_ce_backward(const T* __restrict__ p /* K, N */, const long long* __restrict__ labels /* N */,
                        T* __restrict__ dlogits /* K, N */, int K, int N, T factor)
{
    for (int k = blockIdx.x * blockDim.y + threadIdx.y; k < K; k += gridDim.x * blockDim.y) {
        for (int n = threadIdx.x; n < N; n += blockDim.x) {
            const index_t label = labels[n];
            const index_t at = index_t(k) * N + n;
            dlogits[at] = 0 <= label && label < K ? (p[at] - T(k == label)) * factor : not_a_number<T>();
        }
    }
}

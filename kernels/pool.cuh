// What max pooling, alone (max_pool.cu) and behind LRN (lrn.cu), has in common.

#pragma once

using index_t = long long;

// The best element of a window so far and its place, kh * KW + kw; elements are offered in the order of kh, then kw.
// The first among equals stays; NaN beats every number, so that it is not lost.
template <typename T>
struct Best {
    T value = 0;
    int place = -1;

    __device__ void offer(T other, int its_place)
    {
        if (place < 0 || other > value || other != other) {  // other != other: NaN
            value = other;
            place = its_place;
        }
    }
};

// The windows over one pixel, along one axis. The pixel is at `position`, counted from the edge of the padding; in
// window o it is element position - o * stride, which lies in [0, kernel) for o from `first` to `last`.
struct Windows {
    int position, stride, first, last;

    __device__ int element(int o) const { return position - o * stride; }
};

__device__ inline Windows windows_over(int position, int kernel, int stride, int count)
{
    const int first = position < kernel ? 0 : (position - kernel) / stride + 1;
    return {position, stride, first, min(count - 1, position / stride)};
}

// The sum of dy over the windows whose maximum is the pixel under `rows` and `columns`. dy and place: (OH, OW, N), one
// picture's channel, from picture n on. A pixel asks each window over it whether it won there: no atomics, so the order
// of the sum is fixed, and so is the result.
template <typename T, typename Place>
__device__ T gathered(const T* __restrict__ dy, const Place* __restrict__ place, Windows rows, Windows columns,
                      int OW, int N, int KW)
{
    T sum = 0;
    for (int oh = rows.first; oh <= rows.last; oh++) {
        for (int ow = columns.first; ow <= columns.last; ow++) {
            const index_t window = (index_t(oh) * OW + ow) * N;
            const int here = rows.element(oh) * KW + columns.element(ow);
            // both are loaded, won or not: a load that waits for another's answer costs more than its bytes
            const T share = dy[window];
            sum += place[window] == here ? share : T(0);
        }
    }
    return sum;
}

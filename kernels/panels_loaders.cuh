// What brings the chunks of a convolution's matrices to shared memory: pictures and weights are read where they lie,
// and the matrix of im2col exists in nobody's memory, only in these index calculations.
//
// All copies are asynchronous, 16 bytes each where what they copy is contiguous and aligned, else one number each. A
// thread always copies for the same line or the same place in the chunk, so divisions are done once, in the
// constructor; from chunk to chunk an Odometer counts on.

#pragma once

#include "panels_tile.cuh"

// A number written with three digits, such as k = (c * KH + kh) * KW + kw, to which another number can be added.
struct Odometer {
    int high, middle, low;

    static __device__ Odometer of(index_t number, int middle_size, int low_size)
    {
        const index_t rest = number / low_size;
        return {int(rest / middle_size), int(rest % middle_size), int(number % low_size)};
    }

    __device__ void advance(const Odometer& step, int middle_size, int low_size)
    {
        low += step.low;
        middle += step.middle;
        high += step.high;
        if (low >= low_size) {
            low -= low_size;
            middle++;
        }
        if (middle >= middle_size) {
            middle -= middle_size;
            high++;
        }
    }
};

// COUNT numbers, 16 bytes or one number.
template <int COUNT, typename T>
__device__ void copy(T* shared, const T* global, bool valid)
{
    if constexpr (COUNT * sizeof(T) == 16) cp_async_16(shared, global, valid);
    else if constexpr (COUNT * sizeof(T) == 8) cp_async_8(shared, global, valid);
    else cp_async_4(shared, global, valid);
}

template <typename T>
constexpr int VECTOR = 16 / sizeof(T);

// Whether 16-byte copies may start at every multiple of VECTOR from `global`, in every line of `pitch` numbers.
template <typename T>
__device__ bool in_vectors(const T* global, index_t pitch)
{
    return pitch % VECTOR<T> == 0 && reinterpret_cast<unsigned long long>(global) % 16 == 0;
}

// (channels, H, W, N) in memory, from the first channel of a group on.
template <typename T>
struct Picture {
    const T* data;
    int H, W, N;

    __device__ bool holds(int h, int w) const { return unsigned(h) < unsigned(H) && unsigned(w) < unsigned(W); }
    __device__ const T* at(int c, int h, int w, int n) const { return data + ((index_t(c) * H + h) * W + w) * N + n; }
};

// Along one side of the picture, tap t of the window at position p sees pixel p * stride + first + t * step.
struct Window {
    int taps, stride, first, step;
};

// --- lines of a plain matrix, k contiguous: weights, or dy by rows o ---

template <typename T, int LINES, int THREADS>
struct MatrixLoader {
    using Layout = KInner<T, LINES>;
    const T* matrix;  // its first line is the tile's first
    index_t pitch, k, end;
    int lines;
    bool vectors;

    __device__ MatrixLoader(const T* matrix, index_t pitch, int lines, index_t begin, index_t end)
        : matrix(matrix), pitch(pitch), k(begin), end(end), lines(lines), vectors(in_vectors(matrix, pitch))
    {
    }

    __device__ void load(T* chunk)
    {
        if (vectors) load_by<VECTOR<T>>(chunk);
        else load_by<1>(chunk);
        k += DEPTH;
    }

    template <int COUNT>
    __device__ void load_by(T* chunk)
    {
        constexpr int PER_LINE = DEPTH / COUNT, AT_ONCE = THREADS / PER_LINE;
        const int first = threadIdx.x / PER_LINE, place = threadIdx.x % PER_LINE * COUNT;
        const T* from = matrix + first * pitch + k + place;
        const bool inside = k + place < end;
#pragma unroll 4
        for (int i = 0; i < LINES / AT_ONCE; i++, from += AT_ONCE * pitch) {
            const int line = first + i * AT_ONCE;
            copy<COUNT>(chunk + Layout::at(line, place), from, inside && line < lines);
        }
    }
};

// --- the weights (O, C, KH, KW) by lines c, with k = (o, th, tw): for the input gradient ---

// Of the kernel's rows only first, first + spacing, ... count, of which there are `taps`; likewise columns.
struct Taps {
    int taps, first, spacing;
};

template <typename T, int LINES, int THREADS>
struct WeightLoader {
    using Layout = KInner<T, LINES>;
    static constexpr int AT_ONCE = THREADS / DEPTH;
    const T* weight;  // of the tile's first c
    int C, KH, KW, O, lines;
    Taps rows, columns;
    Odometer k, step;  // (o, th, tw)

    __device__ WeightLoader(const T* weight, int C, int KH, int KW, int O, int lines, Taps rows, Taps columns)
        : weight(weight), C(C), KH(KH), KW(KW), O(O), lines(lines), rows(rows), columns(columns),
          k(Odometer::of(threadIdx.x % DEPTH, rows.taps, columns.taps)),
          step(Odometer::of(DEPTH, rows.taps, columns.taps))
    {
    }

    __device__ void load(T* chunk)
    {
        const int first = threadIdx.x / DEPTH, place = threadIdx.x % DEPTH;
        const int kh = rows.first + k.middle * rows.spacing, kw = columns.first + k.low * columns.spacing;
        const T* from = weight + ((index_t(k.high) * C + first) * KH + kh) * KW + kw;
#pragma unroll 4
        for (int i = 0; i < LINES / AT_ONCE; i++, from += AT_ONCE * KH * KW) {
            const int line = first + i * AT_ONCE;
            copy<1>(chunk + Layout::at(line, place), from, k.high < O && line < lines);
        }
        k.advance(step, rows.taps, columns.taps);
    }
};

// --- im2col with lines (ph, pw, n), positions of the window, contiguous along n, and k = (c, th, tw) ---

template <typename T, int LINES, int THREADS>
struct PositionLoader {
    using Layout = KOuter<T, LINES>;
    Picture<T> picture;
    Window down, right;
    int channels, place, h, w, n;  // this thread's line, and what tap (0, 0) sees there
    bool inside, vectors;
    Odometer k, step;  // (c, th, tw)

    // Lines from `first` on, of `lines`; a row of positions is `width` long.
    __device__ PositionLoader(Picture<T> picture, Window down, Window right, int channels, index_t first, index_t lines,
                              int width)
        : picture(picture), down(down), right(right), channels(channels), vectors(in_vectors(picture.data, picture.N))
    {
        const int count = vectors ? VECTOR<T> : 1, per_k = LINES / count;
        place = threadIdx.x % per_k * count;
        inside = first + place < lines;
        const Odometer position = Odometer::of(first + place, width, picture.N);
        h = position.high * down.stride + down.first;
        w = position.middle * right.stride + right.first;
        n = position.low;
        k = Odometer::of(threadIdx.x / per_k, down.taps, right.taps);
        step = Odometer::of(THREADS / per_k, down.taps, right.taps);
    }

    __device__ void load(T* chunk)
    {
        if (vectors) load_by<VECTOR<T>>(chunk);
        else load_by<1>(chunk);
    }

    template <int COUNT>
    __device__ void load_by(T* chunk)
    {
        constexpr int AT_ONCE = THREADS / (LINES / COUNT);
        T* to = chunk + Layout::at(place, threadIdx.x / (LINES / COUNT));
#pragma unroll 4
        for (int i = 0; i < DEPTH / AT_ONCE; i++, to += AT_ONCE * Layout::PITCH) {
            const int tap_h = h + k.middle * down.step, tap_w = w + k.low * right.step;
            const bool valid = inside && k.high < channels && picture.holds(tap_h, tap_w);
            copy<COUNT>(to, picture.at(k.high, tap_h, tap_w, n), valid);
            k.advance(step, down.taps, right.taps);
        }
    }
};

// --- the same matrix transposed: lines (c, th, tw), and k = (ph, pw, n): for the weight gradient ---

template <typename T, int LINES, int THREADS>
struct TapLoader {
    using Layout = KInner<T, LINES>;
    Picture<T> picture;
    Window down, right;
    int channels, place, width;
    bool vectors;
    Odometer line, line_step, k, k_step;  // (c, th, tw); (ph, pw, n)
    index_t left;                         // values of k from this thread's to the end

    // Lines from `first` on; k from `begin` to `end`; a row of positions is `width` long.
    __device__ TapLoader(Picture<T> picture, Window down, Window right, int channels, int first, index_t begin,
                         index_t end, int width)
        : picture(picture), down(down), right(right), channels(channels), width(width),
          vectors(in_vectors(picture.data, picture.N))
    {
        const int count = vectors ? VECTOR<T> : 1, per_line = DEPTH / count;
        place = threadIdx.x % per_line * count;
        line = Odometer::of(first + threadIdx.x / per_line, down.taps, right.taps);
        line_step = Odometer::of(THREADS / per_line, down.taps, right.taps);
        k = Odometer::of(begin + place, width, picture.N);
        k_step = Odometer::of(DEPTH, width, picture.N);
        left = end - begin - place;
    }

    __device__ void load(T* chunk)
    {
        if (vectors) load_by<VECTOR<T>>(chunk);
        else load_by<1>(chunk);
        k.advance(k_step, width, picture.N);
        left -= DEPTH;
    }

    template <int COUNT>
    __device__ void load_by(T* chunk)
    {
        constexpr int PER_LINE = DEPTH / COUNT, AT_ONCE = THREADS / PER_LINE;
        const int h = k.high * down.stride + down.first, w = k.middle * right.stride + right.first;
        T* to = chunk + Layout::at(threadIdx.x / PER_LINE, place);
        Odometer tap = line;
#pragma unroll 4
        for (int i = 0; i < LINES / AT_ONCE; i++, to += AT_ONCE * Layout::PITCH) {
            const int tap_h = h + tap.middle * down.step, tap_w = w + tap.low * right.step;
            const bool valid = left > 0 && tap.high < channels && picture.holds(tap_h, tap_w);
            copy<COUNT>(to, picture.at(tap.high, tap_h, tap_w, k.low), valid);
            tap.advance(line_step, down.taps, right.taps);
        }
    }
};

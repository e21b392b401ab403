// What the kernels of lrn.cu have in common: a walk along the channels that remembers the last few values.

#pragma once

using index_t = long long;

// The channels [first, last) that one thread computes; what it reads of others lies in [begin, end), their group.
struct Channels {
    int first, last, begin, end;

    __device__ bool reach(int channel) const { return begin <= channel && channel < end; }
};

// Every group is cut into parts of `chunk` channels, the last one perhaps shorter.
__device__ inline int parts_of_group(int group_size, int chunk) { return (group_size + chunk - 1) / chunk; }

__device__ inline Channels channels_of(int part, int group_size, int chunk)
{
    const int parts = parts_of_group(group_size, chunk);
    const int begin = part / parts * group_size;
    const int first = begin + part % parts * chunk;
    return {first, min(first + chunk, begin + group_size), begin, begin + group_size};
}

// The last values that were pushed, the oldest first; zeros to begin with. There are SIZE of them, all in registers;
// or, where SIZE is 0, as many as an argument says, at most 63, in slower memory. Sums are taken anew each time: to add
// the newest and subtract the oldest would gather up errors.
template <typename T, int SIZE>
struct Trail {
    T at[SIZE ? SIZE : 63] = {};
    int argument;

    __device__ explicit Trail(int size = SIZE) : argument(size) {}

    __device__ int size() const { return SIZE ? SIZE : argument; }

    __device__ void push(T value)
    {
        for (int j = 0; j < size() - 1; j++) at[j] = at[j + 1];
        at[size() - 1] = value;
    }

    __device__ T sum() const
    {
        T total = at[0];
        for (int j = 1; j < size(); j++) total += at[j];
        return total;
    }

    __device__ T sum_of_squares() const
    {
        T total = at[0] * at[0];
        for (int j = 1; j < size(); j++) total += at[j] * at[j];
        return total;
    }
};

// scale**-beta. The paper's 0.75 needs no pow: it is r * sqrt(r) where r = scale**-0.5, which for float is one
// instruction.
template <typename T>
__device__ T inverse_power(T scale, T beta)
{
    if (beta != T(0.75)) return pow(scale, -beta);
    const T root = rsqrt(scale);
    return root * sqrt(root);
}

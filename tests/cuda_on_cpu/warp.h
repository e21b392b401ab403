// What the 32 threads of a warp do together. They do not run in lockstep: each goes on alone until it meets the others.
//
// A call is an error unless all lanes that its mask names arrive at it, with this same mask, and none that reads from
// a lane outside the mask. Lanes that do not exist, in the last warp of a block of 48 threads, may not be named either.
//
// Only __syncwarp makes memory written before it visible to the other lanes, here for ThreadSanitizer as on a GPU.

#pragma once

#include "block.h"

constexpr int warpSize = cuda_on_cpu::warp_size;

namespace cuda_on_cpu {

constexpr unsigned int all_lanes = 0xffffffff;

// The values of one meeting. A lane may look at them until it offers its next one.
struct Values {
    alignas(16) char of_lane[128 * warp_size];
    unsigned int readers;  // lanes that still may
};

// A lane reads from at most one, so that one of 33 is free.
static Values values_of_warp[max_threads / warp_size][warp_size + 1];

UNSEEN inline int number_of(const Thread& thread) { return int(&thread - threads); }

UNSEEN inline unsigned int lane() { return number_of(*current) % warp_size; }

// Called in the last lane to arrive: collect the values, let all go on.
UNSEEN inline void meet(Thread* first_lane, const Call& call, size_t bytes)
{
    Values* values = values_of_warp[number_of(*first_lane) / warp_size];
    while (values->readers) values++;
    values->readers = call.mask;
    for (int i = 0; i < warp_size; i++) {
        if (!(call.mask >> i & 1)) continue;
        const char* offered = static_cast<const char*>(first_lane[i].offered);
        for (size_t b = 0; b < bytes; b++) values->of_lane[i * bytes + b] = offered[b];
        first_lane[i].received = values;
        first_lane[i].state = ready;
    }
}

// Wait for all lanes of the mask.
UNSEEN inline void sync_lanes(const Call& call, const void* mine, size_t bytes, bool makes_visible)
{
    Thread& me = *current;
    const int my_lane = lane(), first = number_of(me) - my_lane;
    const int lanes = thread_count - first < warp_size ? thread_count - first : warp_size;
    if (!(call.mask >> my_lane & 1))
        fail("%s(mask 0x%08x): not for lane %d, which calls it", call.name, call.mask, my_lane);
    if (lanes < warp_size && call.mask >> lanes)
        fail("%s(mask 0x%08x): this warp has only %d lanes", call.name, call.mask, lanes);

    if (me.received) me.received->readers &= ~(1u << my_lane);
    me.received = nullptr;
    me.offered = mine;
    me.meeting = nullptr;
    bool last = true;
    for (int i = 0; i < lanes; i++) {
        if (i == my_lane || !(call.mask >> i & 1)) continue;
        if (waits_at(threads[first + i], call)) me.meeting = threads[first + i].meeting;
        else last = false;
    }
    if (!me.meeting) me.meeting = new_meeting();
    me.call = call;
    me.state = waiting;
    if (makes_visible) publish(me.meeting);
    if (last) meet(&threads[first], call, bytes);
    stop();
    if (makes_visible) observe(me.meeting);
}

// Every lane of the mask offers a value, and gets a pointer to all 32.
template <class V> UNSEEN const V* exchange(const Call& call, const V& mine)
{
    static_assert(sizeof(V) * warp_size <= sizeof(Values::of_lane), "warps exchange at most 128 bytes a lane");
    sync_lanes(call, &mine, sizeof(V), false);
    return reinterpret_cast<const V*>(current->received->of_lane);
}

// All 32 lanes arrive with a value each; the pointer to the 32 is valid until the lane's next call of this header.
template <class V> UNSEEN const V* warp_share(const V& mine, CUDA_ON_CPU_HERE)
{
    return exchange({"warp_share", file, line, all_lanes}, mine);
}

template <class T> UNSEEN T shuffle(const Call& call, const T& mine, int source)
{
    const bool meant = call.mask >> lane() & 1;  // if not, sync_lanes says so
    if (meant && !(call.mask >> source & 1))
        fail("%s(mask 0x%08x): reads from lane %d, outside the mask", call.name, call.mask, source);
    return exchange(call, mine)[source];
}

// A group of `width` lanes shuffles among itself: its first lane.
UNSEEN inline int group_start(const char* name, int width)
{
    if (width < 1 || width > warp_size || (width & (width - 1)))
        fail("%s: width %d is no power of 2 up to 32", name, width);
    return lane() & ~(width - 1);
}

UNSEEN inline void reset_warps()
{
    for (int w = 0; w * warp_size < thread_count; w++)
        for (Values& values : values_of_warp[w]) values.readers = 0;
}

}  // namespace cuda_on_cpu

UNSEEN inline void __syncwarp(unsigned int mask = cuda_on_cpu::all_lanes, CUDA_ON_CPU_HERE)
{
    cuda_on_cpu::sync_lanes({"__syncwarp", file, line, mask}, nullptr, 0, true);
}

template <class T>
UNSEEN T __shfl_sync(unsigned int mask, T value, int source, int width = warpSize, CUDA_ON_CPU_HERE)
{
    const int first = cuda_on_cpu::group_start("__shfl_sync", width);
    return cuda_on_cpu::shuffle({"__shfl_sync", file, line, mask}, value, first + (source & (width - 1)));
}

// Up, down and xor: a lane whose partner would be outside the group gets its own value.

template <class T>
UNSEEN T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = warpSize, CUDA_ON_CPU_HERE)
{
    const int first = cuda_on_cpu::group_start("__shfl_up_sync", width), mine = cuda_on_cpu::lane();
    const int source = delta > unsigned(mine - first) ? mine : mine - int(delta);
    return cuda_on_cpu::shuffle({"__shfl_up_sync", file, line, mask}, value, source);
}

template <class T>
UNSEEN T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = warpSize, CUDA_ON_CPU_HERE)
{
    const int first = cuda_on_cpu::group_start("__shfl_down_sync", width), mine = cuda_on_cpu::lane();
    const int source = delta >= unsigned(first + width - mine) ? mine : mine + int(delta);
    return cuda_on_cpu::shuffle({"__shfl_down_sync", file, line, mask}, value, source);
}

template <class T>
UNSEEN T __shfl_xor_sync(unsigned int mask, T value, int lanes, int width = warpSize, CUDA_ON_CPU_HERE)
{
    const int first = cuda_on_cpu::group_start("__shfl_xor_sync", width), mine = cuda_on_cpu::lane();
    const int partner = mine ^ lanes;
    const int source = partner < 0 || partner >= first + width ? mine : partner;
    return cuda_on_cpu::shuffle({"__shfl_xor_sync", file, line, mask}, value, source);
}

namespace cuda_on_cpu {

UNSEEN inline unsigned int ballot(const Call& call, int predicate)
{
    const int* all = exchange(call, predicate);
    unsigned int votes = 0;
    for (int i = 0; i < warp_size; i++)
        if (call.mask >> i & 1 && all[i]) votes |= 1u << i;
    return votes;
}

}  // namespace cuda_on_cpu

UNSEEN inline unsigned int __ballot_sync(unsigned int mask, int predicate, CUDA_ON_CPU_HERE)
{
    return cuda_on_cpu::ballot({"__ballot_sync", file, line, mask}, predicate);
}

UNSEEN inline int __any_sync(unsigned int mask, int predicate, CUDA_ON_CPU_HERE)
{
    return cuda_on_cpu::ballot({"__any_sync", file, line, mask}, predicate) != 0;
}

UNSEEN inline int __all_sync(unsigned int mask, int predicate, CUDA_ON_CPU_HERE)
{
    return cuda_on_cpu::ballot({"__all_sync", file, line, mask}, predicate) == mask;
}

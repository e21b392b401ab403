// Shared memory, and copies into it that run beside the thread that asked for them.
//
// The Python side rewrites each declaration of a .cu file, as C++ cannot tell its size and name from a macro:
//
//   __shared__ T tile[8][K];                   ->  auto& tile = shared_array<T[8][K]>(...);
//   extern __shared__ unsigned char shared[];  ->  unsigned char* const shared = dynamic_shared<unsigned char>(...);
//
// Every block finds its arrays full of NaN, each between two guard zones, and aligned no better than it asked for.

#pragma once

#include <type_traits>

#include "block.h"

namespace cuda_on_cpu {

constexpr size_t most_static_shared = 48 << 10, most_shared = 227 << 10;  // of sm_90; others have less
constexpr size_t shared_guard = 1 << 10, arena_bytes = 1 << 20;
constexpr int most_arrays = 128;
constexpr unsigned long long canary = 0x7ffd7ffd7ffd7ffd;  // NaN as floats, as doubles, as the upper halves of floats

struct SharedArray {
    const void* declaration;  // what tells it from the others: an address
    char* start;
    size_t bytes;
};

static char* arena;
static size_t arena_used;
static SharedArray shared_arrays[most_arrays];  // of the block that runs
static int shared_count;
static size_t dynamic_bytes;  // what the launch asked for

// Words that hold any of these bytes.
UNSEEN __attribute__((no_sanitize("address"))) inline void fill(const char* start, size_t bytes)
{
    unsigned long long* word = reinterpret_cast<unsigned long long*>((size_t)start & ~size_t(7));
    for (; (const char*)word < start + bytes; word++) *word = canary;
}

UNSEEN inline bool intact(const char* start, size_t bytes)
{
    for (const char* byte = start; byte < start + bytes; byte++)
        if (*byte != ((size_t)byte & 1 ? 0x7f : char(0xfd))) return false;
    return true;
}

// Before a block.
UNSEEN inline bool begin_shared()
{
    shared_count = 0;
    arena_used = 0;
    if (with_tsan && arena) {  // two blocks that use the same memory, one after another, are no race
        munmap(arena, arena_bytes);
        arena = nullptr;
    }
    if (!arena) {
        void* memory = mmap(nullptr, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return false;
        arena = static_cast<char*>(memory);
    }
    poison(arena, arena_bytes);
    return true;
}

// After a block: whether nobody wrote into the guard zones, which AddressSanitizer watches itself.
UNSEEN inline bool shared_intact()
{
    for (int i = 0; i < shared_count && !with_asan; i++) {
        const SharedArray& array = shared_arrays[i];
        if (!intact(array.start - shared_guard, shared_guard)) return false;
        if (!intact(array.start + array.bytes, shared_guard)) return false;
    }
    return true;
}

UNSEEN inline char* new_shared_array(const void* declaration, size_t bytes, size_t align)
{
    if (shared_count == most_arrays) fail("more than %d shared arrays", most_arrays);
    size_t sized = declaration == &dynamic_bytes ? 0 : bytes;
    for (int i = 0; i < shared_count; i++)
        if (shared_arrays[i].declaration != &dynamic_bytes) sized += shared_arrays[i].bytes;
    if (sized > most_static_shared)
        fail("declares %zu bytes of shared memory with a size, more than the 48 KB that CUDA allows", sized);
    if (sized + dynamic_bytes > most_shared)
        fail("%zu bytes of shared memory are more than the 227 KB that a block can have", sized + dynamic_bytes);

    // AddressSanitizer tells the bytes of an aligned word apart only at its end
    if (with_asan && align < 8) align = 8;
    char* start = arena + (arena_used + shared_guard + 2 * align - 1) / (2 * align) * (2 * align) + align;
    unpoison(start - shared_guard, bytes + 2 * shared_guard);
    fill(start - shared_guard, bytes + 2 * shared_guard);
    poison(start - shared_guard, bytes + 2 * shared_guard);
    unpoison(start, bytes);
    arena_used = start + bytes + shared_guard - arena;
    shared_arrays[shared_count++] = {declaration, start, bytes};
    return start;
}

UNSEEN inline char* find_shared_array(const void* declaration, size_t bytes, size_t align)
{
    for (int i = 0; i < shared_count; i++)
        if (shared_arrays[i].declaration == declaration) return shared_arrays[i].start;
    return new_shared_array(declaration, bytes, align);
}

template <class Array>
Array& shared_array(const void* declaration, size_t align = alignof(std::remove_all_extents_t<Array>))
{
    return *reinterpret_cast<Array*>(find_shared_array(declaration, sizeof(Array), align));
}

template <class T> T* dynamic_shared(size_t align = alignof(T))
{
    return reinterpret_cast<T*>(find_shared_array(&dynamic_bytes, dynamic_bytes, align));
}

// cp.async: the target may change at any time from the call on, and holds the data only after a wait that covers the
// call. Here it holds NaN until then. What was read from global memory is what stood there at the call.

constexpr int most_copies = 256;

struct Copy {
    void* target;
    int words, group;
    unsigned int word[4];
};

static Copy copies_of[max_threads][most_copies];

UNSEEN inline void begin_copy(const Copy& copy)
{
    if (current->copies == most_copies) fail("async_copy: more than %d copies that nobody has waited for", most_copies);
    copies_of[current - threads][current->copies] = copy;
    copies_of[current - threads][current->copies++].group = current->groups;
}

UNSEEN inline void check_copy(const void* target, const void* source, int bytes, bool valid)
{
    if (bytes != 4 && bytes != 8 && bytes != 16) fail("async_copy: %d bytes; expected 4, 8 or 16", bytes);
    if ((size_t)target % bytes) fail("async_copy: the target is not a multiple of %d bytes", bytes);
    if (valid && (size_t)source % bytes) fail("async_copy: the source is not a multiple of %d bytes", bytes);
    for (int i = 0; i < shared_count; i++) {
        const char* start = shared_arrays[i].start;
        if (target >= start && (const char*)target + bytes <= start + shared_arrays[i].bytes) return;
    }
    fail("async_copy: the target lies outside all shared arrays");
}

inline void async_copy(void* target, const void* source, int bytes, bool valid)
{
    check_copy(target, source, bytes, valid);
    Copy copy = {target, bytes / 4, 0, {}};
    for (int i = 0; i < copy.words; i++) {
        if (valid) copy.word[i] = static_cast<const unsigned int*>(source)[i];
        static_cast<unsigned int*>(target)[i] = (unsigned int)canary;
    }
    begin_copy(copy);
}

UNSEEN inline void async_commit() { current->groups++; }

// The oldest copy of the groups up to `last`, taken from the list; false if there is none.
UNSEEN inline bool next_copy(int last, Copy& copy, int& begin)
{
    Copy* copies = copies_of[current - threads];
    if (begin == current->copies || copies[begin].group > last) return false;
    copy = copies[begin++];
    return true;
}

UNSEEN inline void drop_copies(int count)
{
    Copy* copies = copies_of[current - threads];
    current->copies -= count;
    for (int i = 0; i < current->copies; i++) copies[i] = copies[i + count];
}

// Returns when all but the latest `still_allowed` committed groups of this thread have arrived.
inline void async_wait(int still_allowed)
{
    Copy copy;
    int done = 0;
    while (next_copy(current->groups - 1 - still_allowed, copy, done))
        for (int i = 0; i < copy.words; i++) static_cast<unsigned int*>(copy.target)[i] = copy.word[i];
    drop_copies(done);
}

}  // namespace cuda_on_cpu

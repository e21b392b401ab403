// The same code in a plain build, under AddressSanitizer and under ThreadSanitizer: what differs is named here.
//
//   UNSEEN               on a function: ThreadSanitizer does not watch it. All of cuda_on_cpu's own bookkeeping is
//                        UNSEEN, as it is shared by threads that must look unsynchronised to it. (Nor are there
//                        checks for undefined behaviour in it, which saves time.)
//   poison, unpoison     AddressSanitizer reports every access to poisoned memory.
//   publish, observe     what happened before `publish(address)` happens before what follows `observe(address)`.

#pragma once

#include <stddef.h>

#define UNSEEN __attribute__((no_sanitize("thread"), no_sanitize("undefined")))

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace cuda_on_cpu {

#ifdef __SANITIZE_ADDRESS__
constexpr bool with_asan = true;
inline void poison(const void* start, size_t bytes) { __asan_poison_memory_region(start, bytes); }
inline void unpoison(const void* start, size_t bytes) { __asan_unpoison_memory_region(start, bytes); }
#else
constexpr bool with_asan = false;
inline void poison(const void*, size_t) {}
inline void unpoison(const void*, size_t) {}
#endif

#ifdef __SANITIZE_THREAD__
constexpr bool with_tsan = true;
UNSEEN inline void publish(void* address) { __tsan_release(address); }
UNSEEN inline void observe(void* address) { __tsan_acquire(address); }
#else
constexpr bool with_tsan = false;
inline void publish(void*) {}
inline void observe(void*) {}
#endif

}  // namespace cuda_on_cpu

// Fibers: functions that stop in the middle, each on a stack of its own, and go on later.
//
//   Fiber fiber;
//   prepare(fiber, entry, 0);          // entry() will run on a stack of its own and must never return
//   switch_fiber(scheduler, fiber);    // stop here, go on there; returns when somebody switches back to `scheduler`
//
// A switch saves the registers that a function call must keep on the old stack, changes stacks, and takes the other
// fiber's registers from its stack. The C library's swapcontext does the same with a system call, and takes over ten
// times as long: a barrier costs 0.5 us a thread instead of 30 ns.

#pragma once

#include <sys/mman.h>

#include "sanitizers.h"

#if defined(__ELF__) && defined(__x86_64__) && !defined(CUDA_ON_CPU_UCONTEXT)
#define CUDA_ON_CPU_SAVED 6  // registers, the return address above them

asm(R"(
.pushsection .text
.globl cuda_on_cpu_switch
.hidden cuda_on_cpu_switch
.type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cuda_on_cpu_switch, . - cuda_on_cpu_switch
.popsection
)");

#elif defined(__ELF__) && defined(__aarch64__) && !defined(CUDA_ON_CPU_UCONTEXT)
#define CUDA_ON_CPU_SAVED 20  // x19 to x28, x29, x30 (the return address), d8 to d15

asm(R"(
.pushsection .text
.globl cuda_on_cpu_switch
.hidden cuda_on_cpu_switch
.type cuda_on_cpu_switch, %function
cuda_on_cpu_switch:
    stp d8, d9, [sp, #-160]!
    stp d10, d11, [sp, #16]
    stp d12, d13, [sp, #32]
    stp d14, d15, [sp, #48]
    stp x19, x20, [sp, #64]
    stp x21, x22, [sp, #80]
    stp x23, x24, [sp, #96]
    stp x25, x26, [sp, #112]
    stp x27, x28, [sp, #128]
    stp x29, x30, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp d10, d11, [sp, #16]
    ldp d12, d13, [sp, #32]
    ldp d14, d15, [sp, #48]
    ldp x19, x20, [sp, #64]
    ldp x21, x22, [sp, #80]
    ldp x23, x24, [sp, #96]
    ldp x25, x26, [sp, #112]
    ldp x27, x28, [sp, #128]
    ldp x29, x30, [sp, #144]
    ldp d8, d9, [sp], #160
    ret
.size cuda_on_cpu_switch, . - cuda_on_cpu_switch
.popsection
)");

#else
#include <ucontext.h>
#endif

#ifdef CUDA_ON_CPU_SAVED
extern "C" void cuda_on_cpu_switch(void** stopped_at, void* go_on_at);
#endif

namespace cuda_on_cpu {

// Only the pages that a stack has used take memory. The lowest may not be touched: a kernel whose local arrays
// are too large crashes, instead of writing into the next stack.
constexpr size_t stack_bytes = with_asan ? 1 << 20 : 1 << 18, stack_guard = 1 << 16;

struct Fiber {
    char* stack = nullptr;
    size_t size = 0;
    void* tsan = nullptr;  // what ThreadSanitizer knows the fiber by
#ifdef CUDA_ON_CPU_SAVED
    void* stopped_at = nullptr;
#else
    ucontext_t context;
#endif
};

static Fiber scheduler;  // not a fiber of ours: whoever called switch_fiber first, on the stack that he came with

// number: of the fiber. Stacks that all began at a multiple of 4096 would compete for the same lines of the cache.
UNSEEN inline bool prepare(Fiber& fiber, void (*entry)(), int number)
{
    if (!fiber.stack) {
        void* memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return false;
        mprotect(memory, stack_guard, PROT_NONE);
        fiber.stack = static_cast<char*>(memory);
        fiber.size = stack_bytes;
    }
    unpoison(fiber.stack, fiber.size);
#ifdef __SANITIZE_THREAD__
    if (!fiber.tsan) fiber.tsan = __tsan_create_fiber(0);
#endif
#ifdef CUDA_ON_CPU_SAVED
    // as if entry() had been about to start when the fiber stopped: on x86-64 its address is what `ret` takes from
    // the stack, 8 bytes below a multiple of 16; on aarch64 it is the last register, and the rest is a multiple of 16
    void** top = reinterpret_cast<void**>(fiber.stack + fiber.size - number % 64 * 576) - 4;
    const bool x86 = CUDA_ON_CPU_SAVED == 6;
    void** saved = top - CUDA_ON_CPU_SAVED;
    for (void** slot = saved; slot < top + 4; slot++) *slot = nullptr;
    saved[x86 ? 6 : 19] = reinterpret_cast<void*>(entry);
    fiber.stopped_at = saved;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack + stack_guard;
    fiber.context.uc_stack.ss_size = fiber.size - stack_guard - number % 64 * 576;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
#endif
    return true;
}

UNSEEN inline void switch_fiber(Fiber& from, Fiber& to)
{
#ifdef __SANITIZE_ADDRESS__
    void* shadow;
    __sanitizer_start_switch_fiber(&shadow, to.stack, to.size);
#endif
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef CUDA_ON_CPU_SAVED
    cuda_on_cpu_switch(&from.stopped_at, to.stopped_at);
#else
    swapcontext(&from.context, &to.context);
#endif
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(shadow, nullptr, nullptr);
#endif
}

// What a fiber's entry() calls first.
UNSEEN inline void arrived_in_fiber()
{
#ifdef __SANITIZE_ADDRESS__
    const void* stack;
    __sanitizer_finish_switch_fiber(nullptr, &stack, &scheduler.size);
    scheduler.stack = static_cast<char*>(const_cast<void*>(stack));
#endif
}

// Before the first switch_fiber of a launch.
UNSEEN inline void begin_fibers()
{
#ifdef __SANITIZE_THREAD__
    scheduler.tsan = __tsan_get_current_fiber();
#endif
}

// A fiber that will not be switched to any more. ThreadSanitizer would take the next fiber on the same memory for a
// thread that races with this one: it gets fresh memory.
UNSEEN inline void end_fiber(Fiber& fiber)
{
#ifdef __SANITIZE_THREAD__
    if (!fiber.tsan) return;
    __tsan_destroy_fiber(fiber.tsan);
    munmap(fiber.stack, fiber.size);
    fiber.tsan = fiber.stack = nullptr;
#else
    (void)fiber;
#endif
}

}  // namespace cuda_on_cpu

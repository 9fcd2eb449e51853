// CUDA C++ on the CPU: what the kernels of difflab take from the device's compiler, as plain C++17.
//
// A fiber per CUDA thread, one block after another. Fibers give way only inside barriers and warp collectives, so a run is
// deterministic for a given order, and the order is the caller's: forward, reverse, or shuffled anew after every barrier. A
// kernel that lacks a barrier then gives values that depend on the order, or reads shared memory that still holds its poison.
//
// Every use of CUDA that the device leaves undefined and that can be seen here ends the process with a message that names
// kernel, block and thread. Memory is watched by the address sanitizer, arithmetic by the one for undefined behaviour.
//
// `__shared__` declarations are rewritten before the compiler sees them (crate kernel-host, `translate`): static ones to
// `static` arrays followed by KERNEL_HOST_SHARED(name), the dynamic one to a pointer from KERNEL_HOST_DYNAMIC(type).
#pragma once

#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#if defined(__SANITIZE_ADDRESS__)
#define KERNEL_HOST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KERNEL_HOST_ASAN 1
#endif
#endif

#ifdef KERNEL_HOST_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void **fake_stack_save, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake_stack_save, const void **bottom_old, size_t *size_old);
void __asan_poison_memory_region(const volatile void *at, size_t size);
void __asan_unpoison_memory_region(const volatile void *at, size_t size);
}
#else
static inline void __sanitizer_start_switch_fiber(void **, const void *, size_t) {}
static inline void __sanitizer_finish_switch_fiber(void *, const void **, size_t *) {}
static inline void __asan_poison_memory_region(const volatile void *, size_t) {}
static inline void __asan_unpoison_memory_region(const volatile void *, size_t) {}
#endif

#ifdef KERNEL_HOST_LIST
// The preprocessed text is searched for these two words.
#define __global__ KERNEL_HOST_GLOBAL
#define __launch_bounds__(...) KERNEL_HOST_BOUNDS(__VA_ARGS__)
#else
#define __global__ __attribute__((used))
#define __launch_bounds__(...)
#endif
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

namespace kernel_host {

// ---- errors ----------------------------------------------------------------------------------------------------------------

// Exit statuses that the caller tells apart.
enum { kFault = 3, kSanitizer = 77 };

static const char *kernel_name = "no kernel";
static bool in_thread = false;

static inline void place(FILE *out) {
  std::fprintf(out, "kernel %s", kernel_name);
  if (in_thread)
    std::fprintf(out, ", block (%u, %u, %u), thread (%u, %u, %u)", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x,
                 threadIdx.y, threadIdx.z);
}

// Ends the process with `format` after the name of the kernel, block and thread.
[[noreturn]] __attribute__((format(printf, 1, 2))) static void fail(const char *format, ...) {
  va_list rest;
  va_start(rest, format);
  std::fprintf(stderr, "kernel-host: ");
  place(stderr);
  std::fprintf(stderr, ": ");
  std::vfprintf(stderr, format, rest);
  std::fprintf(stderr, "\n");
  std::fflush(stderr);
  std::_Exit(kFault);
}

// ---- order of execution ----------------------------------------------------------------------------------------------------

enum class Order : uint32_t { forward = 0, reverse = 1, shuffled = 2 };

static Order order = Order::forward;
static uint64_t order_state = 0;

static inline uint64_t next_random() {
  uint64_t x = (order_state += 0x9e3779b97f4a7c15ull);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// Writes a permutation of 0..count to `into`.
static void permute(int *into, int count) {
  for (int i = 0; i < count; ++i) into[i] = order == Order::reverse ? count - 1 - i : i;
  if (order != Order::shuffled) return;
  for (int i = count - 1; i > 0; --i) {
    const int j = (int)(next_random() % (uint64_t)(i + 1)), kept = into[i];
    into[i] = into[j];
    into[j] = kept;
  }
}

// ---- fibers ----------------------------------------------------------------------------------------------------------------

// Saves the callee-saved registers and the stack pointer, and takes up another stack.
#if !defined(__x86_64__)
#error "kernel-host: the context switch is written for x86-64"
#endif
extern "C" void kernel_host_switch(void **save, void *load);
asm(R"(
.text
.p2align 4
.type kernel_host_switch, @function
.globl kernel_host_switch
kernel_host_switch:
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
.size kernel_host_switch, .-kernel_host_switch
)");

// A place in the source, to tell one barrier from another.
struct Site { const char *file; int line; };
static inline bool same(Site a, Site b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

enum class State : uint8_t { ready, at_barrier, in_collective, done };

struct Thread {
  void *stack_pointer;
  void *fake_stack;
  char *stack;
  uint3 index;
  State state;
  // What it waits in, while it waits.
  Site site;
  const char *kind;
  unsigned mask;
  void *record;
};

constexpr int kMaxThreads = 1024, kLanes = 32;
constexpr size_t kStack = 256 << 10;

static Thread threads[kMaxThreads];
static int thread_count = 0, current = 0;
static void *scheduler_stack_pointer, *scheduler_fake_stack;
static const void *scheduler_bottom;
static size_t scheduler_size;
static void (*body)(void *), *body_argument;

// From a fiber back to the scheduler.
static inline void give_way() {
  Thread &self = threads[current];
  void **fake = self.state == State::done ? nullptr : &self.fake_stack;
  __sanitizer_start_switch_fiber(fake, scheduler_bottom, scheduler_size);
  kernel_host_switch(&self.stack_pointer, scheduler_stack_pointer);
  __sanitizer_finish_switch_fiber(self.fake_stack, nullptr, nullptr);
}

[[noreturn]] static void fiber_start() {
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size);
  body(body_argument);
  threads[current].state = State::done;
  give_way();
  std::abort();
}

// From the scheduler into a fiber, until it waits or ends.
static inline void resume(int thread) {
  Thread &fiber = threads[thread];
  current = thread;
  threadIdx = fiber.index;
  in_thread = true;
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack, kStack);
  kernel_host_switch(&scheduler_stack_pointer, fiber.stack_pointer);
  __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
  in_thread = false;
}

static void forget_copies(int thread);

static void prepare(int thread) {
  Thread &fiber = threads[thread];
  if (!fiber.stack) fiber.stack = (char *)std::aligned_alloc(4096, kStack);
  if (!fiber.stack) fail("no memory for the stack of a thread");
  // Entered by `ret`: the stack must look as after a call, 8 bytes off a multiple of 16.
  void **top = (void **)(fiber.stack + kStack);
  *--top = nullptr;
  *--top = (void *)&fiber_start;
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  fiber.stack_pointer = top;
  fiber.fake_stack = nullptr;
  fiber.state = State::ready;
  forget_copies(thread);
}

// ---- shared memory ---------------------------------------------------------------------------------------------------------

// All ones: a NaN in every floating type, -1 in the integers.
constexpr unsigned char kPoison = 0xff;
// What a block may use on every device from compute capability 8.0 on.
constexpr size_t kSharedLimit = 99 << 10, kStaticSharedLimit = 48 << 10;

struct Shared { void *at; size_t size; };
static Shared shared_seen[64];
static int shared_count = 0;
static size_t dynamic_size = 0;
alignas(128) static unsigned char dynamic_storage[kSharedLimit + 4096];

// The first thread of a block that comes by a declaration poisons the array.
static inline void declare_shared(void *at, size_t size, const char *name) {
  size_t total = size;
  for (int i = 0; i < shared_count; ++i) {
    if (shared_seen[i].at == at) return;
    total += shared_seen[i].size;
  }
  if (shared_count == 64) fail("more than 64 shared arrays at `%s`", name);
  if (total > kStaticSharedLimit) fail("`%s` takes static shared memory to %zu bytes; the limit is %zu", name, total, kStaticSharedLimit);
  if (total + dynamic_size > kSharedLimit) fail("`%s` takes shared memory to %zu bytes; the limit is %zu", name, total + dynamic_size, kSharedLimit);
  shared_seen[shared_count++] = {at, size};
  std::memset(at, kPoison, size);
}

static inline void poison_shared() {
  shared_count = 0;
  __asan_unpoison_memory_region(dynamic_storage, sizeof dynamic_storage);
  std::memset(dynamic_storage, kPoison, dynamic_size);
  __asan_poison_memory_region(dynamic_storage + dynamic_size, sizeof dynamic_storage - dynamic_size);
}

// ---- barriers and warp collectives -----------------------------------------------------------------------------------------

static inline void describe(FILE *out, const Thread &thread) {
  std::fprintf(out, "thread (%u, %u, %u) ", thread.index.x, thread.index.y, thread.index.z);
  if (thread.state == State::done) std::fprintf(out, "has returned");
  else std::fprintf(out, "waits in %s at %s:%d", thread.kind, thread.site.file, thread.site.line);
  if (thread.state == State::in_collective) std::fprintf(out, " with mask 0x%08x", thread.mask);
}

// Ends the process: these two threads will never meet.
[[noreturn]] static void diverged(const Thread &a, const Thread &b) {
  std::fprintf(stderr, "kernel-host: kernel %s, block (%u, %u, %u): ", kernel_name, blockIdx.x, blockIdx.y, blockIdx.z);
  describe(stderr, a);
  std::fprintf(stderr, ", but ");
  describe(stderr, b);
  std::fprintf(stderr, "\n");
  std::fflush(stderr);
  std::_Exit(kFault);
}

static inline void wait(State state, Site site, const char *kind) {
  Thread &self = threads[current];
  self.state = state;
  self.site = site;
  self.kind = kind;
  give_way();
}

static inline void barrier(Site site) { wait(State::at_barrier, site, "__syncthreads"); }

static inline int warp_start(int thread) { return thread & ~(kLanes - 1); }

// Lanes of the warp that exist and have not returned.
static inline unsigned live_lanes(int start) {
  unsigned live = 0;
  for (int lane = 0; lane < kLanes && start + lane < thread_count; ++lane)
    if (threads[start + lane].state != State::done) live |= 1u << lane;
  return live;
}

// All live lanes of `mask` come together: `join` sees the record of each (null where a lane is absent) and may change them.
template <typename Record>
static inline void collective(Site site, const char *kind, unsigned mask, Record &record, void (*join)(Record *const *)) {
  const int start = warp_start(current), lane = current - start;
  Thread &self = threads[current];
  if (!(mask >> lane & 1)) fail("%s at %s:%d with mask 0x%08x, which leaves the calling lane %d out", kind, site.file, site.line, mask, lane);
  self.mask = mask;
  self.record = &record;
  self.state = State::in_collective;
  self.site = site;
  self.kind = kind;
  Record *records[kLanes] = {};
  unsigned missing = mask & live_lanes(start);
  for (int other = 0; other < kLanes && start + other < thread_count; ++other) {
    const Thread &fiber = threads[start + other];
    if (fiber.state == State::in_collective && fiber.mask == mask && fiber.kind == kind && same(fiber.site, site)) {
      records[other] = (Record *)fiber.record;
      missing &= ~(1u << other);
    }
  }
  if (missing) {
    give_way();
    return;
  }
  join(records);
  for (int other = 0; other < kLanes; ++other)
    if (records[other]) threads[start + other].state = State::ready;
}

struct Nothing {};
static inline void sync_warp(Site site, unsigned mask = 0xffffffffu) {
  Nothing nothing;
  collective<Nothing>(site, "__syncwarp", mask, nothing, [](Nothing *const *) {});
}

// A shuffle: each lane gives a value and names a lane, and gets the value that lane gave.
template <typename T>
struct Shuffle { T given, got; int from; };

template <typename T>
static inline T undefined_value() {
  T value;
  std::memset(&value, kPoison, sizeof value);
  return value;
}

template <typename T>
static inline T shuffle(Site site, const char *kind, unsigned mask, T value, int from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  Shuffle<T> record{value, value, from};
  collective<Shuffle<T>>(site, kind, mask, record, [](Shuffle<T> *const *lanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      if (!lanes[lane]) continue;
      Shuffle<T> *source = lanes[lanes[lane]->from];
      // The value of a lane that takes no part is undefined.
      lanes[lane]->got = source ? source->given : undefined_value<T>();
    }
  });
  return record.got;
}

static inline int lane_id() { return current & (kLanes - 1); }
static inline int segment(Site site, int width) {
  if (width < 1 || width > kLanes || (width & (width - 1))) fail("a shuffle at %s:%d of width %d; it must be a power of two up to 32", site.file, site.line, width);
  return lane_id() & ~(width - 1);
}

template <typename T>
static inline T shfl(Site site, unsigned mask, T value, int source, int width = kLanes) {
  return shuffle(site, "__shfl_sync", mask, value, segment(site, width) + (source & (width - 1)));
}
template <typename T>
static inline T shfl_xor(Site site, unsigned mask, T value, int with, int width = kLanes) {
  const int lane = lane_id(), from = lane ^ with, end = segment(site, width) + width;
  return shuffle(site, "__shfl_xor_sync", mask, value, from < end && from >= 0 ? from : lane);
}
template <typename T>
static inline T shfl_down(Site site, unsigned mask, T value, unsigned delta, int width = kLanes) {
  const int lane = lane_id(), end = segment(site, width) + width;
  return shuffle(site, "__shfl_down_sync", mask, value, delta < (unsigned)(end - lane) ? lane + (int)delta : lane);
}
template <typename T>
static inline T shfl_up(Site site, unsigned mask, T value, unsigned delta, int width = kLanes) {
  const int lane = lane_id(), start = segment(site, width);
  return shuffle(site, "__shfl_up_sync", mask, value, delta <= (unsigned)(lane - start) ? lane - (int)delta : lane);
}

struct Vote { bool given; unsigned got; };
static inline unsigned ballot(Site site, unsigned mask, bool predicate) {
  Vote record{predicate, 0};
  collective<Vote>(site, "__ballot_sync", mask, record, [](Vote *const *lanes) {
    unsigned all = 0;
    for (int lane = 0; lane < kLanes; ++lane)
      if (lanes[lane] && lanes[lane]->given) all |= 1u << lane;
    for (int lane = 0; lane < kLanes; ++lane)
      if (lanes[lane]) lanes[lane]->got = all;
  });
  return record.got;
}

// ---- a launch --------------------------------------------------------------------------------------------------------------

// Runs every thread of the present block to its end.
static void run_block() {
  int warps[kMaxThreads / kLanes], lanes[kLanes];
  const int warp_count = (thread_count + kLanes - 1) / kLanes;
  for (int thread = 0; thread < thread_count; ++thread) prepare(thread);
  for (;;) {
    permute(warps, warp_count);
    for (int w = 0; w < warp_count; ++w) {
      permute(lanes, kLanes);
      for (bool again = true; again;) {
        again = false;
        for (int l = 0; l < kLanes; ++l) {
          const int thread = warps[w] * kLanes + lanes[l];
          if (thread >= thread_count || threads[thread].state != State::ready) continue;
          resume(thread);
          again = true;
        }
      }
    }
    // Now every thread waits or has returned.
    const Thread &first = threads[0];
    for (int thread = 0; thread < thread_count; ++thread)
      if (threads[thread].state == State::in_collective) {
        const int start = warp_start(thread);
        for (int lane = 0; lane < kLanes && start + lane < thread_count; ++lane) {
          const Thread &other = threads[start + lane];
          const bool meets = other.state == State::in_collective && other.mask == threads[thread].mask &&
                             other.kind == threads[thread].kind && same(other.site, threads[thread].site);
          if ((threads[thread].mask >> lane & 1) && !meets) diverged(threads[thread], other);
        }
      }
    for (int thread = 1; thread < thread_count; ++thread) {
      const Thread &other = threads[thread];
      if (other.state != first.state || (first.state == State::at_barrier && !same(first.site, other.site)))
        diverged(first.state == State::done ? other : first, first.state == State::done ? first : other);
    }
    if (first.state == State::done) return;
    for (int thread = 0; thread < thread_count; ++thread) threads[thread].state = State::ready;
  }
}

static void check_launch(dim3 grid, dim3 block, size_t shared, long long bound) {
  const uint64_t count = (uint64_t)block.x * block.y * block.z;
  if (!count || count > kMaxThreads || block.z > 64) fail("a block of (%u, %u, %u) threads", block.x, block.y, block.z);
  if (bound && count > (uint64_t)bound) fail("a block of %llu threads; __launch_bounds__ allows %lld", (unsigned long long)count, bound);
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) fail("a grid of (%u, %u, %u) blocks", grid.x, grid.y, grid.z);
  if (shared > kSharedLimit) fail("%zu bytes of dynamic shared memory; the limit is %zu", shared, kSharedLimit);
}

// Runs `call(argument)` as every thread of every block.
static void launch(dim3 grid, dim3 block, size_t shared, long long bound, void (*call)(void *), void *argument) {
  check_launch(grid, block, shared, bound);
  gridDim = grid;
  blockDim = block;
  dynamic_size = shared;
  thread_count = (int)(block.x * block.y * block.z);
  for (int thread = 0; thread < thread_count; ++thread) {
    const unsigned t = (unsigned)thread;
    threads[thread].index = {t % block.x, t / block.x % block.y, t / (block.x * block.y)};
  }
  body = call;
  body_argument = argument;
  for (uint64_t b = 0; b < (uint64_t)grid.x * grid.y * grid.z; ++b) {
    blockIdx = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / ((uint64_t)grid.x * grid.y))};
    poison_shared();
    run_block();
  }
}

// ---- 16-bit floating point -------------------------------------------------------------------------------------------------

static inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
static inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

static inline float half_to_float(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 31u, mantissa = half & 0x3ffu;
  if (exponent == 31) return float_of(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * std::ldexp((float)mantissa, -24);
  return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

// Rounds to nearest, ties to even; beyond 65504 to infinity.
static inline uint16_t float_to_half(float x) {
  const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (uint16_t)0x7fffu;
  if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    // Below the smallest normal number the unit is 2^-24; nearbyint rounds ties to even.
    return (uint16_t)(sign | (uint32_t)std::nearbyint(std::ldexp(float_of(magnitude), 24)));
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return (uint16_t)(sign | ((rounded >> 13) - (112u << 10)));
}

static inline float bfloat_to_float(uint16_t x) { return float_of((uint32_t)x << 16); }
static inline uint16_t float_to_bfloat(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)0x7fffu;
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace kernel_host

struct f16 { unsigned short bits; };
struct bf16 { unsigned short bits; };

static inline float to_float(float x) { return x; }
static inline float to_float(f16 x) { return kernel_host::half_to_float(x.bits); }
static inline float to_float(bf16 x) { return kernel_host::bfloat_to_float(x.bits); }
static inline void from_float(float x, float &y) { y = x; }
static inline void from_float(float x, f16 &y) { y.bits = kernel_host::float_to_half(x); }
static inline void from_float(float x, bf16 &y) { y.bits = kernel_host::float_to_bfloat(x); }

// ---- the tensor cores' product ---------------------------------------------------------------------------------------------

namespace kernel_host {

// One lane's fragments of m16n8k16, laid out as PTX says: with g = lane / 4 and t = lane % 4, register i of A holds row
// g + 8 (i & 1), columns 2t + 8 (i >> 1) and the next; register i of B rows 2t + 8 i and the next of column g; D[i] is row
// g + 8 (i >> 1), column 2t + (i & 1).
template <typename T>
struct Fragments { float (*d)[4]; const unsigned *a, *b; };

template <typename T>
static inline float half_word(unsigned word, int which) {
  T value;
  value.bits = (unsigned short)(word >> (16 * which));
  return to_float(value);
}

template <typename T>
static inline void multiply(Fragments<T> *const *lanes) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half) a[g + 8 * (i & 1)][2 * t + 8 * (i >> 1) + half] = half_word<T>(lanes[lane]->a[i], half);
    for (int i = 0; i < 2; ++i)
      for (int half = 0; half < 2; ++half) b[2 * t + 8 * i + half][g] = half_word<T>(lanes[lane]->b[i], half);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      float sum = (*lanes[lane]->d)[i];
      for (int k = 0; k < 16; ++k) sum += a[g + 8 * (i >> 1)][k] * b[k][2 * t + (i & 1)];
      (*lanes[lane]->d)[i] = sum;
    }
  }
}

template <typename T>
static inline void mma(Site site, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], T) {
  if (live_lanes(warp_start(current)) != 0xffffffffu) fail("mma_16x8x16 at %s:%d by a warp that is not whole", site.file, site.line);
  Fragments<T> record{&d, a, b};
  collective<Fragments<T>>(site, "mma_16x8x16", 0xffffffffu, record, multiply<T>);
}

// ---- what common.cuh has as inline PTX: matrices out of shared memory, copies into it ---------------------------------------

static inline bool is_shared(const void *at, size_t size) {
  const unsigned char *byte = (const unsigned char *)at;
  if (byte >= dynamic_storage && byte + size <= dynamic_storage + dynamic_size) return true;
  for (int i = 0; i < shared_count; ++i)
    if (byte >= shared_seen[i].at && byte + size <= (unsigned char *)shared_seen[i].at + shared_seen[i].size) return true;
  return false;
}

// 16 bytes that an instruction takes from or puts into shared memory.
static inline void check_shared_16(Site site, const char *kind, const void *at) {
  if ((uintptr_t)at & 15) fail("%s at %s:%d: an address that is no multiple of 16", kind, site.file, site.line);
  if (!is_shared(at, 16)) fail("%s at %s:%d: an address outside shared memory", kind, site.file, site.line);
}

struct MatrixLoad { const unsigned short *row; unsigned got[4]; };

// Lanes 8i..8i+7 name the rows of matrix i; lane l gets elements 2(l % 4) and the next of row l / 4, or of that column.
template <bool kTransposed>
static inline void join_matrices(MatrixLoad *const *lanes) {
  for (int lane = 0; lane < kLanes; ++lane)
    for (int i = 0; i < 4; ++i) {
      const int line = lane / 4, pair = 2 * (lane % 4);
      const unsigned low = kTransposed ? lanes[8 * i + pair]->row[line] : lanes[8 * i + line]->row[pair];
      const unsigned high = kTransposed ? lanes[8 * i + pair + 1]->row[line] : lanes[8 * i + line]->row[pair + 1];
      lanes[lane]->got[i] = low | high << 16;
    }
}

template <bool kTransposed>
static inline void load_matrices(Site site, unsigned &a, unsigned &b, unsigned &c, unsigned &d, const void *row) {
  check_shared_16(site, "load_matrices", row);
  if (live_lanes(warp_start(current)) != 0xffffffffu) fail("load_matrices at %s:%d by a warp that is not whole", site.file, site.line);
  MatrixLoad record{(const unsigned short *)row, {}};
  collective<MatrixLoad>(site, kTransposed ? "load_matrices_transposed" : "load_matrices", 0xffffffffu, record, join_matrices<kTransposed>);
  a = record.got[0];
  b = record.got[1];
  c = record.got[2];
  d = record.got[3];
}

// A copy under way: its place holds poison until the thread has waited for the copy's group.
struct Copy { void *to; unsigned char bytes[16]; long long group; };
struct Copies { Copy *all; int count, room; long long closed; };
static Copies copies[kMaxThreads];

static inline void copy_16(Site site, void *to, const void *from, bool inside) {
  check_shared_16(site, "copy_16", to);
  Copies &mine = copies[current];
  if (mine.count == mine.room) {
    mine.room = 2 * mine.room + 16;
    mine.all = (Copy *)std::realloc(mine.all, (size_t)mine.room * sizeof(Copy));
  }
  Copy &copy = mine.all[mine.count++];
  copy.to = to;
  copy.group = mine.closed;
  std::memset(copy.bytes, 0, 16);
  if ((uintptr_t)from & 15) fail("copy_16 at %s:%d: from an address that is no multiple of 16", site.file, site.line);
  if (inside) std::memcpy(copy.bytes, from, 16);
  std::memset(to, kPoison, 16);
}
static void forget_copies(int thread) { copies[thread].count = 0; }
static inline void copy_commit() { ++copies[current].closed; }
static inline void copy_wait(int newer) {
  Copies &mine = copies[current];
  int kept = 0;
  for (int i = 0; i < mine.count; ++i) {
    Copy &copy = mine.all[i];
    if (copy.group < mine.closed - newer) std::memcpy(copy.to, copy.bytes, 16);
    else mine.all[kept++] = copy;
  }
  mine.count = kept;
}

// A read through another cache.
template <typename T>
static inline T load(const T *at) { return *at; }

}  // namespace kernel_host

#define KERNEL_HOST_SITE kernel_host::Site{__FILE__, __LINE__}
#define KERNEL_HOST_SHARED(name) kernel_host::declare_shared(&name, sizeof name, #name)
#define KERNEL_HOST_DYNAMIC(type) ((type *)kernel_host::dynamic_storage)

#define __syncthreads() kernel_host::barrier(KERNEL_HOST_SITE)
#define __syncwarp(...) kernel_host::sync_warp(KERNEL_HOST_SITE __VA_OPT__(, ) __VA_ARGS__)
#define __shfl_sync(...) kernel_host::shfl(KERNEL_HOST_SITE, __VA_ARGS__)
#define __shfl_xor_sync(...) kernel_host::shfl_xor(KERNEL_HOST_SITE, __VA_ARGS__)
#define __shfl_down_sync(...) kernel_host::shfl_down(KERNEL_HOST_SITE, __VA_ARGS__)
#define __shfl_up_sync(...) kernel_host::shfl_up(KERNEL_HOST_SITE, __VA_ARGS__)
#define __ballot_sync(...) kernel_host::ballot(KERNEL_HOST_SITE, __VA_ARGS__)
#define __any_sync(mask, predicate) (kernel_host::ballot(KERNEL_HOST_SITE, mask, predicate) != 0)
#define __all_sync(mask, predicate) (kernel_host::ballot(KERNEL_HOST_SITE, mask, !(predicate)) == 0)
#define mma_16x8x16(...) kernel_host::mma(KERNEL_HOST_SITE, __VA_ARGS__)
#define load_matrices(...) kernel_host::load_matrices<false>(KERNEL_HOST_SITE, __VA_ARGS__)
#define load_matrices_transposed(...) kernel_host::load_matrices<true>(KERNEL_HOST_SITE, __VA_ARGS__)
#define copy_16(...) kernel_host::copy_16(KERNEL_HOST_SITE, __VA_ARGS__)
static inline void copy_commit() { kernel_host::copy_commit(); }
template <int newer>
static inline void copy_wait() { kernel_host::copy_wait(newer); }
#define __ldg(at) kernel_host::load(at)
#define __threadfence() ((void)0)
#define __threadfence_block() ((void)0)

// ---- arithmetic ------------------------------------------------------------------------------------------------------------

// The C library has functions of these names.
#define __expf expf
#define __logf logf
#define __log2f log2f
#define __sinf sinf
#define __cosf cosf
#define __powf powf
static inline unsigned pack(float low, float high, f16) { return kernel_host::float_to_half(low) | (unsigned)kernel_host::float_to_half(high) << 16; }
static inline unsigned pack(float low, float high, bf16) { return kernel_host::float_to_bfloat(low) | (unsigned)kernel_host::float_to_bfloat(high) << 16; }
// 2 to the x; results below the normal numbers are flushed to 0.
static inline float exp2_fast(float x) { return x < -126.0f ? 0.0f : exp2f(x); }
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fsub_rn(float x, float y) { return x - y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline double __dadd_rn(double x, double y) { return x + y; }
static inline double __dsub_rn(double x, double y) { return x - y; }
static inline double __dmul_rn(double x, double y) { return x * y; }
static inline void sincospif(float x, float *s, float *c) {
  const double angle = (double)x * 3.14159265358979323846;
  *s = (float)std::sin(angle);
  *c = (float)std::cos(angle);
}

static inline unsigned __float_as_uint(float x) { return kernel_host::bits_of(x); }
static inline float __uint_as_float(unsigned x) { return kernel_host::float_of(x); }
static inline int __float_as_int(float x) { return (int)kernel_host::bits_of(x); }
static inline float __int_as_float(int x) { return kernel_host::float_of((unsigned)x); }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline float __int2float_rn(int x) { return (float)x; }
static inline int __float2int_rn(float x) { return (int)nearbyintf(x); }
static inline int __float2int_rd(float x) { return (int)floorf(x); }

static inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((unsigned long long)x * y >> 32); }
static inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) { return (unsigned long long)((unsigned __int128)x * y >> 64); }
static inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1u) << (31 - bit);
  return reversed;
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }

// CUDA's min and max: these pairs of types and no others, so that what is ambiguous there is so here.
#define KERNEL_HOST_EXTREMA(A, B, C)                                   \
  static inline C min(A a, B b) { return (C)b < (C)a ? (C)b : (C)a; }  \
  static inline C max(A a, B b) { return (C)a < (C)b ? (C)b : (C)a; }
KERNEL_HOST_EXTREMA(int, int, int)
KERNEL_HOST_EXTREMA(int, unsigned, unsigned)
KERNEL_HOST_EXTREMA(unsigned, int, unsigned)
KERNEL_HOST_EXTREMA(unsigned, unsigned, unsigned)
KERNEL_HOST_EXTREMA(long, long, long)
KERNEL_HOST_EXTREMA(unsigned long, unsigned long, unsigned long)
KERNEL_HOST_EXTREMA(long long, long long, long long)
KERNEL_HOST_EXTREMA(long long, unsigned long long, unsigned long long)
KERNEL_HOST_EXTREMA(unsigned long long, long long, unsigned long long)
KERNEL_HOST_EXTREMA(unsigned long long, unsigned long long, unsigned long long)
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

// What every kernel of difflab includes: 16-bit element types, reductions, tensor-core products.
//
// Plain CUDA C++ without any header of the toolkit, so that NVRTC needs no include path. Where the host's compiler builds the
// kernels (crate kernel-host), KERNEL_HOST is defined and kernel_host.h supplies what the device's compiler has built in and
// what is inline PTX here.
#pragma once

#ifdef KERNEL_HOST
#include "kernel_host.h"
#else

struct f16 { unsigned short bits; };
struct bf16 { unsigned short bits; };

static __device__ __forceinline__ float to_float(float x) { return x; }
static __device__ __forceinline__ float to_float(f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
static __device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }

static __device__ __forceinline__ void from_float(float x, float &y) { y = x; }
static __device__ __forceinline__ void from_float(float x, f16 &y) {
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
}
static __device__ __forceinline__ void from_float(float x, bf16 &y) {
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
}

// d (16×8, f32) += a (16×16) · b (16×8), one warp, fragments laid out as PTX mma.m16n8k16 has them. The two 16-bit values of
// a register lie low half first.
static __device__ __forceinline__ void mma_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], f16) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
static __device__ __forceinline__ void mma_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], bf16) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8×8 matrices of 16-bit values from shared memory, one warp: lanes 8i…8i+7 give the addresses of the rows of matrix i
// (16 bytes each, so aligned), and lane l receives of each matrix row l/4, elements 2(l%4) and the next. Transposed: of each
// matrix column l/4, the rows 2(l%4) and the next.
static __device__ __forceinline__ unsigned shared_address(const void *pointer) {
  return (unsigned)__cvta_generic_to_shared(pointer);
}
static __device__ __forceinline__ void load_matrices(unsigned &a, unsigned &b, unsigned &c, unsigned &d, const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
               : "r"(shared_address(row)));
}
static __device__ __forceinline__ void load_matrices_transposed(unsigned &a, unsigned &b, unsigned &c, unsigned &d,
                                                                const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
               : "r"(shared_address(row)));
}

// 16 bytes from global to shared memory, both aligned to 16, without passing through registers; zeros where !inside, and
// `from` is then not read. What a thread has copied is there for it after copy_wait, for the block after a barrier as well.
static __device__ __forceinline__ void copy_16(void *to, const void *from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(to)), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
}
// Closes a group of copies; waits until at most `newer` groups of this thread are under way.
static __device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" : : : "memory"); }
template <int newer>
static __device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" : : "n"(newer) : "memory");
}

// Two values rounded into one register, the first in the low half.
static __device__ __forceinline__ unsigned pack(float low, float high, f16) {
  unsigned packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
static __device__ __forceinline__ unsigned pack(float low, float high, bf16) {
  unsigned packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// 2ˣ with a relative error of about 2⁻²², denormal results flushed to 0.
static __device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#endif  // KERNEL_HOST

typedef long long i64;
typedef unsigned long long u64;

// Sums and maxima over the 32 lanes of a warp, the same on every lane; over a block through `shared` (one float a warp).
static __device__ __forceinline__ float warp_sum(float x) {
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}
static __device__ __forceinline__ float warp_max(float x) {
  for (int offset = 16; offset > 0; offset >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

// The block's threads must be whole warps along x. `shared` holds 32 floats and may be used again after the call.
static __device__ __forceinline__ float block_sum(float x, float *shared) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  x = warp_sum(x);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = warp_sum(lane < warps ? shared[lane] : 0.0f);
  __syncthreads();
  return x;
}
static __device__ __forceinline__ float block_max(float x, float *shared) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  x = warp_max(x);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = warp_max(lane < warps ? shared[lane] : shared[0]);
  __syncthreads();
  return x;
}

// Operands of mma_16x8x16 from 16-bit tiles in shared memory whose rows are `stride` elements apart (a multiple of 8; an odd
// multiple has no bank conflicts). `tile` points to the first element of the 16×16 part: A as [m][k] or [k][m], and B, two
// products of 8 columns each, as [n][k] or [k][n].
template <typename T>
static __device__ __forceinline__ const T *matrix_row(const T *tile, int stride, bool rows_first) {
  const int lane = threadIdx.x & 31, first = (lane >> 3) & 1, second = lane >> 4;
  return tile + ((lane & 7) + 8 * (rows_first ? first : second)) * stride + 8 * (rows_first ? second : first);
}
template <typename T>
static __device__ __forceinline__ void load_a_mk(unsigned (&a)[4], const T *tile, int stride) {
  load_matrices(a[0], a[1], a[2], a[3], matrix_row(tile, stride, true));
}
template <typename T>
static __device__ __forceinline__ void load_a_km(unsigned (&a)[4], const T *tile, int stride) {
  load_matrices_transposed(a[0], a[1], a[2], a[3], matrix_row(tile, stride, false));
}
template <typename T>
static __device__ __forceinline__ void load_b_nk(unsigned (&b)[2][2], const T *tile, int stride) {
  load_matrices(b[0][0], b[0][1], b[1][0], b[1][1], matrix_row(tile, stride, false));
}
template <typename T>
static __device__ __forceinline__ void load_b_kn(unsigned (&b)[2][2], const T *tile, int stride) {
  load_matrices_transposed(b[0][0], b[0][1], b[1][0], b[1][1], matrix_row(tile, stride, true));
}

// Two neighbours in memory, moved together.
template <typename T>
struct alignas(2 * sizeof(T)) Pair {
  T low, high;
};

// Division of 0 … 2³¹−1 by a number known only at run time, as a multiplication (Granlund and Montgomery 1994). The host
// packs ⌈log₂ divisor⌉ and, in the low half, the multiplier: `cuda::divider`.
struct Divider {
  unsigned multiplier, shift;
  __device__ __forceinline__ explicit Divider(u64 packed) : multiplier((unsigned)packed), shift((unsigned)(packed >> 32)) {}
  __device__ __forceinline__ unsigned quotient(unsigned x) const { return (__umulhi(x, multiplier) + x) >> shift; }
};

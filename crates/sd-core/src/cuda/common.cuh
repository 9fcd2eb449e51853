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

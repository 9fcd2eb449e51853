// Kernels that break a rule each, which the executor must find.
#include "common.cuh"

extern "C" __global__ void writes_past_the_end(float *y, i64 n) { y[n] = 1.0f; }
extern "C" __global__ void reads_before_the_start(const float *x, float *y) { y[0] = x[(i64)threadIdx.x - 1]; }
extern "C" __global__ void writes_an_input(const float *x, float *y) {
  y[0] = 1.0f;
  ((float *)x)[0] = 2.0f;
}
extern "C" __global__ void overruns_shared(float *y) {
  __shared__ float tile[8];
  float *at = tile;
  at[threadIdx.x] = 1.0f;
  __syncthreads();
  y[threadIdx.x] = at[threadIdx.x];
}
extern "C" __global__ void overruns_dynamic(float *y) {
  extern __shared__ float dynamic_shared[];
  dynamic_shared[threadIdx.x] = 1.0f;
  y[threadIdx.x] = dynamic_shared[threadIdx.x];
}
extern "C" __global__ void skips_a_barrier(float *y) {
  if (threadIdx.x != 3) __syncthreads();
  y[threadIdx.x] = 1.0f;
}
extern "C" __global__ void parts_at_a_barrier(float *y) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  y[threadIdx.x] = 1.0f;
}
extern "C" __global__ void shuffles_alone(float *y) {
  if (threadIdx.x & 1) y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, y[threadIdx.x], 1);
}
extern "C" __global__ void shuffles_uninvited(float *y) { y[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.0f, 1); }
extern "C" __global__ void reads_shared_too_early(float *y) {
  __shared__ float tile[64];
  tile[threadIdx.x] = (float)threadIdx.x;
  y[threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void overflows(float *y, int n) { y[0] = (float)(n + n); }
extern "C" __global__ void misaligned(const float *x, float *y) { y[0] = ((const float4 *)(x + 1))->x; }
extern "C" __global__ void reads_undefined(float *y) {
  float local[4];
  y[threadIdx.x] = local[threadIdx.x];
}
extern "C" __global__ void never_ends(float *y, int n) {
  for (unsigned i = 0; i < 10u; i += (unsigned)n) y[0] += 1.0f;
}
// Waits for all groups of copies but the newest, and has one only.
extern "C" __global__ void reads_before_waiting(const float *x, float *y) {
  alignas(16) __shared__ float tile[4];
  copy_16(tile, x, true);
  copy_commit();
  copy_wait<1>();
  y[0] = tile[0];
}
extern "C" __global__ void copies_off_alignment(const float *x, float *y) {
  alignas(16) __shared__ float tile[8];
  copy_16(tile + 1, x, true);
  copy_commit();
  copy_wait<0>();
  y[0] = tile[1];
}
extern "C" __global__ void copies_elsewhere(const float *x, float *y) { copy_16(y, x, true); }

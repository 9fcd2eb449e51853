// A strided view of up to six axes, made contiguous in row-major order.
//
//   y[i0, …, i5] = x[i0·t0 + … + i5·t5], sizes n0 … n5 and strides t0 … t5 in elements; a stride may be 0 (broadcast)
//
// Elements are moved as bits: 2, 4 or 8 bytes each. Bytes an element: twice its size.
//
// The idea. cuda.rs joins axes that lie one in the other, then takes one of two ways:
//   gather     along the last axis, in packs of 16 bytes where stride, sizes and addresses allow, else element by element;
//              a thread finds its indices by division.
//   transpose  where the last axis is not the one with stride 1: tiles of 32×32 through shared memory, so that reading goes
//              along the axis of stride 1 (axis 4 here, the others outside) and writing along the last. A row of the tile is
//              one element longer than it holds, so that columns have no bank conflict.
#include "common.cuh"

constexpr int TILE = 32;

struct View {
  i64 size[6], stride[6];
};

// Where in x row `row` begins, rows counted over axes 0 … axes − 1.
static __device__ __forceinline__ i64 offset_of(const View &view, int axes, i64 row) {
  i64 offset = 0;
#pragma unroll
  for (int axis = 5; axis >= 0; axis--) {
    if (axis >= axes || view.size[axis] == 1) continue;
    const i64 outer = row / view.size[axis];
    offset += (row - outer * view.size[axis]) * view.stride[axis];
    row = outer;
  }
  return offset;
}

template <typename T>
static __device__ __forceinline__ void gather_packs(const View &view, i64 rows, const T *x, T *y) {
  constexpr int N = 16 / (int)sizeof(T);
  const i64 per_row = view.size[5] / N, step = gridDim.x * (i64)blockDim.x;
  for (i64 p = blockIdx.x * (i64)blockDim.x + threadIdx.x; p < rows * per_row; p += step) {
    const i64 row = p / per_row, column = p - row * per_row;
    const T *from = x + offset_of(view, 5, row) + column * N;
    *reinterpret_cast<uint4 *>(y + p * N) = *reinterpret_cast<const uint4 *>(from);
  }
}

template <typename T>
static __device__ __forceinline__ void gather(const View &view, const T *x, T *y) {
  constexpr int N = 16 / (int)sizeof(T);
  const i64 rows = view.size[0] * view.size[1] * view.size[2] * view.size[3] * view.size[4];
  bool packs = view.stride[5] == 1 && view.size[5] % N == 0 && on_a_pack(x) && on_a_pack(y);
#pragma unroll
  for (int axis = 0; axis < 5; axis++) packs = packs && (view.stride[axis] % N == 0 || view.size[axis] == 1);
  if (packs) return gather_packs(view, rows, x, y);
  const i64 step = gridDim.x * (i64)blockDim.x;
  for (i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x; i < rows * view.size[5]; i += step) y[i] = x[offset_of(view, 6, i)];
}

// Tiles of axes 4 (stride 1) and 5; the block is (32, 8), and blocks are tiles, along axis 5 fastest.
template <typename T>
static __device__ __forceinline__ void transpose(const View &view, const T *x, T *y, T (*tile)[TILE + 1]) {
  const i64 across = (view.size[5] + TILE - 1) / TILE, down = (view.size[4] + TILE - 1) / TILE;
  const i64 outer = view.size[0] * view.size[1] * view.size[2] * view.size[3];
  for (i64 t = blockIdx.x; t < outer * across * down; t += gridDim.x) {
    const i64 stack = t / (across * down), within = t - stack * across * down;
    const i64 i0 = within / across * TILE, j0 = within % across * TILE, base = offset_of(view, 4, stack);
#pragma unroll
    for (int k = threadIdx.y; k < TILE; k += 8) {
      const i64 i = i0 + threadIdx.x, j = j0 + k;
      if (i < view.size[4] && j < view.size[5]) tile[k][threadIdx.x] = x[base + i + j * view.stride[5]];
    }
    __syncthreads();
#pragma unroll
    for (int k = threadIdx.y; k < TILE; k += 8) {
      const i64 i = i0 + k, j = j0 + threadIdx.x;
      if (i < view.size[4] && j < view.size[5])
        y[(stack * view.size[4] + i) * view.size[5] + j] = tile[threadIdx.x][k];
    }
    __syncthreads();
  }
}

#define VIEW                                                                                                                 \
  i64 n0, i64 n1, i64 n2, i64 n3, i64 n4, i64 n5, i64 t0, i64 t1, i64 t2, i64 t3, i64 t4, i64 t5
#define ALL(T, suffix)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) gather_##suffix(VIEW, const T *x, T *y) {                                \
    gather(View{{n0, n1, n2, n3, n4, n5}, {t0, t1, t2, t3, t4, t5}}, x, y);                                                  \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256) transpose_##suffix(VIEW, const T *x, T *y) {                             \
    __shared__ T tile[TILE][TILE + 1];                                                                                       \
    transpose(View{{n0, n1, n2, n3, n4, n5}, {t0, t1, t2, t3, t4, t5}}, x, y, tile);                                         \
  }
ALL(float, f32)
ALL(f16, f16)
ALL(bf16, bf16)
ALL(unsigned, u32)
ALL(i64, i64)

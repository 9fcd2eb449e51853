// Layer normalisation over the last axis of x (rows, length), and its gradients.
//
//   μ = Σ x_i / length    σ² = Σ (x_i − μ)² / length    r = 1/√(σ² + eps)    x̂ = (x − μ)·r    y = γ·x̂ + β
//   dx = r·(γ·dy − Σ γ·dy/length − x̂·Σ γ·dy·x̂/length)    dγ = Σ_rows dy·x̂    dβ = Σ_rows dy
//
// γ, β, μ and r are f32; μ and r (rows) are kept by the forward for the backward.
//
// Bytes an element (s = its size): forward 2s, backward 3s while a row fits the registers of its team; longer rows 4s, and
// 7s (the statistics and both sums need passes of their own).
//
// The idea. A row belongs to a team, lanes of a warp or a block, which keeps it as it came; mean and deviation are two passes
// over registers, so nothing cancels. In the backward each thread owns one pack of columns and walks down rows, four at a
// time so that eight loads are under way; its share of dγ and dβ stays in registers until the rows are done and goes to
// `parts` (slot, 2, length). `affine` then adds the slots in their order: no atomics, the same bits every time.
//
// Launch: forward, blockDim.x / team rows a block; backward, blocks stride over rows; long, a row a block; columns, 32
// columns a block of (32, 8) threads.
#include "common.cuh"

constexpr int KEPT = 8, ROWS = 4;

// Pack k of a row.
template <typename T, bool REGULAR>
static __device__ __forceinline__ Spot at(i64 row, i64 length, unsigned k) {
  return locate_in<T, REGULAR>(row * length, length, k, 0);
}

// γ or β beside a pack: element e is column at + e of the row. Columns outside the row are not read.
template <typename T, bool REGULAR>
static __device__ __forceinline__ float column(const float *values, i64 row, i64 length, const Spot &spot, int e) {
  return inside<REGULAR>(spot, e) ? __ldg(values + (spot.at - row * length) + e) : 0.0f;
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void write(const Pack<T> &x, const float *gamma, const float *beta, T *y, i64 row, i64 length,
                                             const Spot &spot, float mean, float rstd) {
  float out[WIDTH<T>];
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) {
    const float scale = rstd * column<T, REGULAR>(gamma, row, length, spot, e);
    out[e] = (element(x, e) - mean) * scale + column<T, REGULAR>(beta, row, length, spot, e);
  }
  store_spot<T, REGULAR>(y, spot, packed(out, T{}));
}

struct Rows {
  i64 count, length;
  int per_row, team;
};

template <typename T, bool REGULAR>
static __device__ __forceinline__ void forward_row(const Rows &rows, i64 row, float eps, const T *x, const float *gamma,
                                                   const float *beta, T *y, float *means, float *rstds, float *shared) {
  const int lane = threadIdx.x % rows.team, mine = row < rows.count ? rows.per_row - lane : 0;
  Pack<T> kept[KEPT];
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < KEPT; k++)
    if (k * rows.team < mine) kept[k] = load_spot<T, REGULAR>(x, at<T, REGULAR>(row, rows.length, lane + k * rows.team));
#pragma unroll
  for (int k = 0; k < KEPT; k++)
    if (k * rows.team < mine) sum += total(kept[k]);
  const float mean = team_sum(sum, rows.team, shared) / rows.length;
  float squares = 0.0f;
#pragma unroll
  for (int k = 0; k < KEPT; k++)
    if (k * rows.team < mine)
      squares += distance<T, REGULAR>(kept[k], at<T, REGULAR>(row, rows.length, lane + k * rows.team), mean);
  const float rstd = rsqrtf(team_sum(squares, rows.team, shared) / rows.length + eps);
#pragma unroll
  for (int k = 0; k < KEPT; k++)
    if (k * rows.team < mine)
      write<T, REGULAR>(kept[k], gamma, beta, y, row, rows.length, at<T, REGULAR>(row, rows.length, lane + k * rows.team),
                        mean, rstd);
  if (lane == 0 && row < rows.count) means[row] = mean, rstds[row] = rstd;
}

template <typename T>
static __device__ __forceinline__ bool all_regular(i64 length, const void *a, const void *b, const void *c) {
  return length % WIDTH<T> == 0 && on_a_pack(a) && on_a_pack(b) && on_a_pack(c);
}

template <typename T>
static __device__ __forceinline__ void forward(const Rows &rows, float eps, const T *x, const float *gamma, const float *beta, T *y,
                                               float *means, float *rstds, float *shared) {
  const int teams = blockDim.x / rows.team;
  const bool whole = all_regular<T>(rows.length, x, y, y);
  for (i64 base = blockIdx.x * (i64)teams; base < rows.count; base += gridDim.x * (i64)teams) {
    const i64 row = base + threadIdx.x / rows.team;
    if (whole) forward_row<T, true>(rows, row, eps, x, gamma, beta, y, means, rstds, shared);
    else forward_row<T, false>(rows, row, eps, x, gamma, beta, y, means, rstds, shared);
  }
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void long_row(i64 row, i64 length, int per_row, float eps, const T *x, const float *gamma,
                                                const float *beta, T *y, float *means, float *rstds, float *shared) {
  float sum = 0.0f, squares = 0.0f;
#pragma unroll 4
  for (int k = threadIdx.x; k < per_row; k += blockDim.x)
    sum += total(load_spot<T, REGULAR>(x, at<T, REGULAR>(row, length, k)));
  const float mean = block_sum(sum, shared) / length;
#pragma unroll 4
  for (int k = threadIdx.x; k < per_row; k += blockDim.x) {
    const Spot spot = at<T, REGULAR>(row, length, k);
    squares += distance<T, REGULAR>(load_spot<T, REGULAR>(x, spot), spot, mean);
  }
  const float rstd = rsqrtf(block_sum(squares, shared) / length + eps);
#pragma unroll 2
  for (int k = threadIdx.x; k < per_row; k += blockDim.x) {
    const Spot spot = at<T, REGULAR>(row, length, k);
    write<T, REGULAR>(load_spot<T, REGULAR>(x, spot), gamma, beta, y, row, length, spot, mean, rstd);
  }
  if (threadIdx.x == 0) means[row] = mean, rstds[row] = rstd;
}

// ---- Backward --------------------------------------------------------------------------------------------------------------

// One pack of one row: its share of Σ γ·dy and Σ γ·dy·x̂.
template <typename T>
static __device__ __forceinline__ float2 shares(const Pack<T> &x, const Pack<T> &dy, const float (&gamma)[WIDTH<T>], float mean,
                                                float rstd) {
  float2 sums = make_float2(0.0f, 0.0f);
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) {
    const float g = gamma[e] * element(dy, e);
    sums.x += g;
    sums.y += g * ((element(x, e) - mean) * rstd);
  }
  return sums;
}

// dx of one pack from the row's means of γ·dy and γ·dy·x̂.
template <typename T, bool REGULAR>
static __device__ __forceinline__ void write_dx(const Pack<T> &x, const Pack<T> &dy, const float (&gamma)[WIDTH<T>], T *dx,
                                                const Spot &spot, float mean, float rstd, float2 means) {
  float out[WIDTH<T>];
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) {
    const float x_hat = (element(x, e) - mean) * rstd;
    out[e] = rstd * (gamma[e] * element(dy, e) - (means.x + x_hat * means.y));
  }
  store_spot<T, REGULAR>(dx, spot, packed(out, T{}));
}

// The rows of one team, ROWS at a time. A thread owns pack `lane` of every row, so a row must be whole packs: each then holds
// the same columns in every row. Other rows go through `long_row_backward` and `columns`.
template <typename T>
static __device__ __forceinline__ void backward_rows(const Rows &rows, const T *x, const T *dy, const float *gammas,
                                                     const float *means, const float *rstds, T *dx, float (&dgamma)[WIDTH<T>],
                                                     float (&dbeta)[WIDTH<T>], float *shared) {
  constexpr int N = WIDTH<T>;
  const int teams = blockDim.x / rows.team, lane = threadIdx.x % rows.team;
  const bool owner = lane < rows.per_row;
  float gamma[N];
#pragma unroll
  for (int e = 0; e < N; e++) gamma[e] = owner ? __ldg(gammas + lane * N + e) : 0.0f;
  for (i64 base = blockIdx.x * (i64)teams * ROWS; base < rows.count; base += gridDim.x * (i64)teams * ROWS) {
    const i64 first = base + threadIdx.x / rows.team;
    Pack<T> a[ROWS] = {}, b[ROWS] = {};
    float mean[ROWS], rstd[ROWS], sums[2 * ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      const i64 row = first + i * teams;
      const bool there = row < rows.count;
      mean[i] = there ? __ldg(means + row) : 0.0f, rstd[i] = there ? __ldg(rstds + row) : 0.0f;
      if (!there || !owner) continue;
      a[i] = load_part(x + row * rows.length + lane * N, 0, N, T{});
      b[i] = load_part(dy + row * rows.length + lane * N, 0, N, T{});
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      const float2 part = shares<T>(a[i], b[i], gamma, mean[i], rstd[i]);
      sums[2 * i] = part.x, sums[2 * i + 1] = part.y;
#pragma unroll
      for (int e = 0; e < N; e++) {
        dgamma[e] += element(b[i], e) * ((element(a[i], e) - mean[i]) * rstd[i]);
        dbeta[e] += element(b[i], e);
      }
    }
    team_sums(sums, rows.team, shared);
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      const i64 row = first + i * teams;
      if (row >= rows.count || !owner) continue;
      const float2 both = make_float2(sums[2 * i] / rows.length, sums[2 * i + 1] / rows.length);
      write_dx<T, false>(a[i], b[i], gamma, dx, at<T, true>(row, rows.length, lane), mean[i], rstd[i], both);
    }
  }
}

// Adds the teams of a warp, and gives the slot's columns to `parts`: a slot is a warp where teams are lanes, else the block.
template <typename T>
static __device__ __forceinline__ void write_parts(const Rows &rows, float (&dgamma)[WIDTH<T>], float (&dbeta)[WIDTH<T>],
                                                   float *parts) {
  constexpr int N = WIDTH<T>;
  const int lane = threadIdx.x % rows.team;
  for (int offset = rows.team; offset < 32; offset <<= 1)
#pragma unroll
    for (int e = 0; e < N; e++) {
      dgamma[e] += __shfl_xor_sync(0xffffffffu, dgamma[e], offset);
      dbeta[e] += __shfl_xor_sync(0xffffffffu, dbeta[e], offset);
    }
  const bool warps = rows.team <= 32;
  if (lane >= rows.per_row || (warps && (threadIdx.x & 31) != lane)) return;
  const i64 slot = warps ? blockIdx.x * (i64)(blockDim.x >> 5) + (threadIdx.x >> 5) : blockIdx.x;
  float *out = parts + slot * 2 * rows.length + lane * N;
#pragma unroll
  for (int e = 0; e < N; e++) out[e] = dgamma[e], out[rows.length + e] = dbeta[e];
}

template <typename T>
static __device__ __forceinline__ void backward(const Rows &rows, const T *x, const T *dy, const float *gamma, const float *mean,
                                                const float *rstd, T *dx, float *parts, float *shared) {
  float dgamma[WIDTH<T>] = {}, dbeta[WIDTH<T>] = {};
  backward_rows(rows, x, dy, gamma, mean, rstd, dx, dgamma, dbeta, shared);
  write_parts<T>(rows, dgamma, dbeta, parts);
}

// dx of a row of any length and alignment, a block a row.
template <typename T, bool REGULAR>
static __device__ __forceinline__ void long_row_backward(i64 row, i64 length, int per_row, const T *x, const T *dy,
                                                         const float *gammas, float mean, float rstd, T *dx, float *shared) {
  constexpr int N = WIDTH<T>;
  float sums[2] = {0.0f, 0.0f};
  float gamma[N];
#pragma unroll 2
  for (int k = threadIdx.x; k < per_row; k += blockDim.x) {
    const Spot spot = at<T, REGULAR>(row, length, k);
    const Pack<T> a = load_spot<T, REGULAR>(x, spot), b = load_spot<T, REGULAR>(dy, spot);
#pragma unroll
    for (int e = 0; e < N; e++) gamma[e] = column<T, REGULAR>(gammas, row, length, spot, e);
    const float2 part = shares<T>(a, b, gamma, mean, rstd);
    sums[0] += part.x, sums[1] += part.y;
  }
  team_sums(sums, blockDim.x, shared);
  const float2 both = make_float2(sums[0] / length, sums[1] / length);
#pragma unroll 2
  for (int k = threadIdx.x; k < per_row; k += blockDim.x) {
    const Spot spot = at<T, REGULAR>(row, length, k);
    const Pack<T> a = load_spot<T, REGULAR>(x, spot), b = load_spot<T, REGULAR>(dy, spot);
#pragma unroll
    for (int e = 0; e < N; e++) gamma[e] = column<T, REGULAR>(gammas, row, length, spot, e);
    write_dx<T, REGULAR>(a, b, gamma, dx, spot, mean, rstd, both);
  }
}

// dγ and dβ of 32 columns over rows blockIdx.y, blockIdx.y + gridDim.y, …: threads (32, 8), a row each, added at the end.
template <typename T>
static __device__ __forceinline__ void columns(i64 rows, i64 length, const T *x, const T *dy, const float *mean,
                                               const float *rstd, float *parts, float (*shared)[8][32]) {
  const i64 c = blockIdx.x * 32ll + threadIdx.x;
  float dgamma = 0.0f, dbeta = 0.0f;
  if (c < length)
#pragma unroll 4
    for (i64 row = blockIdx.y * 8ll + threadIdx.y; row < rows; row += gridDim.y * 8ll) {
      const float g = to_float(dy[row * length + c]);
      dbeta += g;
      dgamma += g * ((to_float(x[row * length + c]) - __ldg(mean + row)) * __ldg(rstd + row));
    }
  shared[0][threadIdx.y][threadIdx.x] = dgamma, shared[1][threadIdx.y][threadIdx.x] = dbeta;
  __syncthreads();
  if (threadIdx.y >= 2 || c >= length) return;
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; i++) sum += shared[threadIdx.y][i][threadIdx.x];
  parts[(blockIdx.y * 2ll + threadIdx.y) * length + c] = sum;
}

// (dγ | dβ) = Σ over slots of parts (slots, columns), columns = 2·length: 32 columns a block of (32, 32) threads, each of which
// takes every 32nd slot; then their sums in their order.
extern "C" __global__ void __launch_bounds__(1024) layer_norm_affine(i64 columns, int slots, const float *parts, float *out) {
  __shared__ float shared[32][32];
  const i64 c = blockIdx.x * 32ll + threadIdx.x;
  float sum = 0.0f;
  if (c < columns)
#pragma unroll 8
    for (int slot = threadIdx.y; slot < slots; slot += 32) sum += parts[slot * columns + c];
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= columns) return;
  sum = 0.0f;
#pragma unroll
  for (int i = 0; i < 32; i++) sum += shared[i][threadIdx.x];
  out[c] = sum;
}

#define ALL(T, suffix)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(512, 1)                                                                       \
      layer_norm_##suffix(i64 rows, i64 length, int per_row, int team, float eps, const T *x, const float *gamma,            \
                          const float *beta, T *y, float *mean, float *rstd) {                                               \
    __shared__ float shared[32];                                                                                              \
    forward(Rows{rows, length, per_row, team}, eps, x, gamma, beta, y, mean, rstd, shared);                                  \
  }                                                                                                                           \
  extern "C" __global__ void __launch_bounds__(512, 1)                                                                       \
      layer_norm_long_##suffix(i64 rows, i64 length, int per_row, float eps, const T *x, const float *gamma,                 \
                               const float *beta, T *y, float *mean, float *rstd) {                                          \
    __shared__ float shared[32];                                                                                              \
    const bool whole = all_regular<T>(length, x, y, y);                                                                      \
    for (i64 row = blockIdx.x; row < rows; row += gridDim.x)                                                                 \
      if (whole) long_row<T, true>(row, length, per_row, eps, x, gamma, beta, y, mean, rstd, shared);                        \
      else long_row<T, false>(row, length, per_row, eps, x, gamma, beta, y, mean, rstd, shared);                             \
  }                                                                                                                           \
  extern "C" __global__ void __launch_bounds__(512, 1)                                                                       \
      layer_norm_backward_##suffix(i64 rows, i64 length, int per_row, int team, const T *x, const T *dy, const float *gamma, \
                                   const float *mean, const float *rstd, T *dx, float *parts) {                              \
    __shared__ float shared[32 * 2 * ROWS];                                                                                  \
    backward(Rows{rows, length, per_row, team}, x, dy, gamma, mean, rstd, dx, parts, shared);                                \
  }                                                                                                                           \
  extern "C" __global__ void __launch_bounds__(512, 1)                                                                       \
      layer_norm_long_backward_##suffix(i64 rows, i64 length, int per_row, const T *x, const T *dy, const float *gamma,      \
                                        const float *mean, const float *rstd, T *dx) {                                       \
    __shared__ float shared[64];                                                                                              \
    const bool whole = all_regular<T>(length, x, dy, dx);                                                                    \
    for (i64 row = blockIdx.x; row < rows; row += gridDim.x)                                                                 \
      if (whole) long_row_backward<T, true>(row, length, per_row, x, dy, gamma, mean[row], rstd[row], dx, shared);           \
      else long_row_backward<T, false>(row, length, per_row, x, dy, gamma, mean[row], rstd[row], dx, shared);                \
  }                                                                                                                           \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      layer_norm_columns_##suffix(i64 rows, i64 length, const T *x, const T *dy, const float *mean, const float *rstd,       \
                                  float *parts) {                                                                            \
    __shared__ float shared[2][8][32];                                                                                       \
    columns(rows, length, x, dy, mean, rstd, parts, shared);                                                                 \
  }
ALL(float, f32)
ALL(f16, f16)
ALL(bf16, bf16)

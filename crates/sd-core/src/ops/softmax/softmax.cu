// Softmax over the last axis of (rows, length), and its gradient.
//
//   y_i = e^{x_i − max} / Σ_j e^{x_j − max}          dx_i = y_i·(dy_i − Σ_j y_j·dy_j)
//
// Bytes an element (s = its size): forward 2s, backward 3s, where a row fits into the registers of a team; longer rows
// are read twice, 3s and 5s.
//
// The idea. A row belongs to a team: 4 to 32 lanes of a warp, so that short rows share one, or a whole block. The row is read
// once, kept as it came (16 bytes in 4 registers) and unpacked anew for the maximum, the sum and the result; e^x twice is
// cheaper than the registers to keep it. Rows of any length and alignment: packs lie on multiples of 16 bytes of the tensor,
// and those at a row's ends are masked (x = −∞ there). Rows longer than a block's registers go through `long`: a running
// maximum and sum a thread in one pass (Milakov and Gimelshein 2018), joined over the block, then a second reading.
//
// Launch: forward and backward, blockDim.x / team rows a block; long, a row a block. Rows beyond the grid are looped over.
#include "common.cuh"

// Packs a thread keeps of a row.
constexpr int KEPT = 8, KEPT_BACKWARD = 4;

// Pack k of a row.
template <typename T, bool REGULAR>
static __device__ __forceinline__ Spot at(const Planes &row, unsigned k) {
  return locate_in<T, REGULAR>(row.first * row.positions, row.positions, k, 0);
}

static __device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }

// A pack of x with −∞ where it is not the row's: that changes neither maximum nor sum.
template <typename T, bool REGULAR>
static __device__ __forceinline__ Pack<T> load(const T *x, const Spot &spot) {
  T outside;
  from_float(minus_infinity(), outside);
  return load_spot<T, REGULAR>(x, spot, outside);
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void forward_row(const Planes &row, bool there, const T *x, T *y, int team, float *shared) {
  constexpr int N = WIDTH<T>;
  const int lane = threadIdx.x % team, mine = there ? (int)row.per_plane - lane : 0;
  Pack<T> kept[KEPT];
  float largest = minus_infinity();
#pragma unroll
  for (int k = 0; k < KEPT; k++) {
    if (k * team >= mine) continue;
    kept[k] = load<T, REGULAR>(x, at<T, REGULAR>(row, lane + k * team));
  }
#pragma unroll
  for (int k = 0; k < KEPT; k++) {
    if (k * team >= mine) continue;
#pragma unroll
    for (int e = 0; e < N; e++) largest = fmaxf(largest, element(kept[k], e));
  }
  largest = team_max(largest, team, shared);
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < KEPT; k++) {
    if (k * team >= mine) continue;
#pragma unroll
    for (int e = 0; e < N; e++) sum += exponential(element(kept[k], e) - largest, T{});
  }
  const float scale = 1.0f / team_sum(sum, team, shared);
#pragma unroll
  for (int k = 0; k < KEPT; k++) {
    if (k * team >= mine) continue;
    float out[N];
#pragma unroll
    for (int e = 0; e < N; e++) out[e] = exponential(element(kept[k], e) - largest, T{}) * scale;
    store_spot<T, REGULAR>(y, at<T, REGULAR>(row, lane + k * team), packed(out, T{}));
  }
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void backward_row(const Planes &row, bool there, const T *y, const T *dy, T *dx, int team,
                                                    float *shared) {
  constexpr int N = WIDTH<T>;
  const int lane = threadIdx.x % team, mine = there ? (int)row.per_plane - lane : 0;
  Pack<T> kept[KEPT_BACKWARD], gradient[KEPT_BACKWARD];
#pragma unroll
  for (int k = 0; k < KEPT_BACKWARD; k++) {
    if (k * team >= mine) continue;
    const Spot spot = at<T, REGULAR>(row, lane + k * team);
    kept[k] = load_spot<T, REGULAR>(y, spot);
    gradient[k] = load_spot<T, REGULAR>(dy, spot);
  }
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < KEPT_BACKWARD; k++) {
    if (k * team >= mine) continue;
#pragma unroll
    for (int e = 0; e < N; e++) sum += element(kept[k], e) * element(gradient[k], e);
  }
  sum = team_sum(sum, team, shared);
#pragma unroll
  for (int k = 0; k < KEPT_BACKWARD; k++) {
    if (k * team >= mine) continue;
    float out[N];
#pragma unroll
    for (int e = 0; e < N; e++) out[e] = element(kept[k], e) * (element(gradient[k], e) - sum);
    store_spot<T, REGULAR>(dx, at<T, REGULAR>(row, lane + k * team), packed(out, T{}));
  }
}

// Calls body(row as a set of one plane, whether there is such a row) for the rows of this thread's team; every thread of the
// block makes the same number of calls.
template <typename F>
static __device__ __forceinline__ void each_row(i64 rows, i64 length, int per_row, int team, F body) {
  const int teams = blockDim.x / team;
  for (i64 base = blockIdx.x * (i64)teams; base < rows; base += gridDim.x * (i64)teams) {
    const i64 row = base + threadIdx.x / team;
    body(Planes{row, 0, length, (unsigned)per_row}, row < rows);
  }
}

template <typename T>
static __device__ __forceinline__ void forward(i64 rows, i64 length, int per_row, int team, const T *x, T *y, float *shared) {
  each_row(rows, length, per_row, team, [=](const Planes &row, bool there) {
    if (regular<T>(row, x, y, y)) forward_row<T, true>(row, there, x, y, team, shared);
    else forward_row<T, false>(row, there, x, y, team, shared);
  });
}

template <typename T>
static __device__ __forceinline__ void backward(i64 rows, i64 length, int per_row, int team, const T *y, const T *dy, T *dx,
                                                float *shared) {
  each_row(rows, length, per_row, team, [=](const Planes &row, bool there) {
    if (regular<T>(row, y, dy, dx)) backward_row<T, true>(row, there, y, dy, dx, team, shared);
    else backward_row<T, false>(row, there, y, dy, dx, team, shared);
  });
}

// Takes the elements of a pack into a running maximum and Σ e^{x − maximum}. Before the first finite element the sum is 0.
template <typename T>
static __device__ __forceinline__ void take(const Pack<T> &x, float &largest, float &sum) {
  constexpr int N = WIDTH<T>;
  float here = largest;
#pragma unroll
  for (int e = 0; e < N; e++) here = fmaxf(here, element(x, e));
  const float base = here == minus_infinity() ? 0.0f : here;
  sum *= exponential(largest - base, T{});
#pragma unroll
  for (int e = 0; e < N; e++) sum += exponential(element(x, e) - base, T{});
  largest = here;
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void long_row(const Planes &row, const T *x, T *y, float *shared) {
  constexpr int N = WIDTH<T>;
  float largest = minus_infinity(), sum = 0.0f;
#pragma unroll 4
  for (unsigned k = threadIdx.x; k < row.per_plane; k += blockDim.x) {
    take(load<T, REGULAR>(x, at<T, REGULAR>(row, k)), largest, sum);
  }
  const float all = block_max(largest, shared);
  const float share = largest == minus_infinity() && all != minus_infinity() ? 0.0f : sum * expf(largest - all);
  const float scale = 1.0f / block_sum(share, shared);
#pragma unroll 4
  for (unsigned k = threadIdx.x; k < row.per_plane; k += blockDim.x) {
    const Spot spot = at<T, REGULAR>(row, k);
    const Pack<T> pack = load_spot<T, REGULAR>(x, spot);
    float out[N];
#pragma unroll
    for (int e = 0; e < N; e++) out[e] = exponential(element(pack, e) - all, T{}) * scale;
    store_spot<T, REGULAR>(y, spot, packed(out, T{}));
  }
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void long_row_backward(const Planes &row, const T *y, const T *dy, T *dx, float *shared) {
  constexpr int N = WIDTH<T>;
  float sum = 0.0f;
#pragma unroll 4
  for (unsigned k = threadIdx.x; k < row.per_plane; k += blockDim.x) {
    const Spot spot = at<T, REGULAR>(row, k);
    const Pack<T> a = load_spot<T, REGULAR>(y, spot), b = load_spot<T, REGULAR>(dy, spot);
#pragma unroll
    for (int e = 0; e < N; e++) sum += element(a, e) * element(b, e);
  }
  sum = block_sum(sum, shared);
#pragma unroll 4
  for (unsigned k = threadIdx.x; k < row.per_plane; k += blockDim.x) {
    const Spot spot = at<T, REGULAR>(row, k);
    const Pack<T> a = load_spot<T, REGULAR>(y, spot), b = load_spot<T, REGULAR>(dy, spot);
    float out[N];
#pragma unroll
    for (int e = 0; e < N; e++) out[e] = element(a, e) * (element(b, e) - sum);
    store_spot<T, REGULAR>(dx, spot, packed(out, T{}));
  }
}

template <typename T>
static __device__ __forceinline__ void long_forward(i64 rows, i64 length, int per_row, const T *x, T *y, float *shared) {
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const Planes plane = {row, 0, length, (unsigned)per_row};
    if (regular<T>(plane, x, y, y)) long_row<T, true>(plane, x, y, shared);
    else long_row<T, false>(plane, x, y, shared);
  }
}

template <typename T>
static __device__ __forceinline__ void long_backward(i64 rows, i64 length, int per_row, const T *y, const T *dy, T *dx,
                                                     float *shared) {
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const Planes plane = {row, 0, length, (unsigned)per_row};
    if (regular<T>(plane, y, dy, dx)) long_row_backward<T, true>(plane, y, dy, dx, shared);
    else long_row_backward<T, false>(plane, y, dy, dx, shared);
  }
}

#define ALL(T, suffix)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(512, 1)                                                                         \
      softmax_##suffix(i64 rows, i64 length, int per_row, int team, const T *x, T *y) {                                      \
    __shared__ float shared[32];                                                                                              \
    forward(rows, length, per_row, team, x, y, shared);                                                                       \
  }                                                                                                                           \
  extern "C" __global__ void __launch_bounds__(512, 1)                                                                         \
      softmax_backward_##suffix(i64 rows, i64 length, int per_row, int team, const T *y, const T *dy, T *dx) {               \
    __shared__ float shared[32];                                                                                              \
    backward(rows, length, per_row, team, y, dy, dx, shared);                                                                 \
  }                                                                                                                           \
  extern "C" __global__ void __launch_bounds__(512, 1)                                                                         \
      softmax_long_##suffix(i64 rows, i64 length, int per_row, const T *x, T *y) {                                           \
    __shared__ float shared[32];                                                                                              \
    long_forward(rows, length, per_row, x, y, shared);                                                                        \
  }                                                                                                                           \
  extern "C" __global__ void __launch_bounds__(512, 1)                                                                         \
      softmax_long_backward_##suffix(i64 rows, i64 length, int per_row, const T *y, const T *dy, T *dx) {                    \
    __shared__ float shared[32];                                                                                              \
    long_backward(rows, length, per_row, y, dy, dx, shared);                                                                  \
  }
ALL(float, f32)
ALL(f16, f16)
ALL(bf16, bf16)

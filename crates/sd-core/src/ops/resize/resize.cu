// Bilinear resize of x (planes, H, W) to y (planes, h, w), and its gradient: PyTorch's `interpolate(mode="bilinear")` without
// antialiasing.
//
//   along each axis, output index o lies at   s = max(0, (o + 1/2)·I/O − 1/2)   or, corners aligned,   s = o·(I − 1)/(O − 1)
//   low = ⌊s⌋, high = min(low + 1, I − 1), λ = s − low;   y = Σ of the four x with the products of (1 − λ) and λ
//
// Bytes an element of y (s = its size), up-sampling by two: forward 1.25s, backward 1.25s; x is found in the cache for all but
// the first of its uses.
//
// The idea. Forward: a thread makes a pack of consecutive y of one row. Each column of x that they need is blended vertically
// once, and neighbours share it. Backward gathers, so nothing is added atomically: a thread owns one column of dx and STRIP of
// its rows, and walks down the rows of dy that touch them. Their horizontal sum, over the outputs whose low or high is the
// column, is taken once and goes to the (at most two) rows of dx it belongs to; as s grows with o these come in order. Weights
// are the forward's own arithmetic.
//
// Launch: any grid along x. `scale_h`, `scale_w` are I/O or (I − 1)/(O − 1), computed in f32 as PyTorch does.
#include "common.cuh"

constexpr int STRIP = 8, WIDE = 4;

struct Axis {
  int in, out, corners;
  float scale;
};

struct Tap {
  int low, high;
  float weight;  // λ: that of `high`; low has 1 − λ
};

static __device__ __forceinline__ Tap tap(const Axis &axis, int o) {
  const float s = axis.corners ? o * axis.scale : fmaxf(0.0f, (o + 0.5f) * axis.scale - 0.5f);
  const int low = min((int)s, axis.in - 1);
  return {low, min(low + 1, axis.in - 1), s - low};
}

// The weight of input index i in output o.
static __device__ __forceinline__ float weight_of(const Tap &t, int i) {
  return (t.low == i ? 1.0f - t.weight : 0.0f) + (t.high == i ? t.weight : 0.0f);
}

// The first output whose taps reach input index i or a later one. `high` never falls as o grows.
static __device__ __forceinline__ int first_output(const Axis &axis, int i) {
  if (i == 0 || axis.scale == 0.0f) return 0;
  const float inverse = axis.corners ? (i - 1) / axis.scale : (i - 0.5f) / axis.scale - 0.5f;
  // Two below the estimate, and a little more where f32 no longer tells neighbours apart.
  int o = max(0, (int)(inverse - 2.0f - inverse * 1e-5f));
  while (o < axis.out && tap(axis, o).high < i) o++;
  return o;
}

template <typename T>
static __device__ __forceinline__ void forward(i64 planes, const Axis &rows, const Axis &columns, const T *x, T *y) {
  constexpr int N = WIDTH<T>;
  const int per_row = (columns.out + N - 1) / N;
  const i64 packs = planes * rows.out * per_row, step = gridDim.x * (i64)blockDim.x;
  for (i64 p = blockIdx.x * (i64)blockDim.x + threadIdx.x; p < packs; p += step) {
    const i64 row = p / per_row;
    const int first = (int)(p - row * per_row) * N, last = min(first + N, columns.out);
    const i64 plane = row / rows.out;
    const Tap v = tap(rows, (int)(row - plane * rows.out));
    const T *upper = x + (plane * rows.in + v.low) * columns.in, *lower = x + (plane * rows.in + v.high) * columns.in;
    const auto blended = [=](int column) {
      const float a = to_float(upper[column]), b = to_float(lower[column]);
      return (1.0f - v.weight) * a + v.weight * b;
    };
    int have = -1, ahead = -1;
    float low = 0.0f, high = 0.0f, out[N];
#pragma unroll
    for (int e = 0; e < N; e++) {
      const Tap h = tap(columns, min(first + e, last - 1));
      if (h.low != have) low = h.low == ahead ? high : blended(h.low), have = h.low;
      if (h.high != ahead) high = blended(h.high), ahead = h.high;
      out[e] = (1.0f - h.weight) * low + h.weight * high;
    }
    store_part(y + row * columns.out + first, packed(out, T{}), 0, last - first);
  }
}

// Σ over the outputs of one row of dy that reach column `j`, [first, …); the weights of the first WIDE are at hand.
template <typename T>
static __device__ __forceinline__ float horizontal(const T *row, const Axis &columns, int j, int first, int count,
                                                   const float (&weights)[WIDE]) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < WIDE; i++)
    if (i < count) sum += weights[i] * to_float(row[first + i]);
  for (int i = WIDE; i < count; i++) sum += weight_of(tap(columns, first + i), j) * to_float(row[first + i]);
  return sum;
}

template <typename T>
static __device__ __forceinline__ void backward(i64 planes, const Axis &rows, const Axis &columns, const T *dy, T *dx) {
  const int strips = (rows.in + STRIP - 1) / STRIP;
  const i64 items = planes * strips * columns.in, step = gridDim.x * (i64)blockDim.x;
  for (i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x; item < items; item += step) {
    const i64 strip = item / columns.in, plane = strip / strips;
    const int j = (int)(item - strip * columns.in), begin = (int)(strip - plane * strips) * STRIP;
    const int end = min(begin + STRIP, rows.in);
    const int first = first_output(columns, j);
    int count = 0;
    while (first + count < columns.out && tap(columns, first + count).low <= j) count++;
    float weights[WIDE];
#pragma unroll
    for (int i = 0; i < WIDE; i++) weights[i] = i < count ? weight_of(tap(columns, first + i), j) : 0.0f;
    // here: what row `i` of dx has gathered; next: what row i + 1 has.
    int i = begin;
    float here = 0.0f, next = 0.0f;
    const auto flush = [&]() {
      from_float(here, dx[(plane * rows.in + i) * columns.in + j]);
      here = next, next = 0.0f, i++;
    };
    for (int o = first_output(rows, begin); o < rows.out; o++) {
      const Tap v = tap(rows, o);
      if (v.low >= end) break;
      while (i < v.low) flush();
      const float sum = horizontal(dy + (plane * rows.out + o) * columns.out, columns, j, first, count, weights);
      here += weight_of(v, i) * sum;
      if (i + 1 < end) next += weight_of(v, i + 1) * sum;
    }
    while (i < end) flush();
  }
}

#define ALL(T, suffix)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      resize_##suffix(i64 planes, int in_h, int in_w, int out_h, int out_w, int corners, float scale_h, float scale_w,       \
                      const T *x, T *y) {                                                                                    \
    forward(planes, Axis{in_h, out_h, corners, scale_h}, Axis{in_w, out_w, corners, scale_w}, x, y);                         \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      resize_backward_##suffix(i64 planes, int in_h, int in_w, int out_h, int out_w, int corners, float scale_h,             \
                               float scale_w, const T *dy, T *dx) {                                                          \
    backward(planes, Axis{in_h, out_h, corners, scale_h}, Axis{in_w, out_w, corners, scale_w}, dy, dx);                      \
  }
ALL(float, f32)
ALL(f16, f16)
ALL(bf16, bf16)

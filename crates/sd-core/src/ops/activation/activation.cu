// Activations and their gradients, element by element.
//
//   silu(x) = x·σ(x)                      σ(x) = 1/(1 + e^{−x})
//   gelu(x) = x·Φ(x)                      Φ(x) = (1 + erf(x/√2))/2
//   gelu_tanh(x) = x·(1 + tanh u)/2       u = √(2/π)·(x + 0.044715·x³); (1 + tanh u)/2 = σ(2u)
//   quick_gelu(x) = x·σ(1.702·x)
//   geglu(u, g) = u·gelu(g)               (u, g) the halves of the last axis of x (rows, 2·width)
//
// Backward: dx = dy·f'(x); for geglu du = dy·gelu(g), dg = dy·u·gelu'(g).
//
// Bytes an element of y (s = size of an element): forward 2s, backward 3s; geglu forward 3s, backward 5s. All of it is
// bandwidth, so a thread moves 16 bytes at a time and has four such loads under way.
//
// Launch: any grid along x; cuda.rs gives a block 4 packs a thread.
#include "common.cuh"

struct Silu {
  template <typename T>
  static __device__ __forceinline__ float value(float x, T type) { return x * sigmoid(x, type); }
  template <typename T>
  static __device__ __forceinline__ float slope(float x, T type) {
    const float s = sigmoid(x, type);
    return s * (1.0f + x * (1.0f - s));
  }
};

struct Gelu {
  template <typename T>
  static __device__ __forceinline__ float value(float x, T) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }
  template <typename T>
  static __device__ __forceinline__ float slope(float x, T type) {
    const float density = 0.39894228f * exponential(-0.5f * x * x, type);
    return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * density;
  }
};

struct GeluTanh {
  static constexpr float TWO_ROOT = 1.5957691f, CUBE = 0.044715f;  // 2·√(2/π)
  template <typename T>
  static __device__ __forceinline__ float value(float x, T type) {
    return x * sigmoid(TWO_ROOT * (x + CUBE * x * x * x), type);
  }
  template <typename T>
  static __device__ __forceinline__ float slope(float x, T type) {
    const float s = sigmoid(TWO_ROOT * (x + CUBE * x * x * x), type);
    return s + x * s * (1.0f - s) * TWO_ROOT * (1.0f + 3.0f * CUBE * x * x);
  }
};

struct QuickGelu {
  template <typename T>
  static __device__ __forceinline__ float value(float x, T type) { return x * sigmoid(1.702f * x, type); }
  template <typename T>
  static __device__ __forceinline__ float slope(float x, T type) {
    const float s = sigmoid(1.702f * x, type);
    return s + 1.702f * x * s * (1.0f - s);
  }
};

template <typename A, typename T>
static __device__ __forceinline__ void forward(i64 n, const T *x, T *y) {
  const T *const in[1] = {x};
  map_elements(n, in, y, [](const float (&a)[1]) { return A::value(a[0], T{}); });
}

template <typename A, typename T>
static __device__ __forceinline__ void backward(i64 n, const T *x, const T *dy, T *dx) {
  const T *const in[2] = {x, dy};
  map_elements(n, in, dx, [](const float (&a)[2]) { return a[1] * A::slope(a[0], T{}); });
}

// Where pack `offset` after (row, column) lies: the index in a tensor of rows of `width` packs, and in one of twice that.
struct Halves {
  i64 single, twice;
};
static __device__ __forceinline__ Halves halves(i64 row, unsigned column, unsigned offset, unsigned width) {
  const unsigned moved = column + offset, rows = moved / width;
  const i64 at = row + rows;
  return {at * width + (moved - rows * width), 2 * at * width + (moved - rows * width)};
}

constexpr int DEEP = 4;

// Calls body(Halves) for every pack of a (rows, width) tensor; width in packs.
template <typename F>
static __device__ __forceinline__ void each_pack(i64 rows, unsigned width, F body) {
  const i64 tile = (i64)DEEP * blockDim.x;
  for (i64 base = blockIdx.x * tile; base < rows * width; base += gridDim.x * tile) {
    const i64 row = base / width;
    const unsigned column = (unsigned)(base - row * width);
#pragma unroll
    for (int d = 0; d < DEEP; d++) {
      const unsigned offset = d * blockDim.x + threadIdx.x;
      if (base + offset < rows * width) body(halves(row, column, offset, width));
    }
  }
}

template <typename T>
static __device__ __forceinline__ void geglu(i64 rows, i64 width, const T *x, T *y) {
  constexpr int N = WIDTH<T>;
  if (width % N == 0 && on_a_pack(x) && on_a_pack(y)) {
    each_pack(rows, (unsigned)(width / N), [=](const Halves &at) {
      const Pack<T> u = load_pack(x + at.twice * N), g = load_pack(x + at.twice * N + width);
      float out[N];
#pragma unroll
      for (int e = 0; e < N; e++) out[e] = element(u, e) * Gelu::value(element(g, e), T{});
      store_pack(y + at.single * N, packed(out, T{}));
    });
    return;
  }
  for (i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x; i < rows * width; i += gridDim.x * (i64)blockDim.x) {
    const T *u = x + i + i / width * width;
    from_float(to_float(u[0]) * Gelu::value(to_float(u[width]), T{}), y[i]);
  }
}

template <typename T>
static __device__ __forceinline__ void geglu_backward(i64 rows, i64 width, const T *x, const T *dy, T *dx) {
  constexpr int N = WIDTH<T>;
  if (width % N == 0 && on_a_pack(x) && on_a_pack(dy) && on_a_pack(dx)) {
    each_pack(rows, (unsigned)(width / N), [=](const Halves &at) {
      const Pack<T> u = load_pack(x + at.twice * N), g = load_pack(x + at.twice * N + width);
      const Pack<T> d = load_pack(dy + at.single * N);
      float du[N], dg[N];
#pragma unroll
      for (int e = 0; e < N; e++) {
        du[e] = element(d, e) * Gelu::value(element(g, e), T{});
        dg[e] = element(d, e) * element(u, e) * Gelu::slope(element(g, e), T{});
      }
      store_pack(dx + at.twice * N, packed(du, T{}));
      store_pack(dx + at.twice * N + width, packed(dg, T{}));
    });
    return;
  }
  for (i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x; i < rows * width; i += gridDim.x * (i64)blockDim.x) {
    const i64 at = i + i / width * width;
    const float u = to_float(x[at]), g = to_float(x[at + width]), d = to_float(dy[i]);
    from_float(d * Gelu::value(g, T{}), dx[at]);
    from_float(d * u * Gelu::slope(g, T{}), dx[at + width]);
  }
}

#define MAP(name, activation, T, suffix)                                                                                     \
  extern "C" __global__ void __launch_bounds__(256) name##_##suffix(i64 n, const T *x, T *y) {                             \
    forward<activation>(n, x, y);                                                                                             \
  }                                                                                                                           \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      name##_backward_##suffix(i64 n, const T *x, const T *dy, T *dx) {                                                      \
    backward<activation>(n, x, dy, dx);                                                                                       \
  }
#define ALL(T, suffix)                                                                                                       \
  MAP(silu, Silu, T, suffix)                                                                                                  \
  MAP(gelu, Gelu, T, suffix)                                                                                                  \
  MAP(gelu_tanh, GeluTanh, T, suffix)                                                                                         \
  MAP(quick_gelu, QuickGelu, T, suffix)                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) geglu_##suffix(i64 rows, i64 width, const T *x, T *y) {                  \
    geglu(rows, width, x, y);                                                                                                 \
  }                                                                                                                           \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      geglu_backward_##suffix(i64 rows, i64 width, const T *x, const T *dy, T *dx) {                                         \
    geglu_backward(rows, width, x, dy, dx);                                                                                   \
  }
ALL(float, f32)
ALL(f16, f16)
ALL(bf16, bf16)

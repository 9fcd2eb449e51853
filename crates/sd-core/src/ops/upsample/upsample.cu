// Nearest up-sampling by two of x (planes, H, W), and its gradient.
//
//   y[p, i, j] = x[p, i/2, j/2], y (planes, 2H, 2W)          dx[p, i, j] = Σ over the four y of which it is the value
//
// Row r of y is row r/2 of x over all planes, since a plane has an even number of rows in y: the kernels know only
// rows = planes·H and W.
//
// Bytes an element of x (s = its size): forward and backward 5s, each once.
//
// The idea. A thread takes a pack of x and writes the two packs it becomes to two rows, or reads four packs of dy. Where W is
// no multiple of a pack: forward, a thread writes one pack of y from the elements it repeats (found once in the cache);
// backward, an element of dx a thread.
//
// Launch: any grid along x.
#include "common.cuh"

// A pack of which each element of the low or high half of x stands twice.
template <typename T>
static __device__ __forceinline__ Pack<T> doubled(const Pack<T> &x, int half) {
  float y[WIDTH<T>];
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) y[e] = half ? element(x, (e + WIDTH<T>) / 2) : element(x, e / 2);
  return packed(y, T{});
}

template <typename T>
static __device__ __forceinline__ void forward_packs(i64 rows, i64 width, const T *x, T *y) {
  constexpr int N = WIDTH<T>;
  const i64 per_row = width / N, step = gridDim.x * (i64)blockDim.x;
  for (i64 p = blockIdx.x * (i64)blockDim.x + threadIdx.x; p < rows * per_row; p += step) {
    const i64 row = p / per_row, column = p - row * per_row;
    const Pack<T> pack = load_pack(x + p * N), low = doubled(pack, 0), high = doubled(pack, 1);
    T *out = y + 4 * row * width + 2 * column * N;
    store_pack(out, low), store_pack(out + N, high);
    store_pack(out + 2 * width, low), store_pack(out + 2 * width + N, high);
  }
}

// Pack by pack of y, whatever W is; the last pack may be short.
template <typename T>
static __device__ __forceinline__ void forward_any(i64 rows, i64 width, const T *x, T *y) {
  constexpr int N = WIDTH<T>;
  const i64 n = 4 * rows * width, step = gridDim.x * (i64)blockDim.x;
  for (i64 p = blockIdx.x * (i64)blockDim.x + threadIdx.x; p * N < n; p += step) {
    i64 row = p * N / (2 * width), column = p * N - row * 2 * width;
    const int high = n - p * N < N ? (int)(n - p * N) : N;
    Pack<T> out = {{0, 0, 0, 0}};
#pragma unroll
    for (int e = 0; e < N; e++) {
      if (e >= high) break;
      put(out, e, x[row / 2 * width + column / 2]);
      if (++column == 2 * width) column = 0, row++;
    }
    store_part(y + p * N, out, 0, high);
  }
}

template <typename T>
static __device__ __forceinline__ void forward(i64 rows, i64 width, const T *x, T *y) {
  if (width % WIDTH<T> == 0 && on_a_pack(x) && on_a_pack(y)) forward_packs(rows, width, x, y);
  else forward_any(rows, width, x, y);
}

template <typename T>
static __device__ __forceinline__ void backward_packs(i64 rows, i64 width, const T *dy, T *dx) {
  constexpr int N = WIDTH<T>;
  const i64 per_row = width / N, step = gridDim.x * (i64)blockDim.x;
  for (i64 p = blockIdx.x * (i64)blockDim.x + threadIdx.x; p < rows * per_row; p += step) {
    const i64 row = p / per_row, column = p - row * per_row;
    const T *from = dy + 4 * row * width + 2 * column * N;
    Pack<T> part[2][2];
#pragma unroll
    for (int i = 0; i < 4; i++) part[i / 2][i % 2] = load_pack(from + i / 2 * 2 * width + i % 2 * N);
    float out[N];
#pragma unroll
    for (int e = 0; e < N; e++) {
      const int half = e / (N / 2), at = 2 * e % N;
      out[e] = (element(part[0][half], at) + element(part[0][half], at + 1)) +
               (element(part[1][half], at) + element(part[1][half], at + 1));
    }
    store_pack(dx + p * N, packed(out, T{}));
  }
}

template <typename T>
static __device__ __forceinline__ void backward_any(i64 rows, i64 width, const T *dy, T *dx) {
  const i64 step = gridDim.x * (i64)blockDim.x;
  for (i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x; i < rows * width; i += step) {
    const i64 row = i / width, column = i - row * width;
    const T *from = dy + 4 * row * width + 2 * column, *below = from + 2 * width;
    from_float((to_float(from[0]) + to_float(from[1])) + (to_float(below[0]) + to_float(below[1])), dx[i]);
  }
}

template <typename T>
static __device__ __forceinline__ void backward(i64 rows, i64 width, const T *dy, T *dx) {
  if (width % WIDTH<T> == 0 && on_a_pack(dx) && on_a_pack(dy)) backward_packs(rows, width, dy, dx);
  else backward_any(rows, width, dy, dx);
}

#define ALL(T, suffix)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) upsample_##suffix(i64 rows, i64 width, const T *x, T *y) {               \
    forward(rows, width, x, y);                                                                                              \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256) upsample_backward_##suffix(i64 rows, i64 width, const T *dy, T *dx) {    \
    backward(rows, width, dy, dx);                                                                                           \
  }
ALL(float, f32)
ALL(f16, f16)
ALL(bf16, bf16)

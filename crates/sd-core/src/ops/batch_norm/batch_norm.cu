// Batch normalisation of x (N, C, positions) and its gradients.
//
//   training: μ, σ² over images and positions of channel c; r = 1/√(σ² + eps); evaluation: μ and r are given
//   y = γ·x̂ + β,  x̂ = (x − μ)·r
//   dγ = Σ dy·x̂;  dβ = Σ dy;  dx = γ·r·(dy − dβ/M − x̂·dγ/M) with M elements a channel; evaluation: dx = γ·r·dy
//
// γ, β, μ, σ² (biased) and r are f32 (C). Running statistics are the caller's: it has μ, σ² and M.
//
// Bytes an element (s = its size): forward 2s and backward 3s while a channel fits the registers of a block; else 3s and 5s, of
// which the second reading comes from the L2 cache, since cuda.rs gives larger tensors in slices of channels that fit there.
//
// The idea. A channel is N planes of `positions`, C planes apart, walked in packs of 16 bytes, each pack inside one plane.
//   whole      a block a channel: read once, kept as it came, two passes over registers for mean and deviation, written once.
//   parts      (channel, slice) a block: count, mean and squares of a slice, or Σ dy and Σ dy·x̂. apply: joins the channel's
//              slices, always in the same order, and writes its own slice.
// No atomics: the order of every sum depends on the shape alone.
#include "common.cuh"

// Packs a thread keeps in the whole-channel kernels, and has under way in the sliced ones.
constexpr int KEPT = 8, KEPT_BACKWARD = 4, DEEP = 4;

struct Shape {
  i64 batch, channels, positions;
  int per_plane;
};

static __device__ __forceinline__ Planes planes_of(const Shape &shape, i64 channel) {
  return {channel, shape.channels, shape.positions, (unsigned)shape.per_plane};
}
static __device__ __forceinline__ unsigned packs_of(const Shape &shape) { return (unsigned)shape.batch * (unsigned)shape.per_plane; }
static __device__ __forceinline__ float count_of(const Shape &shape) { return (float)(shape.batch * shape.positions); }

// The map of a channel: y = (x − mean)·scale + shift.
struct Line {
  float mean, scale, shift;
};

template <typename T, bool REGULAR>
static __device__ __forceinline__ void write(const Pack<T> &x, const Spot &spot, const Line &line, T *y) {
  float out[WIDTH<T>];
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) out[e] = (element(x, e) - line.mean) * line.scale + line.shift;
  store_spot<T, REGULAR>(y, spot, packed(out, T{}));
}

struct Statistics {
  float *mean, *variance, *rstd;
};
static __device__ __forceinline__ void write_statistics(const Statistics &out, i64 c, float mean, float variance, float rstd) {
  if (threadIdx.x == 0) out.mean[c] = mean, out.variance[c] = variance, out.rstd[c] = rstd;
}

// ---- Forward ---------------------------------------------------------------------------------------------------------------

template <typename T, bool REGULAR>
static __device__ __forceinline__ void whole(const Shape &shape, i64 c, float eps, const T *x, const float *gamma, const float *beta,
                                             T *y, const Statistics &statistics, float *shared) {
  const Planes planes = planes_of(shape, c);
  const unsigned packs = packs_of(shape), step = blockDim.x;
  Pack<T> kept[KEPT];
  float sum = 0.0f, squares = 0.0f;
#pragma unroll
  for (int k = 0; k < KEPT; k++)
    if (threadIdx.x + k * step < packs) kept[k] = load_spot<T, REGULAR>(x, locate<T, REGULAR>(planes, threadIdx.x + k * step));
#pragma unroll
  for (int k = 0; k < KEPT; k++)
    if (threadIdx.x + k * step < packs) sum += total(kept[k]);
  const float mean = block_sum(sum, shared) / count_of(shape);
#pragma unroll
  for (int k = 0; k < KEPT; k++)
    if (threadIdx.x + k * step < packs)
      squares += distance<T, REGULAR>(kept[k], locate<T, REGULAR>(planes, threadIdx.x + k * step), mean);
  const float variance = block_sum(squares, shared) / count_of(shape), rstd = rsqrtf(variance + eps);
  const Line line = {mean, rstd * __ldg(gamma + c), __ldg(beta + c)};
#pragma unroll
  for (int k = 0; k < KEPT; k++)
    if (threadIdx.x + k * step < packs)
      write<T, REGULAR>(kept[k], locate<T, REGULAR>(planes, threadIdx.x + k * step), line, y);
  write_statistics(statistics, c, mean, variance, rstd);
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void parts(const Shape &shape, i64 first, int slices, int slice_packs, const T *x, float *triples,
                                             float *shared) {
  const Slice slice = slice_of(first, slices, slice_packs, packs_of(shape));
  const Planes planes = planes_of(shape, slice.set);
  write_moments(slice, slices, slice_moments<KEPT, T, REGULAR>(planes, slice, x, shared), triples);
}

// Maps a slice.
template <typename T, bool REGULAR>
static __device__ __forceinline__ void map(const Shape &shape, const Slice &slice, const Line &line, const T *x, T *y) {
  const Planes planes = planes_of(shape, slice.set);
  for (unsigned begin = slice.begin + threadIdx.x; begin < slice.end; begin += DEEP * blockDim.x) {
    Pack<T> under_way[DEEP];
#pragma unroll
    for (int d = 0; d < DEEP; d++)
      if (begin + d * blockDim.x < slice.end)
        under_way[d] = load_spot<T, REGULAR>(x, locate<T, REGULAR>(planes, begin + d * blockDim.x));
#pragma unroll
    for (int d = 0; d < DEEP; d++)
      if (begin + d * blockDim.x < slice.end)
        write<T, REGULAR>(under_way[d], locate<T, REGULAR>(planes, begin + d * blockDim.x), line, y);
  }
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void apply(const Shape &shape, i64 first, int slices, int slice_packs, float eps, const T *x,
                                             const float *gamma, const float *beta, const float *triples, T *y,
                                             const Statistics &statistics, float *shared) {
  const Slice slice = slice_of(first, slices, slice_packs, packs_of(shape));
  const i64 c = slice.set;
  const Moments all = joined_parts(triples + c * slices * 3, slices, shared);
  const float variance = all.squares / all.count, rstd = rsqrtf(variance + eps);
  map<T, REGULAR>(shape, slice, Line{all.mean, rstd * __ldg(gamma + c), __ldg(beta + c)}, x, y);
  if (slice.index == 0) write_statistics(statistics, c, all.mean, variance, rstd);
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void eval(const Shape &shape, int slices, int slice_packs, const T *x, const float *gamma,
                                            const float *beta, const float *mean, const float *rstd, T *y) {
  const Slice slice = slice_of(0, slices, slice_packs, packs_of(shape));
  const i64 c = slice.set;
  map<T, REGULAR>(shape, slice, Line{__ldg(mean + c), __ldg(rstd + c) * __ldg(gamma + c), __ldg(beta + c)}, x, y);
}

// ---- Backward --------------------------------------------------------------------------------------------------------------

// dx = scale·(dy − mean_dy − x̂·mean_dy_x̂); both means are 0 where the statistics are constants.
struct Gradient {
  float mean, rstd, scale, dy, dy_x_hat;
};

template <typename T>
static __device__ __forceinline__ float2 sums_of(const Pack<T> &x, const Pack<T> &dy, float mean, float rstd) {
  float2 sums = make_float2(0.0f, 0.0f);
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) {
    sums.x += element(dy, e);
    sums.y += element(dy, e) * ((element(x, e) - mean) * rstd);
  }
  return sums;
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void write_dx(const Pack<T> &x, const Pack<T> &dy, const Spot &spot, const Gradient &g, T *dx) {
  float out[WIDTH<T>];
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) {
    const float x_hat = (element(x, e) - g.mean) * g.rstd;
    out[e] = g.scale * (element(dy, e) - g.dy - x_hat * g.dy_x_hat);
  }
  store_spot<T, REGULAR>(dx, spot, packed(out, T{}));
}

// What dx needs of channel c, from Σ dy and Σ dy·x̂.
static __device__ __forceinline__ Gradient gradient_of(const Shape &shape, i64 c, int through, const float *gamma, float mean,
                                                       float rstd, float2 sums) {
  const float count = count_of(shape);
  return {mean, rstd, __ldg(gamma + c) * rstd, through ? sums.x / count : 0.0f, through ? sums.y / count : 0.0f};
}

// affine = (dγ | dβ).
static __device__ __forceinline__ void write_affine(const Shape &shape, i64 c, float2 sums, float *affine) {
  if (threadIdx.x == 0) affine[c] = sums.y, affine[shape.channels + c] = sums.x;
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void backward_whole(const Shape &shape, i64 c, int through, const T *x, const T *dy,
                                                      const float *gamma, const float *mean, const float *rstd, T *dx,
                                                      float *affine, float *shared) {
  const Planes planes = planes_of(shape, c);
  const unsigned packs = packs_of(shape), step = blockDim.x;
  const float m = __ldg(mean + c), r = __ldg(rstd + c);
  Pack<T> a[KEPT_BACKWARD], b[KEPT_BACKWARD];
#pragma unroll
  for (int k = 0; k < KEPT_BACKWARD; k++) {
    if (threadIdx.x + k * step >= packs) continue;
    const Spot spot = locate<T, REGULAR>(planes, threadIdx.x + k * step);
    a[k] = load_spot<T, REGULAR>(x, spot), b[k] = load_spot<T, REGULAR>(dy, spot);
  }
  float both[2] = {0.0f, 0.0f};
#pragma unroll
  for (int k = 0; k < KEPT_BACKWARD; k++) {
    if (threadIdx.x + k * step >= packs) continue;
    const float2 part = sums_of(a[k], b[k], m, r);
    both[0] += part.x, both[1] += part.y;
  }
  team_sums(both, 1024, shared);
  const float2 sums = make_float2(both[0], both[1]);
  const Gradient gradient = gradient_of(shape, c, through, gamma, m, r, sums);
#pragma unroll
  for (int k = 0; k < KEPT_BACKWARD; k++) {
    if (threadIdx.x + k * step >= packs) continue;
    write_dx<T, REGULAR>(a[k], b[k], locate<T, REGULAR>(planes, threadIdx.x + k * step), gradient, dx);
  }
  write_affine(shape, c, sums, affine);
}

// pairs (channels, slices, 2): Σ dy and Σ dy·x̂ of a slice.
template <typename T, bool REGULAR>
static __device__ __forceinline__ void backward_parts(const Shape &shape, i64 first, int slices, int slice_packs, const T *x,
                                                      const T *dy, const float *mean, const float *rstd, float *pairs,
                                                      float *shared) {
  const Slice slice = slice_of(first, slices, slice_packs, packs_of(shape));
  const Planes planes = planes_of(shape, slice.set);
  const float m = __ldg(mean + slice.set), r = __ldg(rstd + slice.set);
  float both[2] = {0.0f, 0.0f};
#pragma unroll 4
  for (unsigned pack = slice.begin + threadIdx.x; pack < slice.end; pack += blockDim.x) {
    const Spot spot = locate<T, REGULAR>(planes, pack);
    const float2 part = sums_of(load_spot<T, REGULAR>(x, spot), load_spot<T, REGULAR>(dy, spot), m, r);
    // Where an element is not the plane's, x̂ is not 0 but dy is.
    both[0] += part.x, both[1] += part.y;
  }
  team_sums(both, 1024, shared);
  if (threadIdx.x != 0) return;
  float *out = pairs + (slice.set * slices + slice.index) * 2;
  out[0] = both[0], out[1] = both[1];
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void backward_apply(const Shape &shape, i64 first, int slices, int slice_packs, int through,
                                                      const T *x, const T *dy, const float *gamma, const float *mean,
                                                      const float *rstd, const float *pairs, T *dx, float *affine,
                                                      float *shared) {
  const Slice slice = slice_of(first, slices, slice_packs, packs_of(shape));
  const i64 c = slice.set;
  const Planes planes = planes_of(shape, c);
  const float2 sums = summed_pairs(pairs + c * slices * 2, slices, shared);
  const Gradient gradient = gradient_of(shape, c, through, gamma, __ldg(mean + c), __ldg(rstd + c), sums);
  for (unsigned begin = slice.begin + threadIdx.x; begin < slice.end; begin += DEEP * blockDim.x) {
    Pack<T> a[DEEP], b[DEEP];
#pragma unroll
    for (int d = 0; d < DEEP; d++) {
      if (begin + d * blockDim.x >= slice.end) continue;
      const Spot spot = locate<T, REGULAR>(planes, begin + d * blockDim.x);
      a[d] = load_spot<T, REGULAR>(x, spot), b[d] = load_spot<T, REGULAR>(dy, spot);
    }
#pragma unroll
    for (int d = 0; d < DEEP; d++)
      if (begin + d * blockDim.x < slice.end)
        write_dx<T, REGULAR>(a[d], b[d], locate<T, REGULAR>(planes, begin + d * blockDim.x), gradient, dx);
  }
  if (slice.index == 0) write_affine(shape, c, sums, affine);
}

#define SHAPE i64 batch, i64 channels, i64 positions, int per_plane
#define STATISTICS float *mean, float *variance, float *rstd
#define CHOOSE(T, function, a, b, c, ...)                                                                                    \
  const Shape shape = {batch, channels, positions, per_plane};                                                               \
  if (regular<T>(planes_of(shape, 0), a, b, c)) function<T, true>(shape, __VA_ARGS__);                                       \
  else function<T, false>(shape, __VA_ARGS__);

#define ALL(T, suffix)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(1024)                                                                         \
      batch_norm_##suffix(SHAPE, float eps, const T *x, const float *gamma, const float *beta, T *y, STATISTICS) {           \
    __shared__ float shared[32];                                                                                             \
    const Statistics out = {mean, variance, rstd};                                                                           \
    CHOOSE(T, whole, x, y, y, blockIdx.x, eps, x, gamma, beta, y, out, shared)                                               \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      batch_norm_parts_##suffix(SHAPE, i64 first, int slices, int slice_packs, const T *x, float *triples) {                 \
    __shared__ float shared[64];                                                                                             \
    CHOOSE(T, parts, x, x, x, first, slices, slice_packs, x, triples, shared)                                                \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      batch_norm_apply_##suffix(SHAPE, i64 first, int slices, int slice_packs, float eps, const T *x, const float *gamma,    \
                                const float *beta, const float *triples, T *y, STATISTICS) {                                 \
    __shared__ float shared[3];                                                                                              \
    const Statistics out = {mean, variance, rstd};                                                                           \
    CHOOSE(T, apply, x, y, y, first, slices, slice_packs, eps, x, gamma, beta, triples, y, out, shared)                      \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      batch_norm_eval_##suffix(SHAPE, int slices, int slice_packs, const T *x, const float *gamma, const float *beta,        \
                               const float *mean, const float *rstd, T *y) {                                                 \
    CHOOSE(T, eval, x, y, y, slices, slice_packs, x, gamma, beta, mean, rstd, y)                                             \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(1024)                                                                         \
      batch_norm_backward_##suffix(SHAPE, int through, const T *x, const T *dy, const float *gamma, const float *mean,       \
                                   const float *rstd, T *dx, float *affine) {                                                \
    __shared__ float shared[64];                                                                                             \
    CHOOSE(T, backward_whole, x, dy, dx, blockIdx.x, through, x, dy, gamma, mean, rstd, dx, affine, shared)                  \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      batch_norm_backward_parts_##suffix(SHAPE, i64 first, int slices, int slice_packs, const T *x, const T *dy,             \
                                         const float *mean, const float *rstd, float *pairs) {                               \
    __shared__ float shared[64];                                                                                             \
    CHOOSE(T, backward_parts, x, dy, dy, first, slices, slice_packs, x, dy, mean, rstd, pairs, shared)                       \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      batch_norm_backward_apply_##suffix(SHAPE, i64 first, int slices, int slice_packs, int through, const T *x,             \
                                         const T *dy, const float *gamma, const float *mean, const float *rstd,              \
                                         const float *pairs, T *dx, float *affine) {                                         \
    __shared__ float shared[2];                                                                                              \
    CHOOSE(T, backward_apply, x, dy, dx, first, slices, slice_packs, through, x, dy, gamma, mean, rstd, pairs, dx, affine,   \
           shared)                                                                                                           \
  }
ALL(float, f32)
ALL(f16, f16)
ALL(bf16, bf16)

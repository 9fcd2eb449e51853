// Group normalisation of x (N, C, positions) with optional SiLU, and its gradients.
//
//   μ, σ² over the channels and positions of group g of image n; r = 1/√(σ² + eps); x̂ = (x − μ)·r
//   z = γ_c·x̂ + β_c;  y = z, or z·σ(z) with SiLU
//   dz = dy, or dy·σ(z)·(1 + z·(1 − σ(z)));  dγ_c = Σ dz·x̂;  dβ_c = Σ dz      (Σ over n and positions)
//   dx = r·(γ_c·dz − S1 − x̂·S2),  S1, S2 the group's means of γ·dz and γ·dz·x̂
//
// γ, β, μ and r are f32; μ and r (N, groups) are kept by the forward for the backward.
//
// Bytes an element (s = its size): forward 2s and backward 3s where a group fits the registers of a block; else 3s and 5s, of
// which the second reading comes from the L2 cache, since cuda.rs gives larger tensors in slices of sets that fit there.
//
// The idea. A group is contiguous: C/groups planes of `positions`, walked in packs of 16 bytes, each pack inside one plane.
//   whole      a block a group: read once, kept as it came, two passes over registers for mean and deviation, written once.
//   parts      (group, slice) a block: count, mean and squares of a slice. apply: joins the group's slices, always in the
//              same order, and normalises its own slice.
//   backward   the same two ways. Whole: a pack's share of Σ dz and Σ dz·x̂ goes to shared memory, a warp adds up a channel's.
//              Sliced: a block a (plane, slice). Both leave sums (N, C, slices, 2), from which `affine` makes dγ and dβ.
// No atomics: the order of every sum depends on the shape alone.
#include "common.cuh"

// Packs a thread keeps in the whole-group kernels, and has under way in the sliced ones.
constexpr int KEPT = 8, KEPT_BACKWARD = 4, DEEP = 4;

// What every kernel knows of its tensor. `per_plane` is the number of packs of a plane, `silu` 0 or 1.
struct Shape {
  i64 channels, positions;
  int group_channels, per_plane, silu;
};

static __device__ __forceinline__ Planes planes_of(const Shape &shape, i64 group) {
  return {group * shape.group_channels, 1, shape.positions, (unsigned)shape.per_plane};
}

template <typename T>
static __device__ __forceinline__ float after(float z, int silu, T type) {
  return silu ? z * sigmoid(z, type) : z;
}

// dz / dy.
template <typename T>
static __device__ __forceinline__ float slope(float z, int silu, T type) {
  const float s = sigmoid(z, type);
  return silu ? s * (1.0f + z * (1.0f - s)) : 1.0f;
}

// y of a pack in channel c.
template <typename T, bool REGULAR>
static __device__ __forceinline__ void write(const Pack<T> &x, const Spot &spot, i64 c, int silu, const float *gamma,
                                             const float *beta, float mean, float rstd, T *y) {
  const float scale = rstd * __ldg(gamma + c), shift = __ldg(beta + c);
  float out[WIDTH<T>];
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) out[e] = after((element(x, e) - mean) * scale + shift, silu, T{});
  store_spot<T, REGULAR>(y, spot, packed(out, T{}));
}

// ---- Forward, a block a group ----------------------------------------------------------------------------------------------

template <typename T, bool REGULAR>
static __device__ __forceinline__ void whole(const Shape &shape, i64 group, float eps, const T *x, const float *gamma,
                                             const float *beta, T *y, float *means, float *rstds, float *shared) {
  const Planes planes = planes_of(shape, group);
  const unsigned packs = (unsigned)shape.group_channels * planes.per_plane, step = blockDim.x;
  const float count = (float)(shape.group_channels * shape.positions);
  Pack<T> kept[KEPT];
  float sum = 0.0f, squares = 0.0f;
#pragma unroll
  for (int k = 0; k < KEPT; k++)
    if (threadIdx.x + k * step < packs) kept[k] = load_spot<T, REGULAR>(x, locate<T, REGULAR>(planes, threadIdx.x + k * step));
#pragma unroll
  for (int k = 0; k < KEPT; k++)
    if (threadIdx.x + k * step < packs) sum += total(kept[k]);
  const float mean = block_sum(sum, shared) / count;
#pragma unroll
  for (int k = 0; k < KEPT; k++)
    if (threadIdx.x + k * step < packs)
      squares += distance<T, REGULAR>(kept[k], locate<T, REGULAR>(planes, threadIdx.x + k * step), mean);
  const float rstd = rsqrtf(block_sum(squares, shared) / count + eps);
  const i64 channel = planes.first % shape.channels;
#pragma unroll
  for (int k = 0; k < KEPT; k++) {
    if (threadIdx.x + k * step >= packs) continue;
    const Spot spot = locate<T, REGULAR>(planes, threadIdx.x + k * step);
    write<T, REGULAR>(kept[k], spot, channel + spot.plane, shape.silu, gamma, beta, mean, rstd, y);
  }
  if (threadIdx.x == 0) means[group] = mean, rstds[group] = rstd;
}

// ---- Forward in slices -----------------------------------------------------------------------------------------------------

template <typename T, bool REGULAR>
static __device__ __forceinline__ void parts(const Shape &shape, i64 first, int slices, int slice_packs, const T *x,
                                             float *triples, float *shared) {
  const Slice slice = slice_of(first, slices, slice_packs, (unsigned)shape.group_channels * (unsigned)shape.per_plane);
  const Planes planes = planes_of(shape, slice.set);
  write_moments(slice, slices, slice_moments<KEPT, T, REGULAR>(planes, slice, x, shared), triples);
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void apply(const Shape &shape, i64 first, int slices, int slice_packs, float eps, const T *x,
                                             const float *gamma, const float *beta, const float *triples, T *y, float *means,
                                             float *rstds, float *shared) {
  const Slice slice = slice_of(first, slices, slice_packs, (unsigned)shape.group_channels * (unsigned)shape.per_plane);
  const Planes planes = planes_of(shape, slice.set);
  const Moments all = joined_parts(triples + slice.set * slices * 3, slices, shared);
  const float rstd = rsqrtf(all.squares / all.count + eps);
  const i64 channel = planes.first % shape.channels;
  for (unsigned begin = slice.begin + threadIdx.x; begin < slice.end; begin += DEEP * blockDim.x) {
    Pack<T> under_way[DEEP];
#pragma unroll
    for (int d = 0; d < DEEP; d++)
      if (begin + d * blockDim.x < slice.end)
        under_way[d] = load_spot<T, REGULAR>(x, locate<T, REGULAR>(planes, begin + d * blockDim.x));
#pragma unroll
    for (int d = 0; d < DEEP; d++) {
      if (begin + d * blockDim.x >= slice.end) continue;
      const Spot spot = locate<T, REGULAR>(planes, begin + d * blockDim.x);
      write<T, REGULAR>(under_way[d], spot, channel + spot.plane, shape.silu, gamma, beta, all.mean, rstd, y);
    }
  }
  if (slice.index == 0 && threadIdx.x == 0) means[slice.set] = all.mean, rstds[slice.set] = rstd;
}

// ---- Backward --------------------------------------------------------------------------------------------------------------

// What the gradient of a pack needs of its channel and group.
struct Affine {
  float gamma, beta, mean, rstd;
};

// Σ dz and Σ dz·x̂ over a pack. Elements that are not the plane's have dy = 0.
template <typename T>
static __device__ __forceinline__ float2 sums_of(const Pack<T> &x, const Pack<T> &dy, const Affine &a, int silu) {
  float2 sums = make_float2(0.0f, 0.0f);
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) {
    const float x_hat = (element(x, e) - a.mean) * a.rstd;
    const float dz = element(dy, e) * slope(a.gamma * x_hat + a.beta, silu, T{});
    sums.x += dz, sums.y += dz * x_hat;
  }
  return sums;
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void write_dx(const Pack<T> &x, const Pack<T> &dy, const Spot &spot, const Affine &a, int silu,
                                                float2 means, T *dx) {
  float out[WIDTH<T>];
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) {
    const float x_hat = (element(x, e) - a.mean) * a.rstd;
    const float dz = element(dy, e) * slope(a.gamma * x_hat + a.beta, silu, T{});
    out[e] = a.rstd * (a.gamma * dz - means.x - x_hat * means.y);
  }
  store_spot<T, REGULAR>(dx, spot, packed(out, T{}));
}

// The group's means of γ·dz and γ·dz·x̂ from Σ dz and Σ dz·x̂ of its channels in `slices` parts; the same on every thread.
static __device__ __forceinline__ float2 group_means(const float *sums, const float *gamma, i64 channel, int channels, int slices,
                                                     float count, float *shared) {
  if (threadIdx.x < 32) {
    float a = 0.0f, b = 0.0f;
    for (int i = threadIdx.x; i < channels * slices; i += 32) {
      const float scale = __ldg(gamma + channel + i / slices);
      a += scale * sums[2 * i], b += scale * sums[2 * i + 1];
    }
    a = warp_sum(a), b = warp_sum(b);
    if (threadIdx.x == 0) shared[0] = a / count, shared[1] = b / count;
  }
  __syncthreads();
  const float2 means = make_float2(shared[0], shared[1]);
  __syncthreads();
  return means;
}

// Adds what the packs of each channel left in `pack_sums` and writes it to `sums` (channels of the group, 2), a warp a channel.
static __device__ __forceinline__ void channel_sums(const float *pack_sums, int channels, int per_plane, float *sums) {
  const int lane = threadIdx.x & 31;
  for (int c = threadIdx.x >> 5; c < channels; c += blockDim.x >> 5) {
    float a = 0.0f, b = 0.0f;
    for (int k = lane; k < per_plane; k += 32) {
      a += pack_sums[2 * (c * per_plane + k)], b += pack_sums[2 * (c * per_plane + k) + 1];
    }
    a = warp_sum(a), b = warp_sum(b);
    if (lane == 0) sums[2 * c] = a, sums[2 * c + 1] = b;
  }
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void backward_whole(const Shape &shape, i64 group, const T *x, const T *dy, const float *gamma,
                                                      const float *beta, const float *mean, const float *rstd, T *dx, float *sums,
                                                      float *pack_sums, float *shared) {
  const Planes planes = planes_of(shape, group);
  const unsigned packs = (unsigned)shape.group_channels * planes.per_plane, step = blockDim.x;
  const i64 channel = planes.first % shape.channels;
  const float count = (float)(shape.group_channels * shape.positions), m = __ldg(mean + group), r = __ldg(rstd + group);
  Pack<T> a[KEPT_BACKWARD], b[KEPT_BACKWARD];
#pragma unroll
  for (int k = 0; k < KEPT_BACKWARD; k++) {
    if (threadIdx.x + k * step >= packs) continue;
    const Spot spot = locate<T, REGULAR>(planes, threadIdx.x + k * step);
    a[k] = load_spot<T, REGULAR>(x, spot), b[k] = load_spot<T, REGULAR>(dy, spot);
  }
  float group_sums[2] = {0.0f, 0.0f};
#pragma unroll
  for (int k = 0; k < KEPT_BACKWARD; k++) {
    const unsigned pack = threadIdx.x + k * step;
    if (pack >= packs) continue;
    const i64 c = channel + pack / planes.per_plane;
    const float scale = __ldg(gamma + c);
    const float2 part = sums_of(a[k], b[k], Affine{scale, __ldg(beta + c), m, r}, shape.silu);
    pack_sums[2 * pack] = part.x, pack_sums[2 * pack + 1] = part.y;
    group_sums[0] += scale * part.x, group_sums[1] += scale * part.y;
  }
  team_sums(group_sums, 1024, shared);
  channel_sums(pack_sums, shape.group_channels, shape.per_plane, sums + planes.first * 2);
  const float2 means = make_float2(group_sums[0] / count, group_sums[1] / count);
#pragma unroll
  for (int k = 0; k < KEPT_BACKWARD; k++) {
    if (threadIdx.x + k * step >= packs) continue;
    const Spot spot = locate<T, REGULAR>(planes, threadIdx.x + k * step);
    const i64 c = channel + spot.plane;
    write_dx<T, REGULAR>(a[k], b[k], spot, Affine{__ldg(gamma + c), __ldg(beta + c), m, r}, shape.silu, means, dx);
  }
}

// Sets are planes here. sums (planes, slices, 2).
template <typename T, bool REGULAR>
static __device__ __forceinline__ void backward_parts(const Shape &shape, i64 first, int slices, int slice_packs, const T *x,
                                                      const T *dy, const float *gamma, const float *beta, const float *mean,
                                                      const float *rstd, float *sums, float *shared) {
  const Slice slice = slice_of(first, slices, slice_packs, (unsigned)shape.per_plane);
  const i64 c = slice.set % shape.channels, group = slice.set / shape.group_channels, start = slice.set * shape.positions;
  const Affine affine = {__ldg(gamma + c), __ldg(beta + c), __ldg(mean + group), __ldg(rstd + group)};
  float both[2] = {0.0f, 0.0f};
#pragma unroll 4
  for (unsigned pack = slice.begin + threadIdx.x; pack < slice.end; pack += blockDim.x) {
    const Spot spot = locate_in<T, REGULAR>(start, shape.positions, pack, 0);
    const float2 part =
        sums_of(load_spot<T, REGULAR>(x, spot), load_spot<T, REGULAR>(dy, spot), affine, shape.silu);
    both[0] += part.x, both[1] += part.y;
  }
  team_sums(both, 1024, shared);
  if (threadIdx.x != 0) return;
  float *out = sums + (slice.set * slices + slice.index) * 2;
  out[0] = both[0], out[1] = both[1];
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ void backward_apply(const Shape &shape, i64 first, int slices, int slice_packs, const T *x,
                                                      const T *dy, const float *gamma, const float *beta, const float *mean,
                                                      const float *rstd, const float *sums, T *dx, float *shared) {
  const Slice slice = slice_of(first, slices, slice_packs, (unsigned)shape.per_plane);
  const i64 c = slice.set % shape.channels, group = slice.set / shape.group_channels, start = slice.set * shape.positions;
  const i64 plane = group * shape.group_channels;
  const float2 means = group_means(sums + plane * slices * 2, gamma, plane % shape.channels, shape.group_channels, slices,
                                   (float)(shape.group_channels * shape.positions), shared);
  const Affine affine = {__ldg(gamma + c), __ldg(beta + c), __ldg(mean + group), __ldg(rstd + group)};
  for (unsigned begin = slice.begin + threadIdx.x; begin < slice.end; begin += DEEP * blockDim.x) {
    Pack<T> a[DEEP], b[DEEP];
#pragma unroll
    for (int d = 0; d < DEEP; d++) {
      if (begin + d * blockDim.x >= slice.end) continue;
      const Spot spot = locate_in<T, REGULAR>(start, shape.positions, begin + d * blockDim.x, 0);
      a[d] = load_spot<T, REGULAR>(x, spot), b[d] = load_spot<T, REGULAR>(dy, spot);
    }
#pragma unroll
    for (int d = 0; d < DEEP; d++) {
      if (begin + d * blockDim.x >= slice.end) continue;
      const Spot spot = locate_in<T, REGULAR>(start, shape.positions, begin + d * blockDim.x, 0);
      write_dx<T, REGULAR>(a[d], b[d], spot, affine, shape.silu, means, dx);
    }
  }
}

// dγ and dβ of one channel a warp, from sums (batch, channels, slices, 2): out = (dγ | dβ).
extern "C" __global__ void __launch_bounds__(128)
    group_norm_affine(i64 batch, i64 channels, int slices, const float *sums, float *out) {
  const int lane = threadIdx.x & 31;
  const i64 c = blockIdx.x * 4ll + (threadIdx.x >> 5);
  if (c >= channels) return;
  float a = 0.0f, b = 0.0f;
  for (i64 i = lane; i < batch * slices; i += 32) {
    const float *pair = sums + ((i / slices * channels + c) * slices + i % slices) * 2;
    a += pair[0], b += pair[1];
  }
  a = warp_sum(a), b = warp_sum(b);
  if (lane == 0) out[c] = b, out[channels + c] = a;
}

#define SHAPE i64 channels, i64 positions, int group_channels, int per_plane, int silu
#define CHOOSE(T, function, a, b, c, ...)                                                                                    \
  const Shape shape = {channels, positions, group_channels, per_plane, silu};                                                \
  if (regular<T>(planes_of(shape, 0), a, b, c)) function<T, true>(shape, __VA_ARGS__);                                       \
  else function<T, false>(shape, __VA_ARGS__);

#define ALL(T, suffix)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(1024)                                                                         \
      group_norm_##suffix(SHAPE, float eps, const T *x, const float *gamma, const float *beta, T *y, float *mean,            \
                          float *rstd) {                                                                                     \
    __shared__ float shared[32];                                                                                             \
                            \
    CHOOSE(T, whole, x, y, y, blockIdx.x, eps, x, gamma, beta, y, mean, rstd, shared)                                           \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      group_norm_parts_##suffix(SHAPE, i64 first, int slices, int slice_packs, const T *x, float *triples) {                 \
    __shared__ float shared[64];                                                                                             \
                            \
    CHOOSE(T, parts, x, x, x, first, slices, slice_packs, x, triples, shared)                                                   \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      group_norm_apply_##suffix(SHAPE, i64 first, int slices, int slice_packs, float eps, const T *x, const float *gamma,    \
                                const float *beta, const float *triples, T *y, float *mean, float *rstd) {                   \
    __shared__ float shared[3];                                                                                              \
                            \
    CHOOSE(T, apply, x, y, y, first, slices, slice_packs, eps, x, gamma, beta, triples, y, mean, rstd, shared)                  \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(1024)                                                                         \
      group_norm_backward_##suffix(SHAPE, const T *x, const T *dy, const float *gamma, const float *beta, const float *mean, \
                                   const float *rstd, T *dx, float *sums) {                                                  \
    extern __shared__ float dynamic_shared[];                                                                                \
    __shared__ float shared[64];                                                                                             \
                            \
    CHOOSE(T, backward_whole, x, dy, dx, blockIdx.x, x, dy, gamma, beta, mean, rstd, dx, sums, dynamic_shared, shared)          \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      group_norm_backward_parts_##suffix(SHAPE, i64 first, int slices, int slice_packs, const T *x, const T *dy,             \
                                         const float *gamma, const float *beta, const float *mean, const float *rstd,        \
                                         float *sums) {                                                                      \
    __shared__ float shared[64];                                                                                             \
                            \
    CHOOSE(T, backward_parts, x, dy, dy, first, slices, slice_packs, x, dy, gamma, beta, mean, rstd, sums, shared)              \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      group_norm_backward_apply_##suffix(SHAPE, i64 first, int slices, int slice_packs, const T *x, const T *dy,             \
                                         const float *gamma, const float *beta, const float *mean, const float *rstd,        \
                                         const float *sums, T *dx) {                                                         \
    __shared__ float shared[2];                                                                                              \
                            \
    CHOOSE(T, backward_apply, x, dy, dx, first, slices, slice_packs, x, dy, gamma, beta, mean, rstd, sums, dx, shared)          \
  }
ALL(float, f32)
ALL(f16, f16)
ALL(bf16, bf16)

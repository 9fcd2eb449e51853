// The second half of common.cuh (they are one text to the kernels): moving memory 16 bytes at a time, planes of a tensor, rows
// shared by a team of threads, means and variances without cancellation.

// ---- Packs: 16 bytes of elements, what a thread of the memory-bound kernels moves at a time ---------------------------------

template <typename T>
constexpr int WIDTH = 16 / (int)sizeof(T);

template <typename T>
struct Pack {
  unsigned words[4];
};

// Whether a pack may be moved there at once.
static __device__ __forceinline__ bool on_a_pack(const void *pointer) { return ((u64)pointer & 15) == 0; }

static __device__ __forceinline__ float element(const Pack<float> &p, int e) { return __uint_as_float(p.words[e]); }
template <typename T>
static __device__ __forceinline__ float element(const Pack<T> &p, int e) {
  return to_float(T{(unsigned short)(p.words[e >> 1] >> (16 * (e & 1)))});
}

static __device__ __forceinline__ Pack<float> packed(const float (&x)[4], float) {
  return {{__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]), __float_as_uint(x[3])}};
}
template <typename T>
static __device__ __forceinline__ Pack<T> packed(const float (&x)[8], T type) {
  return {{pack(x[0], x[1], type), pack(x[2], x[3], type), pack(x[4], x[5], type), pack(x[6], x[7], type)}};
}

template <typename T>
static __device__ __forceinline__ Pack<T> load_pack(const T *p) {
  const uint4 bits = *reinterpret_cast<const uint4 *>(p);
  return {{bits.x, bits.y, bits.z, bits.w}};
}
template <typename T>
static __device__ __forceinline__ void store_pack(T *p, const Pack<T> &value) {
  *reinterpret_cast<uint4 *>(p) = make_uint4(value.words[0], value.words[1], value.words[2], value.words[3]);
}

static __device__ __forceinline__ void put(Pack<float> &pack, int e, float x) { pack.words[e] = __float_as_uint(x); }
template <typename T>
static __device__ __forceinline__ void put(Pack<T> &pack, int e, T x) {
  const unsigned word = pack.words[e >> 1], bits = x.bits;
  pack.words[e >> 1] = e & 1 ? (word & 0xffffu) | bits << 16 : (word & 0xffff0000u) | bits;
}

// Elements [low, high) of the pack that would begin at p, `outside` for the others; any alignment.
template <typename T>
static __device__ __forceinline__ Pack<T> load_part(const T *p, int low, int high, T outside) {
  if (low == 0 && high == WIDTH<T> && on_a_pack(p)) return load_pack(p);
  Pack<T> part = {{0, 0, 0, 0}};
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) put(part, e, e >= low && e < high ? p[e] : outside);
  return part;
}
template <typename T>
static __device__ __forceinline__ void store_part(T *p, const Pack<T> &value, int low, int high) {
  if (low == 0 && high == WIDTH<T> && on_a_pack(p)) return store_pack(p, value);
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++)
    if (e >= low && e < high) from_float(element(value, e), p[e]);
}

// e^x; for 16-bit types the faster one, whose error theirs hides.
static __device__ __forceinline__ float exponential(float x, float) { return expf(x); }
template <typename T>
static __device__ __forceinline__ float exponential(float x, T) {
  return __expf(x);
}
template <typename T>
static __device__ __forceinline__ float sigmoid(float x, T type) {
  return __fdividef(1.0f, 1.0f + exponential(-x, type));
}

// out[i] = f({in[0][i], in[1][i], …}) for i < n: several packs of every input are under way before the first is used. Any
// grid; whatever is not aligned goes element by element.
template <int INPUTS, typename T, typename F>
static __device__ __forceinline__ void map_elements(i64 n, const T *const (&in)[INPUTS], T *out, F f) {
  constexpr int N = WIDTH<T>, DEEP = INPUTS > 2 ? 2 : 4;
  bool aligned = on_a_pack(out);
  for (int i = 0; i < INPUTS; i++) aligned = aligned && on_a_pack(in[i]);
  const i64 packs = aligned ? n / N : 0, tile = (i64)DEEP * blockDim.x;
  for (i64 base = blockIdx.x * tile + threadIdx.x; base < packs; base += gridDim.x * tile) {
    Pack<T> x[DEEP][INPUTS];
#pragma unroll
    for (int d = 0; d < DEEP; d++)
#pragma unroll
      for (int i = 0; i < INPUTS; i++)
        if (base + d * (i64)blockDim.x < packs) x[d][i] = load_pack(in[i] + (base + d * (i64)blockDim.x) * N);
#pragma unroll
    for (int d = 0; d < DEEP; d++) {
      if (base + d * (i64)blockDim.x >= packs) break;
      float y[N];
#pragma unroll
      for (int e = 0; e < N; e++) {
        float a[INPUTS];
#pragma unroll
        for (int i = 0; i < INPUTS; i++) a[i] = element(x[d][i], e);
        y[e] = f(a);
      }
      store_pack(out + (base + d * (i64)blockDim.x) * N, packed(y, T{}));
    }
  }
  for (i64 i = packs * N + blockIdx.x * (i64)blockDim.x + threadIdx.x; i < n; i += gridDim.x * (i64)blockDim.x) {
    float a[INPUTS];
#pragma unroll
    for (int k = 0; k < INPUTS; k++) a[k] = to_float(in[k][i]);
    from_float(f(a), out[i]);
  }
}

// ---- Planes: runs of `positions` elements, cut into packs --------------------------------------------------------------------
// A set of planes first, first + step, first + 2·step, … is walked pack by pack, `per_plane` packs a plane. Packs lie on
// multiples of 16 bytes of the whole tensor, so a plane whose length is no multiple of a pack has packs of which only
// [low, high) are its own. `REGULAR` promises that no such plane exists and that all pointers are aligned.

struct Planes {
  i64 first, step, positions;
  unsigned per_plane;
};

struct Spot {
  i64 at;
  int low, high;
  unsigned plane;
};

template <typename T>
static __device__ __forceinline__ bool regular(const Planes &planes, const void *a, const void *b, const void *c) {
  return planes.positions % WIDTH<T> == 0 && on_a_pack(a) && on_a_pack(b) && on_a_pack(c);
}

// Pack k of the plane that begins at element `start`.
template <typename T, bool REGULAR>
static __device__ __forceinline__ Spot locate_in(i64 start, i64 positions, unsigned k, unsigned plane) {
  constexpr int N = WIDTH<T>;
  if (REGULAR) return {start + k * (i64)N, 0, N, plane};
  const i64 at = (start & ~(i64)(N - 1)) + k * (i64)N, left = start + positions - at;
  return {at, at < start ? (int)(start - at) : 0, left < N ? (left > 0 ? (int)left : 0) : N, plane};
}
// Pack `pack` of a set of planes.
template <typename T, bool REGULAR>
static __device__ __forceinline__ Spot locate(const Planes &planes, unsigned pack) {
  const unsigned plane = pack / planes.per_plane, k = pack - plane * planes.per_plane;
  return locate_in<T, REGULAR>((planes.first + plane * planes.step) * planes.positions, planes.positions, k, plane);
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ Pack<T> load_spot(const T *x, const Spot &spot, T outside = T{}) {
  return REGULAR ? load_pack(x + spot.at) : load_part(x + spot.at, spot.low, spot.high, outside);
}
template <typename T, bool REGULAR>
static __device__ __forceinline__ void store_spot(T *y, const Spot &spot, const Pack<T> &value) {
  if (REGULAR) return store_pack(y + spot.at, value);
  store_part(y + spot.at, value, spot.low, spot.high);
}
template <bool REGULAR>
static __device__ __forceinline__ bool inside(const Spot &spot, int e) {
  return REGULAR || (e >= spot.low && e < spot.high);
}

// Σ x and Σ (x − mean)² over the elements of a pack that are inside.
template <typename T>
static __device__ __forceinline__ float total(const Pack<T> &x) {
  float sum = 0.0f;
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) sum += element(x, e);
  return sum;
}

template <typename T, bool REGULAR>
static __device__ __forceinline__ float distance(const Pack<T> &x, const Spot &spot, float mean) {
  float sum = 0.0f;
#pragma unroll
  for (int e = 0; e < WIDTH<T>; e++) {
    const float gap = element(x, e) - mean;
    if (inside<REGULAR>(spot, e)) sum += gap * gap;
  }
  return sum;
}

// ---- Teams: threads that share a row ---------------------------------------------------------------------------------------
// `team` is a power of two up to 32 (consecutive lanes) or the whole block. Sums and maxima are the same on every thread of the
// team, and `shared` holds 32 floats for each of the COUNT values.

template <int COUNT>
static __device__ __forceinline__ void team_sums(float (&x)[COUNT], int team, float *shared) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
#pragma unroll
  for (int i = 0; i < COUNT; i++)
    for (int offset = (team < 32 ? team : 32) >> 1; offset > 0; offset >>= 1)
      x[i] += __shfl_xor_sync(0xffffffffu, x[i], offset);
  if (team <= 32) return;
#pragma unroll
  for (int i = 0; i < COUNT; i++)
    if (lane == 0) shared[32 * i + warp] = x[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < COUNT; i++) x[i] = warp_sum(lane < warps ? shared[32 * i + lane] : 0.0f);
  __syncthreads();
}
static __device__ __forceinline__ float team_sum(float x, int team, float *shared) {
  float values[1] = {x};
  team_sums(values, team, shared);
  return values[0];
}
static __device__ __forceinline__ float team_max(float x, int team, float *shared) {
  for (int offset = (team < 32 ? team : 32) >> 1; offset > 0; offset >>= 1)
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return team <= 32 ? x : block_max(x, shared);
}

// ---- Moments: how many, mean, Σ (x − mean)²; joined without cancellation (Chan, Golub and LeVeque 1983) ---------------------

struct Moments {
  float count, mean, squares;
};

static __device__ __forceinline__ Moments joined(const Moments &a, const Moments &b) {
  const float count = a.count + b.count;
  if (count == 0.0f) return a;
  const float gap = b.mean - a.mean, share = b.count / count;
  return {count, a.mean + gap * share, a.squares + b.squares + gap * gap * a.count * share};
}

// The moments of `parts` triples (count, mean, squares), joined in an order that depends on `parts` alone; the same on every
// thread of the block. `shared` holds 3 floats.
static __device__ __forceinline__ Moments joined_parts(const float *triples, int parts, float *shared) {
  if (threadIdx.x < 32) {
    Moments sum = {0.0f, 0.0f, 0.0f};
    for (int i = threadIdx.x; i < parts; i += 32)
      sum = joined(sum, {triples[3 * i], triples[3 * i + 1], triples[3 * i + 2]});
    for (int offset = 16; offset > 0; offset >>= 1) {
      const Moments other = {__shfl_down_sync(0xffffffffu, sum.count, offset),
                             __shfl_down_sync(0xffffffffu, sum.mean, offset),
                             __shfl_down_sync(0xffffffffu, sum.squares, offset)};
      sum = joined(sum, other);
    }
    if (threadIdx.x == 0) shared[0] = sum.count, shared[1] = sum.mean, shared[2] = sum.squares;
  }
  __syncthreads();
  const Moments all = {shared[0], shared[1], shared[2]};
  __syncthreads();
  return all;
}

// Σ of `parts` pairs in an order that depends on `parts` alone, the same on every thread. `shared` holds 2 floats.
static __device__ __forceinline__ float2 summed_pairs(const float *pairs, int parts, float *shared) {
  if (threadIdx.x < 32) {
    float a = 0.0f, b = 0.0f;
    for (int i = threadIdx.x; i < parts; i += 32) a += pairs[2 * i], b += pairs[2 * i + 1];
    a = warp_sum(a), b = warp_sum(b);
    if (threadIdx.x == 0) shared[0] = a, shared[1] = b;
  }
  __syncthreads();
  const float2 all = make_float2(shared[0], shared[1]);
  __syncthreads();
  return all;
}

// ---- Slices: long sets cut over blocks -------------------------------------------------------------------------------------
// A block's set and the packs [begin, end) of it; blocks are (set, slice), slices fastest, sets counted from `first`. No slice
// is empty.
struct Slice {
  i64 set;
  int index;
  unsigned begin, end;
};
static __device__ __forceinline__ Slice slice_of(i64 first, int slices, int slice_packs, unsigned packs) {
  const i64 set = blockIdx.x / (unsigned)slices;
  const int index = (int)(blockIdx.x - set * slices);
  const unsigned begin = (unsigned)index * slice_packs;
  return {first + set, index, begin, packs - begin < (unsigned)slice_packs ? packs : begin + (unsigned)slice_packs};
}

// Moments of up to KEPT·blockDim.x packs from `begin`, in two passes over registers. `shared` holds 64 floats.
template <int KEPT, typename T, bool REGULAR>
static __device__ __forceinline__ Moments tile_moments(const Planes &planes, unsigned begin, unsigned end, const T *x,
                                                       float *shared) {
  Pack<T> kept[KEPT];
  float values[2] = {0.0f, 0.0f}, squares = 0.0f;
#pragma unroll
  for (int k = 0; k < KEPT; k++) {
    const unsigned pack = begin + threadIdx.x + k * blockDim.x;
    if (pack < end) kept[k] = load_spot<T, REGULAR>(x, locate<T, REGULAR>(planes, pack));
  }
#pragma unroll
  for (int k = 0; k < KEPT; k++) {
    const unsigned pack = begin + threadIdx.x + k * blockDim.x;
    if (pack >= end) continue;
    values[0] += total(kept[k]);
    if (REGULAR) values[1] += (float)WIDTH<T>;
    else {
      const Spot spot = locate<T, REGULAR>(planes, pack);
      values[1] += (float)(spot.high > spot.low ? spot.high - spot.low : 0);
    }
  }
  team_sums(values, blockDim.x, shared);
  const float mean = values[1] > 0.0f ? values[0] / values[1] : 0.0f;
#pragma unroll
  for (int k = 0; k < KEPT; k++) {
    const unsigned pack = begin + threadIdx.x + k * blockDim.x;
    if (pack < end) squares += distance<T, REGULAR>(kept[k], locate<T, REGULAR>(planes, pack), mean);
  }
  return {values[1], mean, block_sum(squares, shared)};
}

// Moments of a slice: its tiles, joined in their order; the same on every thread.
template <int KEPT, typename T, bool REGULAR>
static __device__ __forceinline__ Moments slice_moments(const Planes &planes, const Slice &slice, const T *x, float *shared) {
  Moments all = {0.0f, 0.0f, 0.0f};
  for (unsigned begin = slice.begin; begin < slice.end; begin += KEPT * blockDim.x)
    all = joined(all, tile_moments<KEPT, T, REGULAR>(planes, begin, slice.end, x, shared));
  return all;
}
static __device__ __forceinline__ void write_moments(const Slice &slice, int slices, const Moments &all, float *triples) {
  if (threadIdx.x != 0) return;
  float *out = triples + (slice.set * slices + slice.index) * 3;
  out[0] = all.count, out[1] = all.mean, out[2] = all.squares;
}

// Two-dimensional convolution (cross-correlation) of NCHW tensors as implicit matrix products.
//
//   forward          y[n,o,i,j] = b[o] + Σ_{c,u,v} w[o,c,u,v] · x[n,c,i·s+u−p,j·s+v−p]
//   input gradient   dx[n,c,h,k] = Σ_{o,u,v} w[o,c,u,v] · dy[n,o,(h+p−u)/s,(k+p−v)/s], where s divides both
//   weight gradient  dw[o,c,u,v] = Σ_{n,i,j} dy[n,o,i,j] · x[n,c,i·s+u−p,j·s+v−p]
//   bias gradient    db[o] = Σ_{n,i,j} dy[n,o,i,j]
//
// x (N,C,H,W), w (O,C,U,V), y (N,O,I,J), zero outside the image; all row-major. Elements are f32, f16 or bf16, sums are f32.
//
// Forward and input gradient are one kernel, conv2d_gemm: filters × pixels, summed over taps (u,v) on the outside and source
// channels on the inside. For one tap every target pixel has one source pixel, so its bounds are looked at once a tap and
// a step of the product reads whole runs of a channel's row: no im2col buffer exists. The weights are packed beforehand
// as [tap][source channel][filter], so that they are copied 16 bytes at a time. A block makes `tile_m` filters × 128
// pixels with 8 warps; 16-bit elements go to the tensor cores in steps of 32 channels, f32 through fused multiply-adds in
// steps of 16. While a step is multiplied the next is on its way: weights by asynchronous copies, pixels in registers.
// Where a convolution has too few tiles to fill the device, blocks take parts of the sum (gridDim.z) and conv2d_join
// adds the parts in order.
//
// The weight gradient is, for each tap, filters × channels summed over pixels, in parts as well; conv2d_join_weights adds
// the parts in order and lays the taps innermost.
//
// Arithmetic: 2·N·O·I·J·C·U·V for each of the three products (f16 and bf16 on tensor cores). Bytes: x, y once from memory
// and each x element ceil(O/tile_m)·U·V times from L2; weights twice (packing).
#include "common.cuh"

static constexpr int block_threads = 256;
static constexpr int tile_n = 128;

// A tile_m × 128 product of the block, held by its 256 threads: 8 warps as 2 × 4, each of tile_m/2 × 32 on tensor cores.
template <typename T, int tile_m>
struct Product {
  static constexpr int depth = 32, gap = 8, pieces = tile_m / 32, rows = 2 * pieces, columns = 8;
  float sums[pieces][4][4] = {};

  static __device__ __forceinline__ int warp_row() { return (threadIdx.x >> 7) * (tile_m / 2); }
  static __device__ __forceinline__ int warp_column() { return ((threadIdx.x >> 5) & 3) * 32; }

  // Sums i, j of this thread are those of this row and column of the tile; columns 2j and 2j+1 are neighbours.
  static __device__ __forceinline__ int row(int i) {
    return warp_row() + 16 * (i >> 1) + 8 * (i & 1) + ((threadIdx.x & 31) >> 2);
  }
  static __device__ __forceinline__ int column(int j) {
    return warp_column() + 8 * (j >> 1) + 2 * (threadIdx.x & 3) + (j & 1);
  }
  __device__ __forceinline__ float value(int i, int j) const { return sums[i >> 1][j >> 1][2 * (i & 1) + (j & 1)]; }

  __device__ __forceinline__ void add(const unsigned (&a)[pieces][4], const unsigned (&b)[2][2], int j) {
#pragma unroll
    for (int i = 0; i < pieces; i++) {
      mma_16x8x16(sums[i][2 * j], a[i], b[0], T());
      mma_16x8x16(sums[i][2 * j + 1], a[i], b[1], T());
    }
  }

  // Adds a step whose operands lie as [k][m] and [k][n].
  __device__ __forceinline__ void multiply_km_kn(const T *a, int a_stride, const T *b, int b_stride) {
#pragma unroll
    for (int k = 0; k < depth; k += 16) {
      unsigned left[pieces][4];
#pragma unroll
      for (int i = 0; i < pieces; i++) load_a_km(left[i], a + k * a_stride + warp_row() + 16 * i, a_stride);
#pragma unroll
      for (int j = 0; j < 2; j++) {
        unsigned right[2][2];
        load_b_kn(right, b + k * b_stride + warp_column() + 16 * j, b_stride);
        add(left, right, j);
      }
    }
  }

  // Adds half a step whose operands lie as [m][k] and [n][k].
  __device__ __forceinline__ void multiply_mk_nk(const T *a, const T *b, int stride, int half) {
    {
      const int k = half * (depth / 2);
      unsigned left[pieces][4];
#pragma unroll
      for (int i = 0; i < pieces; i++) load_a_mk(left[i], a + (warp_row() + 16 * i) * stride + k, stride);
#pragma unroll
      for (int j = 0; j < 2; j++) {
        unsigned right[2][2];
        load_b_nk(right, b + (warp_column() + 16 * j) * stride + k, stride);
        add(left, right, j);
      }
    }
  }
};

// The same in f32 without tensor cores: 16 × 16 threads, each of tile_m/16 × 8 sums in pairs of neighbours.
template <int tile_m>
struct Product<float, tile_m> {
  static constexpr int depth = 16, gap = 4, rows = tile_m / 16, columns = 8;
  float sums[rows][columns] = {};

  static __device__ __forceinline__ int row(int i) { return 32 * (i >> 1) + 2 * (threadIdx.x >> 4) + (i & 1); }
  static __device__ __forceinline__ int column(int j) { return 32 * (j >> 1) + 2 * (threadIdx.x & 15) + (j & 1); }
  __device__ __forceinline__ float value(int i, int j) const { return sums[i][j]; }

  __device__ __forceinline__ void add(const float (&a)[rows], const float (&b)[columns]) {
#pragma unroll
    for (int i = 0; i < rows; i++) {
#pragma unroll
      for (int j = 0; j < columns; j++) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
    }
  }

  __device__ __forceinline__ void multiply_km_kn(const float *a, int a_stride, const float *b, int b_stride) {
#pragma unroll 1
    for (int k = 0; k < depth; k++) {
      float left[rows], right[columns];
#pragma unroll
      for (int i = 0; i < rows; i += 2) {
        const Pair<float> pair = *(const Pair<float> *)(a + k * a_stride + row(i));
        left[i] = pair.low, left[i + 1] = pair.high;
      }
#pragma unroll
      for (int j = 0; j < columns; j += 2) {
        const Pair<float> pair = *(const Pair<float> *)(b + k * b_stride + column(j));
        right[j] = pair.low, right[j + 1] = pair.high;
      }
      add(left, right);
    }
  }

  __device__ __forceinline__ void multiply_mk_nk(const float *a, const float *b, int stride, int half) {
#pragma unroll 1
    for (int k = half * (depth / 2); k < (half + 1) * (depth / 2); k++) {
      float left[rows], right[columns];
#pragma unroll
      for (int i = 0; i < rows; i++) left[i] = a[row(i) * stride + k];
#pragma unroll
      for (int j = 0; j < columns; j++) right[j] = b[column(j) * stride + k];
      add(left, right);
    }
  }
};

// Sizes of a product over taps. Source and target are x and y, or dy and dx where `transposed`.
struct Sizes {
  int batch, channels, height, width, filters, out_height, out_width, kernel_width, stride, padding;
};

// One target pixel: where its image's source begins, and its source under tap (0, 0) before division by the stride.
template <typename T>
struct Pixel {
  const T *image;
  int h, k;
};

template <typename T>
static __device__ __forceinline__ Pixel<T> pixel_of(const T *x, const Sizes &s, bool transposed, unsigned column) {
  const unsigned pixels = s.out_height * s.out_width;
  const unsigned image = column / pixels, inside = column - image * pixels, row = inside / (unsigned)s.out_width;
  const int h = row, k = inside - row * s.out_width;
  Pixel<T> pixel = {x + (i64)image * s.channels * s.height * s.width, h * s.stride - s.padding, k * s.stride - s.padding};
  if (transposed) pixel.h = h + s.padding, pixel.k = k + s.padding;
  return pixel;
}

// The source of target (h, k) under a tap: an offset inside a channel's plane, −1 outside the image.
static __device__ __forceinline__ int source(const Sizes &s, bool transposed, int h, int k, int tap) {
  const int u = tap / s.kernel_width, v = tap - u * s.kernel_width;
  h += transposed ? -u : u, k += transposed ? -v : v;
  if (h < 0 || k < 0) return -1;
  if (transposed && s.stride != 1) {
    if (h % s.stride != 0 || k % s.stride != 0) return -1;
    h /= s.stride, k /= s.stride;
  }
  return h < s.height && k < s.width ? h * s.width + k : -1;
}

// filters × pixels of the target, or part blockIdx.z of their sums. packed: [tap][channel][filter], rows `packed_stride`.
template <typename T, int tile_m>
static __device__ __forceinline__ void gemm(T *y, float *parts, const T *x, const T *packed, const T *bias, const Sizes s,
                                            int taps, int packed_stride, bool transposed, bool has_bias) {
  typedef Product<T, tile_m> Tile;
  constexpr int depth = Tile::depth, a_stride = tile_m + 8, b_stride = tile_n + 8, chunk = 16 / sizeof(T);
  alignas(16) __shared__ T a[2][depth * a_stride];
  alignas(16) __shared__ T b[2][depth * b_stride];

  const unsigned pixels = s.out_height * s.out_width, total = s.batch * pixels;
  const unsigned first_column = blockIdx.x * tile_n;
  const int first_row = blockIdx.y * tile_m;
  // The elements of one image are counted in 32 bits: an address is then one multiply-add.
  const unsigned plane = s.height * s.width;

  // This thread brings pixels 2·pair and 2·pair+1 of channels lane_row, lane_row+4, … of every step. A pixel beyond the last
  // reads what the last one reads, one outside the image what its corner holds; `keep` puts zero in its place.
  const int pair = threadIdx.x & 63, lane_row = threadIdx.x >> 6;
  const unsigned column = first_column + 2 * pair;
  const Pixel<T> pixel[2] = {pixel_of(x, s, transposed, min(column, total - 1)),
                             pixel_of(x, s, transposed, min(column + 1, total - 1))};
  unsigned corner[2];
  bool inside[2];

  // And weights of filters a_column … of channels a_row, a_row + a_rows, ….
  constexpr int a_rows = block_threads / (tile_m / chunk);
  const int a_row = threadIdx.x / (tile_m / chunk), a_column = threadIdx.x % (tile_m / chunk) * chunk;
  const bool a_exists = first_row + a_column < packed_stride;

  const int chunks = (s.channels + depth - 1) / depth;
  const i64 steps = (i64)taps * chunks;
  const int begin = (int)(steps * blockIdx.z / gridDim.z), end = (int)(steps * (blockIdx.z + 1) / gridDim.z);
  int tap = begin / chunks, channel = (begin - tap * chunks) * depth;
  Pair<T> ahead[depth / 4];
  T zero;
  from_float(0.0f, zero);

  auto enter_tap = [&]() {
#pragma unroll
    for (int e = 0; e < 2; e++) {
      const int at = source(s, transposed, pixel[e].h, pixel[e].k, tap);
      inside[e] = at >= 0 && column + e < total;
      corner[e] = at >= 0 ? at : 0;
    }
  };
  auto fetch = [&](int stage) {
    const unsigned low = (channel + lane_row) * plane + corner[0], high = (channel + lane_row) * plane + corner[1];
    if (channel + depth <= s.channels) {
#pragma unroll
      for (int i = 0; i < depth / 4; i++) {
        ahead[i].low = pixel[0].image[low + 4 * i * plane];
        ahead[i].high = pixel[1].image[high + 4 * i * plane];
      }
    } else {
#pragma unroll
      for (int i = 0; i < depth / 4; i++) {
        const bool exists = 4 * i < s.channels - channel - lane_row;
        ahead[i].low = exists ? pixel[0].image[low + 4 * i * plane] : zero;
        ahead[i].high = exists ? pixel[1].image[high + 4 * i * plane] : zero;
      }
    }
    const T *const from = packed + ((i64)tap * s.channels + channel + a_row) * packed_stride + first_row + a_column;
#pragma unroll
    for (int i = 0; i < depth / a_rows; i++) {
      const bool exists = a_exists && i * a_rows < s.channels - channel - a_row;
      copy_16(&a[stage][(a_row + i * a_rows) * a_stride + a_column], from + (i64)i * a_rows * packed_stride, exists);
    }
    copy_commit();
  };
  auto keep = [&](int stage) {
#pragma unroll
    for (int i = 0; i < depth / 4; i++) {
      const Pair<T> both = {inside[0] ? ahead[i].low : zero, inside[1] ? ahead[i].high : zero};
      *(Pair<T> *)&b[stage][(lane_row + 4 * i) * b_stride + 2 * pair] = both;
    }
  };

  Tile tile;
  if (begin < end) {
    enter_tap();
    fetch(0);
    keep(0);
  }
  for (int step = begin; step < end; step++) {
    const int stage = (step - begin) & 1;
    copy_wait<0>();
    // The step is whole, and every warp has done with the other stage.
    __syncthreads();
    if (step + 1 < end) {
      channel += depth;
      if (channel >= s.channels) {
        channel = 0, tap++;
        enter_tap();
      }
      fetch(stage ^ 1);
    }
    tile.multiply_km_kn(a[stage], a_stride, b[stage], b_stride);
    if (step + 1 < end) keep(stage ^ 1);
  }

  const i64 part = (i64)blockIdx.z * s.filters * total;
#pragma unroll
  for (int j = 0; j < Tile::columns; j += 2) {
    const unsigned at = first_column + Tile::column(j);
    if (at >= total) continue;
    const unsigned image = at / pixels, in_image = at - image * pixels;
    // The neighbour is the next pixel of the image, or the first of the next image.
    const i64 first = (i64)image * s.filters * pixels + in_image;
    const i64 second = first + (in_image + 1 < pixels ? 1 : 1 + (i64)(s.filters - 1) * pixels);
    const bool both = at + 1 < total;
#pragma unroll
    for (int i = 0; i < Tile::rows; i++) {
      const int row = first_row + Tile::row(i);
      if (row >= s.filters) continue;
      const i64 offset = (i64)row * pixels;
      float low = tile.value(i, j), high = tile.value(i, j + 1);
      if (gridDim.z > 1) {
        parts[part + first + offset] = low;
        if (both) parts[part + second + offset] = high;
        continue;
      }
      const float shift = has_bias ? to_float(bias[row]) : 0.0f;
      Pair<T> rounded;
      from_float(low + shift, rounded.low);
      from_float(high + shift, rounded.high);
      if ((pixels & 1) == 0) {
        *(Pair<T> *)(y + first + offset) = rounded;
      } else {
        y[first + offset] = rounded.low;
        if (both) y[second + offset] = rounded.high;
      }
    }
  }
}

// Part blockIdx.z of the sums for tap blockIdx.y: parts[part][tap][filter][channel].
template <typename T, int tile_m>
static __device__ __forceinline__ void weight_grad(float *parts, const T *x, const T *dy, const Sizes s,
                                                   const Divider by_pixels, const Divider by_width) {
  typedef Product<T, tile_m> Tile;
  constexpr int depth = Tile::depth, stride = depth + Tile::gap, pairs = depth / 2, step_rows = block_threads / pairs;
  alignas(16) __shared__ T a[2][tile_m * stride];
  alignas(16) __shared__ T b[2][tile_n * stride];

  const unsigned pixels = s.out_height * s.out_width, total = s.batch * pixels;
  const int tiles_n = (s.channels + tile_n - 1) / tile_n;
  const int first_row = (int)(blockIdx.x / tiles_n) * tile_m, first_column = (int)(blockIdx.x % tiles_n) * tile_n;
  const int tap = blockIdx.y;
  const i64 plane = (i64)s.height * s.width;
  const int pair = threadIdx.x % pairs, lane_row = threadIdx.x / pairs;
  const bool paired = (pixels & 1) == 0;

  const i64 steps = (total + depth - 1) / depth;
  const int begin = (int)(steps * blockIdx.z / gridDim.z), end = (int)(steps * (blockIdx.z + 1) / gridDim.z);
  // The next step's gradients are on their way during the first half of a step, its pixels during the second.
  auto place = [&](int step, int e, unsigned &image, unsigned &inside) {
    const unsigned q = (unsigned)step * depth + 2 * pair + e;
    image = by_pixels.quotient(q), inside = q - image * pixels;
    return q < total;
  };
  const int rows_left = s.filters - first_row - lane_row, columns_left = s.channels - first_column - lane_row;
  const i64 a_jump = (i64)step_rows * pixels, b_jump = step_rows * plane;
  Pair<T> a_ahead[tile_m / step_rows], b_ahead[tile_n / step_rows];
  auto fetch_a = [&](int step) {
    T zero;
    from_float(0.0f, zero);
    unsigned image[2], inside[2];
    const bool low = place(step, 0, image[0], inside[0]), high = place(step, 1, image[1], inside[1]);
    const T *from[2];
#pragma unroll
    for (int e = 0; e < 2; e++) {
      from[e] = dy + ((i64)image[e] * s.filters + first_row + lane_row) * pixels + inside[e];
    }
    // Pointers advance instead of being computed: eight products kept over the loop would not fit the registers.
#pragma unroll
    for (int i = 0; i < tile_m / step_rows; i++) {
      a_ahead[i] = {zero, zero};
      if (step_rows * i < rows_left && low) {
        if (paired) {
          a_ahead[i] = *(const Pair<T> *)from[0];
        } else {
          a_ahead[i].low = *from[0];
          if (high) a_ahead[i].high = *from[1];
        }
      }
      from[0] += a_jump, from[1] += a_jump;
    }
  };
  auto fetch_b = [&](int step) {
    T zero;
    from_float(0.0f, zero);
    const T *from[2];
    int at[2];
#pragma unroll
    for (int e = 0; e < 2; e++) {
      unsigned image, inside;
      const bool exists = place(step, e, image, inside);
      const unsigned row = by_width.quotient(inside);
      at[e] = exists ? source(s, false, (int)row * s.stride - s.padding,
                              (int)(inside - row * s.out_width) * s.stride - s.padding, tap)
                     : -1;
      from[e] = x + ((i64)image * s.channels + first_column + lane_row) * plane + at[e];
    }
#pragma unroll
    for (int i = 0; i < tile_n / step_rows; i++) {
      const bool exists = step_rows * i < columns_left;
      b_ahead[i].low = exists && at[0] >= 0 ? *from[0] : zero;
      b_ahead[i].high = exists && at[1] >= 0 ? *from[1] : zero;
      from[0] += b_jump, from[1] += b_jump;
    }
  };
  auto keep_a = [&](int stage) {
#pragma unroll
    for (int i = 0; i < tile_m / step_rows; i++) {
      *(Pair<T> *)&a[stage][(lane_row + step_rows * i) * stride + 2 * pair] = a_ahead[i];
    }
  };
  auto keep_b = [&](int stage) {
#pragma unroll
    for (int i = 0; i < tile_n / step_rows; i++) {
      *(Pair<T> *)&b[stage][(lane_row + step_rows * i) * stride + 2 * pair] = b_ahead[i];
    }
  };

  Tile tile;
  if (begin < end) {
    fetch_a(begin);
    keep_a(0);
    fetch_b(begin);
    keep_b(0);
  }
  for (int step = begin; step < end; step++) {
    const int stage = (step - begin) & 1;
    const bool more = step + 1 < end;
    // The step is whole, and every warp has done with the other stage.
    __syncthreads();
    if (more) fetch_a(step + 1);
    tile.multiply_mk_nk(a[stage], b[stage], stride, 0);
    if (more) keep_a(stage ^ 1);
    if (more) fetch_b(step + 1);
    tile.multiply_mk_nk(a[stage], b[stage], stride, 1);
    if (more) keep_b(stage ^ 1);
  }

  float *part = parts + ((i64)blockIdx.z * gridDim.y + tap) * s.filters * s.channels;
#pragma unroll
  for (int i = 0; i < Tile::rows; i++) {
    const int o = first_row + Tile::row(i);
#pragma unroll
    for (int j = 0; j < Tile::columns; j++) {
      const int c = first_column + Tile::column(j);
      if (o < s.filters && c < s.channels) part[(i64)o * s.channels + c] = tile.value(i, j);
    }
  }
}

// packed[tap][c][o] = w[o][c][tap], zero for o from `filters` to `packed_stride`: a transposition in tiles of 32 × 32.
// Block (32, 8); grid.x over C·U·V, grid.y over `packed_stride`.
template <typename T>
static __device__ __forceinline__ void pack_forward(T *packed, const T *w, int filters, int channels, int taps,
                                                    int packed_stride) {
  __shared__ T tile[32][33];
  const i64 columns = (i64)channels * taps, first = (i64)blockIdx.x * 32;
  const int first_filter = blockIdx.y * 32;
  for (int i = threadIdx.y; i < 32; i += 8) {
    const i64 column = first + threadIdx.x;
    const int o = first_filter + i;
    from_float(0.0f, tile[i][threadIdx.x]);
    if (o < filters && column < columns) tile[i][threadIdx.x] = w[o * columns + column];
  }
  __syncthreads();
  for (int i = threadIdx.y; i < 32; i += 8) {
    const i64 column = first + i;
    const int o = first_filter + (int)threadIdx.x;
    if (column >= columns || o >= packed_stride) continue;
    const i64 c = column / taps, tap = column - c * taps;
    packed[(tap * channels + c) * packed_stride + o] = tile[threadIdx.x][i];
  }
}

// packed[tap][o][c] = w[o][c][tap], zero for c from `channels` to `packed_stride`; a thread for each o, c.
template <typename T>
static __device__ __forceinline__ void pack_input_grad(T *packed, const T *w, int filters, int channels, int taps,
                                                       int packed_stride) {
  const i64 count = (i64)filters * packed_stride;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x) {
    const i64 o = i / packed_stride, c = i - o * packed_stride;
    for (int tap = 0; tap < taps; tap++) {
      T value;
      from_float(0.0f, value);
      if (c < channels) value = w[(o * channels + c) * taps + tap];
      packed[tap * count + i] = value;
    }
  }
}

// y = Σ parts + bias, parts in order. `pixels` of one image.
template <typename T>
static __device__ __forceinline__ void join(T *y, const float *parts, const T *bias, i64 count, i64 pixels, int filters,
                                            int splits, bool has_bias) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x) {
    float sum = 0.0f;
    for (int part = 0; part < splits; part++) sum += parts[part * count + i];
    if (has_bias) sum += to_float(bias[i / pixels % filters]);
    from_float(sum, y[i]);
  }
}

// dw[filter][channel][tap] = Σ parts[part][tap][filter][channel], parts in order; `count` filters × channels.
template <typename T>
static __device__ __forceinline__ void join_weights(T *dw, const float *parts, i64 count, int taps, int splits) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x) {
    for (int tap = 0; tap < taps; tap++) {
      float sum = 0.0f;
      for (int part = 0; part < splits; part++) sum += parts[((i64)part * taps + tap) * count + i];
      from_float(sum, dw[i * taps + tap]);
    }
  }
}

// y += bias, for a convolution that was one matrix product. `pixels` of one image.
template <typename T>
static __device__ __forceinline__ void add_bias(T *y, const T *bias, i64 count, i64 pixels, int filters) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x) {
    from_float(to_float(y[i]) + to_float(bias[i / pixels % filters]), y[i]);
  }
}

// parts[o][piece] = the sum of piece blockIdx.x of filter blockIdx.y's N·I·J gradients.
template <typename T>
static __device__ __forceinline__ void bias_grad_parts(float *parts, const T *dy, int batch, i64 pixels, int filters) {
  __shared__ float shared[32];
  const i64 total = batch * pixels;
  const i64 begin = total * blockIdx.x / gridDim.x, end = total * (blockIdx.x + 1) / gridDim.x;
  for (int o = blockIdx.y; o < filters; o += gridDim.y) {
    float sum = 0.0f;
    i64 image = begin / pixels, inside = begin - image * pixels + threadIdx.x;
    for (i64 i = begin + threadIdx.x; i < end; i += blockDim.x, inside += blockDim.x) {
      while (inside >= pixels) inside -= pixels, image++;
      sum += to_float(dy[(image * filters + o) * pixels + inside]);
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) parts[(i64)o * gridDim.x + blockIdx.x] = sum;
  }
}

template <typename T>
static __device__ __forceinline__ void bias_grad_join(T *db, const float *parts, int filters, int pieces) {
  for (int o = blockIdx.x * blockDim.x + threadIdx.x; o < filters; o += gridDim.x * blockDim.x) {
    float sum = 0.0f;
    for (int piece = 0; piece < pieces; piece++) sum += parts[(i64)o * pieces + piece];
    from_float(sum, db[o]);
  }
}

#define SIZES                                                                                                          \
  int batch, int channels, int height, int width, int filters, int out_height, int out_width, int kernel_width, int stride, \
      int padding
#define SIZES_GIVEN                                                                                                    \
  { batch, channels, height, width, filters, out_height, out_width, kernel_width, stride, padding }

#define GEMM(name, T, tile_m)                                                                                          \
  extern "C" __global__ void __launch_bounds__(block_threads, 2)                                                             \
      name(T *y, float *parts, const T *x, const T *packed, const T *bias, SIZES, int taps, int packed_stride,         \
           int transposed, int has_bias) {                                                                             \
    gemm<T, tile_m>(y, parts, x, packed, bias, SIZES_GIVEN, taps, packed_stride, transposed != 0, has_bias != 0);       \
  }
#define WEIGHT_GRAD(name, T, tile_m)                                                                                   \
  extern "C" __global__ void __launch_bounds__(block_threads, 2)                                                             \
      name(float *parts, const T *x, const T *dy, SIZES, u64 by_pixels, u64 by_width) {                                \
    weight_grad<T, tile_m>(parts, x, dy, SIZES_GIVEN, Divider(by_pixels), Divider(by_width));                          \
  }

#define INSTANCES(T)                                                                                                   \
  GEMM(conv2d_gemm_##T, TYPE_##T, 128)                                                                                 \
  GEMM(conv2d_gemm_narrow_##T, TYPE_##T, 64)                                                                           \
  WEIGHT_GRAD(conv2d_weight_grad_##T, TYPE_##T, 128)                                                                   \
  WEIGHT_GRAD(conv2d_weight_grad_narrow_##T, TYPE_##T, 64)                                                             \
  extern "C" __global__ void conv2d_pack_forward_##T(TYPE_##T *packed, const TYPE_##T *w, int filters, int channels,   \
                                                     int taps, int packed_stride) {                                    \
    pack_forward<TYPE_##T>(packed, w, filters, channels, taps, packed_stride);                                         \
  }                                                                                                                    \
  extern "C" __global__ void conv2d_pack_input_grad_##T(TYPE_##T *packed, const TYPE_##T *w, int filters,              \
                                                        int channels, int taps, int packed_stride) {                   \
    pack_input_grad<TYPE_##T>(packed, w, filters, channels, taps, packed_stride);                                      \
  }                                                                                                                    \
  extern "C" __global__ void conv2d_join_##T(TYPE_##T *y, const float *parts, const TYPE_##T *bias, i64 count,         \
                                             i64 pixels, int filters, int splits, int has_bias) {                      \
    join<TYPE_##T>(y, parts, bias, count, pixels, filters, splits, has_bias != 0);                                     \
  }                                                                                                                    \
  extern "C" __global__ void conv2d_join_weights_##T(TYPE_##T *dw, const float *parts, i64 count, int taps,            \
                                                     int splits) {                                                     \
    join_weights<TYPE_##T>(dw, parts, count, taps, splits);                                                            \
  }                                                                                                                    \
  extern "C" __global__ void conv2d_add_bias_##T(TYPE_##T *y, const TYPE_##T *bias, i64 count, i64 pixels,             \
                                                 int filters) {                                                        \
    add_bias<TYPE_##T>(y, bias, count, pixels, filters);                                                               \
  }                                                                                                                    \
  extern "C" __global__ void conv2d_bias_grad_parts_##T(float *parts, const TYPE_##T *dy, int batch, i64 pixels,       \
                                                        int filters) {                                                 \
    bias_grad_parts<TYPE_##T>(parts, dy, batch, pixels, filters);                                                      \
  }                                                                                                                    \
  extern "C" __global__ void conv2d_bias_grad_join_##T(TYPE_##T *db, const float *parts, int filters, int pieces) {    \
    bias_grad_join<TYPE_##T>(db, parts, filters, pieces);                                                              \
  }

typedef float TYPE_f32;
typedef f16 TYPE_f16;
typedef bf16 TYPE_bf16;
INSTANCES(f32)
INSTANCES(f16)
INSTANCES(bf16)

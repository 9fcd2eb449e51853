// Attention on tensor cores, forward, for f16 and bf16: the map never leaves the registers.
//
//   s = scale · q · kᵀ,  p = softmax over keys of s,  y = p · v,  logsumexp[i] = ln Σ_j exp s[i,j]
//
// q, y (heads, Tq, D), k, v (heads, Tk, D), logsumexp (heads, Tq) in f32; row-major, `heads` counts batch × heads. Causal:
// query i sees keys j ≤ i. D is any size up to the tile's (16, 32, 48, 64, 80, 128, 160); missing columns count as zero.
//
// A block has 4 warps, each with `pieces` × 16 queries: their q, their sums of y and their softmax state stay in registers.
// Tiles of `tile_keys` keys and values pass through shared memory, the next being copied while one is used. For a tile a warp
// computes s (mma 16×8×16), takes the maximum of each row so far, p = exp2(s·c − maximum) with c = |scale|·log₂e, and adds
// p · v to sums scaled down by how much the maximum rose (the online softmax of Milakov and Gimelshein 2018; tiling after
// Dao 2023). The registers that hold s are, rounded to 16 bits, the left operand of p · v as they lie.
//
// Arithmetic: 4 · heads · Tq · Tk · D (half of it where causal), D rounded up to the tile's. Bytes: q and y once; k and v once
// a block of queries, mostly from L2.
#include "common.cuh"

static constexpr int block_threads = 128;
static constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

static __device__ __forceinline__ float infinity() { return __uint_as_float(0x7f800000u); }

// Rows first … first + tile_rows of a (rows, size) matrix into a tile, zero beyond its rows and its columns. Where rows are
// whole chunks of 16 bytes the copies are asynchronous.
template <typename T, int tile_rows, int width>
static __device__ __forceinline__ void copy_tile(T *tile, const T *matrix, int first, int rows, int size) {
  constexpr int stride = width + 8, chunks = width / 8;
  if (size % 8 == 0) {
#pragma unroll
    for (int i = 0; i < tile_rows * chunks / block_threads; i++) {
      const int at = i * block_threads + threadIdx.x, row = at / chunks, column = at % chunks * 8;
      const bool inside = first + row < rows && column < size;
      copy_16(tile + row * stride + column, matrix + (inside ? (i64)(first + row) * size + column : 0), inside);
    }
  } else {
    for (int at = threadIdx.x; at < tile_rows * width; at += block_threads) {
      const int row = at / width, column = at % width;
      T value;
      from_float(0.0f, value);
      if (first + row < rows && column < size) value = matrix[(i64)(first + row) * size + column];
      tile[row * stride + column] = value;
    }
  }
}

// Sum and maximum over the four lanes that hold one row of a product.
static __device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
static __device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

template <typename T, int width, int pieces, int tile_keys>
static __device__ __forceinline__ void forward(T *y, float *logsumexp, const T *q, const T *k, const T *v, int queries,
                                               int keys, int size, float scale, bool causal) {
  constexpr int stride = width + 8, tile = tile_keys * stride, block_queries = 64 * pieces;
  static_assert(block_queries <= 4 * tile_keys, "the queries pass through the tiles of keys and values");
  alignas(16) __shared__ T tiles[4 * tile];
  T *const key_tiles = tiles, *const value_tiles = tiles + 2 * tile;

  // Blocks with most keys to see come first.
  const int per_head = (queries + block_queries - 1) / block_queries;
  const i64 head = blockIdx.x / (unsigned)per_head;
  const int first_query = (per_head - 1 - (int)(blockIdx.x % (unsigned)per_head)) * block_queries;
  const int lane = threadIdx.x & 31, warp_query = (threadIdx.x >> 5) * 16 * pieces;
  q += head * queries * size, k += head * keys * size, v += head * keys * size;

  unsigned query[pieces][width / 16][4];
  copy_tile<T, block_queries, width>(tiles, q, first_query, queries, size);
  copy_commit();
  copy_wait<0>();
  __syncthreads();
#pragma unroll
  for (int m = 0; m < pieces; m++) {
#pragma unroll
    for (int d = 0; d < width / 16; d++) {
      load_a_mk(query[m][d], tiles + (warp_query + 16 * m) * stride + 16 * d, stride);
      // The maximum is taken before scaling, so the scale must be positive: its sign goes to the queries.
#pragma unroll
      for (int i = 0; i < 4; i++) query[m][d][i] ^= scale < 0.0f ? 0x80008000u : 0u;
    }
  }
  __syncthreads();

  // Not zero, so that a masked −∞ stays −∞ under any scale.
  const float factor = fmaxf(fabsf(scale) * log2_e, 1e-30f);
  const int seen = causal ? min(keys, first_query + block_queries) : keys;
  const int tile_count = (seen + tile_keys - 1) / tile_keys;
  float sums[pieces][width / 8][4] = {}, highest[pieces][2], total[pieces][2] = {};
#pragma unroll
  for (int m = 0; m < pieces; m++) highest[m][0] = highest[m][1] = -infinity();

  copy_tile<T, tile_keys, width>(key_tiles, k, 0, keys, size);
  copy_tile<T, tile_keys, width>(value_tiles, v, 0, keys, size);
  copy_commit();
  for (int t = 0; t < tile_count; t++) {
    const T *const key_tile = key_tiles + (t & 1) * tile, *const value_tile = value_tiles + (t & 1) * tile;
    copy_wait<0>();
    // The tile is whole, and every warp has done with the other.
    __syncthreads();
    if (t + 1 < tile_count) {
      copy_tile<T, tile_keys, width>(key_tiles + (~t & 1) * tile, k, (t + 1) * tile_keys, keys, size);
      copy_tile<T, tile_keys, width>(value_tiles + (~t & 1) * tile, v, (t + 1) * tile_keys, keys, size);
      copy_commit();
    }

    float s[pieces][tile_keys / 8][4] = {};
#pragma unroll
    for (int d = 0; d < width / 16; d++) {
#pragma unroll
      for (int j = 0; j < tile_keys / 16; j++) {
        unsigned key[2][2];
        load_b_nk(key, key_tile + 16 * j * stride + 16 * d, stride);
#pragma unroll
        for (int m = 0; m < pieces; m++) {
          mma_16x8x16(s[m][2 * j], query[m][d], key[0], T());
          mma_16x8x16(s[m][2 * j + 1], query[m][d], key[1], T());
        }
      }
    }

    const int first_key = t * tile_keys, first_row = first_query + warp_query;
    if (first_key + tile_keys > keys || (causal && first_key + tile_keys - 1 > first_row)) {
#pragma unroll
      for (int m = 0; m < pieces; m++) {
#pragma unroll
        for (int j = 0; j < tile_keys / 8; j++) {
#pragma unroll
          for (int i = 0; i < 4; i++) {
            const int row = first_row + 16 * m + (lane >> 2) + 8 * (i >> 1);
            const int column = first_key + 8 * j + 2 * (lane & 3) + (i & 1);
            if (column >= keys || (causal && column > row)) s[m][j][i] = -infinity();
          }
        }
      }
    }

#pragma unroll
    for (int m = 0; m < pieces; m++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float top = s[m][0][2 * half];
#pragma unroll
        for (int j = 0; j < tile_keys / 8; j++) top = fmaxf(top, fmaxf(s[m][j][2 * half], s[m][j][2 * half + 1]));
        top = fmaxf(highest[m][half], row_max(top) * factor);
        // A row that sees no key yet.
        const float base = top == -infinity() ? 0.0f : top;
        const float shrink = exp2_fast(highest[m][half] - base);
        highest[m][half] = top;
        total[m][half] *= shrink;
#pragma unroll
        for (int j = 0; j < tile_keys / 8; j++) {
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; i++) {
            s[m][j][i] = exp2_fast(fmaf(s[m][j][i], factor, -base));
            total[m][half] += s[m][j][i];
          }
        }
#pragma unroll
        for (int d = 0; d < width / 8; d++) sums[m][d][2 * half] *= shrink, sums[m][d][2 * half + 1] *= shrink;
      }
    }

#pragma unroll
    for (int j = 0; j < tile_keys / 16; j++) {
      unsigned p[pieces][4];
#pragma unroll
      for (int m = 0; m < pieces; m++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float *const pair = &s[m][2 * j + (i >> 1)][2 * (i & 1)];
          p[m][i] = pack(pair[0], pair[1], T());
        }
      }
#pragma unroll
      for (int d = 0; d < width / 16; d++) {
        unsigned value[2][2];
        load_b_kn(value, value_tile + 16 * j * stride + 16 * d, stride);
#pragma unroll
        for (int m = 0; m < pieces; m++) {
          mma_16x8x16(sums[m][2 * d], p[m], value[0], T());
          mma_16x8x16(sums[m][2 * d + 1], p[m], value[1], T());
        }
      }
    }
  }

#pragma unroll
  for (int m = 0; m < pieces; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = first_query + warp_query + 16 * m + (lane >> 2) + 8 * half;
      const float all = row_sum(total[m][half]), inverse = 1.0f / all;
      if (row >= queries) continue;
      if ((lane & 3) == 0) logsumexp[head * queries + row] = highest[m][half] * ln_2 + logf(all);
      T *const into = y + (head * queries + row) * size;
#pragma unroll
      for (int d = 0; d < width / 8; d++) {
        const int column = 8 * d + 2 * (lane & 3);
        Pair<T> pair;
        from_float(sums[m][d][2 * half] * inverse, pair.low);
        from_float(sums[m][d][2 * half + 1] * inverse, pair.high);
        if (size % 2 == 0) {
          if (column < size) *(Pair<T> *)(into + column) = pair;
        } else {
          if (column < size) into[column] = pair.low;
          if (column + 1 < size) into[column + 1] = pair.high;
        }
      }
    }
  }
}

// Two 16-query pieces a warp where the registers take their sums, and as many keys as they and 48 KB take.
#define FORWARD(T, width, pieces, keys_of_tile)                                                                                      \
  extern "C" __global__ void __launch_bounds__(block_threads, 2)                                                             \
      attention_forward_##T##_##width(T *y, float *logsumexp, const T *q, const T *k, const T *v, int queries,         \
                                      int keys, int size, float scale, int causal) {                                   \
    forward<T, width, pieces, keys_of_tile>(y, logsumexp, q, k, v, queries, keys, size, scale, causal != 0);            \
  }
#define WIDTHS(T)                                                                                                      \
  FORWARD(T, 16, 2, 64)                                                                                                \
  FORWARD(T, 32, 2, 64)                                                                                                \
  FORWARD(T, 48, 2, 64)                                                                                                \
  FORWARD(T, 64, 2, 64)                                                                                                \
  FORWARD(T, 80, 2, 32)                                                                                                \
  FORWARD(T, 128, 1, 32)                                                                                               \
  FORWARD(T, 160, 1, 32)
WIDTHS(f16)
WIDTHS(bf16)

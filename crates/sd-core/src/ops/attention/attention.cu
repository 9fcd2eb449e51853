// Attention on tensor cores for f16 and bf16, forward and backward: the map never leaves the registers.
//
//   s = scale · q · kᵀ,  p = softmax over keys of s,  y = p · v,  logsumexp[i] = ln Σ_j exp s[i,j]
//   delta[i] = Σ_d dy[i,d] · y[i,d] (attention_fma.cu makes it),  dp = dy · vᵀ,  ds = p ∘ (dp − delta)
//   dv = pᵀ · dy,  dq = scale · ds · k,  dk = scale · dsᵀ · q
//
// q, y (heads, Tq, D), k, v (heads, Tk, D), logsumexp (heads, Tq) in f32; row-major, `heads` counts batch × heads. Causal:
// query i sees keys j ≤ i. D is any size up to the tile's (16, 32, 48, 64, 80, 128, 160); missing columns count as zero.
//
// Forward: a block has 4 warps, each with `pieces` × 16 queries: their q, their sums of y and their softmax state stay in registers.
// Tiles of `tile_keys` keys and values pass through shared memory, the next being copied while one is used. For a tile a warp
// computes s (mma 16×8×16), takes the maximum of each row so far, p = exp2(s·c − maximum) with c = |scale|·log₂e, and adds
// p · v to sums scaled down by how much the maximum rose (the online softmax of Milakov and Gimelshein 2018; tiling after
// Dao 2023). The registers that hold s are, rounded to 16 bits, the left operand of p · v as they lie.
//
// Backward: p is computed again from logsumexp. attention_key_grad holds keys and values in shared memory and lets queries pass;
// attention_query_grad holds queries and dy and lets keys pass; each block alone has what it writes, so there are no atomics
// and one order of summing. They are one function. With sᵀ = k · qᵀ a warp's registers hold pᵀ and dsᵀ as the left
// operands of dv and dk, with s they hold ds as that of dq, so nothing goes through shared memory on the way.
//
// Arithmetic: 4 · heads · Tq · Tk · D forward, 14 backward (s and dp twice), half of it where causal, D rounded up to the tile's.
// Bytes: what is held once; what passes once a block, mostly from L2.
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
#pragma unroll 1
    for (int i = 0; i < (tile_rows * chunks + block_threads - 1) / block_threads; i++) {
      const int at = i * block_threads + threadIdx.x, row = at / chunks, column = at % chunks * 8;
      if (tile_rows * chunks % block_threads != 0 && row >= tile_rows) continue;
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

// Two neighbours of a row of the result, from column on.
template <typename T>
static __device__ __forceinline__ void store_pair(T *row, int column, int size, float low, float high) {
  Pair<T> pair;
  from_float(low, pair.low);
  from_float(high, pair.high);
  if (size % 2 == 0) {
    if (column < size) *(Pair<T> *)(row + column) = pair;
  } else {
    if (column < size) row[column] = pair.low;
    if (column + 1 < size) row[column + 1] = pair.high;
  }
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
        store_pair(into, 8 * d + 2 * (lane & 3), size, sums[m][d][2 * half] * inverse, sums[m][d][2 * half + 1] * inverse);
      }
    }
  }
}

extern __shared__ float dynamic_shared[];

// s = left · rightᵀ for this warp's rows of a held tile and all rows of a passing one.
template <typename T, int width, int pieces, int passing>
static __device__ __forceinline__ void multiply_tiles(float (&s)[pieces][passing / 8][4], const T *left, const T *right) {
  constexpr int stride = width + 8;
#pragma unroll
  for (int d = 0; d < width / 16; d++) {
    unsigned a[pieces][4];
#pragma unroll
    for (int m = 0; m < pieces; m++) load_a_mk(a[m], left + 16 * m * stride + 16 * d, stride);
#pragma unroll
    for (int j = 0; j < passing / 16; j++) {
      unsigned b[2][2];
      load_b_nk(b, right + 16 * j * stride + 16 * d, stride);
#pragma unroll
      for (int m = 0; m < pieces; m++) {
        mma_16x8x16(s[m][2 * j], a[m], b[0], T());
        mma_16x8x16(s[m][2 * j + 1], a[m], b[1], T());
      }
    }
  }
}

// sums += map · right, the map as multiply_tiles left it, rounded.
template <typename T, int width, int pieces, int passing>
static __device__ __forceinline__ void multiply_map(float (&sums)[pieces][width / 8][4],
                                                    const float (&map)[pieces][passing / 8][4], const T *right) {
  constexpr int stride = width + 8;
#pragma unroll
  for (int j = 0; j < passing / 16; j++) {
    unsigned a[pieces][4];
#pragma unroll
    for (int m = 0; m < pieces; m++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float *const pair = &map[m][2 * j + (i >> 1)][2 * (i & 1)];
        a[m][i] = pack(pair[0], pair[1], T());
      }
    }
#pragma unroll
    for (int d = 0; d < width / 16; d++) {
      unsigned b[2][2];
      load_b_kn(b, right + 16 * j * stride + 16 * d, stride);
#pragma unroll
      for (int m = 0; m < pieces; m++) {
        mma_16x8x16(sums[m][2 * d], a[m], b[0], T());
        mma_16x8x16(sums[m][2 * d + 1], a[m], b[1], T());
      }
    }
  }
}

template <typename T, int width, int pieces>
static __device__ __forceinline__ void store_rows(T *matrix, const float (&sums)[pieces][width / 8][4], int first, int rows,
                                                  int size, float factor) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int m = 0; m < pieces; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = first + 16 * m + (lane >> 2) + 8 * half;
      if (row >= rows) continue;
#pragma unroll
      for (int d = 0; d < width / 8; d++) {
        const float low = sums[m][d][2 * half] * factor, high = sums[m][d][2 * half + 1] * factor;
        store_pair(matrix + (i64)row * size, 8 * d + 2 * (lane & 3), size, low, high);
      }
    }
  }
}

// Gradients of one tile: of keys and values (dk, dv) where `holds_keys`, of queries (dq as `dk`, dv unused) where not.
template <typename T, int width, int pieces, int passing, bool holds_keys>
static __device__ __forceinline__ void backward(T *dk, T *dv, const T *q, const T *k, const T *v, const T *dy,
                                                const float *logsumexp, const float *delta, int queries, int keys, int size,
                                                float scale, bool causal) {
  constexpr int stride = width + 8, held = 64 * pieces, tile = passing * stride;
  T *const held_1 = (T *)dynamic_shared, *const held_2 = held_1 + held * stride;
  T *const passing_1 = held_2 + held * stride, *const passing_2 = passing_1 + 2 * tile;
  // For two stages the logsumexp (in powers of two) and the delta of passing queries.
  float *const of_passing = (float *)(passing_2 + 2 * tile);

  const int held_count = holds_keys ? keys : queries, passing_count = holds_keys ? queries : keys;
  const int per_head = (held_count + held - 1) / held;
  const i64 head = blockIdx.x / (unsigned)per_head;
  const int first_held = (int)(blockIdx.x % (unsigned)per_head) * held;
  const int lane = threadIdx.x & 31, warp_row = (threadIdx.x >> 5) * 16 * pieces;
  q += head * queries * size, dy += head * queries * size, k += head * keys * size, v += head * keys * size;
  logsumexp += head * queries, delta += head * queries;

  // Causal: keys are seen by queries from their own index on, queries see keys up to theirs.
  const int begin = causal && holds_keys ? first_held / passing : 0;
  const int last = causal && !holds_keys ? min(passing_count, first_held + held) : passing_count;
  const int end = (last + passing - 1) / passing;

  float next[2] = {};
  auto fetch = [&](int t) {
    copy_tile<T, passing, width>(passing_1 + (t & 1) * tile, holds_keys ? q : k, t * passing, passing_count, size);
    copy_tile<T, passing, width>(passing_2 + (t & 1) * tile, holds_keys ? dy : v, t * passing, passing_count, size);
    copy_commit();
    const int query = t * passing + threadIdx.x;
    if (holds_keys && threadIdx.x < passing && query < queries) next[0] = logsumexp[query] * log2_e, next[1] = delta[query];
  };
  auto keep = [&](int t) {
    if (!holds_keys || threadIdx.x >= passing) return;
    of_passing[(t & 1) * 2 * passing + threadIdx.x] = next[0];
    of_passing[(t & 1) * 2 * passing + passing + threadIdx.x] = next[1];
  };
  copy_tile<T, held, width>(held_1, holds_keys ? k : q, first_held, held_count, size);
  copy_tile<T, held, width>(held_2, holds_keys ? v : dy, first_held, held_count, size);
  if (begin < end) {
    fetch(begin);
    keep(begin);
  }

  // The same of the rows this thread holds.
  float row_base[pieces][2] = {}, row_delta[pieces][2] = {};
#pragma unroll
  for (int m = 0; m < pieces; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = first_held + warp_row + 16 * m + (lane >> 2) + 8 * half;
      if (holds_keys || row >= queries) continue;
      row_base[m][half] = logsumexp[row] * log2_e, row_delta[m][half] = delta[row];
    }
  }

  const float factor = scale * log2_e;
  float of_ds[pieces][width / 8][4] = {}, of_p[pieces][width / 8][4] = {};
  for (int t = begin; t < end; t++) {
    copy_wait<0>();
    // The tile is whole, and every warp has done with the other.
    __syncthreads();
    if (t + 1 < end) fetch(t + 1);
    const T *const tile_1 = passing_1 + (t & 1) * tile, *const tile_2 = passing_2 + (t & 1) * tile;
    const float *const bases = of_passing + (t & 1) * 2 * passing, *const deltas = bases + passing;
    float p[pieces][passing / 8][4] = {}, ds[pieces][passing / 8][4] = {};
    multiply_tiles<T, width, pieces, passing>(p, held_1 + warp_row * stride, tile_1);
    multiply_tiles<T, width, pieces, passing>(ds, held_2 + warp_row * stride, tile_2);

    const int first_row = first_held + warp_row, first_column = t * passing;
    const bool whole = first_column + passing <= passing_count && first_row + 16 * pieces <= held_count;
    const bool seen = !causal || (holds_keys ? first_row + 16 * pieces - 1 <= first_column
                                             : first_column + passing - 1 <= first_row);
#pragma unroll
    for (int m = 0; m < pieces; m++) {
#pragma unroll
      for (int j = 0; j < passing / 8; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int half = i >> 1, in_tile = 8 * j + 2 * (lane & 3) + (i & 1);
          const float base = holds_keys ? bases[in_tile] : row_base[m][half];
          const float shift = holds_keys ? deltas[in_tile] : row_delta[m][half];
          float value = exp2_fast(fmaf(p[m][j][i], factor, -base));
          if (!(whole && seen)) {
            const int row = first_row + 16 * m + (lane >> 2) + 8 * half, column = first_column + in_tile;
            const int query = holds_keys ? column : row, key = holds_keys ? row : column;
            if (query >= queries || key >= keys || (causal && key > query)) value = 0.0f;
          }
          p[m][j][i] = value;
          ds[m][j][i] = value * (ds[m][j][i] - shift);
        }
      }
    }
    if (holds_keys) multiply_map<T, width, pieces, passing>(of_p, p, tile_2);
    multiply_map<T, width, pieces, passing>(of_ds, ds, tile_1);
    if (t + 1 < end) keep(t + 1);
  }
  // Keys that no query sees leave copies under way.
  copy_wait<0>();
  const i64 offset = head * held_count * size;
  store_rows<T, width, pieces>(dk + offset, of_ds, first_held + warp_row, held_count, size, scale);
  if (holds_keys) store_rows<T, width, pieces>(dv + offset, of_p, first_held + warp_row, held_count, size, 1.0f);
}

// Two 16-query pieces a warp where the registers take their sums, and as many keys as they and 48 KB take.
#define FORWARD(T, width, pieces, keys_of_tile)                                                                        \
  extern "C" __global__ void __launch_bounds__(block_threads, 2)                                                       \
      attention_forward_##T##_##width(T *y, float *logsumexp, const T *q, const T *k, const T *v, int queries,         \
                                      int keys, int size, float scale, int causal) {                                   \
    forward<T, width, pieces, keys_of_tile>(y, logsumexp, q, k, v, queries, keys, size, scale, causal != 0);           \
  }
#define BACKWARD(T, width, key_pieces, key_passing, query_pieces)                                                      \
  extern "C" __global__ void __launch_bounds__(block_threads, 2)                                                       \
      attention_key_grad_##T##_##width(T *dk, T *dv, const T *q, const T *k, const T *v, const T *dy,                  \
                                       const float *logsumexp, const float *delta, int queries, int keys, int size,    \
                                       float scale, int causal) {                                                      \
    backward<T, width, key_pieces, key_passing, true>(dk, dv, q, k, v, dy, logsumexp, delta, queries, keys, size, scale, \
                                         causal != 0);                                                                 \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(block_threads, 2)                                                       \
      attention_query_grad_##T##_##width(T *dq, const T *q, const T *k, const T *v, const T *dy,                       \
                                         const float *logsumexp, const float *delta, int queries, int keys, int size,  \
                                         float scale, int causal) {                                                    \
    backward<T, width, query_pieces, 32, false>(dq, (T *)0, q, k, v, dy, logsumexp, delta, queries, keys, size, scale, \
                                            causal != 0);                                                              \
  }
#define INSTANCES(T, width, pieces, keys_of_tile, key_pieces, key_passing, query_pieces)                               \
  FORWARD(T, width, pieces, keys_of_tile)                                                                              \
  BACKWARD(T, width, key_pieces, key_passing, query_pieces)
#define WIDTHS(T)                                                                                                      \
  INSTANCES(T, 16, 2, 64, 2, 32, 2)                                                                                    \
  INSTANCES(T, 32, 2, 64, 2, 32, 2)                                                                                    \
  INSTANCES(T, 48, 2, 64, 2, 32, 2)                                                                                    \
  INSTANCES(T, 64, 2, 64, 1, 64, 2)                                                                                    \
  INSTANCES(T, 80, 2, 32, 1, 32, 2)                                                                                    \
  INSTANCES(T, 128, 1, 32, 1, 32, 1)                                                                                   \
  INSTANCES(T, 160, 1, 32, 1, 32, 1)
WIDTHS(f16)
WIDTHS(bf16)

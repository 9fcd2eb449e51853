// Attention in f32, forward and backward, by fused multiply-adds: no operand is rounded on the way. The delta of every element type.
//
//   s = scale · q · kᵀ,  p = softmax over keys of s,  y = p · v,  logsumexp[i] = ln Σ_j exp s[i,j]
//   delta[i] = Σ_d dy[i,d] · y[i,d],  dp = dy · vᵀ,  ds = p ∘ (dp − delta)
//   dv = pᵀ · dy,  dq = scale · ds · k,  dk = scale · dsᵀ · q
//
// Tensors (heads, T, D) row-major, `heads` counts batch × heads; logsumexp and delta (heads, Tq) in f32. Causal: query i sees
// keys j ≤ i. D is any size up to the instance's width; missing columns count as zero.
//
// 16 × 16 threads share tiles of f32 in shared memory whose rows are padded by 16 bytes (no bank conflicts). Forward: 64
// queries a block, online softmax over tiles of 64 keys. Backward: p is computed again from logsumexp, so that no map is
// kept. Two kernels, each block alone with what it writes, so no atomics and one order of summing: attention_key_grad holds a
// tile of keys and passes over the queries, attention_query_grad holds queries and passes over the keys. They are one
// function: what is held, K and V or Q and dY, meets what passes, Q and dY or K and V.
//
// Arithmetic: forward 4 · heads · Tq · Tk · D, backward 14 (s and dp twice); half of it where causal. Bytes: what is held
// once, what passes once a block, mostly from L2.
#include "common.cuh"

extern __shared__ float dynamic_shared[];

static constexpr int block_threads = 256;

static __device__ __forceinline__ int thread_row() { return threadIdx.x >> 4; }
static __device__ __forceinline__ int thread_column() { return threadIdx.x & 15; }

// Rows first … first + tile_rows of a (rows, size) matrix, zero beyond its rows and columns.
template <int tile_rows, int width>
static __device__ __forceinline__ void load_tile(float *tile, const float *matrix, int first, int rows, int size) {
  for (int at = threadIdx.x; at < tile_rows * width; at += block_threads) {
    const int row = at / width, column = at % width;
    const bool inside = first + row < rows && column < size;
    tile[row * (width + 4) + column] = inside ? matrix[(i64)(first + row) * size + column] : 0.0f;
  }
}

// sums[i][j] += Σ_d a[r+16i][d] · b[c+16j][d] for this thread's r, c.
template <int rows, int columns>
static __device__ __forceinline__ void multiply_nt(float (&sums)[rows][columns], const float *a, const float *b, int stride,
                                                   int depth) {
  for (int d = 0; d < depth; d += 4) {
    float4 right[columns];
#pragma unroll
    for (int j = 0; j < columns; j++) right[j] = *(const float4 *)(b + (thread_column() + 16 * j) * stride + d);
#pragma unroll
    for (int i = 0; i < rows; i++) {
      const float4 left = *(const float4 *)(a + (thread_row() + 16 * i) * stride + d);
#pragma unroll
      for (int j = 0; j < columns; j++) {
        sums[i][j] = fmaf(left.x, right[j].x, sums[i][j]);
        sums[i][j] = fmaf(left.y, right[j].y, sums[i][j]);
        sums[i][j] = fmaf(left.z, right[j].z, sums[i][j]);
        sums[i][j] = fmaf(left.w, right[j].w, sums[i][j]);
      }
    }
  }
}

// sums[i][j] += Σ_k a[r+16i][k] · b[k][c+16j].
template <int rows, int columns>
static __device__ __forceinline__ void multiply_nn(float (&sums)[rows][columns], const float *a, int a_stride, const float *b,
                                                   int b_stride, int depth) {
  for (int k = 0; k < depth; k += 4) {
    float4 left[rows];
#pragma unroll
    for (int i = 0; i < rows; i++) left[i] = *(const float4 *)(a + (thread_row() + 16 * i) * a_stride + k);
#pragma unroll
    for (int j = 0; j < columns; j++) {
      const float *const right = b + k * b_stride + thread_column() + 16 * j;
      const float x = right[0], y = right[b_stride], z = right[2 * b_stride], w = right[3 * b_stride];
#pragma unroll
      for (int i = 0; i < rows; i++) {
        sums[i][j] = fmaf(left[i].x, x, sums[i][j]);
        sums[i][j] = fmaf(left[i].y, y, sums[i][j]);
        sums[i][j] = fmaf(left[i].z, z, sums[i][j]);
        sums[i][j] = fmaf(left[i].w, w, sums[i][j]);
      }
    }
  }
}

// Over the 16 threads that share a row.
static __device__ __forceinline__ float row_max(float x) {
#pragma unroll
  for (int with = 8; with > 0; with >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, with));
  return x;
}
static __device__ __forceinline__ float row_sum(float x) {
#pragma unroll
  for (int with = 8; with > 0; with >>= 1) x += __shfl_xor_sync(0xffffffffu, x, with);
  return x;
}

template <int rows, int columns>
static __device__ __forceinline__ void store_tile(float *matrix, const float (&sums)[rows][columns], int first, int count,
                                                  int size) {
#pragma unroll
  for (int i = 0; i < rows; i++) {
    const int row = first + thread_row() + 16 * i;
#pragma unroll
    for (int j = 0; j < columns; j++) {
      const int column = thread_column() + 16 * j;
      if (row < count && column < size) matrix[(i64)row * size + column] = sums[i][j];
    }
  }
}

template <int width>
static __device__ __forceinline__ void forward(float *y, float *logsumexp, const float *q, const float *k, const float *v,
                                               int queries, int keys, int size, float scale, bool causal) {
  constexpr int tile = 64, stride = width + 4, p_stride = tile + 4;
  float *const query_tile = dynamic_shared, *const other_tile = query_tile + tile * stride;
  float *const p_tile = other_tile + tile * stride;
  const float lowest = -__uint_as_float(0x7f800000u);

  const int per_head = (queries + tile - 1) / tile;
  const i64 head = blockIdx.x / (unsigned)per_head;
  const int first_query = (per_head - 1 - (int)(blockIdx.x % (unsigned)per_head)) * tile;
  q += head * queries * size, k += head * keys * size, v += head * keys * size;
  load_tile<tile, width>(query_tile, q, first_query, queries, size);

  const int seen = causal ? min(keys, first_query + tile) : keys, depth = (size + 3) / 4 * 4;
  float sums[4][width / 16] = {}, highest[4], total[4] = {};
#pragma unroll
  for (int i = 0; i < 4; i++) highest[i] = lowest;

  for (int first_key = 0; first_key < seen; first_key += tile) {
    __syncthreads();
    load_tile<tile, width>(other_tile, k, first_key, keys, size);
    __syncthreads();
    float s[4][4] = {};
    multiply_nt(s, query_tile, other_tile, stride, depth);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int row = first_query + thread_row() + 16 * i;
      float top = highest[i];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int column = first_key + thread_column() + 16 * j;
        s[i][j] = column < keys && !(causal && column > row) ? s[i][j] * scale : lowest;
        top = fmaxf(top, s[i][j]);
      }
      top = row_max(top);
      // A row that sees no key yet.
      const float base = top == lowest ? 0.0f : top, shrink = expf(highest[i] - base);
      highest[i] = top;
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        s[i][j] = expf(s[i][j] - base);
        sum += s[i][j];
        p_tile[(thread_row() + 16 * i) * p_stride + thread_column() + 16 * j] = s[i][j];
      }
      total[i] = total[i] * shrink + row_sum(sum);
#pragma unroll
      for (int j = 0; j < width / 16; j++) sums[i][j] *= shrink;
    }
    // The keys are read: their place takes the values.
    __syncthreads();
    load_tile<tile, width>(other_tile, v, first_key, keys, size);
    __syncthreads();
    multiply_nn(sums, p_tile, p_stride, other_tile, stride, tile);
  }

#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int row = first_query + thread_row() + 16 * i;
    const float inverse = 1.0f / total[i];
#pragma unroll
    for (int j = 0; j < width / 16; j++) sums[i][j] *= inverse;
    if (row < queries && thread_column() == 0) logsumexp[head * queries + row] = highest[i] + logf(total[i]);
  }
  store_tile(y + head * queries * size, sums, first_query, queries, size);
}

// delta[row] = Σ_d dy[row,d] · y[row,d]: a warp a row.
template <typename T>
static __device__ __forceinline__ void row_products(float *delta, const T *dy, const T *y, i64 rows, int size) {
  const int lane = threadIdx.x & 31;
  const i64 first = ((i64)blockIdx.x * blockDim.x + threadIdx.x) >> 5, step = ((i64)gridDim.x * blockDim.x) >> 5;
  for (i64 row = first; row < rows; row += step) {
    float sum = 0.0f;
    for (int d = lane; d < size; d += 32) sum = fmaf(to_float(dy[row * size + d]), to_float(y[row * size + d]), sum);
    sum = warp_sum(sum);
    if (lane == 0) delta[row] = sum;
  }
}

// Gradients of one tile: of keys and values (dk, dv) where `holds_keys`, of queries (dq as `dk`, dv unused) where not.
template <int width, int held, int passing, bool holds_keys>
static __device__ __forceinline__ void backward(float *dk, float *dv, const float *q, const float *k, const float *v,
                                                const float *dy, const float *logsumexp, const float *delta, int queries,
                                                int keys, int size, float scale, bool causal) {
  constexpr int stride = width + 4, map_stride = passing + 4, rows = held / 16, columns = passing / 16;
  float *const held_1 = dynamic_shared, *const held_2 = held_1 + held * stride;
  float *const passing_1 = held_2 + held * stride, *const passing_2 = passing_1 + passing * stride;
  float *const p_tile = passing_2 + passing * stride, *const ds_tile = p_tile + held * map_stride;

  const int held_count = holds_keys ? keys : queries, passing_count = holds_keys ? queries : keys;
  const int per_head = (held_count + held - 1) / held;
  const i64 head = blockIdx.x / (unsigned)per_head;
  const int first_held = (int)(blockIdx.x % (unsigned)per_head) * held, depth = (size + 3) / 4 * 4;
  q += head * queries * size, dy += head * queries * size, k += head * keys * size, v += head * keys * size;
  logsumexp += head * queries, delta += head * queries;

  load_tile<held, width>(held_1, holds_keys ? k : q, first_held, held_count, size);
  load_tile<held, width>(held_2, holds_keys ? v : dy, first_held, held_count, size);

  // Causal: keys are seen by queries from their own index on, queries see keys up to theirs.
  int begin = 0, end = passing_count;
  if (causal && holds_keys) begin = first_held / passing * passing;
  if (causal && !holds_keys) end = min(end, first_held + held);
  float of_ds[rows][width / 16] = {}, of_p[holds_keys ? rows : 1][width / 16] = {};
  for (int first_passing = begin; first_passing < end; first_passing += passing) {
    __syncthreads();
    load_tile<passing, width>(passing_1, holds_keys ? q : k, first_passing, passing_count, size);
    load_tile<passing, width>(passing_2, holds_keys ? dy : v, first_passing, passing_count, size);
    __syncthreads();
    float s[rows][columns] = {}, dp[rows][columns] = {};
    multiply_nt(s, held_1, passing_1, stride, depth);
    multiply_nt(dp, held_2, passing_2, stride, depth);
#pragma unroll
    for (int i = 0; i < rows; i++) {
#pragma unroll
      for (int j = 0; j < columns; j++) {
        const int row = thread_row() + 16 * i, column = thread_column() + 16 * j;
        const int query = holds_keys ? first_passing + column : first_held + row;
        const int key = holds_keys ? first_held + row : first_passing + column;
        float p = 0.0f, ds = 0.0f;
        if (query < queries && key < keys && !(causal && key > query)) {
          p = expf(s[i][j] * scale - logsumexp[query]);
          ds = p * (dp[i][j] - delta[query]) * scale;
        }
        if (holds_keys) p_tile[row * map_stride + column] = p;
        ds_tile[row * map_stride + column] = ds;
      }
    }
    __syncthreads();
    if constexpr (holds_keys) multiply_nn(of_p, p_tile, map_stride, passing_2, stride, passing);
    multiply_nn(of_ds, ds_tile, map_stride, passing_1, stride, passing);
  }
  const i64 offset = head * held_count * size;
  store_tile(dk + offset, of_ds, first_held, held_count, size);
  if constexpr (holds_keys) store_tile(dv + offset, of_p, first_held, held_count, size);
}

#define FORWARD(width)                                                                                                 \
  extern "C" __global__ void __launch_bounds__(block_threads, 2)                                                             \
      attention_forward_f32_##width(float *y, float *logsumexp, const float *q, const float *k, const float *v,        \
                                    int queries, int keys, int size, float scale, int causal) {                        \
    forward<width>(y, logsumexp, q, k, v, queries, keys, size, scale, causal != 0);                                    \
  }

#define BACKWARD(width, held)                                                                                          \
  extern "C" __global__ void __launch_bounds__(block_threads, 2)                                                       \
      attention_key_grad_f32_##width(float *dk, float *dv, const float *q, const float *k, const float *v,             \
                                     const float *dy, const float *logsumexp, const float *delta, int queries,         \
                                     int keys, int size, float scale, int causal) {                                    \
    backward<width, held, 32, true>(dk, dv, q, k, v, dy, logsumexp, delta, queries, keys, size, scale, causal != 0);   \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(block_threads, 2)                                                       \
      attention_query_grad_f32_##width(float *dq, const float *q, const float *k, const float *v, const float *dy,     \
                                       const float *logsumexp, const float *delta, int queries, int keys, int size,    \
                                       float scale, int causal) {                                                      \
    backward<width, held, 32, false>(dq, (float *)0, q, k, v, dy, logsumexp, delta, queries, keys, size, scale,        \
                                     causal != 0);                                                                     \
  }
#define INSTANCES(width, held)                                                                                         \
  FORWARD(width)                                                                                                       \
  BACKWARD(width, held)
INSTANCES(16, 64)
INSTANCES(32, 64)
INSTANCES(48, 64)
INSTANCES(64, 64)
INSTANCES(80, 64)
INSTANCES(128, 32)
INSTANCES(160, 32)

#define DELTA(name, T)                                                                                                 \
  extern "C" __global__ void name(float *delta, const T *dy, const T *y, i64 rows, int size) {                         \
    row_products(delta, dy, y, rows, size);                                                                            \
  }
DELTA(attention_delta_f32, float)
DELTA(attention_delta_f16, f16)
DELTA(attention_delta_bf16, bf16)

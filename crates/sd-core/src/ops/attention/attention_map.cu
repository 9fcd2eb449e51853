// The attention map itself, for those who look at it: rows of logits to probabilities, and back.
//
//   map[i,j] = exp(scale · logits[i,j] − m_i) / Σ_j exp(scale · logits[i,j] − m_i),  m_i = max_j scale · logits[i,j]
//   dlogits[i,j] = scale · map[i,j] · (dmap[i,j] − Σ_j map[i,j] · dmap[i,j])
//
// logits (heads · Tq, Tk) in f32 as the matrix product left them; map, dmap and dlogits of the element type. Causal: query i
// sees keys j ≤ i, the others have probability 0 and gradient 0. A block takes a row at a time and reads it three times
// (twice backward), after the first from cache.
//
// Bytes: 4 + e a map element forward, 3 e backward, with e bytes an element.
#include "common.cuh"

template <typename T>
static __device__ __forceinline__ void softmax(T *map, const float *logits, i64 rows, int queries, int keys, float scale,
                                               bool causal) {
  __shared__ float shared[32];
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const int query = (int)(row % queries), seen = causal ? min(keys, query + 1) : keys;
    const float *const from = logits + row * keys;
    float highest = -__uint_as_float(0x7f800000u);
    for (int j = threadIdx.x; j < seen; j += blockDim.x) highest = fmaxf(highest, scale * from[j]);
    highest = block_max(highest, shared);
    float total = 0.0f;
    for (int j = threadIdx.x; j < seen; j += blockDim.x) total += expf(scale * from[j] - highest);
    const float inverse = 1.0f / block_sum(total, shared);
    for (int j = threadIdx.x; j < keys; j += blockDim.x) {
      from_float(j < seen ? expf(scale * from[j] - highest) * inverse : 0.0f, map[row * keys + j]);
    }
  }
}

template <typename T>
static __device__ __forceinline__ void softmax_grad(T *dlogits, const T *map, const T *dmap, i64 rows, int keys,
                                                    float scale) {
  __shared__ float shared[32];
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const T *const p = map + row * keys, *const dp = dmap + row * keys;
    float sum = 0.0f;
    for (int j = threadIdx.x; j < keys; j += blockDim.x) sum = fmaf(to_float(p[j]), to_float(dp[j]), sum);
    sum = block_sum(sum, shared);
    for (int j = threadIdx.x; j < keys; j += blockDim.x) {
      from_float(scale * to_float(p[j]) * (to_float(dp[j]) - sum), dlogits[row * keys + j]);
    }
  }
}

#define INSTANCES(T, Element)                                                                                          \
  extern "C" __global__ void attention_map_##T(Element *map, const float *logits, i64 rows, int queries, int keys,     \
                                               float scale, int causal) {                                              \
    softmax(map, logits, rows, queries, keys, scale, causal != 0);                                                     \
  }                                                                                                                    \
  extern "C" __global__ void attention_map_grad_##T(Element *dlogits, const Element *map, const Element *dmap,         \
                                                    i64 rows, int keys, float scale) {                                 \
    softmax_grad(dlogits, map, dmap, rows, keys, scale);                                                               \
  }
INSTANCES(f32, float)
INSTANCES(f16, f16)
INSTANCES(bf16, bf16)

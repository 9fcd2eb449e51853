// What a linear layer does beside its matrix products: bias and activation, and their gradients.
//
//   z = x · wᵀ + b,  y = act(z),  dz = dy · act'(z),  db[o] = Σ_rows dz[row,o]
//   dx = dz · w and dw = dzᵀ · x are matrix products
//
// Rows × columns row-major (columns are the layer's outputs), elements f32, f16 or bf16, arithmetic and sums f32. Activation:
// 0 none, 1 SiLU z·σ(z), 2 GELU z·Φ(z), 3 quick-GELU z·σ(1.702·z), 4 GELU by tanh, z·½(1 + tanh t), t = √(2/π)·(z + 0.044715·z³).
//
// linear_epilogue works in place on the product and writes z as well where the backward will want it. linear_grad makes dz
// and, in the same pass, the sums of db over a piece of the rows: a block is 32 columns × 8 rows of threads; linear_bias_grad
// adds the pieces in order.
//
// Bytes: epilogue 2 e an element (3 e with z), linear_grad 3 e (1 e without activation), with e bytes an element.
#include "common.cuh"

static __device__ __forceinline__ float sigmoid(float z) { return 1.0f / (1.0f + expf(-z)); }
static __device__ __forceinline__ float phi(float z) { return 0.5f * (1.0f + erff(z * 0.7071067811865476f)); }

static __device__ __forceinline__ float tanh_of(float z) {
  return tanhf(0.7978845608028654f * (z + 0.044715f * z * z * z));
}

static __device__ __forceinline__ float activate(float z, int activation) {
  if (activation == 1) return z * sigmoid(z);
  if (activation == 2) return z * phi(z);
  if (activation == 3) return z * sigmoid(1.702f * z);
  if (activation == 4) return z * 0.5f * (1.0f + tanh_of(z));
  return z;
}

static __device__ __forceinline__ float slope(float z, int activation) {
  if (activation == 2) return phi(z) + z * 0.3989422804014327f * expf(-0.5f * z * z);
  if (activation == 0) return 1.0f;
  if (activation == 4) {
    const float t = tanh_of(z);
    return 0.5f * (1.0f + t) + 0.5f * z * (1.0f - t * t) * 0.7978845608028654f * (1.0f + 3.0f * 0.044715f * z * z);
  }
  const float rate = activation == 3 ? 1.702f : 1.0f, s = sigmoid(rate * z);
  return s * (1.0f + rate * z * (1.0f - s));
}

// `chunk` neighbours at once.
template <typename T, int chunk>
struct alignas(chunk * sizeof(T)) Chunk {
  T values[chunk];
};

// y = act(y + bias), z = y + bias where `keeps`; columns a multiple of `chunk`.
template <typename T, int chunk>
static __device__ __forceinline__ void epilogue(T *y, T *z, const T *bias, i64 count, int columns, int activation,
                                                bool has_bias, bool keeps) {
  typedef Chunk<T, chunk> C;
  const i64 step = (i64)gridDim.x * blockDim.x * chunk;
  for (i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * chunk; i < count; i += step) {
    C value = *(const C *)(y + i), pre;
    if (has_bias) {
      const C shift = *(const C *)(bias + i % columns);
#pragma unroll
      for (int e = 0; e < chunk; e++) from_float(to_float(value.values[e]) + to_float(shift.values[e]), pre.values[e]);
    } else {
      pre = value;
    }
#pragma unroll
    for (int e = 0; e < chunk; e++) from_float(activate(to_float(pre.values[e]), activation), value.values[e]);
    *(C *)(y + i) = value;
    if (keeps) *(C *)(z + i) = pre;
  }
}

// dz = dy · act'(z) and parts[piece][column] = Σ dz over the rows of piece blockIdx.y. Block (32, 8).
template <typename T>
static __device__ __forceinline__ void grad(T *dz, float *parts, const T *dy, const T *z, i64 rows, int columns,
                                            int activation) {
  __shared__ float shared[8][32];
  const i64 begin = rows * blockIdx.y / gridDim.y, end = rows * (blockIdx.y + 1) / gridDim.y;
  const i64 column = (i64)blockIdx.x * 32 + threadIdx.x;
  float sum = 0.0f;
  if (column < columns) {
#pragma unroll 4
    for (i64 row = begin + threadIdx.y; row < end; row += 8) {
      const i64 i = row * columns + column;
      float d = to_float(dy[i]);
      if (activation != 0) {
        T rounded;
        from_float(d * slope(to_float(z[i]), activation), rounded);
        dz[i] = rounded;
        // What the products will read.
        d = to_float(rounded);
      }
      sum += d;
    }
  }
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && column < columns) {
    for (int i = 1; i < 8; i++) sum += shared[i][threadIdx.x];
    parts[blockIdx.y * (i64)columns + column] = sum;
  }
}

template <typename T>
static __device__ __forceinline__ void bias_grad(T *db, const float *parts, int columns, int pieces) {
  for (int column = blockIdx.x * blockDim.x + threadIdx.x; column < columns; column += gridDim.x * blockDim.x) {
    float sum = 0.0f;
    for (int piece = 0; piece < pieces; piece++) sum += parts[(i64)piece * columns + column];
    from_float(sum, db[column]);
  }
}

// Where there is no bias or no z to keep, the pointer is y and is not read or written.
#define INSTANCES(T, Element)                                                                                          \
  extern "C" __global__ void linear_epilogue_##T(Element *y, Element *z, const Element *bias, i64 count, int columns,  \
                                                 int activation, int has_bias, int keeps) {                            \
    constexpr int chunk = 16 / sizeof(Element);                                                                        \
    if (columns % chunk == 0) {                                                                                        \
      epilogue<Element, chunk>(y, z, bias, count, columns, activation, has_bias != 0, keeps != 0);                     \
    } else {                                                                                                           \
      epilogue<Element, 1>(y, z, bias, count, columns, activation, has_bias != 0, keeps != 0);                         \
    }                                                                                                                  \
  }                                                                                                                    \
  extern "C" __global__ void linear_grad_##T(Element *dz, float *parts, const Element *dy, const Element *z, i64 rows, \
                                             int columns, int activation) {                                            \
    grad(dz, parts, dy, z, rows, columns, activation);                                                                 \
  }                                                                                                                    \
  extern "C" __global__ void linear_bias_grad_##T(Element *db, const float *parts, int columns, int pieces) {          \
    bias_grad(db, parts, columns, pieces);                                                                             \
  }
INSTANCES(f32, float)
INSTANCES(f16, f16)
INSTANCES(bf16, bf16)

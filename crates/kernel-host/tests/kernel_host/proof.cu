// Kernels that are for the executor what other kernels are for the engine: each uses a few of the facilities of CUDA in a way
// whose result is known.
#include "common.cuh"

// y[i] = Σ x of row i: grid-stride over rows, a block a row at a time, all reductions of common.cuh.
template <typename T>
static __device__ void row_sums(const T *x, float *y, i64 rows, i64 columns) {
  __shared__ float shared[32];
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    float sum = 0.0f;
    for (i64 column = threadIdx.x; column < columns; column += blockDim.x) sum += to_float(x[row * columns + column]);
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) y[row] = sum;
  }
}

// y = xᵀ by 32 × 32 tiles in shared memory.
template <typename T>
static __device__ void transpose(const T *x, T *y, i64 rows, i64 columns) {
  __shared__ T tile[32][33];
  const i64 row = (i64)blockIdx.y * 32 + threadIdx.y, column = (i64)blockIdx.x * 32 + threadIdx.x;
  if (row < rows && column < columns) tile[threadIdx.y][threadIdx.x] = x[row * columns + column];
  __syncthreads();
  const i64 to_row = (i64)blockIdx.x * 32 + threadIdx.y, to_column = (i64)blockIdx.y * 32 + threadIdx.x;
  if (to_row < columns && to_column < rows) y[to_row * rows + to_column] = tile[threadIdx.x][threadIdx.y];
}

// One m16n8k16 product per warp: c (16×8) += a (16×16, row-major) · b (16×8, stored as its transpose).
template <typename T>
static __device__ void small_product(const T *a, const T *b, float *c) {
  const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  a += blockIdx.x * 256;
  b += blockIdx.x * 128;
  c += blockIdx.x * 128;
  unsigned fa[4], fb[2];
  for (int i = 0; i < 4; ++i) {
    const T *at = a + (g + 8 * (i & 1)) * 16 + 2 * t + 8 * (i >> 1);
    fa[i] = at[0].bits | (unsigned)at[1].bits << 16;
  }
  for (int i = 0; i < 2; ++i) {
    const T *at = b + g * 16 + 2 * t + 8 * i;
    fb[i] = at[0].bits | (unsigned)at[1].bits << 16;
  }
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = c[(g + 8 * (i >> 1)) * 8 + 2 * t + (i & 1)];
  mma_16x8x16(d, fa, fb, T{});
  for (int i = 0; i < 4; ++i) c[(g + 8 * (i >> 1)) * 8 + 2 * t + (i & 1)] = d[i];
}

// y[i] = x[i] rounded to T and back.
template <typename T>
static __device__ void round_trip(const float *x, T *y, i64 n) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) from_float(x[i], y[i]);
}

#define INSTANCES(T)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) row_sums_##T(const T *x, float *y, i64 rows, i64 columns) {            \
    row_sums<T>(x, y, rows, columns);                                                                                      \
  }                                                                                                                        \
  extern "C" __global__ void __launch_bounds__(1024) transpose_##T(const T *x, T *y, i64 rows, i64 columns) {              \
    transpose<T>(x, y, rows, columns);                                                                                     \
  }
typedef float f32;
INSTANCES(f32)
INSTANCES(f16)
INSTANCES(bf16)

extern "C" __global__ void small_product_f16(const f16 *a, const f16 *b, float *c) { small_product<f16>(a, b, c); }
extern "C" __global__ void small_product_bf16(const bf16 *a, const bf16 *b, float *c) { small_product<bf16>(a, b, c); }
extern "C" __global__ void round_trip_f16(const float *x, f16 *y, i64 n) { round_trip<f16>(x, y, n); }
extern "C" __global__ void round_trip_bf16(const float *x, bf16 *y, i64 n) { round_trip<bf16>(x, y, n); }
extern "C" __global__ void widen_f16(const f16 *x, float *y, i64 n) {
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) y[i] = to_float(x[i]);
}

// Every scalar type, a table of pointers, dynamic shared memory: out[i] = Σ_j table[j][i] · scale + a + b + c.
extern "C" __global__ void gather(const float *const *table, float *out, int tables, i64 n, u64 c, float scale) {
  extern __shared__ float dynamic_shared[];
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) {
    float sum = (float)c;
    for (int j = 0; j < tables; ++j) sum += table[j][i] * scale;
    dynamic_shared[threadIdx.x] = sum;
    out[i] = dynamic_shared[threadIdx.x];
  }
}

// All warp collectives, one word a lane: see the test for what stands where.
extern "C" __global__ void warp_tour(unsigned *out) {
  const int lane = threadIdx.x;
  unsigned word = __shfl_sync(0xffffffffu, (unsigned)lane, 5);
  word = word * 64 + __shfl_xor_sync(0xffffffffu, (unsigned)lane, 3);
  word = word * 64 + __shfl_down_sync(0xffffffffu, (unsigned)lane, 4);
  word = word * 64 + __shfl_up_sync(0xffffffffu, (unsigned)lane, 2, 8);
  out[lane] = word;
  out[32 + lane] = __ballot_sync(0xffffffffu, lane % 3 == 0);
  if (lane < 8) out[64 + lane] = __shfl_xor_sync(0xffu, (unsigned)lane, 1);
  __syncwarp();
  if (lane >= 8) out[64 + lane] = __shfl_down_sync(0xffffff00u, (unsigned)lane, 1) + (__any_sync(0xffffff00u, lane == 9) ? 100u : 0u);
}

// Copies four 8×8 matrices into shared memory, the last row as zeros, and loads them as they lie and transposed.
extern "C" __global__ void matrix_tour(const f16 *x, unsigned *out) {
  alignas(16) __shared__ f16 tile[4 * 64];
  const int lane = threadIdx.x;
  copy_16(tile + 8 * lane, x + 8 * lane, lane != 31);
  copy_commit();
  copy_wait<0>();
  __syncwarp();
  unsigned got[8];
  load_matrices(got[0], got[1], got[2], got[3], tile + 8 * lane);
  load_matrices_transposed(got[4], got[5], got[6], got[7], tile + 8 * lane);
  for (int i = 0; i < 8; ++i) out[32 * i + lane] = got[i];
}

// Functions of one word that the device has in hardware.
extern "C" __global__ void bit_tour(unsigned *out) {
  out[0] = __umulhi(0xd2511f53u, 0xfffffff1u);
  out[1] = __brev(6u);
  out[2] = __float_as_uint(-1.5f);
  out[3] = (unsigned)min(3ll, 4ll);
  out[4] = max(3u, 4u);
}

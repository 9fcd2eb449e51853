// Standard normals as `torch.randn(..., device="cuda")` draws them: the same numbers in the same places for a seed and offset.
//
// PyTorch's generator on CUDA (ATen/native/cuda/DistributionTemplates.h) gives thread t of its own launch of `threads`
// threads subsequence t of Philox4x32-10 under the seed, and each thread fills elements t + i·threads, four to a counter:
// element e is number (e / threads) % 4 of counter block offset/4 + e / (4·threads) of subsequence e % threads. Pairs of words
// become pairs of normals by Box and Muller as cuRAND does: u = a·2⁻³² + 2⁻³³, v = (b·2⁻³² + 2⁻³³)·2π,
// √(−2 ln u)·(sin v, cos v).
//
// `threads` is 256·min(⌈n/256⌉, 8 a multiprocessor): above that size the numbers depend on the card, as PyTorch's do. cuRAND
// takes sine and cosine with the fast instructions of the device and so does this, so values are meant to be PyTorch's on
// a GPU bit for bit (not verified yet); on the host, and in the CPU's generator, to about 1e-6.
//
// Bytes an element: its size, written once; about forty instructions each. A thread of ours does the (up to) four elements
// that share a counter, so the launch is free to differ from PyTorch's.
#include "common.cuh"

struct Words {
  unsigned at[4];
};

static __device__ __forceinline__ Words philox(u64 seed, u64 block, u64 subsequence) {
  Words c = {{(unsigned)block, (unsigned)(block >> 32), (unsigned)subsequence, (unsigned)(subsequence >> 32)}};
  unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const unsigned high0 = __umulhi(0xd2511f53u, c.at[0]), low0 = 0xd2511f53u * c.at[0];
    const unsigned high1 = __umulhi(0xcd9e8d57u, c.at[2]), low1 = 0xcd9e8d57u * c.at[2];
    c = {{high1 ^ c.at[1] ^ k0, low1, high0 ^ c.at[3] ^ k1, low0}};
    k0 += 0x9e3779b9u, k1 += 0xbb67ae85u;
  }
  return c;
}

static __device__ __forceinline__ float2 box_muller(unsigned a, unsigned b) {
  const float u = fmaf((float)a, 2.3283064e-10f, 1.1641532e-10f);
  const float v = fmaf((float)b, 2.3283064e-10f * 6.2831855f, 2.3283064e-10f * 6.2831855f / 2);
  const float radius = sqrtf(-2.0f * logf(u));
  return make_float2(radius * __sinf(v), radius * __cosf(v));
}

template <typename T>
static __device__ __forceinline__ void normal(i64 n, u64 seed, u64 block, i64 threads, T *out) {
  const i64 counters = (n + 4 * threads - 1) / (4 * threads) * threads, step = gridDim.x * (i64)blockDim.x;
  for (i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x; item < counters; item += step) {
    const i64 turn = item / threads, thread = item - turn * threads, first = turn * 4 * threads + thread;
    if (first >= n) continue;
    const Words words = philox(seed, block + turn, thread);
    const float2 front = box_muller(words.at[0], words.at[1]);
    from_float(front.x, out[first]);
    if (first + threads < n) from_float(front.y, out[first + threads]);
    if (first + 2 * threads >= n) continue;
    const float2 back = box_muller(words.at[2], words.at[3]);
    from_float(back.x, out[first + 2 * threads]);
    if (first + 3 * threads < n) from_float(back.y, out[first + 3 * threads]);
  }
}

#define ALL(T, suffix)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) philox_normal_##suffix(i64 n, u64 seed, u64 block, i64 threads, T *out) { \
    normal(n, seed, block, threads, out);                                                                                    \
  }
ALL(float, f32)
ALL(f16, f16)
ALL(bf16, bf16)

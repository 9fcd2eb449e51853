// One step of a DDIM sampler with classifier-free guidance, in one pass over the latents.
//
//   ε = ε_u + guidance·(ε_c − ε_u)          x' = keep·x + turn·ε (+ noise·z)
//
// keep = √(ᾱ'/ᾱ), turn = √(1 − ᾱ' − σ²) − keep·√(1 − ᾱ) and noise = σ are one number each for the step, taken in f64 by the
// caller: the prediction x₀ = (x − √(1 − ᾱ)·ε)/√ᾱ is contained in them.
//
// Bytes an element (s = its size): 4s, with noise 5s; composed of tensor operations it would be about 20s.
//
// Launch: any grid along x; cuda.rs gives a block 2 packs a thread.
#include "common.cuh"

template <typename T>
static __device__ __forceinline__ void step(i64 n, float guidance, float keep, float turn, const T *x, const T *uncond,
                                            const T *cond, T *out) {
  const T *const in[3] = {x, uncond, cond};
  map_elements(n, in, out, [=](const float (&a)[3]) { return keep * a[0] + turn * (a[1] + guidance * (a[2] - a[1])); });
}

template <typename T>
static __device__ __forceinline__ void noisy_step(i64 n, float guidance, float keep, float turn, float noise, const T *x,
                                                  const T *uncond, const T *cond, const T *z, T *out) {
  const T *const in[4] = {x, uncond, cond, z};
  map_elements(n, in, out, [=](const float (&a)[4]) {
    return keep * a[0] + turn * (a[1] + guidance * (a[2] - a[1])) + noise * a[3];
  });
}

#define ALL(T, suffix)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      guided_step_##suffix(i64 n, float guidance, float keep, float turn, const T *x, const T *uncond, const T *cond,        \
                           T *out) {                                                                                         \
    step(n, guidance, keep, turn, x, uncond, cond, out);                                                                     \
  }                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256)                                                                          \
      guided_noisy_step_##suffix(i64 n, float guidance, float keep, float turn, float noise, const T *x, const T *uncond,    \
                                 const T *cond, const T *z, T *out) {                                                        \
    noisy_step(n, guidance, keep, turn, noise, x, uncond, cond, z, out);                                                     \
  }
ALL(float, f32)
ALL(f16, f16)
ALL(bf16, bf16)

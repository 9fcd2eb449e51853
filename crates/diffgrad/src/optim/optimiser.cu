// A step of every update rule over any number of f32 parameters in one launch; the variants 3 to 5 of diffGrad need one more.
//
// The rules are those of the module's table (`optim`), with the operations of laws.rs in their order: every operation rounds
// once, x + a·b is fused exactly where laws.rs fuses it, and e^x is the same polynomial. A step gives the bits of the CPU, save
// for the variants 3 to 5, whose μ and ν are summed in another order and in f32.
//
// Tables on the device:
//   chunks   four numbers a block: tensor, chunk of it, the first block of that tensor, how many blocks it has
//   lengths  elements of each tensor
//   scalars  three numbers a tensor, since each has its own t: minus the step, the bias correction beside √v, and whether ξ is
//            σ(|g|) at this step
//   theta, gradient, a, b, c   the starts of the tensors and of their state buffers in the order of `RuleName::buffers`
//
// Bytes an element: 4·(2 + states) read and 4·(1 + states) written; 36 for diffGrad. The variants 3 to 5 read g and θ once more.
//
// Launch: (blocks of the table), 512 threads; a block works CHUNK elements of one tensor.
#include "common.cuh"

constexpr int CHUNK = 32768;

// An f32 whose operations the compiler may not fuse.
struct Real {
  float x;
};
static __device__ __forceinline__ Real operator+(Real a, Real b) { return {__fadd_rn(a.x, b.x)}; }
static __device__ __forceinline__ Real operator-(Real a, Real b) { return {__fsub_rn(a.x, b.x)}; }
static __device__ __forceinline__ Real operator*(Real a, Real b) { return {__fmul_rn(a.x, b.x)}; }
static __device__ __forceinline__ Real operator/(Real a, Real b) { return {__fdiv_rn(a.x, b.x)}; }
// x + a·b, rounded once.
static __device__ __forceinline__ Real plus(Real x, Real a, Real b) { return {fmaf(a.x, b.x, x.x)}; }
static __device__ __forceinline__ Real root(Real a) { return {__fsqrt_rn(a.x)}; }
static __device__ __forceinline__ Real magnitude(Real a) { return {fabsf(a.x)}; }

// e^x for x ≤ 0, as `Real::exp_of_negative` of real.rs.
static __device__ __forceinline__ Real exp_of_negative(Real x) {
  const Real round = {12582912.0f}, ln2_high = {355.0f / 512.0f}, ln2_low = {-2.1219444e-4f};
  if (x.x < -87.0f) x.x = -87.0f;
  const Real shifted = x * Real{1.44269504f} + round, n = shifted - round;
  const Real r = (x - n * ln2_high) - n * ln2_low;
  const Real tail = Real{1.0f / 6.0f} +
                    r * (Real{1.0f / 24.0f} + r * (Real{1.0f / 120.0f} + r * (Real{1.0f / 720.0f} + r * Real{1.0f / 5040.0f})));
  const Real er = Real{1.0f} + (r + r * r * (Real{0.5f} + r * tail));
  return er * Real{__uint_as_float((__float_as_uint(shifted.x) + 127u) << 23)};
}
static __device__ __forceinline__ Real sigmoid_of_positive(Real x) {
  return Real{1.0f} / (Real{1.0f} + exp_of_negative(Real{0.0f} - x));
}
static __device__ __forceinline__ Real sigmoid_of(Real x) {
  const Real e = exp_of_negative(Real{0.0f} - magnitude(x));
  return (x.x < 0.0f ? e : Real{1.0f}) / (Real{1.0f} + e);
}

// The numbers of a step. Of one tensor: step (for the rules without one, −lr), bias2, first, ν and μ. Of all: the others.
struct Numbers {
  Real step, bias2, keep1, take1, keep2, take2, eps, decay, nu, mu;
  bool first, modern;
};

// ---- The rules: θ and the state after the step ------------------------------------------------------------------------------

struct Sgd {
  static constexpr int STATES = 1;
  static __device__ __forceinline__ Real update(const Numbers &n, Real theta, Real gradient, Real (&s)[STATES]) {
    s[0] = s[0] * n.keep1 + plus(gradient, n.decay, theta);
    return plus(theta, n.step, s[0]);
  }
};

struct AdaGrad {
  static constexpr int STATES = 1;
  static __device__ __forceinline__ Real update(const Numbers &n, Real theta, Real gradient, Real (&s)[STATES]) {
    const Real g = plus(gradient, n.decay, theta);
    s[0] = plus(s[0], g, g);
    return theta + n.step * g / (root(s[0]) + n.eps);
  }
};

struct RmsProp {
  static constexpr int STATES = 1;
  static __device__ __forceinline__ Real update(const Numbers &n, Real theta, Real gradient, Real (&s)[STATES]) {
    const Real g = plus(gradient, n.decay, theta);
    s[0] = plus(s[0] * n.keep1, n.take1 * g, g);
    return theta + n.step * g / (root(s[0]) + n.eps);
  }
};

struct AdaDelta {
  static constexpr int STATES = 2;
  static __device__ __forceinline__ Real update(const Numbers &n, Real theta, Real gradient, Real (&s)[STATES]) {
    const Real g = plus(gradient, n.decay, theta);
    s[0] = plus(s[0] * n.keep1, n.take1 * g, g);
    const Real delta = root(s[1] + n.eps) / root(s[0] + n.eps) * g;
    s[1] = plus(s[1] * n.keep1, n.take1 * delta, delta);
    return plus(theta, n.step, delta);
  }
};

static __device__ __forceinline__ Real first_moment(const Numbers &n, Real g, Real m) { return plus(m * n.keep1, n.take1, g); }
static __device__ __forceinline__ Real second_moment(const Numbers &n, Real g, Real v) {
  return plus(v * n.keep2, n.take2 * g, g);
}
static __device__ __forceinline__ Real first_moment_either(const Numbers &n, Real g, Real m) {
  return n.modern ? plus(m, n.take1, g - m) : first_moment(n, g, m);
}
static __device__ __forceinline__ Real moved(const Numbers &n, Real theta, Real m, Real v) {
  return theta + n.step * m / (root(v) / n.bias2 + n.eps);
}

struct Adam {
  static constexpr int STATES = 2;
  static __device__ __forceinline__ Real update(const Numbers &n, Real theta, Real gradient, Real (&s)[STATES]) {
    const Real g = plus(gradient, n.decay, theta);
    s[0] = first_moment_either(n, g, s[0]), s[1] = second_moment(n, g, s[1]);
    return moved(n, theta, s[0], s[1]);
  }
};

struct AdamInside {
  static constexpr int STATES = 2;
  static __device__ __forceinline__ Real update(const Numbers &n, Real theta, Real gradient, Real (&s)[STATES]) {
    const Real g = plus(gradient, n.decay, theta);
    s[0] = first_moment(n, g, s[0]), s[1] = second_moment(n, g, s[1]);
    return theta + n.step * s[0] / root(s[1] / n.bias2 + n.eps);
  }
};

struct AmsGrad {
  static constexpr int STATES = 3;
  static __device__ __forceinline__ Real update(const Numbers &n, Real theta, Real gradient, Real (&s)[STATES]) {
    const Real g = plus(gradient, n.decay, theta);
    s[0] = first_moment_either(n, g, s[0]), s[1] = second_moment(n, g, s[1]);
    // Written so that NaN in v wins.
    if (!(s[1].x <= s[2].x)) s[2] = s[1];
    return moved(n, theta, s[0], s[2]);
  }
};

// diffGrad as run, and the half-step control, for which `first` is never set.
struct Halved {
  static constexpr int STATES = 2;
  static __device__ __forceinline__ Real update(const Numbers &n, Real theta, Real gradient, Real (&s)[STATES]) {
    const Real g = plus(gradient, n.decay, theta), xi = n.first ? sigmoid_of_positive(magnitude(g)) : Real{0.5f};
    s[0] = first_moment(n, g, s[0]), s[1] = second_moment(n, g, s[1]);
    return moved(n, theta, s[0] * xi, s[1]);
  }
};

struct Equation17 {
  static __device__ __forceinline__ Real xi(const Numbers &, Real p, Real g) { return sigmoid_of_positive(magnitude(p - g)); }
};
struct Signed {
  static __device__ __forceinline__ Real xi(const Numbers &, Real p, Real g) { return sigmoid_of(p - g); }
};
struct Widened {
  static __device__ __forceinline__ Real xi(const Numbers &, Real p, Real g) {
    return Real{9.0f} * sigmoid_of_positive(Real{0.5f} * magnitude(p - g)) - Real{4.0f};
  }
};
struct Spread {
  static __device__ __forceinline__ Real xi(const Numbers &n, Real p, Real g) {
    return sigmoid_of(n.nu * magnitude(p - g) - n.mu);
  }
};

template <typename Friction>
struct DiffGrad {
  static constexpr int STATES = 3;
  static __device__ __forceinline__ Real update(const Numbers &n, Real theta, Real gradient, Real (&s)[STATES]) {
    const Real g = plus(gradient, n.decay, theta), xi = Friction::xi(n, s[2], g);
    s[0] = first_moment(n, g, s[0]), s[1] = second_moment(n, g, s[1]), s[2] = g;
    return moved(n, theta, s[0] * xi, s[1]);
  }
};

// ---- One chunk --------------------------------------------------------------------------------------------------------------

// One tensor from element `begin` on: n elements.
template <int STATES>
struct Piece {
  float *theta, *state[STATES];
  const float *gradient;
  int n;
};

template <typename Law>
static __device__ __forceinline__ void scalar_step(const Numbers &n, const Piece<Law::STATES> &piece, int i) {
  Real s[Law::STATES];
#pragma unroll
  for (int k = 0; k < Law::STATES; k++) s[k].x = piece.state[k][i];
  piece.theta[i] = Law::update(n, Real{piece.theta[i]}, Real{piece.gradient[i]}, s).x;
#pragma unroll
  for (int k = 0; k < Law::STATES; k++) piece.state[k][i] = s[k].x;
}

// Four elements, given and returned as packs: θ, g and the state.
template <typename Law>
static __device__ __forceinline__ void pack_step(const Numbers &n, Pack<float> &theta, const Pack<float> &gradient,
                                                 Pack<float> (&state)[Law::STATES]) {
#pragma unroll
  for (int e = 0; e < 4; e++) {
    Real s[Law::STATES];
#pragma unroll
    for (int k = 0; k < Law::STATES; k++) s[k].x = element(state[k], e);
    put(theta, e, Law::update(n, Real{element(theta, e)}, Real{element(gradient, e)}, s).x);
#pragma unroll
    for (int k = 0; k < Law::STATES; k++) put(state[k], e, s[k].x);
  }
}

template <typename Law>
static __device__ __forceinline__ void run(const Numbers &n, const Piece<Law::STATES> &piece) {
  bool packs = on_a_pack(piece.theta) && on_a_pack(piece.gradient);
  for (int k = 0; k < Law::STATES; k++) packs = packs && on_a_pack(piece.state[k]);
  const int whole = packs ? piece.n / 4 : 0;
  // As many packs under way as leave room for two blocks a multiprocessor.
  constexpr int DEEP = Law::STATES == 3 ? 1 : 2;
  for (int base = threadIdx.x; base < whole; base += DEEP * blockDim.x) {
    Pack<float> theta[DEEP], gradient[DEEP], state[DEEP][Law::STATES];
#pragma unroll
    for (int d = 0; d < DEEP; d++) {
      const int at = 4 * (base + d * (int)blockDim.x);
      if (at >= 4 * whole) continue;
      theta[d] = load_pack(piece.theta + at), gradient[d] = load_pack(piece.gradient + at);
#pragma unroll
      for (int k = 0; k < Law::STATES; k++) state[d][k] = load_pack(piece.state[k] + at);
    }
#pragma unroll
    for (int d = 0; d < DEEP; d++) {
      const int at = 4 * (base + d * (int)blockDim.x);
      if (at >= 4 * whole) continue;
      pack_step<Law>(n, theta[d], gradient[d], state[d]);
      store_pack(piece.theta + at, theta[d]);
#pragma unroll
      for (int k = 0; k < Law::STATES; k++) store_pack(piece.state[k] + at, state[d][k]);
    }
  }
  for (int i = 4 * whole + threadIdx.x; i < piece.n; i += blockDim.x) scalar_step<Law>(n, piece, i);
}

// This block's tensor and elements.
struct Chunk {
  unsigned tensor, first, count;
  i64 begin;
  int n;
};
static __device__ __forceinline__ Chunk chunk_of(const unsigned *chunks, const i64 *lengths) {
  const unsigned *own = chunks + 4 * (u64)blockIdx.x;
  const i64 begin = own[1] * (i64)CHUNK, left = lengths[own[0]] - begin;
  return {own[0], own[2], own[3], begin, left < CHUNK ? (int)left : CHUNK};
}

// Moments of |g + decay·θ| over a chunk, in two passes; the second finds both in the cache.
static __device__ __forceinline__ Moments magnitudes(const Chunk &chunk, Real decay, const float *theta, const float *gradient,
                                                     float *shared) {
  float sum = 0.0f, squares = 0.0f;
#pragma unroll 4
  for (int i = threadIdx.x; i < chunk.n; i += blockDim.x) sum += magnitude(plus(Real{gradient[i]}, decay, Real{theta[i]})).x;
  const float mean = block_sum(sum, shared) / chunk.n;
#pragma unroll 4
  for (int i = threadIdx.x; i < chunk.n; i += blockDim.x) {
    const float gap = magnitude(plus(Real{gradient[i]}, decay, Real{theta[i]})).x - mean;
    squares += gap * gap;
  }
  return {(float)chunk.n, mean, block_sum(squares, shared)};
}

// triples (blocks, 3): the moments of |g| of each block's chunk.
extern "C" __global__ void __launch_bounds__(512)
    optimiser_magnitudes(const unsigned *chunks, const i64 *lengths, float decay, float *const *theta, const float *const *gradient,
                         float *triples) {
  __shared__ float shared[32];
  const Chunk chunk = chunk_of(chunks, lengths);
  const Moments all =
      magnitudes(chunk, Real{decay}, theta[chunk.tensor] + chunk.begin, gradient[chunk.tensor] + chunk.begin, shared);
  if (threadIdx.x != 0) return;
  float *out = triples + 3 * (u64)blockIdx.x;
  out[0] = all.count, out[1] = all.mean, out[2] = all.squares;
}

#define NUMBERS                                                                                                              \
  const unsigned *chunks, const i64 *lengths, const float *scalars, float keep1, float take1, float keep2, float take2,      \
      float eps, float decay, int modern
#define BEGIN                                                                                                                \
  const Chunk chunk = chunk_of(chunks, lengths);                                                                             \
  const float *own = scalars + 3 * (u64)chunk.tensor;                                                                        \
  Numbers n = {{own[0]}, {own[1]}, {keep1}, {take1}, {keep2}, {take2}, {eps}, {decay}, {0.0f}, {0.0f}, own[2] != 0.0f,       \
               modern != 0};
#define AT(table) table[chunk.tensor] + chunk.begin
#define RUN1(Law) run<Law>(n, Piece<1>{AT(theta), {AT(a)}, AT(gradient), chunk.n});
#define RUN2(Law) run<Law>(n, Piece<2>{AT(theta), {AT(a), AT(b)}, AT(gradient), chunk.n});
#define RUN3(Law) run<Law>(n, Piece<3>{AT(theta), {AT(a), AT(b), AT(c)}, AT(gradient), chunk.n});
#define ONE(name, Law)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(512)                                                                          \
      optimiser_##name(NUMBERS, float *const *theta, const float *const *gradient, float *const *a) {                              \
    BEGIN RUN1(Law)                                                                                                          \
  }
#define TWO(name, Law)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(512)                                                                          \
      optimiser_##name(NUMBERS, float *const *theta, const float *const *gradient, float *const *a, float *const *b) {             \
    BEGIN RUN2(Law)                                                                                                          \
  }
#define THREE(name, Law)                                                                                                     \
  extern "C" __global__ void __launch_bounds__(512)                                                                          \
      optimiser_##name(NUMBERS, float *const *theta, const float *const *gradient, float *const *a, float *const *b,               \
                       float *const *c) {                                                                                    \
    BEGIN RUN3(Law)                                                                                                          \
  }
ONE(sgd, Sgd)
ONE(adagrad, AdaGrad)
ONE(rmsprop, RmsProp)
TWO(adadelta, AdaDelta)
TWO(adam, Adam)
TWO(adam_inside, AdamInside)
TWO(halved, Halved)
THREE(amsgrad, AmsGrad)
THREE(diffgrad, DiffGrad<Equation17>)
THREE(diffgrad1, DiffGrad<Signed>)
THREE(diffgrad2, DiffGrad<Widened>)

// Variants 3, 4 and 5: ν to the power 1, 2 or 1/2. Each block joins the moments of its tensor's chunks.
extern "C" __global__ void __launch_bounds__(512)
    optimiser_spread(NUMBERS, int variant, const float *triples, float *const *theta, const float *const *gradient, float *const *a,
                     float *const *b, float *const *c) {
  __shared__ float shared[3];
  BEGIN
  const Moments all = joined_parts(triples + 3 * (u64)chunk.first, (int)chunk.count, shared);
  const float deviation = sqrtf(all.squares / all.count);
  n.nu.x = variant == 4 ? deviation * deviation : variant == 5 ? sqrtf(deviation) : deviation;
  n.mu.x = all.mean;
  RUN3(DiffGrad<Spread>)
}

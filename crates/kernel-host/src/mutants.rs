//! Faults put into the kernels on purpose, which the cases must find.
//!
//! A case that no mutant fails may test nothing. Each mutant is a small change that compiles: the test applies it, builds the file
//! and demands that one of the named cases ends in a wrong value or in an error of the executor.

/// What sort of mistake it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A sign, a factor or a term.
    Sign,
    /// An index off by one or of the wrong axis.
    Index,
    /// A barrier that is not there.
    Barrier,
    /// A bound of a loop, a mask or a tail.
    Bound,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sign, Self::Index, Self::Barrier, Self::Bound];
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// The name of the `Source` it is put into, or [`crate::COMMON_NAME`].
    pub source: &'static str,
    /// What sort of mistake it is.
    pub kind: Kind,
    /// A text that stands in the source exactly once.
    pub find: &'static str,
    /// What is put in its place.
    pub replace: &'static str,
    /// What it breaks, in words.
    pub breaks: &'static str,
    /// Words, separated by `,`, that all stand in the names of the cases of which one must fail.
    pub cases: &'static str,
}

impl Mutant {
    /// `text` with the fault in it.
    ///
    /// # Errors
    /// Where the text to change is absent or stands there more than once: the kernel has changed, and the mutant must follow.
    pub fn apply(&self, text: &str) -> Result<String, String> {
        match text.matches(self.find).count() {
            1 => Ok(text.replacen(self.find, self.replace, 1)),
            count => {
                Err(format!("{}: `{}` stands there {count} times, expected once", self.source, self.find))
            }
        }
    }
}

const fn of(
    source: &'static str,
    kind: Kind,
    change: [&'static str; 2],
    breaks: &'static str,
    cases: &'static str,
) -> Mutant {
    Mutant { source, kind, find: change[0], replace: change[1], breaks, cases }
}

/// Every mutant.
pub const ALL: &[Mutant] = &[
    // What all kernels include.
    of(
        "common",
        Kind::Barrier,
        [
            "  if (lane == 0) shared[warp] = x;\n  __syncthreads();\n  x = warp_sum(",
            "  if (lane == 0) shared[warp] = x;\n  x = warp_sum(",
        ],
        "a block's sum reads what other warps have not yet written",
        "softmax,backward 3×8209 f32",
    ),
    of(
        "common",
        Kind::Barrier,
        [
            "  x = warp_max(lane < warps ? shared[lane] : shared[0]);\n  __syncthreads();",
            "  x = warp_max(lane < warps ? shared[lane] : shared[0]);",
        ],
        "a block's maximum may be overwritten by the next sum before all have read it",
        "softmax,forward 2×16411 f32",
    ),
    of(
        "common",
        Kind::Bound,
        ["at < start ? (int)(start - at) : 0, left < N", "0, left < N"],
        "the first pack of a plane takes the end of the plane before it",
        "layer_norm,forward 5×31 f32",
    ),
    of(
        "common",
        Kind::Bound,
        ["i64 i = packs * N + blockIdx.x", "i64 i = packs * N + 1 + blockIdx.x"],
        "the first element after the last whole pack is left out",
        "activation,Silu 31 f32",
    ),
    of(
        "common",
        Kind::Sign,
        [
            "a.squares + b.squares + gap * gap * a.count * share",
            "a.squares + b.squares - gap * gap * a.count * share",
        ],
        "two variances are joined with the wrong sign between them",
        "batch_norm,train cut [2, 2, 3001] f32",
    ),
    // activation
    of(
        "activation",
        Kind::Sign,
        ["return s * (1.0f + x * (1.0f - s));", "return s * (1.0f - x * (1.0f - s));"],
        "the slope of SiLU",
        "activation,Silu backward 31 f32",
    ),
    of(
        "activation",
        Kind::Index,
        ["const i64 at = i + i / width * width;", "const i64 at = i + (i + 1) / width * width;"],
        "the last column of a row of GEGLU's gradient lands in the wrong half",
        "activation,geglu backward 3×31 f32",
    ),
    // softmax
    of(
        "softmax",
        Kind::Sign,
        [
            "out[e] = element(kept[k], e) * (element(gradient[k], e) - sum);",
            "out[e] = element(kept[k], e) * (element(gradient[k], e) + sum);",
        ],
        "the row's sum is added to the gradient",
        "softmax,backward 7×33 f32",
    ),
    of(
        "softmax",
        Kind::Bound,
        [
            "body(Planes{row, 0, length, (unsigned)per_row}, row < rows);",
            "body(Planes{row, 0, length, (unsigned)per_row}, row <= rows);",
        ],
        "the last team of a block takes a row that is not there",
        "softmax,forward 33×2 f32",
    ),
    // layer_norm
    of(
        "layer_norm",
        Kind::Sign,
        [
            "(gamma[e] * element(dy, e) - (means.x + x_hat * means.y))",
            "(gamma[e] * element(dy, e) - (means.x - x_hat * means.y))",
        ],
        "the projection on x̂ has the wrong sign",
        "layer_norm,backward 5×31 f32",
    ),
    of(
        "layer_norm",
        Kind::Barrier,
        [
            "  shared[threadIdx.y][threadIdx.x] = sum;\n  __syncthreads();\n  if (threadIdx.y != 0 || c >= columns) return;",
            "  shared[threadIdx.y][threadIdx.x] = sum;\n  if (threadIdx.y != 0 || c >= columns) return;",
        ],
        "the slots are added before all of them are there",
        "layer_norm,backward 5×31 f32",
    ),
    // group_norm
    of(
        "group_norm",
        Kind::Index,
        [
            "const float scale = rstd * __ldg(gamma + c), shift = __ldg(beta + c);",
            "const float scale = rstd * __ldg(gamma + c), shift = __ldg(beta + (c ? c - 1 : 0));",
        ],
        "β of the channel before",
        "group_norm,forward,2×6×31/3 f32",
    ),
    of(
        "group_norm",
        Kind::Sign,
        [
            "out[e] = a.rstd * (a.gamma * dz - means.x - x_hat * means.y);",
            "out[e] = a.rstd * (a.gamma * dz + means.x - x_hat * means.y);",
        ],
        "the mean of the gradient is added",
        "group_norm,backward,2×6×31/3 f32",
    ),
    // batch_norm
    of(
        "batch_norm",
        Kind::Bound,
        [
            "through ? sums.x / count : 0.0f, through ? sums.y / count : 0.0f",
            "sums.x / count, through ? sums.y / count : 0.0f",
        ],
        "evaluation's gradient goes through the mean",
        "batch_norm,eval backward [5, 7, 33] f32",
    ),
    of(
        "batch_norm",
        Kind::Index,
        [
            "affine[c] = sums.y, affine[shape.channels + c] = sums.x;",
            "affine[c] = sums.x, affine[shape.channels + c] = sums.y;",
        ],
        "dγ and dβ are exchanged",
        "batch_norm,train backward [5, 7, 33] f32",
    ),
    // upsample
    of(
        "upsample",
        Kind::Index,
        [
            "put(out, e, x[row / 2 * width + column / 2]);",
            "put(out, e, x[row / 2 * width + (column + 1) / 2]);",
        ],
        "the second of two neighbours is the next pixel's",
        "upsample,forward [1, 2, 3, 5] f32",
    ),
    of(
        "upsample",
        Kind::Bound,
        [
            "if (++column == 2 * width) column = 0, row++;",
            "if (++column == 2 * width - 1) column = 0, row++;",
        ],
        "a row ends one pixel early",
        "upsample,forward [1, 2, 3, 5] f32",
    ),
    // linear
    of(
        "linear",
        Kind::Sign,
        ["return s * (1.0f + rate * z * (1.0f - s));", "return s * (1.0f - rate * z * (1.0f - s));"],
        "the slope of SiLU and quick GELU",
        "linear,backward 31×7 to 33,f32",
    ),
    of(
        "linear",
        Kind::Barrier,
        [
            "  shared[threadIdx.y][threadIdx.x] = sum;\n  __syncthreads();\n  if (threadIdx.y == 0 && column < columns) {",
            "  shared[threadIdx.y][threadIdx.x] = sum;\n  if (threadIdx.y == 0 && column < columns) {",
        ],
        "the rows of a piece are added before all of them are there",
        "linear,backward 31×7 to 33,f32",
    ),
    // conv2d
    of(
        "conv2d",
        Kind::Index,
        [
            "h += transposed ? -u : u, k += transposed ? -v : v;",
            "h += transposed ? -u : v, k += transposed ? -v : u;",
        ],
        "the taps of a kernel are transposed",
        "conv2d,forward 2×2×13×17,f32",
    ),
    of(
        "conv2d",
        Kind::Bound,
        ["return h < s.height && k < s.width ?", "return h < s.height && k <= s.width ?"],
        "the padding on the right is the next row's first pixel",
        "conv2d,forward 1×3×1×1 to 2,f32",
    ),
    of(
        "conv2d",
        Kind::Barrier,
        [
            "    copy_wait<0>();\n    // The step is whole, and every warp has done with the other stage.\n    __syncthreads();",
            "    copy_wait<0>();",
        ],
        "a step is multiplied before other warps have brought their part",
        "conv2d,forward 1×3×1×1 to 2,f16",
    ),
    of(
        "conv2d",
        Kind::Barrier,
        [
            "    // The step is whole, and every warp has done with the other stage.\n    __syncthreads();\n    if (more) fetch_a(step + 1);",
            "    if (more) fetch_a(step + 1);",
        ],
        "the same in the weight gradient",
        "conv2d,weight gradient 1×3×1×1 to 2,f16",
    ),
    // attention
    of(
        "attention",
        Kind::Barrier,
        [
            "    copy_wait<0>();\n    // The tile is whole, and every warp has done with the other.\n    __syncthreads();\n    if (t + 1 < tile_count) {",
            "    copy_wait<0>();\n    if (t + 1 < tile_count) {",
        ],
        "keys are read that other warps have not yet copied",
        "attention forward 2×31×33×8 f16",
    ),
    of(
        "attention",
        Kind::Bound,
        [
            "if (column >= keys || (causal && column > row)) s[m][j][i] = -infinity();",
            "if (column > keys || (causal && column > row)) s[m][j][i] = -infinity();",
        ],
        "one key too many",
        "attention forward 2×31×33×8 f16",
    ),
    of(
        "attention",
        Kind::Sign,
        ["ds[m][j][i] = value * (ds[m][j][i] - shift);", "ds[m][j][i] = value * (ds[m][j][i] + shift);"],
        "delta is added",
        "attention backward 2×31×33×8 f16",
    ),
    // attention_fma
    of(
        "attention_fma",
        Kind::Barrier,
        [
            "    // The keys are read: their place takes the values.\n    __syncthreads();",
            "    // The keys are read: their place takes the values.",
        ],
        "values overwrite keys that other warps still read",
        "attention forward 2×31×33×8 f32",
    ),
    of(
        "attention_fma",
        Kind::Index,
        ["logsumexp[head * queries + row] =", "logsumexp[head * keys + row] ="],
        "heads lie as many keys apart as there should be queries",
        "attention forward 2×31×33×8 f32",
    ),
    of(
        "attention_fma",
        Kind::Sign,
        ["ds = p * (dp[i][j] - delta[query]) * scale;", "ds = p * (dp[i][j] - delta[query]) / scale;"],
        "the scale divides the gradient",
        "attention backward 2×31×33×8 f32",
    ),
    // attention_map
    of(
        "attention_map",
        Kind::Bound,
        ["seen = causal ? min(keys, query + 1) : keys;", "seen = causal ? min(keys, query) : keys;"],
        "a query does not see its own key",
        "attention map 3×33×31×8 causal f32",
    ),
    // copy
    of(
        "copy",
        Kind::Barrier,
        [
            "    __syncthreads();\n#pragma unroll\n    for (int k = threadIdx.y; k < TILE; k += 8) {\n      const i64 i = i0 + k, j",
            "#pragma unroll\n    for (int k = threadIdx.y; k < TILE; k += 8) {\n      const i64 i = i0 + k, j",
        ],
        "a tile is written before it is read whole",
        "copy,[31, 33] by [1, 31] f32",
    ),
    of(
        "copy",
        Kind::Index,
        ["= tile[threadIdx.x][k];", "= tile[k][threadIdx.x];"],
        "a tile is not transposed",
        "copy,[31, 33] by [1, 31] f32",
    ),
    // rng
    of(
        "rng",
        Kind::Bound,
        ["if (first >= n) continue;", "if (first > n) continue;"],
        "one number too many",
        "rng 257 of seed,f32",
    ),
    of(
        "rng",
        Kind::Index,
        ["from_float(back.x, out[first + 2 * threads]);", "from_float(back.y, out[first + 2 * threads]);"],
        "the third number of a counter is the fourth",
        "rng 20011 of seed,f32",
    ),
    // optimiser
    of(
        "optimiser",
        Kind::Sign,
        [
            "return theta + n.step * m / (root(v) / n.bias2 + n.eps);",
            "return theta - n.step * m / (root(v) / n.bias2 + n.eps);",
        ],
        "the step goes uphill",
        "optimiser adam [",
    ),
    of(
        "optimiser",
        Kind::Bound,
        ["i < piece.n; i += blockDim.x) scalar_step", "i + 1 < piece.n; i += blockDim.x) scalar_step"],
        "the last element after whole packs is left out",
        "optimiser sgd [",
    ),
    // guidance
    of(
        "guidance",
        Kind::Sign,
        ["turn * (a[1] + guidance * (a[2] - a[1])); });", "turn * (a[1] + guidance * (a[1] - a[2])); });"],
        "the guidance leads away from the condition",
        "guidance plain 31 f32",
    ),
    // resize
    of(
        "resize",
        Kind::Bound,
        [
            "return {low, min(low + 1, axis.in - 1), s - low};",
            "return {low, min(low + 1, axis.in), s - low};",
        ],
        "the neighbour of the last pixel is the next row's first",
        "resize forward 2×7×9 to 31×33 f32",
    ),
    of(
        "resize",
        Kind::Sign,
        ["return (t.low == i ? 1.0f - t.weight : 0.0f)", "return (t.low == i ? t.weight : 0.0f)"],
        "the weights of two neighbours are exchanged",
        "resize backward 2×7×9 to 31×33 f32",
    ),
];

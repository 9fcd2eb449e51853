//! Rules that keep results right: no operation with a silently missing gradient, no unordered sum, no randomness but ours,
//! no pickle.

use crate::files::{rust, with_extension};
use crate::{Rule, code, has_word, hold, lines_where, places};

/// candle_nn's names whose gradient is absent or wrong in the pinned version (ARCHITECTURE.md says how that was found).
const NO_GRADIENT: [&str; 12] = [
    "softmax_last_dim",
    "LayerNorm",
    "layer_norm",
    "layer_norm_no_bias",
    "RmsNorm",
    "rms_norm",
    "rotary_emb",
    "rope",
    "rope_i",
    "rope_thd",
    "sdpa",
    "*",
];

/// candle_core's methods whose backward overwrites, is absent, or fails.
const NO_BACKWARD: [&str; 6] = [
    ".upsample_nearest1d(",
    ".upsample_nearest2d(",
    ".upsample_bilinear2d(",
    ".upsample_bilinear2d_with_scale(",
    ".interpolate2d(",
    ".conv_transpose1d(",
];

const POOLS: [&str; 2] = ["avg_pool2d_with_stride(", "max_pool2d_with_stride("];

const FOREIGN_RANDOMNESS: [&str; 12] = [
    "Tensor::rand(",
    "Tensor::randn(",
    "Tensor::rand_f64",
    "Tensor::randn_f64",
    "Var::rand",
    ".rand_like(",
    ".randn_like(",
    "thread_rng",
    "rand::rng(",
    "rand::random",
    "from_os_rng",
    "getrandom::",
];

const PICKLE: [&str; 8] =
    ["torch.load", "pickle::", "PthTensors", "from_pth", ".pt\"", ".pth\"", ".ckpt\"", "pickle.load"];

/// Uses of an operation through whose gradient a training run would silently go wrong.
fn gradient_traps(text: &str) -> Vec<usize> {
    let mut lines = imports_of(text, "candle_nn", &NO_GRADIENT);
    lines.extend(lines_where(text, |line| {
        let line = code(line);
        // Ours have the names of PyTorch's too, and gradients.
        let ours = line.contains("sd_core::ops::") || line.contains("crate::ops::");
        let qualified = line.contains("ops::")
            && !ours
            && NO_GRADIENT[..11].iter().any(|name| has_word(line, &format!("ops::{name}")));
        qualified
            || has_word(line, "softmax_last_dim")
            || NO_BACKWARD.iter().any(|name| line.contains(name))
            || uneven_pool(line)
    }));
    lines.sort_unstable();
    lines.dedup();
    lines
}

/// Lines that name `package` and below it, in the same path, one of `names`.
fn imports_of(text: &str, package: &str, names: &[&str]) -> Vec<usize> {
    let stripped = text.lines().map(code).collect::<Vec<_>>().join("\n");
    let prefix = format!("{package}::");
    let named = stripped.match_indices(&prefix).filter(|(at, _)| {
        let path = path_of(&stripped[at + prefix.len()..]);
        names.iter().any(|name| if *name == "*" { path.contains('*') } else { has_word(path, name) })
    });
    named.map(|(at, _)| stripped[..at].matches('\n').count() + 1).collect()
}

/// The rest of a path such as `ops::{a, b}`: identifiers and `::`, then a group up to its closing brace or a star.
fn path_of(text: &str) -> &str {
    let plain = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    match text[plain..].chars().next() {
        Some('{') if text[..plain].ends_with("::") || plain == 0 => {
            text.find(';').map_or(text, |end| &text[..end])
        }
        Some('*') if text[..plain].ends_with("::") || plain == 0 => &text[..=plain],
        _ => &text[..plain],
    }
}

/// A pool whose kernel and stride differ: its backward is an error at best.
fn uneven_pool(line: &str) -> bool {
    POOLS.iter().any(|name| {
        let Some((_, arguments)) = line.split_once(name) else { return false };
        let arguments = arguments.split_once(')').map_or(arguments, |(inside, _)| inside);
        arguments.split_once(',').is_none_or(|(kernel, stride)| kernel.trim() != stride.trim())
    })
}

/// An atomic addition on anything that its line does not say is an integer.
fn unordered_sums(text: &str) -> Vec<usize> {
    lines_where(text, |line| code(line).contains("atomicAdd") && !line.contains("// integer"))
}

fn foreign_randomness(text: &str) -> Vec<usize> {
    lines_where(text, |line| FOREIGN_RANDOMNESS.iter().any(|name| code(line).contains(name)))
}

fn pickle(text: &str) -> Vec<usize> {
    lines_where(text, |line| PICKLE.iter().any(|name| code(line).contains(name)))
}

#[test]
fn nothing_differentiates_through_an_operation_without_a_gradient() {
    hold(&rust(), gradient_traps, "candle's gradient of this is absent or wrong: use sd-core's");
}

#[test]
fn kernels_sum_floats_in_a_fixed_order() {
    // There may be no kernel yet; where there is one, the rule holds.
    let kernels = with_extension(&["cu", "cuh"]);
    let broken: Vec<String> = kernels.iter().flat_map(|file| places(file, unordered_sums)).collect();
    assert!(
        broken.is_empty(),
        "a float atomicAdd sums in no fixed order (say `// integer` if it is one): {broken:?}"
    );
}

#[test]
fn all_randomness_is_seeded() {
    hold(
        &rust(),
        foreign_randomness,
        "randomness comes from sd_core::rng: candle's CPU generator cannot be seeded",
    );
}

#[test]
fn no_pickle_is_read() {
    hold(&rust(), pickle, "a pickle is a program: weights are read from safetensors only");
}

#[test]
fn each_rule_finds_what_it_is_for() {
    let bad: [(Rule, &str, usize); 18] = [
        (gradient_traps, "let p = candle_nn::ops::softmax_last_dim(&x)?;\n", 1),
        (gradient_traps, "let p = softmax_last_dim(&x)?;\n", 1),
        (gradient_traps, "\nuse candle_nn::{Linear, LayerNorm};\n", 2),
        (gradient_traps, "use candle_nn::{\n    Linear,\n    layer_norm,\n};\n", 1),
        (gradient_traps, "use candle_nn::*;\n", 1),
        (gradient_traps, "use candle_nn::ops;\nfn f() {\n    ops::rms_norm(&x, &w, 1e-5)?;\n}\n", 3),
        (gradient_traps, "fn f() {\n    candle_nn::rotary_emb::rope(&x, &c, &s)?;\n}\n", 2),
        (gradient_traps, "let y = candle_nn::ops::sdpa(&q, &k, &v);\n", 1),
        (gradient_traps, "let y = x.upsample_nearest2d(8, 8)?;\n", 1),
        (gradient_traps, "let y = x.max_pool2d_with_stride(3, 2)?;\n", 1),
        (gradient_traps, "let y = x.avg_pool2d_with_stride((2, 2), 2)?;\n", 1),
        (unordered_sums, "__global__ void f() {\n  atomicAdd(&sum[0], x);\n}\n", 2),
        (foreign_randomness, "let x = Tensor::randn(0f32, 1., (2, 3), &device)?;\n", 1),
        (foreign_randomness, "let x = y.rand_like(0., 1.)?;\n", 1),
        (foreign_randomness, "use rand::thread_rng;\n", 1),
        (pickle, "let x = candle_core::pickle::read_all(path)?;\n", 1),
        (pickle, "let path = folder.join(\"model.ckpt\");\n", 1),
        (pickle, "let path = folder.join(\"weights.pt\");\n", 1),
    ];
    for (rule, text, line) in bad {
        assert_eq!(rule(text), [line], "{text}");
    }
}

#[test]
fn each_rule_lets_good_text_pass() {
    let good = "//! Ours.\nuse candle_nn::{Linear, VarBuilder};\nuse crate::ops::group_norm;\n\
                // softmax_last_dim has no gradient, Tensor::randn( no seed, torch.load no limits\n\
                fn layer_norm() {}\nlet y = x.max_pool2d_with_stride(2, 2)?;\nlet z = x.avg_pool2d(2)?;\n\
                atomicAdd(&count[0], 1);  // integer\nlet p = candle_nn::ops::softmax(&x, 1)?;\n";
    for rule in [gradient_traps as Rule, unordered_sums, foreign_randomness, pickle] {
        assert!(rule(good).is_empty(), "{:?}", rule(good));
    }
}

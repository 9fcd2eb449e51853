#!/usr/bin/env python3
"""PyTorch's side of `cargo xtask bench cpu`: the same names, the same sizes, as CSV.

    python3 -m venv peers && peers/bin/pip install torch==2.11.0
    peers/bin/python results/bench/torch_cpu.py --threads 2 --only conv2d/ > torch.csv
    cargo xtask bench cpu --threads 2 --only conv2d/ --vs torch.csv

`fwd` is the forward alone without a graph; `train` is the forward and the gradient of every operand. diffGrad has no
implementation in PyTorch: what is timed is the published update written with PyTorch's own tensor operations, which is what
its users run. Adam is PyTorch's fused one, the fastest it has.
"""
import argparse
import statistics
import time

import torch
from torch.nn import functional

CONVOLUTIONS = [  # batch, channels in, channels out, side, kernel, stride
    (64, 32, 32, 16, 3, 1),
    (64, 64, 64, 8, 3, 1),
    (64, 128, 128, 4, 3, 1),
    (128, 16, 16, 32, 3, 1),
    (128, 64, 64, 32, 3, 1),
    (128, 128, 128, 16, 3, 1),
    (128, 64, 128, 32, 3, 2),
    (2, 320, 320, 64, 3, 1),
    (2, 640, 640, 32, 3, 1),
    (2, 1280, 1280, 16, 3, 1),
    (2, 320, 320, 64, 1, 1),
]
GROUP_NORMS = [(64, 32, 16, 8), (64, 128, 4, 8), (2, 320, 64, 32), (2, 1280, 16, 32)]  # batch, channels, side, groups
LAYER_NORMS = [(64, 256, 32), (2, 4096, 320), (2, 77, 768)]  # batch, tokens, width
ATTENTIONS = [  # batch, heads, queries, keys, head size
    (64, 4, 256, 256, 8),
    (64, 4, 256, 20, 8),
    (2, 8, 4096, 4096, 40),
    (2, 8, 1024, 1024, 80),
    (2, 8, 4096, 77, 40),
    (2, 12, 77, 77, 64),
]
GEGLUS = [(64, 256, 128), (2, 4096, 1280)]  # batch, tokens, width of each half
UPSAMPLINGS = [(64, 64, 8), (2, 640, 32)]  # batch, channels, side
BATCH_NORMS = [(128, 64, 32), (128, 16, 32)]  # batch, channels, side
NETWORKS = {"resnet50": [36_864] * 60 + [589_824] * 30 + [256] * 71, "flat100m": [100_000_000]}


def geglu(x):
    values, gates = x.chunk(2, dim=-1)
    return values * functional.gelu(gates)


def operations():
    """(name, function, shapes of its operands), one after the other."""
    for b, i, o, s, k, t in CONVOLUTIONS:
        function = lambda x, w, bias, t=t, p=k // 2: functional.conv2d(x, w, bias, stride=t, padding=p)
        yield f"conv2d/f32/b{b}i{i}o{o}s{s}k{k}t{t}", function, [(b, i, s, s), (o, i, k, k), (o,)]
    for b, c, s, g in GROUP_NORMS:
        function = lambda x, w, bias, g=g: functional.silu(functional.group_norm(x, g, w, bias, 1e-5))
        yield f"group_norm_silu/f32/b{b}c{c}s{s}g{g}", function, [(b, c, s, s), (c,), (c,)]
    for b, t, d in LAYER_NORMS:
        function = lambda x, w, bias, d=d: functional.layer_norm(x, (d,), w, bias, 1e-5)
        yield f"layer_norm/f32/b{b}t{t}d{d}", function, [(b, t, d), (d,), (d,)]
    for b, h, q, k, d in ATTENTIONS:
        shapes = [(b, h, q, d), (b, h, k, d), (b, h, k, d)]
        yield f"attention/f32/b{b}h{h}q{q}k{k}d{d}", functional.scaled_dot_product_attention, shapes
    for b, t, d in GEGLUS:
        yield f"geglu/f32/b{b}t{t}d{d}", geglu, [(b, t, 2 * d)]
    for b, c, s in UPSAMPLINGS:
        function = lambda x: functional.interpolate(x, scale_factor=2.0)
        yield f"upsample_nearest2x/f32/b{b}c{c}s{s}", function, [(b, c, s, s)]
    for b, c, s in BATCH_NORMS:
        mean, variance = torch.zeros(c), torch.ones(c)
        function = lambda x, w, bias, m=mean, v=variance: functional.batch_norm(x, m, v, w, bias, True, 0.1, 1e-5)
        yield f"batch_norm/f32/b{b}c{c}s{s}", function, [(b, c, s, s), (c,), (c,)]


def diffgrad(params, state, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """One step; state holds t and, for every parameter, both moments and the previous gradient."""
    t = state["t"] = state.get("t", 0) + 1
    scale = lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
    for index, p in enumerate(params):
        g = p.grad
        m, v, previous = state.setdefault(index, [torch.zeros_like(p) for _ in range(3)])
        friction = (previous - g).abs().sigmoid()
        previous.copy_(g)
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        p.data.addcdiv_(friction.mul_(m), v.sqrt().add_(eps), value=-scale)


def measure(name, work, repetitions):
    work(), work()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    low, _, high = statistics.quantiles(times, n=4) if repetitions > 1 else times * 3
    print(f"{name},{statistics.median(times):.4f},{low:.4f},{high:.4f},{repetitions},cpu", flush=True)


def time_product(only, repetitions):
    if "matmul/f32/n2048/fwd".startswith(only):
        a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
        measure("matmul/f32/n2048/fwd", lambda: a @ b, repetitions)


def time_operations(only, repetitions):
    for name, function, shapes in operations():
        if not any(f"{name}/{which}".startswith(only) for which in ("fwd", "train")):
            continue
        leaves = [(2 * torch.rand(shape) - 1).requires_grad_() for shape in shapes]

        def forward():
            with torch.no_grad():
                function(*leaves)

        def train():
            for leaf in leaves:
                leaf.grad = None
            y = function(*leaves)
            y.backward(torch.ones_like(y))

        for which, work in (("fwd", forward), ("train", train)):
            if f"{name}/{which}".startswith(only):
                measure(f"{name}/{which}", work, repetitions)


def time_steps(only, repetitions):
    for label, lengths in NETWORKS.items():
        names = [f"{op}/f32/{label}/step" for op in ("diffgrad", "adam", "copy")]
        if not any(name.startswith(only) for name in names):
            continue
        params = [torch.randn(length, requires_grad=True) for length in lengths]
        for p in params:
            p.grad = torch.randn_like(p)
        state, adam = {}, torch.optim.Adam(params, lr=1e-3, fused=True)
        source = torch.ones(sum(lengths))
        target = torch.empty_like(source)
        works = [lambda: diffgrad(params, state), adam.step, lambda: target.copy_(source)]
        for name, work in zip(names, works):
            if name.startswith(only):
                measure(name, work, repetitions)


def time_unet(repetitions):
    """The full-size UNet, only where it is asked for by name: it needs diffusers, 4 GB and seconds a pass."""
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(sample_size=64, cross_attention_dim=768).eval()
    sample, context, timestep = torch.randn(2, 4, 64, 64), torch.randn(2, 77, 768), torch.tensor(500)

    def forward():
        with torch.no_grad():
            model(sample, timestep, context)

    measure("unet_sd15/f32/b2s64/fwd", forward, repetitions)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--only", default="", help="only the cases whose name begins with this")
    typed = parser.parse_args()
    torch.set_num_threads(typed.threads)
    torch.manual_seed(0)
    print("name,median_ms,q1_ms,q3_ms,reps,device")
    time_product(typed.only, typed.reps)
    time_operations(typed.only, typed.reps)
    time_steps(typed.only, typed.reps)
    if typed.only.startswith("unet_"):
        time_unet(typed.reps)


if __name__ == "__main__":
    main()

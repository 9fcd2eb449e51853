#!/usr/bin/env python3
"""PyTorch's side of `cargo xtask bench cpu`: the same names, the same sizes, as CSV.

    python3 -m venv peers && peers/bin/pip install torch==2.11.0
    peers/bin/python torch_optimisers.py --threads 2 --only flat100m > torch.csv
    cargo xtask bench cpu --threads 2 --vs torch.csv

diffGrad has no implementation in PyTorch: what is timed is the published update written with PyTorch's own tensor operations,
which is what its users run. Adam is PyTorch's fused one, the fastest it has.
"""
import argparse
import statistics
import time

import torch

SIZES = {"resnet50": [36_864] * 60 + [589_824] * 30 + [256] * 71, "flat100m": [100_000_000]}


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


def measure(name, step, repetitions):
    step(), step()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    low, middle, high = statistics.quantiles(times, n=4)
    print(f"{name},{middle:.4f},{low:.4f},{high:.4f},{repetitions},cpu", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--reps", type=int, default=9)
    arguments.add_argument("--only", default="", help="a size: resnet50 or flat100m")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print("name,median_ms,q1_ms,q3_ms,reps,device")
    for size, lengths in SIZES.items():
        if options.only not in size:
            continue
        params = [torch.randn(n, requires_grad=True) for n in lengths]
        for p in params:
            p.grad = torch.randn_like(p)
        state = {}
        measure(f"diffgrad/f32/{size}/step", lambda: diffgrad(params, state), options.reps)
        adam = torch.optim.Adam(params, lr=1e-3, fused=True)
        measure(f"adam/f32/{size}/step", adam.step, options.reps)
        source, target = torch.empty(sum(lengths)), torch.empty(sum(lengths))
        measure(f"copy/f32/{size}/step", lambda: target.copy_(source), options.reps)


if __name__ == "__main__":
    main()

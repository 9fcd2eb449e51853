#!/usr/bin/env python3
"""Makes optimisers.safetensors: trajectories of every optimiser over 200 steps, in float64 and float32.

    python3 -m venv venv && venv/bin/pip install torch==2.11.0 numpy safetensors
    venv/bin/python make_goldens.py

Rules that PyTorch has come from torch.optim (foreach=False). The others are eager PyTorch operations written here from the
paper's formulas. Start values and gradients come from an integer hash and are exact in both types, so nothing but the
optimiser can differ. The last parameter has no gradient at every seventh step.

Tensors: '<case>.<f64|f32>', shape (snapshots, all elements of all parameters in order). Metadata: versions, the snapshots'
steps, and for every case its optimiser as this project's configuration writes it.
"""
import json
import platform
from pathlib import Path

import numpy
import safetensors
import torch
from safetensors.torch import save_file

SHAPES = [(3, 4, 3, 3), (17,), (5, 7), (1,)]
SNAPSHOTS = [1, 10, 50, 200]


def mixed(x):
    """A 32-bit integer scrambled."""
    x &= 0xFFFFFFFF
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return x


def noise(tensor, i, t):
    """A multiple of 2^-23 in [-1/2, 1/2)."""
    return (mixed(tensor * 1_000_003 + i * 10_007 + t * 101 + 7) >> 9) / 2**23 - 0.5


def gradient(tensor, i, t):
    """Noise around a constant of the element, at six magnitudes."""
    return (noise(tensor, i, t) + (i % 3 - 1) * 0.25) * 2.0 ** -(i % 6)


def filled(tensor, t, dtype):
    shape = SHAPES[tensor]
    count = torch.Size(shape).numel()
    f = (lambda k: 2 * noise(tensor, k, 0)) if t == 0 else (lambda k: gradient(tensor, k, t))
    return torch.tensor([f(k) for k in range(count)], dtype=torch.float64).to(dtype).reshape(shape)


class Eager:
    """Adam's family with the classic epsilon, and diffGrad with its control and variants."""

    def __init__(self, params, rule, lr, weight_decay, beta1=0.9, beta2=0.999, eps=1e-8):
        self.params, self.rule, self.lr, self.weight_decay = params, rule, lr, weight_decay
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.state = {}

    def friction(self, previous, g):
        d = (previous - g).abs()
        a = g.abs().double()
        mu, nu = a.mean().to(g.dtype), a.std(unbiased=False)
        nu2, nu_root, nu = (nu * nu).to(g.dtype), nu.sqrt().to(g.dtype), nu.to(g.dtype)
        return {
            "diffgrad": lambda: torch.sigmoid(d),
            "diffgrad_as_run": lambda: torch.sigmoid(d),
            "half_step": lambda: torch.full_like(g, 0.5),
            "adam": lambda: torch.ones_like(g),
            "amsgrad": lambda: torch.ones_like(g),
            "diffgrad1": lambda: 1 / (1 + torch.exp(-(previous - g))),
            "diffgrad2": lambda: 9 / (1 + torch.exp(-0.5 * d)) - 4,
            "diffgrad3": lambda: 1 / (1 + torch.exp(-(nu * d - mu))),
            "diffgrad4": lambda: 1 / (1 + torch.exp(-(nu2 * d - mu))),
            "diffgrad5": lambda: 1 / (1 + torch.exp(-(nu_root * d - mu))),
        }[self.rule]()

    def step(self):
        for i, p in enumerate(self.params):
            if p.grad is None:
                continue
            s = self.state.setdefault(i, {"t": 0, **{k: torch.zeros_like(p) for k in ("m", "v", "w", "p")}})
            s["t"] += 1
            g = p.grad
            if self.weight_decay:
                g.add_(p.data, alpha=self.weight_decay)
            s["m"].mul_(self.beta1).add_(g, alpha=1 - self.beta1)
            s["v"].mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
            v = s["v"]
            if self.rule == "amsgrad":
                v = s["w"] = torch.maximum(s["w"], v)
            xi = self.friction(s["p"], g)
            # The bug itself: the handle of the gradient's buffer, into which the next gradient is written.
            s["p"] = g if self.rule == "diffgrad_as_run" else g.clone()
            scale = self.lr * (1 - self.beta2 ** s["t"]) ** 0.5 / (1 - self.beta1 ** s["t"])
            p.data.addcdiv_(s["m"] * xi, v.sqrt().add_(self.eps), value=-scale)


def torch_optimiser(params, rule, lr, weight_decay):
    make = {
        "sgd": lambda **k: torch.optim.SGD(params, momentum=0.9, **k),
        "adagrad": lambda **k: torch.optim.Adagrad(params, **k),
        "adadelta": lambda **k: torch.optim.Adadelta(params, **k),
        "rmsprop": lambda **k: torch.optim.RMSprop(params, **k),
        "adam": lambda **k: torch.optim.Adam(params, **k),
        "amsgrad": lambda **k: torch.optim.Adam(params, amsgrad=True, **k),
    }[rule]
    return make(lr=lr, weight_decay=weight_decay, foreach=False)


def trajectory(make, dtype):
    params = [torch.nn.Parameter(filled(i, 0, dtype)) for i in range(len(SHAPES))]
    optimiser = make(params)
    buffers = [torch.zeros_like(p.data) for p in params]
    rows = []
    for t in range(1, SNAPSHOTS[-1] + 1):
        for i, p in enumerate(params):
            buffers[i].copy_(filled(i, t, dtype))
            p.grad = None if i == len(SHAPES) - 1 and t % 7 == 0 else buffers[i]
        optimiser.step()
        if t in SNAPSHOTS:
            rows.append(torch.cat([p.data.flatten() for p in params]))
    return torch.stack(rows)


def cases():
    """(name, configuration, function of the parameters that makes the optimiser)"""
    for weight_decay in (0.0, 0.01):
        tail = "" if weight_decay == 0 else "_decay"
        for rule, lr in (("sgd", 1e-2), ("adagrad", 1e-2), ("adadelta", 1.0), ("rmsprop", 1e-2), ("adam", 1e-3), ("amsgrad", 1e-3)):
            config = {"rule": rule, "lr": lr, "weight_decay": weight_decay}
            if rule in ("adam", "amsgrad"):
                config["epsilon"] = "modern"
            yield f"torch_{rule}{tail}", config, lambda p, c=config: torch_optimiser(p, c["rule"], c["lr"], c["weight_decay"])
        names = ["adam", "amsgrad", "diffgrad", "diffgrad_as_run", "half_step"] + [f"diffgrad{i}" for i in range(1, 6)]
        for rule in names:
            config = {"rule": rule, "lr": 1e-3, "weight_decay": weight_decay}
            yield f"eager_{rule}{tail}", config, lambda p, c=config: Eager(p, c["rule"], c["lr"], c["weight_decay"])


def main():
    torch.set_num_threads(1)
    tensors = {}
    metadata = {
        "torch": torch.__version__, "numpy": numpy.__version__, "safetensors": safetensors.__version__,
        "python": platform.python_version(), "snapshots": json.dumps(SNAPSHOTS), "shapes": json.dumps(SHAPES),
    }
    for name, config, make in cases():
        metadata[f"case {name}"] = json.dumps(config)
        for label, dtype in (("f64", torch.float64), ("f32", torch.float32)):
            tensors[f"{name}.{label}"] = trajectory(make, dtype)
    save_file(tensors, Path(__file__).with_name("optimisers.safetensors"), metadata)


if __name__ == "__main__":
    main()

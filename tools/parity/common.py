"""What the scripts of this folder share: reproducible random weights, fingerprints of activations, and where they are written.

The Rust tests make the same weights with their own copy of PyTorch's generator (`models/testing.rs`), so that no weight is stored.
"""

import json
import math
import pathlib

import torch

# Sums in one order, and a machine shared with others stays usable.
torch.set_num_threads(1)
GOLDENS = pathlib.Path(__file__).resolve().parents[2] / "crates/sd-core/tests/goldens"


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fill(model, seed):
    """Sets every parameter: the i-th name in sorted order is drawn from `seed + i`, in f32, and scaled by what it is."""
    state = dict(model.named_parameters())
    with torch.no_grad():
        for i, name in enumerate(sorted(state)):
            tensor = state[name]
            values = randn(seed + i, *tensor.shape)
            if "embedding.weight" in name or name.endswith("class_embedding"):
                values.mul_(0.5)
            elif name.endswith("logit_scale"):
                values.mul_(0.1).add_(2.0)
            elif values.dim() >= 2:
                values.mul_(0.8 / math.sqrt(math.prod(values.shape[1:])))
            elif name.endswith("weight"):
                values.mul_(0.1).add_(1.0)
            else:
                values.mul_(0.1)
            tensor.copy_(values)
    return model.eval()


def signs(n, p):
    """±1 by the lowest bit of SplitMix64's output for the state 8j + p, j < n."""
    import numpy as np

    with np.errstate(over="ignore"):
        z = np.arange(n, dtype=np.uint64) * np.uint64(8) + np.uint64(p) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return torch.from_numpy(1.0 - 2.0 * (z & np.uint64(1)).astype(np.float64))


def fingerprint(tensor, projections=4, samples=16):
    """Shape, root mean square, projections on random signs, evenly spaced elements: see `models/testing.rs::Fingerprint`."""
    x = tensor.detach().double().flatten()
    n = x.numel()
    samples = min(samples, n)
    places = [0 if samples < 2 else i * (n - 1) // (samples - 1) for i in range(samples)]
    return {
        "shape": list(tensor.shape),
        "rms": float(x.square().mean().sqrt()),
        "projections": [float((signs(n, p) * x).sum()) for p in range(projections)],
        "values": [float(x[j]) for j in places],
    }


class Recorder:
    """Forward hooks that fingerprint the outputs of the modules that `choose(path, module)` accepts."""

    def __init__(self, model, choose):
        self.seen = {}
        self.hooks = [
            module.register_forward_hook(self.hook(path)) for path, module in model.named_modules() if choose(path, module)
        ]

    def hook(self, path):
        def record(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            self.add(path, getattr(output, "sample", output))

        return record

    def add(self, name, tensor):
        assert name not in self.seen, f"{name} came by twice"
        self.seen[name] = fingerprint(tensor)

    def watch_map(self, path, attention):
        """Fingerprints the probabilities of one of diffusers' attentions (B, heads, Tq, Tk); its processor must be the one that forms them."""
        scores = attention.get_attention_scores

        def record(*arguments):
            map = scores(*arguments)
            self.add(f"{path}#map", map.unflatten(0, (-1, attention.heads)))
            return map

        attention.get_attention_scores = record

    def remove(self):
        for hook in self.hooks:
            hook.remove()


def write(name, cases):
    """One line an activation: readable in a difference, small in a checkout."""
    GOLDENS.mkdir(parents=True, exist_ok=True)
    short = lambda value: float(f"{value:.13g}") if isinstance(value, float) else value
    tidy = lambda record: {key: [short(v) for v in value] if isinstance(value, list) else short(value) for key, value in record.items()}
    lines = []
    for case, golden in cases.items():
        rows = ",\n".join(f"  {json.dumps(site)}: {json.dumps(tidy(record))}" for site, record in golden.items())
        lines.append(f"{json.dumps(case)}: {{\n{rows}\n}}")
    path = GOLDENS / name
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{path.name}: {path.stat().st_size} bytes")

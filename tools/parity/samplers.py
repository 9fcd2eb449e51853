#!/usr/bin/env python3
"""Runs diffusers' schedulers on a toy model and stores every step, for crates/sd-core/tests/sampling.rs.

    python tools/parity/samplers.py        # writes crates/sd-core/tests/goldens/sampling.safetensors

Needs diffusers 0.42.1, torch, numpy and safetensors. Nothing of difflab is used.

The toy model answers `0.3·(what the model is given) + 0.5·r` with r from `torch.randn`, so that errors of a step are carried on
and yet nothing grows. One generator a case gives, in this order and always in float32: the initial noise (with `begin`: the clean
sample and the noise added to it), then for every evaluation r and the fresh noise z, drawn whether the scheduler takes it or not.

Three kinds of arithmetic:
* `single`: diffusers as it is, on float32 tensors;
* `rounded`: the same with square roots, logarithms and exponentials rounded correctly. PyTorch's own come from a vector library
  and are up to 0.75 units of the last place off (a fifth of its square roots are not the nearest number), which varies with
  library and processor. Without that, every bit can be compared;
* `double`: the same source with `torch.float32` and `np.float32` meaning float64 inside the scheduler's module, so that tables and
  steps are computed in double throughout: the formulas without rounding. (On float64 tensors diffusers as it is keeps tables and
  coefficients in float32, and some schedulers round the sample to it.)
"""

import contextlib
import hashlib
import importlib
import json
import pathlib
import struct
import sys

import diffusers
import numpy as np
import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).parents[2] / "crates/sd-core/tests/goldens/sampling.safetensors"
SHAPE = (2, 1, 2, 4)

MODULES = {
    "DDIMScheduler": "scheduling_ddim",
    "DDIMInverseScheduler": "scheduling_ddim_inverse",
    "DDPMScheduler": "scheduling_ddpm",
    "PNDMScheduler": "scheduling_pndm",
    "EulerDiscreteScheduler": "scheduling_euler_discrete",
    "EulerAncestralDiscreteScheduler": "scheduling_euler_ancestral_discrete",
    "DPMSolverMultistepScheduler": "scheduling_dpmsolver_multistep",
}
LATENT = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


class Double:
    """A module whose float32 is float64."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, "float64" if name == "float32" else name)


def module_of(name):
    return importlib.import_module(f"diffusers.schedulers.{MODULES[name]}")


def nearest(function):
    """`function` of a float32 tensor by way of float64, so that the result is the nearest number."""
    return lambda x: function(x.double()).to(x.dtype)


@contextlib.contextmanager
def correct_functions():
    """Square roots, logarithms and exponentials rounded correctly."""
    before = {"sqrt": torch.sqrt, "log": torch.log, "exp": torch.exp}
    power, method = torch.Tensor.__pow__, torch.Tensor.sqrt
    root = nearest(before["sqrt"])
    try:
        for key, function in before.items():
            setattr(torch, key, nearest(function))
        torch.Tensor.__pow__ = lambda x, y: root(x) if y == 0.5 else power(x, y)
        torch.Tensor.sqrt = root
        yield
    finally:
        torch.Tensor.__pow__, torch.Tensor.sqrt = power, method
        for key, function in before.items():
            setattr(torch, key, function)


@contextlib.contextmanager
def arithmetic(name, kind):
    """The scheduler's module computing in `kind`."""
    if kind == "rounded":
        with correct_functions():
            yield
        return
    module = module_of(name)
    before = {key: getattr(module, key) for key in ("torch", "np") if hasattr(module, key)}
    try:
        if kind == "double":
            torch.set_default_dtype(torch.float64)
            for key, value in before.items():
                setattr(module, key, Double(value))
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        for key, value in before.items():
            setattr(module, key, value)


@contextlib.contextmanager
def fresh_noise(name, queue):
    """`randn_tensor` in the scheduler's module gives what `queue` holds."""
    module = module_of(name)
    if not hasattr(module, "randn_tensor"):
        yield
        return
    before = module.randn_tensor
    module.randn_tensor = lambda *args, **kwargs: queue[0]
    try:
        yield
    finally:
        module.randn_tensor = before


def trajectory(scheduler, name, case):
    """Every sample of a run, the first one included."""
    dtype = torch.float64 if case["kind"] == "double" else torch.float32
    generator = torch.Generator().manual_seed(case["seed"])
    draw = lambda: torch.randn(SHAPE, generator=generator, dtype=torch.float32).to(dtype)
    begin = case.get("begin", 0)
    timesteps = scheduler.timesteps[begin:]
    if hasattr(scheduler, "set_begin_index"):
        # Otherwise it looks its place up by timestep, and with Karras's sigmas two steps may share one.
        scheduler.set_begin_index(begin)
    if "begin" in case:
        clean, noise = draw(), draw()
        x = scheduler.add_noise(clean, noise, timesteps[:1].repeat(SHAPE[0]))
    else:
        x = draw() * scheduler.init_noise_sigma
    seen, queue = [x], [None]
    with fresh_noise(name, queue):
        for t in timesteps:
            r, queue[0] = draw(), draw()
            output = 0.3 * scheduler.scale_model_input(x, t) + 0.5 * r
            extra = {}
            if name == "DDIMScheduler":
                extra = {"eta": case.get("eta", 0.0), "variance_noise": queue[0] if case.get("eta") else None}
            x = scheduler.step(output, t, x, **extra).prev_sample
            assert x.dtype == dtype and torch.isfinite(x).all(), (case, t)
            seen.append(x)
    return torch.stack(seen).reshape(len(seen), -1)


def plain(t):
    """A timestep as a number, without a fraction where it has none."""
    return int(t) if float(t).is_integer() else float(t)


def written(scheduler):
    """What `save_pretrained` writes, without its blanks."""
    return json.dumps(json.loads(scheduler.to_json_string()), separators=(",", ":"))


def run(case, configs):
    name = case["class"]
    with arithmetic(name, case["kind"]):
        scheduler = getattr(diffusers, name)(**case["config"])
        scheduler.set_timesteps(case["steps"])
        samples = trajectory(scheduler, name, case)
    record = {key: value for key, value in case.items() if key not in ("class", "config")}
    record["config"] = configs.setdefault(written(scheduler), len(configs))
    record["timesteps"] = [plain(t) for t in scheduler.timesteps]
    record["init_noise_sigma"] = float(scheduler.init_noise_sigma)
    return record, samples


def variants():
    """(class, its settings, what else) of every case."""
    eps, v, x0 = ({"prediction_type": p} for p in ("epsilon", "v_prediction", "sample"))
    lead = dict(timestep_spacing="leading", steps_offset=1)
    trail, line = dict(timestep_spacing="trailing"), dict(timestep_spacing="linspace")
    sd = dict(clip_sample=False, set_alpha_to_one=False, **lead)
    free = dict(clip_sample=False)
    linear = dict(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    cosine = dict(beta_schedule="squaredcos_cap_v2")
    zero = dict(rescale_betas_zero_snr=True)

    ddim = [
        (sd | eps, {}), (sd | v, {}), (sd | x0, {}), (sd | eps, {"eta": 1.0}), (sd | v, {"eta": 0.4}),
        (free | trail | eps, {}), (free | line | eps, {}), (free | trail | v, {"eta": 1.0}), ({}, {}),
        (dict(clip_sample_range=0.6) | x0, {"eta": 0.7}), (sd | linear, {}), (free | cosine | trail | v, {}),
        (free | zero | trail | v, {}), (free | zero | lead | eps, {}), (sd | eps, {"steps": 1}), (sd | eps, {"steps": 33}),
        (sd | eps, {"begin": 4}),
    ]
    yield from (("DDIMScheduler", config, more) for config, more in ddim)
    inverse = [
        (sd | eps, {}), (sd | v, {}), (sd | x0, {}), (free | trail | eps, {}), (free | lead, {}), ({}, {}),
        (free | zero | trail | v, {}),
    ]
    yield from (("DDIMInverseScheduler", config, more) for config, more in inverse)
    large = dict(variance_type="fixed_large")
    ddpm = [
        (free | eps, {}), (free | v, {}), (free | x0, {}), (free | large, {}), (free | lead, {}), (free | trail, {}),
        (free | line | v, {}), ({}, {}), (free | linear, {}), (free | cosine | line, {}), (free | zero | trail | v, {}),
        (free | eps, {"steps": 1}), (free | eps, {"steps": 40, "config": {"num_train_timesteps": 40}}), (free, {"begin": 5}),
    ]
    yield from (("DDPMScheduler", config, more) for config, more in ddpm)
    plms = dict(skip_prk_steps=True, set_alpha_to_one=False, **lead)
    pndm = [
        (plms | eps, {}), (plms | v, {}), (plms | trail, {}), (plms | line, {}), (plms | linear, {}), (plms | cosine | v, {}),
        (plms, {"steps": 1}), (plms, {"steps": 2}), (plms, {"steps": 3}), (plms, {"steps": 25}), (plms, {"begin": 4}),
        (plms | {"skip_prk_steps": False}, {}), (plms | {"skip_prk_steps": False} | v | trail, {"steps": 7}),
        (dict(skip_prk_steps=False), {"steps": 4}),
    ]
    yield from (("PNDMScheduler", config, more) for config, more in pndm)
    karras, sigma_min = dict(use_karras_sigmas=True), dict(final_sigmas_type="sigma_min")
    euler = [
        (eps, {}), (v, {}), (x0, {}), (lead, {}), (lead | v, {}), (trail, {}), (trail | v, {}), (linear, {}), (cosine | lead, {}),
        (sigma_min, {}), (karras, {}), (karras | lead | sigma_min, {}), (zero | trail | v, {}), ({}, {"steps": 1}),
        (lead, {"steps": 30}), (lead, {"begin": 4}), ({}, {"begin": 3}),
    ]
    yield from (("EulerDiscreteScheduler", config, more) for config, more in euler)
    ancestral = [
        (eps, {}), (v, {}), (lead, {}), (lead | v, {}), (trail, {}), (linear, {}), (cosine | lead, {}), (zero | trail | v, {}),
        ({}, {"steps": 1}), (lead, {"steps": 30}), (lead, {"begin": 4}),
    ]
    yield from (("EulerAncestralDiscreteScheduler", config, more) for config, more in ancestral)
    heun, first, last = dict(solver_type="heun"), dict(solver_order=1), dict(euler_at_final=True)
    dpm = [
        (eps, {}), (v, {}), (x0, {}), (lead, {}), (lead | v | heun, {}), (trail, {}), (heun, {}), (first, {}), (linear, {}),
        (cosine | lead | dict(lambda_min_clipped=-5.1), {}), (karras, {}), (karras | heun | sigma_min, {}), (cosine | karras, {}),
        (sigma_min, {}), (sigma_min | heun, {"steps": 20}), (sigma_min | last, {"steps": 20}), (dict(lower_order_final=False), {}),
        (zero | trail | v, {}), ({}, {"steps": 1}), ({}, {"steps": 2}), (lead, {"steps": 20}), (lead, {"begin": 4}),
        (sigma_min | dict(lower_order_final=False), {}),
    ]
    yield from (("DPMSolverMultistepScheduler", config, more) for config, more in dpm)


def cases():
    """Every variant in every kind of arithmetic."""
    for number, (name, config, more) in enumerate(variants()):
        more = dict(more)
        config = LATENT | config | more.pop("config", {})
        case = {"class": name, "config": config, "steps": 10, "seed": 1000 + number} | more
        for kind in ("single", "rounded", "double"):
            yield case | {"kind": kind}


def all_timesteps():
    """sha256 of the timesteps (float64, little endian) of every number of steps from 1 to 998 in turn.

    Where `1000/n` rounds down, `trailing` gives an element too many, t = -1. It is left out here: there is no such level of noise.
    """
    for name in MODULES:
        for spacing in ("leading", "trailing", "linspace"):
            if name == "DDIMInverseScheduler" and spacing == "linspace":
                continue
            more = {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
            scheduler = getattr(diffusers, name)(timestep_spacing=spacing, steps_offset=1, **LATENT, **more)
            digest = hashlib.sha256()
            for steps in range(1, 999):
                scheduler.set_timesteps(steps)
                kept = [float(t) for t in scheduler.timesteps if t >= 0]
                digest.update(struct.pack(f"<{len(kept)}d", *kept))
            yield {"config": written(scheduler), "sha256": digest.hexdigest()}


def tables():
    """ᾱ of the schedules, in single and in double."""
    settings = {
        "scaled_linear": LATENT,
        "linear": dict(beta_schedule="linear", beta_start=1e-4, beta_end=0.02),
        "cosine": LATENT | dict(beta_schedule="squaredcos_cap_v2"),
        "scaled_linear_zero_snr": LATENT | dict(rescale_betas_zero_snr=True),
        "short": LATENT | dict(num_train_timesteps=37),
    }
    for label, config in settings.items():
        for kind in ("single", "rounded", "double"):
            with arithmetic("DDIMScheduler", kind):
                yield f"table.{label}.{kind}", diffusers.DDIMScheduler(**config).alphas_cumprod.clone()


def conversions():
    """What `Class.from_config(other.config)` makes of the published configurations and of one that diffusers wrote."""
    published = {
        "sd-1.4": dict(
            _class_name="PNDMScheduler", _diffusers_version="0.7.0.dev0", beta_end=0.012, beta_schedule="scaled_linear",
            beta_start=0.00085, num_train_timesteps=1000, set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1,
            trained_betas=None, clip_sample=False,
        ),
        "sd-2.1": dict(
            _class_name="DDIMScheduler", _diffusers_version="0.8.0", beta_end=0.012, beta_schedule="scaled_linear",
            beta_start=0.00085, clip_sample=False, num_train_timesteps=1000, prediction_type="v_prediction",
            set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1, trained_betas=None,
        ),
        "written": json.loads(diffusers.PNDMScheduler(**LATENT, skip_prk_steps=True, steps_offset=1).to_json_string()),
    }
    for label, config in published.items():
        first = getattr(diffusers, config["_class_name"]).from_config(config)
        for name in MODULES:
            if name == "DDIMInverseScheduler":
                continue
            second = getattr(diffusers, name).from_config(first.config)
            second.set_timesteps(10)
            yield {
                "of": label, "given": json.dumps(config), "class": name, "written": written(second),
                "timesteps": [float(t) for t in second.timesteps], "init_noise_sigma": float(second.init_noise_sigma),
            }


def sort_header(path):
    """Sorts the file's header, whose order is random: the same content is then the same file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])


def main():
    tensors, records, configs = dict(tables()), [], {}
    for number, case in enumerate(cases()):
        record, tensors[f"case.{number:03}"] = run(case, configs)
        records.append(record)
    metadata = {
        "made_by": "tools/parity/samplers.py",
        "versions": f"diffusers {diffusers.__version__}, torch {torch.__version__}, numpy {np.__version__}",
        "configs": json.dumps(list(configs)),
        "cases": json.dumps(records),
        "timesteps": json.dumps(list(all_timesteps())),
        "conversions": json.dumps(list(conversions())),
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, OUT, metadata=metadata)
    sort_header(OUT)
    sys.stdout.write(f"{OUT}: {len(records)} cases, {OUT.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()

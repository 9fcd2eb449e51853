"""Every activation of small autoencoders with diffusers, and the parameters of the published one: goldens/vae*.json.

    python tools/parity/vae.py        torch 2.11, diffusers 0.42.1

The models run in double precision, so that what is compared with is exact to all the digits that are kept.
"""

import hashlib
import json
import re

import diffusers
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention, AttnProcessor

import common


def config(channels, **others):
    levels = len(channels)
    return dict(
        block_out_channels=channels, down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels,
        **others)


CASES = {
    # The two levels of diffusers' own test pipelines.
    "tiny": dict(config=config([32, 64]), picture=(2, 3, 80, 48), latent=(2, 4, 40, 24)),
    # The four levels of Stable Diffusion; no 1×1 convolutions at the ends; sides that no level divides evenly.
    "deep": dict(
        config=config([32, 32, 64, 64], layers_per_block=2, use_quant_conv=False, use_post_quant_conv=False, sample_size=64,
                      scaling_factor=0.13025, force_upcast=False),
        picture=(2, 3, 77, 61), latent=(2, 4, 11, 7)),
    # One level that changes no resolution, other numbers of channels everywhere, nothing that attends.
    "flat": dict(
        config=config([24], in_channels=1, out_channels=2, latent_channels=3, norm_num_groups=6, act_fn="swish",
                      mid_block_add_attention=False),
        picture=(2, 1, 9, 14), latent=(2, 3, 13, 6)),
}
SITES = re.compile(
    r"(encoder|decoder)\.(conv_in|conv_out|mid_block|(down|up)_blocks\.\d+)|quant_conv|post_quant_conv"
    r"|.*\.(down|up)samplers\.0|.*\.resnets\.\d+(\.conv2)?|.*\.attentions\.0(\.to_[qkv]|\.to_out\.0)?"
)


def watch(model, half):
    """Hooks on modules and on the attention map of one half, `encoder` or `decoder`, whose softmax stays in the model's precision."""
    recorder = common.Recorder(model, lambda path, _: SITES.fullmatch(path))
    for path, module in model.named_modules():
        if path.startswith(half) and isinstance(module, Attention):
            module.upcast_softmax = False
            recorder.watch_map(path, module)
    return recorder


def passes(seed, config, picture, latent):
    """Encoding and decoding, each with its outputs and the gradient of their product with random numbers."""
    model = common.fill(AutoencoderKL(**config), seed).double()
    model.set_attn_processor(AttnProcessor())
    randn = lambda offset, shape: common.randn(seed + 100_000 + offset, *shape).double()

    picture = randn(0, picture).requires_grad_()
    recorder = watch(model, "encoder")
    posterior = model.encode(picture).latent_dist
    outputs = {"mean": posterior.mean, "logvar": posterior.logvar, "sample": posterior.mean + posterior.std * randn(1, posterior.mean.shape)}
    sum((y * randn(2 + i, y.shape)).sum() for i, y in enumerate(outputs.values())).backward()
    for name, y in outputs.items():
        recorder.add(name, y)
    recorder.add("gradient of picture", picture.grad)
    recorder.remove()
    encode = recorder.seen

    latent = randn(5, latent).requires_grad_()
    recorder = watch(model, "decoder")
    decoded = model.decode(latent).sample
    (decoded * randn(6, decoded.shape)).sum().backward()
    recorder.add("gradient of latent", latent.grad)
    return encode, recorder.seen


# Of 1.x and 2.x alike.
PUBLISHED = config([128, 256, 512, 512], layers_per_block=2, sample_size=512)


def keys(config):
    with torch.device("meta"):
        model = AutoencoderKL(**config)
    names = [f"{name} {list(tensor.shape)}" for name, tensor in sorted(model.state_dict().items())]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return {"parameters": sum(p.numel() for p in model.parameters()), "tensors": len(names), "sha256": digest}


def write_json(name, value):
    (common.GOLDENS / name).write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    golden, configs = {}, {}
    for i, (name, arguments) in enumerate(CASES.items()):
        golden[f"{name} encode"], golden[f"{name} decode"] = passes(1000 * (i + 1), **arguments)
        configs[name] = dict(AutoencoderKL(**arguments["config"]).config)
        configs[name].pop("_use_default_values", None)
    common.write("vae.json", golden)
    versions = {"diffusers": diffusers.__version__, "torch": torch.__version__.split("+")[0]}
    write_json("vae_configs.json", dict(versions, configs=configs))
    write_json("keys_vae.json", {"published": keys(PUBLISHED)})

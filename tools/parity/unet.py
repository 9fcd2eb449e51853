"""Every activation of small UNets with diffusers, and the parameters of the published ones: goldens/unet.json, goldens/keys_unet.json.

Weights and inputs are single-precision numbers; diffusers computes in double precision, so that the goldens carry no rounding of their own.
(Only its time embedding is single whatever the model is.)

    python tools/parity/unet.py        torch 2.11, diffusers 0.42.1
"""

import hashlib
import json
import re

import diffusers
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor

import common

CROSS, PLAIN = "CrossAttn{}Block2D", "{}Block2D"
SD = {
    "down_block_types": [CROSS.format("Down")] * 3 + [PLAIN.format("Down")],
    "up_block_types": [PLAIN.format("Up")] + [CROSS.format("Up")] * 3,
}
CASES = {
    # Stable Diffusion 1.x in small: four levels, 1×1 convolutions around the transformers, one number of heads.
    "1.x": dict(
        config=dict(SD, block_out_channels=[32, 32, 64, 64], layers_per_block=2, cross_attention_dim=24, attention_head_dim=2),
        size=(2, 4, 72, 56), timesteps=[501.0], tokens=11),
    # 2.x: linear projections, heads by level, a time of its own for every row.
    "2.x": dict(
        config=dict(SD, block_out_channels=[32, 64, 96, 96], layers_per_block=1, cross_attention_dim=40, use_linear_projection=True,
                    attention_head_dim=[1, 2, 3, 3], upcast_attention=True),
        size=(2, 4, 24, 16), timesteps=[3.0, 981.0], tokens=7),
    # Inpainting: nine channels; and sizes that no level divides evenly, with a time that is no whole number.
    "inpainting": dict(
        config=dict(SD, block_out_channels=[32, 32, 64, 64], layers_per_block=1, cross_attention_dim=24, attention_head_dim=8,
                    in_channels=9),
        size=(2, 9, 21, 27), timesteps=[249.75], tokens=5),
    # The two levels of diffusers' own test pipelines, with another time embedding and unpadded down-sampling.
    "tiny": dict(
        config=dict(down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"], up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
                    block_out_channels=[16, 32], layers_per_block=2, cross_attention_dim=32, attention_head_dim=2,
                    norm_num_groups=8, flip_sin_to_cos=False, freq_shift=1, downsample_padding=0, norm_eps=1e-6),
        size=(2, 4, 16, 12), timesteps=[0.0, 10.0], tokens=3),
}
SITES = re.compile(
    r"(time_embedding|conv_in|conv_out|mid_block|(down|up)_blocks\.\d+|.*\.(down|up)samplers\.0|.*\.resnets\.\d+(\.conv2)?"
    r"|.*\.attentions\.\d+(\.proj_in|\.proj_out)?|.*\.transformer_blocks\.\d+(\.attn[12](\.to_[qkv])?|\.ff)?)"
)


def watch(model):
    """Hooks on modules, on attention maps, and on the stream between the branches of a transformer block."""
    model.set_attn_processor(AttnProcessor())
    recorder = common.Recorder(model, lambda path, _: SITES.fullmatch(path))
    for path, module in model.named_modules():
        if isinstance(module, Attention):
            recorder.watch_map(path, module)
        if match := re.fullmatch(r"(.*\.transformer_blocks\.\d+)\.norm([23])", path):
            name = f"{match[1]}.attn{int(match[2]) - 1}#stream"
            recorder.hooks.append(module.register_forward_pre_hook(lambda _, x, name=name: recorder.add(name, x[0])))
    return recorder


def case(seed, config, size, timesteps, tokens):
    model = common.fill(UNet2DConditionModel(**config), seed).double()
    sample = common.randn(seed + 100_000, *size).double().requires_grad_()
    context = common.randn(seed + 100_001, size[0], tokens, config["cross_attention_dim"]).double().requires_grad_()
    cotangent = common.randn(seed + 100_002, size[0], 4, *size[2:]).double()
    recorder = watch(model)
    output = model(sample, torch.tensor(timesteps), context).sample
    (output * cotangent).sum().backward()
    recorder.add("gradient of sample", sample.grad)
    recorder.add("gradient of context", context.grad)
    return recorder.seen


PUBLISHED = {
    "1.x": dict(cross_attention_dim=768, attention_head_dim=8),
    "inpainting": dict(cross_attention_dim=768, attention_head_dim=8, in_channels=9),
    "2.x": dict(cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True),
}


def keys(config):
    with torch.device("meta"):
        model = UNet2DConditionModel(**config)
    names = [f"{name} {list(tensor.shape)}" for name, tensor in sorted(model.state_dict().items())]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return {"parameters": sum(p.numel() for p in model.parameters()), "tensors": len(names), "sha256": digest}


if __name__ == "__main__":
    seeds = {name: 1000 * (i + 1) for i, name in enumerate(CASES)}
    configs = {}
    golden = {}
    for name, arguments in CASES.items():
        golden[name] = case(seeds[name], **arguments)
        configs[name] = dict(UNet2DConditionModel(**arguments["config"]).config)
        configs[name].pop("_use_default_values", None)
    common.write("unet.json", golden)
    text = json.dumps({"diffusers": diffusers.__version__, "torch": torch.__version__.split("+")[0], "configs": configs}, indent=1)
    (common.GOLDENS / "unet_configs.json").write_text(text + "\n")
    text = json.dumps({name: keys(config) for name, config in PUBLISHED.items()}, indent=1)
    (common.GOLDENS / "keys_unet.json").write_text(text + "\n")

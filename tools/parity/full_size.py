"""The networks of Stable Diffusion 1.x at full size, random weights, held against diffusers and transformers: values and memory.

    cargo build --release -p runner
    python tools/parity/full_size.py [--only unet] [--runner target/release/runner] [--write results/parity/full_size.md]

Needs 5 GB of disk in the temporary folder and 8 GB of memory; nothing is downloaded. torch 2.11, diffusers 0.42.1, transformers 5.23.0.
Each component is made by its library with its own initial weights and saved as a folder; both programs read that folder and the same
inputs. A difference is the largest of any element, relative to the root mean square of the tensor; the bound is 1e-4.
"""

import argparse
import gc
import json
import pathlib
import platform
import subprocess
import sys
import tempfile

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

import common

BOUND = 1e-4
ROOT = pathlib.Path(__file__).resolve().parents[2]


def unet():
    torch.manual_seed(1)
    return UNet2DConditionModel(sample_size=64, cross_attention_dim=768)


def vae():
    torch.manual_seed(2)
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)


def text_encoder():
    torch.manual_seed(3)
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768,
        hidden_act="quick_gelu", bos_token_id=49406, eos_token_id=49407, pad_token_id=49407))


def unet_case():
    inputs = dict(sample=common.randn(10, 2, 4, 64, 64), encoder_hidden_states=common.randn(11, 2, 77, 768),
                  timestep=torch.tensor(481.0))
    return inputs, lambda model: dict(sample=model(**inputs).sample)


def encoder_case():
    inputs = dict(sample=common.randn(12, 1, 3, 512, 512).tanh())

    def run(model):
        made = model.encode(inputs["sample"]).latent_dist
        return dict(mean=made.mean, logvar=made.logvar)

    return inputs, run


def decoder_case():
    inputs = dict(sample=common.randn(13, 1, 4, 64, 64))
    return inputs, lambda model: dict(sample=model.decode(inputs["sample"]).sample)


def text_case():
    inputs = dict(input_ids=torch.randint(0, 49406, (2, 77), generator=torch.Generator().manual_seed(14)))
    inputs["input_ids"][:, 0], inputs["input_ids"][:, 20:] = 49406, 49407

    def run(model):
        made = model(**inputs)
        return dict(last_hidden_state=made.last_hidden_state, pooler_output=made.pooler_output)

    return inputs, run


CASES = {
    "text-encoder": ("text_encoder", text_encoder, text_case),
    "vae-encoder": ("vae", vae, encoder_case),
    "vae-decoder": ("vae", vae, decoder_case),
    "unet": ("unet", unet, unet_case),
}


def theirs(model, run):
    with torch.no_grad():
        return {name: value.clone() for name, value in run(model).items()}


def ours(runner, component, folder, inputs, scratch):
    """Outputs, and the most memory that the process held (weights, inputs and outputs included)."""
    save_file({name: value.contiguous() for name, value in inputs.items()}, scratch / "in.safetensors")
    words = [runner, "forward", "--model", folder, "--component", component, "--inputs", scratch / "in.safetensors",
             "--output", scratch / "out.safetensors", "--threads", torch.get_num_threads()]
    watched = f"import resource,subprocess,sys; code=subprocess.call(sys.argv[1:]); " \
              f"print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", watched, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{component} ended with {done.returncode}:\n{done.stderr}")
    return load_file(scratch / "out.safetensors"), int(done.stdout.split()[-1]) * 1024


def compare(component, runner, folder, scratch):
    name, make, case = CASES[component]
    model, (inputs, run) = make().eval(), case()
    parameters = sum(p.numel() for p in model.parameters())
    model.save_pretrained(folder / name)
    expected = theirs(model, run)
    del model
    gc.collect()
    found, memory = ours(runner, component, folder, inputs, scratch)
    rows = []
    for output, value in expected.items():
        rms = value.double().square().mean().sqrt()
        error = float((found[output].double() - value.double()).abs().max() / rms)
        rows.append(dict(component=component, output=output, shape=list(value.shape), error=error, parameters=parameters,
                         memory=memory))
        print(f"{component} {output} {list(value.shape)}: {error:.2e}, {memory / 2**30:.2f} GiB held", flush=True)
    return rows


def index(folder):
    """What makes the folder a pipeline; components that are absent are not asked for."""
    parts = {name: [library, kind] for name, library, kind in [
        ("unet", "diffusers", "UNet2DConditionModel"), ("vae", "diffusers", "AutoencoderKL"),
        ("text_encoder", "transformers", "CLIPTextModel")]}
    text = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": diffusers.__version__, **parts}
    (folder / "model_index.json").write_text(json.dumps(text))


def page(rows):
    lines = [
        "# Full-size networks beside diffusers", "",
        "Written by `python tools/parity/full_size.py --write results/parity/full_size.md`: the networks of Stable Diffusion 1.x with",
        "random weights made and saved by their own libraries, the same inputs through both programs, in f32 on the CPU. The difference is",
        f"the largest of any element, relative to the root mean square of the tensor; the bound is {BOUND:g}. Both sides round in f32: the decoder, the deepest of them with four times as many pixels a level,",
        "is nearest to it. The networks of 2.x were counted at full size (`keys_unet.json`), not run.", "",
        f"PyTorch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}, "
        f"{platform.machine()}, {torch.get_num_threads()} threads.", "",
        "| component | output | shape | parameters | difference | memory held, weights included |", "|---|---|---|---|---|---|"]
    for row in rows:
        shape = " × ".join(map(str, row["shape"]))
        lines.append(f"| {row['component']} | {row['output']} | {shape} | {row['parameters']:,} | {row['error']:.1e} "
                     f"| {row['memory'] / 1e9:.2f} GB |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=CASES, action="append")
    parser.add_argument("--runner", type=pathlib.Path, default=ROOT / "target/release/runner")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", type=pathlib.Path)
    typed = parser.parse_args()
    torch.set_num_threads(typed.threads)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        folder = scratch / "pipeline"
        folder.mkdir()
        index(folder)
        rows = [row for component in typed.only or CASES for row in compare(component, typed.runner, folder, scratch)]
    if typed.write:
        typed.write.parent.mkdir(parents=True, exist_ok=True)
        typed.write.write_text(page(rows))
    worst = max(row["error"] for row in rows)
    sys.exit(0 if worst <= BOUND else f"the largest difference is {worst:.2e}; the bound is {BOUND:g}")

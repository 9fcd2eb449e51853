"""Whole pipelines held against diffusers: pictures of every sampler, every component's tensors, and folders in both directions.

    cargo build -p runner --bin runner
    cargo build -p sd-core --example tiny_pipeline
    python tools/parity/pipeline.py [--runner target/debug/runner] [--write results/parity/pipeline.md]

torch 2.11, diffusers 0.42.1, transformers 5.23.0. Tiny pipelines with random weights (made here, nothing is downloaded) of Stable
Diffusion 1.x, 2.x (v-prediction, linear projections, heads per level) and inpainting are saved by diffusers; `generate` and `forward`
read the same folders. Then the other way round: a folder that `examples/tiny_pipeline` wrote is loaded by diffusers. A difference of
pictures is in 255ths, over all pixels of a batch; of tensors it is the largest relative to the root mean square.
"""

import argparse
import pathlib
import platform
import subprocess
import sys
import tempfile
import warnings

import diffusers
import numpy
import torch
import transformers
from diffusers import (
    AutoencoderKL, DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler, PNDMScheduler, StableDiffusionInpaintPipeline, StableDiffusionPipeline, UNet2DConditionModel)
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

import common

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLERS = {
    "ddim": DDIMScheduler, "ddpm": DDPMScheduler, "pndm": PNDMScheduler, "euler": EulerDiscreteScheduler,
    "euler-a": EulerAncestralDiscreteScheduler, "dpm++": DPMSolverMultistepScheduler}
SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
PICTURE_TOLERANCE, TENSOR_TOLERANCE, GRADIENT_TOLERANCE = 2, 1e-5, 1e-4
PROMPT, NEGATIVE = "a photo of a cat sitting on the table", "blurry, dark"


# Pipelines ------------------------------------------------------------------------------------------------------------------------

def unet(family):
    second = family == "2.x"
    return UNet2DConditionModel(
        sample_size=16, in_channels=9 if family == "inpainting" else 4, block_out_channels=(32, 64, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32, norm_num_groups=8, attention_head_dim=[4, 8, 8] if second else 8, use_linear_projection=second,
        upcast_attention=second)


def vae():
    return AutoencoderKL(
        block_out_channels=(16, 16, 32, 32), layers_per_block=1, norm_num_groups=8, latent_channels=4, sample_size=128,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)


def tokenizer(family):
    files = common.GOLDENS / "tokenizer"
    with tempfile.TemporaryDirectory() as folder:
        for name in ("vocab.json", "merges.txt"):
            (pathlib.Path(folder) / name).write_bytes((files / name).read_bytes())
        pad = "!" if family == "2.x" else "<|endoftext|>"
        return CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token=pad)


def text_encoder(family, tokens):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, projection_dim=32,
        hidden_act="gelu" if family == "2.x" else "quick_gelu", bos_token_id=tokens.bos_token_id, eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id))


def image_encoder():
    return CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8,
        projection_dim=24))


def scheduler(family):
    if family == "2.x":
        return DDIMScheduler(**SCHEDULE, prediction_type="v_prediction", steps_offset=1, clip_sample=False, set_alpha_to_one=False)
    return PNDMScheduler(**SCHEDULE, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)


def calmed(model, path, factor):
    """Scales a last layer, so that pictures are neither grey nor black and white."""
    layer = model.get_submodule(path)
    with torch.no_grad():
        layer.weight.mul_(factor)
    return model


def pipeline(family, folder):
    tokens = tokenizer(family)
    parts = dict(
        unet=common.fill(unet(family), 100), vae=calmed(common.fill(vae(), 4000), "decoder.conv_out", 1.2),
        text_encoder=common.fill(text_encoder(family, tokens), 8000), tokenizer=tokens, scheduler=scheduler(family),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    kind = StableDiffusionInpaintPipeline if family == "inpainting" else StableDiffusionPipeline
    kind(**parts).save_pretrained(folder)
    common.fill(image_encoder(), 9000).save_pretrained(folder / "image_encoder")
    # Loaded again: a scheduler made in memory remembers which of its settings were defaults, one out of a file does not.
    return kind.from_pretrained(folder, safety_checker=None)


# Both programs --------------------------------------------------------------------------------------------------------------------

def run(runner, *words):
    done = subprocess.run([str(runner), *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}\nended with {done.returncode}:\n{done.stderr}")
    return done


def theirs(made, sampler, case, **more):
    # A pipeline corrects the settings of the scheduler it is made with, so one is made for each.
    scheduler = SAMPLERS[sampler].from_config(made.scheduler.config)
    made = type(made)(**dict(made.components, scheduler=scheduler), requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    if SAMPLERS[sampler] is DDIMScheduler:
        more["eta"] = case.get("eta", 0.0)
    return made(
        [PROMPT] * case["batch"], negative_prompt=[NEGATIVE] * case["batch"], num_inference_steps=case["steps"],
        guidance_scale=case["guidance"], height=case["height"], width=case["width"],
        generator=torch.Generator("cpu").manual_seed(case["seed"]), output_type="np", **more).images


def ours(runner, folder, sampler, case, scratch, *more):
    words = [
        "generate", PROMPT, "--model", folder, "--sampler", sampler, "--negative", NEGATIVE, "-o", scratch / "ours.png",
        "--device", "cpu"]
    for name, value in case.items():
        words += [f"--{name}", value]
    done = run(runner, *words, *more)
    return numpy.stack([numpy.asarray(Image.open(name)) for name in done.stdout.split()])


def against(runner, folder, made, sampler, case, scratch, words=(), **more):
    """(largest difference in 255ths, share of pixels that differ, deviation of the picture, share at 0 or 255)."""
    expected = (theirs(made, sampler, case, **more) * 255).round().astype(numpy.int16)
    found = ours(runner, folder, sampler, case, scratch, *words).astype(numpy.int16)
    assert expected.shape == found.shape, (expected.shape, found.shape)
    difference = numpy.abs(expected - found)
    clipped = ((expected == 0) | (expected == 255)).mean()
    return int(difference.max()), float((difference > 0).mean()), float(expected.std()), float(clipped)


def relative(found, expected):
    assert found.shape == expected.shape, (found.shape, expected.shape)
    rms = expected.double().square().mean().sqrt()
    error = float(((found.double() - expected.double()).abs().max() / rms))
    return error if error == error else float("inf")


# Pictures -------------------------------------------------------------------------------------------------------------------------

CASES = [
    dict(seed=7, steps=12, guidance=7.5, batch=2, height=128, width=128),
    dict(seed=3, steps=5, guidance=1.0, batch=1, height=72, width=56),
    dict(seed=11, steps=20, guidance=3.0, batch=1, height=136, width=96),
]


def pictures(runner, scratch, log):
    log.table("family", "sampler", "settings", "largest difference", "pixels that differ", "deviation", "clipped")
    for family in ("1.x", "2.x"):
        folder = scratch / family
        made = pipeline(family, folder)
        for sampler in SAMPLERS:
            cases = CASES + ([dict(CASES[0], eta=0.6)] if sampler == "ddim" else [])
            for case in cases:
                figures = against(runner, folder, made, sampler, case, scratch)
                log.pictures(family, sampler, case, figures)
    inpainting(runner, scratch, log)


def inpainting(runner, scratch, log):
    folder = scratch / "inpainting"
    made = pipeline("inpainting", folder)
    case = CASES[0]
    pixels = numpy.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=numpy.uint8)
    image = Image.fromarray(pixels).resize((case["width"], case["height"]), Image.Resampling.NEAREST)
    mask = Image.new("L", image.size)
    mask.paste(255, (32, 40, 100, 90))
    image.save(scratch / "image.png")
    mask.save(scratch / "mask.png")
    words = ("--image", scratch / "image.png", "--mask", scratch / "mask.png")
    for sampler in ("pndm", "ddim", "euler-a"):
        figures = against(runner, folder, made, sampler, case, scratch, words, image=image, mask_image=mask)
        log.pictures("inpainting", sampler, case, figures)


# Components -----------------------------------------------------------------------------------------------------------------------

def forward(runner, folder, component, inputs, scratch, *more):
    save_file(inputs, scratch / "in.safetensors")
    run(runner, "forward", "--model", folder, "--component", component, "--inputs", scratch / "in.safetensors", "--output",
        scratch / "out.safetensors", "--device", "cpu", *more)
    return load_file(scratch / "out.safetensors")


def activations(model):
    """Outputs of every module by its path, as the model runs."""
    seen = {}

    def hook(path):
        def record(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            output = getattr(output, "sample", output)
            if isinstance(output, torch.Tensor):
                seen[path] = output.detach()
        return record

    hooks = [module.register_forward_hook(hook(path)) for path, module in model.named_modules() if path]
    return seen, hooks


def held(log, family, component, model, call, found):
    """Outputs and, by name, every activation that both sides have in the same shape."""
    seen, hooks = activations(model)
    expected = call(model)
    for hook in hooks:
        hook.remove()
    outputs = max(relative(found[name], value.detach()) for name, value in expected.items())
    common_sites = [name for name in seen if name in found and name not in expected and seen[name].shape == found[name].shape]
    sites = [relative(found[name], seen[name]) for name in common_sites]
    log.tensors(family, component, outputs, len(sites), max(sites))


def components(runner, scratch, log):
    log.table("family", "component", "outputs", "activations held", "their largest difference")
    for family in ("1.x", "2.x", "inpainting"):
        folder = scratch / family
        kind = StableDiffusionInpaintPipeline if family == "inpainting" else StableDiffusionPipeline
        made = kind.from_pretrained(folder, safety_checker=None)
        of_unet(runner, folder, family, made.unet, scratch, log)
        of_vae(runner, folder, family, made.vae, scratch, log)
        of_text(runner, folder, family, made.text_encoder, scratch, log)
        of_images(runner, folder, family, scratch, log)


def of_unet(runner, folder, family, model, scratch, log):
    inputs = dict(
        sample=common.randn(1, 2, model.config.in_channels, 9, 7), timestep=torch.tensor([961, 21]),
        encoder_hidden_states=common.randn(2, 2, 77, 32), cotangent=common.randn(3, 2, 4, 9, 7))
    own = {name: value for name, value in inputs.items() if name != "cotangent"}
    found = forward(runner, folder, "unet", own, scratch, "--taps", "all")
    held(log, family, "unet", model, lambda model: dict(sample=model(**own).sample), found)
    for name in ("sample", "encoder_hidden_states"):
        variable = dict(own, **{name: own[name].clone().requires_grad_()})
        (model(**variable).sample * inputs["cotangent"]).sum().backward()
        found = forward(runner, folder, "unet", inputs, scratch, "--grad", name)
        log.gradient(family, "unet", name, relative(found[f"grad.{name}"], variable[name].grad))


def of_vae(runner, folder, family, model, scratch, log):
    picture = dict(sample=common.randn(4, 2, 3, 80, 48))
    found = forward(runner, folder, "vae-encoder", picture, scratch, "--taps", "all")
    encode = lambda model: (lambda latents: dict(mean=latents.mean, logvar=latents.logvar))(model.encode(picture["sample"]).latent_dist)
    held(log, family, "vae-encoder", model, encode, found)
    latents = dict(sample=common.randn(5, 2, 4, 9, 7))
    found = forward(runner, folder, "vae-decoder", latents, scratch, "--taps", "all")
    held(log, family, "vae-decoder", model, lambda model: dict(sample=model.decode(latents["sample"]).sample), found)


def of_text(runner, folder, family, model, scratch, log):
    ids = torch.randint(0, model.config.vocab_size - 2, (2, 77), generator=torch.Generator().manual_seed(6))
    ids[:, 0], ids[0, 20:], ids[1, 76] = model.config.bos_token_id, model.config.eos_token_id, model.config.eos_token_id
    found = forward(runner, folder, "text-encoder", dict(input_ids=ids), scratch, "--taps", "all")
    call = lambda model: {name: model(ids)[name] for name in ("last_hidden_state", "pooler_output")}
    held(log, family, "text-encoder", model, call, found)


def of_images(runner, folder, family, scratch, log):
    model = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder").eval()
    pixels = dict(pixel_values=common.randn(7, 2, 3, 32, 32))
    found = forward(runner, folder, "image-encoder", pixels, scratch, "--taps", "all")
    call = lambda model: {name: model(**pixels)[name] for name in ("last_hidden_state", "image_embeds")}
    held(log, family, "image-encoder", model, call, found)


# The other way round --------------------------------------------------------------------------------------------------------------

def written_by_us(runner, example, scratch, log):
    log.table("our folder", "sampler", "settings", "largest difference", "pixels that differ", "deviation", "clipped")
    for family in ("1.x", "2.x"):
        folder = scratch / f"ours-{family}"
        run(example, folder, family)
        made = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
        for sampler in ("pndm" if family == "1.x" else "ddim", "euler"):
            log.pictures(family, sampler, CASES[0], against(runner, folder, made, sampler, CASES[0], scratch))


# The log --------------------------------------------------------------------------------------------------------------------------

class Log:
    def __init__(self):
        self.lines, self.worst = [], {}

    def line(self, text=""):
        print(text, flush=True)
        self.lines.append(text)

    def table(self, *names):
        self.line()
        self.line(f"| {' | '.join(names)} |")
        self.line(f"|{'---|' * len(names)}")

    def bad(self, what, value, tolerance):
        self.worst[what] = max(self.worst.get(what, 0), value)
        return "" if value <= tolerance else " **too large**"

    def pictures(self, family, sampler, case, figures):
        largest, share, deviation, clipped = figures
        settings = ", ".join(f"{name} {value}" for name, value in case.items())
        verdict = self.bad("picture", largest, PICTURE_TOLERANCE)
        self.line(f"| {family} | {sampler} | {settings} | {largest}{verdict} | {share:.2%} | {deviation:.0f} | {clipped:.0%} |")

    def tensors(self, family, component, outputs, count, sites):
        verdict = self.bad("tensor", max(outputs, sites), TENSOR_TOLERANCE)
        self.line(f"| {family} | {component} | {outputs:.1e} | {count} | {sites:.1e}{verdict} |")

    def gradient(self, family, component, name, error):
        verdict = self.bad("gradient", error, GRADIENT_TOLERANCE)
        self.line(f"| {family} | {component}, gradient of {name} | {error:.1e}{verdict} | | |")


def head(log):
    log.line("# Whole pipelines beside diffusers")
    log.line()
    log.line("What is compared and how: the first lines of [tools/parity/pipeline.py](../../tools/parity/pipeline.py), whose output this is.")
    log.line()
    log.line(
        f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}, {platform.machine()}, CPU, f32.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runner", type=pathlib.Path, default=ROOT / "target/debug/runner")
    parser.add_argument("--write", type=pathlib.Path, help="the file for the log")
    arguments = parser.parse_args()
    runner = arguments.runner.resolve()
    log = Log()
    head(log)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scratch = pathlib.Path(scratch)
        pictures(runner, scratch, log)
        components(runner, scratch, log)
        written_by_us(runner, runner.parent / "examples/tiny_pipeline", scratch, log)
    log.line()
    log.line(
        f"Largest of all: pictures {log.worst['picture']}/255 (allowed {PICTURE_TOLERANCE}), tensors {log.worst['tensor']:.1e} "
        f"(allowed {TENSOR_TOLERANCE:.0e}), gradients {log.worst['gradient']:.1e} (allowed {GRADIENT_TOLERANCE:.0e}).")
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text("\n".join(log.lines) + "\n")
    sys.exit(any("too large" in line for line in log.lines))


if __name__ == "__main__":
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    main()

"""Whole pipelines held against diffusers: pictures of every sampler, every component's tensors, and folders in both directions.

    cargo build -p runner --bin runner
    cargo build -p sd-core --example tiny_pipeline
    python tools/parity/pipeline.py [--runner target/debug/runner] [--write results/parity/pipeline.md]

torch 2.11, diffusers 0.42.1, transformers 5.23.0. Tiny pipelines with random weights (made here, nothing is downloaded) of Stable
Diffusion 1.x, 2.x (v-prediction, linear projections, heads per level) and inpainting are saved by diffusers; `generate` and `forward`
read the same folders. Then the other way round: a folder that `examples/tiny_pipeline` wrote is loaded by diffusers.

Latents are never clipped here: where a scheduler file lacks `clip_sample`, diffusers' inpainting pipeline would clip them with DDIM and DDPM,
which spoils the picture; ours does not, and the script sets the field.

Pictures: the largest difference of all pixels of a batch, in 255ths. Tensors: PyTorch's model in double precision is the reference;
relative to the root mean square of the reference stands that of the difference, and for ours in double precision the largest
difference (the sines of the UNet's time embedding are f32 there too, and their last place is the mathematical library's).
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
TOLERANCES = {"picture": 2, "f32": 1e-5, "f64": 1e-7, "gradient": 1e-4}
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
    # Latents clipped to ±1 are no picture: the pipeline for text corrects that default too, the one for inpainting does not.
    more_settings = {"clip_sample": False} if sampler in ("ddim", "ddpm") else {}
    scheduler = SAMPLERS[sampler].from_config(made.scheduler.config, **more_settings)
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
        "--device", "cpu", "--threads", 1]
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


def rms(tensor):
    return float(tensor.double().square().mean().sqrt())


def relative(found, expected):
    """Root mean square of the difference, and its largest, over the root mean square of what is expected; infinite for NaN."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    difference = found.double() - expected.double()
    errors = (rms(difference) / rms(expected), float(difference.abs().max()) / rms(expected))
    return tuple(error if error == error else float("inf") for error in errors)


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
        scratch / "out.safetensors", "--device", "cpu", "--threads", 1, *more)
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


def alias(tensors):
    """Under the names that transformers 5 gives in memory as well: without the prefix that is on disk."""
    prefixes = ("text_model.", "vision_model.")
    return tensors | {name.removeprefix(prefix): value for prefix in prefixes for name, value in tensors.items()}


def held(runner, folder, log, family, component, model, inputs, call, scratch):
    """Outputs and every activation that both sides have by name and shape: ours in f32 and f64 beside PyTorch's in f64."""
    ours = {}
    for dtype in ("f32", "f64"):
        ours[dtype] = alias(forward(runner, folder, component, inputs, scratch, "--taps", "all", "--dtype", dtype))
    single = call(model, inputs)
    seen, hooks = activations(model.double())
    exact = call(model, {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()})
    for hook in hooks:
        hook.remove()
    model.float()
    sites = {name: value for name, value in seen.items() if name in ours["f64"] and ours["f64"][name].shape == value.shape}
    sites = {name: value for name, value in sites.items() if name not in exact}
    errors = {dtype: {name: relative(found[name], value) for name, value in (sites | exact).items()} for dtype, found in ours.items()}
    theirs = max(relative(single[name], exact[name])[0] for name in exact)
    log.tensors(family, component, len(sites), errors, exact, theirs)


def components(runner, scratch, log):
    log.table("family", "component", "activations", "f32: outputs", "PyTorch's own", "f32: activations", "f64: outputs", "f64: activations")
    for family in ("1.x", "2.x", "inpainting"):
        folder = scratch / family
        kind = StableDiffusionInpaintPipeline if family == "inpainting" else StableDiffusionPipeline
        made = kind.from_pretrained(folder, safety_checker=None)
        of_unet(runner, folder, family, made.unet, scratch, log)
        if family != "inpainting":
            of_vae(runner, folder, family, made.vae, scratch, log)
            of_clip(runner, folder, family, made.text_encoder, scratch, log)
    gradients(runner, scratch, log)


def unet_inputs(model):
    return dict(
        sample=common.randn(1, 2, model.config.in_channels, 9, 7), timestep=torch.tensor([961, 21]),
        encoder_hidden_states=common.randn(2, 2, 77, 32))


def of_unet(runner, folder, family, model, scratch, log):
    call = lambda model, inputs: {"sample": model(**inputs).sample.detach()}
    held(runner, folder, log, family, "unet", model, unet_inputs(model), call, scratch)


def of_vae(runner, folder, family, model, scratch, log):
    def encode(model, inputs):
        latents = model.encode(inputs["sample"]).latent_dist
        return {"mean": latents.mean.detach(), "logvar": latents.logvar.detach()}

    decode = lambda model, inputs: {"sample": model.decode(inputs["sample"]).sample.detach()}
    held(runner, folder, log, family, "vae-encoder", model, {"sample": common.randn(4, 2, 3, 80, 48)}, encode, scratch)
    held(runner, folder, log, family, "vae-decoder", model, {"sample": common.randn(5, 2, 4, 9, 7)}, decode, scratch)


def of_clip(runner, folder, family, model, scratch, log):
    ids = torch.randint(0, model.config.vocab_size - 2, (2, 77), generator=torch.Generator().manual_seed(6))
    ids[:, 0], ids[0, 20:], ids[1, 76] = model.config.bos_token_id, model.config.eos_token_id, model.config.eos_token_id
    text = lambda model, inputs: {name: model(**inputs)[name].detach() for name in ("last_hidden_state", "pooler_output")}
    held(runner, folder, log, family, "text-encoder", model, {"input_ids": ids}, text, scratch)
    model = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder").eval()
    image = lambda model, inputs: {name: model(**inputs)[name].detach() for name in ("last_hidden_state", "image_embeds")}
    held(runner, folder, log, family, "image-encoder", model, {"pixel_values": common.randn(7, 2, 3, 32, 32)}, image, scratch)


def gradients(runner, scratch, log):
    """Of the UNet with respect to both of its inputs, and of the decoder with respect to latents; PyTorch in double precision."""
    log.table("family", "component", "gradient with respect to", "f32")
    for family in ("1.x", "2.x"):
        made = StableDiffusionPipeline.from_pretrained(scratch / family, safety_checker=None)
        unet, cotangent = made.unet.double(), common.randn(3, 2, 4, 9, 7)
        for name in ("sample", "encoder_hidden_states"):
            error = gradient(runner, scratch, family, "unet", lambda x: unet(**x).sample, unet_inputs(unet), name, cotangent)
            log.gradient(family, "unet", name, error)
        vae, latents = made.vae.double(), {"sample": common.randn(5, 1, 4, 9, 7)}
        decode = lambda x: vae.decode(x["sample"]).sample
        error = gradient(runner, scratch, family, "vae-decoder", decode, latents, "sample", common.randn(8, 1, 3, 72, 56))
        log.gradient(family, "vae-decoder", "sample", error)


def gradient(runner, scratch, family, component, call, inputs, name, cotangent):
    exact = {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()}
    exact[name].requires_grad_()
    (call(exact) * cotangent).sum().backward()
    found = forward(runner, scratch / family, component, dict(inputs, cotangent=cotangent), scratch, "--grad", name)
    return relative(found[f"grad.{name}"], exact[name].grad)[0]


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
        self.lines, self.worst = [], dict.fromkeys(TOLERANCES, 0)

    def line(self, text=""):
        print(text, flush=True)
        self.lines.append(text)

    def table(self, *names):
        self.line()
        self.line(f"| {' | '.join(names)} |")
        self.line(f"|{'---|' * len(names)}")

    def judged(self, kind, value, shown):
        """`shown`, marked where `value` is above what is allowed."""
        self.worst[kind] = max(self.worst[kind], value)
        return shown if value <= TOLERANCES[kind] else f"{shown} **too large**"

    def pictures(self, family, sampler, case, figures):
        largest, share, deviation, clipped = figures
        settings = ", ".join(f"{name} {value}" for name, value in case.items())
        largest = self.judged("picture", largest, str(largest))
        self.line(f"| {family} | {sampler} | {settings} | {largest} | {share:.2%} | {deviation:.0f} | {clipped:.0%} |")

    def tensors(self, family, component, count, errors, outputs, theirs):
        cells = []
        for dtype, which in (("f32", 0), ("f64", 1)):
            for wanted in (True, False):
                worst = max((error[which] for name, error in errors[dtype].items() if (name in outputs) == wanted), default=0)
                cells.append(self.judged(dtype, worst, f"{worst:.1e}"))
        cells.insert(1, f"{theirs:.1e}")
        self.line(f"| {family} | {component} | {count} | {' | '.join(cells)} |")

    def gradient(self, family, component, name, error):
        self.line(f"| {family} | {component} | {name} | {self.judged('gradient', error, f'{error:.1e}')} |")


def head(log):
    log.line("# Whole pipelines beside diffusers")
    log.line()
    log.line("What is compared and how: the first lines of [tools/parity/pipeline.py](../../tools/parity/pipeline.py), whose output this is.")
    log.line()
    log.line("    python tools/parity/pipeline.py --write results/parity/pipeline.md")
    log.line()
    log.line("Latents are never clipped here (diffusers' inpainting pipeline would, with DDIM and DDPM, where a scheduler file lacks `clip_sample`).")
    log.line()
    log.line(
        f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}, {platform.machine()}, CPU, f32.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runner", type=pathlib.Path, default=ROOT / "target/debug/runner")
    parser.add_argument("--write", type=pathlib.Path, help="the file for the log")
    arguments = parser.parse_args()
    runner = arguments.runner.resolve()
    torch.set_num_threads(1)
    log = Log()
    head(log)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scratch = pathlib.Path(scratch)
        pictures(runner, scratch, log)
        components(runner, scratch, log)
        written_by_us(runner, runner.parent / "examples/tiny_pipeline", scratch, log)
    log.line()
    limits = [f"{kind} {log.worst[kind]:.2g} (allowed {allowed:g})" for kind, allowed in TOLERANCES.items()]
    log.line(f"Largest of all: {', '.join(limits)}.")
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text("\n".join(log.lines) + "\n")
    sys.exit(any("too large" in line for line in log.lines))


if __name__ == "__main__":
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    main()

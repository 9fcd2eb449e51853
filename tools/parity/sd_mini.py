"""The pipeline that ships, held against diffusers: both load datasets/sd-mini/model and draw the same prompts from the same seeds.

    cargo build --release -p runner --bin runner
    python tools/parity/sd_mini.py [--runner target/release/runner] [--write results/sd-mini/diffusers.md]

torch 2.11, diffusers 0.42.1, transformers 5.23.0. Everything computes in float32; the noise is drawn by a generator on the CPU. What is
compared: pictures, which may differ by no more than 2/255 anywhere.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import diffusers
import numpy
import torch
import transformers
from diffusers import StableDiffusionPipeline
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "datasets/sd-mini/model"
TOLERANCE = 2
PROMPTS = [
    "two green stars in the style of bela cruz", "a red disc", "a dog running", "a square from the top", "three brown bars in the forest",
    "a smiling face", "the king of hills", "a lighthouse at dusk"]
SETTINGS = [("ddim", 20, 4.0), ("euler", 15, 3.0)]


def ours(runner, prompt, seed, sampler, steps, guidance, folder):
    out = pathlib.Path(folder) / "picture.png"
    subprocess.run(
        [runner, "generate", prompt, "--model", str(MODEL), "--seed", str(seed), "--steps", str(steps), "--guidance", str(guidance),
         "--sampler", sampler, "--device", "cpu", "-o", str(out)], check=True, stdout=subprocess.DEVNULL)
    return numpy.asarray(Image.open(out).convert("RGB")).astype(int)


def theirs(pipeline, prompt, seed, steps, guidance):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(seed)
    picture = pipeline(prompt, num_inference_steps=steps, guidance_scale=guidance, generator=generator).images[0]
    return numpy.asarray(picture.convert("RGB")).astype(int)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runner", default=str(ROOT / "target/release/runner"))
    arguments.add_argument("--write", type=pathlib.Path)
    typed = arguments.parse_args()
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    samplers = {
        "ddim": pipeline.scheduler, "euler": diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)}
    rows, worst = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for sampler, steps, guidance in SETTINGS:
            pipeline.scheduler = samplers[sampler]
            for seed, prompt in enumerate(PROMPTS):
                off = numpy.abs(
                    ours(typed.runner, prompt, seed, sampler, steps, guidance, folder)
                    - theirs(pipeline, prompt, seed, steps, guidance))
                worst = max(worst, int(off.max()))
                rows.append(f"| {prompt} | {seed} | {sampler}, {steps} steps, {guidance} | {off.max()} | {100 * (off > 0).mean():.3f} |")
    text = "\n".join([
        "# The pipeline that ships, loaded by diffusers", "",
        "`datasets/sd-mini/model` loaded by `StableDiffusionPipeline.from_pretrained` and by `generate`; the largest difference of a pixel in",
        f"255ths, and the share of values that differ at all. torch {torch.__version__}, diffusers {diffusers.__version__}, transformers "
        f"{transformers.__version__}, float32, CPU. Made by `python tools/parity/sd_mini.py`.", "",
        "| prompt | seed | sampler | largest difference | differ, % |", "|---|---:|---|---:|---:|", *rows, "",
        f"Largest of all: {worst}/255; allowed: {TOLERANCE}/255.", ""])
    print(text)
    if typed.write:
        typed.write.write_text(text)
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()

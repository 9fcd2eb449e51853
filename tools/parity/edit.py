"""An edited folder, held against transformers and diffusers.

    cargo build --release -p runner --bin runner
    python tools/parity/edit.py [--runner target/release/runner] [--write results/diff-quickfix/diffusers.md]

torch 2.11, diffusers 0.42.1, transformers 5.23.0. The small model that ships is edited into a new folder, which is then loaded by both. What
is compared: that one tensor differs from the model's; the text encoder's hidden states, ours and transformers', in float32; the same closed
form in NumPy, from transformers' own activations; and pictures, which may differ by no more than 2/255 anywhere.
"""

import argparse
import json
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
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "datasets/sd-mini/model"
CHANGE = ("bela cruz", "plain")
LAMBDA = 0.01
WEIGHT = "text_model.encoder.layers.0.self_attn.out_proj.weight"
PROMPTS = ["a star in the style of bela cruz", "a red disc", "bela cruz painting of a square", "a dog running"]
PIXELS, STATES, CLOSED = 2, 1e-4, 1e-3


def closed_form(tokenizer, text):
    """The edit as section 2 of the specification writes it, primal, in float64, keys and values from a hook on the module's input."""
    inputs = []
    layer = [module for name, module in text.named_modules() if name.endswith("layers.0.self_attn.out_proj")][0]
    handle = layer.register_forward_hook(lambda module, args, output: inputs.append(args[0].detach().double().numpy()))
    weight = layer.weight.detach().double().numpy()
    keys, values = [], []
    for prefix in ["", "A photo of ", "An image of ", "A picture of "]:
        starts, rows = [], []
        for concept in CHANGE:
            ids = tokenizer(prefix + concept, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
            inputs.clear()
            text(ids)
            starts.append(int((ids[0] == tokenizer.eos_token_id).nonzero()[0]) - 1)
            rows.append(inputs[0][0])
        count = len(rows[0]) - starts[0]
        last = len(rows[1]) - 1
        keys += [rows[0][starts[0] + at] for at in range(count)]
        values += [weight @ rows[1][min(starts[1] + at, last)] for at in range(count)]
    handle.remove()
    k, v = numpy.array(keys), numpy.array(values)
    return numpy.linalg.solve(LAMBDA * numpy.eye(k.shape[1]) + k.T @ k, (LAMBDA * weight + v.T @ k).T).T, len(keys)


def ours_states(runner, folder, ids, work):
    """Hidden states (B, T, D) of the folder's text encoder by `forward`."""
    save_file({"input_ids": ids}, work / "in.safetensors")
    out = work / "out.safetensors"
    subprocess.run(
        [runner, "forward", "--model", str(folder), "--component", "text-encoder", "--inputs", str(work / "in.safetensors"), "--output", str(out),
         "--device", "cpu"], check=True, stdout=subprocess.DEVNULL)
    return load_file(out)["last_hidden_state"]


def picture(runner, folder, prompt, seed, work):
    out = work / "picture.png"
    subprocess.run(
        [runner, "generate", prompt, "--model", str(folder), "--seed", str(seed), "--steps", "10", "--guidance", "4", "--sampler", "ddim",
         "--device", "cpu", "-o", str(out)], check=True, stdout=subprocess.DEVNULL)
    return numpy.asarray(Image.open(out).convert("RGB")).astype(int)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runner", default=str(ROOT / "target/release/runner"))
    arguments.add_argument("--write", type=pathlib.Path)
    typed = arguments.parse_args()
    lines, failed = [], False

    def check(what, found, allowed):
        nonlocal failed
        failed |= not found <= allowed
        lines.append(f"| {what} | {found:.3g} | {allowed:g} |")

    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        edited = work / "edited"
        subprocess.run(
            [typed.runner, "edit", "--model", str(MODEL), "--change", "=".join(CHANGE), "--lambda", str(LAMBDA), "-o", str(edited)],
            check=True, stdout=subprocess.DEVNULL)
        before, after = [load_file(path / "text_encoder/model.safetensors") for path in (MODEL, edited)]
        differing = [name for name in before if not torch.equal(before[name], after[name])]
        failed |= differing != [WEIGHT] or list(before) != list(after)
        tokenizer = CLIPTokenizer.from_pretrained(edited / "tokenizer")
        text = CLIPTextModel.from_pretrained(edited / "text_encoder", dtype=torch.float32)
        ids = tokenizer(PROMPTS, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
        with torch.no_grad():
            theirs = text(ids).last_hidden_state
        check("hidden states of the edited encoder, largest difference", float((ours_states(typed.runner, edited, ids, work) - theirs).abs().max()), STATES)
        original = CLIPTextModel.from_pretrained(MODEL / "text_encoder", dtype=torch.float32)
        with torch.no_grad():
            wanted, rows = closed_form(tokenizer, original)
        stored = after[WEIGHT].double().numpy()
        rounding = numpy.abs(wanted.astype(numpy.float16).astype(numpy.float64) - wanted).max()
        check("closed form in NumPy from transformers' activations, largest difference over the largest entry", float(numpy.abs(stored - wanted).max() / numpy.abs(wanted).max()), CLOSED)
        pipeline = StableDiffusionPipeline.from_pretrained(edited, torch_dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        for seed, prompt in enumerate(PROMPTS):
            generator = torch.Generator("cpu").manual_seed(seed)
            made = pipeline(prompt, num_inference_steps=10, guidance_scale=4.0, generator=generator).images[0]
            off = numpy.abs(numpy.asarray(made.convert("RGB")).astype(int) - picture(typed.runner, edited, prompt, seed, work)).max()
            check(f"picture of “{prompt}”, 255ths", float(off), PIXELS)
        edit = json.loads((edited / "diff-quickfix.json").read_text())
    told = ", ".join(f"`{name}`" for name in differing)
    text = "\n".join([
        "# An edited folder, loaded by transformers and diffusers", "",
        f"`edit --change \"{CHANGE[0]}={CHANGE[1]}\" --lambda {LAMBDA}` of the model that ships: {rows} rows; tensors that differ: {told}; "
        f"{len(edit['changes'])} change in the edit file. The", f"stored type rounds the matrix by {rounding:.2g} at most. torch {torch.__version__}, diffusers "
        f"{diffusers.__version__}, transformers {transformers.__version__}, CPU. Made by", "`python tools/parity/edit.py`.", "",
        "| compared | found | allowed |", "|---|---:|---:|", *lines, ""])
    print(text)
    if typed.write:
        typed.write.parent.mkdir(parents=True, exist_ok=True)
        typed.write.write_text(text)
    sys.exit(failed)


if __name__ == "__main__":
    main()

"""Another text encoder in a pack of sd-mini, with the denoiser's cross-attention refitted to it by least squares.

    cargo xtask train sd-mini --scale standard --stages text --out OUT
    python tools/sd-mini/stitch.py --encoder OUT/text/weights.safetensors --out NEW_PACK [--runner target/release/runner]

A denoiser reads captions through nothing but the keys and values `k = W_k h`, `v = W_v h` of its cross-attention, `h` (D) the text encoder's
hidden state at a token. For another encoder's states `h'` of the same captions, the matrix `M` (D, D) with

    M = argmin Σ ‖M h' − h‖² + ridge · tr(H'ᵀH')/D · ‖M‖²

over all positions of some captions of the drawn world makes `W_k M` and `W_v M` the closest that a linear map can come to the old keys and
values: what is left to a training is the rest. Written are the pack with the new encoder and the matrices, and its manifest with the new digests
and no gates, since none were measured. numpy, torch 2.11, transformers 5.23.0.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import subprocess
import tempfile

import numpy
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pack", type=pathlib.Path, default=ROOT / "datasets/sd-mini")
    parser.add_argument("--encoder", type=pathlib.Path, required=True, help="weights of the stage `text`")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--runner", type=pathlib.Path, default=ROOT / "target/release/runner")
    parser.add_argument("--sheets", type=int, default=120, help="sheets of example captions, one a seed")
    parser.add_argument("--ridge", type=float, default=1e-5)
    found = parser.parse_args()
    if found.out.exists():
        parser.error(f"{found.out}: exists already; name a folder that does not")
    return found


def captions(runner, sheets):
    """Captions of the training split, those of each sheet of examples, and the empty one."""
    found = []
    with tempfile.TemporaryDirectory() as work:
        for seed in range(sheets):
            command = [runner, "worlds", "show", "--what", "examples", "--seed", str(seed), "--output", f"{work}/sheet.png"]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
            found += [line.strip() for line in said if line.strip() and work not in line]
    return [*found, ""]


@torch.no_grad()
def states(model, tokenizer, texts):
    """(N·T, D) in float64: every position's hidden state, the final norm's output."""
    parts = []
    for at in range(0, len(texts), 256):
        ids = tokenizer(texts[at : at + 256], padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt")
        parts.append(model(ids.input_ids).last_hidden_state.flatten(0, 1).double().numpy())
    return numpy.concatenate(parts)


def fit(new, old, ridge):
    """`M` (D, D), old ≈ M new."""
    gram = new.T @ new
    gram += ridge * numpy.trace(gram) / len(gram) * numpy.eye(len(gram))
    return numpy.linalg.solve(gram, new.T @ old).T


def explained(new, old, window, ridge):
    """Share of the old states' variance about their mean that a fit explains in every fifth caption, which it does not see."""
    kept = numpy.arange(len(new)) // window % 5 != 0
    rest = old[~kept] - new[~kept] @ fit(new[kept], old[kept], ridge).T
    return 1.0 - (rest**2).sum() / ((old[~kept] - old[~kept].mean(0)) ** 2).sum()


def write_manifest(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["gates"] = []
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        entry["bytes"], entry["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(manifest, indent=2) + "\n")


def main():
    args = arguments()
    torch.set_num_threads(1)
    model = args.pack / "model"
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    old = CLIPTextModel.from_pretrained(model / "text_encoder").float().eval()
    weights = {name: tensor for name, tensor in load_file(args.encoder).items() if name.startswith("text_model.")}
    shutil.copytree(args.pack, args.out)
    save_file({name: tensor.half().contiguous() for name, tensor in weights.items()}, args.out / "model/text_encoder/model.safetensors", {"format": "pt"})
    new = CLIPTextModel.from_pretrained(args.out / "model/text_encoder").float().eval()
    texts = sorted(set(captions(args.runner, args.sheets)))
    both = states(new, tokenizer, texts), states(old, tokenizer, texts)
    share = explained(*both, tokenizer.model_max_length, args.ridge)
    print(f"{len(texts)} captions; {100 * share:.2f} % of the old states' variance explained where the fit did not look")
    matrix = fit(*both, args.ridge)
    (path,) = (args.out / "model/unet").glob("*.safetensors")
    unet = load_file(path)
    names = [name for name in unet if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))]
    for name in names:
        unet[name] = torch.from_numpy(unet[name].double().numpy() @ matrix).to(unet[name].dtype).contiguous()
    save_file(unet, path, {"format": "pt"})
    write_manifest(args.out)
    print(f"{len(names)} matrices of {path.name} refitted; {args.out}")


if __name__ == "__main__":
    main()

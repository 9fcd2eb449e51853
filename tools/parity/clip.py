#!/usr/bin/env python3
"""Goldens for CLIP: activations, gradients and pixels that transformers gives, and what the published models consist of.

    tools/parity/clip.py

writes crates/sd-core/tests/goldens/:
    clip.json         fingerprints of every activation of small models, and of gradients with respect to the token embeddings,
                      computed in double precision from weights drawn in single
    clip_pixels.json  sums and samples of the pixels that CLIPImageProcessor makes of drawn pictures
    clip_sizes.json   parameters and keys of the published models, from their configurations alone

Needs transformers 5.23.0.
"""

import hashlib
import json

import numpy
import PIL.Image
import torch
import transformers
from common import GOLDENS, Recorder, fill, fingerprint, randn, signs, write
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers import CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

# Old files say 2 for the id of end-of-text, wrongly; transformers then takes the highest id of a prompt for it.
TEXT = {
    "sd1": dict(hidden_size=48, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4, hidden_act="quick_gelu", eos_token_id=2),
    "sd2": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, hidden_act="gelu", eos_token_id=99),
    "projected": dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, hidden_act="gelu", eos_token_id=99, projection_dim=20),
}
VISION = dict(hidden_size=40, intermediate_size=96, num_hidden_layers=2, num_attention_heads=5, image_size=30, patch_size=10, hidden_act="quick_gelu", projection_dim=24)
# Two prompts of different lengths in a window of 13: begin 98, end and padding 99 as in 1.x, or padding 0 as in 2.x.
PROMPTS = {
    "sd1": [[98, 5, 17, 60, 3, 99] + [99] * 7, [98, 97, 1, 42, 42, 8, 77, 64, 21, 30, 99, 99, 99]],
    "sd2": [[98, 5, 17, 60, 3, 99] + [0] * 7, [98, 97, 1, 42, 42, 8, 77, 64, 21, 30, 99, 0, 0]],
}
PROMPTS["projected"] = PROMPTS["sd2"]
WINDOW = dict(vocab_size=100, max_position_embeddings=13, bos_token_id=98, pad_token_id=0)


def text(name):
    config = CLIPTextConfig(**WINDOW, **TEXT[name], attn_implementation="eager")
    model = (CLIPTextModelWithProjection if name == "projected" else CLIPTextModel)(config)
    return fill(model, 1).double()


def chosen(path, module):
    """Modules whose outputs are sites: not the parts of which they are made, and not containers."""
    last = path.rsplit(".", 1)[-1]
    inner = {"out_proj", "fc1", "fc2", "layer_norm1", "layer_norm2", "activation_fn", "position_embedding", "encoder", "layers"}
    return path and last not in inner and last not in {"text_model", "vision_model"}


class Sites(Recorder):
    """All sites, under the names of published files: attention maps and the stream behind attention as well."""

    def __init__(self, model):
        self.prefix = prefix(model)
        super().__init__(model, chosen)
        for path, module in model.named_modules():
            if path.endswith(".layer_norm2"):
                after = path.replace("layer_norm2", "self_attn#stream")
                self.hooks.append(module.register_forward_pre_hook(lambda _, inputs, after=after: self.add(after, inputs[0])))
            elif path.endswith(".self_attn"):
                self.hooks.append(module.register_forward_hook(lambda _, __, output, path=path: self.add(path + "#map", output[1])))

    def add(self, name, tensor):
        super().add(self.prefix + name, tensor)


def prefix(model):
    """What the names in published files begin with where this version's modules leave it out."""
    return {CLIPTextModel: "text_model.", CLIPVisionModel: "vision_model."}.get(type(model), "")


def text_golden(name):
    model = text(name)
    sites = Sites(model)
    ids = torch.tensor(PROMPTS[name])
    output = model(ids, output_hidden_states=True)
    sites.remove()
    inner = getattr(model, "text_model", model)
    golden = sites.seen
    golden["last_hidden_state"] = fingerprint(output.last_hidden_state)
    if name == "projected":
        golden["projected"] = fingerprint(output.text_embeds)
    else:
        golden["pooled"] = fingerprint(output.pooler_output)
    # What diffusers' pipelines do for clip_skip = 1.
    golden["skip 1"] = fingerprint(inner.final_layer_norm(output.hidden_states[-2]))
    golden["gradient"] = fingerprint(gradient(model, inner, ids))
    return golden


def gradient(model, inner, ids):
    """That of a weighted sum of the output with respect to the token embeddings."""
    table = inner.embeddings.token_embedding
    leaf = table(ids).detach().requires_grad_()
    hook = table.register_forward_hook(lambda module, inputs, output: leaf)
    output = model(ids).last_hidden_state
    hook.remove()
    (output * randn(5, *output.shape).double()).sum().backward()
    return leaf.grad


def vision_golden(projected):
    model = (CLIPVisionModelWithProjection if projected else CLIPVisionModel)(CLIPVisionConfig(**VISION, attn_implementation="eager"))
    model = fill(model, 2).double()
    sites = Sites(model)
    output = model(randn(3, 2, 3, 30, 30).double())
    golden = sites.seen
    golden["last_hidden_state"] = fingerprint(output.last_hidden_state)
    name, value = ("projected", output.image_embeds) if projected else ("pooled", output.pooler_output)
    golden[name] = fingerprint(value)
    return golden


def both_golden():
    config = CLIPConfig(
        text_config={**WINDOW, **TEXT["sd2"]}, vision_config=VISION, projection_dim=28, attn_implementation="eager"
    )
    model = fill(CLIPModel(config), 4).double()
    sites = Sites(model)
    output = model(input_ids=torch.tensor(PROMPTS["sd2"]), pixel_values=randn(3, 2, 3, 30, 30).double())
    golden = sites.seen
    golden["text"] = fingerprint(output.text_embeds)
    golden["image"] = fingerprint(output.image_embeds)
    golden["logits"] = fingerprint(output.logits_per_image)
    return golden


def picture(height, width):
    """A picture that any program can draw: bytes of SplitMix64 over a slope of brightness."""
    noise = (signs(height * width * 3, 0).numpy() + 1) / 2
    places = numpy.arange(height * width * 3)
    return ((places // 7 + noise * 90) % 256).astype(numpy.uint8).reshape(height, width, 3)


def pixels():
    sizes = [(224, 224), (300, 400), (517, 233), (64, 80), (225, 224), (1, 1), (3, 700), (1200, 90)]
    small = CLIPImageProcessorPil(size={"shortest_edge": 50}, crop_size={"height": 40, "width": 30}, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.1])
    cases = {}
    for name, processor in [("usual", CLIPImageProcessorPil()), ("small", small)]:
        for height, width in sizes:
            if name == "usual" and height * width < 10:
                continue
            image = PIL.Image.fromarray(picture(height, width))
            values = processor(image, return_tensors="pt")["pixel_values"][0]
            digest = hashlib.sha256(numpy.ascontiguousarray(values.numpy().astype("<f4")).tobytes()).hexdigest()
            cases[f"{name} {height}x{width}"] = {"shape": list(values.shape), "sha256": digest}
    lines = ",\n".join(f"{json.dumps(case)}: {json.dumps(golden)}" for case, golden in cases.items())
    (GOLDENS / "clip_pixels.json").write_text("{\n" + lines + "\n}\n")


def sizes():
    """Parameters, keys and a digest of the keys with their shapes, of models made on no device."""
    sd1 = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768)
    sd2 = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, projection_dim=512, hidden_act="gelu")
    vit = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14, projection_dim=768)
    models = {
        "text encoder of 1.x": lambda: CLIPTextModel(CLIPTextConfig(**sd1)),
        "text encoder of 2.x": lambda: CLIPTextModel(CLIPTextConfig(**sd2)),
        "text encoder of 1.x, projected": lambda: CLIPTextModelWithProjection(CLIPTextConfig(**sd1)),
        "image encoder ViT-L/14, projected": lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**vit)),
        "CLIP ViT-L/14": lambda: CLIPModel(CLIPConfig(text_config=sd1, vision_config=vit, projection_dim=768)),
    }
    found = {}
    for name, make in models.items():
        with torch.device("meta"):
            model = make()
        keys = sorted((prefix(model) + key, list(value.shape)) for key, value in model.named_parameters())
        listing = "".join(f"{key} {json.dumps(shape)}\n" for key, shape in keys)
        count = sum(value.numel() for value in model.parameters())
        digest = hashlib.sha256(listing.encode()).hexdigest()
        found[name] = {"config": model.config.to_diff_dict(), "parameters": count, "keys": len(keys), "sha256": digest}
        if "architectures" not in found[name]["config"] or not found[name]["config"]["architectures"]:
            found[name]["config"]["architectures"] = [type(model).__name__]
    (GOLDENS / "clip_sizes.json").write_text(json.dumps(found, indent=1) + "\n")
    print({name: entry["parameters"] for name, entry in found.items()})


def main():
    assert transformers.__version__ == "5.23.0", transformers.__version__
    cases = {f"text {name}": text_golden(name) for name in TEXT}
    cases["vision"] = vision_golden(False)
    cases["vision projected"] = vision_golden(True)
    cases["both"] = both_golden()
    write("clip.json", cases)
    pixels()
    sizes()


if __name__ == "__main__":
    main()

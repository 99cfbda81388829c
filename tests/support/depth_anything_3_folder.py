"""A small Depth Anything 3 in its authors' layout: names and shapes of theirs, weights by formula.

`expected.npz` beside the test holds what the authors' own code gives with these weights.
"""

import json
import math
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

WIDTH, BLOCKS, GRID, PATCH = 64, 24, 5, 14
FUSED, WIDTHS, HIDDEN = 16, (8, 8, 12, 16), 32


def shapes() -> dict[str, tuple[int, ...]]:
    """{name of a tensor: its shape}."""
    found: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + GRID * GRID, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for block in range(BLOCKS):
        linear = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        for name, (out, into) in linear.items():
            found[f"blocks.{block}.{name}.weight"] = (out * WIDTH, into * WIDTH)
            found[f"blocks.{block}.{name}.bias"] = (out * WIDTH,)
        for name in ("norm1", "norm2"):
            found[f"blocks.{block}.{name}.weight"] = found[f"blocks.{block}.{name}.bias"] = (WIDTH,)
        for name in ("ls1", "ls2"):
            found[f"blocks.{block}.{name}.gamma"] = (WIDTH,)
    found = {f"model.backbone.pretrained.{name}": shape for name, shape in found.items()}
    head = {}
    for stage, channels in enumerate(WIDTHS):
        head[f"projects.{stage}"] = (channels, WIDTH, 1, 1)
        head[f"scratch.layer{stage + 1}_rn"] = (FUSED, channels, 3, 3)
        for unit in (1, 2) if stage < 3 else (2,):  # the deepest meets no skip
            for conv in (1, 2):
                name = f"scratch.refinenet{stage + 1}.resConfUnit{unit}.conv{conv}"
                head[name] = (FUSED, FUSED, 3, 3)
        head[f"scratch.refinenet{stage + 1}.out_conv"] = (FUSED, FUSED, 1, 1)
    head["resize_layers.0"] = (WIDTHS[0], WIDTHS[0], 4, 4)
    head["resize_layers.1"] = (WIDTHS[1], WIDTHS[1], 2, 2)
    head["resize_layers.3"] = (WIDTHS[3], WIDTHS[3], 3, 3)
    head["scratch.output_conv1"] = (FUSED // 2, FUSED, 3, 3)
    for end in ("output_conv2", "sky_output_conv2"):
        head[f"scratch.{end}.0"] = (HIDDEN, FUSED // 2, 3, 3)
        head[f"scratch.{end}.2"] = (1, HIDDEN, 1, 1)
    for name, shape in head.items():
        found[f"model.head.{name}.weight"] = shape
        if "_rn" not in name:
            found[f"model.head.{name}.bias"] = (shape[0],)
    return found


def weights() -> dict[str, Tensor]:
    """Every tensor by a formula of its name: waves, around one for norms and layer scales."""
    return {name: _wave(name, shape) for name, shape in shapes().items()}


def _wave(name: str, shape: tuple[int, ...]) -> Tensor:
    place = torch.arange(math.prod(shape), dtype=torch.float64)
    phase = zlib.crc32(name.encode()) % 10_000
    wave = torch.sin(place * 1.7 + phase) * torch.cos(place * 0.37 + 3 * phase)
    if "norm" in name or "gamma" in name:
        base = 0.0 if name.endswith("bias") else 1.0
        return (base + 0.2 * wave).float().reshape(shape)
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 4
    wave = wave * 4.0 / math.sqrt(fan_in)
    if name == "model.head.scratch.sky_output_conv2.2.bias":
        wave = wave + 2.8  # puts some of the map above the threshold
    return wave.float().reshape(shape)


def pixels(hw: tuple[int, int]) -> Tensor:
    """An input of the network (1, 3, H, W): slopes and waves."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, hw[0], dtype=torch.float64),
        torch.linspace(-1, 1, hw[1], dtype=torch.float64),
        indexing="ij",
    )
    planes = (x + torch.sin(7 * y), y - torch.cos(9 * x * y), torch.sin(5 * x + 3 * y))
    return torch.stack(planes)[None].float()


def save_authors_folder(folder: Path, *, name: str) -> Path:
    """Write the model as its authors do: config.json with model_name, model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_name": name, "config": {}}))
    save_file(weights(), folder / "model.safetensors")
    return folder

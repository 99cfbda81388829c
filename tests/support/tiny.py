"""Tiny random models in the hub's layout, saved with our own code, and photographs for them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dptcli import (
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    DPTImageProcessor,
)

LABELS = {0: "sky", 1: "ground", 2: "gizmo"}


def small_backbone(width: int = 24, **changes: object) -> dict[str, object]:
    """A DINOv2 of four layers that sees 56×56 in patches of 14; changes: for its relatives."""
    return {
        "model_type": "dinov2",
        "hidden_size": width,
        "num_attention_heads": 2,
        "num_hidden_layers": 4,
        "image_size": 56,
        "patch_size": 14,
        "out_indices": [1, 2, 3, 4],
        "reshape_hidden_states": False,
        **changes,
    }


def save_tiny(folder: Path, *, task: str, processor: dict | None = None, **changes) -> Path:
    """Write a model that runs in milliseconds: width 32, 4 layers, patches of 16, 64×64."""
    config = {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 64,
        "patch_size": 16,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [8, 16, 24, 32],
        "fusion_hidden_size": 16,
    }
    model_class = DPTForDepthEstimation
    if task == "segment":
        model_class = DPTForSemanticSegmentation
        config["id2label"] = LABELS
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(DPTConfig(**{**config, **changes}))
    model.save_pretrained(folder)
    size = {"height": 64, "width": 64}
    DPTImageProcessor(**{"size": size, **(processor or {})}).save_pretrained(folder)
    return folder


def save_varied(folder: Path, **changes) -> Path:
    """Write a tiny model whose depth lies around 2 and varies from pixel to pixel."""
    save_tiny(folder, task="depth", **changes)
    model = DPTForDepthEstimation.from_pretrained(folder)
    seen = []
    last = model.head.head[4]
    hook = last.register_forward_hook(lambda _module, given, _output: seen.append(given[0]))
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        last.weight.fill_(1 / float(seen[0].sum(1).mean()))
        last.bias.fill_(1.0)
    hook.remove()
    model.save_pretrained(folder)
    return folder


def save_both(folder: Path) -> dict[str, Path]:
    """Write a tiny model for each task, that of depth varied."""
    depth, segment = folder / "depth", folder / "segment"
    return {"depth": save_varied(depth), "segment": save_tiny(segment, task="segment")}


def draw_blurred(folder: Path, number: int, *, size: tuple[int, int]) -> Path:
    """Write photographs of soft spots, (width, height) each, none like another."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{index:02d}.png")
    return folder

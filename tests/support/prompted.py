"""A tiny prompted model in the hub's layout, photographs, and sensor's maps for them."""

from pathlib import Path

import numpy as np
import torch
from parity import randomize
from PIL import Image
from tiny import small_backbone

from dptcli import (
    PromptDepthAnythingConfig,
    PromptDepthAnythingForDepthEstimation,
    PromptDepthAnythingImageProcessor,
)


def save_prompted(folder: Path) -> Path:
    """Write a model of width 24 that sees 56×56 and more, in patches of 14."""
    config = PromptDepthAnythingConfig(
        architectures=["PromptDepthAnythingForDepthEstimation"],
        backbone_config=small_backbone(),
        reassemble_hidden_size=24,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=16,
        head_hidden_size=8,
        depth_estimation_type="metric",
        max_depth=None,
    )
    model = PromptDepthAnythingForDepthEstimation(config)
    randomize(model, seed=0, std=0.15)
    model.save_pretrained(folder)
    PromptDepthAnythingImageProcessor(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14
    ).save_pretrained(folder)
    return folder


def draw_photos(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    """Write photographs 0.png, 1.png, … of (width, height)."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index, size in enumerate(sizes):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


def millimetres(hw: tuple[int, int], *, seed: int = 0, share: float = 1) -> np.ndarray:
    """A sensor's map uint16 (h, w) of a floor and a wall; share: of the pixels that it measured."""
    rows = np.mgrid[: hw[0], : hw[1]][0] / hw[0]
    depth = np.minimum(1500 / np.maximum(rows, 0.2), 5000) + 40 * seed
    rng = np.random.default_rng(seed)
    return np.where(rng.random(hw) < share, depth, 0).astype(np.uint16)


def by_hand(model, processor, photo: Path, prompt: np.ndarray) -> np.ndarray:
    """Depth as the public classes give it, ours or the reference's."""
    picture = Image.open(photo).convert("RGB")
    inputs = processor(picture, prompt, return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
    sizes = [(picture.height, picture.width)]
    [result] = processor.post_process_depth_estimation(outputs, sizes)
    return result["predicted_depth"].numpy()

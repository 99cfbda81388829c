"""A Video-Depth-Anything file of weights by a formula, the clip that it was run on, and numbers.

The numbers in `video_depth_anything.npz` were written by the authors' own code, for these weights
and frames: `network` (5 frames), `still` (the first of 32 equal frames), `clip` and `clip_metric`
(60 frames through its windows, every seventh pixel), and `sizes` (source, network).
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

EXPECTED = Path(__file__).parents[1] / "model" / "families" / "video_depth_anything.npz"


def expected() -> dict[str, np.ndarray]:
    with np.load(EXPECTED) as file:
        return dict(file)


def tensors() -> dict[str, Tensor]:
    """The state dict, under the authors' names."""
    numbers = expected()
    file = {}
    for place, (name, shape) in enumerate(zip(numbers["names"], numbers["shapes"], strict=True)):
        sides = [int(side) for side in str(shape).split(",")]
        file[str(name)] = _weights(str(name), sides, place)
    file["head.scratch.output_conv2.2.bias"] += 2  # lifts the last ReLU's input off zero
    return file


def _weights(name: str, sides: list[int], place: int) -> Tensor:
    n = torch.arange(int(np.prod(sides)), dtype=torch.float64)
    values = torch.sin(n * 0.7 + place * 1.3 + 0.1 * (n % 17) ** 2)
    is_product = len(sides) > 1 and "token" not in name and "pos_embed" not in name
    if is_product and "patch_embed" not in name and not name.endswith(".pe"):
        values = values * (2.0 / np.prod(sides[1:])) ** 0.5
    elif "weight" in name or "gamma" in name:
        values = 1 + 0.2 * values
    else:
        values = 0.2 * values
    return values.float().reshape(sides)


def save_original(folder: Path, name: str = "video_depth_anything_vits.pth") -> Path:
    """The file as the authors' training program writes it."""
    path = folder / name
    torch.save(tensors(), path)
    return path


def frames(number: int, height: int, width: int) -> np.ndarray:
    """A moving pattern, uint8 (T, H, W, 3)."""
    i, y, x, c = np.ogrid[:number, :height, :width, :3]
    wave = 0.15 * i + 0.21 * y * (1 + 0.1 * c) + 0.17 * x + np.sin(x * y * 0.01 + i * 0.05)
    return np.round(127.5 + 127.5 * np.sin(wave)).astype(np.uint8)

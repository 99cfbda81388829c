"""Tiny photographs with depth and labels, and the list of their pairs."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_pairs(folder: Path, *, count: int = 3, size: tuple[int, int] = (60, 40)) -> Path:
    """Ramps of depth (2 m to 4 m downward) and brightness, the upper quarter sky."""
    rows = ["image,target,kind,scale,labels"]
    width, height = size
    for index in range(count):
        depth_m = np.linspace(2, 4, height)[:, None].repeat(width, axis=1)
        labels = np.ones((height, width), np.uint8)
        sky = slice(0, height // 4)
        depth_m[sky], labels[sky] = 0, 0
        # What is far is bright, so that there is something to learn.
        colour = np.random.default_rng(index).integers(0, 40, (height, width, 3), np.uint8)
        colour += np.where(depth_m > 0, depth_m * 40, 200).astype(np.uint8)[..., None]
        stem = f"{index:03d}_0"
        Image.fromarray(colour).save(folder / f"{stem}.jpg")
        Image.fromarray((depth_m * 1000).astype(np.uint16)).save(folder / f"{stem}.depth.png")
        Image.fromarray(labels).save(folder / f"{stem}.labels.png")
        rows.append(f"{stem}.jpg,{stem}.depth.png,depth_m,1000,{stem}.labels.png")
    (folder / "classes.txt").write_text("sky\nground\n")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    return folder / "pairs.csv"

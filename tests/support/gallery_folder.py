"""A folder of results to make pages of: exact values, small pictures, no model."""

import json
import os

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

NAMES = {"0": "sky", "1": "ground", "2": "<b>gizmo</b>"}
COLORS = {"0": "#78bef0", "1": "#966e46", "2": "#9632c8"}


def save_result(image, path, **facts):
    """Save a PNG with the facts that `dpt` would put into its text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PngInfo()
    text.add_text("dptcli", json.dumps(facts))
    image.save(path, "PNG", pnginfo=text)


def save_photo(path, *, hw=(60, 80), seed=0):
    """Save a photograph of noise as JPEG, whatever the name's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")
    return path


def ramp(bits=16, hw=(60, 80)):
    """Levels that rise from 0 at the left to the top at the right."""
    top = 2**bits - 1
    row = np.linspace(0, top, hw[1]).round().astype(np.uint16 if bits == 16 else np.uint8)
    return np.repeat(row[None], hw[0], 0)


def make_folder(root):
    """Three depth maps and a mask with their photographs, and a list of failures; returns OUT."""
    out = root / "out"

    def shared(name, seed):
        photo = save_photo(root / "photos" / f"{name}.jpg", seed=seed)
        path = out / f"{name}.png"
        return path, {"photo": os.path.relpath(photo, path.parent), "model": "dpt-small"}

    path, facts = shared("a fine", 1)
    save_result(Image.fromarray(ramp()), path, kind="inverse_depth", first=2.0, last=10.0, **facts)
    path, facts = shared("b metres", 2)
    levels = Image.fromarray(ramp(8))
    save_result(levels, path, kind="depth_m", first=8.0, last=0.5, **facts)
    path, facts = shared("sub/c classes", 3)
    labels = np.zeros((60, 80), np.uint8)
    labels[:, 40:] = 1
    labels[30:, 60:] = 2
    mask = Image.fromarray(labels)
    mask.putpalette(bytes.fromhex("".join(color[1:] for color in COLORS.values())))
    save_result(mask, path, kind="labels", first_id=0, **facts)
    (out / "labels.json").write_text(json.dumps({"labels": NAMES, "colors": COLORS}))
    failure = {"input": "photos/<script>.jpg", "error": "is empty; copy it again"}
    (out / "failures.jsonl").write_text(json.dumps(failure) + "\n")
    return out

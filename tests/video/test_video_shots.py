"""Shot changes: found in the pictures, where depth may look alike; pans and flashes are none."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from PIL import Image

from dptcli.cli import main
from dptcli.video.shots import Shots
from dptcli.video.smoothing import fit_scale_shift

SAMPLES = Path(__file__).parent.parent.parent / "sample_images"
NAMES = ("city.jpg", "coffee.png", "garden.jpg", "pavilion.jpg", "room.jpg")


def sample(name, *, width=320, height=192):
    with Image.open(SAMPLES / name) as photo:
        return np.asarray(photo.convert("RGB").resize((width, height)))


def changes(frames):
    shots = Shots()
    return [place for place, frame in enumerate(frames) if shots.begins(frame)]


@pytest.mark.parametrize("pair", [*itertools.pairwise(NAMES)], ids="-".join)
def test_another_photograph_is_another_shot(pair):
    first, second = map(sample, pair)
    assert changes([first, first, second, second, first]) == [2, 4]


@pytest.mark.parametrize("name", NAMES)
def test_a_pan_a_flash_and_noise_are_no_shot_changes(name):
    wide = sample(name)
    pan = [wide[:, place : place + 200] for place in range(0, 120, 20)]
    flash = [np.clip(wide * gain, 0, 255).astype(np.uint8) for gain in (1, 1.6, 1, 0.6, 1)]
    noise = np.random.default_rng(0).normal(0, 12, wide.shape)
    noisy = [wide, np.clip(wide + noise, 0, 255).astype(np.uint8)]
    assert changes(pan) == changes(flash) == changes(noisy) == []


def test_black_frames_are_one_shot():
    black = np.zeros((40, 60, 3), np.uint8)
    assert changes([black, black, sample("city.jpg"), black]) == [2, 3]


def test_a_joined_clip_is_steadied_anew_where_it_was_joined(tmp_path):
    rng = np.random.default_rng(1)
    frames = [
        np.clip(sample(name) + rng.normal(0, 6, (192, 320, 3)), 0, 255).astype(np.uint8)
        for name in ("city.jpg", "garden.jpg")
        for _ in range(4)
    ]
    clip = write_clip(tmp_path / "joined.mp4", frames)
    depth = {}
    for name, more in {"steady": [], "raw": ["--smoothing", "0"]}.items():
        out = tmp_path / name
        words = ["depth", str(clip), "-o", str(out), "--size", "112", "-f", "npy", "-q", *more]
        assert main(words) == 0
        depth[name] = [np.load(path) for path in sorted(out.glob("*.npy"))]
    # Depth alone does not show this change.
    assert fit_scale_shift(depth["raw"][4], depth["raw"][3]) is not None
    same = [np.array_equal(*pair) for pair in zip(depth["steady"], depth["raw"], strict=True)]
    assert same == [True, False, False, False] * 2
    told = [json.loads(path.read_text()) for path in sorted((tmp_path / "steady").glob("*.json"))]
    assert [facts.get("shot_change", False) for facts in told] == [place == 4 for place in range(8)]

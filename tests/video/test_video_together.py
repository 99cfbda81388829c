"""A clip by a network that sees frames together: one range, no stabiliser, resumed to the bit."""

from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from PIL import Image
from video_depth import frames, save_original

from dptcli.cli import main
from dptcli.video.smoothing import flicker

NUM_FRAMES = 36


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("clip")
    clip = write_clip(folder / "clip.mp4", list(frames(NUM_FRAMES, 48, 48)))
    model = save_original(folder)
    return ["depth", str(clip), "-m", str(model), "--size", "28", "--dtype", "float32"]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_resumed_clip_is_the_whole_clip_to_the_bit(words: list[str], tmp_path: Path) -> None:
    run = [*words, "-o", f"{tmp_path / 'frames'}/", "-q"]
    assert main(run) == 0
    whole = files(tmp_path / "frames")
    assert len(whole) == NUM_FRAMES
    for place in (3, 25, 35):  # in the first window, where two meet, in the last
        (tmp_path / "frames" / f"{place:06d}.png").unlink()
    assert main([*run, "--skip-existing"]) == 0
    assert files(tmp_path / "frames") == whole


def test_frames_share_a_range_and_smoothing_0_gives_each_its_own(
    words: list[str], tmp_path: Path
) -> None:
    run = [*words, "--frames", "0:4", "--colormap", "gray", "-q", "-o"]
    assert main([*run, f"{tmp_path / 'one'}/"]) == 0
    assert main([*run, f"{tmp_path / 'each'}/", "--smoothing", "0"]) == 0
    for path in sorted((tmp_path / "each").iterdir()):
        shades = np.asarray(Image.open(path).convert("L"))
        assert shades.min() < 10  # the bicubic resize may fall short of the network's own ends
        assert shades.max() > 245
    assert files(tmp_path / "one") != files(tmp_path / "each")


def test_a_still_clip_is_steadied_by_option_alone(words: list[str], tmp_path: Path) -> None:
    """Its flicker is measured as that of the other models: as the change from frame to frame."""
    rng = np.random.default_rng(0)
    still = frames(1, 48, 48)[0].astype(float)
    for place in range(6):
        noisy = (still + rng.normal(0, 4, still.shape)).clip(0, 255).astype(np.uint8)
        (tmp_path / "still").mkdir(exist_ok=True)
        Image.fromarray(noisy).save(tmp_path / f"still/{place}.png")
    run = ["depth", str(tmp_path / "still"), *words[2:], "--sequence", "-f", "npy", "-q", "-o"]
    changes = {}
    for name, more in {"own": [], "off": ["0"], "steadied": ["0.8"]}.items():
        smoothing = ["--smoothing", *more] if more else []
        assert main([*run, f"{tmp_path / name}/", *smoothing]) == 0
        maps = [np.load(path) for path in sorted((tmp_path / name).glob("*.npy"))]
        assert len(maps) == 6
        changes[name] = flicker(maps)
    assert changes["own"] == changes["off"] > 0
    assert changes["steadied"] < 0.7 * changes["own"]

"""Animated pictures as clips: each frame once, at its own time."""

from fractions import Fraction

import numpy as np
import pytest
from clips import number_in, numbered, read_clip
from PIL import Image
from tiny import save_tiny

from dptcli.cli import main
from dptcli.errors import ImageError
from dptcli.video.animation import open_animation

TIMES = [0, 100, 300, 340, 440]


def animated(path, **options):
    """Five frames, of 100, 200, 40, 100 and 100 ms."""
    first, *others = [Image.fromarray(numbered(place)) for place in (3, 9, 20, 33, 60)]
    durations = [*np.diff(TIMES).tolist(), 100]
    first.save(path, save_all=True, append_images=others, duration=durations, **options)
    return path


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "avif"])
def test_an_animated_pictures_frames_are_read_in_any_order_with_their_times(ending, tmp_path):
    clip = open_animation(animated(tmp_path / f"in.{ending}"))
    assert clip is not None
    assert [clip.seconds(place) for place in range(5)] == [Fraction(time, 1000) for time in TIMES]
    for place in (0, 1, 2, 3, 4, 1, 4, 0):
        assert number_in(clip.read(place)) == (3, 9, 20, 33, 60)[place]
    clip.close()


def test_a_picture_for_those_who_show_no_animation_is_no_frame(tmp_path):
    clip = open_animation(animated(tmp_path / "in.png", default_image=True))
    assert clip is not None
    assert [number_in(clip.read(place)) for place in range(clip.num_frames)] == [9, 20, 33, 60]
    clip.close()


def test_frames_of_no_time_last_as_in_browsers(tmp_path):
    first, second = (Image.fromarray(numbered(place)) for place in (1, 2))
    first.save(tmp_path / "in.gif", save_all=True, append_images=[second])
    clip = open_animation(tmp_path / "in.gif")
    assert clip is not None
    assert (clip.seconds(1), clip.fps) == (Fraction(1, 10), 10)
    clip.close()


def test_other_pictures_are_no_clips(tmp_path):
    Image.fromarray(numbered(1)).save(tmp_path / "one.gif")
    (tmp_path / "text.gif").write_text("text")
    assert open_animation(tmp_path / "one.gif") is None
    assert open_animation(tmp_path / "text.gif") is None
    cut = animated(tmp_path / "cut.png")
    cut.write_bytes(cut.read_bytes()[:-400])
    with pytest.raises(ImageError, match=r"cut.png frame \d cannot be decoded"):
        open_animation(cut)


def test_an_animated_picture_becomes_a_clip_and_numbered_frames(tmp_path):
    model = str(save_tiny(tmp_path / "model", task="depth"))
    given = str(animated(tmp_path / "in.gif"))
    out = tmp_path / "out.mp4"
    assert main(["depth", given, "-o", str(out), "-m", model, "-q", "--frames", "1:"]) == 0
    assert [seconds * 1000 for seconds, _ in read_clip(out)] == [0, 200, 240, 340]
    assert main(["depth", given, "-o", f"{tmp_path}/f/", "-m", model, "-q", "--sequence"]) == 0
    names = sorted(path.name for path in (tmp_path / "f").glob("*.png"))
    assert names == [f"{place:06}.png" for place in range(5)]

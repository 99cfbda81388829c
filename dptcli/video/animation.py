"""Animated pictures (GIF, APNG, WebP, AVIF) as clips: their frames, at their own times."""

from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import ImageError
from dptcli.inputs.decode import printable, to_rgb
from dptcli.video.index import usual_rate
from dptcli.video.read import DEFAULT_FPS, FrameRange, FrameSource, frame_sources

SUFFIXES = frozenset({".gif", ".png", ".apng", ".webp", ".avif", ".avifs"})

_MS = Fraction(1, 1000)
_SHORTEST_MS = 10  # browsers show frames of less, and of no time at all, for a tenth of a second
_UNSAID_MS = 100


class Animation:
    """An animated picture, read like a Clip: frames are numbered from 0. It has no sound."""

    has_audio = False
    is_cut = False
    num_missing = 0

    def __init__(self, path: Path, image: Image.Image) -> None:
        """Take an open picture of several frames, and learn when each is shown."""
        self.path = path
        self._image = image
        # APNG may have a picture for programs that show no animation; it is none of the frames.
        self._first = 1 if getattr(image, "default_image", False) else 0
        durations = []
        for place in range(self._first, getattr(image, "n_frames", 1)):
            self._load(place)
            shown_ms = Fraction(image.info.get("duration") or 0).limit_denominator(1000)
            durations.append(shown_ms if shown_ms >= _SHORTEST_MS else Fraction(_UNSAID_MS))
        self._times = [Fraction(0), *accumulate(durations)]
        self.num_frames = len(durations)
        self.fps = usual_rate(self._times, _MS) or DEFAULT_FPS

    def _load(self, place: int) -> None:
        try:
            self._image.seek(place)
            self._image.load()
        except Exception as error:  # decoders raise nearly every type for broken data
            raise ImageError(
                f"{printable(self.path)} frame {place - self._first} cannot be decoded ({error})"
            ) from error

    def seconds(self, index: int) -> Fraction:
        """When a frame is shown."""
        return self._times[index] * _MS

    def sources(self, frames: FrameRange) -> list[FrameSource]:
        """The frames of a range as inputs. Raises UsageError for a range behind the end."""
        return frame_sources(self.path, self.num_frames, frames)

    def read(self, index: int) -> NDArray[np.uint8]:
        """One frame as RGB uint8 (H, W, 3), what is transparent white. Raises ImageError."""
        self._load(self._first + index)
        return np.array(to_rgb(self._image.copy()))

    def close(self) -> None:
        """Let go of the file."""
        self._image.close()


def open_animation(path: Path) -> Animation | None:
    """Open a picture of several frames; None for any other file. Raises ImageError."""
    if path.suffix.lower() not in SUFFIXES:
        return None
    try:
        image: Any = Image.open(path)
    except Exception:  # whoever reads it as a photograph says what is wrong
        return None
    num = getattr(image, "n_frames", 1) - int(getattr(image, "default_image", False))
    if num < 2:
        image.close()
        return None
    try:
        return Animation(path, image)
    except ImageError:
        image.close()
        raise

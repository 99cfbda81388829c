"""Read video: which frames there are, and each of them as RGB, in order or after a seek.

PyAV (the extra `video`) is imported when a clip is opened. A clip's frames are numbered from 0 in
the order in which they are shown. Nothing holds more than one decoded frame.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import ImageError, ModelError, UsageError
from dptcli.inputs.decode import printable
from dptcli.inputs.find import ImageSource

logger = logging.getLogger(__name__)

DEFAULT_FPS = Fraction(25)  # of clips made of images, and of files that do not say theirs


@dataclass(frozen=True)
class FrameRange:
    """Frames start, start + step, … below stop (None: to the end), counted from 0."""

    start: int = 0
    stop: int | None = None
    step: int = 1

    def of(self, num_frames: int) -> range:
        """The frames of a clip that has so many."""
        stop = num_frames if self.stop is None else min(self.stop, num_frames)
        return range(min(self.start, stop), stop, self.step)


def parse_frames(text: str | None) -> FrameRange:
    """Read --frames A:B[:STEP]; A and B may be left out. Raises UsageError."""
    if text is None:
        return FrameRange()
    found = re.fullmatch(r"(\d{0,9}):(\d{0,9})(?::([1-9]\d{0,8}))?", text)
    frames = found and FrameRange(
        int(found[1] or 0), int(found[2]) if found[2] else None, int(found[3] or 1)
    )
    if not frames or (frames.stop is not None and frames.stop <= frames.start):
        raise UsageError(
            f"--frames {text!r} must be A:B or A:B:STEP, frames from A to before B, counted from "
            "0, e.g. --frames 100:400"
        )
    return frames


def import_av() -> Any:
    """PyAV, quiet. Raises ModelError that says how to install it."""
    try:
        import av
    except ImportError as error:
        raise ModelError("video needs PyAV; install it with pip install 'dptcli[video]'") from error
    av.logging.set_level(av.logging.PANIC)  # what matters comes as an exception or is counted
    return av


@dataclass(frozen=True)
class FrameSource(ImageSource):
    """One frame of a clip; `relative` names the picture that an output folder gets."""

    index: int = 0

    @property
    def name(self) -> str:
        """The clip and the frame's number."""
        return f"{super().name} frame {self.index}"


class Clip:
    """A video file: its frames' times, and their pixels.

    times: of every frame that the file holds, ascending, in units of time_base. num_missing: how
    many frames fewer the file holds than it says, where it is cut off.
    """

    def __init__(self, path: Path) -> None:
        """Index the file without decoding it. Raises ImageError for what is no readable video."""
        self.path = path
        self._av = import_av()
        try:
            with self._open() as container:
                stream = container.streams.video[0]
                self.time_base = Fraction(stream.time_base)
                rate = Fraction(stream.average_rate or DEFAULT_FPS)
                self.has_audio = bool(container.streams.audio)
                self.times = self._index(container, stream, rate)
                declared = int(stream.frames or 0)
        except IndexError as error:
            raise ImageError(f"{printable(path)} holds no video; name a file that does") from error
        except (self._av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ImageError(
                f"{printable(path)} cannot be read as video ({reason}); check the file"
            ) from error
        if not self.times:
            raise ImageError(f"{printable(path)} holds no video frames; check the file")
        # Of the times themselves: some containers state a rate that is only their clock's.
        span = self.seconds(len(self.times) - 1) - self.seconds(0)
        self.fps = ((len(self.times) - 1) / span).limit_denominator(1001) if span else rate
        self.num_missing = max(0, declared - len(self.times))
        self._frames: Iterator[Any] | None = None
        self._held: Any = None
        self._container: Any = None

    def _open(self) -> Any:
        return self._av.open(str(self.path), metadata_errors="replace")

    def _index(self, container: Any, stream: Any, rate: Fraction) -> list[int]:
        """The presentation times; where a file has none, the frames are counted."""
        times: list[int | None] = []
        try:
            times.extend(
                packet.pts
                for packet in container.demux(stream)
                if packet.size and not packet.is_discard
            )
        except self._av.FFmpegError as error:  # the break in a damaged file
            logger.debug("%s ends after %d packets: %s", self.path, len(times), error)
        self.is_timed = None not in times and len(set(times)) == len(times)
        if self.is_timed:
            return sorted(time for time in times if time is not None)
        step = 1 / (rate * self.time_base)
        return [round(number * step) for number in range(len(times))]

    def seconds(self, index: int) -> Fraction:
        """When a frame is shown, from the file's own zero."""
        return self.times[index] * self.time_base

    def sources(self, frames: FrameRange) -> list[FrameSource]:
        """The frames of a range as inputs. Raises UsageError for a range behind the end."""
        wanted = frames.of(len(self.times))
        if not wanted:
            raise UsageError(
                f"{printable(self.path)} has {len(self.times)} frames, none from {frames.start} on"
            )
        digits = max(6, len(str(len(self.times))))
        return [FrameSource(self.path, Path(f"{i:0{digits}d}.png"), i) for i in wanted]

    def read(self, index: int) -> NDArray[np.uint8]:
        """One frame as RGB uint8 (H, W, 3), turned as the file says; fast in ascending order.

        Raises ImageError for a frame that is damaged or missing.
        """
        try:
            frame = self._find(index)
        except self._av.FFmpegError as error:
            self.close()
            raise self._damaged(index, str(error)) from error
        if frame is None:
            raise self._damaged(index, "no picture comes out of it")
        rgb = frame.to_ndarray(format="rgb24")
        quarter_turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(rgb, quarter_turns))

    def _damaged(self, index: int, reason: str) -> ImageError:
        return ImageError(f"{printable(self.path)} frame {index} cannot be decoded ({reason})")

    def _find(self, index: int) -> Any:
        """The decoded frame, or None where the file has a hole; the next one is kept."""
        number, frame = self._held if self._held is not None else (-1, None)
        if self._frames is None or number > index or (number < index - 300 and self.is_timed):
            self._start(index)
            frame = None
            number = -1
        while number < index:
            assert self._frames is not None
            frame = next(self._frames, None)
            if frame is None:
                return None
            number = self._number(frame)
            self._held = (number, frame)
        return frame if number == index else None

    def _number(self, frame: Any) -> int:
        if not self.is_timed or frame.pts is None:
            self._count += 1
            return self._count - 1
        return int(np.searchsorted(self.times, frame.pts))

    def _start(self, index: int) -> None:
        """Begin to decode at the last key frame before a frame."""
        self.close()
        self._container = self._open()
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self._count = 0
        if self.is_timed and index > 0:
            self._container.seek(self.times[index], stream=stream, backward=True)
        self._frames = self._decode(self._container, stream)

    def _decode(self, container: Any, stream: Any) -> Iterator[Any]:
        """Decoded frames; a damaged packet loses its own frame and not those behind it."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.FFmpegError:
                packet = None
            if packet is None:
                return
            try:
                yield from packet.decode()
            except self._av.FFmpegError as error:
                logger.debug("%s: a damaged packet: %s", self.path, error)

    def close(self) -> None:
        """Let go of the file; a later read opens it again."""
        self._frames, self._held = None, None
        if self._container is not None:
            self._container.close()
            self._container = None


def evenly_spread(num: int, at_most: int) -> Sequence[int]:
    """At most so many of the places 0 … num - 1, in the middles of equal stretches."""
    count = min(num, at_most)
    return [int((place + 0.5) * num / count) for place in range(count)]

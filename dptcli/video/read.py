"""Read video: which frames there are, and each of them as RGB, in order or after a seek.

PyAV (the extra `video`) is imported when a clip is opened. A clip's frames are numbered from 0 in
the order in which they are shown. Nothing holds more than one decoded frame.
"""

import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.counted import counted
from dptcli.errors import ImageError, ModelError, UsageError
from dptcli.inputs.decode import printable
from dptcli.inputs.find import ImageSource
from dptcli.video.cut import ends_early
from dptcli.video.index import UNSHOWN, Packet, index_packets, usual_rate
from dptcli.video.picture import PictureReader

logger = logging.getLogger(__name__)

_MOST_REORDERED = 32  # packets by which a frame may come out behind its place; codecs allow 16
_MOST_DOUBTS = 3  # holes looked behind: each look decodes from the start

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
    # What matters comes as an exception or is counted. None and no threshold: FFmpeg's threads
    # would ask for the interpreter's lock to drop a message, while closing holds it and waits.
    av.logging.set_level(None)
    return av


@dataclass(frozen=True)
class FrameSource(ImageSource):
    """One frame of a clip; `relative` names the picture that an output folder gets."""

    index: int = 0

    @property
    def name(self) -> str:
        """The clip and the frame's number."""
        return f"{super().name} frame {self.index}"


def frame_sources(path: Path, num_frames: int, frames: FrameRange) -> list[FrameSource]:
    """The frames of a range as inputs. Raises UsageError for a range behind the end."""
    wanted = frames.of(num_frames)
    if not wanted:
        raise UsageError(
            f"{printable(path)} has {counted(num_frames, 'frame')}, none from {frames.start} on"
        )
    digits = max(6, len(str(num_frames)))
    return [FrameSource(path, Path(f"{i:0{digits}d}.png"), i) for i in wanted]


class Clip:
    """A video file: its frames' times, and their pixels.

    num_frames: those that the file holds and shows. num_missing: how many packets fewer the file
    holds than it says, where it is cut off. is_cut: whether it is, though it may not say how many.
    """

    def __init__(self, path: Path) -> None:
        """Index the file without decoding it. Raises ImageError for what is no readable video."""
        self.path = path
        self._av = import_av()
        if path.is_file() and not path.stat().st_size:
            raise ImageError(f"{printable(path)} is empty (0 bytes); copy or download it again")
        try:
            with self._open() as container:
                stream = self._choose_stream(container)
                rate = Fraction(stream.average_rate or DEFAULT_FPS)
                self.has_audio = bool(container.streams.audio)
                packets = self._packets(container, stream)
                self._index = index_packets(
                    [packet for packet in packets if packet.size],
                    time_base=Fraction(stream.time_base),
                    frame_s=1 / rate,
                    reorders=bool(stream.codec_context.has_b_frames),
                    states_times=_states_times(container.format.name),
                )
                declared = int(stream.frames or 0)
                if "mp4" in container.format.name:  # an edit list hides some of those
                    declared = min(declared, len(stream.index_entries))
                self._picture = PictureReader(path, stream)
        except (self._av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ImageError(
                f"{printable(path)} cannot be read as video ({reason}); check the file"
            ) from error
        self.num_frames = len(self._index.times)
        if not self.num_frames:
            raise ImageError(f"{printable(path)} holds no video frames; check the file")
        # Of the times themselves: some containers state a rate that is only their clock's.
        self.fps = usual_rate(self._index.times, self._index.time_base) or rate
        self.num_missing = max(0, declared - len(packets))
        self.is_cut = self.num_missing > 0 or ends_early(path)
        self._is_timed = self._index.is_timed
        self._may_seek = len(self._index.keys) > 1
        self._threads = "AUTO"
        self._num_doubts = 0
        self._first = 0  # the frame that decoding began with
        self._frames: Iterator[tuple[int, Any]] | None = None
        self._held: tuple[int, Any] | None = None
        self._container: Any = None

    def _open(self) -> Any:
        return self._av.open(str(self.path), metadata_errors="replace")

    def _choose_stream(self, container: Any) -> Any:
        """The stream of the clip's frames. Raises ImageError where there is none."""
        name, streams = printable(self.path), container.streams
        if not len(streams):
            raise ImageError(f"{name} is cut short, its index is missing; copy it again")
        videos = [video for video in streams.video if not _is_cover(self._av, video)]
        if not videos:
            what = "sound and a cover picture" if streams.video else "no video"
            raise ImageError(f"{name} holds {what}; name a file that holds video")
        best = streams.best("video")
        chosen = best if best in videos else videos[0]
        if len(videos) > 1:
            number = videos.index(chosen) + 1
            logger.warning("%s has %d video streams: number %d is read", name, len(videos), number)
        self._stream_index = chosen.index
        return chosen

    def _video(self) -> Any:
        return self._container.streams[self._stream_index]

    def _packets(self, container: Any, stream: Any) -> list[Packet]:
        """All packets, those without content too, up to the end or the break in a damaged file."""
        packets: list[Packet] = []
        try:
            packets.extend(
                _describe(packet)
                for packet in container.demux(stream)
                if packet.size or packet.dts is not None  # the last one only ends the stream
            )
        except self._av.FFmpegError as error:
            logger.debug("%s ends after %d packets: %s", self.path, len(packets), error)
        return packets

    def seconds(self, index: int) -> Fraction:
        """When a frame is shown, from the file's own zero."""
        return self._index.seconds(index)

    def sources(self, frames: FrameRange) -> list[FrameSource]:
        """The frames of a range as inputs. Raises UsageError for a range behind the end."""
        return frame_sources(self.path, self.num_frames, frames)

    def read(self, index: int) -> NDArray[np.uint8]:
        """One frame as RGB uint8 (H, W, 3), as players show it; fast in ascending order.

        Raises ImageError for a frame that is damaged or missing.
        """
        try:
            frame = self._find(index)
        except self._av.FFmpegError as error:
            self.close()
            raise self._damaged(index, str(error)) from error
        if frame is None:
            raise self._damaged(index, "no picture comes out of it")
        return self._picture.rgb(frame)

    def _damaged(self, index: int, reason: str) -> ImageError:
        return ImageError(f"{printable(self.path)} frame {index} cannot be decoded ({reason})")

    def _find(self, index: int) -> Any:
        """The decoded frame, or None where the file has a hole; the next one is kept."""
        number = self._held[0] if self._held is not None else -1
        if self._frames is None or number > index or self._is_far(number, index):
            self._start(index)
        frame = self._advance(index)
        if frame is None and self._first > 0:
            # The seek promised this frame, so the seek or the file is wrong: the start decides.
            self._start(0)
            frame = self._advance(index)
            self._may_seek = frame is None
        if frame is None and self._num_doubts < _MOST_DOUBTS:
            # A hole, unless the frame comes behind later ones: then its packet's time is wrong.
            # Threads of a frame each lose frames around a damaged one.
            self._num_doubts += 1
            self._threads = "SLICE"
            self._start(0)
            self._advance(index + _MOST_REORDERED)
            self._start(0)
            frame = self._advance(index)
        return frame

    def _is_far(self, number: int, index: int) -> bool:
        """Whether a seek leads to a frame sooner than decoding on."""
        return self._may_seek and number < index - 300

    def _advance(self, index: int) -> Any:
        """Decode up to a frame; None when a later one comes, or none."""
        number, frame = self._held if self._held is not None else (-1, None)
        while number < index:
            assert self._frames is not None
            try:
                number, frame = next(self._frames)
            except StopIteration:
                return None
            except _WrongTimesError:
                logger.debug("%s: the times are not those of presentation", self.path)
                self._is_timed = self._may_seek = False
                self._start(0)
                number, frame = -1, None
                continue
            self._held = (number, frame)
        return frame if number == index else None

    def _start(self, index: int) -> None:
        """Begin to decode at the last key frame before a frame, or at the first."""
        if index > 0 and self._may_seek:
            last = self._index.key_before(index)
            # Some seeks land behind the packet that they were asked for: then further ahead.
            for place in dict.fromkeys((last, max(0, last - 1), max(0, last - 4))):
                if place > 0 and self._seek(self._index.keys[place]):
                    return
        self._reopen()
        self._first = 0
        packets = enumerate(self._demux())
        self._frames = self._decode(packets)

    def _reopen(self) -> None:
        self.close()
        self._container = self._open()
        self._video().thread_type = self._threads

    def _seek(self, key: tuple[int, int]) -> bool:
        """Stand before a key frame's packet; False where the container does not lead there."""
        self._first, wanted = key
        packet = self._index.packets[wanted]
        for time in dict.fromkeys((packet.pts, packet.dts)):
            if time is None:
                continue
            self._reopen()
            try:
                self._container.seek(time, stream=self._video(), backward=True)
            except self._av.FFmpegError:
                continue
            packets = self._demux()
            for packet in packets:
                found = self._index.place(_describe(packet))
                if found is not None:
                    break
            else:
                continue
            if found <= wanted:
                rest = enumerate(itertools.chain([packet], packets), start=found)
                # Frames before the key frame need what the seek has passed over.
                self._frames = self._decode(pair for pair in rest if pair[0] >= wanted)
                return True
        return False

    def _demux(self) -> Iterator[Any]:
        """Packets with content, then the empty one that empties the decoder."""
        packets = self._container.demux(self._video())
        while True:
            try:
                packet = next(packets, None)
            except self._av.FFmpegError:  # the break in a damaged file
                packet = self._av.Packet()  # what the decoder holds comes out
                packet.stream = self._video()
                yield packet
                return
            if packet is None:
                return
            if packet.size or packet.dts is None:
                yield packet

    def _decode(self, packets: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers; a damaged packet loses its own frame and not those behind it.

        packets: with their places in the index. Raises _WrongTimesError where frames of a whole
        file come in another order than their numbers: then times do not tell those.
        """
        last, is_damaged = self._first - 1, False
        for place, packet in packets:
            if packet.size:
                # The number travels through the decoder in place of the time.
                packet.pts = self._index.ranks[place] if place < len(self._index.ranks) else UNSHOWN
                packet.dts = place
            try:
                frames = packet.decode()
            except self._av.FFmpegError as error:
                logger.debug("%s: a damaged packet: %s", self.path, error)
                is_damaged = True
                continue
            for frame in frames:
                number = frame.pts
                if number == UNSHOWN:
                    continue
                if number is None or not self._is_timed:
                    number = last + 1
                if number <= last:
                    if not is_damaged and number >= self._first:
                        raise _WrongTimesError
                    continue
                last = number
                yield number, frame

    def close(self) -> None:
        """Let go of the file; a later read opens it again."""
        self._frames, self._held = None, None
        if self._container is not None:
            self._container.close()
            self._container = None


class _WrongTimesError(Exception):
    """Frames do not come out of the decoder in the order of their packets' times."""


def _describe(packet: Any) -> Packet:
    return Packet(
        position=packet.pos,
        size=packet.size,
        pts=packet.pts,
        dts=packet.dts,
        is_key=packet.is_keyframe,
        is_discarded=packet.is_discard,
    )


def _is_cover(av: Any, stream: Any) -> bool:
    """Whether a stream of video is the one picture that sound has for its cover."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _states_times(format_name: str) -> bool:
    """Whether a container says when a frame is shown; AVI and bare streams know decoding only."""
    return bool({"mp4", "mpegts", "flv"} & set(format_name.split(",")))


def evenly_spread(num: int, at_most: int) -> Sequence[int]:
    """At most so many of the places 0 … num - 1, in the middles of equal stretches."""
    count = min(num, at_most)
    return [int((place + 0.5) * num / count) for place in range(count)]

"""Write video: pictures into finished parts, the parts joined into one file, sound copied.

A run that is stopped leaves its finished parts in the folder OUT.parts; the next run of the same
work goes on behind them. The file itself appears whole, at the end, and the parts go.
"""

import hashlib
import heapq
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import ImageError, UsageError
from dptcli.results.files import atomic_path, place_new, place_over, placing, write_text
from dptcli.video.read import Clip, import_av
from dptcli.video.spherical import MATROSKA_MODES, Views, mark_views

# The containers we write, and their codec: what browsers, editors and players open.
CODECS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    # No B-frames: packets come in the order of their times, so that parts join without decoding.
    **dict.fromkeys(
        (".mp4", ".m4v", ".mov", ".mkv"),
        ("libx264", {"crf": "18", "preset": "veryfast", "bf": "0"}),
    ),
    ".webm": ("libvpx-vp9", {"crf": "28", "b": "0", "deadline": "realtime", "cpu-used": "6"}),
}
TIME_BASE = Fraction(1, 90000)  # fine enough for 29.97 and 23.976 frames a second
FRAMES_PER_PART = 200


def check_video_name(out: Path) -> None:
    """Raise UsageError when no video of this ending can be written."""
    if out.suffix.lower() not in CODECS:
        raise UsageError(
            f"cannot write {out.suffix} video; name one of {' '.join(sorted(CODECS))}, "
            f"e.g. -o {out.with_suffix('.mp4')}"
        )


class VideoWriter:
    """Pictures in order of time -> parts -> one video file.

    work: what tells this run from another (input, model, options); parts of other work are
    dropped. `done` is how many frames of the work the finished parts cover. views: how frames hold
    two views, which the file then says.
    """

    def __init__(
        self,
        out: Path,
        *,
        fps: Fraction,
        work: Mapping[str, object],
        views: Views | None = None,
    ) -> None:
        """Take up the finished parts of the same work, or begin. Raises ImageError."""
        self.out = out
        self._views = views
        self.folder = out.with_name(f"{out.name}.parts")
        self._av = import_av()
        self._fps = fps
        self._codec, self._options = CODECS[out.suffix.lower()]
        self._container: Any = None
        self._stream: Any = None
        self._num_open = 0
        self.done = 0
        self.hw: tuple[int, int] | None = None
        self.facts: dict[str, Any] = {}
        digest = hashlib.sha256(json.dumps(work, sort_keys=True, default=str).encode()).hexdigest()
        self._state: dict[str, Any] = {"work": digest, "parts": [], "facts": {}}
        self._replaces = out.exists()  # whoever calls has asked whether it may go
        self._held: int | None = None
        self._take_up()

    def _take_up(self) -> None:
        if (self.folder / "state.json").exists():
            self._hold()
        try:
            state = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
            if state["work"] == self._state["work"]:
                self._state = state
                self.facts = state["facts"]
                self.done = max((part["stop"] for part in state["parts"]), default=0)
                self.hw = tuple(state["hw"]) if self.done else None
                return
        except (OSError, ValueError, KeyError, TypeError):
            pass
        # Only what is ours: a folder that somebody else made under this name is not emptied.
        if self.folder.exists() and not (self.folder / "state.json").exists():
            if any(self.folder.iterdir()):
                raise UsageError(f"{str(self.folder)!r} is in the way; move it elsewhere")
        elif self.folder.exists():
            shutil.rmtree(self.folder)
            self._let_go()

    def _let_go(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _hold(self) -> None:
        """Keep other runs out of the parts while this process lives. Raises UsageError."""
        if self._held is not None and self.folder.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            import fcntl
        except ImportError:  # Windows
            return
        self._let_go()  # of a folder that was removed
        self._held = os.open(self.folder / "lock", os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._let_go()
            raise UsageError(
                f"another run is writing {str(self.out)!r}; wait for it, or name another file"
            ) from None
        except OSError:  # a disk without locks
            return

    def remember(self, **facts: object) -> None:
        """Keep facts that a resumed run needs, such as the clip's range."""
        self.facts.update(facts)
        self._state["facts"] = self.facts
        self._save_state()

    def write(self, place: int, picture: NDArray[np.uint8], *, seconds: Fraction) -> None:
        """Add a picture, RGB uint8 (H, W, 3), the work's place-th frame, shown from `seconds` on.

        Raises ImageError when its size is not the first one's, and OSError when it cannot be
        written.
        """
        hw = (picture.shape[0], picture.shape[1])
        if self.hw is not None and hw != self.hw:
            raise ImageError(
                f"is {hw[0]}x{hw[1]} and the video {self.hw[0]}x{self.hw[1]}; frames need one "
                "size, e.g. with --target-size HEIGHTxWIDTH"
            )
        self.hw = hw
        if self._container is None:
            self._begin(hw, self.done)
        # Codecs halve the colour's resolution, so sides are even: the last row or column repeats.
        even = np.pad(picture, ((0, hw[0] % 2), (0, hw[1] % 2), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709"
        )
        frame.pts = round(seconds / TIME_BASE)
        frame.time_base = TIME_BASE
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
            self._num_open += 1
            self._next = place + 1
            if self._num_open >= FRAMES_PER_PART:
                self.finish_part()
        except self._av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error

    def _begin(self, hw: tuple[int, int], place: int) -> None:
        self._save_state()  # by which the folder is known as ours
        self._part = self.folder / f"{place:08d}.nut"  # NUT keeps any time base as it is
        self._container = self._av.open(str(self._part), "w", format="nut")
        stream = self._container.add_stream(self._codec, rate=self._fps, options=self._options)
        stream.height, stream.width = hw[0] + hw[0] % 2, hw[1] + hw[1] % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = TIME_BASE
        context = stream.codec_context
        context.flags |= 1 << 22  # global header: the parts share one, as MP4 wants
        context.color_range, context.colorspace = 1, 1  # limited range, BT.709
        context.color_primaries, context.color_trc = 1, 1
        self._stream, self._num_open = stream, 0

    def finish_part(self) -> None:
        """Close the open part and note it as finished."""
        if self._container is None:
            return
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
        self._container = None
        self._state["parts"].append({"file": self._part.name, "stop": self._next})
        self._state["hw"] = self.hw
        self.done = self._next
        self._save_state()

    def _save_state(self) -> None:
        self._hold()
        write_text(self.folder / "state.json", json.dumps(self._state))

    @property
    def is_empty(self) -> bool:
        """Whether there is not one frame."""
        return self._container is None and not self._state["parts"]

    def finish(self, *, sound_of: Clip | None = None, start: Fraction, stop: Fraction) -> None:
        """Join the parts into the file and remove them.

        sound_of: the clip whose sound between two times (its own seconds) is copied.
        Raises ImageError where the container cannot hold the sound or the file cannot be written.
        """
        self.finish_part()
        try:
            with (
                # What has come since is another run's.
                placing(place_over if self._replaces else place_new),
                atomic_path(self.out) as temporary,
            ):
                with self._open_joined(temporary) as joined:
                    self._join(joined, sound_of, start, stop)
                if self._views is not None and _format(self.out) in {"mp4", "mov"}:
                    mark_views(temporary, self._views)
        except (self._av.FFmpegError, OSError) as error:
            reason = error.strerror or str(error)
            raise ImageError(f"cannot write {str(self.out)!r}: {reason}") from error
        finally:
            self._let_go()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _open_joined(self, path: Path) -> Any:
        # The index in front: a web page plays the file while it comes, and a cut one still opens.
        options = {"movflags": "+faststart"} if _format(self.out) in {"mp4", "mov"} else {}
        return self._av.open(str(path), "w", format=_format(self.out), options=options)

    def _join(self, joined: Any, sound_of: Clip | None, start: Fraction, stop: Fraction) -> None:
        with self._av.open(str(self.folder / self._state["parts"][0]["file"])) as first:
            video = joined.add_stream_from_template(first.streams.video[0])
            video.time_base = TIME_BASE
            if self._views is not None and _format(self.out) in {"matroska", "webm"}:
                video.metadata["stereo_mode"] = MATROSKA_MODES[self._views.layout]
        tracks = [self._video_packets(video)]
        if sound_of is not None and sound_of.has_audio:
            sound = self._add_sound(joined, sound_of)
            tracks.append(_sound_packets(self._av, sound, sound_of, start, stop))
        # By time, so that a player finds sound and picture of a moment beside each other.
        for _seconds, packet in heapq.merge(*tracks, key=itemgetter(0)):
            joined.mux(packet)

    def _video_packets(self, stream: Any) -> Iterator[tuple[Fraction, Any]]:
        for part in self._state["parts"]:
            with self._av.open(str(self.folder / part["file"])) as container:
                for packet in container.demux(video=0):
                    if packet.size:
                        seconds = packet.pts * packet.time_base
                        packet.stream = stream
                        yield seconds, packet

    def _add_sound(self, joined: Any, clip: Clip) -> Any:
        with self._av.open(str(clip.path)) as container:
            try:
                return joined.add_stream_from_template(container.streams.audio[0])
            except (ValueError, self._av.FFmpegError) as error:
                name = container.streams.audio[0].codec_context.name
                raise ImageError(
                    f"{self.out.suffix} cannot hold the clip's {name} sound; name a .mkv file, or "
                    "leave --audio out"
                ) from error

    def abandon(self) -> None:
        """Leave the open part, which is not finished, and keep the finished ones."""
        if self._container is not None:
            self._container.close()
            self._container = None
            self._part.unlink(missing_ok=True)
        if not self._state["parts"]:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._let_go()


def _sound_packets(
    av: Any, track: Any, clip: Clip, start: Fraction, stop: Fraction
) -> Iterator[tuple[Fraction, Any]]:
    """The packets of sound between two times as they are, moved to the new zero."""
    with av.open(str(clip.path)) as container:
        stream = container.streams.audio[0]
        shift = round(start / stream.time_base)
        try:
            for packet in container.demux(stream):
                if packet.pts is None or not start <= packet.pts * stream.time_base < stop:
                    continue
                packet.pts -= shift
                packet.dts = packet.pts
                seconds = packet.pts * stream.time_base
                packet.stream = track
                yield seconds, packet
        except av.FFmpegError:
            return  # the clip breaks off here; the sound before it stays


def _format(out: Path) -> str:
    return {".mkv": "matroska", ".webm": "webm", ".mov": "mov"}.get(out.suffix.lower(), "mp4")

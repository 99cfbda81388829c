"""A camera's frames as they come: the newest alone, or a file's, one after another."""

import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import UsageError

RGB = NDArray[np.uint8]

_MISSES = 10  # a camera may lose a frame; this many in a row and it is gone
_PAUSE_S = 0.02  # between those
_PATIENCE_S = 1.0  # how long an end waits for a read that hangs in the network


class Frames(Protocol):
    """Frames on demand."""

    @property
    def ended(self) -> bool:
        """Whether no more will come."""

    def read(self, wait_s: float) -> RGB | None:
        """The next frame, RGB uint8 (H, W, 3); None where none came in time, or at the end."""

    def close(self) -> None:
        """Let the camera go."""


class FramesInOrder:
    """Every frame of a file, read when it is asked for."""

    def __init__(self, capture: Any) -> None:
        self._capture = capture
        self.ended = False

    def read(self, wait_s: float) -> RGB | None:  # noqa: ARG002 (a file does not keep one waiting)
        """Return the next frame; None at the end."""
        came, frame = self._capture.read()
        if not came:
            self.ended = True
            return None
        return _rgb(frame)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class NewestFrames:
    """The newest frame of a camera: a thread reads all, and those that nobody took are dropped.

    A camera's driver queues frames; a network slower than the camera would show the past.
    """

    def __init__(self, capture: Any) -> None:
        self._capture = capture
        self._newest: Any = None
        self._is_closing = self._is_gone = False
        self._changed = threading.Condition()
        # A read may hang for ever where a network camera went away: the process ends all the same.
        self._reader = threading.Thread(target=self._read_all, name="dpt-camera", daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        """Whether the camera gives no more, and the last frame has been taken."""
        return self._is_gone and self._newest is None

    def read(self, wait_s: float) -> RGB | None:
        """Return the newest frame that was not taken yet; None where none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._is_gone, wait_s)
            frame, self._newest = self._newest, None
        return None if frame is None else _rgb(frame)

    def close(self) -> None:
        """Stop reading; the thread lets the camera go, which must not happen while it reads."""
        self._is_closing = True
        self._reader.join(_PATIENCE_S)

    def _read_all(self) -> None:
        misses = 0
        try:
            while not self._is_closing and misses < _MISSES:
                came, frame = self._capture.read()
                if not came:
                    misses += 1
                    time.sleep(_PAUSE_S)
                    continue
                misses = 0
                with self._changed:
                    self._newest = frame
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._is_gone = True
                self._changed.notify_all()
            self._capture.release()


class Camera:
    """An open camera, closed at the end of the block.

    name: its number, its device, an address, or a video file, whose frames are all read in order.
    Raises UsageError where OpenCV cannot open it.
    """

    def __init__(self, name: str) -> None:
        # OpenCV and FFmpeg would say on standard error what becomes one line here.
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        import cv2

        # isdecimal: "²" is a digit and no number.
        capture = cv2.VideoCapture(int(name) if name.isdecimal() and len(name) < 10 else name)
        if not capture.isOpened():
            capture.release()
            raise UsageError(
                f"--camera {name!r} cannot be opened; give a number (0 is the first), a device "
                "like /dev/video0 that you may read and no other program holds, an address "
                "(rtsp://, http://) or a video file"
            )
        self.is_file = Path(name).is_file()
        self.frames: Frames = FramesInOrder(capture) if self.is_file else NewestFrames(capture)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.frames.close()


def _rgb(frame: NDArray[np.uint8]) -> RGB:
    """OpenCV's blue, green, red -> RGB."""
    return np.ascontiguousarray(frame[:, :, ::-1])

"""Where moving pictures are drawn: a window where there is a display, else the terminal."""

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

from dptcli.cli.terminal.console import stderr_console
from dptcli.cli.terminal.preview import blocks
from dptcli.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

_ESCAPE = 27
_PATIENCE_S = 20  # for a display, which may be far away
_LARGEST = (1280, 800)  # of a window when it opens; it can be drawn larger


class Screen(Protocol):
    """Shows one RGB picture after another."""

    hint: str

    @property
    def is_closed(self) -> bool:
        """Whether the person who looks has had enough; a window answers to them here."""

    def show(self, picture: "Image.Image") -> None:
        """Draw the next picture."""

    def close(self) -> None:
        """Leave the last picture, or take the window away."""


def open_screen(title: str) -> Screen:
    """Return a window, or the terminal. Raises UsageError where there is neither."""
    has_display = _has_display()
    if has_display and _draws_windows():
        return _Window(title)
    if sys.stderr.isatty():
        return _Terminal("no window could be opened; " if has_display else "")
    raise UsageError(
        "--show has no place to draw in: standard error is no terminal, and there is no window "
        "without a display (DISPLAY) and opencv-python; run it in a terminal"
    )


def _has_display() -> bool:
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _draws_windows() -> bool:
    """Whether OpenCV opens a window here, tried in another process.

    opencv-python-headless cannot, and opencv-python ends the process where it cannot reach the
    display: that of an earlier login, or of Wayland alone.
    """
    program = "import cv2; cv2.namedWindow('dpt')"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0


class _Window:
    """Opens with its first picture: until then nobody would answer to who closes it."""

    hint = "q, Esc or Ctrl-C ends it"

    def __init__(self, title: str) -> None:
        # Qt would complain on standard error of fonts that no picture needs.
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
        self._title, self._is_open = title, False

    @property
    def is_closed(self) -> bool:
        import cv2

        if not self._is_open:
            return False
        # waitKey is also what lets the window draw itself. Systems add bits above the letter's.
        if cv2.waitKey(1) & 0xFF in (ord("q"), _ESCAPE):
            return True
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # Qt's, where the last window was closed
            return True

    def show(self, picture: "Image.Image") -> None:
        import cv2
        import numpy as np

        if not self._is_open:
            # GUI_NORMAL: without Qt's row of buttons, which takes from the picture's height.
            flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
            cv2.namedWindow(self._title, flags)
            most = zip(_LARGEST, picture.size, strict=True)
            scale = min(1.0, *(side / wanted for side, wanted in most))
            cv2.resizeWindow(self._title, *(max(1, round(side * scale)) for side in picture.size))
            self._is_open = True
        cv2.imshow(self._title, np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]))

    def close(self) -> None:
        import cv2

        cv2.destroyAllWindows()


class _Terminal:
    is_closed = False

    def __init__(self, why: str) -> None:
        from rich.live import Live

        self.hint = f"{why}Ctrl-C ends it"
        self._console = stderr_console()
        self._live = Live(console=self._console, auto_refresh=False)
        self._is_on = False

    def show(self, picture: "Image.Image") -> None:
        if not self._is_on:
            self._live.start()
            self._is_on = True
        # A line is left for the cursor: a picture that scrolls could not be drawn over.
        text = blocks(picture, self._console, max_rows=self._console.height - 2)
        self._live.update(text, refresh=True)

    def close(self) -> None:
        if self._is_on:
            self._live.stop()

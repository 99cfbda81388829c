"""Pictures in the terminal: two pixels a character cell, in colour where the terminal has it."""

import os
import sys
import threading
from typing import TYPE_CHECKING

from dptcli.cli.terminal.console import stderr_console

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console
    from rich.text import Text

MAX_SHOWN = 4  # a screenful; the gallery shows the rest
_KEPT_SIZE = (240, 160)
_MAX_COLUMNS, _MAX_ROWS = 80, 30
_RAMP = " .:-=+*#%@"  # from dark to bright, where there is no colour


class Preview:
    """Keeps small copies of the first results and shows them when the run has ended."""

    def __init__(self) -> None:
        self._kept: list[tuple[str, Image.Image]] = []
        self._lock = threading.Lock()

    def keep(self, name: str, picture: "Image.Image") -> None:
        """Take a result, from any thread."""
        import numpy as np
        from PIL import Image

        with self._lock:
            if len(self._kept) < MAX_SHOWN:
                if picture.mode.startswith("I"):  # Pillow would clip 16 bits, not scale them
                    picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
                small = picture.reduce(max(1, picture.width // (2 * _KEPT_SIZE[0])))
                small = small.convert("RGB")
                small.thumbnail(_KEPT_SIZE)
                self._kept.append((name, small))

    def show(self) -> None:
        """Draw what was kept on standard error, if that is a terminal."""
        if not sys.stderr.isatty():
            return
        console = stderr_console()
        for name, picture in self._kept:
            console.print(name, markup=False)
            console.print(blocks(picture, console))


def blocks(picture: "Image.Image", console: "Console", *, max_rows: int = _MAX_ROWS) -> "Text":
    """Return an RGB picture as text for the console: half-blocks, or letters without colour."""
    from PIL import Image
    from rich.style import Style
    from rich.text import Text

    columns = min(console.width, _MAX_COLUMNS)
    # A cell is about twice as high as wide: two square pixels.
    rows = max(1, round(columns * picture.height / picture.width / 2))
    max_rows = max(1, min(max_rows, _MAX_ROWS))
    if rows > max_rows:
        columns, rows = max(1, columns * max_rows // rows), max_rows
    text = Text(no_wrap=True)
    if os.environ.get("NO_COLOR") or console.color_system is None:
        grey = picture.convert("L").resize((columns, rows), Image.Resampling.BOX)
        levels = grey.tobytes()
        lines = (levels[row * columns : (row + 1) * columns] for row in range(rows))
        return text.append(
            "\n".join("".join(_RAMP[level * len(_RAMP) // 256] for level in line) for line in lines)
        )
    pixels = picture.resize((columns, 2 * rows), Image.Resampling.BOX).tobytes()
    for row in range(rows):
        for column in range(columns):
            upper, lower = (
                pixels[(line * columns + column) * 3 :][:3] for line in (2 * row, 2 * row + 1)
            )
            style = Style(color=f"#{upper.hex()}", bgcolor=f"#{lower.hex()}")
            text.append("▀", style)
        text.append("\n" if row + 1 < rows else "")
    return text

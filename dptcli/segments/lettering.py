"""Fonts that have the letters of a text: Pillow's own knows little more than ASCII."""

import logging
import subprocess
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

logger = logging.getLogger(__name__)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_NO_CHARACTER = "\uffff"  # by definition none, so that every font shows its box for it
# Faces for running text come first, whatever order a machine lists its fonts in.
_LESS_LIKELY = ("bold", "black", "heavy", "italic", "oblique", "mono", "condensed", "serif", "thin")


def lettering(names: Iterable[str], size: int) -> dict[str, tuple[str, Font]]:
    """Return what to write for each name, and in which font.

    Where no font of this machine has a name's letters, those are written as their code points; a
    warning says so.
    """
    names = list(names)
    common = _font_with(_letters(names), size)
    shown: dict[str, tuple[str, Font]] = {}
    poor = []
    for name in names:
        font = common or _font_with(_letters([name]), size)
        if font is None:
            poor.append(name)
            shown[name] = _spelled(name, size), ImageFont.load_default(size)
        else:
            shown[name] = name, font
    if poor:
        logger.warning(
            "no font here has the letters of %s%s; the legend shows their code points (a package "
            "such as fonts-noto-cjk brings more letters)",
            repr(poor[0]),
            f" and {len(poor) - 1} more names" if len(poor) > 1 else "",
        )
    return shown


def _letters(names: Iterable[str]) -> str:
    """The different characters that need a glyph, in one order."""
    return "".join(sorted({c for name in names for c in name if unicodedata.category(c)[0] != "Z"}))


@lru_cache(maxsize=1024)
def _font_with(letters: str, size: int) -> Font | None:
    own = ImageFont.load_default(size)  # Pillow brings it: the same picture everywhere
    if letters.isascii() or _has(own, letters):
        return own
    for path in _candidates(letters):
        try:
            font = ImageFont.truetype(str(path), size)
            if _has(font, letters):
                return font
        except OSError:  # a font of pictures, or a broken one
            continue
    return None


def _spelled(name: str, size: int) -> str:
    own = ImageFont.load_default(size)
    return "".join(c if _has(own, c) else f"[{ord(c):04X}]" for c in name)


def _has(font: Font, letters: str) -> bool:
    box = _image(font, _NO_CHARACTER)
    return all(c == " " or _image(font, c) != box for c in letters)


def _image(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def _candidates(letters: str) -> Iterator[Path]:
    import matplotlib as mpl

    yield Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    yield from sorted(_listed_by_fontconfig(letters), key=_unlikeliness)
    from matplotlib.font_manager import findSystemFonts

    yield from sorted(map(Path, findSystemFonts()), key=_unlikeliness)


def _listed_by_fontconfig(letters: str) -> list[Path]:
    pattern = ":charset=" + " ".join(f"{ord(c):x}" for c in letters)
    try:
        found = subprocess.run(
            ["fc-list", pattern, "file"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [Path(line.rstrip(": ")) for line in found.splitlines() if line.strip()]


def _unlikeliness(path: Path) -> tuple[int, bool, str]:
    name = path.name.lower()
    return sum(word in name for word in _LESS_LIKELY), "sans" not in name, str(path)

"""What is asked of the reading of one picture, and what there is to say about it."""

import importlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType

from PIL import Image

from dptcli.errors import ImageError, PixelLimitError
from dptcli.inputs.geotiff import Place
from dptcli.inputs.gpano import Gpano

logger = logging.getLogger(__name__)

# Where Pillow itself refuses (twice its MAX_IMAGE_PIXELS): up to here its global stays untouched.
DEFAULT_MAX_PIXELS = 178_956_970

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)

# How TIFF and EXIF count the eight ways a camera may be held.
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Wanted:
    """How pictures are read, the same for all of a run.

    max_pixels: refuse larger ones. levels: the values (black, white) of pictures of more than 8
    bits, in place of what each file says. page: which page or frame, counted from 1; None is the
    first. enough: (height, width) of a picture -> the size from which it will do; None is whole.
    """

    max_pixels: int = DEFAULT_MAX_PIXELS
    levels: tuple[float, float] | None = None
    page: int | None = None
    enough: Callable[[tuple[int, int]], tuple[int, int]] | None = None


@dataclass(frozen=True)
class About:
    """What was noticed about a picture, clauses that follow its name; its place on the ground.

    gpano: what it says of itself as a panorama. whole_hw, read_hw: its own size and that at which
    it was read, where that was smaller.
    """

    notes: tuple[str, ...] = ()
    place: Place | None = None
    gpano: Gpano | None = None
    whole_hw: tuple[int, int] | None = None
    read_hw: tuple[int, int] | None = None


NOTHING_NOTICED = About()

_ABOUT = "dpt about"


def about_of(picture: object) -> About:
    """What is known about a picture that was decoded here; nothing about others, and arrays."""
    found = picture.info.get(_ABOUT) if isinstance(picture, Image.Image) else None
    return found if isinstance(found, About) else NOTHING_NOTICED


def read_facts(about: About) -> dict[str, list[int]]:
    """What results say of how a photograph was read."""
    return {} if about.read_hw is None else {"read_hw": list(about.read_hw)}


@dataclass
class Reading:
    """One picture under way: its name for messages, what is wanted, what was noticed."""

    name: str
    wanted: Wanted = field(default_factory=Wanted)
    background: Colour = WHITE
    notes: list[str] = field(default_factory=list)
    place: Place | None = None
    gpano: Gpano | None = None
    whole_hw: tuple[int, int] | None = None

    def keep_about(self, picture: Image.Image) -> None:
        """Let a picture carry what was noticed; see about_of."""
        about = About(tuple(self.notes), self.place, self.gpano)
        if self.whole_hw is not None:
            read_hw = picture.height, picture.width
            about = replace(about, whole_hw=self.whole_hw, read_hw=read_hw)
        if about != NOTHING_NOTICED:
            picture.info[_ABOUT] = about

    def say(self, note: str) -> None:
        """Warn of something about the picture; a clause that follows its name."""
        self.notes.append(note)
        logger.warning("%s %s", self.name, note)

    def check_size(self, width: int, height: int) -> None:
        """Raise PixelLimitError for a picture above the limit, ImageError for none at all."""
        if width < 1 or height < 1:
            raise ImageError(f"{self.name} is damaged: it has {width} × {height} pixels")
        if width * height > self.wanted.max_pixels:
            raise self.too_large(f"{width} × {height} pixels")

    def too_large(self, size: str) -> PixelLimitError:
        return PixelLimitError(
            f"{self.name} has {size}, above the limit of {self.wanted.max_pixels:,}; "
            "raise it with --max-pixels (max_pixels= in Python) if you trust the file"
        )

    def choose_page(self, count: int, noun: str = "page") -> int:
        """Which of `count` pages to read, from 0; the others are said to be left out.

        Raises ImageError where there is no such page.
        """
        page = self.wanted.page or 1
        if page > count:
            have = f"{count} {noun}s" if count > 1 else f"one {noun}"
            raise ImageError(f"{self.name} has {have}, no {noun} {page}; give --page 1 to {count}")
        if count > 1:
            which = f"the first {noun}" if page == 1 else f"{noun} {page}"
            left_out = f"{count - 1} are left out" if count > 2 else "the other is left out"
            self.say(f"has {count} {noun}s: {which} is read, {left_out} (--page N)")
        return page - 1

    def extra(self, module: str, *, extra: str, kind: str) -> ModuleType:
        """Import the optional library that reads a kind of file. Raises ImageError without it."""
        if importlib.util.find_spec(module) is None:
            raise ImageError(
                f"{self.name} is {kind}, which needs {module.replace('_', '-')}; "
                f"pip install 'dptcli[{extra}]', or export it as PNG"
            )
        return importlib.import_module(module)

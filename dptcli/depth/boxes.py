"""Somebody else's detections: boxes in COCO's JSON or YOLO's text, by photograph."""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from dptcli.errors import ImageError, UsageError
from dptcli.inputs.decode import printable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Box:
    """left, top, right, bottom: shares of the upright photograph. score: the detector's, if any."""

    name: str
    left: float
    top: float
    right: float
    bottom: float
    score: float | None = None


@dataclass(frozen=True)
class Boxes:
    """Boxes of many photographs.

    listed: of a COCO file, {file name: its boxes as (name, x, y, width, height, score)} with sizes
    {file name: (height, width)} where it says them. texts: YOLO's file, or folder of NAME.txt.
    """

    origin: Path
    listed: Mapping[str, tuple[tuple[Any, ...], ...]] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    texts: Path | None = None
    classes: tuple[str, ...] = ()
    _told: list[PurePath] = field(default_factory=list, init=False, repr=False, compare=False)

    def of(self, photo: PurePath, source_hw: tuple[int, int]) -> list[Box]:
        """Return the boxes of a photograph, by its path in the run; none is an empty list.

        source_hw: of the upright photograph. Raises ImageError for boxes of another size, for a
        photograph that may be one of several, and for a text that is no YOLO.
        """
        if self.texts is not None:
            return self._from_text(photo)
        key = self._key_of(photo)
        if key is None:
            self._tell_unlisted(photo)
            return []
        height, width = self.sizes.get(key, source_hw)
        if abs(width * source_hw[0] - height * source_hw[1]) > 0.02 * width * source_hw[0]:
            raise ImageError(
                f"{printable(self.origin)} says that {key} is {width} × {height} (width × height), "
                f"and upright it is {source_hw[1]} × {source_hw[0]}; detect on the upright picture"
            )
        return [
            Box(name, x / width, y / height, (x + w) / width, (y + h) / height, score)
            for name, x, y, w, h, score in self.listed[key]
        ]

    def _key_of(self, photo: PurePath) -> str | None:
        """What a COCO file calls a photograph; None where it does not know it."""
        for key in _names(photo):
            if key in self.listed:
                return key
        # Its names may begin above the run's folder: images/a.jpg.
        ending = f"/{photo.as_posix()}"
        longer = [key for key in self._by_name.get(photo.name, ()) if key.endswith(ending)]
        if len(longer) > 1:
            raise ImageError(
                f"{printable(self.origin)} has boxes of {longer[0]!r} and of {longer[1]!r}, and "
                f"this {photo.as_posix()!r} may be either; name the folder where its names begin "
                "with --root"
            )
        return longer[0] if longer else None

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """{last part of a listed name: the names}, of those that have folders before it."""
        found: dict[str, list[str]] = {}
        for key in self.listed:
            found.setdefault(key.rpartition("/")[2], []).append(key)
        return found

    def _tell_unlisted(self, photo: PurePath) -> None:
        """Say once that a file does not know a photograph: its names may be others altogether."""
        if self.listed and not self._told:
            self._told.append(photo)
            logger.warning(
                "%s has no boxes of %s; its images are called %s and the like, and what it does "
                "not name is said to show nothing",
                printable(self.origin),
                printable(photo.as_posix()),
                printable(next(iter(self.listed))),
            )

    def _from_text(self, photo: PurePath) -> list[Box]:
        assert self.texts is not None
        path = self.texts
        if path.is_dir():
            # Of a folder that mirrors the photographs' tree no other's text of that name is it.
            mirrors = (path / photo.parent).is_dir()
            path = path / (photo.with_suffix(".txt") if mirrors else f"{photo.stem}.txt")
            if not path.is_file():  # YOLO writes no file where it sees nothing
                return []
        elif path.stem != photo.stem:
            raise ImageError(
                f"{printable(path)} is one photograph's, and this is {photo.name}; give the folder "
                "of such texts"
            )
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            return [_yolo(line, self.classes) for line in lines if line.strip()]
        except (OSError, ValueError) as error:
            raise ImageError(
                f"{printable(path)}: {error}; a line must be class x y width height [score], "
                "shares of the photograph"
            ) from error


def read_boxes(name: str) -> Boxes:
    """Read --boxes: a COCO file, a YOLO text, or a folder of them. Raises UsageError."""
    path = Path(name)
    if path.is_dir() or path.suffix.lower() == ".txt":
        if not path.exists():
            raise UsageError(f"--boxes: no such file: {printable(path)!r}")
        return Boxes(path, texts=path, classes=_class_names(path))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _coco(path, content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UsageError(
            f"--boxes {printable(path)!r} cannot be read ({reason}); give COCO's JSON, or YOLO's "
            "text or a folder of them"
        ) from error


def _coco(path: Path, content: Any) -> Boxes:
    whole = {"annotations": content} if isinstance(content, list) else content  # results alone
    names = {one["id"]: str(one["name"]) for one in whole.get("categories", [])}
    images = {one["id"]: one for one in whole.get("images", [])}
    listed: dict[str, list[tuple[Any, ...]]] = {
        str(one["file_name"]): [] for one in images.values()
    }
    sizes = {
        str(one["file_name"]): (int(one["height"]), int(one["width"]))
        for one in images.values()
        if one.get("height") and one.get("width")
    }
    for one in whole["annotations"]:
        x, y, width, height = (float(number) for number in one["bbox"])
        if not math.isfinite(x + y + width + height) or min(width, height) < 0:
            raise ValueError(f"the box {one['bbox']} is none")
        label, own = one.get("category_id"), one["image_id"]
        key = str(images[own]["file_name"]) if own in images else str(own)
        score = None if one.get("score") is None else float(one["score"])
        listed.setdefault(key, []).append(
            (names.get(label, str(label)), x, y, width, height, score)
        )
    return Boxes(path, listed={key: tuple(found) for key, found in listed.items()}, sizes=sizes)


def _yolo(line: str, classes: tuple[str, ...]) -> Box:
    label, *numbers = line.split()
    values = [float(number) for number in numbers]
    if len(values) not in (4, 5) or not all(math.isfinite(value) for value in values):
        raise ValueError(f"{line!r} has not four or five numbers")
    x, y, width, height = values[:4]
    if not (-0.5 <= x <= 1.5 and -0.5 <= y <= 1.5 and 0 <= width <= 2 and 0 <= height <= 2):
        raise ValueError(f"{line!r} is not in shares of the photograph")
    name = classes[int(label)] if label.isdecimal() and int(label) < len(classes) else label
    score = values[4] if len(values) == 5 else None
    return Box(name, x - width / 2, y - height / 2, x + width / 2, y + height / 2, score)


def _class_names(path: Path) -> tuple[str, ...]:
    folder = path if path.is_dir() else path.parent
    for file in (folder / "classes.txt", folder.parent / "classes.txt"):
        if file.is_file() and file != path:
            return tuple(file.read_text(encoding="utf-8-sig").split("\n"))
    return ()


def _names(photo: PurePath) -> Iterator[str]:
    """What a COCO file may call a photograph: its path, its name, its stem, its number."""
    yield photo.as_posix()
    yield photo.name
    yield photo.stem
    if photo.stem.isdecimal():
        yield str(int(photo.stem))

"""Label maps made ready for the eye: which classes to show, their shares, their outlines."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.colormaps import finite_range
from dptcli.errors import UsageError
from dptcli.segments.palettes import kinds_of, synonyms


def parse_classes(text: str, names: Mapping[int, str]) -> tuple[int, ...]:
    """Read --classes, names or ids separated by commas, as ids in ascending order.

    A name is any synonym of a class, in whatever case, or of the kind that several classes are of.
    Raises UsageError for one that the model does not know, with the nearest names.
    """
    known: dict[str, list[int]] = {}
    for label, kind in kinds_of(names).items():
        known.setdefault(kind, []).append(label)
    for label, name in names.items():
        for word in {name.casefold(), *synonyms(name)}:
            if label not in known.setdefault(word, []):
                known[word].append(label)
    found: set[int] = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        ids = known.get(word.casefold()) or known.get(" ".join(synonyms(word)))
        if ids is None and word.isdecimal() and int(word) in names:
            ids = [int(word)]
        if ids is None:
            close = difflib.get_close_matches(word.casefold(), known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else _some(names)
            raise UsageError(f"--classes: the model has no class {word!r}; {hint}")
        found.update(ids)
    if not found:
        raise UsageError(f"--classes {text!r} names no class, e.g. --classes sky,person")
    return tuple(sorted(found))


def _some(names: Mapping[int, str]) -> str:
    shown = [names[label] for label in sorted(names)]
    return f"its {len(shown)} classes are {', '.join(shown[:8])}{', …' if len(shown) > 8 else ''}"


def class_table(
    num_labels: int, kept: Sequence[int] | None, *, first_id: int = 0
) -> tuple[NDArray[np.uint8 | np.uint16], int | None]:
    """Return what pixel value each class id becomes in a mask, and the value of what is left out.

    first_id: the value of class 0. Left-out classes get 0 where that is free (first_id above 0),
    else the largest value of the pixel, 255 or 65535, which tools know as "ignore". Returns a table
    (num_labels,), uint8 if all values fit, else uint16.
    """
    top = first_id + num_labels - 1
    wide = top > 255 or (kept is not None and first_id == 0 and top == 255)
    ids = np.arange(first_id, top + 1)
    none = 0 if first_id > 0 else 65535 if wide else 255
    if kept is not None:
        ids = np.where(is_kept(num_labels, kept), ids, none)
    return ids.astype(np.uint16 if wide else np.uint8), None if kept is None else none


def is_kept(num_labels: int, kept: Sequence[int] | None) -> NDArray[np.bool_]:
    """Return for each class id whether it is shown, bool (num_labels,)."""
    if kept is None:
        return np.ones(num_labels, bool)
    return np.isin(np.arange(num_labels), kept)


def shares(labels: NDArray[np.integer]) -> dict[int, float]:
    """Return each class's share of the image's area, 0 … 1, by id, the largest first."""
    counts = np.bincount(labels.ravel())
    present = np.flatnonzero(counts)
    by_size = sorted(present, key=lambda label: -counts[label])
    return {int(label): float(counts[label]) / labels.size for label in by_size}


def describe_segments(
    depth: NDArray[np.floating], labels: NDArray[np.integer], names: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Say how large and how near each class of an image is, the largest first.

    depth: (H, W), inverse (large is near) or metres; labels: class ids (H, W). Returns [{"id",
    "class", "area": share of the image, "median_depth": of its pixels in the map's own unit,
    "relative_depth": where that lies between the image's smallest value, 0, and its largest, 1}].
    Not finite pixels do not count; a class without others has None for both.
    """
    low, high = finite_range(depth)
    span = max(high - low, 1e-12)
    found = []
    for label, share in shares(labels).items():
        own = depth[labels == label]
        own = own[np.isfinite(own)]
        median = float(np.median(own)) if own.size else None
        relative = None if median is None else round((median - low) / span, 6)
        found.append(
            {
                "id": label,
                "class": names.get(label, str(label)),
                "area": round(share, 6),
                "median_depth": median,
                "relative_depth": relative,
            }
        )
    return found


def outlines(labels: NDArray[np.integer], *, width: int | None = None) -> NDArray[np.bool_]:
    """Return the pixels within `width` of another class, bool (H, W).

    Both sides of a border are marked, each in its own class; the picture's rim is no border. width:
    by default a 400th of the short side, so that lines look alike at any size.
    """
    width = max(1, round(min(labels.shape) / 400)) if width is None else width
    found = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differ = np.diff(labels, axis=axis) != 0 if labels.shape[axis] > 1 else None
        if differ is None:
            continue
        size = labels.shape[axis]
        for step in range(width):
            # The border lies between places i and i+1; mark i-step and i+1+step.
            before = _along(axis, 0, max(0, size - 1 - step))
            after = _along(axis, 1 + step, size)
            found[before] |= differ[_along(axis, step, size - 1)]
            found[after] |= differ[_along(axis, 0, max(0, size - 1 - step))]
    return found


def _along(axis: int, start: int, stop: int) -> tuple[slice, slice]:
    piece = slice(start, stop)
    return (piece, slice(None)) if axis == 0 else (slice(None), piece)

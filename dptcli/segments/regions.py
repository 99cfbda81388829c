"""Regions of label maps in the forms that labelling tools read: COCO's run lengths and polygons."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]  # corners (N, 2) as x, y in pixels from the top left corner, not closed

# Polygons may leave the pixels' own edges by this much, and regions below this area are left out:
# a labelling tool wants a shape to drag, not every stair of every speck. Run lengths are exact.
TOLERANCE_PX = 0.75
MIN_AREA_PX = 16.0

_EAST, _SOUTH, _WEST, _NORTH = range(4)  # each is the former's right turn


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return COCO's counts of a mask (H, W): column by column, the first run is of zeros."""
    flat = np.asarray(mask).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return [0, *counts] if flat.size and flat[0] else counts


def from_run_lengths(counts: Sequence[int], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask (H, W) of COCO's counts."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(hw[::-1]).T


def compress(counts: Sequence[int]) -> str:
    """Return COCO's text form of counts: differences to the count before last, 5 bits a letter."""
    letters = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            bits = value & 0x1F
            value >>= 5
            done = value == (-1 if bits & 0x10 else 0)
            letters.append(chr(48 + (bits if done else bits | 0x20)))
            if done:
                break
    return "".join(letters)


def coco(
    labels: NDArray[np.integer],
    names: Mapping[int, str],
    *,
    file_name: str,
    shape: Literal["rle", "polygons"] = "rle",
    first_id: int = 0,
    info: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Return a COCO data set of one image.

    labels: ids (H, W); classes without a name are left out. "rle": one annotation a class, exact.
    "polygons": one a connected region, simplified, holes joined to the outline by a seam.
    first_id: the category id of class 0.
    """
    height, width = labels.shape
    annotations: list[dict[str, Any]] = []
    for label in np.unique(labels).tolist():
        if label not in names:
            continue
        mask = labels == label
        for found in _rle(mask) if shape == "rle" else _polygons(mask):
            ids = {"id": len(annotations) + 1, "image_id": 1, "category_id": label + first_id}
            annotations.append({**ids, **found, "iscrowd": 0})
    return {
        "info": dict(info or {}),
        "images": [{"id": 1, "file_name": file_name, "height": height, "width": width}],
        "categories": [{"id": label + first_id, "name": names[label]} for label in sorted(names)],
        "annotations": annotations,
    }


def _rle(mask: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    yield {
        "segmentation": {"size": list(mask.shape), "counts": compress(run_lengths(mask))},
        "area": int(mask.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
    }


def _polygons(mask: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    for ring in polygons(mask):
        left, top = ring.min(0)
        width, height = ring.max(0) - ring.min(0)
        yield {
            "segmentation": [ring.ravel().tolist()],
            "area": abs(_signed_area(ring)),
            "bbox": [float(left), float(top), float(width), float(height)],
        }


def polygons(
    mask: NDArray[np.bool_], *, tolerance: float = TOLERANCE_PX, min_area: float = MIN_AREA_PX
) -> list[Ring]:
    """Return one polygon for each 4-connected region of a mask (H, W), large ones first.

    A hole is joined to its region's outline by a seam that is walked there and back, which encloses
    nothing. tolerance: how far a corner may be moved away, in pixels; 0 keeps every pixel's edge.
    """
    rings = [(ring, _signed_area(ring)) for ring in trace(mask)]
    rings = [(ring, area) for ring, area in rings if abs(area) >= min_area]
    outer = sorted((item for item in rings if item[1] > 0), key=lambda item: item[1])
    holes: list[list[Ring]] = [[] for _ in outer]
    for hole, area in rings:
        if area < 0:
            # A hole's first corner is its top left one: the pixel left of it is the region's.
            inside = hole[0] + (-0.5, 0.5)
            homes = (i for i, (ring, _) in enumerate(outer) if _contains(ring, inside))
            holes[next(homes)].append(hole)
    found = []
    for (ring, _), own in zip(outer, holes, strict=True):
        joined = simplify(ring, tolerance)
        for hole in own:
            joined = _join(joined, simplify(hole, tolerance))
        found.append(joined)
    return found[::-1]


def trace(mask: NDArray[np.bool_]) -> list[Ring]:
    """Return the closed lines between a mask (H, W) and the rest, along the pixels' edges.

    The region lies to the right of each line: outlines have positive area, holes negative.
    """
    padded = np.pad(np.asarray(mask, bool), 1)
    above, below = padded[:-1, 1:], padded[1:, 1:]
    before, after = padded[1:, :-1], padded[1:, 1:]
    # At each corner, one bit for each direction in which a line leaves it.
    leaving = np.zeros((padded.shape[0] - 1, padded.shape[1] - 1), np.uint8)
    leaving |= (below & ~above).astype(np.uint8) << _EAST
    leaving |= (before & ~after).astype(np.uint8) << _SOUTH
    leaving[:, 1:] |= (above & ~below)[:, :-1].astype(np.uint8) << _WEST
    leaving[1:] |= (after & ~before)[:-1].astype(np.uint8) << _NORTH
    width = leaving.shape[1]
    steps = (1, width, -1, -width)
    starts = np.flatnonzero(leaving).tolist()
    field = bytearray(leaving.tobytes())
    rings = []
    for start in starts:
        while field[start]:
            rings.append(_walk(field, start, steps, width))
    return rings


def _walk(field: bytearray, start: int, steps: tuple[int, ...], width: int) -> Ring:
    """Follow one line to its start, taking its bits away; only corners are kept."""
    place, heading = start, -1
    corners = []
    while True:
        bits = field[place]
        right = (heading + 1) % 4
        # Where two regions touch at a corner, the right turn stays with the own one.
        if heading < 0:
            turn = (bits & -bits).bit_length() - 1
        elif bits >> right & 1:
            turn = right
        elif bits >> heading & 1:
            turn = heading
        else:
            turn = (heading + 3) % 4
        if turn != heading:
            corners.append((place % width, place // width))
        field[place] &= ~(1 << turn)
        heading = turn
        place += steps[turn]
        if place == start and not field[start] >> ((heading + 1) % 4) & 1:
            return np.array(corners, np.float64)


def simplify(ring: Ring, tolerance: float) -> Ring:
    """Leave out corners within `tolerance` of the line without them (Douglas and Peucker, 1973)."""
    if tolerance <= 0 or len(ring) <= 4:
        return ring
    far = int(((ring - ring[0]) ** 2).sum(1).argmax())
    closed = np.concatenate((ring, ring[:1]))
    keep = np.zeros(len(closed), bool)
    keep[[0, far, len(ring)]] = True
    todo = [(0, far), (far, len(ring))]
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        line = closed[last] - closed[first]
        offsets = closed[first + 1 : last] - closed[first]
        length = float(np.hypot(*line))
        if length == 0:
            distance = np.hypot(offsets[:, 0], offsets[:, 1])
        else:
            distance = np.abs(offsets[:, 0] * line[1] - offsets[:, 1] * line[0]) / length
        worst = int(distance.argmax())
        if distance[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            todo += [(first, middle), (middle, last)]
    kept = closed[:-1][keep[:-1]]
    return kept if len(kept) >= 3 else ring


def _join(outer: Ring, hole: Ring) -> Ring:
    """One ring: the outline to the corner nearest the hole, around the hole, back, and on."""
    near = int(((outer - hole[0]) ** 2).sum(1).argmin())
    parts = (outer[: near + 1], hole, hole[:1], outer[near : near + 1], outer[near + 1 :])
    return np.concatenate(parts)


def _signed_area(ring: Ring) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _contains(ring: Ring, point: NDArray[np.float64]) -> bool:
    """Whether a point that lies on no line is inside a ring: the parity of crossings to its left.

    Only upright edges cross a level line, for rings from `trace`.
    """
    x, y = point
    following = np.roll(ring, -1, axis=0)
    low, high = np.minimum(ring[:, 1], following[:, 1]), np.maximum(ring[:, 1], following[:, 1])
    return bool(((ring[:, 0] < x) & (low < y) & (y < high)).sum() % 2)

"""How far each thing is: connected regions of classes, and boxes of a detector."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dptcli.depth.boxes import Box
from dptcli.segments.polygons import connected

# Of a thing's pixels so many lie beyond its nearest and its farthest: a network's edges are soft.
_BEYOND_PERCENT = 2.0
_SMALLEST_SHARE = 0.001
_MOST_THINGS = 100

Facts = dict[str, Any]
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom, all within it


def describe_things(
    depth: NDArray[np.floating],
    labels: NDArray[np.integer],
    names: Mapping[int, str],
    *,
    near_is_large: bool,
) -> list[Facts]:
    """Say where and how far each connected region of a class is, the largest first.

    depth: (H, W); labels: class ids (H, W). Regions below a thousandth of the picture are left out,
    and all but the hundred largest. Returns [{"id", "class", "area": share of the picture, "box":
    [x, y, width, height] in its pixels, "nearest", "median", "farthest": in the map's unit}].
    """
    regions, label_of = connected(labels)
    areas = np.bincount(regions.ravel())
    by_size = np.argsort(-areas, kind="stable")[:_MOST_THINGS]
    found = []
    for region in by_size.tolist():
        if areas[region] < _SMALLEST_SHARE * labels.size:
            break
        own = regions == region
        row, column = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        left, top = int(column[0]), int(row[0])
        label = int(label_of[region])
        found.append(
            {
                "id": label,
                "class": names.get(label, str(label)),
                "area": round(float(areas[region]) / labels.size, 6),
                "box": [left, top, int(column[-1]) + 1 - left, int(row[-1]) + 1 - top],
                **_distances(depth[own], near_is_large=near_is_large),
            }
        )
    return found


def describe_boxes(
    depth: NDArray[np.floating], boxes: Sequence[Box], *, near_is_large: bool
) -> list[Facts]:
    """Say how far what each box shows is, in their order.

    As `describe_things` does; a box shows what is behind a thing too, so that there is "middle",
    the median of its middle half across and down. "score" is the detector's.
    """
    height, width = depth.shape
    found = []
    for box in boxes:
        left, right = (int(np.clip(round(x * width), 0, width)) for x in (box.left, box.right))
        top, bottom = (int(np.clip(round(y * height), 0, height)) for y in (box.top, box.bottom))
        across, down = (right - left) // 4, (bottom - top) // 4
        inner = depth[top + down : bottom - down, left + across : right - across]
        middle = _distances(inner, near_is_large=near_is_large)["median"]
        found.append(
            {
                "class": box.name,
                **({} if box.score is None else {"score": box.score}),
                "area": round((right - left) * (bottom - top) / depth.size, 6),
                "box": [left, top, right - left, bottom - top],
                **_distances(depth[top:bottom, left:right], near_is_large=near_is_large),
                "middle": middle,
            }
        )
    return found


def _distances(depth: NDArray[np.floating], *, near_is_large: bool) -> dict[str, float | None]:
    known = depth[np.isfinite(depth)]
    if not known.size:
        return {"nearest": None, "median": None, "farthest": None}
    low, median, high = np.percentile(known, [_BEYOND_PERCENT, 50, 100 - _BEYOND_PERCENT]).tolist()
    nearest, farthest = (high, low) if near_is_large else (low, high)
    return {"nearest": nearest, "median": median, "farthest": farthest}


def draw_things(
    picture: Image.Image, things: Sequence[Facts], *, unit: str, left: int = 0
) -> Image.Image:
    """Return a picture with a frame, a name and a distance for each thing.

    unit: written behind the distance, "m" for metres. left: where depth begins in the picture.
    """
    drawn = picture.convert("RGB")
    draw = ImageDraw.Draw(drawn)
    size = max(10, min(32, drawn.height // 30))
    font, line = ImageFont.load_default(size), max(1, size // 8)
    for thing in things:
        x, y, width, height = thing["box"]
        if not width or not height:
            continue
        x += left
        draw.rectangle([x, y, x + width - 1, y + height - 1], outline="white", width=line)
    taken: list[Rectangle] = []
    for thing in things:
        x, y, width, height = thing["box"]
        distance = thing.get("middle", thing["median"])
        text = thing["class"]
        if distance is not None:
            text += f" {distance:.2f} {unit}" if unit else f" {distance:.3g}"
        at = x + left + 2 * line, y + 2 * line
        wanted = draw.textbbox(at, text, font=font)
        placed = _free_place(wanted, taken, drawn.size)
        taken.append(placed)
        draw.rectangle(placed, fill="black")
        at = at[0] + placed[0] - wanted[0], at[1] + placed[1] - wanted[1]
        draw.text(at, text, font=font, fill="white")
    return drawn


def _free_place(wanted: Rectangle, taken: Sequence[Rectangle], size: tuple[int, int]) -> Rectangle:
    """Where a label can be read: inside the picture (width, height), below others, else above.

    Where others fill its column it stays where it is wanted.
    """
    left, top, right, bottom = wanted
    width, height = right - left, bottom - top
    left = max(0, min(left, size[0] - 1 - width))
    top = start = max(0, min(top, size[1] - 1 - height))
    beside = [other for other in taken if other[0] <= left + width and left <= other[2]]
    for other in sorted(beside, key=lambda other: other[1]):
        if other[1] <= top + height and top <= other[3]:
            top = other[3] + 2
    if top + height >= size[1]:
        top = start
        for other in sorted(beside, key=lambda other: -other[3]):
            if other[1] <= top + height and top <= other[3]:
                top = other[1] - 2 - height
        top = start if top < 0 else top
    return left, top, left + width, top + height

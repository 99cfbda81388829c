"""What size to write: the words of --target-size, and the pixels they mean. Needs no torch."""

import dataclasses
import re
from typing import Literal

from dptcli.errors import UsageError

MAX_SIDE = 65_535
"""A longer side is taken for a slip: most formats and programs cannot hold it."""

_ALLOWED = "HEIGHTxWIDTH (480x640), one number for the short side (480), original, or model"


@dataclasses.dataclass(frozen=True)
class TargetSize:
    """The size to write: "exact" (height, width), "short" side in pixels, "original" or "model"."""

    kind: Literal["exact", "short", "original", "model"] = "original"
    height: int = 0
    width: int = 0
    short_side: int = 0


def parse_target_size(text: str) -> TargetSize:
    """Read the value of --target-size; UsageError names it and what is allowed."""
    word = text.strip().lower()
    if word == "original":
        return TargetSize("original")
    if word == "model":
        return TargetSize("model")
    exact = re.fullmatch(r"([0-9]+)\s*[x×]\s*([0-9]+)", word)
    if exact:
        height, width = int(exact[1]), int(exact[2])
        if 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE:
            return TargetSize("exact", height=height, width=width)
        raise UsageError(f"--target-size is {text!r}; each side must be from 1 to {MAX_SIDE}")
    if re.fullmatch(r"[0-9]+", word):
        if 1 <= int(word) <= MAX_SIDE:
            return TargetSize("short", short_side=int(word))
        raise UsageError(f"--target-size is {text!r}; the side must be from 1 to {MAX_SIDE}")
    raise UsageError(f"--target-size is {text!r}; allowed: {_ALLOWED}")


def target_hw(
    source_hw: tuple[int, int], network_hw: tuple[int, int], spec: TargetSize | str
) -> tuple[int, int]:
    """The (height, width) to write for an image of `source_hw`.

    `network_hw` is the prediction's own size, without padding: what "model" means. The short side's
    partner keeps the aspect, rounded to the nearest pixel, at least 1. Raises UsageError for a word
    that is no size and for a long side beyond MAX_SIDE.
    """
    size = parse_target_size(spec) if isinstance(spec, str) else spec
    if size.kind == "exact":
        return size.height, size.width
    if size.kind == "original":
        return source_hw
    if size.kind == "model":
        return network_hw
    short, long = min(source_hw), max(source_hw)
    # (2ab + c) // 2c is round(ab / c) in whole numbers, halves up.
    long_side = max((2 * long * size.short_side + short) // (2 * short), 1)
    if long_side > MAX_SIDE:
        raise UsageError(
            f"--target-size {size.short_side} makes the long side of an image of "
            f"{source_hw[0]}×{source_hw[1]} {long_side} pixels; the most is {MAX_SIDE}"
        )
    if source_hw[0] <= source_hw[1]:
        return size.short_side, long_side
    return long_side, size.short_side

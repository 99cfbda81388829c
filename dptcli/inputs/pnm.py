"""PNM files of several pictures, one behind the other, as netpbm's tools write and read them.

Source: netpbm's format manuals: only the packed kinds (P4, P5, P6) may be repeated.
"""

import re

_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_HEAD = re.compile(
    rb"P([456])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})(?:" + _GAP + rb"(\d{1,5}))?\s"
)
_BITMAP_HEAD = re.compile(rb"P(4)" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})\s")


def pictures(data: bytes) -> list[int]:
    """Where each whole picture of a file begins; the first one whether whole or not."""
    starts = [0]
    end = _end(data, 0)
    while end is not None and (following := _end(data, end)) is not None:
        starts.append(end)
        end = following
    return starts


def _end(data: bytes, start: int) -> int | None:
    """Where the picture that begins here ends; None where no whole one does."""
    head = _BITMAP_HEAD.match(data, start) or _HEAD.match(data, start)
    if head is None:
        return None
    kind, width, height = head[1], int(head[2]), int(head[3])
    if kind == b"4":
        size = -(-width // 8) * height
    elif head[4] is None:
        return None
    else:
        size = width * height * (3 if kind == b"6" else 1) * (2 if int(head[4]) > 255 else 1)
    end = head.end() + size
    return end if size and end <= len(data) else None

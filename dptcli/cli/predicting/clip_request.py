"""When a command works on a clip or a sequence, and what its options ask for. Loads nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from dptcli.cli.predicting.work import NOT_WORK, is_usual
from dptcli.errors import UsageError
from dptcli.remote import is_address

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"}
    | {".wmv", ".flv", ".3gp", ".ogv"}
)

# What a result does not depend on: a run that differs only in these goes on with another's parts.
_NOT_WORK = {*NOT_WORK, "audio"}


@dataclass(frozen=True, kw_only=True)
class ClipRequest:
    """Frames of a clip, or images in order. options: all that shapes the result, by name.

    smoothing: None is what suits the model.
    """

    from_video: bool
    to_video: bool
    frames: str | None
    smoothing: float | None
    fps: Fraction | None
    audio: bool
    options: Mapping[str, str]


def is_video(name: str) -> bool:
    """Whether a name's ending is one of video."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def read_clip(given: Mapping[str, Any]) -> ClipRequest | None:
    """Return what is asked for of a clip; None for photographs. Raises UsageError."""
    inputs, output = given["inputs"] or [], given["output"]
    from_video = any(is_video(name) for name in inputs)
    to_video = is_video(output) and not output.endswith("/")
    if (from_video or to_video) and any(is_address(name) for name in [*inputs, output]):
        raise UsageError("videos are read and written on this machine; copy the clip here first")
    if from_video and len(inputs) + (given["from_file"] is not None) > 1:
        raise UsageError("a video is worked on alone; run the inputs one after another")
    smoothing = _parse_share(given.get("smoothing"))
    fps = _parse_fps(given["fps"])
    if given["audio"] and not (from_video and to_video):
        raise UsageError("--audio copies the sound of a video into a video; here there is none")
    if fps is not None and not to_video:
        raise UsageError("--fps is for writing a video, e.g. frames/ -o depth.mp4 --fps 30")
    if fps is not None and given["audio"]:
        raise UsageError(
            "--fps changes the clip's speed, which its sound cannot follow; "
            "leave --fps or --audio out"
        )
    if not (from_video or to_video or given.get("sequence")):
        for name in ("frames", "smoothing"):
            if given.get(name) is not None:
                raise UsageError(f"--{name} is for a video, or for images with --sequence")
        return None
    return ClipRequest(
        from_video=from_video,
        to_video=to_video,
        frames=given["frames"],
        smoothing=smoothing,
        fps=fps,
        audio=given["audio"],
        options={
            key: str(value)
            for key, value in given.items()
            if key not in _NOT_WORK and not is_usual(key, value)
        },
    )


def _parse_share(value: str | None) -> float | None:
    if value is None:
        return None
    if not re.fullmatch(r"0|1|[01]?\.\d+|1\.0*|0\.", value) or not 0 <= float(value) <= 1:
        raise UsageError(f"--smoothing {value!r} must be from 0 to 1, e.g. --smoothing 0.5")
    return float(value)


def _parse_fps(value: str | None) -> Fraction | None:
    if value is None:
        return None
    found = re.fullmatch(r"\d{1,6}(\.\d{1,6}|/[1-9]\d{0,5})?", value)
    rate = Fraction(value) if found else Fraction(0)
    if not 0 < rate <= 1000:
        raise UsageError(f"--fps {value!r} must be a rate above 0, e.g. --fps 25 or 30000/1001")
    return rate

"""The processor's parameters: every age's spelling, checked once, and the sizes that they imply."""

import dataclasses
import logging
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from dptcli.errors import ConfigError

logger = logging.getLogger(__name__)

# Pillow's filters by name, in the order of its numbers.
FILTERS = {
    name: number
    for number, name in enumerate(("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"))
}
DEFAULT_MAX_LONG_SIDE = 4096
"""With the aspect kept at 384, pictures up to 10:1 stay as the reference sizes them."""

Padding = tuple[int, int, int, int]
"""Pixels added before and after: (top, bottom, left, right)."""

_TYPES = re.compile(r"DPT(ImageProcessor(Fast|Pil)?|FeatureExtractor)")
# Our names for what old files wrote, and what they wrote that says nothing.
_OLD_NAMES = {"size_divisibility": "size_divisor"}
_BOOKKEEPING = ("feature_extractor_type", "image_processor_type", "_valid_processor_keys")
# Keys that the reference's files do not have: written only where they say something.
_OPTIONAL = ("do_convert_rgb", "max_long_side")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessorConfig:
    """Every parameter of DPTImageProcessor; ConfigError names field, value and what is allowed.

    `size` is (height, width) in pixels, `resample` Pillow's number of a filter, also given by its
    name, `image_mean` and `image_std` one number or one per channel. `max_long_side` bounds the
    resized long side in pixels where `keep_aspect_ratio` would let it grow; 0 lifts the bound, and
    it never undercuts `size`. Source: the reference's parameters and defaults (4.37.2);
    do_reduce_labels and do_convert_rgb from 5.x.
    """

    do_resize: bool = True
    size: tuple[int, int] = (384, 384)
    resample: int = 3
    keep_aspect_ratio: bool = False
    ensure_multiple_of: float = 1
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: float | tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: float | tuple[float, ...] = (0.5, 0.5, 0.5)
    do_pad: bool = False
    size_divisor: int | None = None
    do_reduce_labels: bool = False
    do_convert_rgb: bool = True
    max_long_side: int = DEFAULT_MAX_LONG_SIDE

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            checked = _check(field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, checked)
        mean, std = self.image_mean, self.image_std
        if isinstance(mean, tuple) and isinstance(std, tuple) and len(mean) != len(std):
            raise ConfigError(
                f"image_std has {len(std)} values and image_mean {len(mean)}; "
                "give both one value per channel, or one number"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> tuple["ProcessorConfig", dict[str, Any]]:
        """The configuration in `values`, in any spelling, and the keys that we don't know.

        A null means the default, as in the reference. Raises ConfigError for a wrong value and
        for a processor of another family.
        """
        kind = values.get("image_processor_type", values.get("feature_extractor_type"))
        if kind is not None and not _TYPES.fullmatch(str(kind)):
            raise ConfigError(
                f"image_processor_type is {kind!r}; allowed: DPTImageProcessor (Fast or Pil) or "
                "DPTFeatureExtractor. Another family's preprocessing would give wrong numbers"
            )
        names = {field.name for field in dataclasses.fields(cls)}
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, value in values.items():
            name = _OLD_NAMES.get(key, key)
            if name in names:
                # The present spelling wins over an old one beside it.
                if value is not None and (name == key or values.get(name) is None):
                    known[name] = value
            elif key not in _BOOKKEEPING:
                extra[key] = value
        return cls(**known), extra

    def to_dict(self) -> dict[str, Any]:
        """The parameters as JSON values in the reference's spelling."""
        values: dict[str, Any] = dataclasses.asdict(self)
        values["size"] = {"height": self.size[0], "width": self.size[1]}
        for name in ("image_mean", "image_std"):
            if isinstance(values[name], tuple):
                values[name] = list(values[name])
        for field in dataclasses.fields(self):
            if field.name in _OPTIONAL and values[field.name] == field.default:
                del values[field.name]
        return values

    @property
    def num_channels(self) -> int:
        """How many channels images must have: as many as mean and std have values, else three."""
        for values in (self.image_mean, self.image_std):
            if isinstance(values, tuple):
                return len(values)
        return 3

    def resized_hw(self, source_hw: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) after the resize, before padding; never 0.

        With `keep_aspect_ratio` both sides take the scale nearer to 1, and a long side beyond
        `max_long_side` is brought back to it (with a warning in the log). Each side is then rounded
        to the nearest multiple of `ensure_multiple_of`, at least one. Source: the reference's
        get_resize_output_image_size, which has no lower or upper bound.
        """
        if not self.do_resize:
            return source_hw
        scale_h, scale_w = self.size[0] / source_hw[0], self.size[1] / source_hw[1]
        if self.keep_aspect_ratio:
            scale_h = scale_w = scale_w if abs(1 - scale_w) < abs(1 - scale_h) else scale_h
        sides = (scale_h * source_hw[0], scale_w * source_hw[1])
        multiple = self.ensure_multiple_of
        limit = max(self.max_long_side, *self.size) if self.max_long_side else math.inf
        if not self.keep_aspect_ratio or max(sides) <= limit:
            return _to_multiple(sides[0], multiple), _to_multiple(sides[1], multiple)
        shrink = limit / max(sides)
        most = max(int(limit // multiple * multiple), math.ceil(multiple))
        height, width = (min(_to_multiple(side * shrink, multiple), most) for side in sides)
        logger.warning(
            "an image of %d×%d would be resized to %.0f×%.0f; max_long_side=%d makes it %d×%d",
            *(*source_hw, *sides, self.max_long_side, height, width),
        )
        return height, width

    def padding(self, hw: tuple[int, int]) -> Padding:
        """What centre padding adds to an image of `hw`: n // 2 before, the rest after.

        Raises ConfigError where `do_pad` is set without a `size_divisor`.
        """
        if not self.do_pad:
            return (0, 0, 0, 0)
        if self.size_divisor is None:
            raise ConfigError(
                "do_pad is true and size_divisor is None; give a divisor of 1 or more"
            )
        extra_h, extra_w = (-side % self.size_divisor for side in hw)
        return (extra_h // 2, extra_h - extra_h // 2, extra_w // 2, extra_w - extra_w // 2)


def _to_multiple(side: float, multiple: float) -> int:
    # round() and not floor(x + 0.5): halves go to the even multiple, as in the reference.
    return max(int(round(side / multiple) * multiple), math.ceil(multiple))


def _check(name: str, value: Any) -> Any:
    """`value` in its stored form, or a ConfigError."""
    if name.startswith("do_") or name == "keep_aspect_ratio":
        if isinstance(value, bool | np.bool_):
            return bool(value)
        raise ConfigError(f"{name} is {value!r}; allowed: true or false")
    if name == "size":
        return check_size(value)
    if name == "resample":
        return _check_filter(value)
    if name == "max_long_side":
        return _check_whole(name, value, 0, None, "a whole number of pixels, or 0 for no limit")
    if name == "ensure_multiple_of" and isinstance(value, float) and 0 < value < 1:
        return value  # ZoeDepth's files may say 1/32, which rounds to 1/32 and then cuts
    if name == "ensure_multiple_of" or (name == "size_divisor" and value is not None):
        return _check_whole(name, value, 1, None, "a whole number of 1 or more")
    if name == "rescale_factor":
        return _check_number(name, value, positive=True)
    if name in ("image_mean", "image_std"):
        return _check_channels(name, value)
    return value


def _check_filter(value: Any) -> int:
    """Pillow's number of a filter, which comes by number, by name, or as another library's enum."""
    named = getattr(value, "value", value)
    if isinstance(named, str):
        value = FILTERS.get(named.lower(), value)
    names = ", ".join(FILTERS)
    return _check_whole("resample", value, 0, 5, f"0 to 5, Pillow's filters, or {names}")


def _check_whole(name: str, value: Any, low: int, high: int | None, allowed: str) -> int:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        raise ConfigError(f"{name} is {value!r}; allowed: {allowed}")
    return int(value)


def _check_number(name: str, value: Any, *, positive: bool) -> float:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or (positive and value <= 0):
        allowed = "a number above 0" if positive else "a finite number"
        raise ConfigError(f"{name} is {value!r}; allowed: {allowed}")
    return float(value)


def _check_channels(name: str, value: Any) -> float | tuple[float, ...]:
    positive = name == "image_std"
    if not isinstance(value, list | tuple | np.ndarray):
        return _check_number(name, value, positive=positive)
    if len(value) == 0:
        raise ConfigError(f"{name} is empty; allowed: one number, or one per channel")
    return tuple(_check_number(name, item, positive=positive) for item in value)


def check_size(value: Any) -> tuple[int, int]:
    """(height, width) of a size in any of its spellings. Raises ConfigError."""
    allowed = 'a whole number of 1 or more, (height, width), or {"height": …, "width": …}'
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        sides: tuple[Any, ...] = (value, value)
    elif isinstance(value, list | tuple):
        sides = tuple(value)
    else:
        try:
            # The reference's own size object is no Mapping, but dict() takes it.
            spelled = dict(value)
        except (TypeError, ValueError):
            raise ConfigError(f"size is {value!r}; allowed: {allowed}") from None
        if set(spelled) != {"height", "width"}:
            raise ConfigError(f"size is {spelled!r}; allowed: {allowed}")
        sides = (spelled["height"], spelled["width"])
    if len(sides) != 2:
        raise ConfigError(f"size is {value!r}; allowed: {allowed}")
    height, width = (_check_whole("size", side, 1, None, allowed) for side in sides)
    return height, width

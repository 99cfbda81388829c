"""Depth for the eye: range, colours, gamma, a colour bar, the photograph beside it."""

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dptcli.depth.colormaps import colorize, finite_range, percentiles, scale_to_levels
from dptcli.depth.depthmap import DepthMap
from dptcli.errors import UsageError
from dptcli.kinds import in_metres

_ENOUGH = 1_000_000  # values that a percentile is taken from: more change it by less than a level
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class ValueRange:
    """Which values get the first and the last colour.

    "image": each image's own smallest and largest; "percentile": its lo-th and hi-th percentile;
    "global": the smallest and largest of the whole run; "fixed": lo and hi themselves.
    """

    kind: Literal["image", "percentile", "global", "fixed"] = "image"
    lo: float = 0.0
    hi: float = 0.0


def parse_range(text: str) -> ValueRange:
    """Read --range: image, percentile, 5%:95%, global, or 0.5:10. Raises UsageError."""
    word = text.strip().lower()
    if word in {"image", "global"}:
        return ValueRange("image" if word == "image" else "global")
    if word == "percentile":
        return ValueRange("percentile", 2.0, 98.0)
    found = re.fullmatch(rf"({_NUMBER})(%?):({_NUMBER})(%?)", word)
    if found is None or found[2] != found[4]:
        raise UsageError(
            f"--range {text!r} must be image, percentile, 5%:95%, global, or two values like 0.5:10"
        )
    lo, hi = float(found[1]), float(found[3])
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        raise UsageError(f"--range {text!r}: the first value must be below the second")
    if found[2]:
        if lo < 0 or hi > 100:
            raise UsageError(f"--range {text!r}: percentiles go from 0% to 100%")
        return ValueRange("percentile", lo, hi)
    return ValueRange("fixed", lo, hi)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How depth is drawn.

    lut: RGB uint8 (256, 3), None for grey; colormap: its name. bits: of a grey pixel, 8 or 16.
    gamma above 1 spreads the far (dark) part.
    """

    colormap: str | None = None
    lut: NDArray[np.uint8] | None = None
    bits: int = 8
    invert: bool = False
    value_range: ValueRange = ValueRange()
    gamma: float = 1.0
    colorbar: bool = False
    side_by_side: bool = False

    def limits(
        self, depth: DepthMap, run_limits: tuple[float, float] | None = None
    ) -> tuple[float, float]:
        """Return the values of the first and the last colour; what lies beyond is clamped."""
        spec = self.value_range
        if spec.kind == "fixed":
            return spec.lo, spec.hi
        if spec.kind == "global" and run_limits is not None:
            return run_limits
        if spec.kind == "percentile":
            step = max(1, math.isqrt(depth.values.size // _ENOUGH))
            values = depth.values[::step, ::step].copy()
            finite = np.isfinite(values)
            if not finite.all():  # picking takes as long as ordering does
                values = values[finite]
            if values.size == 0:
                return 0.0, 0.0
            lo, hi = percentiles(values, [spec.lo, spec.hi])
            return lo, hi
        return depth.limits

    def draw(
        self,
        depth: DepthMap,
        run_limits: tuple[float, float] | None = None,
        *,
        indexed: bool = False,
    ) -> tuple[Image.Image, dict[str, Any]]:
        """Return the picture, RGB or grey, and its "first" and "last": the values at the ends.

        indexed: rather mode "P" than RGB, where nothing stands beside the depth; it spares memory.

        A plain grey picture gives its values back: first + (last - first) * level / top (gamma 1).
        """
        lo, hi = self.limits(depth, run_limits)
        flip = depth.near_is_large == self.invert
        num_levels = 1 << self.bits if self.lut is None else len(self.lut)
        values = depth.values
        if not depth.near_is_large and np.isnan(values.min()):
            values = np.where(np.isnan(values), np.float32(hi), values)  # what is unknown is far
        levels = scale_to_levels(
            values, lo=lo, hi=hi, levels=num_levels, invert=flip, gamma=self.gamma
        )
        picture = Image.fromarray(levels)
        if self.lut is not None:
            picture.putpalette(self.lut.tobytes())
        first, last = (hi, lo) if flip else (lo, hi)
        facts: dict[str, Any] = {"first": first, "last": last}
        if self.colormap is not None:
            facts["colormap"] = self.colormap
        if self.gamma != 1.0:
            facts["gamma"] = self.gamma
        if self.colorbar or self.side_by_side:
            facts["shows"] = " | ".join(
                ["photograph"] * self.side_by_side + ["depth"] + ["colour bar"] * self.colorbar
            )
            picture = self._compose(picture, depth, first, last)
        if picture.mode == "P" and not indexed:
            picture = picture.convert("RGB")
        return picture, facts

    def _compose(
        self, picture: Image.Image, depth: DepthMap, first: float, last: float
    ) -> Image.Image:
        parts = [picture.convert("RGB")]
        if self.side_by_side and depth.rgb is not None:
            photo = Image.fromarray(depth.rgb)
            if photo.size != picture.size:
                photo = photo.resize(picture.size, Image.Resampling.BILINEAR)
            parts.insert(0, photo)
        if self.colorbar:
            unit = "m" if in_metres(depth.kind) else depth.kind.replace("_", " ")
            parts.append(self._bar(picture.height, first, last, unit))
        joined = Image.new("RGB", (sum(part.width for part in parts), picture.height))
        left = 0
        for part in parts:
            joined.paste(part, (left, 0))
            left += part.width
        return joined

    def _bar(self, height: int, first: float, last: float, unit: str) -> Image.Image:
        """Draw the colours from the last (top) to the first, with the values beside them."""
        size = max(8, min(40, height // 20))
        font = ImageFont.load_default(size)
        margin, bar_width = size, 2 * size
        length = max(1, height - 2 * margin - size - size // 2)
        # Where the picture has gamma its colours do too, so ticks are placed by share of the range.
        ramp = np.linspace(1, 0, length, dtype=np.float32)[:, None].repeat(bar_width, axis=1)
        if self.lut is None:
            levels = scale_to_levels(ramp, lo=0, hi=1, levels=256, gamma=self.gamma)
            bar = Image.fromarray(levels).convert("RGB")
        else:
            bar = Image.fromarray(colorize(ramp, lut=self.lut, lo=0, hi=1, gamma=self.gamma))
        num_ticks = 5 if length >= 8 * size else 2
        shares = [index / (num_ticks - 1) for index in range(num_ticks)]
        labels = _labels([last + (first - last) * share for share in shares])
        widest = max(font.getlength(text) for text in [*labels, unit])
        strip = Image.new("RGB", (int(bar_width + 3 * margin + widest), height), "white")
        draw = ImageDraw.Draw(strip)
        draw.text((margin, margin // 2), unit, font=font, fill="black")
        top = margin + size + size // 2
        strip.paste(bar, (margin, top))
        for share, label in zip(shares, labels, strict=True):
            y = top + round(share * (length - 1))
            right = margin + bar_width
            draw.line([(right, y), (right + size // 3, y)], fill="black")
            draw.text((right + size // 2, y), label, font=font, fill="black", anchor="lm")
        return strip


def _labels(values: list[float]) -> list[str]:
    """Write the values with as many decimals as tell neighbours apart."""
    step = min((abs(b - a) for a, b in itertools.pairwise(values)), default=0.0)
    biggest = max(abs(value) for value in values)
    if biggest >= 1e5 or 0 < biggest < 1e-3:
        return [f"{value:.2e}" for value in values]
    decimals = 2 if step == 0 else max(0, min(6, 1 - math.floor(math.log10(step))))
    return [f"{value:.{decimals}f}" for value in values]


def merged_range(ranges: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the smallest and the largest of many ranges; (0, 0) of none."""
    ends = np.array([*ranges], np.float64).reshape(-1, 2)
    return finite_range(ends) if ends.size else (0.0, 0.0)

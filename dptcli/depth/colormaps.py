"""Colours: depth through a lookup table, classes through a palette without twins."""

import base64
import colorsys
import difflib
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import UsageError

# Near is bright and far is dark, as in the papers' figures; lightness rises steadily with nearness,
# so the order of two things reads without a legend, in grey print and by colour-blind eyes.
# (Spectral and turbo separate more steps but put their lightest colour in the middle distance.)
DEFAULT_COLORMAP = "inferno"

# matplotlib's inferno (CC0), 256 RGB bytes: importing matplotlib for the default would cost 0.2 s.
_INFERNO = base64.b64decode(
    "AAADAAAEAAAGAQAHAQEJAQELAgEOAgIQAwISBAMUBAMWBQQYBgQbBwUdCAYfCQYhCgcjCwcmDQgoDggqDwktEAkv"
    "EgoyEwo0FAs2Fgs5Fws7GQs+GgtAHAxDHQxFHwxHIAxKIgtMJAtOJgtQJwtSKQtUKwpWLQpYLgpaMApcMgldNAlf"
    "NQlgNwlhOQliOwlkPAllPglmQAlmQQlnQwpoRQppRgppSAtqSgtqSwxrTQxrTw1sUA1sUg5sUw5tVQ9tVw9tWBBt"
    "WhFtWxFuXRJuXxJuYBNuYhRuYxRuZRVuZhVuaBZuahduaxdubRhubhhucBluchltcxptdRttdhtteBxtehxtex1s"
    "fR1sfh5sgB9rgR9rgyBrhSBqhiFqiCFqiSJpiyJpjSNpjiRokCRokSVnkyVnlSZmliZmmCdlmShkmyhknCljnilj"
    "oCpioSthoythpCxgpixfpy1fqS5eqy5drC9crjBbrzFbsTFasjJZtDNYtTNXtzRWuDVWujZVuzdUvTdTvjhSvzlR"
    "wTpQwjtPxDxOxT1Nxz5MyD5LyT9Ky0BJzEFIzUJHz0RG0EVE0UZD0kdC1EhB1UlA1ko/10s+2U092k4720863FA5"
    "3VI43lM331Q24FY04lcz41gy5Fox5Vsw5lwu5l4t518s6GEr6WIq6mQo62Un7Gcm7Wgl7Woj7mwi720h8G8f8HAe"
    "8XId8nQc8nUa83cZ83kY9HoW9XwV9X4U9oAS9oER94MQ94UO+IcN+IgM+IoL+YwJ+Y4I+ZAI+pEH+pMG+pUG+pcG"
    "+5kG+5sG+50G+54H+6AH+6II+6QK+6YL+6gN+6oO+6wQ+64S+7AU+7EW+7MY+7Ua+7cc+7ke+rsh+r0j+r8l+sEo"
    "+cMq+cUs+ccv+Mkx+Ms0+M03988699E89tM/9tVC9ddF9dlI9NtL9NxP895S8+BW8+JZ8uRd8uZg8ehk8elo8ets"
    "8e1w8e508fB58fJ98vOB8vSF8/aJ9PeN9fiR9vqV9/uZ+fyd+v2g/P6k"
)

# What these names make people expect; other classes get the colours farthest from all in use.
NAMED_COLORS: Mapping[str, tuple[int, int, int]] = {
    "sky": (120, 190, 250),
    "vegetation": (70, 150, 60),
    "tree": (40, 110, 40),
    "grass": (130, 200, 70),
    "plant": (90, 180, 110),
    "water": (40, 90, 200),
    "sea": (20, 60, 150),
    "ground": (150, 110, 70),
    "earth": (120, 85, 55),
    "road": (110, 100, 120),
    "sidewalk": (220, 110, 220),
    "building": (180, 70, 60),
    "wall": (200, 150, 130),
    "floor": (120, 70, 40),
    "ceiling": (240, 230, 190),
    "person": (250, 30, 90),
    "car": (250, 200, 30),
    "object": (150, 60, 200),
    "furniture": (230, 130, 30),
}


_BAND_VALUES = 2**18


@lru_cache(maxsize=8)
def depth_lut(name: str = DEFAULT_COLORMAP) -> NDArray[np.uint8]:
    """Return a colormap as a table of 256 colours.

    name: any matplotlib colormap, capitals as matplotlib writes them ("inferno", "Spectral_r").
    Returns RGB uint8 (256, 3), read-only. Raises UsageError with the nearest names for a typo.
    """
    if name == DEFAULT_COLORMAP:
        return np.frombuffer(_INFERNO, np.uint8).reshape(256, 3)
    from matplotlib import colormaps  # 0.2 s, and only for the other names

    if name not in colormaps:
        by_lower = {known.lower(): known for known in colormaps}
        close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
        hint = " or ".join(repr(by_lower[known]) for known in close)
        raise UsageError(
            f"unknown colormap {name!r}; "
            + (f"did you mean {hint}?" if hint else "any matplotlib name works, e.g. 'inferno'")
        )
    lut = np.asarray(colormaps[name](np.linspace(0, 1, 256), bytes=True)[:, :3], np.uint8)
    lut.flags.writeable = False
    return lut


def finite_range(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return the smallest and largest finite value; (0, 0) where nothing is finite."""
    lo, hi = float(values.min()), float(values.max())
    if np.isfinite(lo) and np.isfinite(hi):
        return lo, hi
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def percentiles(values: NDArray[np.floating], percents: Sequence[float]) -> list[float]:
    """np.percentile of finite values, to the bit, without the 40 ms that its first call imports.

    values: at least one, in any shape. percents: 0 to 100.
    """
    places = [(values.size - 1) * (percent / 100) for percent in percents]
    below = [math.floor(place) for place in places]
    above = [min(index + 1, values.size - 1) for index in below]
    ordered = np.partition(values.ravel(), sorted({*below, *above}))
    found = []
    for place, first, second in zip(places, below, above, strict=True):
        share, step = place - first, ordered[second] - ordered[first]  # step: in the values' dtype
        from_below = float(ordered[first]) + float(step) * share
        from_above = float(ordered[second]) - float(step) * (1 - share)
        found.append(from_above if share >= 0.5 else from_below)
    return found


def scale_to_levels(
    values: NDArray[np.floating],
    *,
    lo: float,
    hi: float,
    levels: int,
    invert: bool = False,
    gamma: float = 1.0,
) -> NDArray[Any]:
    """Spread values over 0 … levels-1, clamped before the cast so that nothing wraps around.

    values: float (H, W), any range, non-finite allowed. lo and hi land on 0 and levels-1 (swapped
    with invert). NaN counts as lo; a constant map (hi == lo) has no near and far and lands in the
    middle. gamma above 1 lifts and spreads the low levels. Returns (H, W), uint8 for up to 256
    levels, else uint16.
    """
    top = levels - 1
    dtype = np.uint8 if levels <= 256 else np.uint16
    lo, hi = float(lo), float(hi)
    # A range of denormal numbers is as good as none: its scale would be infinite.
    if not hi - lo > 1e-30:
        return np.full(values.shape, top // 2, dtype)
    scaled_to = np.empty(values.shape, dtype)
    # In bands that stay in the processor's cache: a third of the time of whole maps, no copy.
    step = max(1, _BAND_VALUES // max(1, math.prod(values.shape[1:])))
    for start in range(0, len(values), step):
        band = values[start : start + step].astype(np.float32, copy=False)
        if np.isnan(band.min()):
            band = np.nan_to_num(band, nan=lo, posinf=np.inf, neginf=-np.inf)
        # In this order, halves first, a range as wide as float32 itself does not overflow.
        scaled = band * np.float32(0.5)
        scaled -= np.float32(lo / 2)
        scaled *= np.float32(2 * top / (hi - lo))
        np.clip(scaled, 0, top, out=scaled)
        if invert:
            np.subtract(top, scaled, out=scaled)
        if gamma != 1.0:
            scaled /= top
            np.power(scaled, 1 / gamma, out=scaled)
            scaled *= top
        scaled += 0.5  # round to nearest: the cast truncates
        scaled_to[start : start + step] = scaled
    return scaled_to


def colorize(
    values: NDArray[np.floating],
    *,
    lut: NDArray[np.uint8],
    lo: float,
    hi: float,
    invert: bool = False,
    gamma: float = 1.0,
) -> NDArray[np.uint8]:
    """Colour a map through a table.

    values: float (H, W); lut: RGB uint8 (256, 3); lo and hi: the values of the first and last
    colour. Returns RGB uint8 (H, W, 3).
    """
    levels = scale_to_levels(values, lo=lo, hi=hi, levels=len(lut), invert=invert, gamma=gamma)
    return apply_palette(levels, lut)


def apply_palette(indices: NDArray[np.uint8], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace each index by its colour: uint8 (H, W) and RGB uint8 (≤ 256, 3) -> RGB (H, W, 3)."""
    # Pillow's palette conversion takes a fifth of the time of NumPy's fancy indexing.
    image = Image.fromarray(indices)
    image.putpalette(colors.tobytes())
    return np.asarray(image.convert("RGB"))


def palette(num_labels: int, names: Mapping[int, str] | None = None) -> NDArray[np.uint8]:
    """Return one colour per class, no two alike, the same on every run.

    names: class id -> name; familiar names ("sky", "tree") get the colour that people expect, the
    others the colour farthest from all colours in use. Returns RGB uint8 (num_labels, 3).
    """
    colors = np.zeros((num_labels, 3), np.uint8)
    free = []
    used: list[tuple[int, int, int]] = []
    for label in range(num_labels):
        expected = _expected_color((names or {}).get(label, ""))
        if expected is None or expected in used:
            free.append(label)
            continue
        used.append(expected)
        colors[label] = expected
    if free:
        colors[free] = _far_apart(len(free), used)
    return colors


def _expected_color(name: str) -> tuple[int, int, int] | None:
    """Look a class name up; datasets join synonyms ("door, double door"; "wall/building")."""
    for word in name.lower().replace("/", ",").replace(";", ",").split(","):
        if word.strip() in NAMED_COLORS:
            return NAMED_COLORS[word.strip()]
    return None


def _far_apart(count: int, used: list[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Pick colours one by one, each the farthest from black and from all picked before it."""
    candidates = _candidates(count + len(used))
    weights = np.array([0.55, 0.77, 0.33])  # the eye separates greens best, blues least
    scaled = candidates * weights
    distance = np.full(len(candidates), np.inf)
    picked = []
    # Black is kept free: it is what unlabelled pixels look like in most viewers.
    for color in [(0, 0, 0), *used]:
        np.minimum(distance, ((scaled - color * weights) ** 2).sum(-1), out=distance)
    for _ in range(count):
        best = int(distance.argmax())
        picked.append(best)
        np.minimum(distance, ((scaled - scaled[best]) ** 2).sum(-1), out=distance)
    return candidates[picked].astype(np.uint8)


def _candidates(at_least: int) -> NDArray[np.float64]:
    """Return distinct saturated, not too dark RGB colours, comfortably more than asked for."""
    steps = 24
    while True:
        colors = {
            tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue / steps, sat, val))
            for hue in range(steps)
            for sat in np.linspace(0.35, 1.0, max(4, steps // 6))
            for val in np.linspace(0.45, 1.0, max(4, steps // 6))
        }
        if len(colors) >= 2 * at_least:
            return np.array(sorted(colors), np.float64)
        steps *= 2

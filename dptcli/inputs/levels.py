"""Values of more than 8 bits to 256 levels: one rule for grey and colour.

What the file says of its range counts first: bits, largest sample. Where 16 bits hold fewer, the
smallest of 8, 10, 12, 14 and 16 bits that hold nearly all samples are taken; what lies above is
white. Floats of nearly 0 … 1 or 0 … 255 are that. Where nobody knows the range (negative values,
sums, heights, anything with a value for "no data"), it is laid so that the picture has the mean and
the spread of photographs, which is what networks learned from. What means "no data" and what is not
finite counts for nothing, and is black.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]

# The shares of samples that may lie beyond an end of the range: hot pixels, highlights.
_INTEGER_OUTLIERS = 0.001
_FLOAT_OUTLIERS = 0.005

_ENOUGH = 4_000_000  # samples that a range is taken from

_WELL_USED = 1 / 16
_MUCH_USED = 1 / 4

# Of ImageNet's photographs, of 0 … 1: the middle of what its three colours have.
_PHOTO_MEAN, _PHOTO_SPREAD = 0.449, 0.226

# What writers put where they know nothing, when they don't say so.
_FILLS = (-9999.0, -99999.0, -32768.0, -32767.0, float(np.finfo(np.float32).min), -1e30, -1e20)


@dataclass(frozen=True)
class Meaning:
    """What a file says of its samples.

    bits: how many of them count. no_data: the value of samples that are none. inverted: small is
    white.
    """

    bits: int | None = None
    no_data: float | None = None
    inverted: bool = False


@dataclass(frozen=True)
class Scaled:
    """levels: uint8, of the values' shape. used: the share of the range that the samples fill.

    ends: the values that became black and white. fill: a value that was taken for "no data" though
    the file does not say so. is_empty: no sample has a value.
    """

    levels: NDArray[np.uint8]
    used: float
    ends: tuple[float, float]
    fill: float | None = None
    is_empty: bool = False


def to_levels(
    values: Values, meaning: Meaning | None = None, *, ends: tuple[float, float] | None = None
) -> Scaled:
    """Scale real values of any shape and type as the module says; ends: the range, where given."""
    meaning = meaning or Meaning()
    values = np.asarray(values)
    if values.dtype == bool:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    valid, sample, fill = _meant(values, meaning.no_data)
    low, high = _robust_ends(sample)
    bottom, top = ends or _range_of(sample, low, high, meaning)
    levels = _scaled(values, bottom, top)
    if meaning.inverted:
        np.subtract(255, levels, out=levels)
    if valid is not None:
        levels[~valid] = 0
    used = (min(high, top) - max(low, bottom)) / max(top - bottom, 1e-300) if sample.size else 1.0
    return Scaled(levels, used, (bottom, top), fill, is_empty=valid is not None and not valid.any())


def alpha_levels(values: Values, colours: Scaled) -> NDArray[np.uint8]:
    """Alpha (H, W) as 0 … 255: of the colours' range where it fits into that, else its type's."""
    top, largest = colours.ends[1], values.max(initial=0)
    if np.issubdtype(values.dtype, np.integer) and largest > top:
        top = float(np.iinfo(values.dtype).max)
    elif np.issubdtype(values.dtype, np.floating) and largest <= 1:
        top = 1.0
    return to_levels(values, ends=(0.0, top)).levels


def poorly_used(scaled: Scaled) -> str | None:
    """Say that a picture will look black, white or flat; None where it uses its range."""
    if scaled.is_empty:
        return "has no value anywhere, only what stands for no data: all of it is black"
    if scaled.used >= _WELL_USED:
        return None
    bottom, top = scaled.ends
    return (
        f"uses {max(scaled.used, 0):.1%} of its range, {bottom:g} to {top:g}, and will look flat; "
        "--levels BLACK:WHITE gives another"
    )


def _meant(
    values: Values, no_data: float | None
) -> tuple[NDArray[np.bool_] | None, Values, float | None]:
    """Which samples count (None: all), enough of them to take a range from, and a found fill."""
    valid: NDArray[np.bool_] | None = None
    is_float = np.issubdtype(values.dtype, np.floating)
    if is_float:
        finite = np.isfinite(values)
        valid = None if finite.all() else finite
    if no_data is not None and np.isfinite(no_data):
        with np.errstate(over="ignore"):
            code = values.dtype.type(no_data) if is_float or _fits(no_data, values.dtype) else None
        if code is not None:
            told = values != code
            valid = told if valid is None else valid & told
    sample = _sample(values, valid)
    fill = _unsaid_fill(sample)
    if fill is not None:
        meant = values != values.dtype.type(fill)
        valid = meant if valid is None else valid & meant
        sample = _sample(values, valid)
    return valid, sample, fill


def _fits(number: float, dtype: np.dtype[Any]) -> bool:
    info = np.iinfo(dtype)
    return number == int(number) and info.min <= number <= info.max


def _sample(values: Values, valid: NDArray[np.bool_] | None) -> Values:
    """Up to _ENOUGH of the samples that count, spread evenly, flat."""
    step = max(1, -(-values.size // _ENOUGH))
    flat = values.reshape(-1)[::step]
    return flat if valid is None else flat[valid.reshape(-1)[::step]]


def _unsaid_fill(sample: Values) -> float | None:
    """The smallest value where it is a usual fill, far below all others; else None."""
    if sample.size < 2 or np.issubdtype(sample.dtype, np.unsignedinteger):
        return None
    smallest = float(sample.min())
    if not any(np.isclose(smallest, fill, rtol=1e-6, atol=0) for fill in _FILLS):
        return None
    others = sample[sample != sample.min()]
    if not others.size:
        return None
    lowest, highest = float(others.min()), float(others.max())
    return smallest if lowest - smallest > 2 * (highest - lowest) else None


def _robust_ends(sample: Values) -> tuple[float, float]:
    """The smallest and largest value without the few beyond them."""
    if not sample.size:
        return 0.0, 0.0
    is_float = np.issubdtype(sample.dtype, np.floating)
    dropped = int(sample.size * (_FLOAT_OUTLIERS if is_float else _INTEGER_OUTLIERS))
    if sample.dtype.itemsize <= 2 and not is_float:
        offset = int(np.iinfo(sample.dtype).min)
        counts = np.bincount(sample.astype(np.int64) - offset)
        below = counts.cumsum()
        low = int(np.searchsorted(below, dropped, side="right")) + offset
        high = int(np.searchsorted(below, sample.size - dropped, side="left")) + offset
        return float(low), float(high)
    if not dropped:
        return float(sample.min()), float(sample.max())
    ordered = np.partition(sample, (dropped, sample.size - 1 - dropped))
    return float(ordered[dropped]), float(ordered[-1 - dropped])


def _range_of(sample: Values, low: float, high: float, meaning: Meaning) -> tuple[float, float]:
    """The values that become black and white, from what a type may hold and what nearly all are."""
    known = (
        _range_of_floats(low, high)
        if np.issubdtype(sample.dtype, np.floating)
        else _range_of_integers(sample.dtype, low, high, meaning)
    )
    return known or _photographic_range(sample, low, high)


def _range_of_integers(
    dtype: np.dtype[Any], low: float, high: float, meaning: Meaning
) -> tuple[float, float] | None:
    info = np.iinfo(dtype)
    own = int(info.max).bit_length()  # 15 of int16
    if low < 0:
        span = float(info.max) - float(info.min)
        return (float(info.min), float(info.max)) if (high - low) * 4 > span else None
    if meaning.bits is not None and high < 2**meaning.bits:
        return 0.0, float(2**meaning.bits - 1)
    if meaning.no_data is not None and own > 8:
        return None  # measured, not photographed
    usual = {8, 10, 12, 14, 16, min(own, 16)}
    fitting = [2**bits - 1 for bits in sorted(usual) if bits <= own and high < 2**bits]
    if fitting:
        return 0.0, float(fitting[0])
    # Wide integers are whole (24 and 32 bits), or counts of something.
    wide = [2**bits - 1 for bits in (24, own) if high < 2**bits and high > 2**bits * _WELL_USED]
    return (0.0, float(wide[0])) if wide else None


def _range_of_floats(low: float, high: float) -> tuple[float, float] | None:
    """0 … 1, or another usual range where much of it is used; also that of a constant."""
    if low < -1e-3 * high:
        return None
    for top in (1.0, 255.0, 1023.0, 4095.0, 16_383.0, 65_535.0):
        if high <= top:
            much = _WELL_USED if top == 1 else _MUCH_USED
            return (0.0, top) if high - low > top * much or high == low else None
    return None


def _photographic_range(sample: Values, low: float, high: float) -> tuple[float, float]:
    """The range in which values between low and high have a photograph's mean and spread."""
    largest = max(abs(low), abs(high), 1e-300)
    inner = sample[(sample >= low) & (sample <= high)].astype(np.float64) / largest
    mean, spread = (float(inner.mean()), float(inner.std())) if inner.size else (0.0, 0.0)
    black = mean - spread * _PHOTO_MEAN / _PHOTO_SPREAD
    return black * largest, (black + spread / _PHOTO_SPREAD) * largest


def _scaled(values: Values, bottom: float, top: float) -> NDArray[np.uint8]:
    """Values as 0 … 255 between two of them, rounded."""
    if values.dtype.itemsize <= 2:
        info = np.iinfo(values.dtype)
        every = np.arange(info.min, int(info.max) + 1, dtype=np.float32)
        table = _scaled(every, bottom, top)
        return table[values.astype(np.int32) - int(info.min)] if info.min else table[values]
    is_float32 = np.issubdtype(values.dtype, np.floating) and values.dtype.itemsize == 4
    is_wide = not is_float32 or max(-bottom, top) > 1e37
    kind = np.float64 if is_wide else np.float32
    # Halved so that the range of two huge floats of opposite sign stays finite.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled: NDArray[Any] = values.astype(kind)
        np.multiply(scaled, kind(0.5), out=scaled)
        np.subtract(scaled, kind(bottom / 2), out=scaled)
        np.multiply(scaled, kind(255 / max(top / 2 - bottom / 2, 1e-30)), out=scaled)
        np.add(scaled, kind(0.5), out=scaled)
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)

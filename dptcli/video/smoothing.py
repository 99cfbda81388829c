"""Depth that does not flicker: one range for a clip, each frame's scale and shift held steady.

A network sees each frame alone, so the depth of a still scene wanders from frame to frame in scale
and shift, and a little in every pixel. Relative depth has no scale or shift to be true to, which
leaves both to be chosen so that the clip is calm.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Depth = NDArray[np.float32]

# How many frames before a frame settle the state that it meets; what a resumed run repeats.
WARM_UP = 8
DEFAULT_STRENGTH = 0.8

_GRID = 96  # the side of the thinned grid that scale and shift are fitted on
_CUT = 0.6  # below this correlation with the frame before, the scene is another one
_KEEP = 0.9  # what remains of a frame's correction in the next: slow true changes pass
_FOLLOW = 0.1  # what a frame's own range moves that of a live picture
_STILL = 0.02  # changes of this share of the range are flicker, larger ones are movement


def clip_range(maps: Sequence[Depth]) -> tuple[float, float]:
    """One range for a clip from a sample of its maps (H, W): (lo, hi), without the rare extremes.

    (0, 0) when no value is finite.
    """
    ends = []
    for values in maps:
        finite = values[np.isfinite(values)]
        if finite.size:
            ends.append(np.percentile(finite, (0.5, 99.5)))
    if not ends:
        return 0.0, 0.0
    return float(min(lo for lo, _ in ends)), float(max(hi for _, hi in ends))


def flicker(maps: Sequence[NDArray[np.generic]]) -> float:
    """The mean absolute change from frame to frame, in the maps' own unit."""
    changes = [
        np.abs(np.subtract(after, before, dtype=np.float64)).mean()
        for before, after in itertools.pairwise(maps)
    ]
    return float(np.mean(changes)) if changes else 0.0


@dataclass
class SlowRange:
    """The range of a live picture, which has no end to look at: it follows each frame's slowly."""

    _range: tuple[float, float] | None = field(default=None, repr=False)

    def next(self, limits: tuple[float, float]) -> tuple[float, float]:
        """Return the range to draw a frame in whose own is `limits`."""
        lo, hi = limits
        if lo >= hi:  # a frame of one value, or of none
            return self._range or limits
        if self._range is None or self._range[0] >= hi or self._range[1] <= lo:  # another scene
            self._range = limits
        else:
            was_lo, was_hi = self._range
            self._range = was_lo + _FOLLOW * (lo - was_lo), was_hi + _FOLLOW * (hi - was_hi)
        return self._range


@dataclass
class Stabilizer:
    """Holds a clip's depth steady, one frame after another; its memory is one map.

    limits: the clip's range. strength: 0 (frames pass as they are) … 1. A frame is scaled and
    shifted to fit the frame before where both agree; then each pixel that hardly changes follows
    slowly. A cut starts afresh: one that `start_anew` says, or that depth itself shows.
    """

    limits: tuple[float, float]
    strength: float = DEFAULT_STRENGTH
    _before: Depth | None = field(default=None, repr=False)

    def start_anew(self) -> None:
        """Forget the frames so far: the next one is of another shot."""
        self._before = None

    def next(self, depth: Depth) -> Depth:
        """Return the next frame's depth (H, W), steadied; frames come in order of time."""
        if self.strength == 0.0 or not bool(np.isfinite(depth).all()):
            return depth
        if self._before is None or self._before.shape != depth.shape:
            self._before = depth
            return depth
        fitted = fit_scale_shift(depth, self._before)
        if fitted is None:  # a cut
            self._before = depth
            return depth
        scale, shift = fitted
        scale, shift = scale ** (_KEEP * self.strength), shift * _KEEP * self.strength
        steady = depth * np.float32(scale) + np.float32(shift)
        span = max(self.limits[1] - self.limits[0], 1e-12)
        change = (self._before - steady) / np.float32(_STILL * span)
        steady += np.float32(self.strength * _STILL * span) * change * np.exp(-np.square(change))
        self._before = steady
        return steady


def fit_scale_shift(depth: Depth, before: Depth) -> tuple[float, float] | None:
    """Scale and shift that bring a map (H, W) onto the one before; None when they show two scenes.

    The pixels that move are left out (those farther off than twice the median). The scale is the
    ratio of spreads and not the least-squares slope, which noise draws towards 0: frame by frame
    that would flatten a clip.
    """
    step = max(1, min(depth.shape) // _GRID)
    x = depth[::step, ::step].ravel().astype(np.float64)
    y = before[::step, ::step].ravel().astype(np.float64)
    scale, shift = 1.0, 0.0
    for _ in range(3):
        if x.size < 16 or x.std() < 1e-12 or y.std() < 1e-12:
            return (1.0, 0.0) if x.size and abs(x.mean() - y.mean()) < 1e-12 else None
        if float(np.corrcoef(x, y)[0, 1]) < _CUT:
            return None
        scale = float(y.std() / x.std())
        shift = float(y.mean() - scale * x.mean())
        off = np.abs(scale * x + shift - y)
        still = off <= 2 * np.median(off) + 1e-12
        x, y = x[still], y[still]
    return scale, shift

"""How much larger one world is than another, by where the same cameras stand in both.

Source: Umeyama 1991; of many cameras the fit to those that agree, as Depth Anything 3's own code
has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import UsageError

_MANY = 10  # from so many cameras on, some may be wrong
_NUM_DRAWS = 10
_SEED = 42
# Of how far cameras are from the world's origin: nearer to each other is one place.
_LEAST_SHARE = 1e-7
_NETWORKS_LEAST = 0.1


@dataclass(frozen=True)
class Similarity:
    """What brings points of one world to another: scale · turn · point + shift."""

    scale: float
    turn: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def between(cls, start: NDArray[np.float64], end: NDArray[np.float64]) -> Self:
        """Points (N, 3) and the same in the other world, by least squares."""
        from_middle, to_middle = start - start.mean(axis=0), end - end.mean(axis=0)
        left, sizes, right = np.linalg.svd(to_middle.T @ from_middle / len(start))
        # A reflection is none: the least direction turns over.
        signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
        scale = float((sizes * signs).sum() / np.square(from_middle).sum(axis=1).mean())
        turn = (left * signs) @ right
        return cls(scale, turn, end.mean(axis=0) - scale * turn @ start.mean(axis=0))

    def apply(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (N, 3) -> the same in the other world."""
        return self.scale * points @ self.turn.T + self.shift


def places_of(extrinsics: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Where cameras stand in the world, (N, 3). extrinsics: world to camera, (3, 4) each."""
    stacked = np.asarray(extrinsics, np.float64)
    return np.asarray(-np.einsum("nij,ni->nj", stacked[:, :, :3], stacked[:, :, 3]))


def in_even_unit(extrinsics: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float64]]:
    """The same cameras in a unit that makes a network's answer the same whatever theirs is.

    The network takes the median distance from the first camera for its unit, but never less than a
    tenth of the given one, and of two cameras that median is the first one's own 0.
    """
    places = places_of(extrinsics)
    apart = np.sort(np.linalg.norm(places - places[0], axis=1))
    middle = apart[(len(apart) - 1) // 2]
    if middle > 0:
        factor = 1 / middle
    else:
        factor = _NETWORKS_LEAST / np.median(apart[apart > 0]) if apart.any() else 1.0
    scaled = np.array(extrinsics, np.float64)
    scaled[:, :, 3] *= factor
    return [*scaled]


def stand_apart(places: NDArray[np.float64]) -> bool:
    """Whether cameras (N, 3) stand in more than one place, so that their distances say a scale."""
    spread = np.linalg.norm(places - places.mean(axis=0), axis=1).max()
    return bool(spread > _LEAST_SHARE * max(np.abs(places).max(), 1e-12))


@dataclass(frozen=True)
class Unit:
    """What times a length among given cameras is one among those that a network found.

    error: how far the cameras of both are then from each other, the median, beside how far they
    are from their middle, the mean; 0 is exact, near 1 is chance. Of two cameras it is 0.
    """

    scale: float
    error: float


def unit_between(
    given: Sequence[NDArray[np.floating]], found: Sequence[NDArray[np.floating]]
) -> Unit:
    """Compare the cameras of a scene, world to camera, (3, 4) each. A line of them is enough.

    Raises UsageError where one of the two has all in one place.
    """
    start, end = places_of(given), places_of(found)
    if not stand_apart(start):
        raise UsageError(
            "--poses: the cameras stand in one place, and their distances are what gives depth its "
            "unit; take photographs from several places, or leave --poses out"
        )
    if not stand_apart(end):
        raise UsageError(
            "--poses: the network finds all the cameras in one place, so that no scale follows; do "
            "the photographs show one scene?"
        )
    fit = Similarity.between(start, end) if len(start) < _MANY else _agreed(start, end)
    apart = np.linalg.norm(fit.apply(start) - end, axis=1)
    reach = np.linalg.norm(end - end.mean(axis=0), axis=1)
    return Unit(fit.scale, float(np.median(apart) / reach.mean()))


def _agreed(start: NDArray[np.float64], end: NDArray[np.float64]) -> Similarity:
    """The fit to the cameras that most of them agree with."""
    best = Similarity.between(start, end)
    moved = best.apply(start)
    to_nearest = np.linalg.norm(moved[:, None] - end[None], axis=-1).min(axis=1)
    limit = np.median(to_nearest)
    draws = np.random.default_rng(_SEED)
    size = max(3, (len(start) + 1) // 2)
    most, agreeing = (-1, -np.inf), None
    for _ in range(_NUM_DRAWS):
        some = draws.choice(np.arange(len(start)), size=size, replace=False)
        found = Similarity.between(start[some], end[some])
        errors = np.linalg.norm(found.apply(start) - end, axis=1)
        near = errors <= limit
        score = int(near.sum()), -float(errors[near].mean()) if near.any() else -np.inf
        if score > most:
            most, best, agreeing = score, found, near
    if agreeing is not None and agreeing.sum() >= 3:
        return Similarity.between(start[agreeing], end[agreeing])
    return best

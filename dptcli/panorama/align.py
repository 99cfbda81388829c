"""Views brought onto one scale, where they overlap on the sphere.

A network that sees each view alone gives each a scale of its own, and relative ones a shift too.
All of them are found together, so that what two views say of the same directions agrees best, by
least squares in which what disagrees most counts less (Huber's weights).

N views, M directions; values (N, M) are along each view's axis, as networks give them, and nothing
where a view does not show the direction (its weight is 0).
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_ROUNDS = 12
_HUBER = 1.345  # of the errors' spread: 95 % as good as least squares where errors are normal
_LEAST_SCALE = 0.02  # of the mean: nothing turns near into far
# How much scales of 1 and shifts of 0 are believed beforehand, as shares of what a view's own
# directions say. A view of nothing but sky says nothing of its scale, and walls straight ahead of
# all views hardly tell one shift from another.
_SCALE_TRUST = 1e-4
_SHIFT_TRUST = 1e-3


@dataclass(frozen=True, eq=False)
class Fit:
    """What makes views agree: values * scale + shift, (N,) each.

    apart: how far two views of one direction are from each other afterwards: the median, and what
    nine tenths of the pairs keep within. For depth shares of the distance, for inverse depth of the
    spread of all values (their 98 % less their 2 % quantile).
    """

    scale: Doubles
    shift: Doubles
    apart: tuple[float, float]


def fit_inverse(values: Doubles, cosine: Doubles, weights: Doubles) -> Fit:
    """Scales and shifts for inverse depth, so that (scale * value + shift) * cosine is alike.

    cosine: of the angle between direction and view's axis (N, M): with it 1 / z becomes 1 / r, the
    inverse of the distance along the ray. The scales' mean is 1.
    """
    seen = weights > 0
    unit = float(np.median(np.abs(values[seen]))) or 1.0
    values = np.where(seen, values / unit, 0.0)
    pairs = _pairs(weights)
    count = len(values)
    # What scale and shift of a view add to it in each direction, (N, M) each.
    terms = (values * cosine, cosine)
    scale, shift = np.ones(count), np.zeros(count)
    trust = _trust(terms, weights)
    factors = [np.ones(len(where)) for _, _, where, _ in pairs]
    for _ in range(_ROUNDS):
        normal = np.diag(trust)
        for (i, j, where, weight), factor in zip(pairs, factors, strict=True):
            _add_pair(normal, terms, (i, j), where, weight * factor)
        scale, shift = _solved(normal, trust, count)
        errors = _errors(terms, scale, shift, pairs)
        factors = _huber(errors)
    on_sphere = (values * scale[:, None] + shift[:, None]) * cosine
    low, high = np.quantile(on_sphere[seen], (0.02, 0.98))
    return Fit(scale, shift * unit, _apart(errors, max(float(high - low), 1e-30)))


def fit_depth(values: Doubles, weights: Doubles) -> Fit:
    """Scales for depth, so that views of a direction have the same; their geometric mean is 1."""
    logs = np.log(np.maximum(values, 1e-30), where=weights > 0, out=np.zeros_like(values))
    pairs = _pairs(weights)
    count = len(values)
    log_scale: NDArray[np.floating] = np.zeros(count)
    factors = [np.ones(len(where)) for _, _, where, _ in pairs]
    errors: list[Doubles] = []
    for _ in range(_ROUNDS):
        normal, right = np.zeros((count, count)), np.zeros(count)
        for (i, j, where, weight), factor in zip(pairs, factors, strict=True):
            both = weight * factor
            normal[[i, j], [i, j]] += both.sum()
            normal[[i, j], [j, i]] -= both.sum()
            moment = float(both @ (logs[j, where] - logs[i, where]))
            right[i] += moment
            right[j] -= moment
        # Their sum is 0: without it any number could be added to all.
        log_scale = np.linalg.lstsq(normal + 1.0 / count, right, rcond=None)[0]
        moved = logs + log_scale[:, None]
        errors = [moved[i, where] - moved[j, where] for i, j, where, _ in pairs]
        factors = _huber(errors)
    return Fit(np.exp(log_scale), np.zeros(count), _apart(errors, 1.0))


Pair = tuple[int, int, NDArray[np.intp], Doubles]


def _pairs(weights: Doubles) -> list[Pair]:
    """Two views, the directions that both show, and how much each of these counts."""
    found = []
    for i, j in itertools.combinations(range(len(weights)), 2):
        where = np.flatnonzero((weights[i] > 0) & (weights[j] > 0))
        if len(where):
            found.append((i, j, where, np.sqrt(weights[i, where] * weights[j, where])))
    return found


def _trust(terms: tuple[Doubles, Doubles], weights: Doubles) -> Doubles:
    """How strongly a scale and a shift are held, (2N,)."""
    own = [(weights * np.square(term)).sum(1) for term in terms]
    return np.concatenate([_SCALE_TRUST * own[0], _SHIFT_TRUST * own[1]]) + 1e-9


def _add_pair(
    normal: Doubles,
    terms: tuple[Doubles, Doubles],
    pair: tuple[int, int],
    where: NDArray[np.intp],
    weight: Doubles,
) -> None:
    count = len(normal) // 2
    index = [view + half for view in pair for half in (0, count)]
    i, j = pair
    design = np.stack(
        [terms[0][i, where], terms[1][i, where], *(-term[j, where] for term in terms)]
    )
    normal[np.ix_(index, index)] += (design * weight) @ design.T


def _solved(normal: Doubles, trust: Doubles, count: int) -> tuple[Doubles, Doubles]:
    """The scales and shifts that minimise the sum of squares, with scales of mean 1, all > 0."""
    wanted = np.concatenate([trust[:count], np.zeros(count)])  # times a scale of 1, a shift of 0
    held: set[int] = set()
    while True:
        rows = [np.concatenate([np.ones(count), np.zeros(count)])]
        ends = [float(count)]
        for place in sorted(held):
            rows.append(np.eye(2 * count)[place])
            ends.append(_LEAST_SCALE)
        bound = np.stack(rows)
        system = np.block([[normal, bound.T], [bound, np.zeros((len(ends), len(ends)))]])
        solution = np.linalg.lstsq(system, np.concatenate([wanted, ends]), rcond=None)[0]
        scale = solution[:count]
        low = {int(place) for place in np.flatnonzero(scale < _LEAST_SCALE * 0.999)} - held
        if not low or len(held | low) >= count:
            return np.maximum(scale, _LEAST_SCALE), solution[count : 2 * count]
        held |= low


def _errors(
    terms: tuple[Doubles, Doubles], scale: Doubles, shift: Doubles, pairs: list[Pair]
) -> list[Doubles]:
    moved = terms[0] * scale[:, None] + terms[1] * shift[:, None]
    return [moved[i, where] - moved[j, where] for i, j, where, _ in pairs]


def _huber(errors: list[Doubles]) -> list[Doubles]:
    """How much each error counts: less, the larger it is."""
    if not errors:
        return []
    spread = 1.4826 * float(np.median(np.abs(np.concatenate(errors))))
    most = _HUBER * max(spread, 1e-12)
    return [most / np.maximum(np.abs(one), most) for one in errors]


def _apart(errors: list[Doubles], unit: float) -> tuple[float, float]:
    if not errors:
        return 0.0, 0.0
    median, most = np.quantile(np.abs(np.concatenate(errors)) / unit, (0.5, 0.9))
    return float(median), float(most)

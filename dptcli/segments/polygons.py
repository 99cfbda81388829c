"""Outlines of a label map's regions: closed rings that touch neither themselves nor each other.

Steps, each linear in the map's size: 4-connected regions by their runs, those too small left out,
a region with holes cut into pieces without, the pieces' edges walked, corners left out.
"""

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]  # corners (N, 2) as x, y in pixels from the top left corner, not closed

# Polygons may leave the pixels' own edges by this much, and regions and holes below this area are
# left out: a labelling tool wants a shape to drag, not every stair of every speck.
TOLERANCE_PX = 0.75
MIN_AREA_PX = 16.0

# Where a ring meets itself at a corner, each pass keeps this far away.
_APART_PX = 0.125

_FEW_CORNERS = 64

_EAST, _SOUTH, _WEST, _NORTH = range(4)  # each is the former's right turn
_STEP = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], np.float64)


@dataclass(frozen=True)
class Region:
    """A connected region of one label: the rings of its pieces, which together are all of it."""

    label: int
    rings: tuple[Ring, ...]

    @property
    def area(self) -> float:
        """In pixels."""
        return sum(signed_area(ring) for ring in self.rings)


@dataclass(frozen=True)
class LeftOut:
    """What polygons do not show: regions below the smallest area, and their pixels."""

    num_regions: int = 0
    num_pixels: int = 0


def regions_of(
    labels: NDArray[np.integer],
    shown: Collection[int],
    *,
    tolerance: float = TOLERANCE_PX,
    min_area: float = MIN_AREA_PX,
) -> tuple[list[Region], LeftOut]:
    """Return the regions of a label map (H, W), by label and then large ones first.

    shown: the labels to outline. tolerance: how far a corner may be moved away, in pixels; 0 keeps
    every pixel's edge. min_area: of regions and of holes; each label keeps its largest region.
    """
    ids, label_of = connected(np.where(np.isin(labels, list(shown)), labels.astype(np.int64), -1))
    areas = np.bincount(ids.ravel(), minlength=len(label_of))
    is_shown = label_of >= 0
    keep = is_shown & (areas >= min_area)
    order = np.lexsort((-areas, label_of))
    first = np.ones(len(order), bool)
    first[1:] = label_of[order][1:] != label_of[order][:-1]
    keep[order[first]] = True
    keep &= is_shown
    lost = LeftOut(int((is_shown & ~keep).sum()), int(areas[is_shown & ~keep].sum()))
    cuts = _cuts(np.where(keep[ids], ids + 1, 0), min_area)
    pieces, region_of = _in_pieces(ids, keep, cuts)
    fixed = {region + 1: set(rows) for region, rows in cuts.items()}
    rings: dict[int, list[Ring]] = {}
    for piece, ring in trace(pieces):
        if signed_area(ring) > 0:
            region = int(region_of[piece])
            smooth = _smoothed(ring, tolerance, fixed.get(region + 1, set()))
            rings.setdefault(region, []).append(smooth)
    return [
        Region(int(label_of[region]), tuple(rings[region]))
        for region in order.tolist()
        if region in rings
    ], lost


def connected(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number a map's 4-connected regions: numbers (H, W) from 0, and each region's label."""
    height, width = labels.shape
    begins = np.ones((height, width), bool)
    begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    runs = np.cumsum(begins.ravel()).reshape(height, width) - 1
    same = labels[1:] == labels[:-1]
    # One link for each pair of runs that lie above each other.
    same[:, 1:] &= ~(same[:, :-1] & ~begins[1:, 1:] & ~begins[:-1, 1:])
    upper, lower = runs[:-1][same], runs[1:][same]
    parent = np.arange(int(runs[-1, -1]) + 1)
    while len(upper):
        a, b = parent[upper], parent[lower]
        apart = a != b
        upper, lower = upper[apart], lower[apart]
        np.minimum.at(parent, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while not np.array_equal(above := parent[parent], parent):
            parent = above
    roots, number = np.unique(parent, return_inverse=True)
    first_of_run = np.flatnonzero(begins.ravel())
    return number.reshape(-1)[runs], labels.ravel()[first_of_run[roots]].astype(np.int64)


def _cuts(kept: NDArray[np.int64], min_area: float) -> dict[int, list[int]]:
    """Return for each region with holes the rows to cut it at, so that every hole is opened.

    kept: region + 1 (H, W), 0 for what is not shown. A cut at row y parts y - 1 from y.
    """
    spans: dict[int, list[tuple[int, int]]] = {}
    for region, ring in trace(kept):
        if -signed_area(ring) >= min_area:
            spans.setdefault(region - 1, []).append((int(ring[:, 1].max()), int(ring[:, 1].min())))
    cuts: dict[int, list[int]] = {}
    for region, of in spans.items():
        rows = cuts.setdefault(region, [])
        for bottom, top in sorted(of):  # as few cuts as there can be: at the first bottom
            if not rows or rows[-1] < top:
                rows.append(bottom)
    return cuts


def _in_pieces(
    ids: NDArray[np.int64], keep: NDArray[np.bool_], cuts: dict[int, list[int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the pieces (H, W) from 1, 0 for what is not shown; and {piece: region}."""
    height = ids.shape[0]
    rows = np.arange(height)[:, None]
    keys = np.array([r * (height + 1) + y for r in sorted(cuts) for y in cuts[r]], np.int64)
    # Regions follow one another, and cuts of a region too: so does region + number of cuts before.
    pieces = ids + np.searchsorted(keys, ids * (height + 1) + rows, side="right")
    num = len(keep) + len(keys) + 1
    region_of = np.zeros(num + 1, np.int64)
    region_of[pieces.ravel() + 1] = ids.ravel()
    return np.where(keep[ids], pieces + 1, 0), region_of


def trace(pieces: NDArray[np.integer]) -> list[tuple[int, Ring]]:
    """Return (piece, ring) for all closed lines around the pieces of a map (H, W), 0 is none.

    A ring runs along the pixels' edges and has its piece on its right: outlines have positive area,
    holes negative.
    """
    padded = np.pad(np.asarray(pieces), 1)
    above, below = padded[:-1, 1:], padded[1:, 1:]
    before, after = padded[1:, :-1], padded[1:, 1:]
    # At each corner, one bit for each direction in which a line leaves it.
    leaving = np.zeros((padded.shape[0] - 1, padded.shape[1] - 1), np.uint8)
    leaving |= ((below != 0) & (below != above)).astype(np.uint8) << _EAST
    leaving |= ((before != 0) & (before != after)).astype(np.uint8) << _SOUTH
    leaving[:, 1:] |= ((above != 0) & (above != below))[:, :-1].astype(np.uint8) << _WEST
    leaving[1:] |= ((after != 0) & (after != before))[:-1].astype(np.uint8) << _NORTH
    width = leaving.shape[1]
    steps = (1, width, -1, -width)
    # Each ring has an edge to the east: the top of its uppermost pixel, or of what is below a hole.
    starts = np.flatnonzero(leaving & 1 << _EAST).tolist()
    owners = padded[1:, 1:].ravel()[starts].tolist() if starts else []
    field = bytearray(leaving.tobytes())
    rings = []
    for start, owner in zip(starts, owners, strict=True):
        if field[start] & 1 << _EAST:
            rings.append((owner, _walk(field, start, steps, width)))
    return rings


def _walk(field: bytearray, start: int, steps: tuple[int, ...], width: int) -> Ring:
    """Follow one line from an edge to the east until that comes again, taking its bits away."""
    place, heading = start, _EAST
    corners = []
    while True:
        place += steps[heading]
        bits = field[place]
        # The right turn stays with the own pixel where pieces touch at a corner.
        right = (heading + 1) % 4
        if bits >> right & 1:
            turn = right
        elif bits >> heading & 1:
            turn = heading
        else:
            turn = (heading + 3) % 4
        if turn != heading:
            corners.append((place % width, place // width))
            heading = turn
        field[place] &= ~(1 << turn)
        if place == start and turn == _EAST:
            return np.array(corners, np.float64)


def _smoothed(ring: Ring, tolerance: float, fixed_rows: set[int]) -> Ring:
    """Return a ring with fewer corners that still does not meet itself."""
    if tolerance <= 0:
        return ring
    fixed = np.isin(ring[:, 1], list(fixed_rows))
    ring = _unpinched(ring)
    # Edges are a pixel apart: less than half of one cannot make them meet, but for spikes.
    for allowed in (tolerance, min(tolerance, 0.45)):
        found = simplify(ring, allowed, fixed=fixed)
        if signed_area(found) > 0 and not meets_itself(found):
            return found
    return ring


def _unpinched(ring: Ring) -> Ring:
    """Part the passes of a ring that comes to one corner twice, each towards its own pixel."""
    _, inverse, counts = np.unique(ring, axis=0, return_inverse=True, return_counts=True)
    twice = counts[inverse.reshape(-1)] > 1
    if not twice.any():
        return ring
    came = np.sign(ring - np.roll(ring, 1, axis=0))
    goes = np.sign(np.roll(ring, -1, axis=0) - ring)
    turn = came[:, 0] * goes[:, 1] - came[:, 1] * goes[:, 0]  # 1 to the right, which is inwards
    return np.where(twice[:, None], ring + _APART_PX * turn[:, None] * (goes - came), ring)


def simplify(ring: Ring, tolerance: float, *, fixed: NDArray[np.bool_] | None = None) -> Ring:
    """Leave out corners within `tolerance` of the line without them (Douglas and Peucker, 1973).

    fixed: corners that stay, bool (N,).
    """
    if tolerance <= 0 or len(ring) <= 4:
        return ring
    far = int(((ring - ring[0]) ** 2).sum(1).argmax())
    closed = np.concatenate((ring, ring[:1]))
    keep = np.zeros(len(closed), bool)
    keep[[0, far, len(ring)]] = True
    if fixed is not None:
        keep[:-1] |= fixed
    ends = np.flatnonzero(keep).tolist()
    todo = list(itertools.pairwise(ends))
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        line = closed[last] - closed[first]
        offsets = closed[first + 1 : last] - closed[first]
        length = float(np.hypot(*line))
        if length == 0:
            distance = np.hypot(offsets[:, 0], offsets[:, 1])
        else:
            distance = np.abs(offsets[:, 0] * line[1] - offsets[:, 1] * line[0]) / length
        worst = int(distance.argmax())
        if distance[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            todo += [(first, middle), (middle, last)]
    kept = closed[:-1][keep[:-1]]
    return kept if len(kept) >= 3 else ring


def meets_itself(ring: Ring) -> bool:
    """Whether edges that do not follow one another touch or cross."""
    following = np.concatenate((ring[1:], ring[:1]))
    if len(ring) <= _FEW_CORNERS:  # every pair at once is quicker than a sweep
        one, other = _pairs_apart(len(ring))
        return bool(_touch(ring[one], following[one], ring[other], following[other]).any())
    extent = np.ptp(ring, axis=0)
    axis = 0 if extent[0] >= extent[1] else 1
    low, high = np.minimum(ring, following), np.maximum(ring, following)
    order = np.argsort(low[:, axis], kind="stable")
    low, high = low[order], high[order]
    begin, end = ring[order], following[order]
    num = len(ring)
    active = np.arange(num)
    for ahead in range(1, num):
        active = active[active + ahead < num]
        active = active[low[active + ahead, axis] <= high[active, axis]]
        if not len(active):
            return False
        other = active + ahead
        near = active[
            (low[other, 1 - axis] <= high[active, 1 - axis])
            & (low[active, 1 - axis] <= high[other, 1 - axis])
        ]
        if not len(near):
            continue
        other = near + ahead
        apart = np.abs(order[near] - order[other])
        neighbours = (apart == 1) | (apart == num - 1)
        if (_touch(begin[near], end[near], begin[other], end[other]) & ~neighbours).any():
            return True
    return False


@lru_cache(maxsize=_FEW_CORNERS)
def _pairs_apart(num: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pairs of `num` edges in a circle that do not follow one another."""
    one, other = np.triu_indices(num, 2)
    is_apart = (one > 0) | (other < num - 1)
    return one[is_apart], other[is_apart]


def _touch(a: Ring, b: Ring, c: Ring, d: Ring) -> NDArray[np.bool_]:
    """Whether the edges a-b and c-d have a point in common."""

    def side(p: Ring, q: Ring, r: Ring) -> NDArray[np.float64]:
        value = (q[:, 0] - p[:, 0]) * (r[:, 1] - p[:, 1]) - (q[:, 1] - p[:, 1]) * (
            r[:, 0] - p[:, 0]
        )
        return np.asarray(np.sign(value))

    boxes = (np.minimum(a, b) <= np.maximum(c, d)) & (np.minimum(c, d) <= np.maximum(a, b))
    crossing = (side(a, b, c) * side(a, b, d) <= 0) & (side(c, d, a) * side(c, d, b) <= 0)
    return crossing & boxes.all(axis=1)  # the boxes tell edges on one line apart


def signed_area(ring: Ring) -> float:
    """Return a ring's area, negative for one that runs the other way round."""
    x, y = ring[:, 0], ring[:, 1]
    closing = x[-1] * y[0] - x[0] * y[-1]
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1] + closing) / 2

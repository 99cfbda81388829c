"""A furnished room seen from its middle in every direction, cast ray by ray: exact distances.

Axes are glTF's: x right, y up; metres.
"""

import numpy as np

WALLS = ((-3.0, -1.5, -4.0), (2.5, 1.2, 3.0))
BALLS = (((1.0, -0.4, -2.2), 0.5), ((-1.6, 0.3, 1.2), 0.4), ((0.3, -0.9, 1.5), 0.35))
BOXES = (((-2.2, -1.5, -2.6), (-1.2, -0.4, -1.6)), ((1.4, -1.5, 0.6), (2.2, 0.5, 1.4)))


def rays(hw):
    """Where the pixels of a panorama look: unit vectors, float64 (H, W, 3)."""
    height, width = hw
    latitude = np.pi / 2 - (np.arange(height)[:, None] + 0.5) * np.pi / height
    longitude = (np.arange(width) + 0.5) * 2 * np.pi / width - np.pi
    level = np.cos(latitude)
    parts = (level * np.sin(longitude), np.sin(latitude), -level * np.cos(longitude))
    return np.stack(np.broadcast_arrays(*parts), axis=-1)


def distance_m(direction):
    """How far unit vectors (…, 3) reach from the origin, float64 (…)."""
    return _hits(direction).min(0)


def colour(direction):
    """What they see: RGB uint8 (…, 3), a pattern through space on each thing."""
    hits = _hits(direction)
    point = direction * hits.min(0)[..., None]
    rng, seen = np.random.default_rng(0), np.full(direction.shape, 127.0)
    for octave in range(5):
        wave = rng.normal(0, 2 + 2 * octave, (3, 3))
        seen += 40 / (1 + octave) * np.sin(point @ wave + hits.argmin(0)[..., None])
    return seen.clip(0, 255).astype(np.uint8)


def _hits(direction):
    """How far each thing is (K, …); infinitely where it is not seen."""
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = [np.nanmax(_slab(direction, *WALLS), 0).min(-1)]
        for low, high in BOXES:
            ends = _slab(direction, low, high)
            enters, leaves = ends.min(0).max(-1), ends.max(0).min(-1)
            hits.append(np.where((enters > 0) & (enters < leaves), enters, np.inf))
        for centre, radius in BALLS:
            along = direction @ np.array(centre)
            inside = along**2 - np.square(centre).sum() + radius**2
            hits.append(
                np.where((inside > 0) & (along > 0), along - np.sqrt(inside.clip(0)), np.inf)
            )
    return np.stack(hits)


def _slab(direction, low, high):
    """Where rays cross the six planes of a box (2, …, 3)."""
    return np.stack([np.array(low) / direction, np.array(high) / direction])

"""A small scene whose every view is exact: a wall, a floor and balls, cast ray by ray."""

import numpy as np

BALLS = (((-0.6, 0.2, 2.5), 0.5), ((0.7, -0.1, 3.2), 0.6), ((0.1, 0.5, 1.8), 0.25))
_SAMPLES = 2  # to each side of a pixel


def rays(hw, focal_px):
    """Directions of a pinhole camera's rays, float64 (H, W, 3), z = 1, y down."""
    height, width = hw
    row, column = np.mgrid[:height, :width] + 0.5
    return np.stack(
        [(column - width / 2) / focal_px, (row - height / 2) / focal_px, np.ones(hw)], axis=-1
    )


def cast(origin, direction):
    """Colours (…, 3) from 0 to 255, and how many times `direction` (…, 3) is as far as is seen."""
    far, colour = np.full(direction.shape[:-1], np.inf), np.zeros(direction.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = [
            (6.0 - origin[2]) / direction[..., 2],  # a wall
            np.where(direction[..., 1] > 0, (1.2 - origin[1]) / direction[..., 1], -1),  # a floor
        ]
    for centre, radius in BALLS:
        offset = origin - np.array(centre)
        a, b = (direction**2).sum(-1), 2 * direction @ offset
        inside = b**2 - 4 * a * (offset @ offset - radius**2)
        hits.append(np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / (2 * a), -1))
    for number, hit in enumerate(hits):
        seen = (hit > 0.1) & (hit < far)
        colour[seen] = _paint((origin + direction * hit[..., None])[seen], number)
        far = np.where(seen, hit, far)
    return colour, far


def photograph(eye_x, hw, focal_px):
    """What a camera at (eye_x, 0, 0) sees along z: RGB uint8 (H, W, 3), smooth at the edges."""
    fine = rays([side * _SAMPLES for side in hw], focal_px * _SAMPLES)
    colour, _ = cast(np.array([eye_x, 0.0, 0.0]), fine)
    mean = colour.reshape(hw[0], _SAMPLES, hw[1], _SAMPLES, 3).mean((1, 3))
    return mean.round().astype(np.uint8)


def depth_m(eye_x, hw, focal_px):
    """Its depth along z in metres, float32 (H, W)."""
    return cast(np.array([eye_x, 0.0, 0.0]), rays(hw, focal_px))[1].astype(np.float32)


def _paint(point, seed):
    """Colours of points (N, 3) of a thing: waves through space, none like another's."""
    rng, colour = np.random.default_rng(seed + 1), np.zeros(point.shape)
    for octave in range(6):
        wave, phase = rng.normal(0, 3 + 3 * octave, 3), rng.uniform(0, 2 * np.pi, 3)
        colour += np.sin(2 * np.sin(point @ wave)[:, None] + phase) / (1 + 0.5 * octave)
    return np.clip(127 + 45 * colour, 0, 255)


def psnr(ours, exact, where=None):
    """Decibels of 8-bit pictures, of the pixels `where`, all by default."""
    squares = np.square(ours.astype(np.float64) - exact)
    return 10 * np.log10(255**2 / (squares if where is None else squares[where]).mean())

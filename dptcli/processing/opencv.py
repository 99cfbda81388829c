"""Resizing bytes as OpenCV does it, by area and by a cubic, within one level of 255.

Models whose authors prepare pictures with OpenCV were trained on its pixels: Pillow's filters,
which widen where they shrink, differ by whole levels at every edge.
"""

import numpy as np
from numpy.typing import NDArray

_A = -0.75  # the cubic's free number, OpenCV's choice
_SLIVER = 1e-3  # of a pixel: less of one at a cell's edge does not count


def resize_area(image: NDArray[np.uint8], hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Shrink bytes (H, W, C): each pixel is the mean of the area that it covers. hw: no larger."""
    rows = _averaged(image.reshape(image.shape[0], -1), hw[0])
    rows = rows.reshape(hw[0], image.shape[1], -1)
    columns = _averaged(rows.swapaxes(0, 1).reshape(image.shape[1], -1), hw[1])
    averaged = columns.reshape(hw[1], hw[0], -1).swapaxes(0, 1)
    # Halves go to the even level, but up where 2×2 pixels make one, which is done in integers.
    halved = (2 * hw[0], 2 * hw[1]) == image.shape[:2]
    rounded = np.floor(averaged + 0.5) if halved else np.rint(averaged)
    return np.ascontiguousarray(rounded.astype(np.uint8))


def resize_cubic(image: NDArray[np.uint8], hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize bytes (H, W, C) by a cubic over 4×4 pixels, which does not widen where it shrinks."""
    down, across = _cubic(image.shape[0], hw[0]), _cubic(image.shape[1], hw[1])
    rows = down @ image.reshape(image.shape[0], -1).astype(np.float32)
    columns = across @ rows.reshape(hw[0], image.shape[1], -1)
    return np.asarray(np.rint(columns).clip(0, 255).astype(np.uint8))


def _averaged(lines: NDArray[np.uint8] | NDArray[np.float32], num: int) -> NDArray[np.float32]:
    """Lines (N, K) -> float32 (num, K), each the mean over its share of the N."""
    size = len(lines)
    if size == num:
        return lines.astype(np.float32)
    scale = size / num
    start = np.arange(num) * scale
    end = start + scale
    first, last = np.ceil(start).astype(int), np.minimum(np.floor(end).astype(int), size - 1)
    first = np.minimum(first, last)
    whole = np.add.reduceat(
        lines, np.stack([first, last], axis=1).ravel(), axis=0, dtype=np.float32
    )[::2]
    whole[first == last] = 0  # reduceat gives the line itself for an empty range
    before = np.where(first - start > _SLIVER, first - start, 0).astype(np.float32)
    after = np.where(end - last > _SLIVER, np.minimum(end - last, 1), 0).astype(np.float32)
    whole += before[:, None] * lines[np.maximum(first - 1, 0)]
    whole += after[:, None] * lines[last]
    whole /= np.minimum(scale, size - start)[:, None].astype(np.float32)
    return np.asarray(whole)


def _cubic(size: int, num: int) -> NDArray[np.float32]:
    """The matrix (num, size) of the cubic; pixels beyond an edge are the edge."""
    at = (np.arange(num) + 0.5) * (size / num) - 0.5
    below = np.floor(at).astype(int)
    t = at - below
    far = ((_A * (t + 1) - 5 * _A) * (t + 1) + 8 * _A) * (t + 1) - 4 * _A
    near = ((_A + 2) * t - (_A + 3)) * t * t + 1
    u = 1 - t
    other = ((_A + 2) * u - (_A + 3)) * u * u + 1
    weights = np.stack([far, near, other, 1 - far - near - other], axis=1)
    matrix = np.zeros((num, size), np.float32)
    places = np.clip(below[:, None] + np.arange(-1, 3), 0, size - 1)
    np.add.at(matrix, (np.arange(num)[:, None], places), weights.astype(np.float32))
    return matrix

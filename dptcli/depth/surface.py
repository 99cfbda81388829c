"""A surface in space that wears a picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Surface:
    """Points of every `stride`-th pixel, joined to triangles.

    points: float32 (N, 3). place: where each lies in the picture, shares of its width and height
    from its corner, float32 (N, 2). triangles: uint32 (T, 3), counter-clockwise from the camera.
    pixel: which of the pixels each is, -1 for none (N,).
    """

    points: NDArray[np.float32]
    place: NDArray[np.float32]
    triangles: NDArray[np.uint32]
    pixel: NDArray[np.int64]

    def joined(self, num_pixels: int) -> NDArray[np.bool_]:
        """Which of the pixels some triangle has."""
        found = np.zeros(num_pixels + 1, np.bool_)
        found[self.pixel[self.triangles]] = True  # -1 is the last one
        return found[:-1]

    def used(self) -> "Surface":
        """Without the points that no triangle has."""
        used = np.unique(self.triangles)
        renumbered = np.zeros(len(self.points), np.uint32)
        renumbered[used] = np.arange(len(used), dtype=np.uint32)
        return Surface(
            self.points[used], self.place[used], renumbered[self.triangles], self.pixel[used]
        )


def places_of(pixel: NDArray[np.integer], hw: Size, *, stride: int) -> NDArray[np.float32]:
    """Where pixels lie in a picture of `hw`, by their number among every `stride`-th: (…, 2)."""
    row, column = np.divmod(pixel, -(-hw[1] // stride))
    shares = [(column * stride + 0.5) / hw[1], (row * stride + 0.5) / hw[0]]
    return np.stack(shares, axis=-1).astype(np.float32)

"""What the network says beside depth, at the map's size: how sure it is, surface normals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.kinds import Kind

_TWICE = "agreement of two passes, one of the mirrored photograph: "
_OF_DEPTH = "the smaller depth by the larger"
# The words for running/agreement.py's formulas.
MIRRORED: dict[Kind, str] = {
    "inverse_depth": f"{_TWICE}1 - difference / (98 % - 2 % quantile), scale and shift fitted",
    "depth": f"{_TWICE}{_OF_DEPTH}, scale fitted",
    "depth_m": f"{_TWICE}{_OF_DEPTH}",
    "height_m": f"{_TWICE}1 - difference / (98 % - 2 % quantile)",
}
BY_NETWORK = "the network"


def confidence_at(values: NDArray[np.float32], hw: tuple[int, int]) -> NDArray[np.float32]:
    """Confidence (h, w) at `hw`, bilinear, so that it stays within its range."""
    if values.shape == hw:
        return values
    resized = Image.fromarray(values).resize(hw[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized)


def normals_at(planes: NDArray[np.float32], hw: tuple[int, int]) -> NDArray[np.float32]:
    """Surface normals (3, h, w) at `hw`, bilinear and of length 1 again: (H, W, 3)."""
    resized = np.stack([confidence_at(plane, hw) for plane in planes], axis=-1)
    length = np.linalg.norm(resized, axis=-1, keepdims=True)
    return np.asarray(resized / np.maximum(length, 1e-12), np.float32)


def confidence_facts(values: NDArray[np.float32], kind: Kind, *, mirrored: bool) -> dict[str, Any]:
    """Say how sure a map of a model's kind is on the whole, and whose word that is."""
    by = MIRRORED[kind] if mirrored else BY_NETWORK
    return {"mean": round(float(values.mean()), 6), "by": by}

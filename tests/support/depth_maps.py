"""Small depth maps with a photograph and a camera, and a format's writer run on one."""

import numpy as np

from dptcli.depth.depthmap import DepthMap
from dptcli.depth.lens import Lens

RNG = np.random.default_rng(0)
INVERSE = RNG.uniform(-0.5, 40, (23, 37)).astype(np.float32)
METRES = RNG.uniform(0.4, 30, (23, 37)).astype(np.float32)


def depth_map(values=METRES, *, kind="depth_m", **changes):
    finite = values[np.isfinite(values)]
    limits = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    rgb = np.zeros((*values.shape, 3), np.uint8)
    rgb[..., 0] = np.arange(values.shape[1])
    return DepthMap(
        values,
        kind,
        limits,
        **{"rgb": rgb, "lens": Lens.middle(50.0, values.shape, "--fov"), **changes},
    )


def write(path, writer, depth, **options):
    with path.open("wb") as stream:
        return writer(stream, depth, **options)

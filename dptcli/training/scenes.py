"""Which scenes are rendered, how often, and from where: the mix of kinds, and accepted views."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import bpy
import numpy as np

from dptcli.training import outdoors, rooms
from dptcli.training.stage import Stage

MAX_TRIES = 25
"""Cameras tried for one view before it is given up."""


@dataclass(frozen=True)
class Kind:
    """A kind of scene: its share of all scenes, its builder, views a scene and frame shapes."""

    share: float
    build: Callable[[Stage], Callable[[], None]]
    num_views: int
    shapes_hw: tuple[tuple[int, int], ...]


# About 86 thousand pixels each, sides multiples of 14.
USUAL = ((252, 336), (252, 336), (252, 336), (280, 308), (336, 252))
WIDE = ((252, 336), (252, 336), (210, 406), (196, 434), (168, 504), (168, 504), (280, 308))

KINDS = {
    "room": Kind(0.38, rooms.room, 3, USUAL),
    "table": Kind(0.11, rooms.table, 2, USUAL),
    "wall": Kind(0.05, rooms.wall, 2, USUAL),
    "backdrop": Kind(0.05, rooms.backdrop, 2, USUAL),
    "heap": Kind(0.08, rooms.heap, 3, USUAL),
    "street": Kind(0.25, outdoors.street, 3, WIDE),
    "terrain": Kind(0.08, outdoors.terrain, 2, USUAL),
}


@dataclass(frozen=True)
class Setting:
    """A built scene: its kind, and `aim`, which places the camera at random."""

    kind: str
    aim: Callable[[], None]


def build(stage: Stage, *, only: str | None = None) -> Setting:
    """Build one scene on a cleared stage, of the kind `only` or drawn by the shares."""
    shares = np.array([kind.share for kind in KINDS.values()])
    name = only or str(stage.rng.choice(list(KINDS), p=shares / shares.sum()))
    return Setting(name, KINDS[name].build(stage))


def views(stage: Stage, setting: Setting) -> Iterator[tuple[int, int]]:
    """Place the camera for each view of the scene; its frame shape (height, width)."""
    kind = KINDS[setting.kind]
    for _ in range(kind.num_views):
        shape_hw = kind.shapes_hw[int(stage.rng.integers(len(kind.shapes_hw)))]
        render = bpy.context.scene.render
        render.resolution_y, render.resolution_x = shape_hw
        if _look_around(stage, setting.aim, choices=int(stage.rng.choice((1, 4, 4)))):
            yield shape_hw


def _look_around(stage: Stage, aim: Callable[[], None], *, choices: int) -> bool:
    """Leave the camera at the richest of `choices` worthwhile views; whether there is one."""
    camera, best, found = None, -math.inf, 0
    for _ in range(MAX_TRIES):
        aim()
        value = _richness(stage)
        found += value > -math.inf
        if value > best:
            item = bpy.context.scene.camera
            camera, best = (item.matrix_world.copy(), item.data.angle), value
        if found == choices:
            break
    if camera is None:
        return False
    item = bpy.context.scene.camera
    item.matrix_world, item.data.angle = camera
    bpy.context.view_layer.update()
    return True


def _richness(stage: Stage) -> float:
    """How much a coarse grid of rays sees: objects, and octaves of depth; -inf for next to none."""
    depths, num_objects = stage.probe()
    known = depths[np.isfinite(depths)]
    if known.size < 0.3 * depths.size or num_objects < 2:
        return -math.inf
    if known.min() <= 0.15 or np.median(known) <= 0.35:
        return -math.inf
    near, far = np.percentile(known, [5, 95])
    return math.log2(num_objects) + 0.5 * math.log2(far / near)

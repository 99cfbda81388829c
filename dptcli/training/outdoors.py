"""Outdoor scenes: streets with buildings, vehicles, trees and people, and open terrain."""

import math
from collections.abc import Callable

import numpy as np
from mathutils import Vector, noise

from dptcli.training import materials
from dptcli.training.furniture import select
from dptcli.training.stage import Point, Stage
from dptcli.training.traffic import bridge, people, vehicles

REACH_M = 110.0
"""How far a street goes on before the camera."""


def _shrub(stage: Stage, location: Point, size: float) -> None:
    """A ball of leaves: a dented sphere."""
    rng = stage.rng
    rings, sides = 9, 14
    shift = Vector(rng.uniform(-50, 50, 3))
    vertices: list[Point] = []
    for ring in range(rings + 1):
        polar = math.pi * ring / rings
        for k in range(sides):
            around = 2 * math.pi * k / sides
            unit = Vector(
                (
                    math.sin(polar) * math.cos(around),
                    math.sin(polar) * math.sin(around),
                    math.cos(polar),
                )
            )
            radius = 1 + 0.45 * noise.noise(unit * 2.5 + shift)
            vertices.append(tuple(unit * radius * size / 2))
    faces = [
        (
            r * sides + k,
            r * sides + (k + 1) % sides,
            (r + 1) * sides + (k + 1) % sides,
            (r + 1) * sides + k,
        )
        for r in range(rings)
        for k in range(sides)
    ]
    hue = 0.24 if rng.random() < 0.85 else 0.1
    item = stage.mesh(vertices, faces, "vegetation", materials.foliage(rng, hue=hue), smooth=True)
    item.location = location
    item.scale = (1, 1, float(rng.uniform(0.7, 1.4)))


def tree(stage: Stage, x: float, y: float, base: float = 0.0) -> None:
    """A tree: imported, or a trunk with balls of leaves."""
    rng = stage.rng
    tall = select(stage.pieces, labels=("vegetation",), height_m=(1.2, 30))
    if tall and rng.random() < 0.6:
        piece = stage.any_piece(tall)
        if piece is not None:
            scale = float(rng.uniform(0.7, 1.3)) * max(1.0, 3.0 / piece.size_m[2])
            stage.piece(piece, (x, y, base), turn=float(rng.uniform(0, 6.3)), scale=scale)
        return
    height = float(rng.uniform(3, 11))
    trunk = float(rng.uniform(0.08, 0.3))
    bark = materials.speckle(
        rng, materials.random_rgb(rng, hue=0.07, saturation=(0.2, 0.6), value=(0.05, 0.2))
    )
    stage.lathe(
        [(trunk, 0), (trunk * 0.7, height * 0.7)], (x, y, base), "vegetation", bark, sides=8
    )
    for _ in range(int(rng.integers(1, 6))):
        size = float(rng.uniform(0.25, 0.6)) * height
        spot = (
            x + float(rng.normal(0, 0.1)) * height,
            y + float(rng.normal(0, 0.1)) * height,
            base + height * float(rng.uniform(0.55, 0.95)),
        )
        _shrub(stage, spot, size)


def _pole(stage: Stage, x: float, y: float, toward: float) -> None:
    """A lamp post, a traffic sign or a plain pole."""
    rng = stage.rng
    skin = materials.metal(rng) if rng.random() < 0.6 else materials.plain(rng)
    height = float(rng.uniform(2.2, 9))
    radius = float(rng.uniform(0.03, 0.12))
    stage.lathe([(radius, 0), (radius * 0.7, height)], (x, y, 0), "other structure", skin, sides=8)
    kind = rng.random()
    if kind < 0.45:
        arm = float(rng.uniform(0.5, 2))
        stage.box((arm, 0.1, 0.1), (x + toward * arm / 2, y, height), "other structure", skin)
    elif kind < 0.85:
        width = float(rng.uniform(0.4, 0.9))
        face = materials.plain(rng, materials.random_rgb(rng, saturation=(0.3, 1), value=(0.3, 1)))
        stage.box(
            (width, 0.03, width),
            (x, y - radius - 0.02, min(height, 2.6) - width),
            "other structure",
            face,
        )


def _building(stage: Stage, x: float, y: float, size: Point, side: float) -> None:
    """A block with window storeys, ledges, a door and sometimes a pitched roof."""
    rng = stage.rng
    storey = float(rng.uniform(2.6, 3.6))
    skin = materials.facade(rng, storey)
    width, length, height = size
    corners = [
        (x - width / 2, y - length / 2),
        (x + width / 2, y - length / 2),
        (x + width / 2, y + length / 2),
        (x - width / 2, y + length / 2),
    ]
    for k in range(4):
        stage.wall(corners[k], corners[(k + 1) % 4], 0, height, "building", skin)
    roof = materials.brick(rng, tile=True) if rng.random() < 0.5 else materials.plain(rng)
    stage.plane((width, length), (x, y, height), (0, 0, 0), "building", roof)
    if rng.random() < 0.55:
        ridge = height + float(rng.uniform(1, 4))
        w, d = width / 2 + 0.3, length / 2 + 0.3
        points = [(-w, -d, height), (w, -d, height), (w, d, height), (-w, d, height),
                  (0, -d, ridge), (0, d, ridge)]  # fmt: skip
        item = stage.mesh(
            points, [(0, 4, 5, 3), (1, 2, 5, 4), (0, 1, 4), (2, 3, 5)], "building", roof
        )
        item.location = (x, y, 0)
    front = x - side * width / 2
    trim = materials.plain(rng)
    for level in range(1, int(height / storey) + 1):
        if rng.random() < 0.4:
            stage.box((0.3, length, 0.15), (front, y, level * storey), "building", trim)
    for _ in range(int(rng.integers(0, 5))):  # doors, balconies, bays
        along = y + float(rng.uniform(-0.45, 0.45)) * length
        if rng.random() < 0.5:
            spot, size = (front, along, 0.0), (0.15, 1.1, 2.2)
        else:
            spot, size = (front, along, storey * float(rng.integers(1, 4))), (1.6, 2.5, 1.0)
        if spot[2] + size[2] < height:
            stage.box(size, spot, "building", materials.anything(rng, stage.images))


def _ground(stage: Stage, half_road: float, pavement: float) -> float:
    """Road, markings, raised pavements and what lies beyond; the distance of the plots' edge."""
    rng = stage.rng
    grey = materials.random_rgb(rng, saturation=(0, 0.15), value=(0.04, 0.35))
    asphalt = materials.speckle(rng, grey)
    if rng.random() < 0.1:
        asphalt = materials.picture(rng, stage.images, width_m=float(rng.uniform(0.8, 4)))
    stage.plane((2 * half_road, 400), (0, 100, 0), (0, 0, 0), "road", asphalt)
    if rng.random() < 0.8:
        paint = materials.plain(rng, (0.75, 0.75, 0.7), rough=0.6)
        dash, gap = (float(rng.uniform(2, 5)), float(rng.uniform(2, 7)))
        position = -20.0
        while position < REACH_M:
            stage.plane((0.14, dash), (0, position, 0.006), (0, 0, 0), "road", paint)
            position += dash + gap
        for side in (-1, 1):
            if rng.random() < 0.5:
                edge = (half_road - 0.3) * side
                stage.plane((0.12, 300), (edge, 100, 0.006), (0, 0, 0), "road", paint)
    stone = materials.brick(rng, tile=True) if rng.random() < 0.5 else materials.speckle(rng)
    for side in (-1, 1):
        centre = side * (half_road + pavement / 2)
        stage.box((pavement, 400, 0.13), (centre, 100, 0), "road", stone)
    grows = rng.random() < 0.65
    beyond = materials.foliage(rng) if grows else materials.speckle(rng)
    for side in (-1, 1):
        stage.plane(
            (300, 400),
            (side * (half_road + pavement + 150), 100, 0.02),
            (0, 0, 0),
            "grass" if grows else "earth",
            beyond,
        )
    return half_road + pavement


def _light(stage: Stage, *, overcast: float) -> None:
    rng = stage.rng
    if rng.random() < 0.3:
        stage.surroundings(strength=float(rng.uniform(0.5, 2)), indoors=False)
        return
    stage.sky(overcast=bool(rng.random() < overcast))


def street(stage: Stage) -> Callable[[], None]:
    """A road between buildings or gardens, from a car's or a walker's height."""
    rng = stage.rng
    half_road = float(rng.uniform(3, 8))
    pavement = float(rng.uniform(1.2, 4))
    edge = _ground(stage, half_road, pavement)
    built = float(rng.uniform(0, 1)) ** 0.7
    green = float(rng.uniform(0, 1))
    for side in (-1.0, 1.0):
        position = float(rng.uniform(-25, -5))
        while position < REACH_M:
            length = float(rng.uniform(6, 22))
            centre = position + length / 2
            if rng.random() < built:
                size = (float(rng.uniform(6, 14)), length, float(rng.uniform(3.5, 18)))
                back = float(rng.exponential(2.5))
                _building(stage, side * (edge + back + size[0] / 2), centre, size, side)
            else:
                for _ in range(int(rng.integers(1, 5))):
                    tree(stage, side * (edge + float(rng.uniform(1, 16))),
                         centre + float(rng.uniform(-0.5, 0.5)) * length)  # fmt: skip
            if rng.random() < 0.3:
                kind = rng.random()
                skin = materials.foliage(rng) if kind < 0.5 else materials.anything(rng)
                label = "vegetation" if kind < 0.5 else "other structure"
                size = (float(rng.uniform(0.1, 1)), length * 0.9, float(rng.uniform(0.6, 2.2)))
                stage.box(size, (side * (edge + 0.5), centre, 0), label, skin)
            position += length + (float(rng.exponential(5)) if rng.random() < 0.6 else 0.0)
        step = float(rng.uniform(6, 25))
        for position in np.arange(float(rng.uniform(-5, 10)), 90, step):
            x = side * (half_road + float(rng.uniform(0.3, 0.9)))
            if rng.random() < 0.35 * green + 0.1:
                tree(stage, x, float(position))
            elif rng.random() < 0.6:
                _pole(stage, x, float(position), -side)
    vehicles(stage, half_road)
    if rng.random() < 0.15:
        bridge(stage, edge)
    people(stage, half_road * 0.6, edge, int(rng.integers(0, 10)))
    if rng.random() < 0.6:  # the road ends at something
        skin = materials.foliage(rng)
        for _ in range(int(rng.integers(5, 18))):
            spot = (
                float(rng.uniform(-60, 60)),
                REACH_M + float(rng.uniform(0, 40)),
                float(rng.uniform(0, 4)),
            )
            _shrub(stage, spot, float(rng.uniform(8, 25)))
    elif rng.random() < 0.5:
        _building(
            stage, 0, REACH_M + 10, (60, 8, float(rng.uniform(8, 25))), float(rng.choice([-1, 1]))
        )
    _light(stage, overcast=0.45)

    def aim() -> None:
        special = rng.random()
        if special < 0.72:  # a car
            x = float(rng.choice([-0.25, 0.25, 0.5, 0.7])) * half_road
            height, yaw = float(rng.uniform(1.2, 2.2)), float(rng.normal(0, 0.1))
            pitch = float(rng.normal(-0.02, 0.05))
        else:  # a walker
            x = float(rng.uniform(-1, 1)) * edge
            height, yaw = float(rng.uniform(1.0, 2.0)), float(rng.uniform(-1.3, 1.3))
            pitch = float(rng.normal(0.02, 0.15))
        if special > 0.95:
            pitch += 0.5
        stage.camera(
            (x, float(rng.uniform(-12, 12)), height),
            yaw=yaw,
            pitch=pitch,
            roll=float(rng.normal(0, 0.03)),
            fov=math.radians(float(rng.uniform(45, 92))),
        )

    return aim


def terrain(stage: Stage) -> Callable[[], None]:
    """Hilly ground with trees, rocks, people, animals and a hut, under a sky."""
    rng = stage.rng
    reach, cells = 140.0, 110
    relief = float(rng.exponential(2.5))
    wave = float(rng.uniform(20, 60))
    shift = Vector(rng.uniform(-50, 50, 3))

    def level(x: float, y: float) -> float:
        place = Vector((x / wave, y / wave, 0)) + shift
        rough = noise.noise(place) + 0.3 * noise.noise(place * 4) + 0.04 * noise.noise(place * 17)
        far = max(0.0, math.hypot(x, y) - 60) / 60
        return float(relief * rough * (1 + 3 * far) + 4 * far * far)

    axis = np.sign(np.linspace(-1, 1, cells)) * np.abs(np.linspace(-1, 1, cells)) ** 2 * reach
    vertices = [(float(x), float(y), level(x, y)) for y in axis for x in axis]
    faces = [
        (
            r * cells + c,
            r * cells + c + 1,
            (r + 1) * cells + c + 1,
            (r + 1) * cells + c,
        )
        for r in range(cells - 1)
        for c in range(cells - 1)
    ]
    grows = rng.random() < 0.65
    skin = materials.foliage(rng) if grows else materials.speckle(rng)
    stage.mesh(vertices, faces, "grass" if grows else "earth", skin, smooth=True)
    for _ in range(int(rng.integers(3, 45))):
        x, y = (float(value) for value in rng.normal(0, 22, 2))
        if math.hypot(x, y) > 2.5:
            if rng.random() < 0.75:
                tree(stage, x, y, level(x, y) - 0.05)
            else:
                _shrub(stage, (x, y, level(x, y)), float(rng.uniform(0.3, 2)))
    things = select(stage.pieces, categories=("Exterior", "Vehicles", "Characters"),
                    height_m=(0.3, 6))  # fmt: skip
    for _ in range(int(rng.integers(3, 14))):
        x, y = (float(value) for value in rng.normal(0, 7, 2))
        piece = stage.any_piece(things)
        if piece is not None and stage.claim(x, y, piece.footprint_m, piece.footprint_m):
            stage.piece(piece, (x, y, level(x, y) - 0.03), turn=float(rng.uniform(0, 6.3)))
    for _ in range(int(rng.integers(0, 12))):  # rocks
        x, y = (float(value) for value in rng.normal(0, 9, 2))
        size = float(rng.uniform(0.15, 1.5))
        radii = [
            (0.9 * size, 0),
            (float(rng.uniform(0.6, 1)) * size, 0.4 * size),
            (0.2 * size, size),
        ]
        stage.lathe(radii, (x, y, level(x, y) - 0.1), "earth", materials.speckle(rng), sides=7)
    _light(stage, overcast=0.4)

    def aim() -> None:
        x, y = (float(value) for value in rng.normal(0, 6, 2))
        pitch = float(rng.normal(-0.08, 0.14))
        special = rng.random()
        if special < 0.1:
            pitch = float(rng.uniform(0.3, 1.0))
        elif special < 0.22:
            pitch = float(rng.uniform(-1.3, -0.5))
        stage.camera(
            (x, y, level(x, y) + float(rng.uniform(0.4, 2.4))),
            yaw=float(rng.uniform(0, 6.3)),
            pitch=pitch,
            roll=float(rng.normal(0, 0.06)),
            fov=math.radians(float(rng.uniform(40, 85))),
        )

    return aim

"""Indoor scenes: furnished rooms, table tops, walls seen straight on, things against a backdrop."""

import math
from collections.abc import Callable
from typing import Any

from dptcli.training import materials
from dptcli.training.furnishing import clutter, furnish
from dptcli.training.furniture import select
from dptcli.training.stage import Stage


def _floor(stage: Stage) -> Any:
    rng = stage.rng
    choice = rng.random()
    if choice < 0.25:
        return materials.wood(rng)
    if choice < 0.42:
        return materials.brick(rng, tile=True)
    if choice < 0.62:
        return materials.speckle(rng)
    if choice < 0.76:
        return materials.plain(rng)
    return materials.picture(rng, stage.images, width_m=float(rng.uniform(0.4, 1.5)))


def _paint(stage: Stage) -> Any:
    rng = stage.rng
    choice = rng.random()
    if choice < 0.62:
        rgb = materials.random_rgb(rng, saturation=(0.0, 0.45), value=(0.25, 0.85))
        return materials.plain(rng, rgb, rough=0.9)
    if choice < 0.74:
        return materials.brick(rng, tile=bool(rng.random() < 0.5))
    if choice < 0.84:
        return materials.pattern(rng)
    if choice < 0.88:
        return materials.wood(rng)
    if choice < 0.94:
        return materials.picture(rng, stage.images, width_m=float(rng.uniform(0.5, 3)))
    return materials.speckle(rng)


def _decorate(stage: Stage, width: float, length: float, height: float) -> None:
    """Pictures, windows, doors, shelves and curtains on the walls, a skirting board."""
    rng = stage.rng
    openings = select(stage.pieces, categories=("Doors and windows",), height_m=(0.5, 2.4))
    for side in range(4):
        span = width if side % 2 == 0 else length
        turn = side * math.pi / 2
        for _ in range(int(rng.integers(0, 4))):
            along = float(rng.uniform(-0.42, 0.42)) * span
            inward = 0.03
            offset = (length if side % 2 == 0 else width) / 2 - inward
            # Local frame of the wall: along its length, and outward.
            x = along * math.cos(turn) - offset * math.sin(turn)
            y = along * math.sin(turn) + offset * math.cos(turn)
            kind = rng.random()
            if kind < 0.45:
                size = (float(rng.uniform(0.2, 1.2)), 0.03, float(rng.uniform(0.2, 0.9)))
                skin = materials.picture(rng, stage.images, width_m=size[0])
                stage.box(size, (x, y, float(rng.uniform(0.9, 1.6))), "wall", skin, turn=turn)
            elif kind < 0.62 and openings:
                piece = stage.any_piece(openings)
                if piece is not None:
                    # A piece faces -y: into the room from the wall at +y.
                    stage.piece(piece, (x, y, piece.elevation_m), turn=turn)
            elif kind < 0.75:
                size = (float(rng.uniform(0.6, 1.8)), 0.02, float(rng.uniform(0.6, 1.4)))
                skin = materials.glow(rng, float(rng.uniform(1, 8)))
                stage.box(size, (x, y, float(rng.uniform(0.8, 1.1))), "window", skin, turn=turn)
            elif kind < 0.9:
                deep = float(rng.uniform(0.15, 0.35))
                board = (float(rng.uniform(0.4, 1.5)), deep, 0.03)
                level = float(rng.uniform(0.9, 1.9))
                near = (offset - deep / 2) / offset
                spot = (
                    along * math.cos(turn) - offset * near * math.sin(turn),
                    along * math.sin(turn) + offset * near * math.cos(turn),
                    level,
                )
                stage.box(board, spot, "cabinet", materials.wood(rng), turn=turn)
                for _ in range(int(rng.integers(1, 5))):
                    shift = float(rng.uniform(-0.45, 0.45)) * board[0]
                    clutter(
                        stage,
                        (
                            spot[0] + shift * math.cos(turn),
                            spot[1] + shift * math.sin(turn),
                            level + 0.03,
                        ),
                        0.25,
                    )
            else:
                size = (float(rng.uniform(0.5, 1.2)), 0.1, height - 0.1)
                stage.box(size, (x, y, 0.02), "other furniture", materials.pattern(rng), turn=turn)


def _light_room(stage: Stage, width: float, length: float, height: float) -> None:
    rng = stage.rng
    if rng.random() < 0.4:
        stage.surroundings(strength=float(rng.uniform(0.2, 1.5)), indoors=True)
    else:
        stage.ambient(float(rng.uniform(0.05, 0.8)))
    for _ in range(int(rng.integers(1, 4))):
        spot = (
            float(rng.uniform(-0.4, 0.4)) * width,
            float(rng.uniform(-0.4, 0.4)) * length,
            height - 0.1 if rng.random() < 0.6 else float(rng.uniform(0.8, height - 0.2)),
        )
        kind = "AREA" if spot[2] > height - 0.2 and rng.random() < 0.6 else "POINT"
        stage.lamp(kind, spot, float(rng.uniform(15, 120)), size=float(rng.uniform(0.05, 0.8)))
    if rng.random() < 0.35:
        sun = stage.lamp("SUN", (0, 0, 10), float(rng.uniform(1, 6)), size=0.02)
        sun.rotation_euler = (float(rng.uniform(0.2, 1.1)), 0, float(rng.uniform(0, 6.3)))


def _shell(stage: Stage, width: float, length: float, height: float) -> None:
    """Floor, ceiling and four walls; light may come through a ceiling that only the camera sees."""
    rng = stage.rng
    stage.plane((width, length), (0, 0, 0), (0, 0, 0), "floor", _floor(stage))
    ceiling_skin = materials.plain(
        rng, materials.random_rgb(rng, saturation=(0, 0.15), value=(0.5, 0.9)), rough=0.9
    )
    ceiling = stage.plane((width, length), (0, 0, height), (math.pi, 0, 0), "ceiling", ceiling_skin)
    if rng.random() < 0.5:
        ceiling.visible_shadow = ceiling.visible_diffuse = False
    skin = _paint(stage)
    w, d = width / 2, length / 2
    for start, end in (
        ((-w, d), (w, d)),
        ((w, d), (w, -d)),
        ((w, -d), (-w, -d)),
        ((-w, -d), (-w, d)),
    ):
        own = skin if rng.random() < 0.75 else _paint(stage)
        stage.wall(start, end, 0, height, "wall", own)
    if rng.random() < 0.3:  # a beam or a pillar
        size = (float(rng.uniform(0.2, 0.6)), float(rng.uniform(0.2, 0.6)), height)
        spot = (float(rng.uniform(-w, w)) * 0.8, d - size[1] / 2, 0.0)
        stage.box(size, spot, "wall", skin)
        stage.claim(spot[0], spot[1], size[0], size[1])


def room(stage: Stage) -> Callable[[], None]:
    """A furnished room; views from inside it, some straight up or down."""
    rng = stage.rng
    width, length = (float(side) for side in rng.uniform(2.2, 5.5, 2))
    if rng.random() < 0.15:
        length *= 2  # a hall or a corridor
    height = float(rng.uniform(2.2, 3.3))
    _shell(stage, width, length, height)
    _decorate(stage, width, length, height)
    furnish(stage, width, length)
    _light_room(stage, width, length, height)
    if rng.random() < 0.6:
        lights = select(stage.pieces, categories=("Lights",), height_m=(0.1, 0.9))
        lamp = stage.any_piece([piece for piece in lights if piece.elevation_m > 1.2])
        if lamp is not None:
            stage.piece(lamp, (0, 0, height - lamp.size_m[2]))

    def aim() -> None:
        x = float(rng.uniform(-0.45, 0.45)) * width
        y = float(rng.uniform(-0.45, 0.45)) * length
        z = float(rng.uniform(0.35, min(2.2, height - 0.2)))
        # Towards a point across the middle, so that the longer view is likelier.
        target_x = float(rng.uniform(-0.5, 0.5)) * width - 0.5 * x
        target_y = float(rng.uniform(-0.5, 0.5)) * length - 0.5 * y
        yaw = math.atan2(-(target_x - x), target_y - y)
        pitch = float(rng.normal(-0.2, 0.2))
        places = stage.places()
        special = rng.random()
        if special > 0.6 and places:  # someone who looks at what stands there, close to
            px, py = places[int(rng.integers(len(places)))]
            away, around = float(rng.uniform(0.9, 2.2)), float(rng.uniform(0, 2 * math.pi))
            x = min(max(px + away * math.sin(around), -0.47 * width), 0.47 * width)
            y = min(max(py - away * math.cos(around), -0.47 * length), 0.47 * length)
            z = float(rng.uniform(0.8, 1.7))
            yaw = math.atan2(x - px, py - y) + float(rng.normal(0, 0.2))
            pitch = -math.atan2(z - 0.5, away) + float(rng.normal(0, 0.15))
        if special < 0.06:
            pitch = float(rng.uniform(0.5, 1.3))
        elif special < 0.16:
            pitch = float(rng.uniform(-1.5, -0.6))
        roll = float(rng.normal(0, 0.05) if rng.random() < 0.85 else rng.normal(0, 0.25))
        fov = math.radians(float(rng.uniform(45, 85)))
        stage.camera((x, y, z), yaw=yaw, pitch=pitch, roll=roll, fov=fov)

    return aim


def table(stage: Stage) -> Callable[[], None]:
    """A table top close to, with things on it, in a sparse room."""
    rng = stage.rng
    width, depth = float(rng.uniform(0.6, 2.0)), float(rng.uniform(0.5, 1.2))
    height = float(rng.uniform(0.4, 0.9))
    _shell(stage, float(rng.uniform(3, 6)), float(rng.uniform(3, 6)), 2.6)
    tops = (materials.wood, materials.plain, materials.pattern, materials.speckle)
    stage.box(
        (width, depth, 0.04),
        (0, 0, height - 0.04),
        "table",
        tops[int(rng.integers(len(tops)))](rng),
    )
    stage.claim(0, 0, width + 0.6, depth + 0.6)
    for _ in range(int(rng.integers(4, 16))):
        spot = (
            float(rng.uniform(-0.45, 0.45)) * width,
            float(rng.uniform(-0.45, 0.45)) * depth,
            height,
        )
        clutter(stage, spot, float(rng.uniform(0.08, 0.4)))
    furnish(stage, 5, 5)
    _light_room(stage, 4, 4, 2.6)

    def aim() -> None:
        distance = float(rng.uniform(0.4, 1.4))
        around = float(rng.uniform(0, 2 * math.pi))
        pitch = -float(rng.uniform(0.1, 1.45))
        target = (float(rng.uniform(-0.2, 0.2)) * width, float(rng.uniform(-0.2, 0.2)) * depth)
        place = (
            target[0] + distance * math.cos(pitch) * math.sin(around),
            target[1] - distance * math.cos(pitch) * math.cos(around),
            height + 0.08 + distance * math.sin(-pitch),
        )
        fov = math.radians(float(rng.uniform(38, 75)))
        stage.camera(place, yaw=around, pitch=pitch, roll=float(rng.normal(0, 0.12)), fov=fov)

    return aim


def wall(stage: Stage) -> Callable[[], None]:
    """A wall seen straight on or aslant, no floor in view: pictures, shelves, plants before it."""
    rng = stage.rng
    stage.wall((-8, 0), (8, 0), -6, 6, "wall", _paint(stage))
    for _ in range(int(rng.integers(2, 12))):
        x, z = float(rng.uniform(-2, 2)), float(rng.uniform(-1.4, 1.4))
        kind = rng.random()
        deep = float(rng.uniform(0.02, 0.6))
        if kind < 0.45:
            size = (float(rng.uniform(0.1, 1.2)), deep, float(rng.uniform(0.1, 1.0)))
            skin = materials.anything(rng, stage.images)
            label = "cabinet" if deep > 0.15 else "wall"
            stage.box(size, (x, -deep / 2, z), label, skin)
        elif kind < 0.7:
            stage.box((0.7, deep, 0.03), (x, -deep / 2, z), "cabinet", materials.wood(rng))
            clutter(stage, (x + float(rng.uniform(-0.3, 0.3)), -deep / 2, z + 0.03), 0.3)
        else:
            piece = stage.any_piece(select(stage.pieces, height_m=(0.2, 2.0), labels=(
                "vegetation", "furniture", "object", "person")))  # fmt: skip
            if piece is not None:
                y = -piece.size_m[1] / 2 - float(rng.uniform(0, 1.0))
                stage.piece(piece, (x, y, z - piece.size_m[2] / 2))
    stage.ambient(float(rng.uniform(0.3, 1.0)))
    stage.lamp(
        "POINT",
        (float(rng.uniform(-3, 3)), float(rng.uniform(-4, -1)), float(rng.uniform(-1, 3))),
        float(rng.uniform(20, 200)),
    )

    def aim() -> None:
        yaw = float(rng.normal(0, 0.35))
        distance = float(rng.uniform(1.0, 4.0))
        place = (
            distance * math.sin(yaw) + float(rng.normal(0, 0.5)),
            -distance * math.cos(yaw),
            float(rng.normal(0, 0.4)),
        )
        fov = math.radians(float(rng.uniform(40, 75)))
        roll = float(rng.normal(0, 0.3))
        stage.camera(place, yaw=yaw, pitch=float(rng.normal(0, 0.25)), roll=roll, fov=fov)

    return aim


def backdrop(stage: Stage) -> Callable[[], None]:
    """One or a few things before cloth that bends from below to behind, no floor to read."""
    rng = stage.rng
    skin = materials.anything(rng, stage.images)
    radius, rows = 0.6, 12
    profile = [(-3.0, 0.0)]
    for k in range(rows + 1):
        angle = math.pi / 2 * k / rows
        profile.append((1.2 + radius * math.sin(angle), radius * (1 - math.cos(angle))))
    profile.append((1.2 + radius, 5.0))
    vertices = [(x, y, z) for y, z in profile for x in (-6.0, 6.0)]
    faces = [(2 * k, 2 * k + 1, 2 * k + 3, 2 * k + 2) for k in range(len(profile) - 1)]
    stage.mesh(vertices, faces, "wall", skin, smooth=True)
    choices = select(stage.pieces, height_m=(0.1, 2.0), footprint_m=(0.05, 1.5))
    height = 0.5
    for _ in range(int(rng.integers(1, 4))):
        x, y = float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.4, 0.6))
        piece = stage.any_piece(choices)
        if piece is None or rng.random() < 0.2:
            clutter(stage, (x, y, 0), 0.6)
            continue
        if stage.claim(x, y, *piece.size_m[:2]):
            lift = 0.0 if rng.random() < 0.7 else float(rng.uniform(0.05, 0.6))
            stage.piece(piece, (x, y, lift), turn=float(rng.uniform(0, 6.3)))
            height = max(height, piece.size_m[2])
    stage.ambient(float(rng.uniform(0.2, 1.0)))
    stage.lamp("AREA", (float(rng.uniform(-2, 2)), -1.5, 3.5), float(rng.uniform(40, 200)), size=1)

    def aim() -> None:
        distance = float(rng.uniform(1.0, 1.8)) * max(height, 0.5) + 0.3
        yaw = float(rng.normal(0, 0.4))
        pitch = float(rng.normal(-0.15, 0.25))
        level = height * float(rng.uniform(0.3, 0.7))
        place = (
            distance * math.sin(yaw) * math.cos(pitch),
            -distance * math.cos(yaw) * math.cos(pitch),
            max(level - distance * math.sin(pitch), 0.1),
        )
        fov = math.radians(float(rng.uniform(35, 65)))
        stage.camera(place, yaw=yaw, pitch=pitch, roll=float(rng.normal(0, 0.1)), fov=fov)

    return aim


def heap(stage: Stage) -> Callable[[], None]:
    """Things of every kind in every pose, on each other and in the air: no layout to learn by."""
    rng = stage.rng
    width, length, height = float(rng.uniform(3, 9)), float(rng.uniform(3, 9)), 3.2
    _shell(stage, width, length, height)
    choices = select(stage.pieces, height_m=(0.1, 2.5), footprint_m=(0.1, 2.5))
    for _ in range(int(rng.integers(12, 45))):
        spot = (
            float(rng.uniform(-0.5, 0.5)) * width,
            float(rng.uniform(-0.5, 0.5)) * length,
            float(rng.uniform(0, 1)) ** 2 * (height - 0.6),
        )
        turn = float(rng.uniform(0, 2 * math.pi))
        piece = stage.any_piece(choices)
        if piece is None or rng.random() < 0.4:
            clutter(stage, spot, float(rng.uniform(0.3, 1.2)))
            continue
        item = stage.piece(piece, spot, turn=turn)
        if item is not None and rng.random() < 0.5:
            item.rotation_euler = tuple(rng.uniform(0, 2 * math.pi, 3))
    _light_room(stage, width, length, height)

    def aim() -> None:
        place = (
            float(rng.uniform(-0.45, 0.45)) * width,
            float(rng.uniform(-0.45, 0.45)) * length,
            float(rng.uniform(0.3, height - 0.3)),
        )
        stage.camera(
            place,
            yaw=float(rng.uniform(0, 6.3)),
            pitch=float(rng.normal(-0.1, 0.35)),
            roll=float(rng.normal(0, 0.2)),
            fov=math.radians(float(rng.uniform(40, 85))),
        )

    return aim

"""What stands in a room: clutter, furniture along the walls and about the floor, people."""

import math

from dptcli.training import materials
from dptcli.training.furniture import Piece, select
from dptcli.training.stage import Point, Stage

INDOORS = ("Living room", "Kitchen", "Bedroom", "Bathroom", "Office", "Lights", "Miscellaneous")


def clutter(stage: Stage, location: Point, reach: float) -> None:
    """One thing of at most `reach` metres standing on `location`: imported, turned or a box."""
    rng = stage.rng
    turn = float(rng.uniform(0, 2 * math.pi))
    small = select(stage.pieces, labels=("object", "vegetation"), categories=INDOORS,
                   height_m=(0.03, reach * 1.6), footprint_m=(0.03, reach))  # fmt: skip
    if small and rng.random() < 0.6:
        piece = stage.any_piece(small)
        if piece is not None:
            stage.piece(piece, location, turn=turn)
        return
    skin = materials.anything(rng, stage.images)
    width = float(rng.uniform(0.25, 0.9)) * reach
    if rng.random() < 0.5:
        size = (width, width * float(rng.uniform(0.2, 1)), width * float(rng.uniform(0.1, 1.5)))
        stage.box(size, location, "other object", skin, turn=turn)
        return
    height = width * float(rng.uniform(0.4, 2.0))
    count = int(rng.integers(2, 7))
    radii = rng.uniform(0.25, 0.5, count) * width
    if rng.random() < 0.4:
        radii[:] = radii[0]
    profile = [(float(radius), height * k / (count - 1)) for k, radius in enumerate(radii)]
    stage.lathe(profile, location, "other object", skin)


def _load(stage: Stage, x: float, y: float, top: float, width: float, depth: float) -> None:
    """Clutter on a surface."""
    rng = stage.rng
    for _ in range(int(rng.integers(0, 9))):
        spot = (
            x + float(rng.uniform(-0.4, 0.4)) * width,
            y + float(rng.uniform(-0.4, 0.4)) * depth,
            top,
        )
        clutter(stage, spot, min(0.4, max(0.1, 0.5 * min(width, depth))))


def _put(stage: Stage, piece: Piece, x: float, y: float, turn: float) -> bool:
    """Place a piece of furniture where the ground plan is free, with clutter on top."""
    quarter = abs(math.sin(turn)) > 0.7
    width, depth = piece.size_m[1::-1] if quarter else piece.size_m[:2]
    if not stage.claim(x, y, width, depth):
        return False
    stage.piece(piece, (x, y, piece.elevation_m), turn=turn)
    if piece.top_m is not None and 0.3 < piece.top_m < 1.6 and piece.size_m[2] - piece.top_m < 0.3:
        _load(stage, x, y, piece.top_m + piece.elevation_m, width, depth)
    return True


def _plain_furniture(stage: Stage, x: float, y: float) -> None:
    """A cupboard, a shelf or a table of boxes, for rooms without a catalogue and for variety."""
    rng = stage.rng
    size = (float(rng.uniform(0.4, 1.8)), float(rng.uniform(0.3, 0.9)), float(rng.uniform(0.3, 2)))
    turn = float(rng.choice([0, math.pi / 2]))
    width, depth = size[:2] if turn == 0 else size[1::-1]
    if not stage.claim(x, y, width, depth):
        return
    skin = materials.anything(rng, stage.images)
    if size[2] < 1.1 and rng.random() < 0.6:  # a table
        thick = 0.04
        stage.box((size[0], size[1], thick), (x, y, size[2] - thick), "table", skin, turn=turn)
        for side_x in (-1, 1):
            for side_y in (-1, 1):
                spot = (x + side_x * (width / 2 - 0.05), y + side_y * (depth / 2 - 0.05), 0.0)
                stage.box((0.05, 0.05, size[2] - thick), spot, "table", skin)
    elif rng.random() < 0.4:  # a shelf
        for level in range(int(size[2] / 0.35) + 1):
            board = (size[0], size[1], 0.03)
            stage.box(board, (x, y, level * 0.35), "cabinet", skin, turn=turn)
            if rng.random() < 0.7:
                _load(stage, x, y, level * 0.35 + 0.03, width, depth)
    else:
        stage.box(size, (x, y, 0), "cabinet", skin, turn=turn)
    _load(stage, x, y, size[2], width, depth)


def furnish(stage: Stage, width: float, length: float) -> None:
    """Large pieces along the walls with their backs to them, others about the room."""
    rng = stage.rng
    themes = (
        ("Living room", "Lights"),
        ("Kitchen",),
        ("Bedroom", "Lights"),
        ("Bathroom",),
        ("Office", "Living room"),
        INDOORS,
        INDOORS,
    )
    theme = themes[int(rng.integers(len(themes)))]
    large = select(stage.pieces, labels=("furniture", "object"), categories=theme,
                   height_m=(0.3, 2.6), footprint_m=(0.3, 2.6))  # fmt: skip
    w, d = width / 2, length / 2
    for _ in range(int(rng.integers(5, 9 + int(width * length / 2)))):
        piece = stage.any_piece(large)
        if piece is None or rng.random() < 0.15:
            _plain_furniture(
                stage, float(rng.uniform(-w, w)) * 0.85, float(rng.uniform(-d, d)) * 0.85
            )
            continue
        side = int(rng.integers(4))
        back = piece.size_m[1] / 2 + 0.03
        half = piece.size_m[0] / 2
        if side % 2 == 0:
            x = float(rng.uniform(-w + half, w - half)) if w > half else 0.0
            y = (d - back) if side == 0 else (-d + back)
        else:
            y = float(rng.uniform(-d + half, d - half)) if d > half else 0.0
            x = (-w + back) if side == 1 else (w - back)
        _put(stage, piece, x, y, side * math.pi / 2)
    for _ in range(int(rng.integers(4, 16))):  # about the room
        piece = stage.any_piece(large)
        x, y = float(rng.uniform(-w, w)) * 0.8, float(rng.uniform(-d, d)) * 0.8
        if piece is not None and piece.size_m[2] < 1.3:
            _put(stage, piece, x, y, float(rng.integers(4)) * math.pi / 2)
    for _ in range(int(rng.integers(0, 10))):  # on the floor
        x, y = float(rng.uniform(-w, w)) * 0.9, float(rng.uniform(-d, d)) * 0.9
        if stage.claim(x, y, 0.35, 0.35):
            clutter(stage, (x, y, 0), 0.35)
    people = select(stage.pieces, labels=("person",), height_m=(1.0, 2.1))
    for _ in range(int(rng.integers(0, 3)) if rng.random() < 0.3 else 0):
        piece = stage.any_piece(people)
        x, y = float(rng.uniform(-w, w)) * 0.8, float(rng.uniform(-d, d)) * 0.8
        if piece is not None and stage.claim(x, y, 0.6, 0.6):
            stage.piece(piece, (x, y, 0), turn=float(rng.uniform(0, 6.3)))

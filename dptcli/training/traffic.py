"""What is on a street: vehicles, people, a bridge across."""

import math
from typing import Any

from dptcli.training import materials
from dptcli.training.furniture import select
from dptcli.training.stage import Stage


def vehicles(stage: Stage, half_road: float) -> None:
    """Parked along the kerbs and driving in the lanes."""
    rng = stage.rng
    cars = select(stage.pieces, labels=("vehicle",), footprint_m=(2.5, 14))
    bikes = select(stage.pieces, labels=("vehicle",), footprint_m=(1.0, 2.5))
    if not cars:
        for _ in range(int(rng.integers(2, 12))):
            spot = (float(rng.uniform(-1, 1)) * half_road, float(rng.uniform(5, 80)), 0.0)
            if stage.claim(spot[0], spot[1], 1.8, 4.2, gap=0.4):
                skin = materials.plain(rng, rough=0.25)
                stage.box((1.8, 4.2, 0.8), (spot[0], spot[1], 0.25), "car", skin)
                stage.box((1.6, 2.2, 0.6), (spot[0], spot[1], 1.05), "car", skin)
        return
    parked = rng.random()
    for side in (-1, 1):
        if rng.random() < 0.35:
            continue
        position = float(rng.uniform(-8, 15))
        while position < 85:
            piece = stage.any_piece(cars)
            if piece is None:
                break
            length = max(piece.size_m[:2])
            if rng.random() < 0.3 + 0.6 * parked and length < 7:
                park(stage, piece, side * (half_road - 1.15), position, side > 0)
            position += length + float(rng.uniform(0.6, 6))
    lanes = [-0.4, 0.4] if half_road < 6 else [-0.7, -0.25, 0.25, 0.7]
    for _ in range(int(rng.integers(0, 14))):
        piece = stage.any_piece(cars if rng.random() < 0.85 or not bikes else bikes)
        lane = float(rng.choice(lanes)) * half_road
        if piece is not None:
            park(stage, piece, lane, float(4 + rng.exponential(22)), lane > 0)


def bridge(stage: Stage, edge: float) -> None:
    """A bridge or a gantry across the road."""
    rng = stage.rng
    skin = materials.anything(rng, stage.images)
    y, height = float(rng.uniform(15, 70)), float(rng.uniform(4.5, 7))
    deep, thick = float(rng.uniform(0.3, 12)), float(rng.uniform(0.3, 1.8))
    stage.box((2 * edge + 30, deep, thick), (0, y, height), "other structure", skin)
    for side in (-1, 1):
        stage.box((1.0, deep, height), (side * (edge + 0.8), y, 0), "other structure", skin)


def park(stage: Stage, piece: Any, x: float, y: float, ahead: bool) -> None:
    """A vehicle along the road; catalogue vehicles are long in either axis."""
    rng = stage.rng
    width, depth = piece.size_m[:2]
    turn = 0.0 if depth >= width else math.pi / 2
    turn += math.pi * float(ahead) + float(rng.normal(0, 0.03))
    if stage.claim(x, y, min(width, depth), max(width, depth), gap=0.3):
        stage.piece(piece, (x, y, 0.0), turn=turn)


def people(stage: Stage, low: float, high: float, count: int, base: float = 0.13) -> None:
    """Walkers between `low` and `high` metres beside the road's middle."""
    rng = stage.rng
    choices = select(stage.pieces, labels=("person",), height_m=(1.0, 2.1), footprint_m=(0, 1.2))
    for _ in range(count):
        piece = stage.any_piece(choices)
        x = float(rng.choice([-1, 1])) * float(rng.uniform(low, high))
        y = float(2 + rng.exponential(18))
        if stage.claim(x, y, 0.5, 0.5):
            turn = float(rng.uniform(0, 6.3))
            if piece is not None:
                stage.piece(piece, (x, y, base), turn=turn)
            else:
                body = [
                    (0.18, 0),
                    (0.2, 0.8),
                    (0.24, 1.35),
                    (0.08, 1.48),
                    (0.12, 1.6),
                    (0.05, 1.75),
                ]
                stage.lathe(body, (x, y, base), "person", materials.plain(rng))

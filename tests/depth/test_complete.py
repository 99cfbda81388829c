"""Gaps in measured depth: filled near the truth, within what was measured, at any size."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dptcli.depth.complete import MOST_SIDE, complete, is_measured

HW = (96, 128)
FOCAL_PX = 110


def room() -> NDArray[np.float64]:
    """A floor that runs from the camera to a wall at 6 m, in metres."""
    below = np.mgrid[: HW[0], : HW[1]][0] / HW[0] - 0.5
    floor = 1.4 * FOCAL_PX / (HW[0] * np.maximum(below, 1e-9))
    return np.minimum(floor, 6.0)


def wall() -> NDArray[np.float64]:
    """A wall that turns away to the right: its inverse depth is linear in the picture."""
    return 1 / (0.5 - 0.003 * np.mgrid[: HW[0], : HW[1]][1])


def scattered(share: float) -> NDArray[np.bool_]:
    return np.random.default_rng(0).random(HW) < share


def lines(step: int) -> NDArray[np.bool_]:
    measured = np.zeros(HW, bool)
    measured[::step] = True
    return measured


@pytest.mark.parametrize(
    ("scene", "measured", "mean", "worst_twentieth"),
    [
        (room(), scattered(0.03), 0.01, 0.06),
        (room(), scattered(0.2), 0.002, 0.01),
        (room(), lines(6), 0.01, 0.06),
        (wall(), scattered(0.03), 0.008, 0.03),
        (wall(), lines(6), 0.001, 0.004),
    ],
    ids=["room, 3 %", "room, 20 %", "room, lines", "wall, 3 %", "wall, lines"],
)
def test_a_known_scene_is_met_between_its_points(
    scene: NDArray[np.float64],
    measured: NDArray[np.bool_],
    mean: float,
    worst_twentieth: float,
) -> None:
    error = np.abs(complete(np.where(measured, scene, 0)) / scene - 1)
    assert error.mean() < mean
    assert np.quantile(error, 0.95) < worst_twentieth


def test_it_is_nearer_than_the_nearest_point_and_than_a_mean_by_distance() -> None:
    scene, measured = room(), scattered(0.05)
    points = np.argwhere(measured)
    grid = np.argwhere(np.ones(HW, bool))
    away = ((grid[:, None] - points) ** 2).sum(-1).astype(float)
    four = np.argsort(away, axis=1)[:, :4]
    known = scene[measured][four]
    nearest = known[:, 0].reshape(HW)
    weights = 1 / np.maximum(np.take_along_axis(away, four, axis=1), 1e-6)
    by_distance = ((weights * known).sum(1) / weights.sum(1)).reshape(HW)
    errors = [
        np.abs(depth / scene - 1).mean()
        for depth in (complete(np.where(measured, scene, np.nan)), nearest, by_distance)
    ]
    assert errors[0] < 0.8 * min(errors[1:])


def test_what_was_measured_stays_and_bounds_the_rest() -> None:
    scene, measured = room().astype(np.float32), scattered(0.1)
    completed = complete(np.where(measured, scene, 0))
    assert completed.dtype == np.float32
    np.testing.assert_array_equal(completed[measured], scene[measured])
    assert completed.min() >= scene[measured].min() * (1 - 1e-6)
    assert completed.max() <= scene[measured].max() * (1 + 1e-6)


def test_a_map_without_gaps_comes_back_to_the_bit() -> None:
    scene = room().astype(np.float32)
    np.testing.assert_array_equal(complete(scene), scene)


@pytest.mark.parametrize("gap", [0, -1, np.nan, np.inf])
def test_every_way_to_say_not_measured_is_one(gap: float) -> None:
    depth = np.full((5, 7), 2.0)
    depth[1:3, 2:6] = gap
    assert is_measured(depth).sum() == 35 - 8
    np.testing.assert_allclose(complete(depth), 2.0, rtol=1e-6)


@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (7, 1), (5, 3)])
def test_one_measured_pixel_fills_a_map_of_any_shape(hw: tuple[int, int]) -> None:
    depth = np.zeros(hw)
    depth[-1, -1] = 3.0
    np.testing.assert_allclose(complete(depth), np.full(hw, 3.0), rtol=1e-6)


def test_a_large_sparse_map_comes_back_smaller_and_right() -> None:
    columns = np.mgrid[:1500, :2200][1]
    scene = 1 / (0.5 - 0.0002 * columns)
    measured = np.random.default_rng(0).random(scene.shape) < 0.002
    completed = complete(np.where(measured, scene, 0))
    assert completed.shape == (500, 734)
    assert max(completed.shape) <= MOST_SIDE
    truth = 1 / (0.5 - 0.0002 * (3 * np.mgrid[:500, :734][1] + 1))
    assert np.abs(completed / truth - 1).mean() < 0.005


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="no pixel"):
        complete(np.zeros((4, 5)))

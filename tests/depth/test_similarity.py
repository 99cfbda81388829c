"""The unit of given cameras: how much larger their world is than the one that a network finds."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dptcli.depth.similarity import in_even_unit, unit_between
from dptcli.depth.views import tell_if_apart
from dptcli.errors import UsageError
from dptcli.model.families.depth_anything_3_views.given import numbers_of

QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # a turn about z


def worlds(count: int) -> list[list[NDArray[np.float64]]]:
    """The same cameras in two worlds, 0.3 times as large; of ten and more two are wrong."""
    rng = np.random.default_rng(count)
    start = rng.normal(size=(count, 3)) * 4 + 10
    turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    end = 0.3 * start @ turn.T + 2 + rng.normal(size=(count, 3)) * 0.05
    if count >= 10:
        end[3] += 5
        end[5] -= 4
    return [[np.column_stack([np.eye(3), -place]) for place in world] for world in (start, end)]


def turned(world: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """The same places, each camera a quarter turn on from the one before."""
    turns = [np.linalg.matrix_power(QUARTER, number) for number in range(len(world))]
    return [turn @ pose for turn, pose in zip(turns, world, strict=True)]


@pytest.mark.parametrize(
    ("count", "scale"),
    [
        (3, 0.2983044138218291),
        (9, 0.30211855289891043),
        (10, 0.30295018996963663),
        (25, 0.2983627822926002),
    ],
)
def test_the_scale_of_two_worlds_is_the_authors(count: int, scale: float) -> None:
    # What align_poses_umeyama of Depth Anything 3 gives, with its ransac of ten cameras and more.
    assert unit_between(*worlds(count)).scale == pytest.approx(scale, 1e-9)


def test_two_cameras_and_cameras_on_a_line_are_enough() -> None:
    for count in (2, 4, 12):
        start = [np.column_stack([np.eye(3), [-place, 0, 0]]) for place in range(count)]
        end = [np.column_stack([QUARTER, [0, 5 * place, 1]]) for place in range(count)]
        assert unit_between(start, end).scale == pytest.approx(5)


def test_cameras_that_the_network_puts_elsewhere_say_how_far_off_they_are() -> None:
    for count in (9, 25):
        given, found = worlds(count)
        assert 0 < unit_between(given, found).error < 0.1
        assert unit_between([*given[2:], *given[:2]], found).error > 0.5, "of other photographs"
    two = worlds(3)[0][:2]
    assert unit_between([*two, two[0]], [*two, two[0]]).error == pytest.approx(0, abs=1e-9)


def test_poses_of_other_photographs_are_told_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    given, found = worlds(9)
    tell_if_apart(unit_between(given, found))
    assert caplog.messages == []
    others = unit_between([*given[2:], *given[:2]], found)
    tell_if_apart(others)
    [line] = caplog.messages
    assert f"are off the given ones by {100 * others.error:.0f} % of how far these lie" in line
    inverted = [np.linalg.inv(np.vstack([pose, [0, 0, 0, 1]]))[:3] for pose in turned(given)]
    tell_if_apart(unit_between(inverted, turned(found)))
    assert len(caplog.messages) == 2, "camera to world, taken for world to camera"


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_the_network_is_told_the_same_of_cameras_in_any_unit(count: int, unit: float) -> None:
    given = worlds(count)[0]
    lenses = torch.eye(3).expand(1, count, 3, 3)

    def told(unit: float) -> torch.Tensor:
        scaled = [np.column_stack([pose[:, :3], unit * pose[:, 3]]) for pose in given]
        return numbers_of(torch.from_numpy(np.array(in_even_unit(scaled)))[None], lenses, (42, 42))

    torch.testing.assert_close(told(unit), told(5.0))
    distances = told(unit)[0, :, :3].norm(dim=-1).sort().values
    assert distances[max(1, (count - 1) // 2)] == pytest.approx(1, 1e-5)


def test_cameras_in_one_place_say_no_scale() -> None:
    apart = worlds(3)[0]
    together = [apart[0]] * 3
    with pytest.raises(UsageError, match="the cameras stand in one place"):
        unit_between(together, apart)
    with pytest.raises(UsageError, match="the network finds all the cameras in one place"):
        unit_between(apart, together)

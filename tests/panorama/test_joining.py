"""A panorama joined from views of a drawn room equals its exact distances."""

import math

import around
import numpy as np
import pytest

from dptcli.panorama.cutting import cut_view
from dptcli.panorama.geometry import VIEW_FOV_DEG, VIEWS, WHOLE, Extent, feather, seen_by
from dptcli.panorama.merge import join
from dptcli.panorama.resize import resized

SIDE = 96
HW = (151, 302)  # what views of 96 pixels join to


def true_depth(view, side=SIDE):
    """The exact depth of a view along its axis, float64 (side, side)."""
    rays = view.directions((side, side)).astype(np.float64)
    length = np.linalg.norm(rays, axis=-1)
    return around.distance_m(rays / length[..., None]) / length


def check_no_seam(ours, exact):
    """The step over the border is as right as those from column to column are."""
    wrong = np.abs(np.roll(ours, -1, 1) - ours - np.roll(exact, -1, 1) + exact).mean(0)
    assert wrong[-1] <= np.quantile(wrong, 0.9)


def test_inverse_depth_of_unknown_scale_and_shift_in_each_view_joins_to_the_truth():
    rng = np.random.default_rng(0)
    depths = [
        (rng.uniform(0.5, 2) / true_depth(view) + rng.uniform(-0.3, 0.3)).astype(np.float32)
        for view in VIEWS
    ]
    joined = join(depths, VIEWS, WHOLE, kind="inverse_depth")
    assert joined.distance.shape == HW
    ours, exact = joined.distance.ravel(), 1 / around.distance_m(around.rays(HW)).ravel()
    scale, shift = np.polyfit(ours, exact, 1)
    found = scale * ours + shift
    # What is left lies at the edges of things, which a pixel blurs.
    assert np.mean(np.abs(found / exact - 1)) < 0.01
    assert np.median(np.abs(found / exact - 1)) < 0.003
    assert np.corrcoef(ours, exact)[0, 1] > 0.995
    assert joined.fit.apart[0] < 0.005
    check_no_seam(found.reshape(HW), exact.reshape(HW))


@pytest.mark.parametrize("kind", ["depth", "depth_m"])
def test_depth_of_unknown_scale_in_each_view_joins_to_the_truth(kind):
    rng = np.random.default_rng(1)
    scales = rng.uniform(0.5, 2, len(VIEWS))
    scales /= np.exp(np.log(scales).mean())  # as it is kept, so that metres stay metres
    depths = [
        (scale * true_depth(view)).astype(np.float32)
        for scale, view in zip(scales, VIEWS, strict=True)
    ]
    joined = join(depths, VIEWS, WHOLE, kind=kind)
    exact = around.distance_m(around.rays(HW))
    assert np.allclose(joined.fit.scale * scales, 1, rtol=0.01)
    assert np.mean(np.abs(joined.distance / exact - 1)) < 0.01
    check_no_seam(joined.distance, exact)


def test_one_view_that_is_wrong_everywhere_does_not_pull_the_others():
    depths = [true_depth(view).astype(np.float32) for view in VIEWS]
    depths[3] = np.random.default_rng(0).uniform(1, 5, (SIDE, SIDE)).astype(np.float32)
    joined = join(depths, VIEWS, WHOLE, kind="depth")
    others = np.delete(joined.fit.scale, 3)
    assert np.ptp(others) / others.mean() < 0.02


def test_a_view_of_one_value_keeps_a_scale_above_zero():
    depths = [(1 / true_depth(view)).astype(np.float32) for view in VIEWS]
    depths[9] = np.full((SIDE, SIDE), 0.4, np.float32)
    joined = join(depths, VIEWS, WHOLE, kind="inverse_depth")
    assert (joined.fit.scale > 0).all()
    assert np.isfinite(joined.distance).all()


def test_a_part_of_the_sphere_joins_to_its_part_of_the_truth():
    part = Extent(left=0.3, top=0.5, width=2.2, height=1.1)
    depths = [true_depth(view).astype(np.float32) for view in VIEWS]
    joined = join(depths, VIEWS, part, kind="depth")
    hw = joined.distance.shape
    exact = around.distance_m(part.directions(hw).astype(np.float64))
    assert np.mean(np.abs(joined.distance / exact - 1)) < 0.01


# --- the sphere ----------------------------------------------------------------------------------


def test_every_direction_lies_well_inside_of_some_view():
    directions = WHOLE.directions((60, 120))
    best = np.zeros((60, 120))
    for view in VIEWS:
        x, y, cosine = view.places(directions)
        best = np.maximum(best, np.where(seen_by(x, y, cosine), feather(x, y), 0))
    assert best.min() > 0.2


def test_a_views_pixels_lie_where_its_directions_are():
    for view in VIEWS:
        rays = view.directions((8, 8))
        x, y, cosine = view.places(rays / np.linalg.norm(rays, axis=-1, keepdims=True))
        middles = (np.arange(8) + 0.5) / 4 - 1
        assert np.allclose(x, middles[None], atol=1e-5)
        assert np.allclose(y, middles[:, None], atol=1e-5)
        assert np.allclose(cosine, 1 / np.linalg.norm(rays, axis=-1), atol=1e-6)


@pytest.mark.parametrize("yaw", [0.0, 180.0], ids=["middle", "border"])
def test_a_view_cut_from_a_panorama_shows_what_a_camera_there_sees(yaw):
    panorama = around.colour(around.rays((300, 600)))
    view = next(one for one in VIEWS if (one.yaw_deg, one.pitch_deg) == (yaw, 0.0))
    cut = cut_view(panorama, WHOLE, view, SIDE)
    # By a camera's own words: x right, y down, forward along -z, turned by yaw about y.
    reach = math.tan(math.radians(VIEW_FOV_DEG / 2))
    x, y = np.meshgrid(*[((np.arange(SIDE) + 0.5) * 2 / SIDE - 1) * reach] * 2)
    rays = np.stack([x, -y, -np.ones_like(x)], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    if yaw:
        rays *= [-1, 1, -1]
    assert np.mean(np.abs(cut.astype(float) - around.colour(rays))) < 5


def test_a_panorama_is_resized_without_a_seam_and_across_the_poles():
    def smooth(hw):
        x, y, z = np.moveaxis(around.rays(hw), -1, 0)
        return (x + 2 * y * z + np.square(z)).astype(np.float32)

    larger = resized(smooth((60, 120)), (133, 301), WHOLE)
    assert np.abs(larger - smooth((133, 301))).max() < 0.01
    assert np.abs(resized(smooth((60, 120)), (20, 40), WHOLE) - smooth((20, 40))).max() < 0.02

"""Depth that does not flicker, measured on still scenes; movement and cuts pass."""

import numpy as np
import pytest
import trimesh
from PIL import Image
from tiny import save_varied

from dptcli.cli import main
from dptcli.running.seen import Prediction
from dptcli.video.read import evenly_spread
from dptcli.video.sequence import NUM_SURVEYED, steadied_frame
from dptcli.video.smoothing import Stabilizer, clip_range, fit_scale_shift, flicker


def scene(seed=0, *, hw=(60, 80)):
    rng = np.random.default_rng(seed)
    y, _ = np.mgrid[: hw[0], : hw[1]]
    depth = 5 + y / hw[0] * 10
    for _ in range(8):
        top, left = rng.integers(0, hw[0] - 15), rng.integers(0, hw[1] - 15)
        depth[top : top + 15, left : left + 15] += rng.uniform(-4, 8)
    return depth.astype(np.float32)


def wandering(num, *, seed=0):
    """A still scene as a network sees it: scale and shift jitter, and every pixel a little."""
    rng = np.random.default_rng(seed)
    still = scene()
    return [
        (
            still * (1 + 0.03 * rng.standard_normal())
            + 0.3 * rng.standard_normal()
            + 0.05 * rng.standard_normal(still.shape)
        ).astype(np.float32)
        for _ in range(num)
    ]


def steadied(maps, **options):
    stabilizer = Stabilizer(clip_range(maps), **options)
    return [stabilizer.next(depth) for depth in maps]


def test_a_still_scene_flickers_five_times_less():
    maps = wandering(40)
    assert flicker(steadied(maps)) < flicker(maps) / 5


def test_strength_zero_changes_nothing():
    maps = wandering(5)
    for before, after in zip(maps, steadied(maps, strength=0.0), strict=True):
        assert np.array_equal(before, after)


def test_only_a_steadied_frame_is_compared_with_its_limits():
    maps = wandering(2)
    told = (object(), object())  # a comparison with them fails
    alone = Prediction(maps[0], limits=told)
    assert steadied_frame(alone, Stabilizer((0.0, 1.0), strength=0.0))[1] is told
    clip = Stabilizer((0.0, 1.0))
    assert steadied_frame(alone, clip)[1] is told  # the first one passes as it is
    mean, top = float(maps[1].mean()), float(maps[1].max())
    values, limits = steadied_frame(Prediction(maps[1], limits=(mean, top)), clip)
    inside = values[maps[1] >= mean]
    assert limits == (inside.min(), inside.max())


def test_more_strength_is_calmer():
    maps = wandering(30)
    calm = [flicker(steadied(maps, strength=strength)) for strength in (0.0, 0.3, 0.6, 0.9)]
    assert calm == sorted(calm, reverse=True)


def test_a_moving_object_is_where_it_is():
    maps = []
    for place in range(20):
        depth = scene()
        depth[20:40, 3 * place : 3 * place + 15] = 30.0
        maps.append(depth)
    for raw, steady in zip(maps, steadied(maps), strict=True):
        assert np.abs(raw - steady).max() < 0.05 * (30 - 5)


def test_a_cut_starts_afresh():
    before, after = scene(1), scene(2)[:, ::-1].copy() * -1
    assert fit_scale_shift(after, before) is None
    out = steadied([before, before, after])
    assert np.array_equal(out[-1], after)


def test_a_long_still_clip_keeps_its_contrast():
    # Noise draws least-squares slopes towards 0, which would flatten the clip frame by frame.
    rng = np.random.default_rng(0)
    maps = [(scene() + rng.normal(0, 1.0, (60, 80))).astype(np.float32) for _ in range(200)]
    slope, _ = np.polyfit(scene().ravel(), steadied(maps)[-1].ravel(), 1)
    assert slope == pytest.approx(1, abs=0.03)


def test_slow_true_changes_are_followed():
    maps = [(scene() * (1 + 0.005 * place)).astype(np.float32) for place in range(100)]
    last = steadied(maps)[-1]
    assert np.abs(last - maps[-1]).mean() / maps[-1].mean() < 0.05


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_constant_depth_passes(value):
    maps = [np.full((20, 30), value, np.float32)] * 3
    assert np.array_equal(steadied(maps)[-1], maps[-1])


def test_frames_that_are_not_finite_pass_and_are_not_remembered():
    bad = scene()
    bad[3, 4] = np.nan
    out = steadied([scene(), bad, scene()])
    assert np.isnan(out[1][3, 4])
    assert np.isfinite(out[2]).all()


def test_the_range_of_a_clip_covers_its_frames_without_rare_extremes():
    first, second = scene(), scene() + 10
    second[0, 0] = 1e6
    lo, hi = clip_range([first, second])
    assert first.min() <= lo < np.percentile(first, 1)
    assert np.percentile(scene(), 99) + 10 < hi <= scene().max() + 10
    assert clip_range([]) == (0.0, 0.0)


def test_a_frames_distances_beyond_the_clips_range_stay_in_its_cloud(tmp_path):
    # The one frame with something near and far is not among those that the range is taken from.
    odd = min({*range(14)} - {*evenly_spread(14, NUM_SURVEYED)})
    model = str(save_varied(tmp_path / "model", depth_estimation_type="metric"))
    (tmp_path / "in").mkdir()
    for number in range(14):
        level = 120 if number == odd else 20
        frame = np.full((32, 48, 3), 128, np.uint8)
        frame[8:24, 12:36] += level
        Image.fromarray(frame).save(tmp_path / f"in/{number:03}.png")
    words = ["depth", f"{tmp_path}/in", "-m", model, "-q", "--sequence", "--dtype", "float32"]
    assert main([*words, "-o", f"{tmp_path}/out/", "-f", "npy,ply"]) == 0
    values = np.load(tmp_path / f"out/{odd:03}.npy")
    z = -trimesh.load(tmp_path / f"out/{odd:03}.ply").vertices[:, 2]
    # What a resize overshot is in the values alone.
    np.testing.assert_allclose([z.min(), z.max()], [values.min(), values.max()], rtol=0.01)

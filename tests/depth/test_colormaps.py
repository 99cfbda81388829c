"""Depth colours and class palettes."""

import subprocess
import sys

import numpy as np
import pytest

from dptcli.depth.colormaps import (
    DEFAULT_COLORMAP,
    NAMED_COLORS,
    apply_palette,
    colorize,
    depth_lut,
    finite_range,
    palette,
    percentiles,
    scale_to_levels,
)
from dptcli.errors import UsageError


@pytest.mark.parametrize("name", [DEFAULT_COLORMAP, "magma", "Spectral_r", "turbo", "tab10"])
def test_a_table_holds_matplotlibs_colours(name):
    matplotlib = pytest.importorskip("matplotlib")
    expected = matplotlib.colormaps[name](np.linspace(0, 1, 256), bytes=True)[:, :3]
    np.testing.assert_array_equal(depth_lut(name), expected)


def test_the_default_table_does_not_import_matplotlib():
    code = (
        "import sys, dptcli.depth.colormaps as c; c.depth_lut(); "
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("typo", "meant"), [("infero", "inferno"), ("spectral-r", "Spectral_r"), ("VIRIDIS", "viridis")]
)
def test_a_typo_suggests_the_nearest_name(typo, meant):
    with pytest.raises(UsageError, match=f"'{typo}'.*did you mean '{meant}'"):
        depth_lut(typo)


def test_a_name_far_from_all_is_refused_with_an_example():
    with pytest.raises(UsageError, match="any matplotlib name works"):
        depth_lut("qqqqqqqqqqqqqqqq")


def test_the_default_grows_lighter_with_nearness():
    lightness = depth_lut() @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(lightness) > -1).all()


@pytest.mark.parametrize("value", [0.0, -3.5, 1e30])
def test_constant_depth_maps_to_one_colour(value):
    flat = np.full((4, 5), value, np.float32)
    lo, hi = finite_range(flat)
    rgb = colorize(flat, lut=depth_lut(), lo=lo, hi=hi)
    assert rgb.shape == (4, 5, 3)
    assert len(np.unique(rgb.reshape(-1, 3), axis=0)) == 1


def test_the_ends_of_the_range_take_the_first_and_last_colour():
    rgb = colorize(np.array([[-2.0, 6.0]]), lut=depth_lut(), lo=-2.0, hi=6.0)
    np.testing.assert_array_equal(rgb[0], depth_lut()[[0, 255]])


def test_invert_swaps_near_and_far():
    ramp = np.linspace(0, 1, 1000, dtype=np.float32)[None]
    plain = colorize(ramp, lut=depth_lut(), lo=0, hi=1)
    np.testing.assert_array_equal(
        colorize(ramp, lut=depth_lut(), lo=0, hi=1, invert=True), plain[:, ::-1]
    )


def test_values_beyond_the_range_are_clamped_and_never_wrap_around():
    ramp = np.linspace(-1, 2, 3001, dtype=np.float32)
    for levels in (256, 65536):
        scaled = scale_to_levels(ramp, lo=0.0, hi=1.0, levels=levels).astype(int)
        assert (np.diff(scaled) >= 0).all()
        assert (scaled[0], scaled[-1]) == (0, levels - 1)


def test_non_finite_values_take_the_ends():
    values = np.array([[np.nan, -np.inf, 1.0, 3.0, np.inf]], np.float32)
    assert finite_range(values) == (1.0, 3.0)
    assert scale_to_levels(values, lo=1.0, hi=3.0, levels=256).tolist() == [[0, 0, 0, 255, 255]]


def test_a_map_without_a_finite_value_is_one_level():
    values = np.full((2, 2), np.nan, np.float32)
    lo, hi = finite_range(values)
    assert len(np.unique(scale_to_levels(values, lo=lo, hi=hi, levels=256))) == 1


def test_the_widest_range_of_float32_does_not_overflow():
    top = np.finfo(np.float32).max
    values = np.array([-top, 0, top], np.float32)
    assert scale_to_levels(values, lo=-top, hi=top, levels=256).tolist() == [0, 128, 255]


def test_a_range_too_small_for_float32_is_one_level():
    values = np.array([0, 1e-44], np.float32)
    assert len(np.unique(scale_to_levels(values, lo=0.0, hi=1e-44, levels=256))) == 1


def test_sixteen_bits_keep_thousands_of_levels():
    ramp = np.linspace(3, 4, 50_000, dtype=np.float32)
    assert len(np.unique(scale_to_levels(ramp, lo=3.0, hi=4.0, levels=65536))) > 40_000


@pytest.mark.parametrize("num_labels", [1, 2, 19, 150, 256, 1000])
def test_no_two_classes_share_a_colour(num_labels):
    colors = palette(num_labels)
    assert colors.shape == (num_labels, 3)
    assert len(np.unique(colors, axis=0)) == num_labels


def test_classes_of_one_name_still_differ_in_colour():
    colors = palette(3, {0: "sky", 1: "Sky", 2: "sky"})
    assert tuple(colors[0]) == NAMED_COLORS["sky"]
    assert len(np.unique(colors, axis=0)) == 3


def test_familiar_classes_get_the_colours_people_expect():
    colors = palette(4, {0: "wall/building", 1: "tree, shrub", 2: "gizmo", 3: "Sky"})
    assert tuple(colors[0]) == NAMED_COLORS["wall"]
    assert tuple(colors[1]) == NAMED_COLORS["tree"]
    assert tuple(colors[3]) == NAMED_COLORS["sky"]


def test_a_palette_is_the_same_on_every_call():
    np.testing.assert_array_equal(palette(40, {3: "car"}), palette(40, {3: "car"}))


def test_neighbouring_classes_are_far_apart():
    colors = palette(19).astype(int)
    distance = np.abs(colors[:, None] - colors[None]).sum(-1) + 1000 * np.eye(19, dtype=int)
    assert distance.min() > 60


def test_apply_palette_is_plain_indexing():
    colors = palette(7)
    indices = np.arange(21, dtype=np.uint8).reshape(3, 7) % 7
    np.testing.assert_array_equal(apply_palette(indices, colors), colors[indices])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("count", [1, 2, 3, 50, 51, 1001, 20_000])
def test_percentiles_are_numpys_to_the_bit(count, dtype):
    rng = np.random.default_rng(count)
    values = (rng.normal(size=count) * 10 ** rng.uniform(-3, 3)).astype(dtype)
    for percents in ([2.0, 98.0], [0.0, 100.0], [5.0, 50.0, 99.9], [37.3]):
        assert percentiles(values, percents) == np.percentile(values, percents).tolist()
    assert percentiles(values[::-1, None], [2.0]) == np.percentile(values, [2.0]).tolist()

"""Metres from relative depth: the fit, what it withstands, and when it says not to trust it."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import save_varied

from dptcli.cli import main
from dptcli.depth.anchors import (
    Anchors,
    apply_fit,
    fit_depth,
    fit_inverse,
    fit_metres,
    parse_anchor,
    read_anchors,
    sample_at,
)
from dptcli.errors import UsageError

RNG = np.random.default_rng(0)


def made(num, *, scale=0.05, shift=0.08, noise=0.0, outliers=0):
    """Inverse depths and the metres that a scale and a shift make of them."""
    values = RNG.uniform(0, 10, num)
    metres = 1 / (scale * values + shift) * (1 + noise * RNG.standard_normal(num))
    metres[:outliers] *= 5
    return values, metres


@pytest.mark.parametrize("num", [2, 3, 5, 400, 20_000])
def test_exact_anchors_give_the_scale_and_the_shift(num):
    fit = fit_inverse(*made(num))
    np.testing.assert_allclose((fit.scale, fit.shift), (0.05, 0.08), rtol=1e-6)
    assert bool(fit.warnings) == (num == 2)


@pytest.mark.parametrize(("num", "outliers"), [(5, 1), (10, 3), (400, 100)])
def test_outliers_do_not_pull_the_fit(num, outliers):
    fit = fit_inverse(*made(num, outliers=outliers, noise=0.002))
    # Few anchors average little of the noise out; plain least squares misses by a third or more.
    np.testing.assert_allclose((fit.scale, fit.shift), (0.05, 0.08), rtol=0.1)
    assert fit.num_outliers == outliers
    assert np.median(np.abs(fit.residuals)) < 0.01


def test_noise_is_averaged_out():
    fit = fit_inverse(*made(2000, noise=0.05))
    np.testing.assert_allclose((fit.scale, fit.shift), (0.05, 0.08), rtol=0.03)
    assert not fit.warnings


def test_three_anchors_count_alike_in_any_order():
    values, metres = np.array([0.5, 1.0, 1.5]), np.array([3.0, 1.4, 1.3])
    fits = [
        fit_inverse(values[list(order)], metres[list(order)])
        for order in itertools.permutations(range(3))
    ]
    slope, shift = np.polyfit(values, 1 / metres, 1)
    for fit in fits:
        np.testing.assert_allclose((fit.scale, fit.shift), (slope, shift), rtol=1e-9)


def test_an_anchor_among_three_that_fits_the_others_not_is_warned_about():
    fit = fit_inverse(np.array([2.0, 1.0, 0.5]), np.array([0.9, 1.1, 9.0]))
    assert fit.warnings


def test_anchors_that_fit_nothing_are_warned_about():
    values, metres = RNG.uniform(1, 10, 50), RNG.uniform(1, 10, 50)
    values[:10], metres[:10] = np.linspace(1, 10, 10), 1 / np.linspace(0.1, 1, 10)
    fit = fit_inverse(values, metres)
    assert any("disagree" in warning or "no common" in warning for warning in fit.warnings)


@pytest.mark.parametrize("values", [[4.0], [4.0, 4.0, 4.0]])
def test_one_depth_fixes_only_the_scale_and_says_so(values):
    fit = fit_inverse(np.array(values), np.full(len(values), 2.0))
    assert (fit.scale, fit.shift) == (0.125, 0.0)
    assert "not the shift" in fit.warnings[0]


@pytest.mark.parametrize(
    ("values", "metres"),
    [([np.nan], [1.0]), ([1.0, 5.0], [1.0, 9.0]), ([0.0], [1.0]), ([-1.0, -1.0], [1.0, 2.0])],
)
def test_impossible_anchors_are_refused(values, metres):
    with pytest.raises(UsageError):
        fit_inverse(np.array(values), np.array(metres))


def test_metres_of_a_metric_model_are_only_scaled():
    fit = fit_metres(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 600.0]))
    assert (fit.scale, fit.shift) == (2.0, 0.0)


@pytest.mark.parametrize("outliers", [0, 60])
def test_depth_without_scale_gets_a_scale_and_a_shift_in_depth(outliers):
    depth = RNG.uniform(0.5, 8, 300)
    metres = 2.5 * depth + 0.4
    metres[:outliers] *= 4
    fit = fit_depth(depth, metres)
    np.testing.assert_allclose((fit.scale, fit.shift), (2.5, 0.4), rtol=1e-6)
    assert fit.num_outliers == outliers
    back = apply_fit(depth[None].astype(np.float32), fit, inverse=False)
    np.testing.assert_allclose(back[0], 2.5 * depth + 0.4, rtol=1e-5)


@pytest.mark.parametrize("num", [1, 2])
def test_few_anchors_scale_depth_and_do_not_shift_it(num):
    fit = fit_depth(np.array([1.0, 4.0])[:num], np.array([2.0, 8.0])[:num])
    assert (fit.scale, fit.shift) == (2.0, 0.0)


def test_depth_is_never_put_behind_the_camera():
    # A line through these meets the nearest at -1 m; the scale alone does not.
    fit = fit_depth(np.array([1.0, 3.0, 5.0, 7.0]), np.array([0.1, 4.0, 9.0, 14.0]))
    assert fit.shift == 0
    steep = fit_depth(np.array([2.0, 3.0, 5.0, 7.0]), np.array([1.0, 3.0, 7.0, 11.0]))
    assert steep.shift < 0
    assert apply_fit(np.array([[0.5]], np.float32), steep, inverse=False)[0, 0] > 0


def test_depth_anchors_that_turn_near_and_far_around_are_refused():
    with pytest.raises(UsageError, match="turn near and far around"):
        fit_depth(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0]))


def test_what_lies_behind_infinity_ends_far_away_and_positive():
    fit = fit_inverse(np.array([1.0, 2.0, 4.0]), np.array([100.0, 1.0, 1 / 3]))
    metres = apply_fit(np.array([[-50.0, 1.0, 4.0]], np.float32), fit, inverse=True)
    assert np.isfinite(metres).all()
    np.testing.assert_allclose(metres[0, 0], 1000, rtol=1e-6)
    assert metres.min() > 0


def test_values_are_taken_where_the_anchor_points_whatever_the_maps_size():
    columns = np.arange(80, dtype=np.float32)[None].repeat(60, axis=0)
    anchors = Anchors(np.array([[20.0, 30.0], [20.5, 0.0], [79.0, 59.0]]), np.ones(3))
    np.testing.assert_allclose(sample_at(columns, anchors, (60, 80)), [20, 20.5, 79])
    half = columns[:30, :40] * 2 + 0.5  # the same ramp at half the size
    np.testing.assert_allclose(sample_at(half, anchors, (60, 80))[:2], [20, 20.5])
    with pytest.raises(UsageError, match=r"80,0 lies outside the photograph of 80 × 60"):
        sample_at(columns, Anchors(np.array([[80.0, 0.0]]), np.ones(1)), (60, 80))


@pytest.mark.parametrize(
    "text", ["", "1,2", "1,2=", "1,2=0", "1,2=-3", "a,b=c", "-1,2=3", "1;2=3", "1,2=inf"]
)
def test_wrong_anchors_are_refused(text):
    with pytest.raises(UsageError, match=r"x,y=metres"):
        parse_anchor(text)


def test_anchors_come_from_words_csv_and_sparse_maps(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,metres\n10,20,2.5\n\n11.5,3,4\n")
    anchors = read_anchors(["1, 2=3m"], tmp_path / "a.csv")
    np.testing.assert_array_equal(anchors.xy, [[1, 2], [10, 20], [11.5, 3]])
    np.testing.assert_array_equal(anchors.metres, [3, 2.5, 4])
    sparse = np.zeros((5, 6), np.uint16)
    sparse[3, 4] = 2560
    Image.fromarray(sparse).save(tmp_path / "s.png")
    found = read_anchors([], tmp_path / "s.png", levels_per_metre=256)
    assert (found.xy.tolist(), found.metres.tolist()) == ([[4.0, 3.0]], [10.0])


@pytest.mark.parametrize("map_hw", [(12, 16), (24, 32), (48, 64), (96, 128), (13, 17)])
def test_a_map_of_any_size_and_the_photographs_shape_is_laid_over_the_photograph(map_hw, tmp_path):
    # Depth that grows to the right and downwards: a shift by a pixel would show.
    row, column = (np.mgrid[: map_hw[0], : map_hw[1]] + 0.5) / np.array(map_hw)[:, None, None]
    Image.fromarray(((1 + column + 2 * row) * 1000).astype(np.uint16)).save(tmp_path / "m.png")
    anchors = read_anchors([], tmp_path / "m.png")
    xy = anchors.xy_in((48, 64))
    assert anchors.metres == pytest.approx(
        1 + (xy[:, 0] + 0.5) / 64 + 2 * (xy[:, 1] + 0.5) / 48, abs=0.06 if map_hw[0] > 48 else 2e-3
    )


@pytest.mark.parametrize("map_hw", [(64, 48), (48, 48), (24, 64)])
def test_a_map_of_another_shape_is_refused_with_both_sizes(map_hw, tmp_path):
    Image.fromarray(np.full(map_hw, 2000, np.uint16)).save(tmp_path / "m.png")
    anchors = read_anchors(["1,2=3"], tmp_path / "m.png")
    with pytest.raises(UsageError, match=f"{map_hw[1]} × {map_hw[0]} pixels.* 64 × 48"):
        sample_at(np.ones((48, 64), np.float32), anchors, (48, 64))


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("mm.npy", np.full((4, 6), 1950.0), "holds 1950 m in the middle; floats must be metres"),
        ("bytes.png", np.full((4, 6), 200, np.uint8), "--anchor-scale says how many"),
        ("metres.png", np.full((4, 6), 3, np.uint16), "--anchor-scale says how many"),
        ("colours.png", None, "is a coloured picture"),
    ],
)
def test_a_map_of_another_unit_is_refused_before_metres_are_made_of_it(
    name, values, reason, tmp_path
):
    path = tmp_path / name
    if values is None:
        picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6)).convert("P")
        picture.putpalette([level * 7 % 256 for level in range(768)])
        picture.save(path)
    elif path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    with pytest.raises(UsageError, match=reason):
        read_anchors([], path)


def test_a_map_of_bytes_is_taken_by_its_own_scale(tmp_path):
    Image.fromarray(np.full((4, 6), 200, np.uint8)).save(tmp_path / "map.png")
    anchors = read_anchors([], tmp_path / "map.png", levels_per_metre=50)
    assert anchors.metres.tolist() == [4.0] * 24


def test_words_beside_a_map_are_pixels_of_the_photograph(tmp_path):
    Image.fromarray(np.full((24, 32), 2000, np.uint16)).save(tmp_path / "m.png")
    anchors = read_anchors(["63,47=3"], tmp_path / "m.png")
    assert anchors.xy_in((48, 64))[0].tolist() == [63, 47]
    assert anchors.xy_in((48, 64))[1].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("content", ["", "x,y,m\n", "1,2,3\n4,5\n", "1,2,3\n4,5,-6\n"])
def test_wrong_anchor_files_are_refused_by_name(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UsageError, match=r"a\.csv"):
        read_anchors([], tmp_path / "a.csv")
    with pytest.raises(UsageError, match=r"no\.png"):
        read_anchors([], tmp_path / "no.png")


def test_a_wrong_line_ends_a_long_anchor_file_at_once(tmp_path):
    lines = b"x,y,m\n4,5\n" + b"1,2,3\n" * 40_000 + b"\xff"  # the end is not even read
    (tmp_path / "a.csv").write_bytes(lines)
    with pytest.raises(UsageError, match="'4,5' must be x,y,metres"):
        read_anchors([], tmp_path / "a.csv")


def test_depth_with_anchors_is_written_in_metres(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = str(save_varied(tmp_path / "model"))
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save("a.png")
    assert main(["depth", "a.png", "-o", "raw.npy", "-m", model, "-q"]) == 0
    inverse = np.load("raw.npy")
    metres = 1 / (0.5 * inverse + 0.1)
    places = [(3, 4), (20, 10), (35, 25), (12, 22), (30, 5)]
    words = [f"--anchor={x},{y}={metres[y, x]:.6f}" for x, y in places]
    assert main(["depth", "a.png", "-o", "m.npy", "-m", model, "--json", *words]) == 0
    captured = capsys.readouterr()
    assert re.search(r"metres by 5 anchors: 1 / \(0\.(5|49)\d* \* value", captured.err)
    said = json.loads(captured.out)["anchors"]
    assert (said["num_anchors"], said["of"]) == (5, "inverse_depth")
    np.testing.assert_allclose(np.load("m.npy"), metres, rtol=2e-3)
    facts = json.loads(Path("m.json").read_text())
    assert (facts["kind"], facts["unit"]) == ("depth_m", "metre")
    assert facts["anchors"]["median_error"] < 1e-3
    assert main(["depth", "a.png", "-o", "one.npy", "-m", model, words[0]]) == 0
    err = capsys.readouterr().err  # one is met exactly, which is no error of 0 %
    assert "metres by 1 anchor: " in err
    assert "%" not in err.partition("metres by 1")[2]
    # Formats that need metres are open to a relative model now.
    assert main(["depth", "a.png", "-o", "out", "-f", "mm", "-m", model, "-q", *words]) == 0
    assert main(["depth", "a.png", "-o", "x.npy", "-m", model, "--anchor", "99,0=1"]) == 1
    assert "99,0 lies outside" in capsys.readouterr().err

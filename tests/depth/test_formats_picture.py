"""Depth for the eye: ranges, gamma, colour bars, and one range over a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import save_varied

from dptcli.cli import main
from dptcli.depth.colormaps import depth_lut
from dptcli.depth.depthmap import DepthMap
from dptcli.depth.picture import Look, ValueRange, parse_range
from dptcli.errors import ImageError, UsageError
from dptcli.results.writers import write_picture

RAMP = np.linspace(2.0, 10.0, 600, dtype=np.float32).reshape(20, 30)


def depth_map(values=RAMP, kind="inverse_depth", **changes):
    return DepthMap(values, kind, (2.0, 10.0), **changes)


def drawn(look, depth=None):
    picture, facts = look.draw(depth or depth_map())
    return np.asarray(picture), facts


@pytest.mark.parametrize(("kind", "near"), [("inverse_depth", -1), ("depth", 0), ("depth_m", 0)])
@pytest.mark.parametrize("invert", [False, True])
def test_near_is_at_the_bright_end_unless_inverted(kind, near, invert):
    pixels, _ = drawn(Look(lut=depth_lut(), invert=invert), depth_map(kind=kind))
    np.testing.assert_array_equal(pixels.reshape(-1, 3)[near], depth_lut()[0 if invert else 255])


@pytest.mark.parametrize("kind", ["inverse_depth", "depth", "depth_m"])
def test_what_has_no_value_is_drawn_as_far(kind):
    values = RAMP.copy()
    values[0, 0] = np.nan
    pixels, _ = drawn(Look(lut=depth_lut()), depth_map(values, kind=kind))
    np.testing.assert_array_equal(pixels[0, 0], depth_lut()[0])


@pytest.mark.parametrize(("bits", "mode"), [(8, "L"), (16, "I;16")])
@pytest.mark.parametrize("kind", ["inverse_depth", "depth_m"])
def test_a_grey_picture_spans_all_levels_and_its_facts_give_the_values_back(bits, mode, kind):
    picture, facts = Look(bits=bits).draw(depth_map(kind=kind))
    assert picture.mode == mode
    top = 2**bits - 1
    levels = np.asarray(picture).astype(np.float64)
    assert (levels.min(), levels.max()) == (0, top)
    values = facts["first"] + (facts["last"] - facts["first"]) * levels / top
    # Half a level is what rounding to nearest costs.
    np.testing.assert_allclose(values, RAMP, atol=8.0 / top * 0.51)


def test_what_bicubic_resizing_overshot_is_clamped_to_the_networks_range():
    overshot = RAMP.copy()
    overshot[0, 0], overshot[-1, -1] = -3.0, 30.0
    pixels, facts = drawn(Look(), depth_map(overshot))
    assert (facts["first"], facts["last"]) == (2.0, 10.0)
    assert pixels[10, 0] == drawn(Look())[0][10, 0]


@pytest.mark.parametrize("values", [np.nan, 0.0, -1.0, np.inf])
@pytest.mark.parametrize("look", [Look(), Look(bits=16), Look(lut=depth_lut(), colorbar=True)])
def test_a_flat_or_empty_map_is_drawn(values, look):
    flat = np.full((30, 40), values, np.float32)
    for spec in (ValueRange(), ValueRange("percentile", 2, 98), ValueRange("fixed", 0, 1)):
        changed = Look(**{**look.__dict__, "value_range": spec})
        changed.draw(DepthMap(flat, "depth_m", (0.0, 0.0)))


def test_percentiles_leave_outliers_out():
    values = RAMP.copy()
    values[0, 0] = 1e6
    _, facts = drawn(Look(value_range=ValueRange("percentile", 2, 98)), depth_map(values))
    assert 2 < facts["first"] < 2.5
    assert 9.5 < facts["last"] < 10.1


def test_gamma_lifts_the_far_part_and_keeps_the_ends():
    plain, lifted = drawn(Look())[0], drawn(Look(gamma=2.0))[0]
    assert (lifted[0, 0], lifted[-1, -1]) == (0, 255)
    assert (lifted.astype(int) >= plain).all()
    assert lifted[5, 0] > plain[5, 0] + 50


def test_a_colour_bar_and_the_photograph_stand_beside_the_picture():
    rgb = np.full((40, 60, 3), 7, np.uint8)
    look = Look(lut=depth_lut(), colorbar=True, side_by_side=True)
    pixels, facts = drawn(look, depth_map(rgb=rgb))
    assert facts["shows"] == "photograph | depth | colour bar"
    assert (pixels[:, :30] == 7).all()
    np.testing.assert_array_equal(pixels[:, 30:60], drawn(Look(lut=depth_lut()))[0])
    assert (pixels[:, 60:] == 255).all(-1).mean() > 0.4  # the bar's white ground


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image", ValueRange("image")),
        ("percentile", ValueRange("percentile", 2, 98)),
        ("5%:90.5%", ValueRange("percentile", 5, 90.5)),
        ("Global", ValueRange("global")),
        ("-1:2e3", ValueRange("fixed", -1, 2000)),
        (".5:10", ValueRange("fixed", 0.5, 10)),
    ],
)
def test_ranges_are_read(text, expected):
    assert parse_range(text) == expected


@pytest.mark.parametrize(
    "text", ["", "all", "3", "5:5", "9:1", "5%:9", "-1%:50%", "5%:101%", "nan:1", "0:1e999"]
)
def test_wrong_ranges_are_refused(text):
    with pytest.raises(UsageError, match="--range"):
        parse_range(text)


def test_a_picture_too_large_for_webp_is_refused_by_size(tmp_path):
    with (
        (tmp_path / "x.webp").open("wb") as stream,
        pytest.raises(ImageError, match="20000 × 1 pixels do not fit into webp"),
    ):
        write_picture(stream, Image.new("L", (20_000, 1)), kind="webp")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_varied(tmp_path_factory.mktemp("model")))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 80 * (index + 1), (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(f"in/{index}.png")


def facts_of(path):
    with Image.open(path) as image:
        return json.loads(image.text["dptcli"])


@pytest.mark.usefixtures("photos")
def test_a_global_range_is_one_for_the_run_and_leaves_nothing_behind(model):
    Path("in/bad.png").write_bytes(b"no image")
    words = ["depth", "in", "-o", "out", "-m", model, "-q", "--range", "global", "--side-by-side"]
    assert main([*words, "-f", "color,npy"]) == 1
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(
        [f"{i}.{ending}" for i in range(3) for ending in ("png", "npy", "json")]
        + ["failures.jsonl", ".dpt"]
    )
    facts = [facts_of(f"out/{i}.png") for i in range(3)]
    assert len({(each["first"], each["last"]) for each in facts}) == 1
    assert main(["depth", "in/0.png", "-o", "one.npy", "-m", model, "-q"]) == 0
    np.testing.assert_allclose(np.load("out/0.npy"), np.load("one.npy"), rtol=1e-5)
    # The range is that of all three, wider than that of any one.
    assert facts[0]["last"] - facts[0]["first"] > max(e["max"] - e["min"] for e in facts) * 0.9


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("words", "asked"),
    [([], "1%:99%"), (["--grayscale"], "image"), (["--bits", "16"], "image")],
    ids=["colours leave the outermost out", "grey spans all", "16 bits span all"],
)
def test_what_a_picture_spans_unless_asked(model, words, asked):
    run = ["depth", "in/0.png", "-m", model, "-q", *words]
    assert main([*run, "-o", "usual.png"]) == 0
    assert main([*run, "-o", "asked.png", "--range", asked]) == 0
    assert main([*run, "-o", "other.png", "--range", "30%:70%"]) == 0
    usual, same, other = (facts_of(f"{name}.png") for name in ("usual", "asked", "other"))
    assert (usual["first"], usual["last"]) == (same["first"], same["last"])
    assert usual["last"] - usual["first"] > other["last"] - other["first"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--gamma 0", "--gamma '0'"),
        ("--gamma x", "--gamma 'x' must be a number"),
        ("--bits 16 --colorbar", "--colorbar 8-bit"),
        ("--bits 16 -f jpg", "needs PNG"),
        ("--range 5:1", "--range '5:1'"),
        ("--fov 500 -f ply", "--fov 500"),
        ("--fov 50 --focal 30", "leave one out"),
        ("--max-points 0", "--max-points '0'"),
    ],
)
@pytest.mark.usefixtures("photos")
def test_wrong_looks_are_one_line_and_exit_2(words, said, capsys):
    assert main(["depth", "in", "-o", "out", *words.split()]) == 2
    captured = capsys.readouterr().err
    assert said in captured
    assert len(captured.splitlines()) == 1
    assert not Path("out").exists()

"""Metres that are kept with a model: found again where they are known exactly."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from tiny import draw_blurred, save_varied

from dptcli.cli import main
from dptcli.weights.load import load_model

SCALE, SHIFT = 0.3, 0.05


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Photographs, a relative model, and its inverse depth of each."""
    folder = tmp_path_factory.mktemp("made")
    save_varied(folder / "model")
    draw_blurred(folder / "images", 6, size=(48, 40))
    words = ["depth", str(folder / "images"), "-o", str(folder / "raw"), "-f", "npy", "-q"]
    assert main([*words, "-m", str(folder / "model"), "--dtype", "float32"]) == 0
    return folder, {path.stem: np.load(path) for path in sorted((folder / "raw").glob("*.npy"))}


def write_maps(folder, raw):
    (folder / "depth").mkdir(exist_ok=True)
    for name, inverse in raw.items():
        np.save(folder / "depth" / f"{name}.npy", 1 / (SCALE * inverse + SHIFT))
    return str(folder)


def write_places(folder, raw):
    rng = np.random.default_rng(0)
    with (folder / "places.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "x", "y", "metres"])
        for name, inverse in raw.items():
            for row, column in rng.integers(0, inverse.shape, (4, 2)):
                metres = 1 / (SCALE * inverse[row, column] + SHIFT)
                table.writerow([f"images/{name}.png", column, row, metres])
    return str(folder / "places.csv")


@pytest.mark.parametrize("write", [write_maps, write_places])
def test_a_calibrated_model_gives_the_metres_that_were_known(write, made, tmp_path, capsys):
    folder, raw = made
    out = tmp_path / "metric"
    words = ["calibrate", str(folder / "model"), write(folder, raw), "-o", str(out), "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["scale"], told["shift"]) == pytest.approx((SCALE, SHIFT), rel=1e-3)
    assert told["num_photographs"] == told["held_out"]["num_photographs"] == 6
    assert told["held_out"]["abs_rel"] < 1e-3
    assert told["held_out"]["delta_1.25"] == 1
    # Without an option more, from then on.
    depth = ["depth", str(folder / "images"), "-o", str(tmp_path / "m"), "-f", "npy,mm", "-q"]
    assert main([*depth, "-m", str(out), "--dtype", "float32"]) == 0
    for name, inverse in raw.items():
        metres = np.load(tmp_path / "m" / f"{name}.npy")
        # Resized in metres and not in inverse depth: between pixels both differ a little.
        np.testing.assert_allclose(metres, 1 / (SCALE * inverse + SHIFT), rtol=0.03)
    facts = json.loads((tmp_path / "m" / "00.json").read_text())
    assert (facts["kind"], facts["unit"]) == ("depth_m", "metre")
    for model, gives in ((out, "metric"), (folder / "model", "relative")):
        assert main(["models", "show", str(model), "--json"]) == 0
        [shown] = json.loads(capsys.readouterr().out)
        assert shown["gives"] == gives
    # The network's own numbers are as they were.
    assert load_model(out, task="depth").calibration is not None
    assert load_model(folder / "model", task="depth").calibration is None


def test_what_was_kept_back_tells_how_well_it_holds(made, tmp_path, capsys):
    folder, raw = made
    rng = np.random.default_rng(1)
    own = folder / "wandering"
    (own / "depth").mkdir(parents=True)
    (own / "images").symlink_to(folder / "images")
    for name, inverse in raw.items():  # each photograph has a scale of its own, as networks do
        metres = 1 / (SCALE * rng.uniform(0.5, 2) * inverse + SHIFT)
        np.save(own / "depth" / f"{name}.npy", metres)
    out = tmp_path / "metric"
    assert main(["calibrate", str(folder / "model"), str(own), "-o", str(out), "--json"]) == 0
    held = json.loads(capsys.readouterr().out)["held_out"]
    assert held["abs_rel"] > 0.15
    assert held["abs_rel_fitted_each"] < 1e-3
    assert json.loads((out / "config.json").read_text())["calibration"]["held_out"] == held


def test_a_calibrated_model_is_calibrated_anew_by_its_networks_values(made, tmp_path, capsys):
    folder, raw = made
    pairs = write_maps(folder, raw)
    for source, out in ((folder / "model", "one"), (tmp_path / "one", "two")):
        words = ["calibrate", str(source), pairs, "-o", str(tmp_path / out), "--json"]
        assert main(words) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["of"], told["scale"]) == ("inverse_depth", pytest.approx(SCALE, rel=1e-3))


def test_a_calibrated_model_is_not_exported_or_trained_as_if_it_were_raw(made, tmp_path, capsys):
    folder, raw = made
    pairs, out = write_maps(folder, raw), str(tmp_path / "metric")
    assert main(["calibrate", str(folder / "model"), pairs, "-o", out]) == 0
    assert "kept back in turn, 6 photographs were off by 0.0%" in capsys.readouterr().out
    assert main(["export", out, str(tmp_path / "a.onnx")]) == 2
    assert "is calibrated" in capsys.readouterr().err
    assert main(["train", "depth", pairs, "--from", out, "-o", str(tmp_path / "t")]) == 2
    assert "is calibrated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,x,y,metres\nimages/00.png,5,5,-1\n", "line 2: x, y and metres"),
        ("image,x,y,metres\nimages/00.png,5,,1\n", "line 2: x, y and metres"),
        ("image,x,y,metres\nimages/é.png,5,5,1\n", "save it as CSV in UTF-8"),
        ("image,x,y,metres\nnothing.png,5,5,1\n", "leaves no photograph"),
        ("image,x,y,metres\nimages/00.png,500,5,1\n", "leaves no photograph"),
        ("image,target,kind\nimages/00.png,a.png,disparity\n", "leaves no photograph"),
        # What a long file ends in is not read where its beginning is wrong.
        ("photo,x\n" + "a,1\n" * 40_000 + "é", "lacks the column image and target"),
        ("image,x,y,metres\na,5,5,-1\n" + "a,5,5,1\n" * 20_000 + "é", "line 2: x, y and metres"),
    ],
    ids=lambda value: value[:40],
)
def test_distances_that_are_none_are_refused(text, said, made, tmp_path, capsys):
    folder, _ = made
    (folder / "bad.csv").write_text(text, encoding="latin-1")  # as spreadsheets may save it
    out = tmp_path / "metric"
    words = ["calibrate", str(folder / "model"), str(folder / "bad.csv"), "-o", str(out)]
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_another_models_numbers_are_refused(made, tmp_path, capsys):
    folder, raw = made
    out = tmp_path / "metric"
    assert main(["calibrate", str(folder / "model"), write_maps(folder, raw), "-o", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    config["calibration"]["of"] = "depth"
    (out / "config.json").write_text(json.dumps(config))
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    capsys.readouterr()
    assert main(["depth", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "-m", str(out)])
    assert "calibrate it anew" in capsys.readouterr().err

"""What an earlier run left in a folder is not taken for this run's, nor replaced by accident."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import save_tiny, save_varied

from dptcli.cli import main
from dptcli.results.restore import describe, restore


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "depth": str(save_varied(folder / "depth")),
        "segment": str(save_tiny(folder / "segment", task="segment")),
    }


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    draw(0)


def draw(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save("in/a.png")


@pytest.fixture
def dpt(models):
    def dpt(command, *words, expect=0):
        assert main([command, "in", "-m", models[command], "-q", *words]) == expect

    return dpt


ANCHORS = ["--anchor", "2,3=3", "--anchor", "30,20=2.5"]


def test_a_pictures_own_facts_win_over_the_sidecar_of_an_earlier_run(dpt):
    dpt("depth", "-o", "out", "--bits", "16", "-f", "color,npy")
    before = restore(Path("out/a.png"))
    dpt("depth", "-o", "out", "--bits", "16", "-f", "color", *ANCHORS, "--overwrite")
    found = restore(Path("out/a.png"))
    assert before.facts["kind"] == "inverse_depth"
    assert found.facts["kind"] == describe(Path("out/a.png"))["kind"] == "depth_m"
    alone = Path("alone.png")
    alone.write_bytes(Path("out/a.png").read_bytes())
    np.testing.assert_array_equal(found.values, restore(alone).values)
    assert describe(Path("out/a.npy"))["kind"] == "inverse_depth"  # what it was and is


def test_a_file_that_the_sidecar_does_not_name_gets_no_facts_from_it(dpt):
    dpt("depth", "-o", "out", "-f", "npy,pfm")
    dpt("depth", "-o", "out", "-f", "png16", *ANCHORS, "--overwrite")
    assert restore(Path("out/a.depth16.png")).facts["kind"] == "depth_m"
    for name in ("a.npy", "a.pfm"):
        assert "kind" not in restore(Path("out", name)).facts
        assert "kind" not in describe(Path("out", name))


def test_two_formats_of_one_result_may_come_one_after_the_other(dpt, capsys):
    dpt("depth", "-o", "r.ply")
    dpt("depth", "-o", "r.npy", expect=2)
    assert "at once, e.g. -f ply,glb, or add --overwrite" in capsys.readouterr().err
    dpt("depth", "-o", "r.npy", "--overwrite")
    said = json.loads(Path("r.json").read_text())["files"]
    assert {name: about["format"] for name, about in said.items()} == {
        "r.ply": "ply",
        "r.npy": "npy",
    }
    dpt("depth", "-o", "r.pfm", "--refine-edges", "--overwrite")
    assert list(json.loads(Path("r.json").read_text())["files"]) == ["r.pfm"], "of another result"


@pytest.mark.parametrize("words", [["--range", "percentile"], ["--range", "2:2.01"]], ids=str)
def test_values_that_a_range_cut_off_count_as_error(dpt, words):
    dpt("depth", "-o", "exact", "-f", "npy")
    dpt("depth", "-o", "out", "--bits", "16", *words)
    found, exact = restore(Path("out/a.png")), np.load("exact/a.npy")
    error = np.abs(found.values - exact).max()
    assert found.max_error > 0.001
    assert error <= found.max_error * 1.001 + 1e-6
    assert error >= found.max_error * 0.9


@pytest.mark.parametrize("kind", ["tiff", "npz"])
def test_float_files_say_what_they_are_without_their_sidecar(dpt, kind):
    dpt("depth", "-o", "out", "-f", kind)
    alone = Path(f"alone.{kind}")
    Path(f"out/a.{kind}").rename(alone)
    assert restore(alone).facts["kind"] == "inverse_depth"
    assert describe(alone)["polarity"] == "large is near"


def test_masks_of_classes_that_the_photograph_no_longer_shows_go(dpt):
    Path("out/a.classes").mkdir(parents=True)
    Image.new("L", (4, 4)).save("out/a.classes/mine.png")
    for seed in range(6):  # random weights: which classes there are changes with the noise
        draw(seed)
        dpt("segment", "-o", "out", "--also", "split", "--overwrite")
        with Image.open("out/a.png") as mask:
            there = len(np.unique(np.asarray(mask)))
        files = {path.name for path in Path("out/a.classes").iterdir()} - {"mine.png"}
        assert len(files) == there
    assert Path("out/a.classes/mine.png").is_file()


def test_masks_of_an_earlier_photograph_go_by_what_they_say(dpt):
    dpt("segment", "-o", "out", "--also", "split")
    [first, *_] = sorted(Path("out/a.classes").iterdir())
    first.rename(first.with_name("unicorn.png"))
    dpt("segment", "-o", "out", "--also", "split", "--overwrite")
    assert not Path("out/a.classes/unicorn.png").exists()


@pytest.mark.parametrize("name", ["out/a.json", "out/a.npy", "./out/../out/a.json"])
def test_a_report_may_not_be_a_result(models, capsys, name):
    Path("out").mkdir()
    words = ["depth", "in", "-o", "out", "-m", models["depth"], "-f", "npy", "--report", name]
    assert main(words) == 2
    assert "--report" in capsys.readouterr().err
    assert not list(Path("out").glob("a.*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", ""], "where to? give -o"),
        (["-o", "out", "--report", "-"], "--report writes a file"),
        (["-o", "a.avif"], "results are .png files"),
        (["-o", "notes.txt"], "results are .png files"),
        (["-o", "room.obj"], "instead of 'room.obj' name 'room.glb'"),
        (["-o", "room.OBJ", "-f", "ply"], "no result is a .obj file"),
        (["-o", "v1.las"], "instead of 'v1.las' name 'v1.ply'"),
        (["-o", "depth.mat"], "instead of 'depth.mat' name 'depth.npy'"),
    ],
)
def test_outputs_that_nobody_means_are_refused(models, capsys, words, said):
    assert main(["depth", "in", "-m", models["depth"], *words]) == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["in"]


@pytest.mark.parametrize("out", ["room.obj/", "there.mat", "v1.2"])
def test_a_folder_may_end_as_files_do(dpt, out):
    Path("there.mat").mkdir()
    dpt("depth", "-o", out)
    assert Path(out, "a.png").is_file()


def test_one_broken_file_does_not_hide_what_info_says_of_the_others(dpt, capsys):
    dpt("depth", "-o", "out")
    Path("broken.jpg").write_bytes(b"")
    assert main(["info", "broken.jpg", "nowhere.png", "out/a.png", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["file"] == "out/a.png"
    assert [line.split()[1] for line in captured.err.splitlines()] == ["broken.jpg", "nowhere.png"]


def test_a_list_goes_on_without_what_vanished_since_it_was_made(models, capsys):
    Path("list").write_text("in/a.png\nin/gone.png\n")
    words = ["depth", "--from-file", "list", "-o", "out", "-m", models["depth"], "--json"]
    assert main(words) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["input"]: line["status"] for line in lines} == {
        "in/a.png": "done",
        "in/gone.png": "failed",
    }
    Path("list").write_text("in/lost.png\nin/gone.png\n")
    assert main([*words, "--overwrite"]) == 2
    assert "no such file or folder: 'in/lost.png', 'in/gone.png'" in capsys.readouterr().err


def test_programs_get_paths_as_they_are(models, capsys):
    Path("in/new\nline.png").write_bytes(Path("in/a.png").read_bytes())
    Path("in/a.png").unlink()
    words = ["depth", "in", "-o", "out", "-m", models["depth"], "--json", "--report", "r.json"]
    assert main(words) == 0
    line = json.loads(capsys.readouterr().out)
    [image] = json.loads(Path("r.json").read_text())["images"]
    for found in (line, image):
        assert (found["input"], found["output"]) == ("in/new\nline.png", "out/new\nline.png")


def test_pictures_that_are_not_read_are_counted_where_a_folder_holds_them(models, capsys):
    for name in ("b.psd", "c.PSD", "d.jxl"):
        Path("in", name).write_bytes(b"?")
    assert main(["depth", "in", "-o", "out", "-m", models["depth"]]) == 0
    assert "left out 1 .jxl, 2 .psd: not read here" in capsys.readouterr().err

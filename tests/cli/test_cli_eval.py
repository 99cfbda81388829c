"""`dpt eval` as a process: tables, JSON, files, exit codes, and the way from `dpt depth` to it."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from depth_anything_3_folder import save_authors_folder
from eval_sets import HW, dpt_here, dpt_process, write_sets
from PIL import Image
from process import environment
from tiny import save_tiny, save_varied

from dptcli.cli import main
from dptcli.evaluation.metrics import DEPTH_METRICS


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "depth": str(save_tiny(folder / "depth", task="depth")),
        "metric": str(
            save_tiny(folder / "metric", task="depth", depth_estimation_type="metric", max_depth=10)
        ),
    }


@pytest.fixture(autouse=True)
def sets(tmp_path, monkeypatch):
    """The sets, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_sets(tmp_path)
    return tmp_path


@pytest.fixture
def dpt(capsys, monkeypatch):
    with dpt_here(capsys, monkeypatch) as run:
        yield run


def save_depths(folder, **depths_m):
    """Predictions in metres, as floats: constant ones, or arrays."""
    for name, depth_m in depths_m.items():
        path = Path(folder, name.replace("_", "/") + ".npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.broadcast_to(np.float32(depth_m), HW))


def stored_rooms():
    save_depths("out", **{"0": 2.0, "1": 4.0})
    return ("rooms", "--predictions", "out", "--prediction-kind", "depth_m")


# --- what is printed and written -----------------------------------------------------------------


def test_table_has_every_set_their_mean_and_the_baseline_in_80_columns(dpt):
    save_depths("out", rooms_0=2, rooms_1=4, streets_0=3)
    done = dpt(
        *("eval", "depth", "rooms", "streets/pairs.csv"),
        *("--predictions", "out", "--prediction-kind", "depth_m"),
    )
    assert done.returncode == 0, done.stderr
    first_words = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    start = first_words.index("set")
    assert first_words[start : start + 8] == [
        *("set", "rooms", "streets", "mean"),
        *("a", "rooms", "streets", "mean"),
    ]
    assert "50,000 pixel pairs an image" in done.stdout
    assert done.stdout.count("rooms") == done.stdout.count("streets") == 2
    assert "not aligned" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stderr.splitlines() == [
        "[1/3] rooms/0.png",
        "[2/3] rooms/1.png",
        "[3/3] streets/0.png",
    ]


def test_json_is_one_document_with_everything_in_it(dpt):
    done = dpt("eval", "depth", *stored_rooms(), "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["task"], report["predictions"]) == ("depth", "out")
    assert report["protocol"]["align"] == "none"  # metres need no fit
    assert set(report["mean"]["scores"]) == set(DEPTH_METRICS)
    assert report["sets"]["rooms"]["num_images"] == 2
    with Image.open("rooms/0.target.png") as image:
        target = np.asarray(image)[5:] / 1000
    assert report["images"][0]["scores"]["abs_rel"] == pytest.approx(
        np.mean(np.abs(2 - target) / target), abs=1e-5
    )
    means = [image["scores"]["abs_rel"] for image in report["images"]]
    assert report["mean"]["scores"]["abs_rel"] == pytest.approx(np.mean(means), abs=1e-5)


def test_report_folder_has_the_numbers_and_the_pictures_and_is_not_overwritten(dpt):
    words = ("eval", "depth", *stored_rooms(), "-o", "report")
    done = dpt(*words)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in Path("report").iterdir()}
    assert names == {"report.json", "images.csv", "errors.png", "best-worst.png"}
    rows = list(csv.DictReader(io.StringIO(Path("report/images.csv").read_text())))
    assert [row["image"] for row in rows] == ["0.png", "1.png"]
    report = json.loads(Path("report/report.json").read_text())
    assert float(rows[1]["rmse"]) == report["images"][1]["scores"]["rmse"]
    assert float(rows[1]["baseline_delta1"]) == report["images"][1]["baseline"]["delta1"]
    for name in ("errors.png", "best-worst.png"):
        with Image.open(f"report/{name}") as picture:
            assert np.asarray(picture.convert("L")).std() > 10

    again = dpt(*words)
    assert again.returncode == 2
    assert again.stderr == "dpt: -o 'report' holds a report; replace it with --overwrite\n"
    assert dpt(*words, "--overwrite", "--no-plots").returncode == 0


def test_measuring_files_needs_no_torch():
    code = (
        "import sys; from dptcli.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(code or 9 * ('torch' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "eval", "depth", *stored_rooms(), "-o", "report"],
        capture_output=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr


def test_caps_and_fit_reach_the_protocol(dpt):
    options = ("--align", "median", "--min-depth", "1", "--max-depth", "5", "--num-pairs", "100")
    done = dpt("eval", "depth", *stored_rooms(), *options, "--no-baseline", "--json")
    report = json.loads(done.stdout)
    protocol = report["protocol"]
    assert [protocol[name] for name in ("align", "min_depth", "max_depth")] == ["median", 1, 5]
    assert "baseline" not in report["mean"]
    assert report["images"][0]["scores"]["num_pairs"] <= 100
    with Image.open("rooms/0.target.png") as image:
        target = np.asarray(image)
    assert (
        report["images"][0]["scores"]["num_pixels"] == ((target >= 1000) & (target <= 5000)).sum()
    )


# --- failures ------------------------------------------------------------------------------------


def test_failed_image_is_named_and_the_exit_code_is_1(dpt):
    words = stored_rooms()
    Path("out/0.npy").write_bytes(b"broken")
    done = dpt("eval", "depth", *words, "--json", "-o", "report")
    assert done.returncode == 1
    assert "[1/2] rooms/0.png: out/0.npy cannot be read as a map" in done.stderr
    assert done.stderr.splitlines()[-1] == "dpt: 1 of 2 images failed"
    report = json.loads(done.stdout)
    assert report["sets"]["rooms"]["num_failed"] == 1
    assert "scores" not in report["images"][0]
    only = report["images"][1]["scores"]
    assert report["mean"]["scores"] == {name: only[name] for name in DEPTH_METRICS}


def test_run_whose_every_image_fails_still_reports(dpt):
    words = stored_rooms()
    for path in Path("rooms").glob("*.target.png"):
        path.unlink()
    done = dpt("eval", "depth", *words, "-o", "report")
    assert done.returncode == 1
    assert "dpt: 2 of 2 images failed" in done.stderr
    report = json.loads(Path("report/report.json").read_text())
    assert report["mean"]["scores"]["abs_rel"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["depth"], "no PAIRS given"),
        (["depth", "none.csv"], "no such file or folder: 'none.csv'"),
        (["depth", "labels"], "has only labels; `depth` needs rows of kind depth_m"),
        (["segment", "rooms"], "has only depth_m; `segment` needs rows of kind labels"),
        (["depth", "rooms", "rooms/pairs.csv"], "given twice"),
        (["depth", "rooms", "--align", "affine"], "--align 'affine' must be auto, none, scale"),
        (["depth", "rooms", "--crop", "eigen"], "--crop 'eigen' must be none, kitti-garg or nyu"),
        (["depth", "rooms", "--min-depth", "9", "--max-depth", "1"], "must be below max_depth 1"),
        (["depth", "rooms", "--max-depth", "-1"], "max_depth -1.0 must be above 0"),
        (["depth", "rooms", "--num-pairs", "0"], "num_pairs 0 must be 1 or more"),
        (["depth", "rooms", "--prediction-kind", "depth"], "need --predictions DIR"),
        (["depth", "rooms", "--predictions", "none"], "is no folder"),
        (["depth", "rooms", "--predictions", "streets"], "no map in 'streets' can be used: "),
        (["depth", "rooms", "--predictions", "unsaid"], "give --prediction-kind"),
        (
            ["depth", "rooms", "--predictions", "rooms", "--prediction-kind", "near"],
            "--prediction-kind 'near' must be depth_m",
        ),
        (
            ["depth", "rooms", "--predictions", "rooms", "--prediction-scale", "0"],
            "--prediction-scale 0.0 must be above 0",
        ),
        (["depth", "rooms", "-m", "dpt-smal"], "did you mean 'dpt-small'?"),
        (["depth", "rooms", "-o", "rooms/0.png"], "is a file; name a folder"),
        (["depth", "rooms", "-o", "rooms/0.png/x"], "cannot write into 'rooms/0.png/x'"),
        (["segment", "labels", "--label-map", "none", "--predictions", "labels"], "label map none"),
        (["depth", "rooms", "--device", "tpu"], "--device 'tpu' must be"),
        (["depth", "rooms", "--size", "big"], "'big'"),
        (["depths", "rooms"], "No such command 'depths'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_and_exit_2(dpt, words, message):
    save_depths("unsaid", **{"0": 1.0})
    done = dpt("eval", *words)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("dpt: ")
    assert message in line


# --- models --------------------------------------------------------------------------------------


def test_model_scores_as_its_16_bit_pictures_do(dpt, tmp_path):
    # Its depth varies everywhere: a picture is clipped to the network's own range, and where that
    # flattens most of a map, order is lost.
    model = str(save_varied(tmp_path / "varied"))
    made = dpt("depth", "rooms/0.png", "rooms/1.png", "-o", "out", "--bits", "16", "-m", model)
    assert made.returncode == 0, made.stderr
    direct = dpt_process("eval", "depth", "rooms", "-m", model, "--json")
    stored = dpt("eval", "depth", "rooms", "--predictions", "out", "--json")
    assert (direct.returncode, stored.returncode) == (0, 0), direct.stderr + stored.stderr
    first, second = (json.loads(done.stdout) for done in (direct, stored))
    assert first["protocol"] == second["protocol"]
    assert first["protocol"]["align"] == "scale-shift"
    # 16 bits round a map to 1 / 65535 of its range.
    assert second["mean"]["scores"] == pytest.approx(first["mean"]["scores"], rel=2e-3)
    assert first["model"] == model


def test_metric_model_is_measured_in_metres_unless_asked(dpt, models):
    words = ("eval", "depth", "rooms", "-m", models["metric"], "--json")
    assert json.loads(dpt(*words).stdout)["protocol"]["align"] == "none"


def test_the_sets_camera_makes_the_metres_of_a_model_that_needs_it(dpt, tmp_path):
    folder = save_authors_folder(tmp_path / "da3", name="da3metric-large")
    words = ("eval", "depth", "rooms", "-m", folder, "--size", "56", "--json", "--dtype", "float32")
    words += ("--scale", "0.01", "--no-baseline")  # so far away that AbsRel is 1 - metres / target
    Path("rooms/pairs.csv").write_text("image,target,kind\n0.png,0.target.png,depth_m\n")
    short = []
    for camera in ("50,50,32,24", "100,100,32,24"):
        report = json.loads(dpt(*words, "--intrinsics", camera).stdout)
        assert report["intrinsics"] == camera
        short.append(1 - report["mean"]["scores"]["abs_rel"])
    assert short[1] == pytest.approx(2 * short[0], rel=0.05)
    done = dpt("eval", "depth", "rooms", "--predictions", "out", "--fov", "60")
    assert done.returncode == 2
    assert "--fov is what a model is told" in done.stderr


def test_a_scale_holds_for_targets_whose_own_nobody_says(sets, models, capsys):
    """KITTI's way: metres times 256 in 16 bits, in a folder that has no column for that."""
    (sets / "kitti" / "images").mkdir(parents=True)
    (sets / "kitti" / "depth").mkdir()
    (sets / "maps").mkdir()
    metres = np.linspace(3, 60, HW[0] * HW[1], dtype=np.float32).reshape(HW)
    Image.new("RGB", HW[::-1]).save(sets / "kitti" / "images" / "a.png")
    Image.fromarray((metres * 256).astype(np.uint16)).save(sets / "kitti" / "depth" / "a.png")
    np.save(sets / "maps" / "a.npy", metres)
    words = ["eval", "depth", "kitti", "--predictions", "maps", "--prediction-kind", "depth_m"]
    assert main([*words, "--json", "-q"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "millimetres" in report["assumed"]
    assert report["mean"]["scores"]["abs_rel"] > 1
    assert main([*words, "--json", "-q", "--scale", "256"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["scale"], "assumed" in report) == (256, False)
    assert report["mean"]["scores"]["abs_rel"] < 0.01
    assert main([*words, "--scale", "-1"]) == 2
    # A set that says its own keeps it.
    assert main(["eval", "depth", "rooms", "-m", models["metric"], "--json", "-q"]) == 0
    own = json.loads(capsys.readouterr().out)["mean"]
    words = ["eval", "depth", "rooms", "-m", models["metric"], "--json", "-q", "--scale", "7"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["mean"] == own


def test_photographs_of_any_name_get_their_lines_and_sheets(dpt, models, sets):
    # A line break, bytes that are no UTF-8, and what would be mathematics in a drawing.
    odd = ["a\nb", "\udcff", "$x_{$"]
    folder = sets / "odd"
    for kind in ("images", "depth"):
        (folder / kind).mkdir(parents=True)
        source = sets / "rooms" / ("0.png" if kind == "images" else "0.target.png")
        for name in odd:
            (folder / kind / f"{name}.png").write_bytes(source.read_bytes())
    done = dpt("eval", "depth", "odd", "-m", models["depth"], "-o", "scores", "--scale", "1000")
    assert done.returncode == 0, done.stderr
    text = (sets / "scores" / "images.csv").read_text("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert sorted(row["image"] for row in rows) == sorted(f"images/{name}.png" for name in odd)

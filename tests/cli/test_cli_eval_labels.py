"""`dpt eval segment`: masks and models, and classes of two label sets that mean the same."""

import json
from pathlib import Path

import numpy as np
import pytest
from eval_sets import CLASSES, HW, dpt_here, dpt_process, write_sets
from PIL import Image
from tiny import save_tiny


@pytest.fixture(autouse=True)
def sets(tmp_path, monkeypatch):
    """The sets, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_sets(tmp_path)


@pytest.fixture
def dpt(capsys, monkeypatch):
    with dpt_here(capsys, monkeypatch) as run:
        yield run


def test_segmentation_model_scores_as_its_masks_do(dpt, tmp_path):
    model = save_tiny(tmp_path / "model", task="segment")
    made = dpt("segment", "labels/0.png", "labels/1.png", "-o", "out", "-m", model)
    assert made.returncode == 0, made.stderr
    direct = dpt_process("eval", "segment", "labels", "-m", model, "-o", "report")
    assert direct.returncode == 0, direct.stderr
    stored = dpt("eval", "segment", "labels", "--predictions", "out", "--json")
    first, second = json.loads(Path("report/report.json").read_text()), json.loads(stored.stdout)
    assert second["mean"] == first["mean"]
    assert second["confusion"] == first["confusion"]
    assert np.sum(first["confusion"]) == 2 * 43 * 64  # five rows are ignored
    assert {path.name for path in Path("report").iterdir()} == {
        *("report.json", "images.csv", "confusion.csv", "confusion.png", "best-worst.png")
    }
    assert [row.split(",")[0] for row in Path("report/confusion.csv").read_text().splitlines()] == [
        *("target \\ predicted", *CLASSES)
    ]
    lines = direct.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for name in CLASSES:
        assert any(line.startswith(name) for line in lines)


def save_masks(value):
    Path("out").mkdir()
    for index in range(2):
        Image.fromarray(np.full(HW, value, np.uint8)).save(f"out/{index}.png")
    Path("out/labels.json").write_text('{"labels": {"0": "lawn", "1": "cloud"}}')


def test_label_map_joins_two_label_sets_into_groups(dpt):
    save_masks(0)
    groups = {
        "target": {"sky": "up", "ground": "down", "gizmo": None},
        "prediction": {"cloud": "up", "lawn": "down"},
    }
    Path("groups.json").write_text(json.dumps(groups))
    done = dpt(
        "eval", "segment", "labels", "--predictions", "out", "--label-map", "groups.json", "--json"
    )
    report = json.loads(done.stdout)
    targets = []
    for index in range(2):
        with Image.open(f"labels/{index}.target.png") as image:
            targets.append(np.asarray(image))
    counted = np.isin(targets, [0, 1]).sum()
    share = (np.array(targets) == 1).sum() / counted
    assert report["classes"] == ["up", "down"]
    assert report["mean"]["num_pixels"] == counted
    assert report["mean"]["pixel_accuracy"] == pytest.approx(share, abs=1e-6)
    assert report["mean"]["iou"] == pytest.approx({"up": 0, "down": share}, abs=1e-6)


def test_different_label_sets_without_a_map_are_refused(dpt):
    save_masks(0)
    done = dpt("eval", "segment", "labels", "--predictions", "out")
    assert done.returncode == 2
    assert "different classes (lawn, cloud, sky, ground, …)" in done.stderr
    assert "--label-map FILE" in done.stderr


def test_ignored_id_is_the_users_choice(dpt):
    save_masks(1)
    Path("out/labels.json").unlink()
    Path("labels/classes.txt").write_text("\n".join(map(str, range(256))))
    words = ("eval", "segment", "labels", "--predictions", "out", "--json", "--ignore-index")
    all_pixels = json.loads(dpt(*words, "254").stdout)["mean"]["num_pixels"]
    assert all_pixels == 2 * 48 * 64
    assert json.loads(dpt(*words, "255").stdout)["mean"]["num_pixels"] == 2 * 43 * 64

"""`dpt train`: from a folder of pairs to a model that `dpt depth -m FOLDER` takes."""

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from process import environment, warm_dpt
from tiny import save_tiny
from written_pairs import write_pairs

from dptcli import DPTForDepthEstimation
from dptcli.cli import main
from dptcli.weights.load import load_model

QUICK = ["--batch-size", "2", "--learning-rate", "0.003", "--device", "cpu", "--variants", "2"]


def open_last_relu(folder: Path) -> None:
    """Let a random model's outputs begin about one: a ReLU that starts shut learns nothing."""
    model = DPTForDepthEstimation.from_pretrained(folder)
    last = model.head.head[4]
    assert isinstance(last, torch.nn.Conv2d)
    assert last.bias is not None
    torch.nn.init.constant_(last.bias, 1.0)
    model.save_pretrained(folder)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    (tmp_path / "pairs").mkdir()
    return write_pairs(tmp_path / "pairs", count=5)


@pytest.mark.parametrize("task", ["depth", "segment"])
def test_a_trained_folder_predicts_better(tmp_path: Path, pairs: Path, task: str) -> None:
    start = save_tiny(tmp_path / "start", task=task, initializer_range=0.1)
    if task == "depth":
        open_last_relu(start)
    else:
        rows = list(csv.DictReader(pairs.read_text().splitlines()))
        text = "".join(f"{row['image']},{row['labels']},labels\n" for row in rows)
        pairs.write_text("image,target,kind\n" + text)
    out = tmp_path / "out"
    words = ["train", task, str(pairs), "-m", str(start), "-o", str(out), "--steps", "60", "-q"]
    assert main([*words, *QUICK, "--hold-out", "3"]) == 0
    record = json.loads((out / "training.json").read_text())
    score = "ordinal" if task == "depth" else "pixel_accuracy"
    assert record["after"][score] > record["before"][score]
    assert record["steps_done"] == 60
    with Image.open(out / "loss.png") as curve:
        assert curve.width > 100
    assert len((out / "history.csv").read_text().splitlines()) == 61
    assert not (out / "checkpoint.pt").exists()
    labels = load_model(out, task=task, device="cpu").labels
    assert list(labels.values()) == (["sky", "ground"] if task == "segment" else [])
    photo = pairs.parent / "000_0.jpg"
    assert main([task, str(photo), "-m", str(out), "-o", str(tmp_path / "a.png"), "-q"]) == 0


def test_transformers_loads_the_result_with_the_same_numbers(tmp_path: Path, pairs: Path) -> None:
    transformers = pytest.importorskip("transformers")
    start = save_tiny(tmp_path / "start", task="depth", initializer_range=0.1)
    open_last_relu(start)
    out = tmp_path / "out"
    words = ["train", "depth", str(pairs), "-m", str(start), "-o", str(out), "--steps", "3", "-q"]
    assert main([*words, *QUICK, "--hold-out", "0"]) == 0
    theirs = transformers.DPTForDepthEstimation.from_pretrained(out).eval()
    ours = load_model(out, task="depth", device="cpu").model.eval()
    height, width = load_model(out, device="cpu").processor.network_hw((40, 60))
    pixels = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(pixels).predicted_depth
        torch.testing.assert_close(ours(pixels).predicted_depth, expected, rtol=1e-4, atol=1e-5)


def test_offline_fetches_no_model_to_begin_with(
    tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    words = ["train", "depth", str(pairs), "-m", "dpt-large", "-o", str(tmp_path / "out")]
    assert main([*words, "--offline"]) == 2
    assert "dpt-large" in capsys.readouterr().err
    assert main(["eval", "depth", str(pairs), "-m", "dpt-large", "--offline"]) == 2
    assert "dpt-large" in capsys.readouterr().err


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, pairs: Path) -> None:
    start = save_tiny(tmp_path / "start", task="depth", initializer_range=0.1)
    words = ["train", "depth", str(pairs), "-m", str(start), "--steps", "20", *QUICK]
    assert main([*words, "-o", str(tmp_path / "whole"), "-q"]) == 0
    command = [*warm_dpt(), *words, "-o", str(tmp_path / "cut")]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment()
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "step 7/" in line:
                process.kill()  # SIGKILL: nothing can be tidied up
                break
        process.stderr.read()
    assert (tmp_path / "cut" / "checkpoint.pt").is_file()
    assert not (tmp_path / "cut" / "config.json").exists()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    assert "step 1/" not in done.stderr
    whole, cut = (
        load_model(tmp_path / name, task="depth", device="cpu").model for name in ("whole", "cut")
    )
    for name, value in whole.state_dict().items():
        # Another number of threads adds in another order.
        torch.testing.assert_close(cut.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_a_run_goes_on_with_its_own_model_and_pairs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint has neither the frozen backbone nor the pairs: others would fit in silently."""
    (tmp_path / "set").mkdir()
    write_pairs(tmp_path / "set", count=3)
    (tmp_path / "set" / "pairs.csv").unlink()
    for name, spread in (("start", 0.1), ("other", 0.2)):
        save_tiny(tmp_path / name, task="depth", initializer_range=spread)
    out = tmp_path / "out"
    words = ["train", "depth", str(tmp_path / "set"), "-o", str(out), "--steps", "2", "-q", *QUICK]
    start = ["-m", str(tmp_path / "start")]
    monkeypatch.setattr("dptcli.training.fit.CHECKPOINT_NAME", "none")  # so that it stays
    assert main([*words, *start]) == 0
    (out / "config.json").unlink()
    for changed, said in (
        ([*start, "--scale", "256"], "another set of pairs"),
        ([*start, "--hold-out", "2"], "another held-out pairs"),
        (["-m", str(tmp_path / "other")], "another model to begin with"),
    ):
        capsys.readouterr()
        assert main([*words, *changed]) == 2
        assert said in capsys.readouterr().err
    assert main([*words, *start]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "depth"], "no PAIRS"),
        (["train", "depth", "pairs"], "no -o FOLDER"),
        (["train", "depth", "none.csv", "-o", "out"], "none.csv"),
        (["train", "depth", "pairs", "-o", "out", "--dtype", "int8"], "int8"),
        (["train", "depth", "pairs", "-o", "out", "--learning-rate", "0"], "learning_rate"),
        (["train", "depth", "pairs", "-o", "out", "-m", "no-such-model"], "no-such-model"),
        (["train", "depth", "pairs", "-o", "pairs/pairs.csv"], "is a file"),
        (["train", "depth", "pairs", "-o", "pairs/pairs.csv/x"], "cannot write into"),
    ],
    ids=["pairs", "folder", "missing", "dtype", "rate", "model", "file", "unwritable"],
)
def test_wrong_usage_is_refused_by_name(
    tmp_path: Path,
    pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert pairs.is_file()
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_a_model_is_not_overwritten_unasked(
    tmp_path: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = save_tiny(tmp_path / "start", task="depth")
    assert main(["train", "depth", str(pairs), "-m", str(start), "-o", str(start)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_an_unknown_class_is_named(
    tmp_path: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = save_tiny(tmp_path / "start", task="segment")
    folder = pairs.parent
    (folder / "classes.txt").unlink()
    Image.new("L", (60, 40), 77).save(folder / "000_0.labels.png")
    pairs.write_text("image,target,kind\n000_0.jpg,000_0.labels.png,labels\n")
    words = ["train", "segment", str(pairs), "-m", str(start), "-o", str(tmp_path / "out")]
    assert main([*words, *QUICK, "--hold-out", "0"]) == 2
    assert "class 77" in capsys.readouterr().err


def label_set(folder: Path, ids: list[int], classes: int) -> Path:
    """Photographs whose left half is one class and whose right half another, 16-bit label maps."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for index in range(2):
        Image.new("RGB", (60, 40), (60 * index, 90, 20)).save(folder / "images" / f"{index}.png")
        labels = np.full((40, 60), ids[0], np.uint16)
        labels[:, 30:] = ids[1]
        Image.fromarray(labels).save(folder / "labels" / f"{index}.png")
    (folder / "classes.txt").write_text("".join(f"c{i}\n" for i in range(classes)))
    return folder


def test_more_classes_than_eight_bits_hold_are_learnt(tmp_path: Path) -> None:
    start = save_tiny(tmp_path / "start", task="segment", initializer_range=0.1)
    folder = label_set(tmp_path / "set", [290, 65_535], classes=300)
    words = ["train", "segment", str(folder), "-m", str(start), "-o", str(tmp_path / "out")]
    assert (
        main([*words, *QUICK, "--hold-out", "2", "--steps", "12", "--learning-rate", "0.03"]) == 0
    )
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["after"]["pixel_accuracy"] == 1
    assert record["before"]["pixel_accuracy"] < 0.5


def test_an_id_that_does_not_count_is_told_and_is_told_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = save_tiny(tmp_path / "start", task="segment", initializer_range=0.1)
    folder = label_set(tmp_path / "set", [255, 3], classes=300)
    words = ["train", "segment", str(folder), "-m", str(start), "--steps", "2", *QUICK]
    assert main([*words, "-o", str(tmp_path / "a"), "--hold-out", "0"]) == 0
    assert "class 255 (c255) does not count" in capsys.readouterr().err
    assert main([*words, "-o", str(tmp_path / "b"), "--ignore-index", "65535"]) == 0
    assert "does not count" not in capsys.readouterr().err
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["semantic_loss_ignore_index"] == 65_535


def test_a_scale_says_what_integers_of_depth_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path, count=2)
    (tmp_path / "pairs.csv").unlink()  # a folder of targets has no column for it
    start = save_tiny(tmp_path / "m", task="depth", depth_estimation_type="metric", max_depth=80)
    words = ["train", "depth", str(tmp_path), "-m", str(start), "--steps", "1", *QUICK]
    assert main([*words, "-o", str(tmp_path / "a"), "--hold-out", "0"]) == 0
    assert "taken for millimetres" in capsys.readouterr().err
    assert main([*words, "-o", str(tmp_path / "b"), "--hold-out", "0", "--scale", "256"]) == 0
    assert "taken for" not in capsys.readouterr().err
    assert main([*words, "-o", str(tmp_path / "c"), "--scale", "0"]) == 2

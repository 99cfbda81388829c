"""Depth that the model teaches itself on labelled photographs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared_backbone import PHOTO
from tiny_training import tiny

from dptcli.pipeline import Pipeline
from dptcli.processing.processor import DPTImageProcessor
from dptcli.training.data import load_sample, read_examples
from dptcli.training.teach import from_infinity, main, move_to_borders, seen_depth
from dptcli.weights.load import LoadedModel, load_model


def seeing(folder: Path) -> LoadedModel:
    """A tiny depth model whose depths differ from pixel to pixel."""
    tiny().save_pretrained(folder)
    settings = {"size": 42, "ensure_multiple_of": 14, "keep_aspect_ratio": True}
    DPTImageProcessor(**settings).save_pretrained(folder)
    return load_model(folder, task="depth", device="cpu", dtype="float32")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Two photographs whose upper half is sky."""
    folder = tmp_path / "sets" / "outside"
    folder.mkdir(parents=True)
    rows = ["image,target"]
    for stem in ("a", "b"):
        Image.fromarray(PHOTO).save(folder / f"{stem}.png")
        labels = np.full(PHOTO.shape[:2], 255, np.uint8)
        labels[:20] = 0
        Image.fromarray(labels).save(folder / f"{stem}.labels.png")
        rows.append(f"{stem}.png,{stem}.labels.png")
    (folder / "classes.txt").write_text("sky\nground\n")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "sets"


def test_what_is_taught_is_read_as_depth_with_labels(sets: Path, tmp_path: Path) -> None:
    seeing(tmp_path / "depth")
    words = [str(sets), "-o", str(tmp_path / "taught"), "--model", str(tmp_path / "depth")]
    assert main([*words, "--sizes", "42", "56", "--mirror"]) == 0
    examples, classes = read_examples(tmp_path / "taught" / "outside", task="depth")
    assert classes == ("sky", "ground")
    assert [example.image for example in examples] == [
        sets / "outside" / "a.png",
        sets / "outside" / "b.png",
    ]
    sample = load_sample(examples[0], (40, 61), seed=0, index=0, variant=0, augment=False)
    assert (sample.inverse_depth[:20] == 0).all()
    assert sample.valid[:20].all()
    assert sample.inverse_depth[20:].max() > 0


def test_what_stands_there_already_stays(sets: Path, tmp_path: Path) -> None:
    seeing(tmp_path / "depth")
    words = [str(sets), "-o", str(tmp_path / "taught"), "--model", str(tmp_path / "depth")]
    assert main([*words, "--sizes", "42"]) == 0
    first, second = (tmp_path / "taught" / "outside" / f"{stem}.png" for stem in "ab")
    before = first.stat().st_mtime_ns
    second.unlink()
    assert main([*words, "--sizes", "42"]) == 0
    assert first.stat().st_mtime_ns == before
    assert second.is_file()


def test_the_mean_with_the_mirrored_photograph_prefers_no_side(tmp_path: Path) -> None:
    views = [Pipeline(seeing(tmp_path / "depth"))]
    flipped = np.ascontiguousarray(PHOTO[:, ::-1])

    def likeness(*, mirror: bool) -> float:
        straight = seen_depth(PHOTO, views, mirror=mirror)
        turned = seen_depth(flipped, views, mirror=mirror)[:, ::-1]
        return float(np.corrcoef(straight.ravel(), turned.ravel())[0, 1])

    assert likeness(mirror=True) > likeness(mirror=False)


def test_depth_is_counted_from_the_sky() -> None:
    inverse = np.array([[0.4, 0.6, 0.5], [0.3, 1.5, 2.5]], np.float32)
    sky = np.array([[True, True, True], [False] * 3])
    expected = [[0, 0, 0], [0, 1, 2]]
    np.testing.assert_allclose(from_infinity(inverse, sky), expected, atol=1e-6)
    np.testing.assert_array_equal(from_infinity(inverse, sky[::-1] & sky), inverse)


def test_a_set_without_photographs_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "pairs.csv").write_text("image,target\n")
    seeing(tmp_path / "depth")
    words = [str(tmp_path), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "depth")]
    assert main([*words, "--sizes", "42"]) == 2
    assert "empty" in capsys.readouterr().err


def test_a_jump_moves_to_the_border_of_the_labels() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 33:] = 1
    near, far = 2.0, 1.0
    # The network's edge is spread over four pixels to either side.
    ramp = np.interp(np.arange(60), [29, 37], [near, far]).astype(np.float32)
    blurred = np.tile(ramp, (40, 1))
    moved = move_to_borders(blurred, labels, reach=5)
    np.testing.assert_allclose(moved[:, :33], near, atol=1e-6)
    np.testing.assert_allclose(moved[:, 33:], far, atol=1e-6)


def test_a_strip_without_an_inside_stays_as_the_network_sees_it() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 30:34] = 1
    seen = np.tile(np.linspace(1, 2, 60, dtype=np.float32), (40, 1))
    moved = move_to_borders(seen, labels, reach=5)
    np.testing.assert_array_equal(moved[:, 30:34], seen[:, 30:34])
    assert (np.diff(moved[0, :30]) >= -1e-6).all()  # the side itself goes on as it did

"""Reading pairs.csv and drawing samples."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dptcli.errors import ImageError, UsageError
from dptcli.training.data import load_sample, read_pairs, split

HW = (28, 42)


def write_pairs(folder: Path, *, count: int = 3, size: tuple[int, int] = (60, 40)) -> Path:
    """Ramps in colour and depth (2 m to 4 m downward), the upper quarter sky."""
    rows = ["image,target,kind,scale,labels"]
    width, height = size
    for index in range(count):
        depth_m = np.linspace(2, 4, height)[:, None].repeat(width, axis=1)
        labels = np.ones((height, width), np.uint8)
        sky = slice(0, height // 4)
        depth_m[sky], labels[sky] = 0, 0
        colour = np.random.default_rng(index).integers(0, 255, (height, width, 3), np.uint8)
        stem = f"{index:03d}_0"
        Image.fromarray(colour).save(folder / f"{stem}.jpg")
        Image.fromarray((depth_m * 1000).astype(np.uint16)).save(folder / f"{stem}.depth.png")
        Image.fromarray(labels).save(folder / f"{stem}.labels.png")
        rows.append(f"{stem}.jpg,{stem}.depth.png,depth_m,1000,{stem}.labels.png")
    (folder / "classes.txt").write_text("sky\nground\n")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    return folder / "pairs.csv"


def test_depth_becomes_inverse_depth_and_sky_is_infinitely_far(tmp_path: Path) -> None:
    pair = read_pairs(write_pairs(tmp_path))[0]
    sample = load_sample(pair, (40, 60), seed=0, index=0, variant=0, augment=False)
    assert sample.pixel_values.shape == (3, 40, 60)
    assert sample.valid.all()
    assert (sample.inverse_depth[:10] == 0).all()
    assert sample.inverse_depth[-1, 0] == pytest.approx(1 / 4, rel=1e-3)
    assert (sample.labels[:10] == 0).all()


def test_unmeasured_depth_is_not_valid_without_a_sky_label(tmp_path: Path) -> None:
    path = write_pairs(tmp_path)
    (tmp_path / "classes.txt").unlink()
    sample = load_sample(read_pairs(path)[0], (40, 60), seed=0, index=0, variant=0, augment=False)
    assert not sample.valid[:10].any()
    assert sample.valid[10:].all()


def test_inverse_depth_targets_are_taken_as_they_are(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, count=1)
    path.write_text(path.read_text().replace("depth_m", "inverse_depth"))
    sample = load_sample(read_pairs(path)[0], (40, 60), seed=0, index=0, variant=0, augment=False)
    assert sample.inverse_depth[-1, 0] == pytest.approx(4.0)


def test_label_pairs_need_no_depth(tmp_path: Path) -> None:
    write_pairs(tmp_path, count=1)
    (tmp_path / "labels.csv").write_text("image,target\n000_0.jpg,000_0.labels.png\n")
    pair = read_pairs(tmp_path / "labels.csv")[0]
    sample = load_sample(pair, HW, seed=0, index=0, variant=1)
    assert not sample.valid.any()
    assert set(np.unique(sample.labels)) <= {0, 1}


def test_a_sample_depends_on_nothing_but_seed_pair_and_variant(tmp_path: Path) -> None:
    pair = read_pairs(write_pairs(tmp_path))[1]
    first = load_sample(pair, HW, seed=3, index=1, variant=5)
    load_sample(pair, HW, seed=3, index=1, variant=6)
    again = load_sample(pair, HW, seed=3, index=1, variant=5)
    other = load_sample(pair, HW, seed=4, index=1, variant=5)
    np.testing.assert_array_equal(first.pixel_values, again.pixel_values)
    np.testing.assert_array_equal(first.inverse_depth, again.inverse_depth)
    assert not np.array_equal(first.pixel_values, other.pixel_values)


def test_a_flip_keeps_image_and_targets_together(tmp_path: Path) -> None:
    """Depth painted into the picture's brightness stays with it in every variant."""
    levels = np.linspace(50, 200, 60).astype(np.uint8)[None].repeat(40, axis=0)
    Image.fromarray(np.stack([levels] * 3, axis=-1)).save(tmp_path / "a.png")
    Image.fromarray(levels.astype(np.uint16)).save(tmp_path / "a.depth.png")
    (tmp_path / "pairs.csv").write_text(
        "image,target,kind,scale\na.png,a.depth.png,inverse_depth,1\n"
    )
    pair = read_pairs(tmp_path)[0]
    slopes = set()
    for variant in range(12):
        sample = load_sample(pair, HW, seed=0, index=0, variant=variant)
        seen = sample.pixel_values.mean(axis=(0, 1))
        told = sample.inverse_depth.mean(axis=0)
        assert np.corrcoef(seen, told)[0, 1] > 0.9
        slopes.add(bool(told[-1] > told[0]))
    assert slopes == {True, False}


def test_views_of_one_scene_are_held_out_together(tmp_path: Path) -> None:
    write_pairs(tmp_path, count=4)
    text = (tmp_path / "pairs.csv").read_text()
    (tmp_path / "pairs.csv").write_text(text + text.split("\n")[1] + "\n")
    train, held = split(read_pairs(tmp_path), every=2)
    assert {pair.image.name for pair in held} == {"000_0.jpg", "002_0.jpg"}
    assert len(train) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture,target\n", "image"),
        ("image,target,kind,scale\na.jpg,a.png,metres,1\n", "metres"),
        ("image,target,kind,scale\na.jpg,a.png,depth_m,0\n", "scale '0'"),
        ("image,target,kind,scale\na.jpg,a.png,depth_m,x\n", "scale 'x'"),
    ],
    ids=["column", "kind", "zero", "word"],
)
def test_a_wrong_pairs_file_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_pairs(tmp_path)


def test_a_missing_pairs_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_pairs(tmp_path)


def test_a_broken_or_misfitting_image_is_named(tmp_path: Path) -> None:
    pairs = read_pairs(write_pairs(tmp_path))
    pairs[0].image.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"000_0\.jpg"):
        load_sample(pairs[0], HW, seed=0, index=0, variant=0)
    Image.new("RGB", (9, 9)).save(pairs[1].image)
    with pytest.raises(ImageError, match=r"001_0\.jpg"):
        load_sample(pairs[1], HW, seed=0, index=0, variant=0)

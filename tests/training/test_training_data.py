"""Reading pairs.csv and drawing samples."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from written_pairs import write_pairs

from dptcli.errors import ImageError
from dptcli.evaluation.pairs import PairTask
from dptcli.processing.config import ProcessorConfig
from dptcli.training.data import Example, Normalization, load_sample, read_examples, split

HW = (28, 42)


def read(path: Path, *, task: PairTask = "depth") -> list[Example]:
    return read_examples(path, task=task)[0]


def test_depth_becomes_inverse_depth_and_sky_is_infinitely_far(tmp_path: Path) -> None:
    example = read(write_pairs(tmp_path))[0]
    sample = load_sample(example, (40, 60), seed=0, index=0, variant=0, augment=False)
    assert sample.pixel_values.shape == (3, 40, 60)
    assert sample.valid.all()
    assert (sample.inverse_depth[:10] == 0).all()
    assert sample.inverse_depth[-1, 0] == pytest.approx(1 / 4, rel=1e-3)
    assert (sample.labels[:10] == 0).all()


def test_unmeasured_depth_is_not_valid_without_a_sky_label(tmp_path: Path) -> None:
    path = write_pairs(tmp_path)
    (tmp_path / "classes.txt").unlink()
    sample = load_sample(read(path)[0], (40, 60), seed=0, index=0, variant=0, augment=False)
    assert not sample.valid[:10].any()
    assert sample.valid[10:].all()


def test_inverse_depth_targets_are_taken_as_they_are(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, count=1)
    path.write_text(path.read_text().replace("depth_m", "inverse_depth"))
    sample = load_sample(read(path)[0], (40, 60), seed=0, index=0, variant=0, augment=False)
    assert sample.inverse_depth[-1, 0] == pytest.approx(4.0)


def test_label_pairs_need_no_depth(tmp_path: Path) -> None:
    write_pairs(tmp_path, count=1)
    (tmp_path / "labels.csv").write_text("image,target,kind\n000_0.jpg,000_0.labels.png,labels\n")
    example = read(tmp_path / "labels.csv", task="segment")[0]
    sample = load_sample(example, HW, seed=0, index=0, variant=1)
    assert not sample.valid.any()
    assert set(np.unique(sample.labels)) <= {0, 1}


def test_a_sample_depends_on_nothing_but_seed_pair_and_variant(tmp_path: Path) -> None:
    example = read(write_pairs(tmp_path))[1]
    first = load_sample(example, HW, seed=3, index=1, variant=5)
    load_sample(example, HW, seed=3, index=1, variant=6)
    again = load_sample(example, HW, seed=3, index=1, variant=5)
    other = load_sample(example, HW, seed=4, index=1, variant=5)
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
    example = read(tmp_path)[0]
    slopes = set()
    for variant in range(12):
        sample = load_sample(example, HW, seed=0, index=0, variant=variant)
        seen = sample.pixel_values.mean(axis=(0, 1))
        told = sample.inverse_depth.mean(axis=0)
        assert np.corrcoef(seen, told)[0, 1] > 0.9
        slopes.add(bool(told[-1] > told[0]))
    assert slopes == {True, False}


def test_views_of_one_scene_are_held_out_together_whatever_other_scenes_there_are() -> None:
    def views(count: int) -> list[Example]:
        names = [f"{scene:06d}_{view}.jpg" for scene in range(count) for view in (0, 1)]
        return [Example(Path(name), None, None) for name in names]

    train, held = split(views(40), every=4, by_scene=True)
    assert len(train) + len(held) == 80
    assert 10 <= len(held) <= 30
    scenes = [{example.image.stem.split("_")[0] for example in part} for part in (train, held)]
    assert not scenes[0] & scenes[1]
    more = split(views(60), every=4, by_scene=True)[1]
    assert [example for example in more if int(example.image.stem[:6]) < 40] == held


def test_every_so_many_examples_are_held_out(tmp_path: Path) -> None:
    examples = read(write_pairs(tmp_path, count=5))
    train, held = split(examples, every=3)
    assert [example.image.name for example in held] == ["000_0.jpg", "003_0.jpg"]
    assert len(train) == 3
    assert split(examples, every=0) == (examples, [])


def test_a_target_of_another_size_covers_its_photograph(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, count=1)
    depth = tmp_path / "000_0.depth.png"
    Image.open(depth).resize((30, 20), Image.Resampling.NEAREST).save(depth)
    (tmp_path / "classes.txt").unlink()
    example = read(path)[0]
    sample = load_sample(example, (40, 60), seed=0, index=0, variant=0, augment=False)
    assert sample.inverse_depth[-1, 0] == pytest.approx(1 / 4, rel=0.02)
    assert not sample.valid[:8].any()


def test_metric_samples_are_not_zoomed(tmp_path: Path) -> None:
    """Without zoom a crop spans the photograph's full height or width."""
    rows = np.arange(1, 41, dtype=np.uint16)[:, None].repeat(60, axis=1)
    Image.new("RGB", (60, 40), (90, 90, 90)).save(tmp_path / "a.png")
    Image.fromarray(rows).save(tmp_path / "a.depth.png")
    (tmp_path / "pairs.csv").write_text("image,target,kind,scale\na.png,a.depth.png,depth_m,1\n")
    example = read(tmp_path)[0]
    for variant in range(8):
        sample = load_sample(example, (40, 40), seed=0, index=0, variant=variant, zoom=False)
        assert 1 / sample.inverse_depth.max() < 5
        assert 1 / sample.inverse_depth.min() > 35


def test_pixels_are_normalised_as_the_models_processor_does(tmp_path: Path) -> None:
    example = read(write_pairs(tmp_path))[0]
    config = ProcessorConfig(do_rescale=False, image_mean=100.0, image_std=50.0)
    plain = load_sample(example, (40, 60), seed=0, index=0, variant=0, augment=False)
    other = load_sample(
        example, (40, 60), seed=0, index=0, variant=0, augment=False,
        normalization=Normalization.of(config),
    )  # fmt: skip
    values = (plain.pixel_values[0] * 0.229 + 0.485) * 255
    np.testing.assert_allclose(other.pixel_values[0], (values - 100) / 50, atol=1e-3)


def test_a_broken_or_misfitting_image_is_named(tmp_path: Path) -> None:
    examples = read(write_pairs(tmp_path))
    examples[0].image.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"000_0\.jpg"):
        load_sample(examples[0], HW, seed=0, index=0, variant=0)
    Image.new("RGB", (9, 9)).save(examples[1].image)
    with pytest.raises(ImageError, match=r"001_0\.jpg"):
        load_sample(examples[1], HW, seed=0, index=0, variant=0)

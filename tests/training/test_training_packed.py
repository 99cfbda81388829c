"""Packed examples: what is carried is what was there, and training on it gives weights back."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_training import tiny
from written_pairs import write_pairs

from dptcli.errors import UsageError
from dptcli.training import packed, packs
from dptcli.training.batches import Source, TrainOptions
from dptcli.training.classes import CLASSES
from dptcli.training.data import targets_of
from dptcli.training.feed import feed
from dptcli.training.photographs import read_material


def frames(folder: Path, *, count: int = 3) -> Path:
    """Rendered frames, as the renderer stores them."""
    folder.mkdir(parents=True)
    write_pairs(folder, count=count)
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def test_levels_of_depth_are_one_percent_off_at_most() -> None:
    depth = np.geomspace(0.4, 39, 5000).reshape(50, 100)
    inverse = 1 / depth
    inverse[:3] = 0
    levels, near, far = packs.to_levels(inverse)
    found = packs.from_levels(levels, near, far)
    np.testing.assert_array_equal(found[:3], 0)
    np.testing.assert_allclose(found[3:], inverse[3:], rtol=0.01)


def test_a_pack_holds_what_its_examples_say(tmp_path: Path) -> None:
    examples = read_material(frames(tmp_path / "frames"))
    assert packs.pack(examples + examples[:1], tmp_path / "pack", part_bytes=4000) > 1
    folder = packs.unpack(tmp_path / "pack", tmp_path / "unpacked")
    found = read_material(folder)
    assert len(found) == len(examples) + 1  # equal ones are stored once and counted
    assert len(set(found)) == len(examples)
    for before, after in zip(examples, dict.fromkeys(found), strict=True):
        was, now = targets_of(before), targets_of(after)
        known = np.asarray(was["valid"]) > 0
        np.testing.assert_array_equal(np.asarray(now["valid"]) > 0, known)
        old, new = (np.asarray(told["inverse_depth"]) for told in (was, now))
        ratio = new[old > 0] / old[old > 0]
        assert np.ptp(ratio) < 0.05 * ratio.mean()
        colours = (np.asarray(Image.open(one.image), np.int16) for one in (before, after))
        assert abs(next(colours) - next(colours)).mean() < 6


def test_batches_of_other_processes_are_the_same(tmp_path: Path) -> None:
    examples = read_material(frames(tmp_path / "frames"))
    options = TrainOptions(
        batch_size=2, shapes_hw=((28, 42),), variants=0, backbone_rate=1e-5, seed=3
    )
    source = Source(tiny(), examples, options)
    here, there = (list(feed(source, first=1, end=4, workers=count)) for count in (0, 1))
    assert len(here) == len(there) == 3
    for one, other in zip(here, there, strict=True):
        assert one.pixel_values is not None
        assert other.pixel_values is not None
        assert one.pixel_values.equal(other.pixel_values)
        assert one.inverse_depth.equal(other.inverse_depth)


def test_weights_in_parts_come_back_whole(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40
    folder = tmp_path / "models" / "dpt-small-depth"
    folder.mkdir(parents=True)
    (folder / "head.safetensors").write_bytes(data)
    parts = packs.split_file(
        folder / "head.safetensors", tmp_path / "parts" / folder.name, part_bytes=1000
    )
    assert [part.stat().st_size for part in parts] == [1000] * 10 + [240]
    (folder / "head.safetensors").write_bytes(b"old")
    assert packed.join(tmp_path / "parts", tmp_path / "models") == [folder / "head.safetensors"]
    assert (folder / "head.safetensors").read_bytes() == data


def test_a_folder_without_parts_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no part-000\.zip"):
        packs.unpack(tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="holds no weights in parts"):
        packed.join(tmp_path, tmp_path)


@pytest.mark.slow
def test_the_built_in_model_trains_on_a_pack(tmp_path: Path) -> None:
    from dptcli.weights.catalog import BUILTIN_FOLDER

    models = shutil.copytree(BUILTIN_FOLDER, tmp_path / "models")
    pack = tmp_path / "pack"
    assert packed.main(["pack", str(frames(tmp_path / "frames")), "-o", str(pack)]) == 0
    small = "--device cpu --dtype float32 --shapes 56x84 --batch-size 1 --steps 2 --workers 1"
    command = ["train", str(pack), "-o", str(tmp_path / "parts"), "--builtin", str(models)]
    assert packed.main([*command, *small.split()]) == 0
    before = (models / "dpt-small-depth" / "head.safetensors").read_bytes()
    assert packed.main(["join", str(tmp_path / "parts"), "-o", str(models)]) == 0
    assert (models / "dpt-small-depth" / "head.safetensors").read_bytes() != before
    assert (
        json.loads((models / "dpt-small-depth" / "config.json").read_text())["dtype"] == "float32"
    )

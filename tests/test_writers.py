"""Pictures as files: what a reader finds in them, and that they are whole or absent."""

import io
import json
import os
import shutil
import stat
import subprocess

import numpy as np
import pytest
from PIL import Image

from dptcli.colormaps import palette
from dptcli.files import atomic_path, atomic_write, discard_unfinished
from dptcli.writers import (
    write_label_mask,
    write_names_json,
    write_overlay,
)


def written(write, *args, **options):
    stream = io.BytesIO()
    write(stream, *args, **options)
    stream.seek(0)
    return Image.open(stream)


def test_a_masks_pixels_are_the_class_ids_and_its_palette_their_colours():
    labels = np.arange(150, dtype=np.uint8).reshape(10, 15)
    colors = palette(150)
    image = written(write_label_mask, labels, colors=colors)
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), labels)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colors[labels])


def test_more_than_256_classes_are_written_with_16_bits():
    labels = np.arange(300, dtype=np.int64).reshape(10, 30)
    image = written(write_label_mask, labels, colors=palette(300))
    assert image.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(image), labels)


@pytest.mark.parametrize("num_labels", [5, 300])
def test_an_overlay_blends_the_photograph_with_the_classes(num_labels):
    labels = np.arange(20).reshape(4, 5) % num_labels
    colors = palette(num_labels)
    rgb = np.full((4, 5, 3), 200, np.uint8)
    pixels = np.asarray(written(write_overlay, labels, rgb=rgb, colors=colors, alpha=0.25))
    np.testing.assert_allclose(pixels, 150 + 0.25 * colors[labels], atol=1)


def test_an_overlay_has_the_size_of_the_labels():
    rgb = np.zeros((40, 60, 3), np.uint8)
    labels = np.zeros((4, 6), np.uint8)
    image = written(write_overlay, labels, rgb=rgb, colors=palette(1), alpha=0.5)
    assert image.size == (6, 4)


def test_the_names_json_has_a_name_and_a_colour_for_every_id():
    stream = io.BytesIO()
    colors = palette(3)
    write_names_json(stream, {1: "wood", 0: "ciel é", 2: "x"}, colors=colors, model="m")
    content = json.loads(stream.getvalue())
    assert content["labels"] == {"0": "ciel é", "1": "wood", "2": "x"}
    assert content["colors"]["1"] == "#{:02x}{:02x}{:02x}".format(*colors[1])
    assert content["model"] == "m"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail():
        with atomic_write(path) as stream:
            stream.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_missing_folders_are_made_and_long_names_fit(tmp_path):
    path = tmp_path / "b" / "c" / ("n" * 251 + ".png")
    with atomic_write(path) as stream:
        stream.write(b"x")
    assert path.read_bytes() == b"x"


def test_a_result_is_an_ordinary_file_to_its_group(tmp_path):
    old = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a.png") as stream:
            stream.write(b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


def test_an_exit_in_a_hurry_removes_what_is_half_written(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.png") as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        discard_unfinished()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_no_half_file(small_disk):
    def fill():
        with atomic_write(small_disk / "a.png") as stream:
            stream.write(bytes(200_000))

    with pytest.raises(OSError, match="No space left"):
        fill()
    assert list(small_disk.iterdir()) == []

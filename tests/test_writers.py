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

from dptcli.colormaps import depth_lut, palette
from dptcli.files import atomic_path, atomic_write, discard_unfinished
from dptcli.writers import (
    TEXT_KEY,
    write_depth_color,
    write_depth_gray,
    write_label_mask,
    write_names_json,
    write_overlay,
)

RAMP = np.linspace(2.0, 10.0, 600, dtype=np.float32).reshape(20, 30)


def written(write, *args, **options):
    stream = io.BytesIO()
    write(stream, *args, **options)
    stream.seek(0)
    return Image.open(stream)


def facts_of(image):
    return json.loads(image.text[TEXT_KEY])


def test_inverse_depth_is_coloured_with_near_at_the_bright_end():
    pixels = np.asarray(written(write_depth_color, RAMP, lut=depth_lut()))
    assert pixels.shape == (20, 30, 3)
    np.testing.assert_array_equal(pixels[0, 0], depth_lut()[0])
    np.testing.assert_array_equal(pixels[-1, -1], depth_lut()[255])


def test_metres_are_coloured_with_near_at_the_bright_end():
    pixels = np.asarray(written(write_depth_color, RAMP, lut=depth_lut(), near_is_large=False))
    np.testing.assert_array_equal(pixels[0, 0], depth_lut()[255])


def test_invert_makes_near_dark():
    assert np.asarray(written(write_depth_gray, RAMP, invert=True))[-1, -1] == 0
    metres = written(write_depth_gray, RAMP, near_is_large=False, invert=True)
    assert np.asarray(metres)[0, 0] == 0


@pytest.mark.parametrize(("bits", "mode"), [(8, "L"), (16, "I;16")])
@pytest.mark.parametrize("near_is_large", [True, False])
def test_a_grey_picture_spans_all_levels_and_its_text_gives_the_values_back(
    bits, mode, near_is_large
):
    image = written(write_depth_gray, RAMP, bits=bits, near_is_large=near_is_large)
    assert image.mode == mode
    top = 2**bits - 1
    pixels = np.asarray(image).astype(np.float64)
    assert (pixels.min(), pixels.max()) == (0, top)
    facts = facts_of(image)
    values = facts["first"] + (facts["last"] - facts["first"]) * pixels / top
    # Half a level is what rounding to nearest costs.
    np.testing.assert_allclose(values, RAMP, atol=8.0 / top * 0.51)


@pytest.mark.parametrize("values", [np.nan, 0.0, -1.0, np.inf])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_flat_or_empty_map_is_written_as_one_level(values, bits):
    flat = np.full((3, 4), values, np.float32)
    assert len(np.unique(np.asarray(written(write_depth_gray, flat, bits=bits)))) == 1


def test_facts_travel_in_the_text():
    facts = {"model": "café", "kind": "inverse_depth"}
    image = written(write_depth_color, RAMP, lut=depth_lut(), facts=facts)
    assert facts_of(image).items() >= facts.items()
    assert image.text["Software"].startswith("dptcli ")


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

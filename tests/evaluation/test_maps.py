"""Maps as files: every format gives back its numbers, and what is no map is refused by name."""

import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dptcli.errors import ImageError
from dptcli.evaluation.maps import read_map, resize_labels, resize_map

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def write_pfm(path, values, order):
    height, width = values.shape
    scale = -1.0 if order == "<" else 1.0
    header = f"Pf\n{width} {height}\n{scale}\n".encode()
    path.write_bytes(header + values[::-1].astype(f"{order}f4").tobytes())


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("m.npy", lambda path: np.save(path, VALUES)),
        ("m.npz", lambda path: np.savez(path, depth=VALUES)),
        ("m.npy", lambda path: np.save(path, VALUES[None])),
        ("m.npy", lambda path: np.save(path, VALUES[..., None])),
        ("m.tiff", lambda path: Image.fromarray(VALUES).save(path)),
        ("m.pfm", lambda path: write_pfm(path, VALUES, "<")),
        ("m.pfm", lambda path: write_pfm(path, VALUES, ">")),
        ("m.png", lambda path: Image.fromarray(VALUES.astype(np.uint8)).save(path)),
        ("m.png", lambda path: Image.fromarray(VALUES.astype(np.uint16)).save(path)),
    ],
    ids=["npy", "npz", "npy-first", "npy-last", "tiff", "pfm-le", "pfm-be", "png-8", "png-16"],
)
def test_every_format_gives_back_its_numbers(tmp_path, name, write):
    write(tmp_path / name)
    np.testing.assert_array_equal(read_map(tmp_path / name).values, VALUES)


def test_levels_of_our_own_pictures_are_turned_back_into_values(tmp_path):
    text = PngInfo()
    text.add_text("dptcli", json.dumps({"kind": "inverse_depth", "first": 2.0, "last": 12.0}))
    levels = np.array([[0, 32768, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "m.png", pnginfo=text)
    stored = read_map(tmp_path / "m.png")
    assert stored.facts["kind"] == "inverse_depth"
    np.testing.assert_allclose(stored.decoded(), [[2, 7, 12]], atol=1e-4)


def test_sidecar_says_what_a_map_holds(tmp_path):
    np.save(tmp_path / "m.npy", VALUES)
    (tmp_path / "m.json").write_text('{"kind": "depth_m", "scale": 256}')
    assert read_map(tmp_path / "m.npy").facts == {"kind": "depth_m", "scale": 256}


@pytest.mark.parametrize("text", ["{", "[1]"], ids=["cut", "list"])
def test_broken_sidecar_is_refused_by_name(tmp_path, text):
    np.save(tmp_path / "m.npy", VALUES)
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ImageError, match=r"m\.json"):
        read_map(tmp_path / "m.npy")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("gone.png", lambda _path: None, "does not exist"),
        ("empty.png", lambda path: path.write_bytes(b""), "cannot be read as a map"),
        ("text.npy", lambda path: path.write_text("no"), "cannot be read as a map"),
        ("cut.pfm", lambda path: path.write_bytes(b"Pf\n9 9\n-1\n12"), "cannot be read as a map"),
        ("rgb.pfm", lambda path: path.write_bytes(b"PF\n1 1\n-1\n"), "first line must be Pf"),
        ("two.npz", lambda path: np.savez(path, a=VALUES, b=VALUES), "holds a, b"),
        ("line.npy", lambda path: np.save(path, VALUES[0]), r"shape \(4,\)"),
        ("none.npy", lambda path: np.save(path, VALUES[:0]), r"shape \(0, 4\)"),
        ("stack.npy", lambda path: np.save(path, np.zeros((2, 2, 3))), r"shape \(2, 2, 3\)"),
        ("words.npy", lambda path: np.save(path, np.array([["a"]])), "integers or floats"),
        (
            "pickle.npy",
            lambda path: np.save(path, np.array([[{}]], object), allow_pickle=True),
            "cannot be read as a map",
        ),
        (
            "colour.png",
            lambda path: Image.new("RGB", (2, 2)).save(path),
            "colour picture.*--bits 16",
        ),
    ],
)
def test_what_is_no_map_is_refused_by_name(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(ImageError, match=name) as caught:
        read_map(tmp_path / name)
    caught.match(message)


def test_resized_ramp_stays_a_ramp():
    ramp = np.tile(np.arange(8, dtype=np.float32), (4, 1))
    doubled = resize_map(ramp, (8, 16))
    # Between the outermost pixel centres bilinear interpolation is exact on a ramp.
    np.testing.assert_allclose(doubled[0, 1:-1], (np.arange(1, 15) - 0.5) / 2, atol=1e-5)


def test_resized_labels_invent_no_class():
    labels = np.array([[0, 200], [255, 3]])
    assert set(np.unique(resize_labels(labels, (9, 7)))) == {0, 3, 200, 255}

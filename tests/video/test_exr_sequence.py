"""Numbered frames of light (OpenEXR, Radiance) in, numbered OpenEXR depth out."""

import numpy as np
import pytest
from clips import photograph
from exr_reader import read_exr
from tiny import save_varied

from dptcli.cli import main

OpenEXR = pytest.importorskip("OpenEXR", reason="the extra `exr` is not installed")


def write_light(path, light):
    """Light (H, W, 3) as an OpenEXR file, or as a Radiance picture without packing."""
    if path.suffix == ".exr":
        OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": light}).write(str(path))
        return
    mantissa, exponent = np.frexp(light.max(axis=-1, keepdims=True))
    codes = np.floor(light * np.exp2(8.0 - exponent))
    assert (mantissa < 1).all()
    pixels = np.concatenate([codes, exponent + 128], axis=-1).astype(np.uint8)
    size = f"-Y {light.shape[0]} +X {light.shape[1]}\n"
    path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n" + size.encode() + pixels.tobytes())


@pytest.mark.parametrize("ending", ["exr", "hdr"])
def test_numbered_light_becomes_numbered_depth_held_steady(ending, tmp_path):
    model = str(save_varied(tmp_path / "model"))
    (tmp_path / "in").mkdir()
    still = (photograph(32, 48) / np.float32(255)) ** np.float32(2.2) * np.float32(8)
    for number in range(998, 1002):
        write_light(tmp_path / f"in/shot.{number:04}.{ending}", still.astype(np.float32))
    words = ["depth", f"{tmp_path}/in", "-m", model, "-q", "--sequence"]
    assert main([*words, "-o", f"{tmp_path}/out/", "-f", "exr,npy"]) == 0
    found = sorted((tmp_path / "out").glob("*.exr"))
    assert [path.name for path in found] == [f"shot.{n:04}.exr" for n in range(998, 1002)]
    first = read_exr(found[0])["Y"]
    assert first.shape == (32, 48)
    assert np.ptp(first) > 0.1
    for path in found:  # a still scene: every frame is the first
        assert np.array_equal(read_exr(path)["Y"], np.load(path.with_suffix(".npy")))
        assert np.abs(read_exr(path)["Y"] - first).max() < 1e-5

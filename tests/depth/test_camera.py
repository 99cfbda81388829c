"""The camera without a calibration: as given, as EXIF says, as a phone's; and stretched maps."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import save_varied

from dptcli.cli import main
from dptcli.depth.camera import ASSUMED_FOCAL_35MM, Camera, exif_focal_35mm
from dptcli.errors import UsageError


def test_the_focal_length_is_the_given_one_then_exifs_then_a_phones(tmp_path):
    photo = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 50
    Image.new("RGB", (36, 24)).save(photo, exif=exif)
    assert exif_focal_35mm(photo) == 50
    assert Camera().focal_px((24, 36), photo) == (pytest.approx(50), "EXIF")
    assert Camera(focal_35mm=28).focal_px((240, 360), photo) == (pytest.approx(280), "--focal")
    wide = Camera(fov_deg=90).focal_px((24, 36), photo)
    assert wide == (pytest.approx(18), "--fov")
    focal_px, origin = Camera().focal_px((24, 36), None)
    assert (focal_px, origin[:7]) == (pytest.approx(ASSUMED_FOCAL_35MM), "assumed")
    # A portrait has the diagonal of a landscape, so it has its focal length too.
    assert Camera().focal_px((36, 24), None)[0] == focal_px


@pytest.mark.parametrize("size", ["48x48", "24x64", "96x64"])
@pytest.mark.parametrize("camera", [["--fov", "60"], ["--focal", "28"], []])
def test_a_stretched_map_shows_the_photographs_own_angles(size, camera, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = str(save_varied(tmp_path / "model"))
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 35
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)).save(
        "a.jpg", exif=exif
    )
    own, _ = Camera(
        fov_deg=60 if "--fov" in camera else None, focal_35mm=28 if "--focal" in camera else None
    ).focal_px((48, 64), Path("a.jpg"))
    words = ["depth", "a.jpg", "-m", model, "-f", "ply", "-o", "a.ply", "--target-size", size]
    assert main([*words, *camera, "-q"]) == 0
    _, body = Path("a.ply").read_bytes().split(b"end_header\n")
    points = np.frombuffer(body, [("xyz", "<f4", 3), ("rgb", "u1", 3)])["xyz"]
    height, width = map(int, size.split("x"))
    across, down = np.abs(points[:, :2] / points[:, 2:]).max(0)
    told = json.loads(Path("a.json").read_text())
    assert told["focal_px"] == pytest.approx(own * int(size.split("x")[1]) / 64, abs=1e-3)
    assert told["focal_from"] == told["camera"]["from"]
    # To the middle of the outermost pixels, so that half a pixel is missing on either side.
    assert across == pytest.approx((32 / own) * (width - 1) / width, rel=1e-4)
    assert down == pytest.approx((24 / own) * (height - 1) / height, rel=1e-4)


SENSOR = {0x920A: 50.0, 0xA20E: 72.9, 0xA20F: 72.9, 0xA210: 2}  # 22.3 mm are 64 pixels


@pytest.mark.parametrize(
    ("size", "tags", "focal_px"),
    [
        ((64, 48), SENSOR, 143.5),
        ((48, 64), SENSOR, 143.5),
        ((32, 24), SENSOR | {0xA002: 64, 0xA003: 48}, 71.75),  # a smaller copy
        ((24, 32), SENSOR | {0xA002: 64, 0xA003: 48}, 71.75),  # turned, too
        ((64, 48), SENSOR | {0xA20E: 28.7, 0xA210: 3}, 143.5),
        ((64, 48), SENSOR | {0xA20E: 2.87, 0xA210: 4}, 143.5),
        ((64, 48), SENSOR | {0xA405: 0}, 143.5),
    ],
    ids=["landscape", "portrait", "smaller", "smaller and turned", "by cm", "by mm", "35 mm is 0"],
)
def test_a_lens_and_the_pixels_of_its_sensor_give_the_focal_length(tmp_path, size, tags, focal_px):
    photo = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    Image.new("RGB", size).save(photo, exif=exif)
    width, height = size
    found, origin = Camera().focal_px((height, width), photo)
    assert (found, origin) == (pytest.approx(focal_px, rel=2e-3), "EXIF")
    assert Camera().focal_px((2 * height, 2 * width), photo)[0] == pytest.approx(2 * found)


@pytest.mark.parametrize(
    "tags",
    [{0x920A: 50.0}, SENSOR | {0xA20E: 0}, SENSOR | {0xA20E: 7000.0}, SENSOR | {0x920A: 0}],
    ids=["no sensor", "resolution 0", "a sensor of 0.2 mm", "no lens"],
)
def test_half_of_what_a_focal_length_needs_is_not_enough(tmp_path, tags):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=exif)
    assert exif_focal_35mm(tmp_path / "a.jpg") is None


@pytest.mark.parametrize("broken", [b"", b"no image", b"\xff\xd8\xff\xe1\x00\x08Exif"])
def test_a_photograph_without_a_usable_focal_length_is_no_error(tmp_path, broken):
    (tmp_path / "a.jpg").write_bytes(broken)
    assert exif_focal_35mm(tmp_path / "a.jpg") is None
    assert exif_focal_35mm(tmp_path / "nowhere.jpg") is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fov_deg": 0.0}, "--fov 0"),
        ({"fov_deg": 180.0}, "--fov 180"),
        ({"focal_35mm": -28.0}, "--focal -28"),
        ({"fov_deg": 60.0, "focal_35mm": 28.0}, "leave one out"),
        ({"fov_deg": math.nan}, "--fov nan"),
    ],
)
def test_impossible_cameras_are_refused(given, said):
    with pytest.raises(UsageError, match=said):
        Camera(**given)

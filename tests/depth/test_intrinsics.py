"""A calibrated camera from numbers, JSON and COLMAP, scaled to results, used in space."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from tiny import save_varied

from dptcli.cli import main
from dptcli.depth.camera import Camera, lens_of
from dptcli.depth.geometry import normals_of, points_from
from dptcli.depth.intrinsics import Intrinsics, parse_intrinsics
from dptcli.depth.lens import Lens
from dptcli.errors import ImageError, UsageError

HEADER = "# Camera list\n# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"


def numbers(found: Intrinsics) -> tuple[float, float, float, float]:
    return found.fx, found.fy, found.cx, found.cy


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1 PINHOLE 200 100 150 140 90 55", (150, 140, 90, 55)),
        ("7 SIMPLE_PINHOLE 200 100 150 90 55", (150, 150, 90, 55)),
        ("1 SIMPLE_RADIAL 200 100 150 90 55 0.1", (150, 150, 90, 55)),
        ("1 OPENCV 200 100 150 140 90 55 0.1 0 0 0.01", (150, 140, 90, 55)),
    ],
    ids=lambda value: value.split()[1] if isinstance(value, str) else "",
)
def test_colmap_cameras_are_read(tmp_path, caplog, line, expected):
    path = tmp_path / "cameras.txt"
    path.write_text(f"{HEADER}{line}\n")
    with caplog.at_level(logging.WARNING, "dptcli"):
        found = parse_intrinsics(str(path))
    assert numbers(found) == expected
    assert found.hw == (100, 200)
    distorted = "RADIAL" in line or "OPENCV" in line
    assert ("distortion is ignored" in caplog.text) == distorted


K = [[150, 0, 90], [0, 140, 55], [0, 0, 1]]


@pytest.mark.parametrize(
    "content",
    [
        {"fx": 150, "fy": 140, "cx": 90, "cy": 55, "width": 200, "height": 100},
        {"K": K, "width": 200, "height": 100},
        {
            "camera_matrix": {"rows": 3, "cols": 3, "data": [*K[0], *K[1], *K[2]]},
            "width": 200,
            "height": 100,
        },
        {"camera_matrix": K, "image_width": 200, "image_height": 100},
        {"intrinsic_matrix": [150, 0, 0, 0, 140, 0, 90, 55, 1], "width": 200, "height": 100},
        {"camera": {"fx": 150, "fy": 140, "cx": 90, "cy": 55, "width": 200, "height": 100}},
    ],
    ids=["numbers", "matrix", "ROS", "OpenCV", "Open3D", "sidecar"],
)
def test_json_of_several_writers_is_read(tmp_path, content):
    path = tmp_path / "camera.json"
    path.write_text(json.dumps(content))
    assert numbers(parse_intrinsics(str(path))) == (150, 140, 90, 55)
    assert parse_intrinsics(str(path)).hw == (100, 200)
    path.write_text(json.dumps(K))
    assert numbers(parse_intrinsics(str(path))) == (150, 140, 90, 55)


@pytest.mark.parametrize(
    "bent",
    [{"distortion_coefficients": {"rows": 1, "cols": 5, "data": [0, 0.1, 0, 0, 0]}}, {"k1": 0.1}],
    ids=["OpenCV", "numbers"],
)
def test_distortion_in_json_is_said_to_be_ignored(tmp_path, caplog, bent):
    path = tmp_path / "camera.json"
    for zero in (True, False):
        text = json.dumps({"K": K, **bent})
        path.write_text(text.replace("0.1", "0.0") if zero else text)
        parse_intrinsics(str(path))
        assert ("distortion is ignored" in caplog.text) == (not zero)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{HEADER}1 OPENCV_FISHEYE 9 9 5 5 4 4 0 0 0 0", "'OPENCV_FISHEYE' is none of"),
        (f"{HEADER}1 PINHOLE 9 9 5 5 4", "has 4 parameters, not 3"),
        (f"{HEADER}1 PINHOLE 9 9 5 5 4 4\n2 PINHOLE 9 9 5 5 4 4", "holds 2 cameras"),
        ("focal: 3", "holds 1 cameras|neither JSON nor"),
        ('{"focal": 3}', "names no fx, fy, cx, cy"),
        ('{"fx": 3', "is not JSON"),
        ('{"K": [[1, 0], [0, 1]]}', "names no fx, fy, cx, cy"),
    ],
)
def test_files_that_hold_no_camera_are_refused(tmp_path, content, said):
    path = tmp_path / "camera"
    path.write_text(content)
    with pytest.raises(UsageError, match=said):
        parse_intrinsics(str(path))


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,0", "-5,5,3,3", "nan,5,3,3", "gone.json"])
def test_words_that_are_no_camera_are_refused(text):
    with pytest.raises(UsageError, match="--intrinsics"):
        parse_intrinsics(text)


def test_a_camera_of_another_size_is_scaled_and_of_another_shape_refused():
    known = Intrinsics(150, 140, 90, 55, (100, 200))
    lens = known.lens((200, 400))
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == (300, 280, 180, 110)
    with pytest.raises(ImageError, match="another shape"):
        known.lens((200, 100))
    plain = Intrinsics(150, 140, 90, 55)
    assert plain.lens((300, 400)).cx == 90
    with pytest.raises(ImageError, match="lies outside the photograph of 80×40"):
        plain.lens((40, 80))


def test_a_camera_of_the_picture_as_it_is_stored_is_none_of_the_upright_one():
    camera = Intrinsics(3000, 3000, 2010, 1520)
    assert camera.lens((3024, 4032)).cx == 2010
    with pytest.raises(ImageError, match="the middle of a picture of 4032×3024, and upright"):
        camera.lens((4032, 3024))
    assert Intrinsics(3000, 3000, 1900, 1300).lens((4032, 3024)).cx == 1900, "a cut from a larger"
    assert Intrinsics(900, 900, 525, 500).lens((1050, 1000)).cx == 525, "nearly square"


def test_at_most_one_thing_is_said_of_the_camera():
    with pytest.raises(UsageError, match="--fov and --intrinsics both say"):
        Camera(fov_deg=60, intrinsics=Intrinsics(1, 1, 1, 1))
    given = Camera(intrinsics=Intrinsics(150, 140, 90, 55))
    assert given.is_given
    assert lens_of(given, (100, 200), None).origin == "--intrinsics"
    assumed = lens_of(None, (24, 36), None)
    assert (assumed.fx, assumed.fy, assumed.cx, assumed.cy) == pytest.approx((27, 27, 18, 12))
    assert assumed.is_assumed


def test_fields_of_view_are_those_of_an_axis_off_the_middle():
    lens = Lens(100, 50, 100, 25, (100, 200), "--intrinsics")
    assert lens.fov_deg == pytest.approx((90, np.degrees(np.arctan(0.5) + np.arctan(1.5))))
    assert Lens.middle(100, (100, 200), "").at((50, 50)).fov_deg[0] == pytest.approx(90)


def test_points_and_normals_take_the_principal_point():
    lens = Lens(80.0, 60.0, 30.0, 12.0, (40, 50), "")
    normal = np.array([0.3, 0.2, 0.9]) / np.linalg.norm([0.3, 0.2, 0.9])
    x = (np.arange(50) + 0.5 - lens.cx) / lens.fx
    y = (np.arange(40)[:, None] + 0.5 - lens.cy) / lens.fy
    # A plane 4 m away along its normal, in glTF's axes: rays are (x, -y, -1).
    distance = (-4 / (normal[0] * x - normal[1] * y - normal[2])).astype(np.float32)
    assert (distance > 0).all()
    pinhole = {"focal_px": lens.focal_px, "centre_px": (lens.cx, lens.cy)}
    points = points_from(distance, **pinhole)
    np.testing.assert_allclose(points @ normal, -4, rtol=1e-5)
    np.testing.assert_allclose(normals_of(distance, **pinhole)[5:-5, 5:-5] @ normal, 1, rtol=1e-5)
    assert np.abs(points_from(distance, focal_px=lens.focal_px) @ normal + 4).max() > 0.1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_varied(tmp_path_factory.mktemp("camera") / "model")


def test_a_cloud_is_seen_again_by_the_camera_that_is_given(model, tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "cameras.txt").write_text(f"{HEADER}1 PINHOLE 160 120 200 180 60 70\n")
    words = [tmp_path / "a.png", "-o", tmp_path / "out/", "-m", model, "-f", "ply,npz"]
    words += ["--target-size", "30x80", "--intrinsics", tmp_path / "cameras.txt"]
    assert main(["depth", *map(str, words)]) == 0
    facts = json.loads((tmp_path / "out" / "a.json").read_text())
    camera = facts["camera"]
    expected = {"fx": 100, "fy": 45, "cx": 30, "cy": 17.5, "width": 80, "height": 30}
    assert {key: camera[key] for key in expected} == expected
    assert camera["from"] == "--intrinsics"
    assert camera["fov_x_deg"] == pytest.approx(
        np.degrees(np.arctan(0.3) + np.arctan(0.5)), abs=1e-3
    )
    points = np.asarray(trimesh.load(tmp_path / "out" / "a.ply").vertices)
    assert len(points) == 30 * 80
    columns = 100 * points[:, 0] / -points[:, 2] + 30
    rows = 45 * -points[:, 1] / -points[:, 2] + 17.5
    np.testing.assert_allclose(columns.reshape(30, 80)[0], np.arange(80) + 0.5, atol=1e-3)
    np.testing.assert_allclose(rows.reshape(30, 80)[:, 0], np.arange(30) + 0.5, atol=1e-3)
    matrix = np.load(tmp_path / "out" / "a.npz")["intrinsics"]
    np.testing.assert_allclose(matrix, [[[100, 0, 30], [0, 45, 17.5], [0, 0, 1]]])


def test_the_content_of_the_cameras_file_decides_whether_work_is_done_again(model, tmp_path):
    Image.new("RGB", (80, 60), "gray").save(tmp_path / "a.png")
    words = [tmp_path / "a.png", "-o", tmp_path / "out/", "-m", model, "-f", "npz"]
    words += ["--intrinsics", tmp_path / "cameras.txt"]
    seen = []
    for focal in (90, 90, 120):
        (tmp_path / "cameras.txt").write_text(f"{HEADER}1 SIMPLE_PINHOLE 80 60 {focal} 40 30\n")
        assert main(["depth", *map(str, words)]) == 0
        found = tmp_path / "out" / "a.npz"
        seen.append((found.stat().st_mtime_ns, float(np.load(found)["intrinsics"][0, 0, 0])))
    assert seen[0] == seen[1]
    assert [focal for _, focal in seen] == [90, 90, 120]

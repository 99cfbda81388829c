"""Depth in every format, read back by other people's readers."""

import io
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from PIL import Image
from tiny import save_varied

from dptcli.cli import main
from dptcli.depth.camera import ASSUMED_FOCAL_35MM, Camera, exif_focal_35mm
from dptcli.depth.depthmap import DepthMap
from dptcli.depth.formats import FORMATS, parse_formats
from dptcli.depth.geometry import normals_of, points_from, stride_for, triangles_of
from dptcli.depth.lens import Lens
from dptcli.depth.rawfiles import RAW_WRITERS
from dptcli.depth.shapes import SHAPE_WRITERS, write_glb, write_ply
from dptcli.depth.stereo import LAYOUTS
from dptcli.errors import UsageError
from dptcli.evaluation.maps import read_map
from dptcli.results.restore import restore

RNG = np.random.default_rng(0)
INVERSE = RNG.uniform(-0.5, 40, (23, 37)).astype(np.float32)
METRES = RNG.uniform(0.4, 30, (23, 37)).astype(np.float32)


def depth_map(values=METRES, *, kind="depth_m", **changes):
    finite = values[np.isfinite(values)]
    limits = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    rgb = np.zeros((*values.shape, 3), np.uint8)
    rgb[..., 0] = np.arange(values.shape[1])
    return DepthMap(
        values,
        kind,
        limits,
        **{"rgb": rgb, "lens": Lens.middle(50.0, values.shape, "--fov"), **changes},
    )


def write(path, writer, depth, **options):
    with path.open("wb") as stream:
        return writer(stream, depth, **options)


@pytest.mark.parametrize(
    ("name", "ending"), [("tiff", ".tiff"), ("pfm", ".pfm"), ("png16", ".png")]
)
def test_opencv_reads_the_values_back(tmp_path, name, ending):
    path = tmp_path / f"a{ending}"
    facts = write(path, RAW_WRITERS[name], depth_map(INVERSE, kind="inverse_depth"))
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found.dtype == facts["dtype"]
    if name == "png16":
        assert (found.min(), found.max()) == (0, 65535)
        found = facts["first"] + (facts["last"] - facts["first"]) * (found / 65535)
        # Half a level, and the rounding of float32.
        assert np.abs(found - INVERSE).max() <= facts["max_error"] * 1.01 + 1e-5
    else:
        np.testing.assert_array_equal(found, INVERSE)


@pytest.mark.parametrize(("name", "scale", "far"), [("mm", 1000, 70.0), ("x256", 256, 300.0)])
def test_metres_as_integers_say_where_there_is_no_value(tmp_path, name, scale, far):
    values = METRES.copy()
    values[0, :5] = [np.nan, np.inf, -1.0, 0.0, far]
    facts = write(tmp_path / "a.png", RAW_WRITERS[name], depth_map(values))
    found = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16
    assert not found[0, :5].any()
    assert facts["num_without_value"] == 5
    assert facts["levels_per_metre"] == scale
    assert np.abs(found[1:] / scale - METRES[1:]).max() <= facts["max_error"] * 1.01


def test_pfm_has_the_header_that_midas_writes():
    stream = io.BytesIO()
    RAW_WRITERS["pfm"](stream, depth_map())
    header = b"Pf\n37 23\n-1.000000\n"
    assert stream.getvalue().startswith(header)
    lowest_row = np.frombuffer(stream.getvalue()[len(header) :][: 37 * 4], "<f4")
    np.testing.assert_array_equal(lowest_row, METRES[-1])


def test_npz_names_the_array_by_its_kind(tmp_path):
    depth = depth_map(INVERSE, kind="inverse_depth", lens=None)
    write(tmp_path / "a.npz", RAW_WRITERS["npz"], depth)
    with np.load(tmp_path / "a.npz") as loaded:
        assert loaded.files == ["inverse_depth"]
        np.testing.assert_array_equal(loaded["inverse_depth"], INVERSE)


@pytest.mark.parametrize(("kind", "channel"), [("depth_m", "Z"), ("inverse_depth", "Y")])
def test_openexr_reads_its_own_format(tmp_path, kind, channel):
    openexr = pytest.importorskip("OpenEXR", reason="the extra `exr` is not installed")
    depth = depth_map(METRES, kind=kind, facts={"model": "m"})
    write(tmp_path / "a.exr", RAW_WRITERS["exr"], depth)
    found = openexr.File(str(tmp_path / "a.exr"))
    np.testing.assert_array_equal(found.channels()[channel].pixels, METRES)
    assert json.loads(found.header()["comments"]) == {"model": "m"}


@pytest.mark.parametrize("values", [np.nan, np.inf, 0.0, -2.0, 1e30])
@pytest.mark.parametrize("kind", ["depth_m", "inverse_depth"])
@pytest.mark.parametrize("name", [*RAW_WRITERS, *SHAPE_WRITERS])
def test_a_flat_or_hopeless_map_is_written_in_every_format(name, kind, values):
    if name == "exr":
        pytest.importorskip("OpenEXR", reason="the extra `exr` is not installed")
    stream = io.BytesIO()
    flat = np.full((4, 5), values, np.float32)
    {**RAW_WRITERS, **SHAPE_WRITERS}[name](stream, depth_map(flat, kind=kind, confidence=flat))
    assert stream.tell() > 0


def test_a_point_cloud_has_each_pixels_place_and_colour(tmp_path):
    values = METRES.copy()
    values[3, 4] = np.nan
    facts = write(tmp_path / "a.ply", write_ply, depth_map(values))
    cloud = trimesh.load(tmp_path / "a.ply")
    assert len(cloud.vertices) == facts["num_points"] == METRES.size - 1
    # Pixel (row 0, column 0): half the image to the left of the axis and above it.
    z = METRES[0, 0]
    expected = [-18 * z / 50, 11 * z / 50, -z]
    np.testing.assert_allclose(cloud.vertices[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(cloud.colors[1, :3], [1, 0, 0])


def test_a_mesh_wears_the_photograph(tmp_path):
    rows = np.linspace(4, 2, 30, dtype=np.float32)[:, None].repeat(40, axis=1)
    facts = write(tmp_path / "a.glb", write_glb, depth_map(rows))
    mesh = trimesh.load(tmp_path / "a.glb").to_geometry()
    assert len(mesh.faces) == facts["num_triangles"] == 2 * 29 * 39
    assert mesh.visual.material.baseColorTexture.size == (40, 30)
    # It faces the camera, which looks along -z: with all areas, seen from the front.
    assert (mesh.face_normals[:, 2] > 0).all()
    np.testing.assert_allclose([-mesh.bounds[1][2], -mesh.bounds[0][2]], [2, 4], rtol=1e-6)


def test_a_mesh_is_cut_where_depth_jumps():
    step = np.full((6, 10), 2.0, np.float32)
    step[:, 5:] = 4.0
    points = points_from(step, focal_px=(50.0, 50.0))
    triangles = triangles_of(points, focal_px=(50.0, 50.0))
    depths = points.reshape(-1, 3)[triangles][..., 2]
    assert np.ptp(depths, axis=1).max() == 0
    assert len(triangles) == 2 * 5 * (4 + 4)


def test_a_slanted_floor_is_not_cut():
    focal_px, height = 500.0, 200
    below = np.arange(1, height + 1, dtype=np.float32)
    floor = (1.5 * focal_px / (below + 60))[:, None].repeat(5, axis=1)  # 1.5 m under the camera
    points = points_from(floor[::-1], focal_px=(focal_px, focal_px))
    assert len(triangles_of(points, focal_px=(focal_px, focal_px))) == 2 * (height - 1) * 4


@pytest.mark.parametrize("max_points", [1, 10, 100, 850, 10_000])
def test_clouds_and_meshes_stay_below_the_limit(max_points):
    stride = stride_for(METRES.shape, max_points)
    points = points_from(METRES, focal_px=(50.0, 50.0), stride=stride)
    assert points.shape[0] * points.shape[1] <= max_points
    stream = io.BytesIO()
    assert write_ply(stream, depth_map(), max_points=max_points)["num_points"] <= max_points
    write_glb(stream, depth_map(), max_points=max_points)


def test_normals_of_a_wall_and_of_a_floor_point_at_the_viewer_and_up():
    wall = np.full((8, 9), 3.0, np.float32)
    np.testing.assert_allclose(normals_of(wall, focal_px=(50, 50))[4, 4], [0, 0, 1], atol=1e-6)
    rows = np.arange(60, dtype=np.float32) + 20
    floor = (50 / rows)[:, None].repeat(9, axis=1)
    # The image's middle row is the horizon of points_from, so this floor lies on a slope.
    normal = normals_of(floor, focal_px=(50, 50))[30, 4]
    assert normal[1] > 0.3
    assert abs(normal[0]) < 1e-5
    np.testing.assert_allclose(np.linalg.norm(normal), 1, rtol=1e-5)


def tilted_plane(normal, hw=(40, 60), focal_px=50.0):
    """Distance float32 (H, W) of the plane normal · point = 1 (x right, y down, z forward)."""
    x = (np.arange(hw[1]) - (hw[1] - 1) / 2) / focal_px
    y = (np.arange(hw[0])[:, None] - (hw[0] - 1) / 2) / focal_px
    return (1 / (normal[0] * x + normal[1] * y + normal[2])).astype(np.float32)


@pytest.mark.parametrize("reach", [1, 6, 100])
def test_a_planes_normal_is_exact_up_to_the_border(reach):
    normal = np.array([0.2, -0.3, 0.9])
    found = normals_of(tilted_plane(normal), focal_px=(50, 50), reach=reach)
    towards = np.array([-0.2, -0.3, 0.9]) / np.linalg.norm(normal)
    np.testing.assert_allclose(found, np.broadcast_to(towards, found.shape), atol=1e-4)


def test_a_wider_reach_keeps_noise_out_of_the_normals():
    plane = tilted_plane([0.2, -0.3, 0.9])
    exact = normals_of(plane, focal_px=(50, 50))
    noisy = plane * (1 + 0.003 * np.random.default_rng(0).standard_normal(plane.shape))
    degrees = [
        np.degrees(
            np.arccos(
                np.clip((exact * normals_of(noisy, focal_px=(50, 50), reach=reach)).sum(-1), -1, 1)
            )
        ).mean()
        for reach in (1, 6)
    ]
    # Ends 6 times as far apart and the mean of 13: 6 √13 = 20 times less, fewer at the border.
    assert degrees[1] < degrees[0] / 10


@pytest.mark.parametrize("reach", [1, 6])
def test_only_unknown_depth_and_its_rim_have_no_normal(reach):
    plane = tilted_plane([0.2, -0.3, 0.9])
    plane[10:13, 20:23] = np.nan
    found = normals_of(plane, focal_px=(50, 50), reach=reach)
    assert not found[10:13, 20:23].any()
    found[9:14, 19:24] = 1  # a slope beside the hole may have lost one of its ends
    assert found.any(-1).all()
    np.testing.assert_allclose(found[8, 21], found[30, 50], atol=1e-4)


def test_normals_are_written_as_colours(tmp_path):
    values = np.full((8, 9), 3.0, np.float32)
    values[0, 0] = np.nan
    write(tmp_path / "n.png", SHAPE_WRITERS["normals"], depth_map(values))
    pixels = cv2.imread(str(tmp_path / "n.png"))[..., ::-1]
    np.testing.assert_array_equal(pixels[4, 4], [128, 128, 255])
    np.testing.assert_array_equal(pixels[0, 0], [0, 0, 0])


@pytest.mark.parametrize("kind", ["inverse_depth", "depth", "depth_m"])
@pytest.mark.parametrize("values", [METRES, np.full_like(METRES, 3)], ids=["map", "constant"])
def test_a_hole_in_16_bits_comes_back_as_a_hole(tmp_path, kind, values):
    values = values.copy()
    values[3:5, 4:9] = np.nan
    path = tmp_path / "a.png"
    facts = write(path, RAW_WRITERS["png16"], depth_map(values, kind=kind))
    back = restore(path)
    np.testing.assert_array_equal(np.isnan(back.values), np.isnan(values))
    known = ~np.isnan(values)
    np.testing.assert_allclose(
        back.values[known], values[known], atol=facts["max_error"] * 1.01 + 1e-6
    )
    np.testing.assert_array_equal(np.isnan(read_map(path).decoded()), ~known)


def test_depth_without_scale_becomes_a_shape_as_it_is():
    depth = np.array([[0.5, 5.0, 0.0]], np.float32)
    distance = depth_map(depth, kind="depth").distance()
    np.testing.assert_array_equal(distance[0], [0.5, 5, np.nan])


def test_relative_depth_becomes_a_shape_with_near_in_front():
    inverse = np.array([[0.0, 5.0, 10.0]], np.float32)
    distance = depth_map(inverse, kind="inverse_depth").distance()
    np.testing.assert_allclose(distance[0], [10, 1 / 0.55, 1], rtol=1e-5)


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


@pytest.mark.parametrize(
    ("text", "out", "expected"),
    [
        (None, "out/", ["color"]),
        (None, "a.png", ["color"]),
        (None, "a.JPEG", ["jpg"]),
        (None, "a.tif", ["tiff"]),
        (None, "a.npy", ["npy"]),
        (None, "-", ["color"]),
        ("png16, NPY,png16", "out/", ["png16", "npy"]),
        ("mesh,png", "out/", ["glb", "color"]),
    ],
)
def test_formats_are_read_from_the_list_or_the_ending(text, out, expected):
    assert [item.name for item in parse_formats(text, out=out)] == expected


@pytest.mark.parametrize("text", ["", ",", "heic", "color,nyp"])
def test_unknown_formats_are_refused_with_the_nearest(text):
    with pytest.raises(UsageError, match="format"):
        parse_formats(text, out="out")
    with pytest.raises(UsageError, match="did you mean 'normals'"):
        parse_formats("normls", out="out")


def test_a_format_whose_library_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"pip install 'dptcli\[exr\]'"):
        parse_formats("exr", out="out")


def test_every_format_has_a_suffix_of_its_own_and_a_writer():
    assert len({item.suffix for item in FORMATS.values()}) == len(FORMATS)
    for item in FORMATS.values():
        writers = {
            "map": RAW_WRITERS,
            "shape": SHAPE_WRITERS,
            "picture": FORMATS,
            "stereo": LAYOUTS,
        }
        assert item.name in writers[item.group]

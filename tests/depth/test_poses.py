"""--poses: cameras that are given, from files of COLMAP's or others, and depth in their unit."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from depth_anything_3_nested_folder import save_authors_nested
from depth_anything_3_views_folder import save_authors_views
from numpy.typing import NDArray
from PIL import Image
from three_views import NAMES, depth, save_photos

from dptcli.depth.camera import Camera, lens_of
from dptcli.depth.poses import poses_digest, read_poses
from dptcli.errors import ImageError, UsageError
from dptcli.inputs.find import ImageSource
from dptcli.inputs.search import LeftOut

SAME = contextlib.nullcontext()
QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # a turn about z
LENSES = ((200.0, 210.0, 88.0, 61.0), (190.0, 195.0, 90.0, 60.0))


def extrinsics(number: int, unit: float = 1.0) -> NDArray[np.float64]:
    """Where the cameras of the tests stand, in a world of that unit."""
    turn = QUARTER if number % 2 else np.eye(3)
    place = unit * np.array([10.0 + number, -2.0 + number**2, 4.0])
    return np.column_stack([turn, -turn @ place])


def write_colmap(folder: Path, *, unit: float = 1.0, names: tuple[str, ...] = NAMES) -> Path:
    """COLMAP's text for photographs of 180×120, without points."""
    folder.mkdir(parents=True, exist_ok=True)
    cameras = [
        f"{number} PINHOLE 180 120 {' '.join(map(str, lens))}"
        for number, lens in enumerate(LENSES, start=1)
    ]
    (folder / "cameras.txt").write_text("\n".join(["# cameras", *cameras]) + "\n")
    images = []
    for number, name in enumerate(names):
        quaternion = "0.70710678 0 0 0.70710678" if number % 2 else "1 0 0 0"
        shift = " ".join(f"{value:.9g}" for value in extrinsics(number, unit)[:, 3])
        images += [f"{number + 1} {quaternion} {shift} {1 + number % 2} {name}.png", ""]
    (folder / "images.txt").write_text("\n".join(images) + "\n")
    return folder


def source(name: str) -> ImageSource:
    return ImageSource(Path("photos") / name, Path(name))


def said(folder: Path, name: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [".", "images.txt"])
def test_a_photographs_camera_is_found_by_its_name_whatever_its_ending(
    tmp_path: Path, given: str
) -> None:
    poses = read_poses(str(write_colmap(tmp_path) / given))
    for number, name in enumerate(NAMES):
        pose = poses.of(source(f"{name}.jpg"))
        assert pose is poses.of(source(f"{name}.png"))
        np.testing.assert_allclose(pose.extrinsics, extrinsics(number), atol=1e-7)
        lens = pose.lens((240, 360))
        doubled = [2 * value for value in LENSES[number % 2]]
        assert [lens.fx, lens.fy, lens.cx, lens.cy] == pytest.approx(doubled)
        assert lens.origin == "--poses"


def test_a_photograph_of_another_shape_is_named_with_both_sizes(tmp_path: Path) -> None:
    pose = read_poses(str(write_colmap(tmp_path))).of(source("a.png"))
    with pytest.raises(ImageError, match=r"--poses has it with 180 × 120 pixels, and it has 120"):
        pose.lens((180, 120))


@pytest.mark.parametrize(
    ("orientation", "hw", "refused"),
    [(1, (120, 180), False), (3, (120, 180), True), (6, (180, 180), True), (6, (120, 180), False)],
    ids=["as stored", "half a turn", "square", "seen by its shape"],
)
def test_a_photograph_that_exif_turns_has_no_pose_of_colmaps(
    tmp_path: Path, orientation: int, hw: tuple[int, int], refused: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = hw[::-1] if orientation < 5 else hw
    Image.new("RGB", stored).save(tmp_path / "a.jpg", exif=exif)
    photo = ImageSource(tmp_path / "a.jpg", Path("a.jpg"))
    folder = write_colmap(tmp_path / "given")
    cameras = folder / "cameras.txt"
    cameras.write_text(cameras.read_text().replace("180 120", f"{hw[1]} {hw[0]}"))
    with pytest.raises(ImageError, match=r"orientation \d\), and --poses") if refused else SAME:
        lens_of(Camera(poses=read_poses(str(folder))), hw, photo)
    cameras.write_text(f"# written by dptcli 0.1.0\n{cameras.read_text()}")
    assert lens_of(Camera(poses=read_poses(str(folder))), hw, photo).hw == hw, "upright by dpt"


def write_transforms(path: Path, **changes: object) -> Path:
    """The same cameras as `write_colmap` has them, for photographs in images/, b in a folder."""
    frames: list[dict[str, Any]] = []
    for number, file in enumerate(("./images/a.png", "images/in/b.png", "images/c")):
        whole = np.vstack([extrinsics(number), [0, 0, 0, 1]])
        to_world = np.linalg.inv(whole) @ np.diag([1, -1, -1, 1])  # OpenGL's axes
        frames.append({"file_path": file, "transform_matrix": to_world.tolist()})
    frames[1] |= dict(zip(("fl_x", "fl_y", "cx", "cy"), LENSES[1], strict=True))
    said = {"w": 180, "h": 120, **dict(zip(("fl_x", "fl_y", "cx", "cy"), LENSES[0], strict=True))}
    path.write_text(json.dumps({**said, "frames": frames, **changes}))
    return path


@pytest.mark.parametrize("given", [".", "transforms.json"])
def test_transforms_of_instant_ngp_are_the_same_cameras(
    tmp_path: Path, given: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_transforms(tmp_path / "transforms.json", k1=0.01)
    poses = read_poses(str(tmp_path / given))
    assert "distortion is ignored" in caplog.text
    for number, name in enumerate(("a.jpg", "in/b.png", "c.png")):
        pose = poses.of(source(name))
        np.testing.assert_allclose(pose.extrinsics, extrinsics(number), atol=1e-9)
        lens = pose.lens((120, 180))
        assert (lens.fx, lens.fy, lens.cx, lens.cy) == LENSES[number % 2]
    before = poses_digest(str(tmp_path / given))
    write_transforms(tmp_path / "transforms.json")
    assert poses_digest(str(tmp_path / given)) != before


def test_an_angle_alone_is_the_lens_of_photographs_of_any_size(tmp_path: Path) -> None:
    path = write_transforms(tmp_path / "transforms.json")
    said = json.loads(path.read_text())
    frames = [{k: frame[k] for k in ("file_path", "transform_matrix")} for frame in said["frames"]]
    path.write_text(json.dumps({"camera_angle_x": np.pi / 2, "frames": frames}))
    lens = read_poses(str(path)).of(source("c.png")).lens((120, 200))
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == pytest.approx((100, 100, 100, 60))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera_model": "OPENCV_FISHEYE"}, "the camera is OPENCV_FISHEYE"),
        ({"w": None}, "a.png: no camera of fl_x, w and h, nor camera_angle_x"),
        ({"frames": [{"transform_matrix": []}]}, "has no frames with a file_path each"),
        ({"frames": [{"file_path": "a"}]}, "transform_matrix must be the 4×4"),
        ({"frames": []}, "holds no poses"),
    ],
    ids=["fisheye", "no size", "no file", "no place", "empty"],
)
def test_transforms_without_what_is_needed_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write_transforms(tmp_path / "transforms.json", **changes)
    with pytest.raises(UsageError, match=message):
        read_poses(str(path))


def sidecar(folder: Path, name: str, **changes: object) -> Path:
    camera = {"fx": 200, "fy": 210, "cx": 88, "cy": 61, "width": 180, "height": 120}
    camera |= {"extrinsics": extrinsics(NAMES.index(name[-1])).tolist(), **changes}
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"camera": {k: v for k, v in camera.items() if v is not None}}))
    return path


def test_results_of_a_run_are_cameras_and_other_files_beside_them_are_not(tmp_path: Path) -> None:
    sidecar(tmp_path, "room/a")
    sidecar(tmp_path, "room/b")
    (tmp_path / "other.json").write_text('{"camera": "Canon"}')
    alone = {"model": "da3", **json.loads(sidecar(tmp_path, "c").read_text())}
    (tmp_path / "c.json").write_text(json.dumps(alone))
    poses = read_poses(str(tmp_path))
    np.testing.assert_allclose(poses.of(source("room/b.tif")).extrinsics, extrinsics(1))
    assert set(poses.by_name) == {"room/a", "room/b"}, "c was seen alone, in a world of its own"


def test_a_pose_is_no_other_photographs_whose_name_begins_alike(tmp_path: Path) -> None:
    for number in "ab":
        sidecar(tmp_path / "run", f"shot.{number}")
    own = read_poses(str(tmp_path / "run"))
    assert own.of(source("shot.a.jpg")) is not own.of(source("shot.b.jpg"))
    twice = read_poses(str(write_colmap(tmp_path / "colmap", names=("x.y", "x.z"))))
    assert twice.of(source("x.y.jpg")) is not twice.of(source("x.z.jpg"))
    images = (tmp_path / "colmap" / "images.txt").read_text()
    (tmp_path / "colmap" / "images.txt").write_text(images.replace("x.y.png", "x.z.jpg"))
    two = read_poses(str(tmp_path / "colmap"))
    assert two.of(source("x.z.jpg")) is not two.of(source("x.z.png"))
    for poses, name in ((own, "shot.jpg"), (two, "x.z.webp")):
        with pytest.raises(UsageError, match=f"has no pose of {name}"):
            poses.of(source(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fx": None}, "its camera lacks fx"),
        ({"fy": 0}, "must be above 0"),
        ({"extrinsics": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}, r"of shape \(3, 3\) must be 3×4"),
        ({"extrinsics": [[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "must be a rotation"),
        ({"extrinsics": [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "must be a rotation"),
        ({"extrinsics": [[1, 0, 0, None], [0, 1, 0, 0], [0, 0, 1, 0]]}, "of finite numbers"),
    ],
    ids=["no fx", "flat", "3×3", "larger", "mirrored", "nothing"],
)
def test_a_camera_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = sidecar(tmp_path, "a", **change)
    with pytest.raises(UsageError, match=message) as raised:
        read_poses(str(tmp_path))
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("none", "does not exist; give a COLMAP model"), ("empty", "holds no poses")],
)
def test_a_folder_without_poses_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        read_poses(str(tmp_path / text))


def test_photographs_without_a_pose_are_named(tmp_path: Path) -> None:
    poses = read_poses(str(write_colmap(tmp_path)))
    chosen = [source("a.png"), source("b.png")]
    assert poses.choose(chosen, LeftOut()) == chosen
    others = [*chosen, *(source(f"{name}.png") for name in "uvwxyz")]
    with pytest.raises(UsageError, match=r"no pose of 'u.png', 'v.png', 'w.png' and 3 more"):
        poses.choose(others, LeftOut())
    with pytest.raises(UsageError, match="stand in one place"):
        poses.choose(chosen[:1], LeftOut())


def test_other_poses_are_other_work(tmp_path: Path) -> None:
    first = poses_digest(str(write_colmap(tmp_path)))
    assert poses_digest(str(tmp_path / "images.txt")) == first
    assert poses_digest(str(write_colmap(tmp_path, unit=2))) != first


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_authors_views(tmp_path_factory.mktemp("da3p"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"))


def test_depth_comes_in_the_unit_of_the_given_cameras_and_these_come_back(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    depths = []
    for unit in (1, 100):
        write_colmap(tmp_path / "given", unit=unit)
        words = ("-o", "out/", "-m", model, "--views", "--poses", "given", "-f", "npz")
        assert "3 done" in depth(photos, *words, cwd=tmp_path), "other poses, other results"
        with np.load(tmp_path / "out" / "b.npz") as arrays:
            depths.append(arrays["depth"][0])
            found = arrays["extrinsics"][0]
            np.testing.assert_allclose(found, extrinsics(1, unit), rtol=1e-5, atol=1e-6)
            assert arrays["intrinsics"][0, 0, 0] == pytest.approx(190)
    np.testing.assert_allclose(depths[1], 100 * depths[0], rtol=1e-3)
    facts = said(tmp_path / "out")
    assert (facts["kind"], facts["unit"]) == ("depth", "that of the given poses")
    assert facts["camera"]["from"] == "--poses"
    assert facts["scene"]["poses"] == "given"
    assert 0 < facts["scene"]["cameras_apart"] < 1
    written = read_poses(str(tmp_path / "out" / "colmap"))
    for number, name in enumerate(NAMES):
        pose = written.of(source(f"{name}.png"))
        np.testing.assert_allclose(pose.extrinsics, extrinsics(number, 100), rtol=1e-5, atol=1e-4)
        assert pose.lens((120, 180)).fx == pytest.approx(LENSES[number % 2][0])


def test_metres_of_a_network_give_way_to_the_unit_of_the_cameras(
    photos: Path, tmp_path: Path
) -> None:
    nested = save_authors_nested(tmp_path / "nested")
    words = (photos, "-m", nested, "--views", "-f", "npz")
    depth(*words, "-o", "own/", cwd=tmp_path)
    own = said(tmp_path / "own")
    assert (own["kind"], own["unit"]) == ("depth_m", "metre")
    assert 0 < own["sky"]["share"] < 0.5
    header, _, _ = (tmp_path / "own" / "scene.ply").read_bytes().partition(b"end_header")
    assert b"3 views, unit: metre" in header
    depth(*words, "-o", "posed/", "--poses", write_colmap(tmp_path / "given"), cwd=tmp_path)
    posed = said(tmp_path / "posed")
    assert (posed["kind"], posed["unit"]) == ("depth", "that of the given poses")
    assert "metres_by" not in posed
    said_so = ("--poses", "given", "--gives", "metres")
    depth(*words, "-o", "metres/", *said_so, cwd=tmp_path)
    metres = said(tmp_path / "metres")
    assert (metres["kind"], metres.get("metres_by")) == ("depth_m", None)
    for name in NAMES:  # in the cloud's unit, whatever focal length the network had found
        posed_depth, depth_m = (
            np.load(tmp_path / folder / f"{name}.npz")["depth"] for folder in ("posed", "metres")
        )
        np.testing.assert_allclose(depth_m, posed_depth, rtol=1e-5)
    message = depth(*words, "-o", "mm/", "--poses", "given", "--format", "mm", cwd=tmp_path, code=2)
    assert "stores metres" in message, "unless it is said with --gives metres that they are"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--poses", "given"), "add --views"),
        (("--views", "--poses", "two"), "--poses two has no pose of 'c.png'"),
        (("--views", "--poses", "nowhere"), "nowhere does not exist"),
        (("--views", "--poses", "given", "--gives", "inverse"), "does not go with --poses"),
        (("--views", "--poses", "given", "-m", "dpt-small"), "sees each photograph on its own"),
    ],
    ids=["alone", "no pose", "no folder", "inverse", "model"],
)
def test_what_poses_cannot_be_used_for_is_refused(
    model: Path, photos: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    write_colmap(tmp_path / "given")
    write_colmap(tmp_path / "two", names=NAMES[:2])
    named = () if "-m" in words else ("-m", str(model))
    assert message in depth(photos, "-o", "out/", *named, *words, cwd=tmp_path, code=2)
    assert not (tmp_path / "out").exists()

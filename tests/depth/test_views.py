"""Photographs of one scene: a cloud and COLMAP's files that agree with every result's camera."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from depth_anything_3_views_folder import save_authors_views
from numpy.typing import NDArray
from PIL import Image
from three_views import NAMES, depth, save_photos

from dptcli import load_model
from dptcli.cli.depth_views import check_sees_views
from dptcli.depth.colmap import colmap_files, quaternion_of
from dptcli.depth.colmap_files import read_images, read_points
from dptcli.depth.lens import Lens
from dptcli.depth.scene import View, cloud_of, write_cloud
from dptcli.depth.views import check_names
from dptcli.errors import TooLargeError, UsageError
from dptcli.inputs.find import ImageSource
from dptcli.results.files import write_text
from dptcli.results.plan import Job
from dptcli.running import room

# --- reading what was written, by the formats' own descriptions ----------------------------------


@dataclass(frozen=True)
class Colmap:
    """What COLMAP's text files say, by their identities."""

    cameras: Mapping[int, tuple[str, NDArray[np.float64]]]
    images: Mapping[int, tuple[NDArray[np.float64], NDArray[np.float64], int, str]]
    seen: Mapping[int, NDArray[np.float64]]
    points: NDArray[np.float64]


def lines_of(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def read_colmap(folder: Path) -> Colmap:
    cameras, images, seen = {}, {}, {}
    for line in lines_of(folder / "cameras.txt"):
        identity, model, *numbers = line.split(" ")
        cameras[int(identity)] = model, np.array(numbers, np.float64)
    lines = lines_of(folder / "images.txt")
    for first, second in zip(lines[::2], lines[1::2], strict=True):
        identity, *numbers, camera, name = first.split(" ", 9)
        values = np.array(numbers, np.float64)
        images[int(identity)] = values[:4], values[4:], int(camera), name
        seen[int(identity)] = np.array(second.split(), np.float64).reshape(-1, 3)
    points = np.array([line.split() for line in lines_of(folder / "points3D.txt")], np.float64)
    return Colmap(cameras, images, seen, points)


def turned(quaternion: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (N, 3) turned by (w, x, y, z), by Hamilton's product."""
    w, axis = quaternion[0], quaternion[1:]
    across = 2 * np.cross(axis, points)
    return points + w * across + np.cross(axis, across)


def read_ply(path: Path) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
    header, _, body = path.read_bytes().partition(b"end_header\n")
    number = "<f8" if b"property double x\n" in header else "<f4"
    vertices = np.frombuffer(body, dtype=[("xyz", number, 3), ("rgb", "u1", 3)])
    assert f"element vertex {len(vertices)}\n".encode() in header
    return vertices["xyz"], vertices["rgb"]


# --- a run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_authors_views(tmp_path_factory.mktemp("da3v"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def scene(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    words = (photos, "-o", "out/", "-m", model, "--views", "-f", "npz,ply,color")
    said = depth(*words, cwd=folder)
    assert "3 done" in said
    return folder / "out"


def test_colmaps_cameras_are_those_of_the_results(scene: Path) -> None:
    found = read_colmap(scene / "colmap")
    assert [name for *_, name in found.images.values()] == [f"{name}.png" for name in NAMES]
    for identity, (quaternion, shift, camera, _) in found.images.items():
        facts = json.loads((scene / f"{NAMES[identity - 1]}.json").read_text())
        with np.load(scene / f"{NAMES[identity - 1]}.npz") as arrays:
            matrix, pose = arrays["intrinsics"][0], arrays["extrinsics"][0]
        kind, (width, height, *lens) = found.cameras[camera]
        assert (kind, width, height) == ("PINHOLE", 180, 120)
        np.testing.assert_allclose(
            lens, [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]], rtol=1e-5
        )
        np.testing.assert_allclose(turned(quaternion, np.eye(3)), pose[:, :3].T, atol=1e-5)
        np.testing.assert_allclose(shift, pose[:, 3], atol=1e-5)
        np.testing.assert_allclose(facts["camera"]["extrinsics"], pose, atol=2e-6)
        assert facts["camera"]["from"] == "the network"
        assert facts["scene"] == {"num_views": 3}
    poses = [pose for _, pose, *_ in found.images.values()]
    assert np.ptp(poses, axis=0).max() > 1e-3, "each view has a place of its own"


def test_one_photograph_has_its_camera_and_how_sure_it_is(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    depth(photos / "b.png", "-o", "out/", "-m", model, "-f", "npz,confidence", cwd=tmp_path)
    facts = json.loads((tmp_path / "out" / "b.json").read_text())
    assert (facts["kind"], facts["polarity"]) == ("depth", "large is far")
    assert facts["confidence"]["by"] == facts["camera"]["from"] == "the network"
    loaded = load_model(model, device="cpu", dtype="float32")
    with Image.open(photos / "b.png") as photo:
        prepared = loaded.processor.with_size(84).prepare(np.asarray(photo))
    with torch.inference_mode():
        output = loaded.model(torch.from_numpy(prepared.pixel_values)[None])
    assert facts["camera"]["fx"] == pytest.approx(
        float(output.intrinsics[0, 0, 0]) * 180 / 84, 1e-4
    )
    assert facts["camera"]["fy"] == pytest.approx(
        float(output.intrinsics[0, 1, 1]) * 120 / 56, 1e-4
    )
    with np.load(tmp_path / "out" / "b.npz") as arrays:
        np.testing.assert_allclose(arrays["extrinsics"], output.extrinsics.numpy(), atol=1e-4)
        assert arrays["depth"].shape == arrays["conf"].shape == (1, 120, 180)
        assert 1 <= arrays["conf"].min() < arrays["conf"].max()


def test_every_point_is_seen_where_it_lies(scene: Path) -> None:
    found = read_colmap(scene / "colmap")
    assert len(found.points) == pytest.approx(0.6 * 3 * 84 * 56, rel=0.02)
    identities, xyz = found.points[:, 0], found.points[:, 1:4]
    assert (identities == np.arange(1, len(xyz) + 1)).all()
    views, numbers = found.points[:, 8].astype(int), found.points[:, 9].astype(int)
    for identity, (quaternion, shift, camera, _) in found.images.items():
        own = views == identity
        x, y, z = (turned(quaternion, xyz[own]) + shift).T
        _, (_, _, fx, fy, cx, cy) = found.cameras[camera]
        seen = found.seen[identity][numbers[own]]
        assert (seen[:, 2] == identities[own]).all()
        assert (z > 0).all()
        np.testing.assert_allclose(fx * x / z + cx, seen[:, 0], atol=0.05)
        np.testing.assert_allclose(fy * y / z + cy, seen[:, 1], atol=0.05)


def test_the_cloud_holds_the_same_points_in_the_photographs_colours(scene: Path) -> None:
    xyz, rgb = read_ply(scene / "scene.ply")
    found = read_colmap(scene / "colmap")
    np.testing.assert_allclose(xyz, found.points[:, 1:4], rtol=1e-4, atol=1e-5)
    assert (rgb == found.points[:, 4:7]).all()
    assert rgb.std() > 20


def test_the_same_command_finds_all_done_and_a_further_photograph_begins_anew(
    scene: Path, model: Path, photos: Path, tmp_path: Path
) -> None:
    words = ("-o", scene, "-m", model, "--views", "-f", "npz,ply,color")
    assert "0 done, 3 skipped" in depth(photos, *words, cwd=tmp_path)
    more = tmp_path / "more"
    more.mkdir()
    for path in photos.iterdir():
        (more / path.name).write_bytes(path.read_bytes())
    with Image.open(photos / "a.png") as first:
        first.rotate(180).save(more / "d.png")
    (more / "e.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    words = ("-o", out, "-m", model, "--views", "-f", "npz")
    assert "4 done, 1 failed" in depth(more, *words, cwd=tmp_path, code=1)
    before = read_colmap(out / "colmap")
    assert len(before.images) == 4
    (more / "e.png").unlink()
    (more / "d.png").unlink()
    assert "3 done" in depth(more, *words, "--overwrite", cwd=tmp_path)
    assert len(read_colmap(out / "colmap").images) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tile", "auto"), "--tile does not go with --views"),
        (("--skip-existing",), "what is done already stands"),
        (("--fov", "60"), "the network estimates each camera"),
        (("--range", "global"), "--range global does not go with --views"),
        (("-m", "dpt-small"), "sees each photograph on its own"),
    ],
    ids=["tile", "skip", "camera", "range", "model"],
)
def test_what_does_not_go_with_a_scene_is_refused(
    photos: Path, model: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    named = () if "-m" in words else ("-m", str(model))
    said = depth(photos, "-o", "out/", "--views", *named, *words, cwd=tmp_path, code=2)
    assert message in said
    assert not (tmp_path / "out").exists()


def test_a_scale_for_single_photographs_is_none_for_a_scene(model: Path) -> None:
    loaded = load_model(model, device="cpu", dtype="float32")
    check_sees_views(loaded)
    line = {"of": "depth", "scale": 2.0, "shift": 0.5}
    loaded.model.config = loaded.model.config.replace(calibration=line)
    with pytest.raises(UsageError, match="was calibrated for photographs on their own"):
        check_sees_views(loaded)


def test_views_of_two_shapes_are_named(model: Path, photos: Path, tmp_path: Path) -> None:
    for name, turn in (("a.png", False), ("b.png", True)):
        with Image.open(photos / name) as photo:
            (photo.transpose(Image.Transpose.ROTATE_90) if turn else photo).save(tmp_path / name)
    said = depth("a.png", "b.png", "-o", "out/", "-m", model, "--views", cwd=tmp_path, code=2)
    assert "sees a.png at 56×84 and b.png at 84×56" in said
    assert not list((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "ab\n", "a\u2028b"])
def test_a_name_that_would_break_a_line_of_colmaps_is_refused(name: str) -> None:
    path = Path(f"{name}.png")
    odd = Job(ImageSource(path, path), Path("out") / path)
    with pytest.raises(UsageError, match=r"--views: '.*' has a line break in its name.*rename it"):
        check_names([odd])


def test_names_that_are_no_utf8_come_back_from_colmaps_files(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff a.png")
    path = Path(name)
    check_names([Job(ImageSource(path, path), path)])
    line = f"1 1 0 0 0 0 0 0 1 {name}\n\n"
    write_text(tmp_path / "images.txt", line)
    assert [image.name for image in read_images(tmp_path / "images.txt")] == [name]


def test_another_programs_files_are_left_alone(model: Path, photos: Path, tmp_path: Path) -> None:
    others = tmp_path / "out" / "colmap" / "cameras.txt"
    others.parent.mkdir(parents=True)
    others.write_text("1 PINHOLE 10 10 5 5 5 5\n")
    words = (photos, "-o", "out/", "-m", model, "--views")
    assert "dpt has not written it" in depth(*words, cwd=tmp_path, code=2)
    assert others.read_text() == "1 PINHOLE 10 10 5 5 5 5\n"


# --- its parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [0, 4.5e6], ids=["here", "on a map"])
def test_points_of_a_wall_lie_on_it_whichever_camera_saw_them(
    tmp_path: Path, origin: float
) -> None:
    rng = np.random.default_rng(0)
    views = []
    for name in NAMES:
        # A camera 4 before the wall z = origin + 1 of the world, moved along it.
        place = np.array([*rng.uniform(-1, 1, 2), -3]) + origin
        pose = np.column_stack([np.eye(3), -place])
        depth = np.full((20, 30), 4, np.float32)
        rgb = rng.integers(0, 256, (20, 30, 3), np.uint8)
        lens = Lens.middle(100.0, (60, 90), "the network")
        views.append(View(name, lens, pose, depth, rng.random((20, 30), np.float32), rgb))
    cloud = cloud_of(views, max_points=10_000)
    np.testing.assert_allclose(cloud.xyz[:, 2] - origin, 1, atol=1e-6)
    with (tmp_path / "scene.ply").open("wb") as stream:
        write_cloud(stream, cloud, num_views=3, unit="metre")
    (tmp_path / "points3D.txt").write_text(colmap_files(views, cloud)["points3D.txt"])
    (tmp_path / "images.txt").write_text(colmap_files(views, cloud)["images.txt"])
    points = read_points(tmp_path / "points3D.txt").xyz
    for written in (read_ply(tmp_path / "scene.ply")[0], points):
        np.testing.assert_allclose(written - origin, cloud.xyz - origin, atol=2e-5)
    for view, row in zip(views, read_images(tmp_path / "images.txt"), strict=True):
        np.testing.assert_allclose(row.extrinsics, view.extrinsics, rtol=0, atol=1e-4)
    assert len(cloud.xyz) == pytest.approx(0.6 * 3 * 600, abs=3)
    width = 4 * 90 / 100  # of what each camera sees of the wall, less a pixel
    for number, view in enumerate(views):
        x = cloud.xyz[cloud.view == number][:, 0]
        middle = -view.extrinsics[0, 3]
        assert abs(x - middle).max() < width / 2
        assert np.ptp(x) == pytest.approx(width * 29 / 30, rel=0.02)
    few = cloud_of(views, max_points=100)
    assert len(few.xyz) == 100
    assert len(np.unique(few.view)) == 3


def test_a_quaternion_turns_as_its_matrix_does() -> None:
    rng = np.random.default_rng(1)
    for trace in (None, 0, 1, 2):  # also half turns, about each axis
        given = rng.normal(size=4)
        given /= np.linalg.norm(given)
        if trace is not None:
            given = np.eye(4)[trace + 1]
        turn = turned(given, np.eye(3)).T
        found = quaternion_of(turn)
        assert found[0] >= 0
        np.testing.assert_allclose(turned(found, np.eye(3)).T, turn, atol=1e-12)


def test_more_views_than_memory_holds_are_refused_with_how_many_fit(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(model, device="cpu", dtype="float32")
    each, maps = (count(loaded, (504, 378)) for count in (room.bytes_of_view, room.bytes_of_maps))
    assert each > 504 * 378 * 4 * 5, "the pixels and two maps at the very least"
    monkeypatch.setattr(room, "available_bytes", lambda: 7 * each + maps + 1)
    room.check_room(loaded, 7, (504, 378))
    with pytest.raises(TooLargeError, match=r"8 photographs at 504×378.* 7 fit; take fewer"):
        room.check_room(loaded, 8, (504, 378))

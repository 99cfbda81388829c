"""Rendering: what is kept, how it is stored, and a frame from Blender where it is installed."""

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dptcli.errors import UsageError
from dptcli.training.classes import RENDERED
from dptcli.training.data import read_examples
from dptcli.training.furniture import read_catalogues, select
from dptcli.training.render import (
    Frame,
    _render,
    _set_up,
    develop,
    flaw,
    main,
    read_journal,
    render_scenes,
    save_frame,
    write_pairs,
)

CATALOGUE = """id=test
license=CC0
id#1=test#chair
name#1=Chair
category#1=Living room
model#1=/test/chair/chair.obj
width#1=50
depth#1=60
height#1=90
id#2=test#oak
name#2=Oak tree
category#2=Exterior
model#2=/test/oak/oak.obj
width#2=400
depth#2=400
height#2=700
dropOnTopElevation#2=-1
id#4=test#lamp
name#4=Street lamp
category#4=Lights
model#4=/test/lamp/lamp.obj
width#4=40
depth#4=40
height#4=500
id#5=test#horse
name#5=Horse
category#5=Characters
model#5=/test/horse/horse.obj
width#5=60
depth#5=240
height#5=170
id#3=test#arrow
name#3=Arrow
category#3=Exterior
model#3=/test/fleche/fleche.obj
width#3=100
depth#3=200
height#3=1
"""


def frame(shape_hw: tuple[int, int] = (24, 32)) -> Frame:
    rng = np.random.default_rng(0)
    depth_m = np.linspace(1, 40, shape_hw[0])[:, None].repeat(shape_hw[1], axis=1)
    depth_m[:4] = 0
    labels = np.where(depth_m > 0, 1, 0).astype(np.uint8)
    rgb = rng.integers(0, 255, (*shape_hw, 3), np.uint8)
    return Frame(rgb, depth_m.astype(np.float32), labels)


def test_a_varied_frame_is_kept() -> None:
    assert flaw(frame()) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"depth_m": np.zeros((24, 32), np.float32)}, "sky"),
        ({"depth_m": np.full((24, 32), 0.05, np.float32)}, "lens"),
        ({"rgb": np.full((24, 32, 3), 90, np.uint8)}, "flat"),
        (
            {
                "depth_m": np.full((24, 32), 2.0, np.float32),
                "labels": np.ones((24, 32), np.uint8),
            },
            "plane",
        ),
    ],
    ids=["sky", "lens", "flat", "plane"],
)
def test_a_near_empty_frame_is_thrown_out(change: dict[str, np.ndarray], reason: str) -> None:
    good = frame()
    poor = Frame(**{"rgb": good.rgb, "depth_m": good.depth_m, "labels": good.labels, **change})
    assert reason in (flaw(poor) or "")


def test_stored_depth_is_exact_to_a_thousandth(tmp_path: Path) -> None:
    whole = frame()
    row = save_frame(tmp_path, "000000_0", whole)
    values = np.asarray(Image.open(tmp_path / row["target"])).astype(np.float64) / row["scale"]
    known = whole.depth_m > 0
    np.testing.assert_allclose(values[known], whole.depth_m[known], rtol=1e-3)
    assert (values[~known] == 0).all()


def test_a_line_cut_short_by_a_kill_is_rendered_again(tmp_path: Path) -> None:
    rows = [save_frame(tmp_path, "000000_0", frame())]
    whole = json.dumps({"scene": 0, "kind": "room", "rows": rows, "used": []})
    (tmp_path / "journal.jsonl").write_text(
        whole + "\n" + whole.replace('"scene": 0', '"scene": 1')[:40]
    )
    assert set(read_journal(tmp_path)) == {0}
    assert write_pairs(tmp_path) == 1
    example = read_examples(tmp_path, task="depth")[0][0]
    assert example.sky == RENDERED.index("sky")
    with (tmp_path / "labels.csv").open() as stream:
        assert next(csv.DictReader(stream))["target"] == "000000_0.labels.png"


def test_developing_keeps_order_and_range() -> None:
    ramp = np.linspace(0, 5, 64, dtype=np.float32)[:, None, None].repeat(8, 1).repeat(3, 2)
    for seed in range(8):
        out = develop(ramp, np.random.default_rng(seed)).astype(float).mean(axis=(1, 2))
        assert out[-8:].mean() > out[:8].mean()


def test_a_catalogue_gives_sizes_in_metres_and_classes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "test.sh3f", "w") as bundle:
        bundle.writestr("PluginFurnitureCatalog.properties", CATALOGUE)
        bundle.writestr("test/chair/chair.obj", "v 0 0 0\n")
    pieces = read_catalogues(tmp_path, tmp_path / "cache")
    assert [(piece.name, piece.label) for piece in pieces] == [
        ("Chair", "seat"),
        ("Oak tree", "vegetation"),
        ("Street lamp", "other structure"),  # no tree, whatever its letters
        ("Horse", "animal"),  # among the characters, but no person
    ]
    assert pieces[0].size_m == (0.5, 0.6, 0.9)
    assert pieces[1].top_m is None
    assert pieces[0].licence == "CC0"
    assert pieces[0].obj.is_file()
    assert select(pieces, height_m=(1, 9), labels=("vegetation",)) == [pieces[1]]
    assert select(pieces, labels=("furniture", "animal")) == [pieces[0], pieces[3]]


def test_a_folder_without_catalogues_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sweethome3d-furniture"):
        read_catalogues(tmp_path, tmp_path)


def _has_blender() -> bool:
    try:
        import bpy  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.mark.skipif(_has_blender(), reason="Blender is installed")
def test_without_blender_the_remedy_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "out"), "--scenes", "0:1"]) == 2
    assert "dptcli[render]" in capsys.readouterr().err


@pytest.mark.skipif(not _has_blender(), reason="needs Blender as a module (extra render)")
def test_a_rendered_wall_has_planar_depth_and_resumes(tmp_path: Path) -> None:
    scenes = range(2)
    count = render_scenes(
        tmp_path, scenes, seed=0, furniture=None, cache=tmp_path / "c", samples=1, only="wall"
    )
    assert count == len(read_examples(tmp_path, task="depth")[0]) > 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.jpg")}
    render_scenes(
        tmp_path, scenes, seed=0, furniture=None, cache=tmp_path / "c", samples=1, only="wall"
    )
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.jpg")}


@pytest.mark.skipif(not _has_blender(), reason="needs Blender as a module (extra render)")
@pytest.mark.parametrize("shows_sky", [True, False])
def test_a_panorama_behind_a_scene_is_not_called_sky(shows_sky: bool) -> None:
    from dptcli.training.stage import Stage

    stage = Stage((), ())
    stage.clear(np.random.default_rng(0))
    if shows_sky:
        stage.sky(overcast=True)
    else:
        stage.surroundings(strength=1.0, indoors=False)
    _set_up(threads=1, samples=1)
    stage.camera((0, 0, 1), yaw=0, pitch=0, roll=0, fov=1.0)
    seen = _render((28, 42), stage.rng, shows_sky=stage.shows_sky)
    assert (seen.depth_m == 0).all()
    assert (seen.labels == (RENDERED.index("sky") if shows_sky else 255)).all()

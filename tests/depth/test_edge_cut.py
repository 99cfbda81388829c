"""Where clouds and meshes are cut: read back with trimesh."""

import io

import numpy as np
import pytest
import trimesh

from dptcli.cli import main
from dptcli.depth.depthmap import DepthMap
from dptcli.depth.lens import Lens
from dptcli.depth.shapes import write_glb, write_ply

FOCAL = 100.0


def scene():
    """A wall at 2 m, a soft edge of three pixels, a wall at 8 m."""
    values = np.full((20, 40), 2.0, np.float32)
    values[:, 20:23] = [3.5, 5.0, 6.5]
    values[:, 23:] = 8.0
    return DepthMap(values, "depth_m", (2.0, 8.0), lens=Lens.middle(FOCAL, values.shape, "--fov"))


def read(writer, kind, **options):
    stream = io.BytesIO()
    facts = writer(stream, scene(), **options)
    return trimesh.load(io.BytesIO(stream.getvalue()), file_type=kind), facts


def test_a_cut_cloud_has_no_point_between_two_things():
    whole, facts = read(write_ply, "ply")
    assert len(whole.vertices) == 20 * 40
    assert "edge_cut_deg" not in facts
    cut, facts = read(write_ply, "ply", edge_cut_deg=75.0)
    assert set(-cut.vertices[:, 2]) == {2.0, 8.0}
    assert len(cut.vertices) == facts["num_points"] == 20 * 37
    assert facts["edge_cut_deg"] == 75.0


def test_a_cut_cloud_keeps_a_floor_that_is_seen_less_steeply():
    rows = 1.5 * FOCAL / (np.arange(60, 0, -1, dtype=np.float32) + 60)
    lens = Lens.middle(FOCAL, (60, 30), "--fov")
    floor = DepthMap(rows[:, None].repeat(30, 1), "depth_m", (1, 3), lens=lens)
    stream = io.BytesIO()
    assert write_ply(stream, floor, edge_cut_deg=75.0)["num_points"] == 60 * 30
    assert write_ply(stream, floor, edge_cut_deg=30.0)["num_points"] < 60 * 30 / 2


@pytest.mark.parametrize(
    ("degrees", "strips"),
    # Of 39 strips of squares four lie on the soft edge, at slopes from 87.7° to 89°.
    [(None, 35), (84.0, 35), (90.0, 39)],
)
def test_a_mesh_is_cut_at_the_angle_that_is_asked_for(degrees, strips):
    scene, facts = read(write_glb, "glb", edge_cut_deg=degrees)
    [mesh] = scene.geometry.values()
    assert len(mesh.faces) == facts["num_triangles"] == 2 * 19 * strips
    assert facts["edge_cut_deg"] == (degrees or 84.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-f glb --edge-cut 95", "must be from 1 to 90 degrees"),
        ("-f ply --edge-cut steep", "--edge-cut 'steep' must be a number"),
        ("-f npy --edge-cut 75", "add -f ply or -f glb"),
    ],
)
def test_an_angle_that_makes_no_sense_is_refused(words, said, tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"x")
    line = ["depth", str(tmp_path / "a.jpg"), "-o", str(tmp_path / "out"), *words.split()]
    assert main(line) == 2
    assert said in capsys.readouterr().err

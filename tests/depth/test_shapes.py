"""Point clouds, meshes and surface normals: where their points lie and which way they look."""

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
import trimesh
from depth_maps import METRES, depth_map, write

from dptcli.depth.depthmap import DepthMap
from dptcli.depth.geometry import normals_of, points_from, stride_for, triangles_of
from dptcli.depth.shapes import SHAPE_WRITERS, write_glb, write_ply
from dptcli.running.seen import Prediction


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


def test_depth_without_scale_becomes_a_shape_as_it_is():
    depth = np.array([[0.5, 5.0, 0.0]], np.float32)
    distance = depth_map(depth, kind="depth").distance()
    np.testing.assert_array_equal(distance[0], [0.5, 5, np.nan])


def test_relative_depth_becomes_a_shape_with_near_in_front():
    inverse = np.array([[0.0, 5.0, 10.0]], np.float32)
    distance = depth_map(inverse, kind="inverse_depth").distance()
    np.testing.assert_allclose(distance[0], [10, 1 / 0.55, 1], rtol=1e-5)


@pytest.mark.parametrize("own", [None, (0.0, 0.0), (0.5, 30.0)], ids=str)
def test_limits_of_a_frame_are_its_own_where_it_is_drawn_in_a_clips(own):
    drawn = (2.0, 10.0)
    values = np.zeros((1, 1), np.float32)
    predicted = Prediction(values, limits=drawn, own_limits=own)
    mapped = DepthMap(values, "depth_m", drawn, own_limits=own)
    assert predicted.frame_limits == mapped.frame_limits == (own or drawn)


def test_a_frame_of_a_clip_keeps_distances_beyond_the_clips_range():
    # The range that a clip is drawn in leaves out rare extremes, and this frame's own are no error.
    metres = np.array([[0.5, 5.0, 40.0]], np.float32)
    frame = replace(depth_map(metres), limits=(2.0, 10.0), own_limits=(0.5, 30.0))
    np.testing.assert_array_equal(frame.distance()[0], [0.5, 5, 30])
    drawn = replace(depth_map(metres, kind="inverse_depth"), limits=(2.0, 10.0), own_limits=(0, 40))
    np.testing.assert_allclose(drawn.distance()[0], [10, 1 / (3 / 8 * 0.9 + 0.1), 1], rtol=1e-5)

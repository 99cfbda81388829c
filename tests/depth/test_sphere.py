"""A panorama's points and mesh: read again by trimesh, closed behind the camera."""

import io

import around
import numpy as np
import pytest
import trimesh
from PIL import Image

from dptcli.depth.depthmap import DepthMap
from dptcli.depth.shapes import write_glb, write_ply
from dptcli.depth.sphere import refined
from dptcli.panorama.geometry import WHOLE, Extent
from dptcli.running.seen import Prediction

HW = (40, 80)


def panorama(hw=HW, extent=WHOLE):
    """A drawn room's exact distances, wearing its colours."""
    rays = extent.directions(hw).astype(np.float64)
    distance = around.distance_m(rays).astype(np.float32)
    limits = (float(distance.min()), float(distance.max()))
    return DepthMap(distance, "depth_m", limits, around.colour(rays), extent=extent)


def written(writer, depth, **options):
    stream = io.BytesIO()
    facts = writer(stream, depth, **options)
    stream.seek(0)
    return stream, facts


def mesh_of(depth, **options):
    stream, facts = written(write_glb, depth, **options)
    [mesh] = trimesh.load(stream, file_type="glb", process=False).geometry.values()
    assert facts["num_triangles"] == len(mesh.faces)
    return mesh


def test_points_lie_where_the_rays_meet_things():
    depth = panorama()
    stream, facts = written(write_ply, depth)
    cloud = trimesh.load(stream, file_type="ply")
    assert facts["num_points"] == len(cloud.vertices) == HW[0] * HW[1]
    away = np.linalg.norm(cloud.vertices, axis=1)
    directions = cloud.vertices / away[:, None]
    assert np.allclose(around.distance_m(directions), away, rtol=0.02, atol=0.02)
    # The middle of the panorama lies along -z, its right half at positive x.
    middle = np.asarray(cloud.vertices).reshape(*HW, 3)[HW[0] // 2, HW[1] // 2]
    assert middle[2] < 0
    assert np.abs(middle[:2]).max() < 0.3
    assert (np.asarray(cloud.vertices).reshape(*HW, 3)[:, HW[1] * 3 // 4, 0] > 0).all()
    assert np.array_equal(np.asarray(cloud.colors)[:, :3].reshape(*HW, 3), depth.rgb)


@pytest.mark.parametrize("max_points", [10_000, 700], ids=["each pixel", "every third"])
def test_an_uncut_mesh_is_closed_at_the_border_and_at_the_poles(max_points):
    mesh = mesh_of(panorama(), edge_cut_deg=90, max_points=max_points)
    mesh.merge_vertices(merge_tex=True)
    assert mesh.is_watertight
    # It is seen from within: its volume, counted from without, is negative.
    room = np.prod(np.subtract(*around.WALLS[::-1]))
    assert 0.5 * room < -mesh.volume < room


def test_no_triangle_spans_the_texture_where_the_borders_meet():
    mesh = mesh_of(panorama(), edge_cut_deg=90)
    across = np.asarray(mesh.visual.uv)[mesh.faces][..., 0]
    assert np.ptp(across, axis=1).max() < 1.5 / HW[1]


def test_a_mesh_is_cut_at_depth_edges_and_its_floating_points_are_left_out():
    depth = panorama((80, 160))
    whole, cut = mesh_of(depth, edge_cut_deg=90), mesh_of(depth, edge_cut_deg=80)
    assert len(cut.faces) < len(whole.faces)
    far = np.linalg.norm(cut.vertices, axis=1)[cut.faces]
    step = np.pi / 80 * np.tan(np.radians(80))
    assert (np.ptp(far, axis=1) <= far.min(1) * step * 1.001).all()
    _, facts = written(write_ply, depth, edge_cut_deg=80)
    assert facts["num_points"] < 80 * 160
    assert facts["edge_cut_deg"] == 80


def test_a_part_of_the_sphere_is_open():
    mesh = mesh_of(panorama((20, 30), Extent(left=0.2, top=0.4, width=1.5, height=1.0)))
    assert len(mesh.vertices) <= 20 * 30
    mesh.merge_vertices(merge_tex=True)
    assert not mesh.is_watertight


def test_unknown_depth_is_a_hole():
    depth = panorama()
    depth.values[5:8, 10:14] = np.nan
    assert np.isfinite(mesh_of(depth).vertices).all()
    assert written(write_ply, depth)[1]["num_points"] == HW[0] * HW[1] - 12


def test_edges_are_refined_without_a_seam():
    hw = (64, 128)
    rgb = around.colour(around.rays(hw))
    values = (1 / around.distance_m(around.rays(hw))).astype(np.float32)
    soft = np.asarray(
        Image.fromarray(np.tile(values, 3)).resize((96, 16)).resize((3 * 128, 64)), np.float32
    )[:, 128:256]

    def refine(turned):
        ends = (float(values.min()), float(values.max()))
        photo = np.roll(rgb, turned, 1)
        seen = Prediction(values, photo, network_hw=(64, 128), limits=ends, extent=WHOLE)
        found = refined(np.roll(soft, turned, 1), seen, kind="inverse_depth")
        return np.roll(found, -turned, 1)

    # What lies at the border is as well refined as it is in the middle.
    assert np.abs(refine(0) - refine(64)).max() < 0.02 * np.ptp(values)


def test_what_a_resize_overshot_has_no_say_in_refined_depth():
    # A thing at 1 m before a wall at 40: the ringing of its edge comes near the camera, and behind.
    coarse = np.full((24, 32), 40.0, np.float32)
    coarse[6:18, 10:22] = 1.0
    exact = coarse.repeat(6, 0).repeat(6, 1)
    rgb = np.where(exact > 2, np.uint8(40), np.uint8(200))[..., None].repeat(3, -1)
    soft = Image.fromarray(coarse).resize((192, 144), Image.Resampling.BICUBIC)
    values = np.asarray(soft, np.float32)
    assert values.min() < 0
    seen = Prediction(values, rgb, network_hw=(24, 32), limits=(1.0, 40.0))
    found = refined(values, seen, kind="depth_m")
    assert found.min() >= 1
    assert found.max() <= 40

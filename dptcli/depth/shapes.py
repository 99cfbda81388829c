"""Writers of depth as a shape: point cloud (PLY), textured mesh (GLB), normals (PNG)."""

import io
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli import __version__
from dptcli.depth.depthmap import DepthMap
from dptcli.depth.geometry import EDGE_CUT_DEG, normals_of, points_from, stride_for, triangles_of
from dptcli.depth.sphere import points_around, shell_of
from dptcli.depth.surface import Surface, places_of
from dptcli.results.writers import save_png

Facts = dict[str, Any]

DEFAULT_MAX_POINTS = 1_000_000
_MAX_TEXTURE_SIDE = 4096
_SLOPE_PIXELS = 6  # of the network's, to each side: what the normals' slopes are taken over

# glTF's numbers for types, targets and filters.
_FLOAT, _UINT32 = 5126, 5125
_VERTICES, _INDICES = 34962, 34963
_GLB_MAGIC, _JSON_CHUNK, _BIN_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942


def write_ply(
    stream: BinaryIO,
    depth: DepthMap,
    *,
    max_points: int = DEFAULT_MAX_POINTS,
    edge_cut_deg: float | None = None,
) -> Facts:
    """Write a binary PLY of points in the photograph's colours; unknown depth gives no point.

    edge_cut_deg: leave out the points that no triangle of a mesh cut there would keep, which float
    between two things; None keeps all.
    """
    stride = stride_for(depth.values.shape, max_points)
    points = _points(depth, stride).reshape(-1, 3)
    colors = _photo(depth, depth.values.shape)[::stride, ::stride].reshape(-1, 3)
    known = np.isfinite(points).all(-1)
    if edge_cut_deg is not None:
        known &= _surface(depth, stride, edge_cut_deg).joined(len(points))
    vertices = np.empty(int(known.sum()), dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3)])
    vertices["xyz"], vertices["rgb"] = points[known], colors[known]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment dptcli {__version__}; {_unit(depth)}; x right, y up, {_ahead(depth)}",
        f"element vertex {len(vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {channel}" for channel in ("red", "green", "blue")),
        "end_header",
    ]
    stream.write(("\n".join(header) + "\n").encode())
    stream.write(vertices.tobytes())
    cut = {} if edge_cut_deg is None else {"edge_cut_deg": edge_cut_deg}
    return {**_shape_facts(depth), "num_points": len(vertices), "every_nth_pixel": stride, **cut}


def write_glb(
    stream: BinaryIO,
    depth: DepthMap,
    *,
    max_points: int = DEFAULT_MAX_POINTS,
    edge_cut_deg: float | None = None,
) -> Facts:
    """Write a binary glTF mesh that wears the photograph; it is cut at depth jumps.

    edge_cut_deg: surfaces steeper than this are jumps; None is EDGE_CUT_DEG.
    """
    cut_deg = EDGE_CUT_DEG if edge_cut_deg is None else edge_cut_deg
    stride = stride_for(depth.values.shape, max_points)
    surface = _surface(depth, stride, cut_deg).used()
    num_vertices, num_triangles = len(surface.points), len(surface.triangles)
    texture = io.BytesIO()
    photo = Image.fromarray(_photo(depth, None))
    photo.thumbnail((_MAX_TEXTURE_SIDE, _MAX_TEXTURE_SIDE))
    photo.save(texture, "JPEG", quality=90)
    if not num_triangles:  # glTF has no empty buffer: one triangle without an area
        nothing = np.zeros((3, 3), np.float32)
        one = np.array([[0, 1, 2]], np.uint32)
        surface = Surface(nothing, nothing[:, :2], one, np.zeros(3, np.int64))
    stream.write(_glb(surface, texture.getvalue(), extras=_unit(depth)))
    return {
        **_shape_facts(depth),
        "num_vertices": num_vertices,
        "num_triangles": num_triangles,
        "every_nth_pixel": stride,
        "edge_cut_deg": cut_deg,
    }


def write_normals(stream: BinaryIO, depth: DepthMap) -> Facts:
    """Write surface normals as colours: red right, green up, blue towards the camera.

    A channel is (normal + 1) / 2 of 255; unknown depth is black. A network's own normals are
    written as it gives them.
    """
    if depth.normals is not None:
        rgb = np.round((depth.normals + 1) * 127.5).astype(np.uint8)
        own = {"kind": "normals", "by": "the network", "encoding": "(normal + 1) / 2 * 255, x y z"}
        save_png(stream, Image.fromarray(rgb), {**depth.facts, **own})
        return own
    # Finer than a few of its pixels the network's map is a weave that slopes would bring out.
    network_h = depth.facts.get("network_hw", depth.values.shape)[0]
    reach = max(1, round(_SLOPE_PIXELS * depth.values.shape[0] / network_h))
    normals = normals_of(depth.distance(), **depth.pinhole, reach=reach)
    known = normals.any(-1, keepdims=True)
    rgb = np.where(known, np.round((normals + 1) * 127.5), 0).astype(np.uint8)
    facts = {
        "kind": "normals",
        **_shape_facts(depth),
        "encoding": "(normal + 1) / 2 * 255; x right, y up, z near",
    }
    save_png(stream, Image.fromarray(rgb), {**depth.facts, **facts})
    return facts


SHAPE_WRITERS: Mapping[str, Callable[..., Facts]] = {
    "ply": write_ply,
    "glb": write_glb,
    "normals": write_normals,
}


def _photo(depth: DepthMap, hw: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Return the photograph at `hw`; mid grey where a caller has none."""
    if depth.rgb is None:
        return np.full((*(hw or depth.values.shape), 3), 128, np.uint8)
    if hw is None or depth.rgb.shape[:2] == hw:
        return depth.rgb
    return np.asarray(Image.fromarray(depth.rgb).resize(hw[::-1], Image.Resampling.BILINEAR))


def _points(depth: DepthMap, stride: int) -> NDArray[np.float32]:
    """A point for every `stride`-th pixel, float32 (h, w, 3)."""
    if depth.extent is not None:
        return points_around(depth.distance(), depth.extent, stride=stride)
    return points_from(depth.distance(), **depth.pinhole, stride=stride)


def _surface(depth: DepthMap, stride: int, cut_deg: float) -> Surface:
    """The points joined to triangles, which stop at depth jumps."""
    if depth.extent is not None:
        return shell_of(depth.distance(), depth.extent, stride=stride, edge_cut_deg=cut_deg)
    points, focal_px = _points(depth, stride), depth.pinhole["focal_px"]
    triangles = triangles_of(points, focal_px=focal_px, stride=stride, edge_cut_deg=cut_deg)
    pixel = np.arange(points.shape[0] * points.shape[1])
    place = places_of(pixel, depth.values.shape, stride=stride)
    return Surface(points.reshape(-1, 3), place, triangles, pixel)


def _ahead(depth: DepthMap) -> str:
    if depth.extent is None:
        return "camera looks along -z"
    return "longitude 0 (the middle of a whole panorama) along -z"


def _unit(depth: DepthMap) -> str:
    if depth.kind == "depth_m":
        return "metres"
    return f"arbitrary unit, shape {'only plausible' if depth.near_is_large else 'as predicted'}"


def _shape_facts(depth: DepthMap) -> Facts:
    return {"unit": _unit(depth)}


def _glb(surface: Surface, texture: bytes, *, extras: str) -> bytes:
    """Return a glTF 2.0 binary of one textured mesh. Source: the glTF 2.0 specification."""
    vertices, place, triangles = surface.points, surface.place, surface.triangles
    binary, views = _pack([vertices.tobytes(), place.tobytes(), triangles.tobytes(), texture])
    for view, target in zip(views, (_VERTICES, _VERTICES, _INDICES), strict=False):
        view["target"] = target
    box = {"min": vertices.min(0).tolist(), "max": vertices.max(0).tolist()}
    content = {
        "asset": {"version": "2.0", "generator": f"dptcli {__version__}", "extras": extras},
        # The photograph has its own light: unlit where a viewer knows it, else plain and matt.
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, "material": 0}
                ]
            }
        ],
        "accessors": [
            _accessor(0, _FLOAT, len(vertices), "VEC3", **box),
            _accessor(1, _FLOAT, len(place), "VEC2"),
            _accessor(2, _UINT32, triangles.size, "SCALAR"),
        ],
        "materials": [
            {
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": 0},
                    "metallicFactor": 0.0,
                    "roughnessFactor": 1.0,
                },
                "doubleSided": True,
                "extensions": {"KHR_materials_unlit": {}},
            }
        ],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 3, "mimeType": "image/jpeg"}],
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    length = 12 + 8 + len(text) + 8 + len(binary)
    return b"".join(
        [
            struct.pack("<III", _GLB_MAGIC, 2, length),
            struct.pack("<II", len(text), _JSON_CHUNK),
            text,
            struct.pack("<II", len(binary), _BIN_CHUNK),
            binary,
        ]
    )


def _pack(parts: Sequence[bytes]) -> tuple[bytes, list[dict[str, int]]]:
    """Join the parts, each at a multiple of four bytes, and say where each one lies."""
    joined = bytearray()
    views = []
    for part in parts:
        views.append({"buffer": 0, "byteOffset": len(joined), "byteLength": len(part)})
        joined += part + bytes(-len(part) % 4)
    return bytes(joined), views


def _accessor(
    view: int, component: int, count: int, kind: str, **more: object
) -> dict[str, object]:
    return {"bufferView": view, "componentType": component, "count": count, "type": kind, **more}

"""A model's file as one mesh in Blender: of its catalogue size, standing on its origin."""

from typing import Any

import bpy
import numpy as np

from dptcli.training.furniture import Piece


def import_obj(piece: Piece) -> Any:
    """The model as one mesh, standing on its origin in its catalogue size; None if it is empty."""
    before = set(bpy.data.objects)
    bpy.ops.wm.obj_import(
        filepath=str(piece.obj), forward_axis="NEGATIVE_Z", up_axis="Y", validate_meshes=True
    )
    items = [item for item in bpy.data.objects if item not in before]
    meshes = [item for item in items if item.type == "MESH" and len(item.data.polygons)]
    if not meshes:
        bpy.data.batch_remove(items)
        return None
    with bpy.context.temp_override(
        active_object=meshes[0], selected_objects=meshes, selected_editable_objects=meshes
    ):
        if len(meshes) > 1:
            bpy.ops.object.join()
    item = meshes[0]
    data = item.data
    _forget_absent_textures(data)
    data.transform(item.matrix_world)
    flat = np.empty(len(data.vertices) * 3)
    data.vertices.foreach_get("co", flat)
    points = flat.reshape(-1, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.maximum(high - low, 1e-6)
    ratio = np.asarray(piece.size_m) / extent
    if ratio.max() / max(ratio.min(), 1e-9) > 4:  # a flat or a turned model: keep its shape
        ratio = np.full(3, float(np.median(ratio)))
    base = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    data.vertices.foreach_set("co", ((points - base) * ratio).ravel())
    data.update()
    data.use_fake_user = True
    bpy.data.batch_remove([other for other in bpy.data.objects if other not in before])
    return data


def _forget_absent_textures(mesh: Any) -> None:
    """Blender paints a texture whose file is absent magenta; the plain colour is meant instead."""
    for material in mesh.materials:
        if material is None or material.node_tree is None:
            continue
        nodes = material.node_tree.nodes
        for node in [node for node in nodes if node.type == "TEX_IMAGE"]:
            if node.image is None or not min(node.image.size):
                nodes.remove(node)

"""One scene under construction in Blender: primitives, imported pieces, lights and the camera.

Lengths are metres, z is up, angles are radians. Every object carries its class id as its pass
index, so that one render gives colour, depth and labels.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Euler, Matrix, Vector

from dptcli.training import worlds
from dptcli.training.classes import RENDERED
from dptcli.training.furniture import Piece
from dptcli.training.imported import import_obj
from dptcli.training.materials import RandomState, anything, choose_panorama, random_rgb

Point = tuple[float, float, float]

REPAINTED = 0.45
"""The share of imported pieces that get other surfaces than their own."""


class Stage:
    """A scene being built: a random state, the pieces at hand and what has been placed.

    Imported meshes are kept between scenes; everything else is removed by `clear`.
    """

    def __init__(
        self, pieces: Sequence[Piece], images: Sequence[Path], panoramas: Sequence[Path] = ()
    ) -> None:
        self.pieces = pieces
        self.images = images
        self.panoramas = panoramas
        self.rng: RandomState = np.random.default_rng(0)
        self.used: set[str] = set()
        self.shows_sky = False  # behind everything, rather than a picture of anything
        self._templates: dict[str, Any] = {}
        self._footprints: list[tuple[float, float, float, float]] = []

    # -- life cycle ---------------------------------------------------------------------------

    def clear(self, rng: RandomState) -> None:
        """Remove every object, keep the imported meshes, and take a new random state."""
        self.rng = rng
        self.shows_sky = False
        self._footprints = []
        bpy.data.batch_remove([*bpy.data.objects, *bpy.data.lights, *bpy.data.cameras])
        bpy.data.batch_remove([mesh for mesh in bpy.data.meshes if not mesh.use_fake_user])
        bpy.data.batch_remove([item for item in bpy.data.materials if item.users == 0])

    def _add(self, mesh: Any, label: str, material: Any = None) -> Any:
        item = bpy.data.objects.new(label, mesh)
        item.pass_index = RENDERED.index(label) + 1
        bpy.context.scene.collection.objects.link(item)
        if material is not None:
            mesh.materials.append(material)
        return item

    # -- primitives ---------------------------------------------------------------------------

    def mesh(
        self,
        vertices: Sequence[Sequence[float]],
        faces: Sequence[Sequence[int]],
        label: str,
        material: Any,
        *,
        smooth: bool = False,
    ) -> Any:
        """A mesh from vertices and faces."""
        data = bpy.data.meshes.new(label)
        data.from_pydata([tuple(v) for v in vertices], [], [tuple(f) for f in faces])
        if smooth:
            data.polygons.foreach_set("use_smooth", [True] * len(data.polygons))
        return self._add(data, label, material)

    def plane(
        self,
        size: tuple[float, float],
        location: Point,
        rotation: Point,
        label: str,
        material: Any,
    ) -> Any:
        """A rectangle in its own x and y, centred on `location`."""
        w, h = size[0] / 2, size[1] / 2
        item = self.mesh(
            [(-w, -h, 0), (w, -h, 0), (w, h, 0), (-w, h, 0)], [(0, 1, 2, 3)], label, material
        )
        item.location, item.rotation_euler = location, rotation
        return item

    def wall(
        self, start: tuple[float, float], end: tuple[float, float], base: float, top: float,
        label: str, material: Any,
    ) -> Any:  # fmt: skip
        """An upright rectangle between two points of the ground plan."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        centre = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, (base + top) / 2)
        angle = math.atan2(dy, dx)
        return self.plane(
            (math.hypot(dx, dy), top - base), centre, (math.pi / 2, 0, angle), label, material
        )

    def box(
        self, size: Point, location: Point, label: str, material: Any, *, turn: float = 0.0
    ) -> Any:
        """A box standing with the middle of its base on `location`."""
        w, d, h = size[0] / 2, size[1] / 2, size[2]
        corners = [(x, y, z) for z in (0, h) for x, y in ((-w, -d), (w, -d), (w, d), (-w, d))]
        faces = [(3, 2, 1, 0), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]
        item = self.mesh(corners, faces, label, material)
        item.location, item.rotation_euler = location, (0, 0, turn)
        return item

    def lathe(
        self,
        profile: Sequence[tuple[float, float]],
        location: Point,
        label: str,
        material: Any,
        *,
        sides: int = 20,
    ) -> Any:
        """A turned body: (radius, height) pairs from the base upward; cylinders, bottles, balls."""
        vertices: list[Point] = []
        for radius, z in profile:
            for k in range(sides):
                angle = 2 * math.pi * k / sides
                vertices.append((radius * math.cos(angle), radius * math.sin(angle), z))
        faces: list[tuple[int, ...]] = []
        for ring in range(len(profile) - 1):
            for k in range(sides):
                a, b = ring * sides + k, ring * sides + (k + 1) % sides
                faces.append((a, b, b + sides, a + sides))
        faces.append(tuple(range((len(profile) - 1) * sides, len(profile) * sides)))
        faces.append(tuple(reversed(range(sides))))
        item = self.mesh(vertices, faces, label, material, smooth=len(profile) > 3)
        item.location = location
        return item

    # -- imported pieces ----------------------------------------------------------------------

    def piece(
        self,
        piece: Piece,
        location: Point,
        *,
        turn: float = 0.0,
        scale: float = 1.0,
        lie: bool = False,
    ) -> Any:
        """One imported model, standing on `location`; its front faces -y before `turn`."""
        mesh = self._template(piece)
        if mesh is None:
            return None
        item = self._add(mesh, piece.label)
        item.location = location
        item.rotation_euler = (math.pi / 2 if lie else 0, 0, turn)
        item.scale = (scale, scale, scale)
        self.used.add(piece.key)
        if self.rng.random() < REPAINTED:
            self._repaint(item)
        return item

    def _repaint(self, item: Any) -> None:
        """Other surfaces on this one object; its mesh, which others share, keeps its own."""
        for slot in item.material_slots:
            if self.rng.random() < 0.7:
                slot.link = "OBJECT"
                slot.material = anything(self.rng, self.images)

    def _template(self, piece: Piece) -> Any:
        if piece.key not in self._templates:
            self._templates[piece.key] = import_obj(piece)
        return self._templates[piece.key]

    def any_piece(self, choices: Sequence[Piece]) -> Piece | None:
        """One of the pieces at random; None when there are none."""
        return choices[int(self.rng.integers(len(choices)))] if choices else None

    def places(self) -> list[tuple[float, float]]:
        """The middles (x, y) of what stands on the ground plan."""
        return [((w + e) / 2, (s + n) / 2) for w, s, e, n in self._footprints]

    def claim(self, x: float, y: float, width: float, depth: float, *, gap: float = 0.02) -> bool:
        """Reserve a rectangle of the ground plan; False where something stands already."""
        w, d = width / 2 + gap, depth / 2 + gap
        mine = (x - w, y - d, x + w, y + d)
        for other in self._footprints:
            if (
                mine[0] < other[2]
                and other[0] < mine[2]
                and mine[1] < other[3]
                and other[1] < mine[3]
            ):
                return False
        self._footprints.append(mine)
        return True

    # -- light and sky ------------------------------------------------------------------------

    def lamp(self, kind: str, location: Point, power: float, *, size: float = 0.3) -> Any:
        """A POINT or AREA light (watts) or a SUN (W/m²)."""
        light = bpy.data.lights.new(kind, kind)
        light.energy = power
        light.color = random_rgb(self.rng, saturation=(0.0, 0.35), value=(1.0, 1.0))
        if kind == "AREA":
            light.size = size
        elif kind == "POINT":
            light.shadow_soft_size = size
        else:
            light.angle = size
        item = bpy.data.objects.new(kind, light)
        item.location = location
        bpy.context.scene.collection.objects.link(item)
        return item

    def sky(self, *, overcast: bool) -> None:
        """A sky with sun, or grey with clouds, as the world's light and background."""
        self.shows_sky = True
        rng = self.rng
        elevation = worlds.sky(rng, overcast=overcast)
        if not overcast or rng.random() < 0.2:
            sun = self.lamp("SUN", (0, 0, 50), float(rng.uniform(1.5, 5)), size=0.01)
            tilt = math.pi / 2 - elevation
            sun.rotation_euler = (tilt, 0, float(rng.uniform(0, 2 * math.pi)))

    def surroundings(self, *, strength: float, indoors: bool) -> None:
        """A photographed panorama, one of those given or of Blender's own, all around."""
        path = choose_panorama(self.rng, self.panoramas, indoors=indoors)
        worlds.panorama(self.rng, path, strength=strength)

    def ambient(self, strength: float) -> None:
        """An even grey world, for rooms."""
        worlds.even(self.rng, strength=strength)

    # -- camera -------------------------------------------------------------------------------

    def camera(self, location: Point, *, yaw: float, pitch: float, roll: float, fov: float) -> Any:
        """Place the camera: yaw from +y counter-clockwise, pitch upward, `fov` across the width."""
        scene = bpy.context.scene
        if scene.camera is None or scene.camera.name not in scene.objects:
            item = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
            scene.collection.objects.link(item)
            scene.camera = item
        item = scene.camera
        item.data.sensor_fit = "HORIZONTAL"
        item.data.angle = fov
        item.data.clip_start, item.data.clip_end = 0.02, 2000.0
        turn = Euler((math.pi / 2 + pitch, 0, yaw), "XYZ").to_matrix()
        item.matrix_world = (
            Matrix.Translation(location) @ (turn @ Matrix.Rotation(roll, 3, "Z")).to_4x4()
        )
        bpy.context.view_layer.update()
        return item

    def probe(self, *, columns: int = 12, rows: int = 9) -> tuple[Any, int]:
        """Depths (m, inf for sky) along a grid of the camera's rays; how many objects they hit."""
        scene = bpy.context.scene
        camera = scene.camera
        graph = bpy.context.evaluated_depsgraph_get()
        frame = [Vector(corner) for corner in camera.data.view_frame(scene=scene)]
        top_right, bottom_right, bottom_left, _ = frame
        origin = camera.matrix_world.translation
        turn = camera.matrix_world.to_3x3()
        depths = np.full((rows, columns), np.inf)
        seen = set()
        for row in range(rows):
            for column in range(columns):
                u, v = (column + 0.5) / columns, (row + 0.5) / rows
                local = bottom_left + (bottom_right - bottom_left) * u
                local = local + (top_right - bottom_right) * (1 - v)
                ray = turn @ local
                hit, where, _, _, item, _ = scene.ray_cast(graph, origin, ray.normalized())
                if hit:
                    depths[row, column] = -(camera.matrix_world.inverted() @ where).z
                    seen.add(item.name)
        return depths, len(seen)

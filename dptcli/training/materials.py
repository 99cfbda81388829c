"""Procedural surfaces for rendered scenes: noise, wood, brick, tiles, fabric, grass, façades.

Textures live in object coordinates, which the scenes keep in metres, so that a brick is as large
on a long wall as on a short one.
"""

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

Rgb = tuple[float, float, float]
RandomState = np.random.Generator
_ROOMS = (  # in the names of panoramas that were taken indoors
    "apartment", "hall", "interior", "lab", "lobby", "studio", "warehouse", "workshop",
)  # fmt: skip


def random_rgb(
    rng: RandomState,
    *,
    hue: float | None = None,
    saturation: tuple[float, float] = (0.0, 0.6),
    value: tuple[float, float] = (0.08, 0.8),
) -> Rgb:
    """A linear colour; warm hues are likelier, as they are indoors, unless `hue` is given."""
    if hue is None:
        hue = rng.normal(0.09, 0.07) if rng.random() < 0.55 else rng.random()
    else:
        hue = rng.normal(hue, 0.03)
    top = rng.uniform(*saturation) * rng.random() ** 0.5
    return colorsys.hsv_to_rgb(hue % 1.0, float(top), float(rng.uniform(*value)))


def _vary(rng: RandomState, rgb: Rgb, amount: float) -> tuple[float, float, float, float]:
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    varied = colorsys.hsv_to_rgb(
        (hue + rng.normal(0, 0.03 * amount)) % 1.0,
        float(np.clip(saturation + rng.normal(0, 0.15 * amount), 0, 1)),
        float(np.clip(value * np.exp(rng.normal(0, 0.6 * amount)), 0.01, 0.95)),
    )
    return (*varied, 1.0)


class _Tree:
    """A material under construction: its nodes, and links between them."""

    def __init__(self, name: str) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.nodes = self.material.node_tree.nodes
        self.links = self.material.node_tree.links
        self.shader = next(node for node in self.nodes if node.type == "BSDF_PRINCIPLED")

    def add(self, kind: str, **inputs: Any) -> Any:
        """A node of this kind with input values by name."""
        node = self.nodes.new(f"ShaderNode{kind}")
        for name, value in inputs.items():
            node.inputs[name.replace("_", " ")].default_value = value
        return node

    def coordinates(self, rng: RandomState, scale: float, *, along: float = 1.0) -> Any:
        """Object coordinates scaled by `scale`, by `along` of it in x or y; shifted at random."""
        source = self.add("TexCoord")
        scales = [scale, scale * along] if rng.random() < 0.5 else [scale * along, scale]
        mapping = self.add("Mapping", Scale=(*scales, scale))
        mapping.inputs["Location"].default_value = tuple(rng.uniform(-20, 20, 3))
        self.links.new(source.outputs["Object"], mapping.inputs["Vector"])
        return mapping.outputs["Vector"]

    def ramp(self, rng: RandomState, factor: Any, rgb: Rgb, *, stops: int, amount: float) -> Any:
        """A colour ramp of variations of `rgb` over `factor`."""
        node = self.nodes.new("ShaderNodeValToRGB")
        elements = node.color_ramp.elements
        positions = np.sort(rng.uniform(0.2, 0.8, stops))
        while len(elements) < stops:
            elements.new(0.5)
        for element, position in zip(elements, positions, strict=True):
            element.position = float(position)
            element.color = _vary(rng, rgb, amount)
        self.links.new(factor, node.inputs["Fac"])
        return node.outputs["Color"]

    def finish(
        self,
        colour: Any,
        *,
        height: Any = None,
        bump: float = 0.0,
        roughness: float = 0.7,
        metallic: float = 0.0,
    ) -> Any:
        """Link colour and bump to the shader; the finished material."""
        self.links.new(colour, self.shader.inputs["Base Color"])
        self.shader.inputs["Roughness"].default_value = roughness
        self.shader.inputs["Metallic"].default_value = metallic
        if height is not None and bump > 0:
            node = self.add("Bump", Strength=bump, Distance=0.02)
            self.links.new(height, node.inputs["Height"])
            self.links.new(node.outputs["Normal"], self.shader.inputs["Normal"])
        return self.material


def _noise(tree: _Tree, rng: RandomState, scale: float, detail: float = 6.0) -> Any:
    node = tree.add("TexNoise", Scale=1.0, Detail=detail, Distortion=float(rng.exponential(0.3)))
    tree.links.new(tree.coordinates(rng, scale), node.inputs["Vector"])
    return node.outputs["Fac"]


def plain(rng: RandomState, rgb: Rgb | None = None, *, rough: float | None = None) -> Any:
    """Nearly one colour, with faint large stains: paint, plastic, plaster."""
    tree = _Tree("plain")
    rgb = rgb or random_rgb(rng)
    factor = _noise(tree, rng, float(rng.uniform(0.3, 3)))
    colour = tree.ramp(rng, factor, rgb, stops=2, amount=0.12)
    fine = _noise(tree, rng, float(rng.uniform(30, 200)), 2.0)
    roughness = float(rng.uniform(0.3, 0.95)) if rough is None else rough
    return tree.finish(colour, height=fine, bump=float(rng.uniform(0, 0.25)), roughness=roughness)


def speckle(rng: RandomState, rgb: Rgb | None = None) -> Any:
    """Fine random grain: asphalt, gravel, carpet, stone."""
    tree = _Tree("speckle")
    fine = _noise(tree, rng, float(10 ** rng.uniform(0.8, 2.0)), 8.0)
    colour = tree.ramp(rng, fine, rgb or random_rgb(rng), stops=int(rng.integers(2, 5)), amount=0.6)
    coarse = _noise(tree, rng, float(rng.uniform(0.1, 1.5)))
    mix = tree.add("MixRGB", Fac=float(rng.uniform(0.1, 0.6)))
    mix.blend_type = "MULTIPLY"
    tree.links.new(colour, mix.inputs["Color1"])
    tree.links.new(coarse, mix.inputs["Color2"])
    return tree.finish(mix.outputs["Color"], height=fine, bump=float(rng.uniform(0.1, 0.8)))


def wood(rng: RandomState) -> Any:
    """Distorted bands: boards and furniture."""
    tree = _Tree("wood")
    wave = tree.add(
        "TexWave",
        Scale=float(rng.uniform(0.5, 3)),
        Distortion=float(rng.uniform(2, 12)),
        Detail=4.0,
    )
    wave.inputs["Detail Scale"].default_value = float(rng.uniform(0.5, 3))
    scale = float(np.exp(rng.uniform(0.3, 2.7)))
    grain = tree.coordinates(rng, scale, along=float(rng.uniform(0.05, 0.5)))
    tree.links.new(grain, wave.inputs["Vector"])
    rgb = random_rgb(rng, hue=0.075, saturation=(0.4, 0.9), value=(0.08, 0.6))
    colour = tree.ramp(
        rng, wave.outputs["Fac"], rgb, stops=3, amount=float(rng.uniform(0.05, 0.35))
    )
    return tree.finish(
        colour, height=wave.outputs["Fac"], bump=0.05, roughness=float(rng.uniform(0.2, 0.7))
    )


def brick(rng: RandomState, *, tile: bool = False) -> Any:
    """Bricks, planks or square tiles in rows of the surface's own x and y."""
    tree = _Tree("brick")
    rgb = random_rgb(rng, hue=None if tile else 0.04, saturation=(0.05, 0.7))
    node = tree.add("TexBrick", Scale=1.0)
    node.inputs["Color1"].default_value = _vary(rng, rgb, 0.5)
    node.inputs["Color2"].default_value = _vary(rng, rgb, 0.5)
    node.inputs["Mortar"].default_value = _vary(rng, random_rgb(rng, saturation=(0, 0.2)), 0.3)
    height = float(rng.uniform(0.1, 0.6) if tile else rng.uniform(0.06, 0.15))
    aspect = rng.choice([1.0, 1.0, 2.0, 6.0]) if tile else rng.uniform(2, 3.5)
    node.inputs["Row Height"].default_value = height
    node.inputs["Brick Width"].default_value = height * float(aspect)
    node.inputs["Mortar Size"].default_value = float(rng.uniform(0.002, 0.012))
    node.offset = 0.0 if tile and rng.random() < 0.6 else 0.5
    tree.links.new(tree.coordinates(rng, 1.0), node.inputs["Vector"])
    grain = _noise(tree, rng, float(rng.uniform(2, 30)))
    mix = tree.add("MixRGB", Fac=float(rng.uniform(0.1, 0.5)))
    mix.blend_type = "MULTIPLY"
    tree.links.new(node.outputs["Color"], mix.inputs["Color1"])
    tree.links.new(grain, mix.inputs["Color2"])
    rough = float(rng.uniform(0.15, 0.9))
    return tree.finish(mix.outputs["Color"], height=node.outputs["Fac"], bump=-0.3, roughness=rough)


def pattern(rng: RandomState) -> Any:
    """Printed cloth and wallpaper: checks, stripes, cells, swirls."""
    tree = _Tree("pattern")
    kind = rng.choice(["TexChecker", "TexWave", "TexVoronoi", "TexMagic"])
    node = tree.add(str(kind), Scale=float(rng.uniform(1, 5)))
    tree.links.new(tree.coordinates(rng, float(rng.uniform(1, 6))), node.inputs["Vector"])
    factor = node.outputs["Distance" if kind == "TexVoronoi" else "Fac"]
    colour = tree.ramp(
        rng,
        factor,
        random_rgb(rng, saturation=(0.1, 0.9)),
        stops=int(rng.integers(2, 5)),
        amount=float(rng.uniform(0.3, 1.2)),
    )
    return tree.finish(colour, roughness=0.85)


def foliage(rng: RandomState, *, hue: float = 0.24) -> Any:
    """Mottled greens at two scales, with bump: grass, moss, hedges."""
    tree = _Tree("foliage")
    rgb = random_rgb(rng, hue=hue, saturation=(0.4, 0.9), value=(0.06, 0.35))
    fine = _noise(tree, rng, float(rng.uniform(8, 60)), 10.0)
    colour = tree.ramp(rng, fine, rgb, stops=4, amount=0.7)
    coarse = _noise(tree, rng, float(rng.uniform(0.1, 1)))
    mix = tree.add("MixRGB", Fac=float(rng.uniform(0.2, 0.8)))
    mix.blend_type = "OVERLAY"
    tree.links.new(colour, mix.inputs["Color1"])
    tree.links.new(coarse, mix.inputs["Color2"])
    return tree.finish(mix.outputs["Color"], height=fine, bump=1.0, roughness=0.9)


def metal(rng: RandomState) -> Any:
    """Brushed or dull metal."""
    tree = _Tree("metal")
    factor = _noise(tree, rng, float(rng.uniform(1, 20)))
    rgb = random_rgb(rng, saturation=(0, 0.3), value=(0.2, 0.8))
    colour = tree.ramp(rng, factor, rgb, stops=2, amount=0.15)
    return tree.finish(colour, roughness=float(rng.uniform(0.15, 0.5)), metallic=0.9)


def facade(rng: RandomState, storey_m: float) -> Any:
    """A wall of windows in storeys, dark or reflecting panes in a plain or brick wall."""
    tree = _Tree("facade")
    panes = tree.add("TexBrick", Scale=1.0)
    panes.offset = 0.0
    width = float(rng.uniform(1.2, 3.5))
    panes.inputs["Row Height"].default_value = storey_m
    panes.inputs["Brick Width"].default_value = width
    panes.inputs["Mortar Size"].default_value = float(rng.uniform(0.3, 0.48) * min(width, storey_m))
    panes.inputs["Mortar Smooth"].default_value = 0.0
    tree.links.new(tree.coordinates(rng, 1.0), panes.inputs["Vector"])
    wall_rgb = random_rgb(rng, saturation=(0.0, 0.55), value=(0.15, 0.8))
    if rng.random() < 0.4:
        bricks = tree.add("TexBrick", Scale=1.0)
        bricks.inputs["Row Height"].default_value = float(rng.uniform(0.08, 0.3))
        bricks.inputs["Brick Width"].default_value = float(rng.uniform(0.25, 0.8))
        bricks.inputs["Mortar Size"].default_value = 0.01
        for name in ("Color1", "Color2", "Mortar"):
            bricks.inputs[name].default_value = _vary(rng, wall_rgb, 0.5)
        tree.links.new(tree.coordinates(rng, 1.0), bricks.inputs["Vector"])
        wall = bricks.outputs["Color"]
    else:
        wall = tree.ramp(
            rng, _noise(tree, rng, float(rng.uniform(0.2, 4))), wall_rgb, stops=3, amount=0.2
        )
    glass = tree.ramp(
        rng,
        _noise(tree, rng, float(rng.uniform(0.2, 1))),
        random_rgb(rng, hue=0.58, saturation=(0, 0.4), value=(0.02, 0.25)),
        stops=3,
        amount=0.8,
    )
    mix = tree.add("MixRGB")
    tree.links.new(panes.outputs["Fac"], mix.inputs["Fac"])
    tree.links.new(glass, mix.inputs["Color1"])
    tree.links.new(wall, mix.inputs["Color2"])
    rough = tree.add("MapRange")
    rough.inputs["To Min"].default_value = float(rng.uniform(0.05, 0.4))
    rough.inputs["To Max"].default_value = 0.85
    tree.links.new(panes.outputs["Fac"], rough.inputs["Value"])
    material = tree.finish(mix.outputs["Color"], height=panes.outputs["Fac"], bump=0.5)
    tree.links.new(rough.outputs["Result"], tree.shader.inputs["Roughness"])
    return material


def picture(rng: RandomState, images: Sequence[Path], *, width_m: float) -> Any:
    """An image tiled every `width_m` metres, in random tint: posters, screens, wallpaper, floors.

    Without images it is a pattern.
    """
    if not images:
        return pattern(rng)
    tree = _Tree("picture")
    node = tree.nodes.new("ShaderNodeTexImage")
    path = images[int(rng.integers(len(images)))]
    node.image = bpy.data.images.load(str(path), check_existing=True)
    node.extension = "MIRROR"
    tree.links.new(tree.coordinates(rng, 1.0 / width_m), node.inputs["Vector"])
    tint = tree.add("HueSaturation")
    tint.inputs["Hue"].default_value = float(
        0.5 + rng.normal(0, 0.06) if rng.random() < 0.7 else rng.random()
    )
    tint.inputs["Saturation"].default_value = float(rng.uniform(0.5, 1.2))
    tint.inputs["Value"].default_value = float(rng.uniform(0.6, 1.2))
    tree.links.new(node.outputs["Color"], tint.inputs["Color"])
    return tree.finish(tint.outputs["Color"], roughness=float(rng.uniform(0.2, 0.9)))


def glow(rng: RandomState, strength: float) -> Any:
    """A shining surface: lamps and bright windows."""
    tree = _Tree("glow")
    rgb = random_rgb(rng, saturation=(0, 0.3), value=(0.9, 1.0))
    tree.shader.inputs["Emission Color"].default_value = (*rgb, 1.0)
    tree.shader.inputs["Emission Strength"].default_value = strength
    return tree.material


def anything(rng: RandomState, images: Sequence[Path] = ()) -> Any:
    """One of the surfaces above, for clutter."""
    kind = rng.choice(
        ["plain", "speckle", "wood", "pattern", "metal", "tile", "picture"],
        p=[0.3, 0.1, 0.12, 0.09, 0.07, 0.06, 0.26],
    )
    if kind == "picture":
        return picture(rng, images, width_m=float(rng.uniform(0.2, 1.5)))
    if kind == "tile":
        return brick(rng, tile=True)
    makers = {
        "plain": plain,
        "speckle": speckle,
        "wood": wood,
        "pattern": pattern,
        "metal": metal,
    }
    return makers[str(kind)](rng)


def choose_panorama(rng: RandomState, own: Sequence[Path], *, indoors: bool) -> Path:
    """One of the given panoramas or of Blender's own (CC0).

    Through a window everything may be seen, outdoors nothing whose name tells of a room.
    """
    folder = bpy.utils.system_resource("DATAFILES", path="studiolights/world")
    choices = [
        path
        for path in (*sorted(Path(folder).glob("*.exr")), *own)
        if indoors or not any(word in path.stem for word in _ROOMS)
    ]
    return choices[int(rng.integers(len(choices)))]

"""What lies around a scene in Blender, its light and its background: a sky, a panorama, grey."""

import math
from pathlib import Path
from typing import Any

import bpy

from dptcli.training.materials import RandomState, random_rgb


def sky(rng: RandomState, *, overcast: bool) -> float:
    """A sky, or grey with clouds, without its sun; how high that stands, in radians."""
    nodes, links, background = _empty()
    gradient = nodes.new("ShaderNodeTexSky")
    gradient.sky_type = "NISHITA"
    gradient.sun_disc = False
    gradient.sun_elevation = math.radians(float(rng.uniform(4, 75)))
    gradient.sun_rotation = float(rng.uniform(0, 2 * math.pi))
    gradient.dust_density = float(rng.uniform(0.3, 4))
    noise = nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = float(rng.uniform(1, 5))
    noise.inputs["Detail"].default_value = 8.0
    noise.inputs["Distortion"].default_value = float(rng.uniform(0, 1.5))
    ramp = nodes.new("ShaderNodeValToRGB")
    low = float(rng.uniform(0.1, 0.35) if overcast else rng.uniform(0.4, 0.62))
    ramp.color_ramp.elements[0].position = low
    ramp.color_ramp.elements[1].position = min(low + float(rng.uniform(0.1, 0.4)), 1.0)
    mix = nodes.new("ShaderNodeMixRGB")
    level = float(rng.uniform(0.3, 1.2))
    mix.inputs["Color2"].default_value = (level, level, level * 1.05, 1.0)
    shift = nodes.new("ShaderNodeMapping")
    shift.inputs["Location"].default_value = tuple(rng.uniform(-9, 9, 3))
    shift.inputs["Scale"].default_value = (1.0, 1.0, float(rng.uniform(1.5, 4)))
    coordinates = nodes.new("ShaderNodeTexCoord")
    links.new(coordinates.outputs["Generated"], shift.inputs["Vector"])
    links.new(shift.outputs["Vector"], noise.inputs["Vector"])
    links.new(noise.outputs["Fac"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], mix.inputs["Fac"])
    scale = nodes.new("ShaderNodeVectorMath")
    scale.operation = "SCALE"
    scale.inputs["Scale"].default_value = 0.2
    links.new(gradient.outputs["Color"], scale.inputs[0])
    links.new(scale.outputs[0], mix.inputs["Color1"])
    links.new(mix.outputs["Color"], background.inputs["Color"])
    return float(gradient.sun_elevation)


def panorama(rng: RandomState, path: Path, *, strength: float) -> None:
    """A photographed panorama, turned at random."""
    nodes, links, background = _empty()
    picture = nodes.new("ShaderNodeTexEnvironment")
    picture.image = bpy.data.images.load(str(path), check_existing=True)
    turn = nodes.new("ShaderNodeMapping")
    turn.inputs["Rotation"].default_value = (0, 0, float(rng.uniform(0, 2 * math.pi)))
    coordinates = nodes.new("ShaderNodeTexCoord")
    links.new(coordinates.outputs["Generated"], turn.inputs["Vector"])
    links.new(turn.outputs["Vector"], picture.inputs["Vector"])
    links.new(picture.outputs["Color"], background.inputs["Color"])
    background.inputs["Strength"].default_value = strength


def even(rng: RandomState, *, strength: float) -> None:
    """An even grey."""
    world = bpy.context.scene.world or bpy.data.worlds.new("world")
    bpy.context.scene.world = world
    world.use_nodes = True
    nodes = world.node_tree.nodes
    nodes.clear()
    output, background = nodes.new("ShaderNodeOutputWorld"), nodes.new("ShaderNodeBackground")
    world.node_tree.links.new(background.outputs[0], output.inputs[0])
    background.inputs["Color"].default_value = (
        *random_rgb(rng, saturation=(0, 0.4), value=(0.9, 1.0)), 1.0,
    )  # fmt: skip
    background.inputs["Strength"].default_value = strength


def _empty() -> tuple[Any, Any, Any]:
    """The nodes and links of a world that shows nothing yet, and its background's node."""
    world = bpy.context.scene.world or bpy.data.worlds.new("world")
    bpy.context.scene.world = world
    world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    nodes.clear()
    output, background = nodes.new("ShaderNodeOutputWorld"), nodes.new("ShaderNodeBackground")
    links.new(background.outputs[0], output.inputs[0])
    # The full map of where the sky is bright takes longer to compute than a frame.
    world.cycles.sampling_method, world.cycles.sample_map_resolution = "MANUAL", 64
    return nodes, links, background

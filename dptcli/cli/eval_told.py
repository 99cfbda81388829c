"""What `dpt eval depth` tells a model beside a photograph: a sensor's map, the camera.

Loads nothing heavy.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dptcli.errors import UsageError

if TYPE_CHECKING:
    from dptcli.depth.camera import Camera
    from dptcli.depth.prompts import Prompts
    from dptcli.evaluation.pairs import Pair, PairSet
    from dptcli.inputs.find import ImageSource


def read_known_camera(given: Mapping[str, Any]) -> "Camera | None":
    """Return the camera of all the photographs, where an option says it. Raises UsageError."""
    named = [name for name in ("fov", "focal", "intrinsics") if given.get(name) is not None]
    if not named:
        return None
    if given["predictions"] is not None:
        raise UsageError(f"--{named[0]} is what a model is told; leave it or --predictions out")

    from dptcli.cli.depth_outputs import read_camera

    return read_camera(given)


def read_known_prompts(given: Mapping[str, Any]) -> "Prompts | None":
    """Return where the sensor's maps lie, if any. Raises UsageError."""
    if given["prompt"] is None:
        return None
    if given["predictions"] is not None:
        raise UsageError("--prompt is read by a model; leave it or --predictions out")

    from dptcli.cli.depth_outputs import levels_per_metre
    from dptcli.depth.prompts import Prompts

    return Prompts(given["prompt"], levels_per_metre=levels_per_metre(given))


def prompt_sources(prompts: "Prompts", sets: "Sequence[PairSet]") -> "Mapping[Pair, ImageSource]":
    """Under which name each photograph has its map. Raises UsageError where none has one."""
    from dptcli.evaluation.predictions import places_of
    from dptcli.inputs.find import ImageSource

    found = {}
    for pairs in sets:
        for pair in pairs.pairs:
            places = places_of(pair, set_name=pairs.name, alone=len(sets) == 1)
            named = [ImageSource(pair.image, Path(place)) for place in places]
            found[pair] = prompts.first_of(named)
    prompts.check_for(list(found.values()))
    return found

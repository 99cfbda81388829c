"""--prompt: the map that a depth sensor made of each photograph, found, read and completed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.anchors import same_shape
from dptcli.depth.complete import complete, is_measured
from dptcli.depth.measured import read_metres
from dptcli.errors import ImageError, UsageError
from dptcli.evaluation.maps import MAP_SUFFIXES
from dptcli.inputs.content import content_hash
from dptcli.inputs.decode import printable
from dptcli.inputs.find import ImageSource
from dptcli.remote import is_address

PLACE = "{name}"


@dataclass(frozen=True, eq=False)
class Prompt:
    """A sensor's map of one whole upright photograph.

    depth_m: metres (h, w), float32, without gaps. own_hw: the size that it came in. facts: what
    results say about it.
    """

    depth_m: NDArray[np.float32]
    own_hw: tuple[int, int]
    facts: Mapping[str, Any]

    def check_shape(self, source_hw: tuple[int, int]) -> None:
        """Raise ImageError where it cannot show a whole photograph of this size."""
        if not same_shape(self.own_hw, source_hw):
            raise ImageError(
                f"prompt {printable(str(self.facts['prompt']))} has {self.own_hw[1]} × "
                f"{self.own_hw[0]} pixels and the photograph {source_hw[1]} × {source_hw[0]} "
                "(width × height), which is another shape; give a map of the whole upright "
                "photograph"
            )


@dataclass(frozen=True)
class Prompts:
    """Where the sensor's maps lie.

    where: one file for the one photograph; a folder that mirrors the photographs' tree
    (a/b.jpg: FOLDER/a/b.png, or another of MAP_SUFFIXES); or a path in which {name} stands for the
    photograph's path below the inputs' folder, without its suffix. levels_per_metre: of integers
    whose file does not say it; floats are metres. 0 and non-finite values: not measured.
    """

    where: str
    levels_per_metre: float = 1000.0

    def __post_init__(self) -> None:
        """Raise UsageError for a place that can hold no map."""
        if is_address(self.where):
            raise UsageError("--prompt takes files of this machine; download the maps first")
        if PLACE not in self.where and not Path(self.where).exists():
            raise UsageError(
                f"--prompt {printable(self.where)!r} does not exist; give a file, a folder, or a "
                f"path with {PLACE}, e.g. 'lidar/{PLACE}.png'"
            )

    @property
    def is_one_file(self) -> bool:
        """Whether it is the map of one photograph alone."""
        return PLACE not in self.where and not Path(self.where).is_dir()

    def check_for(self, sources: Sequence[ImageSource]) -> None:
        """Raise UsageError where this cannot be meant for these photographs."""
        if self.is_one_file and len(sources) > 1:
            raise UsageError(
                f"--prompt {printable(self.where)!r} is one map and there are {len(sources)} "
                f"photographs; give a folder, or a path with {PLACE}, e.g. 'lidar/{PLACE}.png'"
            )
        first: ImageError | None = None
        for source in sources:
            try:
                self.file_of(source)
            except ImageError as error:
                first = first or error
            else:
                return
        raise UsageError(f"--prompt: no photograph has a map; {first}")

    def file_of(self, source: ImageSource) -> Path:
        """The file with a photograph's map. Raises ImageError where there is none."""
        if self.is_one_file:
            return Path(self.where)
        key = source.relative.with_suffix("")
        if PLACE in self.where:
            candidates = [Path(self.where.replace(PLACE, key.as_posix()))]
        else:
            beside = Path(self.where) / key
            candidates = [beside.with_name(beside.name + suffix) for suffix in MAP_SUFFIXES]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        others = f" (nor with {', '.join(MAP_SUFFIXES[:-1])})" if len(candidates) > 1 else ""
        raise ImageError(
            f"{source.name} has no prompt: {printable(candidates[-1])} does not exist{others}"
        )

    def first_of(self, sources: Sequence[ImageSource]) -> ImageSource:
        """Of the names that one photograph may have, the first with a map; else the first one."""
        for source in sources:
            try:
                self.file_of(source)
            except ImageError:
                continue
            return source
        return sources[0]

    def read(self, source: ImageSource) -> Prompt:
        """Read and complete a photograph's map. Raises ImageError."""
        path = self.file_of(source)
        depth_m = read_metres(path, levels_per_metre=self.levels_per_metre)
        return prompt_of(depth_m, name=str(path))

    def digest(self, source: ImageSource) -> str:
        """A hash of what a photograph's map holds; "" where it cannot be read."""
        try:
            with self.file_of(source).open("rb") as stream:
                return content_hash(stream)
        except (ImageError, OSError):
            return ""


def prompt_of(depth_m: NDArray[np.floating], *, name: str) -> Prompt:
    """Make a prompt of a measured map (h, w), 0 or not finite where nothing was measured.

    Raises ImageError for a map of another shape, or without a measurement.
    """
    if depth_m.ndim != 2 or not (measured := is_measured(depth_m)).any():
        what = "has no measured pixel" if depth_m.ndim == 2 else f"has shape {depth_m.shape}"
        raise ImageError(f"prompt {printable(name)} {what}; it needs metres (height, width)")
    facts = {
        "prompt": name,
        "prompt_hw": list(depth_m.shape),
        "prompt_measured": round(float(measured.mean()), 6),
    }
    return Prompt(complete(depth_m), (depth_m.shape[0], depth_m.shape[1]), facts)


def prompt_remedy(name: str, *, takes_prompt: bool) -> str:
    """What to say where a model takes a prompt that does not come, or the reverse."""
    if not takes_prompt:
        return f"model {name!r} takes no --prompt; --anchors makes metres of sparse depth instead"
    return (
        f"model {name!r} reads a depth sensor's map of each photograph: give --prompt, e.g. "
        "--prompt lidar/, to dpt depth, dpt eval depth or dpt bench"
    )

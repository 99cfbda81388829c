"""How a run of the pipeline works."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.camera import Camera
from dptcli.depth.prompts import Prompts
from dptcli.inputs.find import ImageSource
from dptcli.inputs.reading import Wanted
from dptcli.panorama.wanted import Panoramas
from dptcli.processing.target_size import TargetSize
from dptcli.running.batches import BatchSize
from dptcli.running.canvas import Tile

if TYPE_CHECKING:
    from PIL.Image import Image

_ORIGINAL = TargetSize()
_AS_IT_IS = Wanted()


@dataclass(frozen=True)
class Options:
    """How a run works; what it writes is the business of `save`.

    keep_rgb: hand the decoded photograph on to `save` (it costs its memory while under way).
    keep_scores: hand the class probabilities on too.
    tile: cut each photograph into overlapping tiles of so many of its pixels, for detail; "auto" is
    half of its short side.
    wanted: how photographs are read. exact: read every pixel of them, where the network sees far
    fewer and nothing else does; None is so but for a GPU, which else waits for files.
    prompts: where a depth sensor's map of each photograph lies, for a model that takes them.
    in_order: results come in the order of the jobs, with one reader and one writer (for clips).
    sky: what becomes of the sky where the network knows it: "far" as its authors do it, or "keep".
    camera: what is known of it, before what a network estimates; the metres of some rest on it.
    confidence: hand on how sure the network is: by itself, where it says so, or "mirrored", of any
    network, in two passes (running/agreement.py).
    panoramas: which photographs are equirectangular panoramas; None is none.
    normals: have a network that knows surface normals hand them on.
    read: takes the place of decode_picture; for frames of video, and to note what is read. It is
    told what is wanted.
    """

    batch_size: BatchSize = 1
    tile: Tile | None = None
    target_size: TargetSize = _ORIGINAL
    wanted: Wanted = _AS_IT_IS
    exact: bool | None = None
    keep_rgb: bool = False
    keep_scores: bool = False
    prompts: Prompts | None = None
    sky: Literal["far", "keep"] = "far"
    camera: Camera | None = None
    confidence: Literal["network", "mirrored"] | None = None
    panoramas: Panoramas | None = None
    normals: bool = False
    in_order: bool = False
    read: "Callable[[ImageSource, Wanted], NDArray[np.uint8] | Image] | None" = None
    # None is a thread for every fourth core, which keeps a CPU's network fed, or on a GPU half.
    num_readers: int | None = None
    num_writers: int | None = None

    @property
    def has_poses(self) -> bool:
        """Whether the photographs' cameras are known, with their places."""
        return self.camera is not None and self.camera.poses is not None

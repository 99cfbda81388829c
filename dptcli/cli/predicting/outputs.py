"""What a run writes: one object, which the command makes and every kind of run takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

if TYPE_CHECKING:
    from dptcli.depth.camera import Camera
    from dptcli.depth.prompts import Prompts
    from dptcli.inputs.find import ImageSource
    from dptcli.inputs.search import LeftOut
    from dptcli.panorama.wanted import Panoramas
    from dptcli.pipeline import Pipeline, Save
    from dptcli.records.report import Outcome, Report
    from dptcli.results.plan import Plan
    from dptcli.video.spherical import Views
    from dptcli.weights.load import LoadedModel


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What `save` needs of the pipeline beside the map. A cluster's workers get it too.

    keep_rgb, keep_scores: as in pipeline.Options. segment_model: a model that predicts classes
    beside depth, on the same backbone. prompts: a depth sensor's maps, for a model that takes them.
    sky, camera, confidence, normals, panoramas: as in pipeline.Options.
    """

    keep_rgb: bool = False
    keep_scores: bool = False
    segment_model: str | None = None
    prompts: "Prompts | None" = None
    sky: Literal["far", "keep"] = "far"
    camera: "Camera | None" = None
    confidence: Literal["network", "mirrored"] | None = None
    normals: bool = False
    panoramas: "Panoramas | None" = None


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who follows a run's work.

    recorded: returns a `save` whose files are recorded. done: takes what became of an image.
    predicted: is called for each image of a first pass over the run.
    """

    recorded: "Callable[[Save], Save]"
    done: "Callable[[Outcome], None]"
    predicted: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One more file of a run, made of what this and earlier runs wrote of each image.

    option: what asks for it. suffix: of the files that it is made of. path: where it goes, given
    the folder of results; there unless is_elsewhere. write: makes it, given the folder too.
    is_ours: whether a file is of its kind by what it holds, where no record says so.
    """

    option: str
    suffix: str
    path: "Callable[[Path], Path]"
    write: "Callable[[BinaryIO, Sequence[Path], Path], None]"
    is_ours: "Callable[[Path], bool]"
    is_elsewhere: bool = False


MakeSave = Callable[["LoadedModel", "Plan"], "Save"]
RunAll = Callable[["Pipeline", "Plan", Watch], "Report"]


@dataclass(frozen=True, kw_only=True)
class RunOutputs:
    """What a run writes of each image, and what that takes.

    make_save: gives `save` once the model is loaded and every result has its place; raises
    UsageError where the model does not give what is to be written. suffixes: one for each format.
    sidecar: the suffix of the file of facts. run_all: does the jobs in place of Pipeline.run, where
    each result depends on all images. joined: further files, of the folder's results. choose: the
    images that the run is about, of those that were found; notes the others, raises UsageError
    where it is none of them. views: how a video's frames hold two views, if they do.
    """

    make_save: MakeSave
    suffixes: tuple[str, ...] = (".png",)
    sidecar: str | None = None
    needs: Needs = Needs()
    run_all: RunAll | None = None
    joined: tuple[Joint, ...] = ()
    choose: "Callable[[list[ImageSource], LeftOut], list[ImageSource]] | None" = None
    views: "Views | None" = None

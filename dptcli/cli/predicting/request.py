"""What a run is asked to do: the options that both commands share, checked. Loads nothing heavy."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dptcli.cli import options as o
from dptcli.cli.predicting import options as p
from dptcli.cli.predicting.clip_request import ClipRequest, read_clip
from dptcli.cli.predicting.runtime import settle_runtime
from dptcli.errors import UsageError
from dptcli.kinds import check_gives
from dptcli.processing.target_size import TargetSize, parse_target_size

if TYPE_CHECKING:
    from dptcli.inputs.find import ImageSource
    from dptcli.inputs.reading import Wanted
    from dptcli.inputs.search import LeftOut


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the options that both commands share ask for, checked."""

    task: Literal["depth", "segment"]
    inputs: list[str]
    from_file: str | None
    null: bool
    recursive: bool
    max_pixels: int | None
    levels: tuple[float, float] | None
    page: int | None
    out: str
    target_size: TargetSize
    existing: Literal["refuse", "overwrite", "skip"]
    model: str
    gives: str | None
    offline: bool
    size: int | tuple[int, int] | None
    device: str
    dtype: str
    optimize: bool
    runtime: str
    batch_size: int | Literal["auto"]
    tile: int | Literal["auto"] | None
    exact: bool | None
    as_json: bool
    quiet: bool
    clip: ClipRequest | None = None
    options: Mapping[str, Any]
    shard: tuple[int, int] | None = None
    report: str | None = None
    root: str | None = None
    suffix: str = ""
    watch_s: float | None = None

    @property
    def wanted(self) -> "Wanted":
        """How photographs are read."""
        from dptcli.inputs.reading import DEFAULT_MAX_PIXELS, Wanted

        return Wanted(self.max_pixels or DEFAULT_MAX_PIXELS, self.levels, self.page)


def read_request(task: Literal["depth", "segment"], given: Mapping[str, Any]) -> Request:
    """Check the shared options before anything heavy is loaded. Raises UsageError."""
    inputs = given["inputs"] or []
    from_file = given["from_file"]
    if not inputs and from_file is None:
        raise UsageError(f"no INPUT given, e.g. dpt {task} photo.jpg -o {task}.png")
    if given["null"] and from_file is None:
        raise UsageError("-0 says how a list is separated; give the list with --from-file LIST")
    if from_file == "-" and "-" in inputs:
        raise UsageError("standard input cannot be both the list (--from-file -) and an image (-)")
    if not given["output"]:  # "" is a shell variable that was not set
        raise UsageError("where to? give -o: a file, a folder, or - for standard output")
    if given["report"] == "-":
        raise UsageError("--report writes a file; for lines on standard output take --json")
    if given["overwrite"] and given["skip_existing"]:
        raise UsageError("--overwrite and --skip-existing contradict each other; leave one out")
    if given["output"] == "-":
        if given["as_json"]:
            raise UsageError("--json and -o - would mix on standard output; name a file for one")
        if sys.stdout.isatty():
            raise UsageError("-o - writes a file, not text; send it on, e.g. -o - > result.png")
    o.check_device(given["device"])
    o.check_dtype(given["dtype"], optimize=given["optimize"])
    runtime = settle_runtime(task, given)
    given = {**given, "runtime": runtime}
    clip, shard = read_clip(given), p.parse_shard(given["shard"])
    if clip is not None and shard is not None:
        raise UsageError("--shard parts a list of photographs; a clip is one piece of work")
    existing: Literal["refuse", "overwrite", "skip"] = (
        "overwrite" if given["overwrite"] else "skip" if given["skip_existing"] else "refuse"
    )
    return Request(
        task=task,
        inputs=inputs,
        from_file=from_file,
        null=given["null"],
        recursive=not given["no_recursive"],
        max_pixels=o.parse_max_pixels(given["max_pixels"]),
        levels=p.parse_levels(given["levels"]),
        page=p.parse_page(given["page"]),
        out=given["output"],
        target_size=parse_target_size(given["target_size"]),
        existing=existing,
        model=given["model"],
        gives=check_gives(given.get("gives")),
        offline=given["offline"],
        size=o.parse_size(given["size"]),
        device=o.check_device(given["device"]),
        dtype=o.check_dtype(given["dtype"], optimize=given["optimize"]),
        optimize=given["optimize"],
        runtime=runtime,
        batch_size=o.parse_batch_size(given["batch_size"]),
        tile=p.parse_tile(given["tile"]),
        exact=o.read_exact(exact=given["exact"], no_exact=given["no_exact"]),
        as_json=given["as_json"],
        quiet=given["quiet"],
        clip=clip,
        options=given,
        shard=shard,
        report=given["report"],
        root=given["root"],
        suffix=p.parse_suffix(given["suffix"]),
        watch_s=p.parse_watch(given["watch"]),
    )


def find_sources(
    request: Request, left_out: "LeftOut", *, may_be_none: bool = False
) -> "list[ImageSource]":
    """The request's images; notes what is left out. Raises UsageError when there are none.

    may_be_none: its folders may be empty yet.
    """
    from dptcli.inputs.filelist import read_list
    from dptcli.inputs.find import below, find_images

    listed = read_list(request.from_file, nul=request.null) if request.from_file else []
    if request.from_file and not listed and not request.inputs:
        raise UsageError(f"the list {request.from_file!r} is empty; nothing was done")
    found = find_images(
        request.inputs,
        listed=listed,
        recursive=request.recursive,
        left_out=left_out,
        may_be_none=may_be_none,
    )
    return found if request.root is None else [below(source, request.root) for source in found]

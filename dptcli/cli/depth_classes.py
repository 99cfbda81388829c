"""`dpt depth --with-segments`: the options of classes beside depth, and what they come to."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dptcli.errors import UsageError

if TYPE_CHECKING:
    from dptcli.cli.predicting.run import Request
    from dptcli.depth.outputs import DepthOutputs
    from dptcli.results.plan import Plan
    from dptcli.weights.load import LoadedModel

CLASSES = "Classes too"
MASK_SUFFIX = ".mask.png"

WithSegments = Annotated[
    bool,
    typer.Option(
        "--with-segments",
        rich_help_panel=CLASSES,
        metavar="",
        help="Name what the photograph shows in the same run of the network: each class's area "
        "and median depth, in --json and the result, e.g. [cyan]--with-segments --json[/]",
    ),
]
Masks = Annotated[
    bool,
    typer.Option(
        "--masks",
        rich_help_panel=CLASSES,
        metavar="",
        help="Write the classes' masks too, to NAME.mask.png, "
        "e.g. [cyan]--with-segments --masks[/]",
    ),
]
SegmentModel = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        show_default=False,
        rich_help_panel=CLASSES,
        help="The model of the classes, on the same backbone as -m's (the one of that name by "
        "default), e.g. [cyan]--segment-model ./my-classes[/]",
    ),
]


def check_classes(
    request: "Request", outputs: "DepthOutputs", given: Mapping[str, Any]
) -> str | None:
    """Return the model that predicts classes beside depth, if any. Raises UsageError."""
    if not given["with_segments"]:
        for option in ("masks", "segment_model"):
            if given[option]:
                raise UsageError(f"--{option.replace('_', '-')} needs --with-segments")
        return None
    if request.clip is not None:
        raise UsageError("--with-segments is for photographs; run `dpt segment` on the clip")
    if outputs.look.value_range.kind == "global":
        raise UsageError(
            "--range global keeps depth alone from one pass to the next; leave out "
            "--with-segments, or give --range two values"
        )
    if given["masks"] and request.out == "-":
        raise UsageError("standard output takes one file; leave --masks out or name a folder")
    return str(given["segment_model"] or request.model)


def with_classes(
    outputs: "DepthOutputs",
    loaded: "LoadedModel",
    plan: "Plan",
    request: "Request",
    *,
    masks: bool,
) -> "DepthOutputs":
    """Return the outputs with the classes' names, and where `masks` with their colours."""
    from dptcli.cli.segment import write_names
    from dptcli.segments.maskfiles import Style
    from dptcli.segments.palettes import AUTO, choose_palette

    names, colors = choose_palette(AUTO, loaded.labels)
    if not masks:
        return replace(outputs, names=names)
    style = Style(colors)
    write_names(plan, names, style, model=loaded.name, existing=request.existing)
    return replace(outputs, names=names, mask_style=style)

"""The options of `dpt segment` alone, and what their values may be. Loads nothing heavy."""

import re
from typing import Annotated

import typer

from dptcli.errors import UsageError

MASK = "Segmentation picture"
CLASSES = "Classes"
BESIDE = "Beside the picture"

# What --also writes: name -> the suffix of its file. "split" fills a folder.
ALSO = {
    "mask": ".mask.png",
    "legend": ".legend.png",
    "coco": ".coco.json",
    "polygons": ".polygons.json",
    "scores": ".scores.npz",
}
SPLIT = "split"
JOINED = ("coco", "polygons")  # what --dataset joins to one file

Overlay = Annotated[
    str | None,
    typer.Option(
        metavar="ALPHA",
        show_default=False,
        rich_help_panel=MASK,
        help="Instead of the mask write the photograph with the classes over it, from 0 to 1 "
        "strong, e.g. [cyan]--overlay 0.5[/]",
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        metavar="ALPHA",
        show_default=False,
        rich_help_panel=MASK,
        help="Instead of the mask write the classes' colours alone on a transparent ground, "
        "e.g. [cyan]--layer 0.5[/]",
    ),
]
Outlines = Annotated[
    bool,
    typer.Option(
        "--outlines",
        metavar="",
        rich_help_panel=MASK,
        help="Draw the classes' borders; without --overlay or --layer on the bare photograph, "
        "e.g. [cyan]--overlay 0.3 --outlines[/]",
    ),
]
Palette = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        show_default=False,
        rich_help_panel=MASK,
        help="Colours: auto (the default, by the model's classes), ade20k, cityscapes, voc, "
        "camvid, builtin, plain, or a .json file like labels.json, e.g. "
        "[cyan]--palette cityscapes[/]",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        show_default=False,
        rich_help_panel=CLASSES,
        help="Show these classes only, by name or the model's own id; the built-in model's by kind "
        "too (vehicle is cars, trucks and bicycles), e.g. [cyan]--classes sky,person[/]",
    ),
]
LabelOffset = Annotated[
    str,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=CLASSES,
        help="Add N to every class id that is written, for tools that count from one, "
        "e.g. [cyan]--label-offset 1[/]",
    ),
]
Also = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        show_default=False,
        rich_help_panel=BESIDE,
        help="Write more files: mask; legend (names and shares of area); split (a black and white "
        "mask for each class, in a folder); coco (run lengths) and polygons (JSON for labelling "
        "tools); scores (class probabilities, NPZ), e.g. [cyan]--also legend,coco[/]",
    ),
]

Dataset = Annotated[
    bool,
    typer.Option(
        "--dataset",
        metavar="",
        rich_help_panel=BESIDE,
        help="Write one COCO file of all photographs too, gathered from each one's own when a "
        "run ends: OUT/coco.json, and OUT/polygons.json with --also polygons, "
        "e.g. [cyan]photos/ -o masks/ --dataset[/]",
    ),
]


def parse_also(value: str | None) -> tuple[str, ...]:
    """Read --also, in its order and each once. Raises UsageError."""
    words = [word.strip().lower() for word in (value or "").split(",")]
    wanted = tuple(dict.fromkeys(word for word in words if word))
    known = (*ALSO, SPLIT)
    for word in wanted:
        if word not in known:
            raise UsageError(f"--also: unknown kind of file {word!r}; there are {', '.join(known)}")
    if value is not None and not wanted:
        raise UsageError(f"--also {value!r} names no kind of file; there are {', '.join(known)}")
    return wanted


def with_dataset(also: str | None) -> str:
    """Return --also with what --dataset joins. Raises UsageError."""
    if also is not None and set(parse_also(also)) & set(JOINED):
        return also
    return "coco" if also is None else f"{also},coco"


def parse_label_offset(value: str) -> int:
    """Read --label-offset, 0 … 1000. Raises UsageError."""
    if not re.fullmatch(r"\d{1,4}", value) or int(value) > 1000:
        raise UsageError(f"--label-offset {value!r} must be a whole number from 0 to 1000")
    return int(value)


def parse_alpha(option: str, value: str | None) -> float | None:
    """Read --overlay or --layer, a share from 0 to 1. Raises UsageError."""
    if value is None:
        return None
    try:
        alpha = float(value)
    except ValueError:
        alpha = -1.0
    if not 0 <= alpha <= 1:
        raise UsageError(f"{option} {value!r} must be from 0 to 1, e.g. {option} 0.5")
    return alpha

"""The options of `dpt eval`. Loads nothing heavy."""

from typing import Annotated

import typer

from dptcli.cli import options as o

PROTOCOL = "How it is measured"

PairPaths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PAIRS",
        show_default=False,
        help="pairs.csv (columns image,target,kind,scale), or folders that hold one, or folders "
        "images/ + depth/ or labels/, or a.jpg + a.depth.png or a.labels.png; each is one set, "
        "e.g. [cyan]rooms/ streets/pairs.csv[/]",
    ),
]
Predictions = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="Measure these maps instead of a model: NPY, PNG, TIFF, PFM, at the photographs' "
        "paths in the set, below DIR/SET for several sets, e.g. [cyan]--predictions out/[/]",
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="A depth sensor's map of each photograph, for a prompted model: a folder with maps at "
        "the photographs' paths in the set, below PATH/SET for several sets, or a path with "
        "{name}, e.g. [cyan]--prompt lidar/[/]",
    ),
]
AnchorScale = Annotated[
    str,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="Levels per metre of such a map's integers, 1000 (millimetres) by default, "
        "e.g. [cyan]--anchor-scale 256[/]",
    ),
]
FieldOfView = Annotated[
    str | None,
    typer.Option(
        metavar="DEGREES",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="How wide the set's camera saw, left to right, for models whose metres depend on it, "
        "e.g. [cyan]--fov 65[/]",
    ),
]
Focal = Annotated[
    str | None,
    typer.Option(
        metavar="MM",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="The same as a focal length on 35 mm film, e.g. [cyan]--focal 28[/]",
    ),
]
Intrinsics = Annotated[
    str | None,
    typer.Option(
        metavar="CAMERA",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="The same as the calibrated camera, in pixels of the photographs: fx,fy,cx,cy or a "
        "file, as dpt depth takes it, e.g. [cyan]--intrinsics 518.9,519.5,325.6,253.7[/]",
    ),
]
ReportFolder = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        show_default=False,
        rich_help_panel=o.OUTPUT,
        help="Write report.json, images.csv and the plots there, e.g. [cyan]-o report/[/]",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        rich_help_panel=o.OUTPUT,
        help="Replace an earlier report, e.g. [cyan]-o report/ --overwrite[/]",
    ),
]
NoPlots = Annotated[
    bool,
    typer.Option(
        "--no-plots",
        rich_help_panel=o.OUTPUT,
        help="Write numbers only, e.g. [cyan]-o report/ --no-plots[/]",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        rich_help_panel=o.MESSAGES,
        help="One JSON document on standard output instead of tables, "
        "e.g. [cyan]--json > report.json[/]",
    ),
]


PredictionKind = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="What the maps in DIR hold, where they don't say it themselves: inverse_depth or "
        "disparity (large is near), depth or depth_m, "
        "e.g. [cyan]--prediction-kind depth_m[/]",
    ),
]
PredictionScale = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="Stored depth / S = metres, e.g. [cyan]--prediction-scale 256[/]",
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="Stored target / S = metres, where pairs.csv has no scale of its own; without both "
        "integers are millimetres, e.g. [cyan]--scale 256[/] (KITTI)",
    ),
]
Align = Annotated[
    str,
    typer.Option(
        metavar="HOW",
        rich_help_panel=PROTOCOL,
        help="Fit to the target: none, scale or scale-shift (least squares over all valid "
        "pixels, in disparity, or in depth where the model gives depth without scale), median (of "
        "depth); auto is none for metres, else scale-shift, e.g. [cyan]--align median[/]",
    ),
]
MinDepth = Annotated[
    float | None,
    typer.Option(
        metavar="M",
        show_default=False,
        rich_help_panel=PROTOCOL,
        help="Leave nearer targets out, clip predictions to it, e.g. [cyan]--min-depth 0.001[/]",
    ),
]
MaxDepth = Annotated[
    float | None,
    typer.Option(
        metavar="M",
        show_default=False,
        rich_help_panel=PROTOCOL,
        help="Leave farther targets out, clip predictions to it (1000 where it is not given), "
        "e.g. [cyan]--max-depth 80[/]",
    ),
]
CropName = Annotated[
    str,
    typer.Option(
        metavar="CROP",
        rich_help_panel=PROTOCOL,
        help="Count a published part of the image only: kitti-garg or nyu-eigen, "
        "e.g. [cyan]--crop kitti-garg[/]",
    ),
]
NumPairs = Annotated[
    int,
    typer.Option(
        metavar="N",
        rich_help_panel=PROTOCOL,
        help="Pixel pairs drawn in each image for ordinal accuracy; those count whose depths "
        "differ by more than 10 %, e.g. [cyan]--num-pairs 10000[/]",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        rich_help_panel=PROTOCOL,
        help="Draws other pixel pairs, e.g. [cyan]--seed 1[/]",
    ),
]
Baseline = Annotated[
    bool,
    typer.Option(
        "--baseline/--no-baseline",
        rich_help_panel=PROTOCOL,
        help="Leave out the guess 'lower in the picture is nearer', which any model should "
        "beat, e.g. [cyan]--no-baseline[/]",
    ),
]
LabelMapFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        rich_help_panel=PROTOCOL,
        help="Which classes of the predictions and of the targets mean the same: JSON "
        '{"target": {"road": "ground"}, "prediction": {…}} or CSV side,label,group, '
        "e.g. [cyan]--label-map four-groups.json[/]",
    ),
]
IgnoreIndex = Annotated[
    int | None,
    typer.Option(
        metavar="ID",
        show_default=False,
        rich_help_panel=PROTOCOL,
        help="The targets' id that does not count (the model's own by default, most often 255), "
        "e.g. [cyan]--ignore-index 0[/]",
    ),
]

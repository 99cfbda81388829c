"""The options of `dpt depth` alone, and what their values may be. Loads nothing heavy."""

from typing import Annotated, Literal

import typer

from dptcli.cli import options as o
from dptcli.errors import UsageError

PICTURE = "Depth picture"
SPACE = "Points and meshes"
METRES = "Metres"
CAMERA = "The camera"
SCENES = "Scenes and splats"
STEREO = "Two views"
CLASSES = "Classes too"

Formats = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="LIST",
        show_default=False,
        rich_help_panel=o.OUTPUT,
        help="One or more. For the eye: color, jpg, webp. For programs: png16, tiff, pfm, npy, "
        "npz, exr; mm, x256 (16-bit metres); confidence (how sure it is); splat (for --colmap). "
        "In space: ply (points), glb (a mesh to turn), normals. In two views: sbs, tb, anaglyph, "
        "vr180, sbs-half, tb-half. "
        "Without it OUT's ending says it, or color, "
        "e.g. [cyan]-f color,npy[/]",
    ),
]
Colormap = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        show_default=False,
        rich_help_panel=PICTURE,
        help="Any matplotlib colormap (inferno by default: near is bright), "
        "e.g. [cyan]--colormap Spectral_r[/]",
    ),
]
Invert = Annotated[
    bool,
    typer.Option(
        "--invert",
        rich_help_panel=PICTURE,
        metavar="",
        help="Make near dark and far bright, e.g. [cyan]--grayscale --invert[/]",
    ),
]
Grayscale = Annotated[
    bool,
    typer.Option(
        "--grayscale",
        rich_help_panel=PICTURE,
        metavar="",
        help="Grey instead of colours, near is white, e.g. [cyan]--grayscale[/]",
    ),
]
Bits = Annotated[
    str,
    typer.Option(
        metavar="8|16",
        rich_help_panel=PICTURE,
        show_default=False,
        help="Bits of a grey pixel, 8 by default; 16 keeps fine steps and implies --grayscale, "
        "e.g. [cyan]--bits 16[/]",
    ),
]
ValueRange = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="RANGE",
        rich_help_panel=PICTURE,
        show_default=False,
        help="What the picture spans: percentile (each image's own without outliers, or 5%:95%; "
        "1%:99% for colours unless you say so), image (all of each: so for grey and clips), "
        "global (one for the run: no flicker), or values A:B, "
        "e.g. [cyan]--range global[/]",
    ),
]
Gamma = Annotated[
    str,
    typer.Option(
        metavar="G",
        rich_help_panel=PICTURE,
        show_default=False,
        help="Above 1 shows more of the far part, e.g. [cyan]--gamma 1.8[/]",
    ),
]
RefineEdges = Annotated[
    bool,
    typer.Option(
        "--refine-edges",
        rich_help_panel=PICTURE,
        metavar="",
        help="Move soft edges to the photograph's, in every format, e.g. [cyan]--refine-edges[/]",
    ),
]
Colorbar = Annotated[
    bool,
    typer.Option(
        "--colorbar",
        rich_help_panel=PICTURE,
        metavar="",
        help="Put the scale beside the picture, e.g. [cyan]--colorbar[/]",
    ),
]
SideBySide = Annotated[
    bool,
    typer.Option(
        "--side-by-side",
        rich_help_panel=PICTURE,
        metavar="",
        help="Put the photograph beside the picture, e.g. [cyan]--side-by-side[/]",
    ),
]
ShowPreview = Annotated[
    bool,
    typer.Option(
        "--preview",
        rich_help_panel=PICTURE,
        metavar="",
        help="Show the first results in the terminal too, e.g. [cyan]--preview[/]",
    ),
]
Anchor = Annotated[
    list[str] | None,
    typer.Option(
        metavar="X,Y=M",
        show_default=False,
        rich_help_panel=METRES,
        help="A pixel of the photograph and its distance in metres; several turn relative "
        "depth into metres, e.g. [cyan]--anchor 320,240=2.4 --anchor 80,400=1.1[/]",
    ),
]
Anchors = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        rich_help_panel=METRES,
        help="The same from a CSV of x,y,metres, or a sparse depth map (16-bit PNG, 0 is "
        "unknown), e.g. [cyan]--anchors lidar.png[/]",
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        show_default=False,
        rich_help_panel=METRES,
        help="A depth sensor's map of each photograph, for a prompted model: a file (16-bit PNG, "
        "NPY or TIFF; 0 is unknown, any size), a folder, or a path with {name}, "
        "e.g. [cyan]-m prompt-depth-anything-vits --prompt lidar/[/]",
    ),
]
AnchorScale = Annotated[
    str,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=METRES,
        help="Levels per metre of --anchors' and --prompt's PNG, 1000 (millimetres) by default, "
        "e.g. [cyan]--anchors kitti.png --anchor-scale 256[/]",
    ),
]
FieldOfView = Annotated[
    str | None,
    typer.Option(
        metavar="DEGREES",
        show_default=False,
        rich_help_panel=CAMERA,
        help="How wide the camera saw, left to right; else what the network or EXIF says, else a "
        "phone's 27 mm, e.g. [cyan]-f glb --fov 65[/]",
    ),
]
Focal = Annotated[
    str | None,
    typer.Option(
        metavar="MM",
        show_default=False,
        rich_help_panel=CAMERA,
        help="The same as a focal length on 35 mm film, e.g. [cyan]-f ply --focal 28[/]",
    ),
]
Intrinsics = Annotated[
    str | None,
    typer.Option(
        metavar="CAMERA",
        show_default=False,
        rich_help_panel=CAMERA,
        help="The calibrated camera, in pixels of the photograph: fx,fy,cx,cy, or a file, JSON "
        "or COLMAP's cameras.txt, e.g. [cyan]-f glb --intrinsics 1450,1450,960,540[/]",
    ),
]
Confidence = Annotated[
    bool,
    typer.Option(
        "--confidence",
        rich_help_panel=o.OUTPUT,
        metavar="",
        help="Ask any model how sure it is, for -f confidence and npz: it sees the mirrored "
        "photograph too, and is sure where both agree, "
        "e.g. [cyan]-f npy,confidence --confidence[/]",
    ),
]
Sky = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        show_default=False,
        rich_help_panel=PICTURE,
        help="The sky, where the model knows it: far (away, the default), mask (it has no value) "
        "or keep (as the network has it); of other models with --with-segments, "
        "e.g. [cyan]--sky mask[/]",
    ),
]
Colmap = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        show_default=False,
        rich_help_panel=SCENES,
        help="For trainers of Gaussian splats: a COLMAP model, to whose points each photograph's "
        "depth is fitted, and which has the cameras; writes DIR/depth_params.json too, "
        "e.g. [cyan]images/ --colmap sparse/0 -o depths/[/]",
    ),
]
MaxPoints = Annotated[
    str,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=SPACE,
        help="The most points of a cloud or mesh (1M by default), e.g. [cyan]--max-points 250k[/]",
    ),
]
EdgeCut = Annotated[
    str | None,
    typer.Option(
        metavar="DEGREES",
        show_default=False,
        rich_help_panel=SPACE,
        help="Cut where a surface would be steeper than this, between two things: no mesh spans "
        "it (84 by default; 90 keeps one piece) and, if you give it, no point of a cloud floats "
        "there, e.g. [cyan]-f ply --edge-cut 75[/]",
    ),
]
Strength = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        show_default=False,
        rich_help_panel=STEREO,
        help="How much farther the nearest thing moves than the farthest, as a share of the width "
        "(3% by default), e.g. [cyan]-f sbs --strength 2%[/]",
    ),
]
EyeDistance = Annotated[
    str | None,
    typer.Option(
        "--ipd",
        metavar="MM",
        show_default=False,
        rich_help_panel=STEREO,
        help="How far apart the eyes are instead, where depth is in metres, "
        "e.g. [cyan]-m zoedepth-nyu -f sbs --ipd 63[/]",
    ),
]
Convergence = Annotated[
    str | None,
    typer.Option(
        metavar="0..1",
        show_default=False,
        rich_help_panel=STEREO,
        help="What lies in the plane of the screen: 0 the farthest thing, 1 the nearest (0.5 by "
        "default, and 0 for vr180), e.g. [cyan]-f anaglyph --convergence 0.8[/]",
    ),
]
WithSegments = Annotated[
    bool,
    typer.Option(
        "--with-segments",
        rich_help_panel=CLASSES,
        metavar="",
        help="Name what the photograph shows in the same run of the network: area and depth of "
        "each class and each of its regions, in --json and the result, "
        "e.g. [cyan]--with-segments --json[/]",
    ),
]
BoxesFile = Annotated[
    str | None,
    typer.Option(
        "--boxes",
        metavar="PATH",
        show_default=False,
        rich_help_panel=CLASSES,
        help="Tell how far what a detector found is: COCO's JSON, YOLO's text, or a folder of "
        "NAME.txt, e.g. [cyan]--boxes labels/ --json[/]",
    ),
]
ShowThings = Annotated[
    bool,
    typer.Option(
        "--show-things",
        rich_help_panel=CLASSES,
        metavar="",
        help="Draw those boxes, or the classes' regions, with their distances into the picture, "
        "e.g. [cyan]--with-segments --show-things[/]",
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


def parse_bits(value: str) -> int:
    """Read --bits. Raises UsageError."""
    if value not in {"8", "16"}:
        raise UsageError(f"--bits {value!r} must be 8 or 16")
    return int(value)


def parse_strength(value: str) -> float:
    """Read --strength, 3% or 0.03. Raises UsageError."""
    number, is_percent = value.removesuffix("%"), value.endswith("%")
    share = o.parse_number("--strength", number, example="3%")
    return share / 100 if is_percent else share


def check_sky(value: str | None) -> Literal["far", "mask", "keep"] | None:
    """Read --sky. Raises UsageError."""
    for known in ("far", "mask", "keep"):
        if value == known:
            return known
    if value is None:
        return None
    raise UsageError(f"--sky {value!r} must be far, mask or keep")

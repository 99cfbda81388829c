"""`dpt depth`: how near everything in a photograph is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from dptcli.cli import options as o
from dptcli.cli.run import EPILOG, photo_facts, read_request, run, set_up_logging, write_to
from dptcli.errors import UsageError
from dptcli.weights.catalog import DEFAULT_MODEL

if TYPE_CHECKING:
    from dptcli.pipeline import Prediction, Save
    from dptcli.plan import Job, Plan
    from dptcli.weights.load import LoadedModel

PICTURE = "Depth picture"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(epilog=EPILOG)(depth)


def depth(
    inputs: o.Inputs = None,
    from_file: o.FromFile = None,
    null: o.Null = False,
    no_recursive: o.NoRecursive = False,
    max_pixels: o.MaxPixels = None,
    output: o.Output = None,
    target_size: o.TargetSize = "original",
    overwrite: o.Overwrite = False,
    skip_existing: o.SkipExisting = False,
    colormap: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            rich_help_panel=PICTURE,
            help="Any matplotlib colormap (inferno by default: near is bright), "
            "e.g. [cyan]--colormap Spectral_r[/]",
        ),
    ] = None,
    invert: Annotated[
        bool,
        typer.Option(
            "--invert",
            rich_help_panel=PICTURE,
            metavar="",
            help="Make near dark and far bright, e.g. [cyan]--grayscale --invert[/]",
        ),
    ] = False,
    grayscale: Annotated[
        bool,
        typer.Option(
            "--grayscale",
            rich_help_panel=PICTURE,
            metavar="",
            help="Grey instead of colours, near is white, e.g. [cyan]--grayscale[/]",
        ),
    ] = False,
    bits: Annotated[
        str,
        typer.Option(
            metavar="8|16",
            rich_help_panel=PICTURE,
            show_default=False,
            help="Bits of a grey pixel, 8 by default; 16 keeps fine steps and implies --grayscale, "
            "e.g. [cyan]--bits 16[/]",
        ),
    ] = "8",
    frames: o.Frames = None,
    sequence: o.InOrder = False,
    smoothing: o.Smoothing = None,
    fps: o.FPS = None,
    audio: o.Audio = False,
    model: o.ModelName = DEFAULT_MODEL,
    size: o.Size = None,
    offline: o.Offline = False,
    device: o.Device = "auto",
    dtype: o.DType = "auto",
    batch_size: o.BatchSize = "1",
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Estimate how near everything in a photograph is, and write it as a picture.

    [cyan]dpt depth photo.jpg -o depth.png[/]
    [cyan]dpt depth photos/ -o depth/ --bits 16[/]
    [cyan]curl -s URL | dpt depth - -o - > depth.png[/]
    [cyan]dpt depth clip.mp4 -o depth.mp4[/]
    """
    set_up_logging(verbose=verbose, quiet=quiet)
    request = read_request("depth", locals())
    num_bits = o.parse_bits(bits)
    if colormap is not None and (grayscale or num_bits == 16):
        grey = "--grayscale" if grayscale else "--bits 16"
        raise UsageError(f"--colormap makes colours and {grey} makes grey; leave one out")

    if num_bits == 16 and request.clip is not None and request.clip.to_video:
        raise UsageError("--bits 16 does not fit into a video; name a folder for the frames")

    from dptcli.colormaps import DEFAULT_COLORMAP, depth_lut, finite_range
    from dptcli.writers import write_depth_color, write_depth_gray

    lut = depth_lut(colormap or DEFAULT_COLORMAP)

    def saver(loaded: "LoadedModel", _plan: "Plan") -> "Save":
        near_is_large = not loaded.is_metric
        kind = "depth_m" if loaded.is_metric else "inverse_depth"
        facts = {"model": loaded.name, "kind": kind}
        if not (grayscale or num_bits == 16):
            facts["colormap"] = colormap or DEFAULT_COLORMAP

        def save(job: "Job", prediction: "Prediction") -> Mapping[str, object]:
            def write(stream: BinaryIO) -> None:
                shared: dict[str, Any] = {
                    "limits": prediction.limits if any(prediction.limits) else None,
                    "near_is_large": near_is_large,
                    "invert": invert,
                    "facts": {**facts, **photo_facts(job)},
                }
                if grayscale or num_bits == 16:
                    write_depth_gray(stream, prediction.values, bits=num_bits, **shared)
                else:
                    write_depth_color(stream, prediction.values, lut=lut, **shared)

            write_to(job.path, write)
            lo, hi = finite_range(prediction.values)
            return {"kind": kind, "min": lo, "max": hi}

        return save

    return run(request, saver)

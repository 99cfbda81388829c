"""`dpt segment`: what every pixel of a photograph shows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from dptcli.cli import options as o
from dptcli.cli.run import EPILOG, read_request, run, set_up_logging
from dptcli.errors import UsageError
from dptcli.weights.catalog import DEFAULT_MODEL

if TYPE_CHECKING:
    from dptcli.pipeline import Prediction, Save
    from dptcli.plan import Job, Plan
    from dptcli.weights.load import LoadedModel

MASK = "Segmentation picture"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(epilog=EPILOG)(segment)


def segment(
    inputs: o.Inputs = None,
    from_file: o.FromFile = None,
    null: o.Null = False,
    no_recursive: o.NoRecursive = False,
    max_pixels: o.MaxPixels = None,
    output: o.Output = None,
    target_size: o.TargetSize = "original",
    overwrite: o.Overwrite = False,
    skip_existing: o.SkipExisting = False,
    overlay: Annotated[
        str | None,
        typer.Option(
            metavar="ALPHA",
            show_default=False,
            rich_help_panel=MASK,
            help="Instead of the mask write the photograph with the classes over it, from 0 to 1 "
            "strong, e.g. [cyan]--overlay 0.5[/]",
        ),
    ] = None,
    frames: o.Frames = None,
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
    """Name what every pixel of a photograph shows, and write it as a mask.

    A mask is an indexed PNG: it opens in colour, and its pixel values are the class ids, from 0.
    The names stand beside it, in OUT/labels.json for a folder and in NAME.labels.json for one file.

    [cyan]dpt segment photo.jpg -o mask.png[/]
    [cyan]dpt segment photos/ -o overlays/ --overlay 0.5[/]
    [cyan]dpt segment clip.mp4 -o seen.mp4[/]
    """
    set_up_logging(verbose=verbose, quiet=quiet)
    request = read_request("segment", locals())
    alpha = o.parse_overlay(overlay)
    if alpha is None and request.clip is not None and request.clip.to_video:
        alpha = 0.5  # a video cannot hold class ids exactly: it is for the eye

    from dptcli.colormaps import palette
    from dptcli.plan import photo_facts
    from dptcli.writers import write_label_mask, write_overlay, write_whole

    def saver(loaded: "LoadedModel", plan: "Plan") -> "Save":
        colors = palette(len(loaded.labels), loaded.labels)
        _write_names(plan, loaded, colors, existing=request.existing)

        def save(job: "Job", prediction: "Prediction") -> Mapping[str, object]:
            labels = prediction.values
            facts = {"model": loaded.name, "kind": "labels", **photo_facts(job)}

            def write(stream: BinaryIO) -> None:
                if alpha is None:
                    write_label_mask(stream, labels, colors=colors, facts=facts)
                    return
                assert prediction.rgb is not None
                write_overlay(
                    stream, labels, rgb=prediction.rgb, colors=colors, alpha=alpha, facts=facts
                )

            write_whole(job.path, write)
            return {"kind": "labels", "shares": _shares(labels, loaded.labels)}

        return save

    return run(request, saver, keep_rgb=alpha is not None)


def _write_names(plan: "Plan", loaded: "LoadedModel", colors: Any, *, existing: str) -> None:
    """Write labels.json for the run's folder, or beside a single file; none for standard output."""
    import io

    from dptcli.writers import write_names_json, write_whole

    if plan.folder is not None:
        path = plan.folder / "labels.json"
    elif plan.jobs[0].path is not None:
        path = plan.jobs[0].path.with_suffix(".labels.json")
    else:
        return
    buffer = io.BytesIO()
    write_names_json(buffer, loaded.labels, colors=colors, model=loaded.name)
    content = buffer.getvalue()
    if path.exists() and existing != "overwrite" and path.read_bytes() != content:
        raise UsageError(
            f"{str(path)!r} holds the names of another model's classes; name another folder, or "
            "replace it with --overwrite"
        )

    def write(stream: BinaryIO) -> None:
        stream.write(content)

    write_whole(path, write)


def _shares(labels: Any, names: Mapping[int, str]) -> dict[str, float]:
    """Return each class's share of the image's area, by name, for those that occur."""
    import numpy as np

    counts = np.bincount(labels.ravel(), minlength=1)
    present = np.flatnonzero(counts)
    return {
        names.get(int(label), str(label)): round(float(counts[label]) / labels.size, 6)
        for label in present
    }

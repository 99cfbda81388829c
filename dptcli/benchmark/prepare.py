"""What a benchmark needs before it starts: photographs, and the model in forms that others read."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dptcli.benchmark import NUM_MADE
from dptcli.benchmark.choose import rivals
from dptcli.benchmark.contenders import Spec
from dptcli.benchmark.measure import Told
from dptcli.errors import ImageError, UsageError
from dptcli.inputs.find import find_images
from dptcli.weights.catalog import find_model
from dptcli.weights.load import load_model

MADE_HW = (3000, 4000)


@contextlib.contextmanager
def prepared(
    model: str,
    images: Sequence[str] | None,
    settings: Mapping[str, Any],
    peers: Sequence[str],
    told: Told,
    *,
    runtimes: Sequence[str] = (),
) -> Iterator[list[Spec]]:
    """Specs of all contenders, ours first; what they need on disk lasts as long as the block.

    images: files and folders; without any, photographs are made. settings: further fields of Spec.
    runtimes: with each of them our own loop runs, too.
    Raises UsageError and ModelError.
    """
    find_model(model, task=settings["task"])  # a wrong name is said before photographs are made
    with tempfile.TemporaryDirectory(prefix="dpt-bench-") as scratch_name:
        scratch = Path(scratch_name)
        told("making photographs")
        files = _files(images) if images else make_photographs(scratch / "photographs")
        first = Spec(name="dpt", model=model, images=files, out=str(scratch / "dpt"), **settings)
        specs = [first]
        specs += rivals(first, runtimes)
        if peers:
            told("writing the model for the others")
            specs += _peers(first, peers, scratch)
        for spec in specs:
            Path(spec.out).mkdir()
        yield specs


def _files(images: Sequence[str]) -> list[str]:
    sources = find_images(list(images), recursive=True)
    paths = [source.path for source in sources]
    if any(path is None for path in paths):
        raise UsageError("--images takes files and folders")
    return [str(path) for path in paths]


def _peers(first: Spec, peers: Sequence[str], scratch: Path) -> list[Spec]:
    """Everyone gets the same weights: a plain folder, and one ONNX file of the network."""
    loaded = load_model(first.model, task=first.task, device="cpu", dtype="float32")
    folder = scratch / "model"
    loaded.model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    export = None
    if {"openvino", "onnxruntime"} & set(peers):
        from dptcli.export import export_onnx
        from dptcli.pipeline import open_pipeline

        export = scratch / "model.onnx"
        task: Any = first.task
        seen = open_pipeline(loaded, task=task, size=first.size)
        [source] = find_images([first.images[0]], recursive=False)
        height, width = seen.decode(source).prepared.pixel_values.shape[-2:]
        export_onnx(loaded, export, fixed_hw=(height, width))
    return [
        replace(
            first,
            name=name,
            model=str(folder),
            out=str(scratch / name),
            export=None if export is None else str(export),
        )
        for name in peers
    ]


def make_photographs(folder: Path) -> list[str]:
    """JPEGs of 12 megapixels with as much detail as photographs have: noise of every scale."""
    folder.mkdir()
    files = []
    for index in range(NUM_MADE):
        draw = np.random.default_rng(index)
        height, width = MADE_HW
        pixels = np.zeros((height, width, 3), np.float32)
        for step in (8, 32, 128, 512):
            shape = (height // step + 2, width // step + 2, 3)
            coarse = draw.integers(0, 256, shape, dtype=np.uint8)
            layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            pixels += np.asarray(layer, np.float32) * (step / 680)
        path = folder / f"{index}.jpg"
        try:
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=92)
        except OSError as error:
            raise ImageError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
        files.append(str(path))
    return files

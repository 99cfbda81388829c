"""One photograph from Python, without a run: depth or classes as an array."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.prompts import prompt_of
from dptcli.pipeline import ImageInput, Options, open_pipeline
from dptcli.processing.target_size import parse_target_size
from dptcli.weights import DEFAULT_MODEL
from dptcli.weights.load import LoadedModel


def predict_depth(
    image: ImageInput,
    *,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    device: str = "auto",
    dtype: str = "auto",
    size: int | tuple[int, int] | None = None,
    target_size: str = "original",
    prompt: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """Return the depth of one photograph, float32 (H, W).

    image: a file, its bytes, or RGB uint8 (H, W, 3). prompt: for a model that takes one, a depth
    sensor's map (h, w) in metres of the whole photograph, 0 where nothing was measured.
    `LoadedModel.kind` says what the values are: inverse depth (large is near, no unit), metres, or
    depth without a scale. For many images load the model once and pass that.
    Raises ModelError, ImageError, and UsageError for a prompt that is missing or of no use.
    """
    options = Options(target_size=parse_target_size(target_size))
    pipeline = open_pipeline(
        model,
        task="depth",
        device=device,
        dtype=dtype,
        size=size,
        prompted=prompt is not None,
        options=options,
    )
    known = None if prompt is None else prompt_of(np.asarray(prompt), name="prompt")
    return np.asarray(pipeline.predict_one(image, prompt=known).values, np.float32)


def predict_segments(
    image: ImageInput,
    *,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    device: str = "auto",
    dtype: str = "auto",
    size: int | tuple[int, int] | None = None,
    target_size: str = "original",
) -> NDArray[np.integer]:
    """Return the class of every pixel of one photograph, ids counted from 0, integers (H, W).

    The arguments and errors are those of predict_depth; `LoadedModel.labels` has the names.
    """
    options = Options(target_size=parse_target_size(target_size))
    pipeline = open_pipeline(
        model, task="segment", device=device, dtype=dtype, size=size, options=options
    )
    return pipeline.predict_one(image).values

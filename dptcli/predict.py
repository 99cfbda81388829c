"""Photographs from Python, without a run: depth or classes as arrays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.prompts import prompt_of
from dptcli.errors import UsageError
from dptcli.panorama.wanted import Panoramas
from dptcli.pipeline import ImageInput, Options, open_pipeline
from dptcli.processing.target_size import parse_target_size
from dptcli.weights import DEFAULT_MODEL
from dptcli.weights.load import LoadedModel

ImageInputs = list[ImageInput] | tuple[ImageInput, ...]
Floats = NDArray[np.float32]


class Wanted(TypedDict, total=False):
    """What both functions take beside images."""

    model: str | Path | LoadedModel
    device: str
    dtype: str
    size: int | tuple[int, int] | None
    target_size: str


@overload
def predict_depth(
    image: ImageInput,
    *,
    prompt: NDArray[np.floating] | None = None,
    panorama: bool = False,
    **wanted: Unpack[Wanted],
) -> Floats: ...


@overload
def predict_depth(
    image: ImageInputs,
    *,
    prompt: Sequence[NDArray[np.floating]] | None = None,
    panorama: bool = False,
    **wanted: Unpack[Wanted],
) -> list[Floats]: ...


def predict_depth(
    image: ImageInput | ImageInputs,
    *,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    device: str = "auto",
    dtype: str = "auto",
    size: int | tuple[int, int] | None = None,
    target_size: str = "original",
    prompt: Any = None,
    panorama: bool = False,
) -> Floats | list[Floats]:
    """Return the depth of one photograph, float32 (H, W); of a list of them, a list.

    image: a file, its bytes, an address (https://, s3://, gs://), or RGB uint8 (H, W, 3). prompt:
    for a model that takes one, a depth sensor's map (h, w) in metres of the whole photograph, 0
    where nothing was measured; for a list, a list of them. panorama: the images are
    equirectangular; their values are along the rays, not along an axis.
    `LoadedModel.kind` says what the values are: inverse depth (large is near, no unit), metres, or
    depth without a scale. For many calls load the model once and pass that. Raises ModelError,
    ImageError, and UsageError for a prompt that is missing or of no use.
    """
    if panorama and prompt is not None:
        raise UsageError("prompt: it is for plain photographs, not for panoramas; leave one out")
    prompts: list[Any] = [None]
    if isinstance(image, list | tuple):
        prompts = [None] * len(image) if prompt is None else list(prompt)
        if len(prompts) != len(image):
            raise UsageError(f"prompt: {len(prompts)} maps for {len(image)} images; give one each")
    options = Options(
        target_size=parse_target_size(target_size),
        panoramas=Panoramas(all_are=True) if panorama else None,
        exact=True,  # a file and its array give the same
    )
    pipeline = open_pipeline(
        model,
        task="depth",
        device=device,
        dtype=dtype,
        size=size,
        prompted=prompt is not None,
        options=options,
    )

    def one(photo: ImageInput, measured: Any) -> Floats:
        known = None if measured is None else prompt_of(np.asarray(measured), name="prompt")
        return np.asarray(pipeline.predict_one(photo, prompt=known).values, np.float32)

    if isinstance(image, list | tuple):
        return [one(photo, known) for photo, known in zip(image, prompts, strict=True)]
    return one(image, prompt)


@overload
def predict_segments(image: ImageInput, **wanted: Unpack[Wanted]) -> NDArray[np.integer]: ...


@overload
def predict_segments(image: ImageInputs, **wanted: Unpack[Wanted]) -> list[NDArray[np.integer]]: ...


def predict_segments(
    image: ImageInput | ImageInputs,
    *,
    model: str | Path | LoadedModel = DEFAULT_MODEL,
    device: str = "auto",
    dtype: str = "auto",
    size: int | tuple[int, int] | None = None,
    target_size: str = "original",
) -> NDArray[np.integer] | list[NDArray[np.integer]]:
    """Return the class of every pixel, ids from 0, integers (H, W); for a list of images, a list.

    The arguments and errors are those of predict_depth; `LoadedModel.labels` has the names.
    """
    options = Options(target_size=parse_target_size(target_size), exact=True)
    pipeline = open_pipeline(
        model, task="segment", device=device, dtype=dtype, size=size, options=options
    )
    if isinstance(image, list | tuple):
        return [pipeline.predict_one(photo).values for photo in image]
    return pipeline.predict_one(image).values

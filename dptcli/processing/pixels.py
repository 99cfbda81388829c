"""Pictures as arrays: what users pass in, resizing by Pillow, and bytes to normalised floats.

Arrays here are (H, W, C), uint8 or floating, until `to_planes` makes them (C, H, W).
"""

import base64
import functools
import logging
import sys
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import ConfigError, ImageError
from dptcli.inputs.decode import to_rgb
from dptcli.processing.config import ProcessorConfig

logger = logging.getLogger(__name__)

LAYOUTS = ("channels_first", "channels_last", "none")


def flatten_images(images: Any, *, image_ndim: int = 3) -> list[Any]:
    """A flat list of pictures from one picture, an array of several, or (nested) lists of these.

    `image_ndim` is the number of axes of one array: 3 for images (2, a grey one, is taken too), 2
    for label maps. An image may also be a path, a web address or a data: URL, which is decoded
    upright as RGB. Raises ConfigError for anything else, and for nothing, and ImageError.
    """
    if isinstance(images, str | Path) and image_ndim == 3:
        return [_decoded(images)]
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, np.ndarray) or _is_tensor(images):
        if images.ndim == image_ndim + 1:
            return list(images)
        if images.ndim in (2, image_ndim):
            return [images]
        raise ConfigError(
            f"an image has {images.ndim} dimensions, shape {tuple(images.shape)}; "
            f"allowed: {image_ndim}, or {image_ndim + 1} for a batch"
        )
    if isinstance(images, list | tuple):
        if not images:
            raise ConfigError("images is empty; give at least one image")
        flat = (flatten_images(item, image_ndim=image_ndim) for item in images)
        return [image for some in flat for image in some]
    raise ConfigError(
        f"images holds a {type(images).__name__}; allowed: Pillow images, numpy arrays, torch "
        "tensors, paths, addresses and lists of these"
    )


def _decoded(given: str | Path) -> Image.Image:
    """The picture at a path or an address, or in a data: URL."""
    from dptcli.inputs.find import decode_picture, source_of

    if not str(given).startswith("data:"):
        return decode_picture(source_of(given))
    try:
        content = base64.b64decode(str(given).partition(",")[2], validate=True)
    except ValueError as error:
        raise ImageError("an image is a data: URL that is not base64; give bytes it encodes") from (
            error
        )
    return decode_picture(content)


def to_array(image: Any) -> NDArray[Any]:
    """A picture as an array of its own shape; uint8, another integer type or a float.

    Raises ImageError for types that hold no pixels and for NaN or infinity.
    """
    if _is_tensor(image):
        image = image.detach().cpu()
        # numpy has no bfloat16.
        image = (image.float() if str(image.dtype) == "torch.bfloat16" else image).numpy()
    array = np.asarray(image)
    if array.dtype == np.uint8 or np.issubdtype(array.dtype, np.integer):
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(
            f"an image has dtype {array.dtype}; allowed: uint8, other integers, floats"
        )
    if not np.isfinite(array).all():
        raise ImageError("an image holds NaN or infinity; replace those values first")
    return array


def to_hwc(
    image: Any, *, layout: str | None, config: ProcessorConfig, rgb_arrays: bool = False
) -> NDArray[Any]:
    """A picture as (H, W, C); grey gets three channels, alpha lies over white (do_convert_rgb).

    Unless `config` says otherwise by its number of means: then the channels stay as they are. So
    do an array's where no mean or deviation for each of three channels needs them, unless
    `rgb_arrays`: as in the reference, arrays may hold anything.
    `layout` is one of LAYOUTS, or None to infer it: channels first where the first axis could be
    channels, as in the reference. Raises ImageError where the channels don't fit.
    """
    rgb = config.do_convert_rgb and config.num_channels == 3
    one_per_channel = isinstance(config.image_mean, tuple) or isinstance(config.image_std, tuple)
    needed = config.do_normalize and one_per_channel
    if isinstance(image, Image.Image):
        array = np.asarray(to_rgb(image) if rgb else image)
        array = to_array(array.astype(np.uint8) * 255 if array.dtype == bool else array)
        array = array[..., None] if array.ndim == 2 else array
    else:
        array = channels_last(to_array(image), layout, config.num_channels)
        array = _array_to_rgb(array) if rgb and (needed or rgb_arrays) else array
    if 0 in array.shape:
        raise ImageError(f"an image is empty: shape {array.shape}")
    if needed and array.shape[-1] != config.num_channels:
        raise ImageError(
            f"an image has {array.shape[-1]} channels; image_mean and image_std have "
            f"{config.num_channels}"
        )
    return array


def resize(
    image: NDArray[Any], hw: tuple[int, int], resample: int
) -> tuple[NDArray[np.uint8], bool]:
    """The picture at (height, width) `hw` as uint8 (H, W, C), and whether 255 stands for 1.0.

    See `as_bytes`. Raises ImageError.
    """
    image, unit = as_bytes(image)
    return (image if image.shape[:2] == hw else _resize_bytes(image, hw, resample)), unit


def as_bytes(image: NDArray[Any]) -> tuple[NDArray[np.uint8], bool]:
    """The picture (H, W, C) as uint8 to be resized, and whether 255 stands for 1.0.

    Floats within [0, 1] that are not whole numbers are resized as bytes and say so by the second
    value; whole numbers are taken as 0 to 255. Both, and cutting instead of rounding, follow the
    reference. Raises ImageError for other values.
    """
    unit = False
    if image.dtype != np.uint8:
        low, high = image.min(), image.max()
        whole = bool(np.allclose(image, image.astype(np.int64)))
        unit = not whole and low >= 0 and high <= 1
        if not unit and not (whole and low >= 0 and high <= 255):
            raise ImageError(
                f"an image has {image.dtype} values from {low} to {high}, which cannot be resized "
                "as 8-bit pixels; scale them to [0, 1] or to whole numbers from 0 to 255"
            )
        if unit:
            image = (image.astype(np.float64) * 255).astype(np.float32)
        image = image.astype(np.uint8)
    return image, unit


def to_planes(
    image: NDArray[Any],
    out: NDArray[np.float32],
    *,
    config: ProcessorConfig,
    unit: bool = False,
    fused: bool = False,
) -> None:
    """Write the picture (H, W, C), rescaled and normalised, into `out` (C, H, W) float32.

    Bytes take one pass: each channel is looked up in the 256 results of the reference's own
    arithmetic, so that speed costs no bit. `unit` says that byte 255 stands for 1.0; `fused` that
    mean and deviation are rescaled instead of the pixels.
    """
    channels = image.shape[-1]
    factor = config.rescale_factor if config.do_rescale else None
    mean, std = (config.image_mean, config.image_std) if config.do_normalize else (None, None)
    if image.dtype == np.uint8:
        table = _byte_table(channels, unit, factor, mean, std, fused)
        for channel in range(channels):
            # mode="clip" spares numpy a copy of `out`; a byte cannot leave the table.
            np.take(table[channel], image[..., channel], out=out[channel], mode="clip")
    else:
        scale = _scale_fused if fused else _scale
        out[...] = scale(np.moveaxis(image, -1, 0), factor, mean, std)


@functools.lru_cache(maxsize=32)
def _byte_table(
    channels: int,
    unit: bool,
    factor: float | None,
    mean: float | tuple[float, ...] | None,
    std: float | tuple[float, ...] | None,
    fused: bool,
) -> NDArray[np.float32]:
    values: NDArray[Any] = np.arange(256, dtype=np.uint8)
    if unit:
        values = (values.astype(np.float64) * (1 / 255)).astype(np.float32)
    planes = np.broadcast_to(values, (channels, 1, 256))
    scale = _scale_fused if fused else _scale
    return scale(planes, factor, mean, std).astype(np.float32)[:, 0]


def _scale(
    planes: NDArray[Any],
    factor: float | None,
    mean: float | tuple[float, ...] | None,
    std: float | tuple[float, ...] | None,
) -> NDArray[Any]:
    """(C, H, W) × factor, − mean, ÷ std, rounded where the reference rounds."""
    if factor is not None:
        planes = (planes.astype(np.float64) * factor).astype(np.float32)
    if mean is None or std is None:
        return planes
    if not np.issubdtype(planes.dtype, np.floating):
        planes = planes.astype(np.float32)
    mean_column, std_column = (
        np.reshape(np.asarray(values, dtype=planes.dtype), (-1, 1, 1)) for values in (mean, std)
    )
    return np.asarray((planes - mean_column) / std_column)


def _scale_fused(
    planes: NDArray[Any],
    factor: float | None,
    mean: float | tuple[float, ...] | None,
    std: float | tuple[float, ...] | None,
) -> NDArray[Any]:
    """The same in one step of float32: (x − mean ÷ factor) ÷ (std ÷ factor)."""
    planes = planes.astype(np.float32)
    if mean is None or std is None:
        return planes if factor is None else planes * np.float32(factor)
    shift, spread = (
        np.reshape(np.asarray(values, np.float32), (-1, 1, 1))
        * np.float32(1.0 if factor is None else 1.0 / factor)
        for values in (mean, std)
    )
    return np.asarray((planes - shift) / spread)


def _resize_bytes(
    image: NDArray[np.uint8], hw: tuple[int, int], resample: int
) -> NDArray[np.uint8]:
    size, method = hw[::-1], Image.Resampling(resample)
    if image.shape[-1] in (3, 4):
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size, method))
    planes = (np.ascontiguousarray(image[..., i]) for i in range(image.shape[-1]))
    return np.stack([np.asarray(Image.fromarray(p).resize(size, method)) for p in planes], axis=-1)


def channels_last(array: NDArray[Any], layout: str | None, num_channels: int) -> NDArray[Any]:
    """An array (H, W, C), whichever way its `layout` is; see to_hwc. Raises ImageError."""
    if array.ndim == 2:
        if layout in (None, "none"):
            return array[..., None]
        raise ImageError(
            f"an image has shape {array.shape}; input_data_format={layout!r} needs 3 axes"
        )
    if layout == "none":
        raise ImageError(f"an image has shape {array.shape}; input_data_format='none' needs 2 axes")
    if layout is None:
        allowed = {1, 3, 4, num_channels}
        first, last = array.shape[0] in allowed, array.shape[-1] in allowed
        if not first and not last:
            raise ImageError(
                f"an image has shape {array.shape}: neither end is {sorted(allowed)} channels; "
                "give input_data_format"
            )
        if first and last:
            logger.warning(
                "an image of shape %s could have its channels at either end; taking the first. "
                "Give input_data_format to say which",
                array.shape,
            )
        layout = "channels_first" if first else "channels_last"
    return np.moveaxis(array, 0, -1) if layout == "channels_first" else array


def _array_to_rgb(array: NDArray[Any]) -> NDArray[Any]:
    if array.shape[-1] == 1:
        return np.repeat(array, 3, axis=-1)
    if array.shape[-1] != 4:
        return array
    white = 1.0 if np.issubdtype(array.dtype, np.floating) and array.max() <= 1 else 255.0
    alpha = array[..., 3:] / white
    over_white = alpha * array[..., :3] + (1 - alpha) * white
    return (np.round(over_white) if white == 255 else over_white).astype(array.dtype)


def check_layout(name: str, value: Any, *, allowed: tuple[str, ...]) -> str:
    """`value`, a string or the reference's enum, as one of `allowed`, or a ConfigError."""
    text = getattr(value, "value", value)
    if text not in allowed:
        raise ConfigError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
    return str(text)


def _is_tensor(value: Any) -> TypeGuard[Any]:
    # Whoever passes a tensor has loaded torch; nobody else need wait for it.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)

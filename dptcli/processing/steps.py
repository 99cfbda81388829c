"""The processor's steps one at a time, under the reference's names: for recipes that mix them."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import ConfigError
from dptcli.processing import pixels
from dptcli.processing.config import check_size

_NOTHING = dict.fromkeys(
    ("do_resize", "do_rescale", "do_normalize", "do_pad", "do_reduce_labels", "do_convert_rgb"),
    False,
)


class _Processor(Protocol):
    def preprocess(self, images: Any, **parameters: Any) -> dict[str, Any]: ...
    def to_dict(self) -> dict[str, Any]: ...


class Steps:
    """One step of `preprocess` alone, for one image, with the numbers that it has there.

    Images are arrays, tensors or Pillow's. data_format: "channels_first" or "channels_last"; None
    keeps the image's own. input_data_format: None infers it. All give arrays and raise ConfigError
    and ImageError as `preprocess` does.
    """

    def resize(
        self: _Processor,
        image: Any,
        size: Any = None,
        *,
        keep_aspect_ratio: bool = False,
        ensure_multiple_of: float = 1,
        resample: Any = None,
        data_format: Any = None,
        input_data_format: Any = None,
    ) -> NDArray[Any]:
        """The image at `size` (its own parameter for None), rounded to `ensure_multiple_of`."""
        if size is not None and self.to_dict()["size"] is None:
            raise ConfigError(
                f"size is {size!r}, but this {type(self).__name__} keeps each image's own; set "
                "its size first"
            )
        wanted = {
            "do_resize": True,
            "size": size,
            "keep_aspect_ratio": keep_aspect_ratio,
            "ensure_multiple_of": ensure_multiple_of,
            "resample": resample,
        }
        return _alone(self, image, wanted, data_format, input_data_format)

    def rescale(
        self: _Processor,
        image: Any,
        scale: float,
        *,
        data_format: Any = None,
        input_data_format: Any = None,
    ) -> NDArray[Any]:
        """The image times `scale`, float32."""
        wanted = {"do_rescale": True, "rescale_factor": scale}
        return _alone(self, image, wanted, data_format, input_data_format)

    def normalize(
        self: _Processor,
        image: Any,
        mean: Any,
        std: Any,
        *,
        data_format: Any = None,
        input_data_format: Any = None,
    ) -> NDArray[Any]:
        """The image minus `mean`, over `std` (one number each, or one per channel), float32."""
        wanted = {"do_normalize": True, "image_mean": mean, "image_std": std}
        return _alone(self, image, wanted, data_format, input_data_format)

    def pad_image(
        self: _Processor,
        image: Any,
        size_divisor: int | None = None,
        *,
        data_format: Any = None,
        input_data_format: Any = None,
    ) -> NDArray[Any]:
        """The image with a margin of 0 (ZoeDepth: its reflection), centred.

        size_divisor: its sides become multiples of it; None takes the own parameter.
        """
        wanted = {"do_pad": True, "size_divisor": size_divisor}
        return _alone(self, image, wanted, data_format, input_data_format)

    def center_crop(
        self: _Processor,
        image: Any,
        size: Any,
        *,
        data_format: Any = None,
        input_data_format: Any = None,
    ) -> NDArray[Any]:
        """The middle of the image, `size` large; with a margin of 0 where it is smaller."""
        return _shaped(image, data_format, input_data_format, lambda planes: _middle(planes, size))


def _alone(
    processor: _Processor, image: Any, wanted: dict[str, Any], data_format: Any, layout: Any
) -> NDArray[Any]:
    def step(planes: NDArray[Any]) -> NDArray[Any]:
        parameters = {**_NOTHING, **wanted, "input_data_format": "channels_first"}
        [values] = processor.preprocess(planes, **parameters)["pixel_values"]
        return np.asarray(values)

    return _shaped(image, data_format, layout, step)


def _shaped(image: Any, data_format: Any, layout: Any, step: Any) -> NDArray[Any]:
    """A step on planes (C, H, W), its result in the wanted layout."""
    if layout is not None:
        layout = pixels.check_layout("input_data_format", layout, allowed=pixels.LAYOUTS)
    array = pixels.to_array(image)
    planes = np.moveaxis(pixels.channels_last(array, layout, 3), -1, 0)
    own = "channels_first" if array.ndim == 2 or planes.shape == array.shape else "channels_last"
    wanted = own if data_format is None else data_format
    wanted = pixels.check_layout("data_format", wanted, allowed=pixels.LAYOUTS[:2])
    result = step(planes)
    return np.moveaxis(result, 0, -1) if wanted == "channels_last" else np.asarray(result)


def _middle(planes: NDArray[Any], size: Any) -> NDArray[Any]:
    """(C, H, W) cut or padded to a size; an odd rest goes before the image, as in the reference."""
    height, width = check_size(size)
    rows, columns = planes.shape[-2:]
    above, before = (max(0, height - rows) + 1) // 2, (max(0, width - columns) + 1) // 2
    whole_hw = max(rows, height), max(columns, width)
    whole = np.zeros((len(planes), *whole_hw), planes.dtype)
    whole[:, above : above + rows, before : before + columns] = planes
    top, left = (rows - height) // 2 + above, (columns - width) // 2 + before
    return whole[:, top : top + height, left : left + width]

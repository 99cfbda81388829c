"""Label maps on their way to the loss, beside their images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import ImageError
from dptcli.processing import pixels
from dptcli.processing.config import ProcessorConfig

IGNORED_LABEL = 255
"""What label maps hold where there is no label: the losses' semantic_loss_ignore_index."""


def prepare_labels(
    labels: Any, image_hw: tuple[int, int], config: ProcessorConfig
) -> NDArray[np.int64]:
    """A label map (H, W) as the loss takes it: int64, the size and padding of its image.

    labels: integers or booleans, of any size that shows the whole image; without a resize it keeps
    its size. image_hw: the size of its image. Raises ImageError.
    """
    dtype = str(getattr(labels, "dtype", getattr(labels, "mode", "")))
    if dtype.endswith("bool") or dtype == "1":  # one class and the rest
        labels = np.asarray(labels, dtype=np.uint8)
    values = pixels.to_array(labels)
    if values.ndim != 2:
        raise ImageError(f"a segmentation map has shape {values.shape}; allowed: (H, W)")
    if not _same_aspect(values.shape, image_hw):
        raise ImageError(
            f"a segmentation map has shape {values.shape} for an image of {image_hw}; allowed: any "
            "size with the image's ratio of sides"
        )
    if values.size and not -(2**31) <= values.min() <= values.max() < 2**31:
        raise ImageError(
            f"a segmentation map has labels from {values.min()} to {values.max()}; "
            "allowed: those of 32 bits"
        )
    values = values.astype(np.int64)
    if config.do_reduce_labels:
        # 0 means "none of the classes"; the first class moves to 0.
        values = np.where((values == 0) | (values == IGNORED_LABEL), IGNORED_LABEL, values - 1)
    hw = config.resized_hw(image_hw) if config.do_resize else values.shape
    if hw != values.shape:
        values = resize_labels(values, hw)
    top, bottom, left, right = config.padding(hw)
    return np.pad(values, ((top, bottom), (left, right)), constant_values=IGNORED_LABEL)


def _same_aspect(hw: tuple[int, ...], image_hw: tuple[int, int]) -> bool:
    """Whether a map may show the same as an image: equal ratios, within a pixel of either."""
    cross = hw[0] * image_hw[1] - hw[1] * image_hw[0]
    return abs(cross) <= max(*hw, *image_hw)


def resize_labels(labels: NDArray[Any], hw: tuple[int, int]) -> NDArray[np.int64]:
    """A label map (H, W) at `hw`: each pixel the label of its nearest one, never a new class."""
    picture = Image.fromarray(np.ascontiguousarray(labels, dtype=np.int32))
    return np.asarray(picture.resize(hw[::-1], Image.Resampling.NEAREST)).astype(np.int64)

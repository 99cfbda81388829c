"""DepthAnything3ImageProcessor: the long side to 504, then each side to the nearest multiple of 14.

Two resizes of bytes, each by area where it shrinks and by a cubic where it grows, as OpenCV does
them; equal to OpenCV within one level of 255.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import ConfigError
from dptcli.model.families.original import IMAGENET
from dptcli.processing import pixels
from dptcli.processing.config import ProcessorConfig
from dptcli.processing.opencv import resize_area, resize_cubic
from dptcli.processing.processor import DPTImageProcessor, Prepared

METHODS = {"upper_bound_resize": max, "lower_bound_resize": min}
_TYPES = re.compile(r"DepthAnything3ImageProcessor(Fast|Pil)?")


class DepthAnything3ImageProcessor(DPTImageProcessor):
    """Depth Anything 3's image processor.

    size: what the long side becomes, or with `process_res_method` "lower_bound_resize" the short
    one; a pair means its larger or smaller number. ensure_multiple_of: of each side. The others
    are DPTImageProcessor's. Raises ConfigError for wrong values.
    """

    needs_whole: ClassVar[bool] = True

    def __init__(
        self,
        do_resize: bool = True,
        size: Any = 504,
        ensure_multiple_of: float = 14,
        process_res_method: str = "upper_bound_resize",
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        image_processor_type: str = "DepthAnything3ImageProcessor",
        **kwargs: Any,
    ) -> None:
        if not _TYPES.fullmatch(str(image_processor_type)):
            raise ConfigError(
                f"image_processor_type is {image_processor_type!r}; "
                "allowed: DepthAnything3ImageProcessor"
            )
        if process_res_method not in METHODS:
            raise ConfigError(
                f"process_res_method is {process_res_method!r}; allowed: {', '.join(METHODS)}"
            )
        super().__init__(
            do_resize=do_resize,
            size=504 if size is None else size,
            ensure_multiple_of=ensure_multiple_of,
            image_mean=IMAGENET["image_mean"] if image_mean is None else image_mean,
            image_std=IMAGENET["image_std"] if image_std is None else image_std,
            process_res_method=process_res_method,
            **{"keep_aspect_ratio": True, **kwargs},
        )

    def to_dict(self) -> dict[str, Any]:
        """Every parameter and the kept unknown keys, in the reference's spelling."""
        return {**super().to_dict(), "image_processor_type": "DepthAnything3ImageProcessor"}

    def network_hw(self, source_hw: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that the network sees for an image of `source_hw`."""
        return self._sizes(source_hw, self.config)[1]

    def _sizes(
        self, source_hw: tuple[int, int], config: ProcessorConfig
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """The sizes after the first and the second resize."""
        if not config.do_resize:
            return source_hw, source_hw
        side = METHODS[self.process_res_method]
        scale = side(config.size) / float(side(source_hw))
        height, width = (max(1, round(length * scale)) for length in source_hw)
        multiple = int(config.ensure_multiple_of)
        return (height, width), (_nearest(height, multiple), _nearest(width, multiple))

    def _prepare_picture(self, picture: Image.Image) -> Prepared:
        return self._prepare(np.asarray(picture), self.config)

    def _prepare(self, image: NDArray[Any], config: ProcessorConfig) -> Prepared:
        """(H, W, C) → planes at the network's size."""
        source_hw = image.shape[0], image.shape[1]
        first, hw = self._sizes(source_hw, config)
        unit = False
        if config.do_resize:
            image, unit = pixels.as_bytes(image)
            image = _resized(_resized(image, first), hw)
        planes = np.empty((image.shape[-1], *hw), np.float32)
        pixels.to_planes(image, planes, config=config, unit=unit)
        return Prepared(planes, source_hw, hw, (0, 0, 0, 0))


def _nearest(side: int, multiple: int) -> int:
    """The nearest multiple, the larger of two equally near; at least one."""
    return max(multiple, (side + multiple // 2) // multiple * multiple)


def _resized(image: NDArray[np.uint8], hw: tuple[int, int]) -> NDArray[np.uint8]:
    if image.shape[:2] == hw:
        return image
    grows = hw[0] > image.shape[0] or hw[1] > image.shape[1]
    return (resize_cubic if grows else resize_area)(image, hw)

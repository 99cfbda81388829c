"""VideoDepthAnythingImageProcessor: DPT's, with the authors' size for frames."""

import dataclasses
import re
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import ConfigError
from dptcli.processing.config import ProcessorConfig
from dptcli.processing.processor import DPTImageProcessor, Prepared

_TYPES = re.compile(r"VideoDepthAnythingImageProcessor(Fast|Pil)?")
# Frames longer than 16:9 are seen smaller, so that a window costs no more than one of 16:9.
_LONGEST, _LONGEST_SIDE = 1.78, 1.777


class VideoDepthAnythingImageProcessor(DPTImageProcessor):
    """Video Depth Anything's image processor: the authors' sizes, Pillow's resize.

    The parameters are those of DPTImageProcessor. With keep_aspect_ratio an image covers `size`, as
    tightly as it can, and one longer than 16:9 covers a size smaller by as much. Pillow averages
    where it shrinks, which the authors' resize does not: fine texture flickers less.
    Raises ConfigError for wrong values.
    """

    type_name = "VideoDepthAnythingImageProcessor"
    needs_whole: ClassVar[bool] = True

    def __init__(
        self,
        *args: Any,
        image_processor_type: str = "VideoDepthAnythingImageProcessor",
        **kwargs: Any,
    ) -> None:
        if not _TYPES.fullmatch(str(image_processor_type)):
            raise ConfigError(
                f"image_processor_type is {image_processor_type!r}; "
                "allowed: VideoDepthAnythingImageProcessor (Fast or Pil)"
            )
        super().__init__(*args, **kwargs)

    def network_hw(self, source_hw: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that the network sees for an image of `source_hw`, with padding."""
        config = _sized(self.config, source_hw)
        height, width = config.resized_hw(source_hw)
        top, bottom, left, right = config.padding((height, width))
        return height + top + bottom, width + left + right

    def _prepare_picture(self, picture: Image.Image) -> Prepared:
        source_hw = picture.height, picture.width
        hw = _sized(self.config, source_hw).resized_hw(source_hw)
        if hw != source_hw:
            picture = picture.resize(hw[::-1], Image.Resampling(self.config.resample))
        config = dataclasses.replace(self.config, do_resize=False)
        prepared = super()._prepare(np.asarray(picture), config)
        return dataclasses.replace(prepared, source_hw=source_hw)

    def _prepare(self, image: NDArray[Any], config: ProcessorConfig) -> Prepared:
        return super()._prepare(image, _sized(config, (image.shape[0], image.shape[1])))


def _sized(config: ProcessorConfig, source_hw: tuple[int, int]) -> ProcessorConfig:
    """A configuration that names the very size of an image of `source_hw`."""
    if not (config.do_resize and config.keep_aspect_ratio):
        return config
    multiple = int(max(config.ensure_multiple_of, 1))
    wanted = list(config.size)
    ratio = max(source_hw) / min(source_hw)
    if ratio > _LONGEST:
        shrunk = (int(side * _LONGEST_SIDE / ratio) for side in wanted)
        wanted = [max(multiple, round(side / multiple) * multiple) for side in shrunk]
    scale = max(side / own for side, own in zip(wanted, source_hw, strict=True))
    height, width = (
        _covering(scale * own, least, multiple)
        for own, least in zip(source_hw, wanted, strict=True)
    )
    return dataclasses.replace(config, size=(height, width), keep_aspect_ratio=False)


def _covering(side: float, least: int, multiple: int) -> int:
    """The nearest multiple, or the one above where that falls short of the least."""
    nearest = round(side / multiple) * multiple
    return nearest if nearest >= least else -(-least // multiple) * multiple

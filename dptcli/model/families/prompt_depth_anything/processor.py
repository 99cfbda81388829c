"""PromptDepthAnythingImageProcessor: DPT's, with the prompt beside the image."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import ConfigError
from dptcli.processing import pixels
from dptcli.processing.batch import BatchFeature, stack
from dptcli.processing.processor import DPTImageProcessor

_TYPES = re.compile(r"PromptDepthAnythingImageProcessor(Fast|Pil)?")
# What the reference adds to the first row of a prompt of one value, whose range would be 0.
_UNEVEN = 1e-6


class PromptDepthAnythingImageProcessor(DPTImageProcessor):
    """Prompt Depth Anything's image processor; equal to the reference's, Pillow backend.

    The parameters are those of DPTImageProcessor; prompt_scale_to_meter is what a prompt's values
    are multiplied by (0.001 for millimetres). Raises ConfigError for wrong values.
    """

    type_name = "PromptDepthAnythingImageProcessor"
    model_input_names = ("pixel_values", "prompt_depth")

    def __init__(
        self,
        *args: Any,
        prompt_scale_to_meter: float = 0.001,
        image_processor_type: str = "PromptDepthAnythingImageProcessor",
        **kwargs: Any,
    ) -> None:
        if not _TYPES.fullmatch(str(image_processor_type)):
            raise ConfigError(
                f"image_processor_type is {image_processor_type!r}; "
                "allowed: PromptDepthAnythingImageProcessor (Fast or Pil)"
            )
        scale = _checked(prompt_scale_to_meter)
        super().__init__(*args, **kwargs, prompt_scale_to_meter=scale)

    def preprocess(  # type: ignore[override]  # the reference's order
        self,
        images: Any,
        prompt_depth: Any = None,
        *,
        prompt_scale_to_meter: float | None = None,
        return_tensors: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Images and their prompts as the network takes them.

        prompt_depth: a depth map (h, w) for each image, of any size that shows all of it: Pillow
        images, arrays or tensors. Other arguments: see DPTImageProcessor.preprocess. Gives
        `pixel_values`, and `prompt_depth` float32 (1, h, w) in metres. As in the reference, a value
        of 0 is a depth; `dptcli.depth.complete` fills what a sensor has not measured.

        Raises ConfigError for wrong arguments and ImageError for what cannot be processed.
        """
        result = super().preprocess(images, return_tensors=return_tensors, **kwargs)
        if prompt_depth is None:
            return result
        wanted = prompt_scale_to_meter
        scale = _checked(self.prompt_scale_to_meter if wanted is None else wanted)
        maps = pixels.flatten_images(prompt_depth, image_ndim=2)
        if len(maps) != len(result["pixel_values"]):
            raise ConfigError(
                f"prompt_depth has {len(maps)} maps for {len(result['pixel_values'])} images"
            )
        kind = getattr(return_tensors, "value", return_tensors)
        prompts = [_metres(pixels.to_array(one), scale) for one in maps]
        result["prompt_depth"] = stack("prompt_depth", prompts, kind)
        return result

    def __call__(  # type: ignore[override]  # the reference's order
        self, images: Any, prompt_depth: Any = None, **kwargs: Any
    ) -> BatchFeature:
        """The same as `preprocess`."""
        return self.preprocess(images, prompt_depth, **kwargs)


def _metres(values: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """A prompt (h, w) in metres, float32 (1, h, w)."""
    depth = values * scale  # integers become float64, as in the reference
    if depth.min() == depth.max():
        depth[0] += _UNEVEN
    return depth[None].astype(np.float32)


def _checked(scale: Any) -> float:
    is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not is_number or not 0 < scale < float("inf"):
        raise ConfigError(f"prompt_scale_to_meter is {scale!r}; allowed: a number above 0")
    return float(scale)

"""DPTImageProcessor: from pictures to what the network takes, and from its outputs to maps.

Resize (by Pillow, on bytes) → rescale → normalise → centre padding, with the reference's numbers.
The parameters and the sizes live in config.py, the work on arrays in pixels.py.
"""

import dataclasses
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import ConfigError, ImageError
from dptcli.processing import pixels
from dptcli.processing.batch import BatchFeature, kind_of, stack
from dptcli.processing.config import DEFAULT_MAX_LONG_SIDE, Padding, ProcessorConfig
from dptcli.processing.labels import prepare_labels
from dptcli.processing.settings import Settings
from dptcli.processing.steps import Steps

if TYPE_CHECKING:
    import torch

    from dptcli.processing.postprocess import Mode

logger = logging.getLogger(__name__)

# How many times the network's size a picture has at least that was not read whole: a little less
# than 2, so that a camera's 3000 rows can be a quarter of themselves for a network that sees 384.
_GAP = 1.9


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """One picture ready for the network, and how it came to its size.

    `pixel_values` is float32 (3, H, W); sizes are (height, width) in pixels; `padding` is
    (top, bottom, left, right), so that `network_hw` = `resized_hw` + padding. With
    `pads_source` the picture was padded before it was resized, and its padding counts in its own
    pixels.
    """

    pixel_values: NDArray[np.float32]
    source_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    padding: Padding
    pads_source: bool = False

    @property
    def padded_hw(self) -> tuple[int, int]:
        """(height, width) of the picture with its padding, in the pixels that `padding` counts."""
        if not self.pads_source:
            return self.network_hw
        top, bottom, left, right = self.padding
        return self.source_hw[0] + top + bottom, self.source_hw[1] + left + right

    @property
    def network_hw(self) -> tuple[int, int]:
        """(height, width) of `pixel_values`."""
        return self.pixel_values.shape[1], self.pixel_values.shape[2]


class DPTImageProcessor(Steps, Settings):
    """The DPT family's image processor; equal to the reference's, Pillow backend, within 1e-6.

    The parameters are those of ProcessorConfig; `size` also comes as one number (square) or as
    {"height", "width"}. Unknown parameters are kept and written back. Parameters can be read and
    set as attributes. Raises ConfigError for wrong values.
    """

    type_name = "DPTImageProcessor"
    # How the network's depth is brought to a photograph's size, as its authors do it.
    depth_mode: ClassVar["Mode"] = "bicubic"
    # Whether rescaling and normalising are one step, as the reference's torchvision backend rounds.
    fuses_scaling: ClassVar[bool] = False
    # Whether a picture is resized otherwise than here, so that one read smaller does not do.
    needs_whole: ClassVar[bool] = False

    def __init__(
        self,
        do_resize: bool = True,
        size: Any = None,
        resample: int | str = 3,
        keep_aspect_ratio: bool = False,
        ensure_multiple_of: float = 1,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = True,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        do_pad: bool = False,
        size_divisor: int | None = None,
        max_long_side: int = DEFAULT_MAX_LONG_SIDE,
        **kwargs: Any,
    ) -> None:
        values = {
            "do_resize": do_resize,
            "size": size,
            "resample": resample,
            "keep_aspect_ratio": keep_aspect_ratio,
            "ensure_multiple_of": ensure_multiple_of,
            "do_rescale": do_rescale,
            "rescale_factor": rescale_factor,
            "do_normalize": do_normalize,
            "image_mean": image_mean,
            "image_std": image_std,
            "do_pad": do_pad,
            "size_divisor": size_divisor,
            "max_long_side": max_long_side,
        }
        super().__init__(**values | kwargs)

    def with_size(
        self,
        size: Any,
        *,
        keep_aspect_ratio: bool | None = None,
        multiple_of: int | None = None,
    ) -> Self:
        """A copy that resizes to `size` (a number, (height, width), a dict), even if it did not.

        `multiple_of` sets `ensure_multiple_of`, for instance to the model's patch size.
        """
        changes = {"keep_aspect_ratio": keep_aspect_ratio, "ensure_multiple_of": multiple_of}
        changes = {name: value for name, value in changes.items() if value is not None}
        return type(self)(**{**self.to_dict(), "do_resize": True, "size": size, **changes})

    def network_hw(self, source_hw: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that the network sees for an image of `source_hw`, with padding."""
        height, width = self.config.resized_hw(source_hw)
        top, bottom, left, right = self.config.padding((height, width))
        return height + top + bottom, width + left + right

    def prepare(
        self,
        rgb: NDArray[np.uint8] | Image.Image,
        *,
        source_hw: tuple[int, int] | None = None,
    ) -> Prepared:
        """One RGB picture, uint8 (H, W, 3) or Pillow's, as the network takes it.

        The numbers are those of `preprocess`. After Pillow's resize there is one pass over the
        pixels, straight into the (padded) planes. source_hw: its own size where it was read
        smaller, but `enough_hw` at least. Raises ImageError for a picture of another kind.
        """
        if isinstance(rgb, Image.Image):
            if rgb.mode != "RGB":
                raise ImageError(f"prepare takes pictures of mode RGB; got {rgb.mode}")
            if source_hw is None:
                return self._prepare_picture(rgb)
            return self._resized_by_pillow(rgb, source_hw)
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
            raise ImageError(
                f"an image of {rgb.dtype} and shape {rgb.shape} must be RGB, uint8 (height, width, "
                "3); give its file, or bring it there"
            )
        image = pixels.to_hwc(rgb, layout="channels_last", config=self.config)
        return self._prepare(image, self.config)

    def preprocess(
        self,
        images: Any,
        do_resize: bool | None = None,
        size: Any = None,
        keep_aspect_ratio: bool | None = None,
        ensure_multiple_of: int | None = None,
        resample: int | str | None = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_normalize: bool | None = None,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        do_pad: bool | None = None,
        size_divisor: int | None = None,
        return_tensors: Any = None,
        data_format: Any = "channels_first",
        input_data_format: Any = None,
        *,
        segmentation_maps: Any = None,
        do_reduce_labels: bool | None = None,
        do_convert_rgb: bool | None = None,
        max_long_side: int | None = None,
        **unknown: Any,
    ) -> BatchFeature:
        """Images, and label maps beside them, as the network and its loss take them.

        `images`: Pillow images, arrays or tensors (H, W, C), (C, H, W) or (H, W), uint8 or float, a
        batch of these, paths, addresses, or lists. `segmentation_maps`: label maps (H, W), no
        paths; they are resized to the nearest label, and padding holds 255. A parameter given here
        wins over the own one; one that no processor of this family has is passed over with a
        warning.

        Gives `pixel_values`, float32 (uint8 where nothing rescales or normalises), each
        (C, H, W) or, with `data_format="channels_last"`, (H, W, C); and `labels`, int64 (H, W).
        `return_tensors`: None for lists of arrays, "np" or "pt" for one batch.

        Raises ConfigError for wrong arguments (also for a batch of several shapes) and ImageError
        for pictures that cannot be processed. Source: the reference's preprocess.
        """
        arguments = locals()
        if unknown:
            logger.warning("preprocess: unknown %s", ", ".join(map(repr, unknown)))
        names = {field.name for field in dataclasses.fields(ProcessorConfig)}
        changes = {n: v for n, v in arguments.items() if n in names and v is not None}
        config = dataclasses.replace(self.config, **changes)
        kind = kind_of(return_tensors)
        data_format = pixels.check_layout("data_format", data_format, allowed=pixels.LAYOUTS[:2])
        if input_data_format is not None:
            input_data_format = pixels.check_layout(
                "input_data_format", input_data_format, allowed=pixels.LAYOUTS
            )

        sources = [
            pixels.to_hwc(
                image, layout=input_data_format, config=config, rgb_arrays=do_convert_rgb is True
            )
            for image in pixels.flatten_images(images)
        ]
        values = [self._pixel_values(source, config) for source in sources]
        if data_format == "channels_last":
            values = [np.ascontiguousarray(np.moveaxis(value, 0, -1)) for value in values]
        result = BatchFeature(pixel_values=stack("pixel_values", values, kind))
        if segmentation_maps is not None:
            maps = pixels.flatten_images(segmentation_maps, image_ndim=2)
            if len(maps) != len(sources):
                raise ConfigError(
                    f"segmentation_maps has {len(maps)} maps for {len(sources)} images"
                )
            labels = [
                prepare_labels(m, s.shape[:2], config) for m, s in zip(maps, sources, strict=True)
            ]
            result["labels"] = stack("labels", labels, kind)
        return result

    def enough_hw(self, source_hw: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) from which a picture of `source_hw` will do, if not for every bit."""
        if self.needs_whole:
            return source_hw
        height, width = self.config.resized_hw(source_hw)
        return math.ceil(_GAP * height), math.ceil(_GAP * width)

    def _prepare_picture(self, picture: Image.Image) -> Prepared:
        """As `_prepare`, but Pillow resizes its own picture: no array of all its pixels is made."""
        return self._resized_by_pillow(picture, (picture.height, picture.width))

    def _resized_by_pillow(self, picture: Image.Image, source_hw: tuple[int, int]) -> Prepared:
        hw = self.config.resized_hw(source_hw)
        if hw != (picture.height, picture.width):
            picture = picture.resize(hw[::-1], Image.Resampling(self.config.resample))
        config = dataclasses.replace(self.config, do_resize=False)
        image = pixels.to_hwc(np.asarray(picture), layout="channels_last", config=config)
        return dataclasses.replace(self._prepare(image, config), source_hw=source_hw)

    def _prepare(self, image: NDArray[Any], config: ProcessorConfig) -> Prepared:
        """(H, W, C) → resized, scaled and padded planes."""
        source_hw = image.shape[0], image.shape[1]
        resized_hw, unit = config.resized_hw(source_hw), False
        if config.do_resize:
            image, unit = pixels.resize(image, resized_hw, config.resample)
        top, bottom, left, right = padding = config.padding(resized_hw)
        height, width = resized_hw
        shape = (image.shape[-1], height + top + bottom, width + left + right)
        planes = (np.zeros if any(padding) else np.empty)(shape, dtype=np.float32)
        inner = planes[:, top : top + height, left : left + width]
        pixels.to_planes(image, inner, config=config, unit=unit, fused=self.fuses_scaling)
        return Prepared(planes, source_hw, resized_hw, padding)

    def _pixel_values(self, image: NDArray[Any], config: ProcessorConfig) -> NDArray[Any]:
        values = self._prepare(image, config).pixel_values
        # Untouched bytes stay bytes, as in the reference.
        untouched = image.dtype == np.uint8 and not config.do_rescale and not config.do_normalize
        return values.astype(np.uint8) if untouched else values

    def __call__(self, images: Any, segmentation_maps: Any = None, **kwargs: Any) -> BatchFeature:
        """The same as `preprocess`."""
        return self.preprocess(images, segmentation_maps=segmentation_maps, **kwargs)

    def post_process_semantic_segmentation(
        self, outputs: Any, target_sizes: Any = None, return_segmentation_scores: bool = False
    ) -> list[Any]:
        """Label maps, int64 (H, W), of `outputs.logits` (B, C, h, w): bilinear logits, then argmax.

        `target_sizes`: one (height, width) per image, or None to keep (h, w). The labels are the
        reference's; the memory is bounded. `return_segmentation_scores`: each is instead an object
        with the map as `segmentation` and the logits at its size as `segmentation_scores`, float
        (C, H, W), all of them in memory. Raises ConfigError where the numbers don't agree.
        """
        from dptcli.processing.postprocess import label_map, resize_logits

        logits = output_of(outputs, "logits")
        sizes = sizes_for(target_sizes, len(logits), tuple(logits.shape[-2:]))
        if not return_segmentation_scores:
            return [label_map(one, hw).long() for one, hw in zip(logits, sizes, strict=True)]
        scores = [resize_logits(one, hw) for one, hw in zip(logits, sizes, strict=True)]
        return [BatchFeature(segmentation=one.argmax(0), segmentation_scores=one) for one in scores]

    def post_process_depth_estimation(
        self, outputs: Any, target_sizes: Any = None
    ) -> list[dict[str, "torch.Tensor"]]:
        """Depth, {"predicted_depth": (H, W)}, of `outputs.predicted_depth` (B, h, w).

        `target_sizes`: one (height, width) per image, or None to keep (h, w); resized by the
        processor's `depth_mode`, bicubic where its family has no other. Bicubic overshoot is
        left in, as in the reference; so is what `do_pad` added, which the pipeline crops off
        (postprocess.crop_padding). Raises ConfigError where the numbers don't agree.
        """
        from dptcli.processing.postprocess import resize_depth

        depths = output_of(outputs, "predicted_depth")
        sizes = sizes_for(target_sizes, len(depths), tuple(depths.shape[-2:]))
        return [
            {"predicted_depth": resize_depth(one, hw, mode=self.depth_mode)}
            for one, hw in zip(depths, sizes, strict=True)
        ]


class DPTFeatureExtractor(DPTImageProcessor):
    """The old name of DPTImageProcessor; it warns, and is otherwise the same."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn(
            "DPTFeatureExtractor is the old name; use DPTImageProcessor",
            FutureWarning,
            stacklevel=2,
        )
        super().__init__(*args, **kwargs)


def output_of(outputs: Any, name: str) -> "torch.Tensor":
    """A model's output by name, whichever form it has. Raises ConfigError where it is absent."""
    value = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
    if value is None:
        raise ConfigError(
            f"outputs has no {name}; give the output object of the model for this task"
        )
    return value


def sizes_for(
    sizes: Any, count: int, own_hw: tuple[int, ...], *, name: str = "target_sizes"
) -> list[tuple[int, int]]:
    """One (height, width) for each of `count` predictions: `own_hw` for None, else `sizes`.

    Raises ConfigError, with the parameter's `name`, where the numbers don't agree.
    """
    if sizes is None:
        return [(own_hw[0], own_hw[1])] * count
    try:
        sizes = sizes.tolist() if hasattr(sizes, "tolist") else list(sizes)
        pairs = [(int(height), int(width)) for height, width in sizes]
    except (TypeError, ValueError):
        raise ConfigError(
            f"{name} is {sizes!r}; give a list of one (height, width) for each prediction"
        ) from None
    if len(pairs) != count:
        raise ConfigError(f"{name} has {len(pairs)} sizes for {count} predictions; give one each")
    return pairs

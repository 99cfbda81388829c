"""ZoeDepthImageProcessor: pads by reflection before it resizes, and cuts the padding off again.

Rescale → pad → resize (corners aligned, no antialiasing) → normalise, with the reference's numbers.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import ConfigError
from dptcli.processing.config import DEFAULT_MAX_LONG_SIDE, Padding, ProcessorConfig
from dptcli.processing.processor import DPTImageProcessor, Prepared, output_of, sizes_for

if TYPE_CHECKING:
    import torch

PADDING_FACTOR = 3  # the padding is this many times the root of half the side
MODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers -> torch's names
_TYPES = re.compile(r"ZoeDepthImageProcessor(Fast|Pil)?")


class ZoeDepthImageProcessor(DPTImageProcessor):
    """ZoeDepth's image processor; equal to the reference's within 1e-5.

    The parameters are those of DPTImageProcessor with other defaults; `do_pad` adds a reflection at
    each edge, and `resample` is 2 (bilinear) or 3 (bicubic). The reference's own default for
    `ensure_multiple_of` is 1/32; the published files say 32. Raises ConfigError for wrong values.
    """

    type_name = "ZoeDepthImageProcessor"
    needs_whole: ClassVar[bool] = True

    def __init__(
        self,
        do_pad: bool = True,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = True,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        do_resize: bool = True,
        size: Any = None,
        resample: int | None = None,
        keep_aspect_ratio: bool = True,
        ensure_multiple_of: float = 1 / 32,
        max_long_side: int = DEFAULT_MAX_LONG_SIDE,
        image_processor_type: str = "ZoeDepthImageProcessor",
        **kwargs: Any,
    ) -> None:
        if not _TYPES.fullmatch(str(image_processor_type)):
            raise ConfigError(
                f"image_processor_type is {image_processor_type!r}; "
                "allowed: ZoeDepthImageProcessor (Fast or Pil)"
            )
        super().__init__(
            do_pad=do_pad,
            do_rescale=do_rescale,
            rescale_factor=rescale_factor,
            do_normalize=do_normalize,
            image_mean=image_mean,
            image_std=image_std,
            do_resize=do_resize,
            size={"height": 384, "width": 512} if size is None else size,
            resample=2 if resample is None else resample,
            keep_aspect_ratio=keep_aspect_ratio,
            ensure_multiple_of=ensure_multiple_of,
            max_long_side=max_long_side,
            **kwargs,
        )
        _mode_of(self.config)

    def network_hw(self, source_hw: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that the network sees for an image of `source_hw`."""
        top, bottom, left, right = _padding(source_hw) if self.config.do_pad else (0, 0, 0, 0)
        return self.config.resized_hw((source_hw[0] + top + bottom, source_hw[1] + left + right))

    def _prepare_picture(self, picture: Image.Image) -> Prepared:
        return self._prepare(np.asarray(picture), self.config)

    def _prepare(self, image: NDArray[Any], config: ProcessorConfig) -> Prepared:
        """(H, W, C) → padded, resized and scaled planes."""
        source_hw = image.shape[0], image.shape[1]
        padding = _padding(source_hw) if config.do_pad else (0, 0, 0, 0)
        top, bottom, left, right = padding
        padded = np.pad(image, ((top, bottom), (left, right), (0, 0)), mode="reflect")
        hw = config.resized_hw((padded.shape[0], padded.shape[1]))
        planes = np.moveaxis(padded, -1, 0).astype(np.float32)
        if config.do_resize:
            planes = _resize(planes, hw, _mode_of(config))
        # Scaling after the resize, which is linear: fewer pixels, the same numbers.
        if config.do_rescale:
            planes = planes * np.float32(config.rescale_factor)
        if config.do_normalize:
            mean, std = (
                np.reshape(np.asarray(values, dtype=np.float32), (-1, 1, 1))
                for values in (config.image_mean, config.image_std)
            )
            planes = (planes - mean) / std
        return Prepared(np.ascontiguousarray(planes), source_hw, hw, padding, pads_source=True)

    def post_process_depth_estimation(  # type: ignore[override]  # the reference's order
        self,
        outputs: Any,
        source_sizes: Any = None,
        target_sizes: Any = None,
        outputs_flipped: Any = None,
        do_remove_padding: bool | None = None,
    ) -> list[dict[str, "torch.Tensor"]]:
        """Depth, {"predicted_depth": (H, W)} in metres, of `outputs.predicted_depth` (B, h, w).

        `source_sizes`, `target_sizes`: one (height, width) per image. Depths are brought to the
        padded source's size (bicubic), cut to the source, and resized to the target where there is
        one. `outputs_flipped`: the model's outputs for the mirrored images, to average with.
        `do_remove_padding`: None follows `do_pad`; without it, `source_sizes` may be None.

        Raises ConfigError where numbers don't agree or the sizes to cut to are missing.
        """
        from dptcli.processing.postprocess import crop_padding, resize_depth

        depths = output_of(outputs, "predicted_depth")
        if outputs_flipped is not None:
            mirrored = output_of(outputs_flipped, "predicted_depth")
            if mirrored.shape != depths.shape:
                raise ConfigError(
                    f"outputs_flipped has predicted_depth {tuple(mirrored.shape)}; "
                    f"allowed: the shape of outputs', {tuple(depths.shape)}"
                )
            depths = (depths + mirrored.flip(-1)) / 2
        removes = self.config.do_pad if do_remove_padding is None else do_remove_padding
        if source_sizes is None and removes:
            raise ConfigError(
                "source_sizes is None; give each image's (height, width) before preprocessing, "
                "or do_remove_padding=False"
            )
        own_hw = tuple(depths.shape[-2:])
        sources = sizes_for(source_sizes, len(depths), own_hw, name="source_sizes")
        results = []
        for depth, source_hw in zip(depths, sources, strict=True):
            padding = _padding(source_hw) if removes else (0, 0, 0, 0)
            top, bottom, left, right = padding
            padded_hw = source_hw[0] + top + bottom, source_hw[1] + left + right
            resized = resize_depth(depth, padded_hw)
            results.append(crop_padding(resized, padding=padding, network_hw=padded_hw))
        if target_sizes is not None:
            targets = sizes_for(target_sizes, len(depths), own_hw)
            results = [resize_depth(one, hw) for one, hw in zip(results, targets, strict=True)]
        return [{"predicted_depth": one} for one in results]


def _padding(source_hw: tuple[int, int]) -> Padding:
    """The reflection added at each edge: three times the root of half the side, cut to pixels."""
    rows, columns = (int(np.sqrt(side / 2) * PADDING_FACTOR) for side in source_hw)
    return rows, rows, columns, columns


def _mode_of(config: ProcessorConfig) -> str:
    if config.resample not in MODES:
        raise ConfigError(
            f"resample is {config.resample}; allowed for ZoeDepth: 2 (bilinear) or 3 (bicubic)"
        )
    return MODES[config.resample]


def _resize(planes: NDArray[Any], hw: tuple[int, int], mode: str) -> NDArray[np.float32]:
    """(C, H, W) at `hw`, the corners' pixels kept, without antialiasing: as it was trained."""
    import torch.nn.functional as F
    from torch import from_numpy

    resized: NDArray[np.float32] = F.interpolate(
        from_numpy(planes).unsqueeze(0), size=hw, mode=mode, align_corners=True
    )[0].numpy()
    return resized

"""Tipsv2DptImageProcessor: 448×448, from 0 to 1, resized bilinearly as torchvision does bytes."""

import re
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import ConfigError
from dptcli.processing import pixels
from dptcli.processing.config import ProcessorConfig
from dptcli.processing.processor import DPTImageProcessor, Prepared, output_of, sizes_for

if TYPE_CHECKING:
    import torch

    from dptcli.processing.postprocess import Mode

_TYPES = re.compile(r"Tipsv2(Dpt)?ImageProcessor(Fast|Pil)?")
_FILTERS = {2: "bilinear", 3: "bicubic"}


class Tipsv2DptImageProcessor(DPTImageProcessor):
    """TIPSv2-DPT's image processor; equal to the reference's.

    resample: 2 (bilinear) or 3 (bicubic), both antialiased. The parameters are those of
    DPTImageProcessor. Raises ConfigError for wrong values.
    """

    type_name = "Tipsv2DptImageProcessor"
    needs_whole: ClassVar[bool] = True
    depth_mode: ClassVar["Mode"] = "bilinear"
    fuses_scaling: ClassVar[bool] = True

    def __init__(
        self,
        size: Any = None,
        resample: int = 2,
        do_normalize: bool = False,
        image_processor_type: str = "Tipsv2DptImageProcessor",
        **kwargs: Any,
    ) -> None:
        if not _TYPES.fullmatch(str(image_processor_type)):
            raise ConfigError(
                f"image_processor_type is {image_processor_type!r}; allowed: "
                "Tipsv2DptImageProcessor or Tipsv2ImageProcessor"
            )
        if resample not in _FILTERS:
            raise ConfigError(f"resample is {resample!r}; allowed: 2 (bilinear) or 3 (bicubic)")
        super().__init__(
            size=448 if size is None else size,
            resample=resample,
            do_normalize=bool(do_normalize),
            **kwargs,
        )

    def _prepare_picture(self, picture: Image.Image) -> Prepared:
        return self._prepare(np.asarray(picture), self.config)

    def _prepare(self, image: NDArray[Any], config: ProcessorConfig) -> Prepared:
        """(H, W, C) → resized and scaled planes."""
        source_hw = image.shape[0], image.shape[1]
        hw, unit = config.resized_hw(source_hw), False
        if config.do_resize:
            image, unit = pixels.as_bytes(image)
            image = image if hw == source_hw else _resized(image, hw, _FILTERS[config.resample])
        planes = np.empty((image.shape[-1], *hw), np.float32)
        pixels.to_planes(image, planes, config=config, unit=unit, fused=True)
        return Prepared(planes, source_hw, hw, (0, 0, 0, 0))

    def post_process_normal_estimation(
        self, outputs: Any, target_sizes: Any = None
    ) -> list[dict[str, "torch.Tensor"]]:
        """Normals, {"normals": (3, H, W)}, of `outputs.normals` (B, 3, h, w): unit, then bilinear.

        `target_sizes`: one (height, width) per image, or None to keep (h, w). Raises ConfigError
        where the numbers don't agree.
        """
        import torch.nn.functional as F

        normals = F.normalize(output_of(outputs, "normals"), dim=1)
        sizes = sizes_for(target_sizes, len(normals), tuple(normals.shape[-2:]))
        return [
            {"normals": F.interpolate(one[None], hw, mode="bilinear")[0]}
            for one, hw in zip(normals, sizes, strict=True)
        ]


def _resized(image: NDArray[np.uint8], hw: tuple[int, int], mode: str) -> NDArray[np.uint8]:
    """(H, W, C) at `hw`, antialiased, by the kernel for bytes that torchvision calls too."""
    import torch
    import torch.nn.functional as F

    planes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))[None]
    resized = F.interpolate(planes, hw, mode=mode, antialias=True, align_corners=False)
    return np.moveaxis(resized[0].numpy(), 0, -1)

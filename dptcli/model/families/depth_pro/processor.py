"""DepthProImageProcessor: scales and normalises, then resizes to a square without antialiasing."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import ConfigError
from dptcli.processing.config import DEFAULT_MAX_LONG_SIDE, ProcessorConfig
from dptcli.processing.processor import DPTImageProcessor, Prepared, output_of, sizes_for

if TYPE_CHECKING:
    import torch

MODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers -> torch's names
_TYPES = re.compile(r"DepthProImageProcessor(Fast|Pil)?")
_HALF = (0.5, 0.5, 0.5)


class DepthProImageProcessor(DPTImageProcessor):
    """Depth Pro's image processor; its pixels are the reference's bit for bit.

    The parameters are those of DPTImageProcessor with other defaults; `resample` is 0 (nearest), 2
    (bilinear) or 3 (bicubic). Raises ConfigError for wrong values.
    """

    type_name = "DepthProImageProcessor"
    needs_whole: ClassVar[bool] = True

    def __init__(
        self,
        do_resize: bool = True,
        size: Any = None,
        resample: int | None = None,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = True,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        max_long_side: int = DEFAULT_MAX_LONG_SIDE,
        image_processor_type: str = "DepthProImageProcessor",
        **kwargs: Any,
    ) -> None:
        if not _TYPES.fullmatch(str(image_processor_type)):
            raise ConfigError(
                f"image_processor_type is {image_processor_type!r}; "
                "allowed: DepthProImageProcessor (Fast or Pil)"
            )
        super().__init__(
            do_resize=do_resize,
            size={"height": 1536, "width": 1536} if size is None else size,
            resample=2 if resample is None else resample,
            do_rescale=do_rescale,
            rescale_factor=rescale_factor,
            do_normalize=do_normalize,
            image_mean=_HALF if image_mean is None else image_mean,
            image_std=_HALF if image_std is None else image_std,
            max_long_side=max_long_side,
            **{"keep_aspect_ratio": False, **kwargs},
        )
        if self.config.resample not in MODES:
            raise ConfigError(
                f"resample is {self.config.resample}; allowed for Depth Pro: 0, 2 or 3"
            )

    def _prepare_picture(self, picture: Image.Image) -> Prepared:
        return self._prepare(np.asarray(picture), self.config)

    def _prepare(self, image: NDArray[Any], config: ProcessorConfig) -> Prepared:
        """(H, W, C) → planes, scaled and normalised and then resized: in this order."""
        import torch
        import torch.nn.functional as F

        source_hw = image.shape[0], image.shape[1]
        planes = torch.from_numpy(np.moveaxis(image, -1, 0).astype(np.float32))
        if config.do_normalize:
            by = 1.0 / config.rescale_factor if config.do_rescale else 1.0
            mean, std = (
                (torch.tensor(values) * by).reshape(-1, 1, 1)
                for values in (config.image_mean, config.image_std)
            )
            planes = planes.sub_(mean).div_(std)
        elif config.do_rescale:
            planes = planes * config.rescale_factor
        hw = config.resized_hw(source_hw)
        if config.do_resize:
            mode = MODES[config.resample]
            corners = None if mode == "nearest" else False
            planes = F.interpolate(planes[None], size=hw, mode=mode, align_corners=corners)[0]
        return Prepared(np.ascontiguousarray(planes.numpy()), source_hw, hw, (0, 0, 0, 0))

    def post_process_depth_estimation(  # type: ignore[override]  # the reference's keys
        self, outputs: Any, target_sizes: Any = None
    ) -> list[dict[str, "torch.Tensor | None"]]:
        """Depth in metres of `outputs.predicted_depth` (B, h, w), with the camera.

        target_sizes: one (height, width) per image. With it {"predicted_depth": (H, W),
        "field_of_view": degrees, "focal_length": in pixels of the target}; without, depth stays the
        canonical camera's, and the focal length is None. Raises ConfigError where numbers differ.
        """
        import torch
        import torch.nn.functional as F

        depths = output_of(outputs, "predicted_depth")
        fovs = outputs.get("field_of_view") if hasattr(outputs, "get") else outputs.field_of_view
        targets: list[tuple[int, int] | None] = [None] * len(depths)
        if target_sizes is not None:
            own_hw = tuple(depths.shape[-2:])
            targets = list(sizes_for(target_sizes, len(depths), own_hw))
        results: list[dict[str, torch.Tensor | None]] = []
        for index, (inverse, hw) in enumerate(zip(depths, targets, strict=True)):
            fov_deg = None if fovs is None else fovs[index]
            focal = None
            if hw is not None:
                if fov_deg is not None:
                    focal = 0.5 * hw[1] / torch.tan(0.5 * torch.deg2rad(fov_deg))
                    inverse = inverse * hw[1] / focal
                inverse = F.interpolate(inverse[None, None], size=hw, mode=MODES[self.resample])
                inverse = inverse[0, 0]
            results.append(
                {
                    "predicted_depth": 1.0 / inverse.clamp(1e-4, 1e4),
                    "field_of_view": fov_deg,
                    "focal_length": focal,
                }
            )
        return results

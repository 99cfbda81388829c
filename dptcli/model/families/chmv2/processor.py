"""CHMv2ImageProcessor: a photograph from above at its own size, padded to whole patches."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dptcli.errors import ConfigError
from dptcli.processing.processor import DPTImageProcessor

if TYPE_CHECKING:
    from dptcli.processing.postprocess import Mode

MEAN, STD = (0.420, 0.411, 0.296), (0.213, 0.156, 0.143)
_TYPES = re.compile(r"CHMv2ImageProcessor(Fast|Pil)?")


class CHMv2ImageProcessor(DPTImageProcessor):
    """CHMv2's image processor; equal to the reference's, which never resizes unless it is told to.

    The parameters are those of DPTImageProcessor. Raises ConfigError for wrong values.
    """

    type_name = "CHMv2ImageProcessor"
    depth_mode: ClassVar["Mode"] = "corners"
    fuses_scaling: ClassVar[bool] = True

    def __init__(
        self,
        do_resize: bool = False,
        size: Any = None,
        keep_aspect_ratio: bool = True,
        ensure_multiple_of: float = 16,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        do_pad: bool = True,
        size_divisor: int | None = 16,
        image_processor_type: str = "CHMv2ImageProcessor",
        **kwargs: Any,
    ) -> None:
        if not _TYPES.fullmatch(str(image_processor_type)):
            raise ConfigError(
                f"image_processor_type is {image_processor_type!r}; allowed: CHMv2ImageProcessor"
            )
        super().__init__(
            do_resize=do_resize,
            size=size,
            keep_aspect_ratio=keep_aspect_ratio,
            ensure_multiple_of=ensure_multiple_of,
            image_mean=MEAN if image_mean is None else image_mean,
            image_std=STD if image_std is None else image_std,
            do_pad=do_pad,
            size_divisor=size_divisor,
            **kwargs,
        )

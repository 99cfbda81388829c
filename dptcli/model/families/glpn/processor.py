"""GLPNImageProcessor: the photograph at its own size, its sides cut to multiples of 32."""

import dataclasses
import logging
import re
from typing import Any

from dptcli.errors import ConfigError
from dptcli.processing.config import DEFAULT_MAX_LONG_SIDE, ProcessorConfig
from dptcli.processing.processor import DPTImageProcessor

logger = logging.getLogger(__name__)

TRAINED_SIZE = {"height": 480, "width": 640}  # of NYU's photographs
_TYPES = re.compile(r"GLPN(ImageProcessor(Fast|Pil)?|FeatureExtractor)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnSizeConfig(ProcessorConfig):
    """Resizes to the multiples of `ensure_multiple_of` below the picture's own sides, or one."""

    def to_dict(self) -> dict[str, Any]:
        """The parameters as JSON values; no size, which is the picture's."""
        return {**super().to_dict(), "size": None}

    def resized_hw(self, source_hw: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) after the resize; one beyond `max_long_side` is brought back to it.

        Source: the reference, which has no upper bound and fails below one multiple.
        """
        if not self.do_resize:
            return source_hw
        multiple, limit = int(self.ensure_multiple_of), self.max_long_side
        shrink = min(1.0, limit / max(source_hw)) if limit else 1.0
        height, width = (
            max(multiple, int(side * shrink) // multiple * multiple) for side in source_hw
        )
        if shrink < 1:
            logger.warning(
                "an image of %d×%d would be seen as it is; max_long_side=%d makes it %d×%d",
                *(*source_hw, limit, height, width),
            )
        return height, width


class GLPNImageProcessor(DPTImageProcessor):
    """GLPN's image processor; equal to the reference's, Pillow backend.

    size_divisor: the sides become multiples of it, rounded down. size: None keeps the picture's own
    size otherwise; with one, the other parameters are those of DPTImageProcessor. Raises
    ConfigError for wrong values.
    """

    type_name = "GLPNImageProcessor"

    def __init__(
        self,
        do_resize: bool = True,
        size_divisor: int = 32,
        resample: int | None = None,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        size: Any = None,
        keep_aspect_ratio: bool = True,
        ensure_multiple_of: int | None = None,
        do_normalize: bool | None = None,
        max_long_side: int = DEFAULT_MAX_LONG_SIDE,
        image_processor_type: str = "GLPNImageProcessor",
        feature_extractor_type: str | None = None,
        **kwargs: Any,
    ) -> None:
        for kind in (image_processor_type, feature_extractor_type):
            if kind is not None and not _TYPES.fullmatch(str(kind)):
                raise ConfigError(
                    f"image_processor_type is {kind!r}; allowed: GLPNImageProcessor (Fast or Pil) "
                    "or GLPNFeatureExtractor"
                )
        super().__init__(
            do_resize=do_resize,
            size_divisor=size_divisor,
            resample=2 if resample is None else resample,
            do_rescale=do_rescale,
            rescale_factor=rescale_factor,
            size=TRAINED_SIZE if size is None else size,
            keep_aspect_ratio=keep_aspect_ratio,
            ensure_multiple_of=size_divisor if ensure_multiple_of is None else ensure_multiple_of,
            do_normalize=bool(do_normalize),
            max_long_side=max_long_side,
            **kwargs,
        )
        if size is None:
            self.__dict__["_config"] = OwnSizeConfig(**_values_of(self.config))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "size" and isinstance(self.config, OwnSizeConfig):
            self.__dict__["_config"] = ProcessorConfig(**_values_of(self.config))
        super().__setattr__(name, value)


def _values_of(config: ProcessorConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}

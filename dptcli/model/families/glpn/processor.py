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
            values = {f.name: getattr(self.config, f.name) for f in dataclasses.fields(self.config)}
            self.__dict__["config"] = OwnSizeConfig(**values)

    def to_dict(self) -> dict[str, Any]:
        """Every parameter and the kept unknown keys, in the reference's spelling."""
        values = {**super().to_dict(), "image_processor_type": "GLPNImageProcessor"}
        if isinstance(self.config, OwnSizeConfig):
            values["size"] = None
        return values

"""AutoImageProcessor: from a file's `image_processor_type` to the processor."""

import os
from typing import Any

from dptcli.model.families.zoedepth.processor import ZoeDepthImageProcessor
from dptcli.processing.processor import DPTImageProcessor, read_settings


class AutoImageProcessor:
    """Chooses the processor class by its file, as the reference's class of that name."""

    def __init__(self) -> None:
        raise TypeError("AutoImageProcessor is not built itself: use from_pretrained")

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str], **overrides: Any
    ) -> DPTImageProcessor | ZoeDepthImageProcessor:
        """Read a folder's preprocessor_config.json; see DPTImageProcessor.from_pretrained."""
        _, values = read_settings(source)
        kind = str(values.get("image_processor_type", values.get("feature_extractor_type", "")))
        processor = ZoeDepthImageProcessor if kind.startswith("ZoeDepth") else DPTImageProcessor
        return processor.from_pretrained(source, **overrides)

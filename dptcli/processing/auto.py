"""AutoImageProcessor: from a file's `image_processor_type` to the processor."""

import os
from typing import Any

from dptcli.model.access import split_access
from dptcli.model.families import families
from dptcli.processing.processor import DPTImageProcessor
from dptcli.processing.settings import read_settings


class AutoImageProcessor:
    """Chooses the processor class by its file, as the reference's class of that name."""

    def __init__(self) -> None:
        raise TypeError("AutoImageProcessor is not built itself: use from_pretrained")

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **overrides: Any
    ) -> DPTImageProcessor:
        """Read a folder's preprocessor_config.json; see DPTImageProcessor.from_pretrained."""
        source = pretrained_model_name_or_path
        access, _ = split_access(overrides)
        _, values = read_settings(source, access)
        wanted = str(values.get("image_processor_type", values.get("feature_extractor_type", "")))
        for family in families():
            if family.processor is None:
                continue
            # The reference adds Fast or Pil to the name, and once called it a feature extractor.
            older = family.processor.replace("ImageProcessor", "FeatureExtractor")
            if wanted.startswith((family.processor, older)):
                processor: type[DPTImageProcessor] = family.processor_class()
                return processor.from_pretrained(source, **overrides)
        return DPTImageProcessor.from_pretrained(source, **overrides)

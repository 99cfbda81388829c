"""The image processor: that of Depth Anything 3's networks for one photograph."""

from dptcli.model.families.depth_anything_3.processor import (
    DepthAnything3ImageProcessor as DepthAnything3ImageProcessor,
)

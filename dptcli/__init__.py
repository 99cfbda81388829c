"""dpt: depth and segmentation with Dense Prediction Transformers."""

__version__ = "0.1.0"

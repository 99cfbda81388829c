"""Depth Anything, versions 1 and 2: DINOv2, a DPT neck, a head for depth."""

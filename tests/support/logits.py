"""Logits of several kinds."""

import torch
import torch.nn.functional as F


def draw_logits(kind, shape, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator)
    if kind == "ties":
        # Few distinct values: many pixels where several classes are exactly equal.
        return logits.round()
    if kind == "regions":
        # Like a real prediction: a few classes lead, each in its own part.
        return logits * 0.1 + 8 * F.interpolate(
            torch.randn((1, shape[0], 3, 3), generator=generator), size=shape[1:], mode="bicubic"
        ).squeeze(0)
    if kind == "large":
        return logits * 1e4 + 1e4
    if kind == "near":
        # Classes a rounding apart: any other arithmetic would show.
        return 1 + logits * 1e-6
    return logits

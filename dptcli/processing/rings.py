"""Maps continued beyond what is known of them, ring by ring."""

import torch
import torch.nn.functional as F


def grow(
    values: torch.Tensor, known: torch.Tensor, rings: int, *, within: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Continue a map (H, W), known where the bool (H, W) says so, by that many rings of pixels.

    Each pixel of a ring becomes the mean of those of its eight neighbours that are known by then.
    within: bool (H, W), where it may grow; everywhere without. Returns the map, float32, 0 where
    nothing is known, and where it is known now.
    """
    filled = torch.where(known, values.float(), 0)[None, None]
    is_known = known.float()[None, None]
    for _ in range(rings):
        total, count = (
            F.avg_pool2d(maps, 3, stride=1, padding=1, divisor_override=1)
            for maps in (filled, is_known)
        )
        ring = (is_known == 0) & (count > 0)
        if within is not None:
            ring &= within
        filled = torch.where(ring, total / count.clamp(min=1), filled)
        is_known = torch.where(ring, 1, is_known)
    return filled[0, 0], is_known[0, 0] > 0

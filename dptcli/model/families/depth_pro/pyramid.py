"""The pyramid of patches (Bochkovskii et al. 2024, section 3.1): cut, encoded, joined again.

B batch, C channels of the input, D width of the encoders, p side of a patch, g its tokens along a
side, S×S patches of a level. Patches of one place stand together: all images' first ones first.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.errors import ShapeError
from dptcli.model.backbones.auto import AutoBackbone
from dptcli.model.backbones.base import Backbone
from dptcli.model.backbones.plain_config import Dinov2Config
from dptcli.model.base_config import Config
from dptcli.model.families.depth_pro.config import DepthProConfig
from dptcli.model.layers import Features

PATCHES_AT_ONCE = 8
"""What the patch encoder sees at once: enough for its products to be large, and memory is bounded
whatever the pyramid."""


class PatchEncoder(nn.Module):
    """One DINOv2 over every patch of every level."""

    def __init__(self, config: DepthProConfig) -> None:
        super().__init__()
        self.patch_size, self.grid = config.patch_size, config.grid
        self.ratios = list(config.scaled_images_ratios)
        self.overlaps = list(config.scaled_images_overlap_ratios)
        self.padding = config.merge_padding_value
        encoder = config.patch_model_config
        assert isinstance(encoder, Dinov2Config)
        # Stage 0 is the stem.
        self.hooks = [hook + 1 for hook in config.intermediate_hook_ids]
        self.last = encoder.num_hidden_layers
        self.stages = sorted({*self.hooks, self.last})
        self.model = encoder_of(encoder, stages=self.stages, normed=False)

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """(B, C, H, H) -> maps (B, D, ·, ·): of each level, small to large, then of each hook.

        Each level's map is twice as large as the one before; a hook's is as large as the last's.
        """
        batch, side = len(pixel_values), pixel_values.shape[-1]
        levels = [
            cut(scaled(pixel_values, ratio), self.patch_size, overlap)
            for ratio, overlap in zip(self.ratios, self.overlaps, strict=True)
        ]
        counts = [len(level) for level in levels]
        patches = torch.cat(levels[::-1])  # the largest level first
        # The hooks' maps are of the largest square of patches that the first ones make.
        num_hooked = batch * math.isqrt(len(patches) // batch) ** 2
        ends, hooked = self._encoded(patches, num_hooked)
        base = side >> int(math.log2(side / self.grid))
        maps = []
        encoded = torch.split(ends, counts[::-1])[::-1]
        for index, (tokens, ratio) in enumerate(zip(encoded, self.ratios, strict=True)):
            joined = join(tokens, batch, padding=int(self.padding / ratio))
            maps.append(resized(joined, base << index))
        size, padding = base << (len(self.ratios) - 1), int(self.padding / self.ratios[-1])
        hooks = (resized(join(tokens, batch, padding=padding), size) for tokens in hooked)
        return [*maps, *hooks]

    def _encoded(self, patches: Tensor, num_hooked: int) -> tuple[Tensor, list[Tensor]]:
        """Patches (N, C, p, p) -> their maps (N, D, g, g), and of the first ones each hook's."""
        ends = []
        hooked: list[list[Tensor]] = [[] for _ in self.hooks]
        for start in range(0, len(patches), PATCHES_AT_ONCE):
            part = patches[start : start + PATCHES_AT_ONCE]
            found = self.model.features(part).maps
            by_stage = dict(zip(self.stages, (feature.map for feature in found), strict=True))
            ends.append(normed(self.model, by_stage[self.last]))
            for kept, stage in zip(hooked, self.hooks, strict=True):
                if start < num_hooked:
                    kept.append(by_stage[stage][: num_hooked - start])
        return torch.cat(ends), [torch.cat(kept) for kept in hooked]


class ImageEncoder(nn.Module):
    """A DINOv2 over the whole image, as small as a patch."""

    def __init__(self, config: DepthProConfig, encoder: Config) -> None:
        super().__init__()
        self.patch_size, self.grid = config.patch_size, config.grid
        assert isinstance(encoder, Dinov2Config)
        self.model = encoder_of(encoder, stages=[encoder.num_hidden_layers], normed=True)

    def features(
        self, pixel_values: Tensor, *, need_weights: bool = False, need_states: bool = False
    ) -> Features:
        """(B, C, H, H) -> one map (B, D, g, g), and what is asked for."""
        small = resized(pixel_values, self.patch_size)
        return self.model.features(small, need_weights=need_weights, need_states=need_states)

    def as_coarse(self, x: Tensor, side: int) -> Tensor:
        """(B, ·, g, g) of an image of `side` -> the size of the smallest level's map."""
        return resized(x, side >> int(math.log2(side / self.grid)))


def encoder_of(config: Dinov2Config, *, stages: Sequence[int], normed: bool) -> Backbone:
    """A DINOv2 that hands out the maps of some stages, behind its last norm or not."""
    values = {**config.to_dict(), "out_features": None, "stage_names": None}
    values |= {"out_indices": list(stages), "apply_layernorm": normed}
    return AutoBackbone.from_config(values)


def normed(encoder: Backbone, x: Tensor) -> Tensor:
    """The encoder's last norm, of a map (N, D, g, g)."""
    norm: nn.Module = encoder.get_submodule("layernorm")
    found: Tensor = norm(x.permute(0, 2, 3, 1))
    return found.permute(0, 3, 1, 2)


def check_side(pixel_values: Tensor, config: DepthProConfig) -> None:
    """Raise ShapeError for an image that is not square, or too small for the pyramid."""
    height, width = pixel_values.shape[-2:]
    if height != width or height < config.min_side:
        raise ShapeError(
            f"pixel_values is {height}x{width}; a Depth Pro sees squares of at least "
            f"{config.min_side}x{config.min_side}: take --size {config.min_side}, and tiles no "
            "smaller"
        )


def scaled(x: Tensor, ratio: float) -> Tensor:
    """An image (B, C, H, H) at a level of the pyramid."""
    if ratio == 1:
        return x
    return F.interpolate(x, scale_factor=ratio, mode="bilinear", align_corners=False)


def resized(x: Tensor, side: int) -> Tensor:
    """A map (B, ·, h, h) at another size."""
    if x.shape[-1] == side and x.shape[-2] == side:
        return x
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


def cut(x: Tensor, side: int, overlap: float) -> Tensor:
    """(B, C, H, H) -> patches (S·S·B, C, p, p), row by row, all images' of a place together."""
    if x.shape[-1] == side:
        return x
    stride = int(side * (1 - overlap))
    patches = x.unfold(2, side, stride).unfold(3, side, stride)  # (B, C, S, S, p, p)
    return patches.permute(2, 3, 0, 1, 4, 5).reshape(-1, x.shape[1], side, side)


def join(patches: Tensor, batch: int, *, padding: int) -> Tensor:
    """Patches' maps (S·S·B, D, g, g), in the order of `cut` -> one map (B, D, ·, ·).

    padding: rows and columns that each patch loses at its inner edges, a quarter of it at most.
    """
    count = len(patches) // batch
    if count == 1:
        return patches
    side, grid = math.isqrt(count), patches.shape[-1]
    padding = 0 if count < 4 else min(grid // 4, padding)
    rows = []
    for y in range(side):
        row = []
        for x in range(side):
            place = (y * side + x) * batch
            top, left = padding * (y > 0), padding * (x > 0)
            bottom, right = grid - padding * (y < side - 1), grid - padding * (x < side - 1)
            row.append(patches[place : place + batch, :, top:bottom, left:right])
        rows.append(torch.cat(row, dim=-1))
    return torch.cat(rows, dim=-2)

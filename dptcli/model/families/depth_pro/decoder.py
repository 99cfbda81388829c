"""Depth Pro's decoder: maps of the pyramid grown by deconvolutions and fused, coarse to fine.

B batch, D width of the encoders, C channels of the fused maps, h a map's side.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from dptcli.model.backbones.plain_config import Dinov2Config
from dptcli.model.families.depth_pro.config import DepthProConfig
from dptcli.model.heads import Head
from dptcli.model.neck import ResidualConvUnit


def deconv(inputs: int, outputs: int, *, bias: bool = False) -> nn.ConvTranspose2d:
    """A map twice as large."""
    return nn.ConvTranspose2d(inputs, outputs, kernel_size=2, stride=2, bias=bias)


class UpsampleBlock(nn.Module):
    """A projection, where there is one, and deconvolutions."""

    def __init__(
        self, width: int, inner: int, channels: int, *, count: int, projects: bool, bias: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if projects:
            layers.append(nn.Conv2d(width, inner, kernel_size=1, bias=bias))
        widths = [inner, *[channels] * count]
        layers += [deconv(width, channels, bias=bias) for width in widths[:count]]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, h) -> (B, ·, h·2ⁿ, h·2ⁿ) by n deconvolutions."""
        return self.layers(x)


class FeatureUpsample(nn.Module):
    """A block for the whole image's map, for each level's and for each hook's."""

    def __init__(self, config: DepthProConfig) -> None:
        super().__init__()
        image, patch = config.image_model_config, config.patch_model_config
        assert isinstance(image, Dinov2Config)
        assert isinstance(patch, Dinov2Config)
        first = config.scaled_images_feature_dims[0]
        self.image_block = UpsampleBlock(
            image.hidden_size, image.hidden_size, first, count=1, projects=False, bias=True
        )
        self.scaled_images = nn.ModuleList(
            UpsampleBlock(patch.hidden_size, dim, dim, count=1, projects=True, bias=False)
            for dim in config.scaled_images_feature_dims
        )
        self.intermediate = nn.ModuleList()
        for index, dim in enumerate(config.intermediate_feature_dims):
            inner = config.fusion_hidden_size if index == 0 else dim
            self.intermediate.append(
                UpsampleBlock(
                    patch.hidden_size, inner, dim, count=2 + index, projects=True, bias=False
                )
            )


class FeatureProjection(nn.Module):
    """Every map to the width of the fusion; the last needs none where it has it already."""

    def __init__(self, config: DepthProConfig) -> None:
        super().__init__()
        width = config.fusion_hidden_size
        dims = [*config.scaled_images_feature_dims, *config.intermediate_feature_dims]
        self.projections = nn.ModuleList(
            nn.Conv2d(dim, width, kernel_size=3, padding=1, bias=False) for dim in dims
        )
        if dims[-1] == width:
            self.projections[-1] = nn.Identity()


class DepthProNeck(nn.Module):
    """The encoders' maps as the fusion takes them."""

    def __init__(self, config: DepthProConfig) -> None:
        super().__init__()
        first = config.scaled_images_feature_dims[0]
        self.feature_upsample = FeatureUpsample(config)
        self.fuse_image_with_low_res = nn.Conv2d(2 * first, first, kernel_size=1)
        self.feature_projection = FeatureProjection(config)

    def forward(self, image: Tensor, maps: Sequence[Tensor]) -> Iterator[Tensor]:
        """The image's map and the pyramid's (B, D, ·, ·) -> maps (B, C, ·, ·), coarse to fine.

        One by one, as they are asked for: the last is as large as all others together.
        """
        grow = self.feature_upsample
        blocks = [*grow.scaled_images, *grow.intermediate]
        for index, (block, project, x) in enumerate(
            zip(blocks, self.feature_projection.projections, maps, strict=True)
        ):
            grown = block(x)
            if index == 0:
                both = torch.cat((grown, grow.image_block(image)), dim=1)
                grown = self.fuse_image_with_low_res(both)
            yield project(grown)


class DeconvFusion(nn.Module):
    """Merges a skip map into the running map, which a deconvolution doubles but for the last."""

    def __init__(self, config: DepthProConfig, *, grows: bool) -> None:
        super().__init__()
        width, shared = config.fusion_hidden_size, cast("Any", config)
        self.residual_layer1 = ResidualConvUnit(shared)
        self.residual_layer2 = ResidualConvUnit(shared)
        self.deconv: nn.Module = deconv(width, width) if grows else nn.Identity()
        self.projection = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """x, skip: (B, C, h, h) -> (B, C, 2h, 2h), or of the same size."""
        if skip is not None:
            x = x + self.residual_layer1(skip)
        return self.projection(self.deconv(self.residual_layer2(x)))


class DepthProFusion(nn.Module):
    """A block for every map, from the coarsest to the finest."""

    def __init__(self, config: DepthProConfig) -> None:
        super().__init__()
        count = len(config.scaled_images_ratios) + len(config.intermediate_hook_ids)
        self.intermediate = nn.ModuleList(
            DeconvFusion(config, grows=True) for _ in range(count - 1)
        )
        self.final = DeconvFusion(config, grows=False)

    def forward(self, first: Tensor, others: Iterator[Tensor]) -> Tensor:
        """The coarsest map (B, C, h, h) and those that follow -> the finest, fused."""
        x = first
        for index, block in enumerate([*self.intermediate, self.final]):
            x = block(x) if index == 0 else block(x, next(others))
        return x


class DepthProHead(Head):
    """Three convolutions, one deconvolution: canonical inverse depth."""

    def __init__(self, config: DepthProConfig) -> None:
        super().__init__()
        width = config.fusion_hidden_size
        self.layers = nn.Sequential(
            nn.Conv2d(width, width // 2, kernel_size=3, padding=1),
            deconv(width // 2, width // 2, bias=True),
            nn.Conv2d(width // 2, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 1, kernel_size=1),
            nn.ReLU(),
        )

    def tail(self) -> tuple[nn.Conv2d | None, Sequence[nn.Module]]:
        return cast("nn.Conv2d", self.layers[0]), [self.layers[1:]]

    def forward(self, fused: Tensor) -> Tensor:
        """(B, C, h, h) -> (B, 2h, 2h)."""
        return self.layers(fused).squeeze(1)

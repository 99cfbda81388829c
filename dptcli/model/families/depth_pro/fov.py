"""The field of view: an encoder over the whole image, and the decoder's coarsest map."""

import math

from torch import Tensor, nn

from dptcli.model.backbones.plain_config import Dinov2Config
from dptcli.model.families.depth_pro.config import DepthProConfig
from dptcli.model.families.depth_pro.pyramid import ImageEncoder, resized
from dptcli.model.heads import Head


class FovEncoder(ImageEncoder):
    """The encoder, and its tokens at the head's width."""

    def __init__(self, config: DepthProConfig) -> None:
        encoder = config.fov_model_config
        assert isinstance(encoder, Dinov2Config)
        super().__init__(config, encoder)
        self.neck = nn.Linear(encoder.hidden_size, config.fusion_hidden_size // 2)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, H) -> (B, C/2, h, h), the size of the smallest level's map."""
        [feature] = self.features(pixel_values).maps
        tokens = self.neck(feature.map.permute(0, 2, 3, 1))  # (B, g, g, C/2)
        return self.as_coarse(tokens.permute(0, 3, 1, 2), pixel_values.shape[-1])


class FovHead(Head):
    """Strided convolutions to one number; all of it in float32, for a bfloat16 is 1 % off."""

    def __init__(self, config: DepthProConfig) -> None:
        super().__init__()
        self.grid, count = config.grid, config.num_fov_head_layers
        widths = [math.ceil(config.fusion_hidden_size / 2 ** (i + 1)) for i in range(count + 1)]
        layers: list[nn.Module] = []
        for index in range(count):
            inputs, outputs = widths[index : index + 2]
            layers += [nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1), nn.ReLU()]
        last = int((self.grid - 1) / 2**count + 1)
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, kernel_size=last))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C/2, h, h) -> (B,), degrees."""
        return self.layers(resized(x, self.grid)).flatten()


class FovModel(nn.Module):
    """Degrees across the whole image."""

    def __init__(self, config: DepthProConfig) -> None:
        super().__init__()
        width = config.fusion_hidden_size
        self.fov_encoder = FovEncoder(config)
        self.conv = nn.Conv2d(width, width // 2, kernel_size=3, stride=2, padding=1)
        self.activation = nn.ReLU()
        self.head = FovHead(config)

    def forward(self, pixel_values: Tensor, coarsest: Tensor) -> Tensor:
        """Pixels (B, 3, H, H) and the neck's coarsest map (B, C, 2h, 2h) -> (B,), degrees."""
        seen = self.fov_encoder(pixel_values)
        return self.head(seen + self.activation(self.conv(coarsest)))

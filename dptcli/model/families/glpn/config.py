"""GLPNConfig: the architecture of a GLPN, with the reference's names and defaults."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from dptcli.errors import ConfigError
from dptcli.model.base_config import Config
from dptcli.model.checks import (
    Activation,
    require_activation,
    require_int,
    require_number,
    require_sequence,
)

_BY_STAGE = (
    "depths",
    "sr_ratios",
    "hidden_sizes",
    "patch_sizes",
    "strides",
    "num_attention_heads",
    "mlp_ratios",
)


@dataclass(init=False)
class GLPNConfig(Config):
    """The architecture of a GLPN model; lists hold a value for each stage of the encoder.

    sr_ratios: keys and values are those of a map so many times smaller. max_depth: metres that the
    head's 1 stands for. As in the reference, layer_norm_eps says nothing: the norms use 1e-5.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "glpn"
    depth_estimation_type: ClassVar[str] = "metric"

    num_channels: int = 3
    num_encoder_blocks: int = 4
    depths: Sequence[int] = (2, 2, 2, 2)
    sr_ratios: Sequence[int] = (8, 4, 2, 1)
    hidden_sizes: Sequence[int] = (32, 64, 160, 256)
    patch_sizes: Sequence[int] = (7, 3, 3, 3)
    strides: Sequence[int] = (4, 2, 2, 2)
    num_attention_heads: Sequence[int] = (1, 2, 5, 8)
    mlp_ratios: Sequence[float] = (4, 4, 4, 4)
    hidden_act: Activation = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    drop_path_rate: float = 0.1
    layer_norm_eps: float = 1e-6
    decoder_hidden_size: int = 64
    max_depth: float = 10
    head_in_index: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("num_channels", self.num_channels, low=1)
        require_int("num_encoder_blocks", self.num_encoder_blocks, low=1)
        for name in _BY_STAGE:
            values = getattr(self, name)
            require_sequence(name, values)
            if len(values) != self.num_encoder_blocks:
                raise ConfigError(
                    f"{name}: {list(values)} must hold one value for each of the "
                    f"{self.num_encoder_blocks} num_encoder_blocks"
                )
            for value in values:
                if name == "mlp_ratios":
                    require_number(name, value, low=0.1)
                else:
                    require_int(name, value, low=1)
        for width, num_heads in zip(self.hidden_sizes, self.num_attention_heads, strict=True):
            if width % num_heads:
                raise ConfigError(
                    f"hidden_sizes: {width} is not a multiple of num_attention_heads {num_heads}"
                )
        require_activation("hidden_act", self.hidden_act)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"):
            require_number(name, getattr(self, name), low=0.0, high=1.0)
        require_int("decoder_hidden_size", self.decoder_hidden_size, low=2)
        require_number("max_depth", self.max_depth, low=0.0)
        last = self.num_encoder_blocks - 1
        require_int("head_in_index", self.head_in_index, low=-last - 1, high=last)

    def with_max_depth(self, max_depth_m: float) -> Self:
        """A copy whose metres end at `max_depth_m`."""
        return self.replace(max_depth=max_depth_m)

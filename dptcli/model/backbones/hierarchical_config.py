"""The configurations of backbones whose stages come at falling resolution: BiT and Swin V2."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dptcli.errors import ConfigError
from dptcli.model.backbones.config import BackboneConfig
from dptcli.model.checks import (
    Activation,
    pair_of,
    require_activation,
    require_choice,
    require_int,
    require_number,
)


@dataclass(init=False)
class BitConfig(BackboneConfig):
    """BiT, a ResNet with group norm (Kolesnikov et al. 2020), as a backbone.

    `global_padding` is "SAME" (pad as much as the input needs) or None (half the kernel).
    `embedding_dynamic_padding` pads the stem's max pooling likewise.
    `deviation_offset` is ours: filters are divided by their standard deviation plus this, as the
    original code of the hybrid does (1e-5); 0 is the reference's way, which adds 1e-8 to the
    variance instead.
    """

    model_type: ClassVar[str] = "bit"
    is_hierarchical: ClassVar[bool] = True

    num_channels: int = 3
    embedding_size: int = 64
    hidden_sizes: Sequence[int] = (256, 512, 1024, 2048)
    depths: Sequence[int] = (3, 4, 6, 3)
    layer_type: str = "preactivation"
    hidden_act: Activation = "relu"
    global_padding: str | None = None
    num_groups: int = 32
    drop_path_rate: float = 0.0
    embedding_dynamic_padding: bool = False
    output_stride: int = 32
    width_factor: int = 1
    deviation_offset: float = 0.0

    def __post_init__(self) -> None:
        for name in ("num_channels", "embedding_size", "num_groups", "output_stride"):
            require_int(name, getattr(self, name), low=1)
        require_int("width_factor", self.width_factor, low=1)
        if not self.depths or len(self.depths) > len(self.hidden_sizes):
            raise ConfigError(
                f"depths: {list(self.depths)} must name one depth for each of "
                f"hidden_sizes {list(self.hidden_sizes)}"
            )
        for name in ("hidden_sizes", "depths"):
            for value in getattr(self, name):
                require_int(name, value, low=1)
        require_choice("layer_type", self.layer_type, ("preactivation", "bottleneck"))
        require_activation("hidden_act", self.hidden_act)
        require_number("drop_path_rate", self.drop_path_rate, low=0.0, high=1.0)
        require_number("deviation_offset", self.deviation_offset, low=0.0, high=1.0)
        if self.global_padding is not None:
            self._set("global_padding", str(self.global_padding).upper())
            # "VALID" shrinks a block's map but not its shortcut: no such network can run.
            require_choice("global_padding", self.global_padding, ("SAME",))
        super().__post_init__()

    @property
    def num_stages(self) -> int:
        return len(self.depths)

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """The number of channels of each stage, the stem's first."""
        widths = [width * self.width_factor for width in self.hidden_sizes[: self.num_stages]]
        return (self.embedding_size, *(round_channels(width) for width in widths))


@dataclass(init=False)
class Swinv2Config(BackboneConfig):
    """Swin Transformer V2 as a backbone (Liu et al. 2022): each stage at half the size of the last.

    `window_size` is in patches; `pretrained_window_sizes` are those that the position biases were
    learned with, 0 where it was the same. Positions follow from `image_size`, which the windows
    never exceed.
    """

    model_type: ClassVar[str] = "swinv2"
    is_hierarchical: ClassVar[bool] = True

    image_size: int | Sequence[int] = 224
    patch_size: int | Sequence[int] = 4
    num_channels: int = 3
    embed_dim: int = 96
    depths: Sequence[int] = (2, 2, 6, 2)
    num_heads: Sequence[int] = (3, 6, 12, 24)
    window_size: int = 7
    pretrained_window_sizes: Sequence[int] | None = (0, 0, 0, 0)
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    drop_path_rate: float = 0.1
    hidden_act: Activation = "gelu"
    use_absolute_embeddings: bool = False
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5

    def __init__(self, **values: Any) -> None:
        for derived in ("num_layers", "hidden_size"):  # they follow from depths and embed_dim
            values.pop(derived, None)
        super().__init__(**values)

    def __post_init__(self) -> None:
        require_int("num_channels", self.num_channels, low=1)
        require_int("embed_dim", self.embed_dim, low=1)
        require_int("window_size", self.window_size, low=1)
        require_number("mlp_ratio", self.mlp_ratio, low=0.0)
        require_activation("hidden_act", self.hidden_act)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"):
            require_number(name, getattr(self, name), low=0.0, high=1.0)
        require_number("layer_norm_eps", self.layer_norm_eps, low=0.0)
        if self.pretrained_window_sizes is None:
            self._set("pretrained_window_sizes", [0] * len(self.depths))
        self._check_stages()
        super().__post_init__()

    def _check_stages(self) -> None:
        if not self.depths:
            raise ConfigError("depths: () is empty; give the number of blocks of each stage")
        for name, low in (("depths", 1), ("num_heads", 1), ("pretrained_window_sizes", 0)):
            values = getattr(self, name)
            if len(values) < len(self.depths):
                raise ConfigError(
                    f"{name}: {list(values)} must hold one number for each of the "
                    f"{len(self.depths)} stages in depths"
                )
            for value in values:
                require_int(name, value, low=low)
        for stage, num_heads in enumerate(self.num_heads[: self.num_stages]):
            if self.width_of(stage) % num_heads:
                raise ConfigError(
                    f"num_heads: {num_heads} does not divide the width {self.width_of(stage)} of "
                    f"stage {stage + 1}"
                )
        if min(self.grid_of(self.num_stages - 1)) < 1:
            raise ConfigError(
                f"image_size: {self.image_size!r} leaves no patch in stage {self.num_stages}; "
                "make it larger, or depths shorter"
            )

    @property
    def num_stages(self) -> int:
        return len(self.depths)

    @property
    def hidden_size(self) -> int:
        """The width of the last stage."""
        return self.width_of(self.num_stages - 1)

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """The number of channels of each stage, the stem's first."""
        return (self.embed_dim, *(self.width_of(stage) for stage in range(self.num_stages)))

    def width_of(self, stage: int) -> int:
        """The width of a stage, counted from 0."""
        return int(self.embed_dim * 2**stage)

    def grid_of(self, stage: int) -> tuple[int, int]:
        """The patches (h, w) of a stage, counted from 0, for an image of `image_size`."""
        image_hw = pair_of("image_size", self.image_size)
        patch_hw = pair_of("patch_size", self.patch_size)
        return (
            image_hw[0] // patch_hw[0] // 2**stage,
            image_hw[1] // patch_hw[1] // 2**stage,
        )

    def to_dict(self) -> dict[str, Any]:
        derived = {"num_layers": self.num_stages, "hidden_size": self.hidden_size}
        return {**super().to_dict(), **derived}


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that loses no more than a tenth of the channels."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded

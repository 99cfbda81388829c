"""What the configurations of all backbones share: the names of their stages, and common checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dptcli.errors import ConfigError
from dptcli.model.base_config import Config
from dptcli.model.checks import grid_of, require_activation, require_int, require_number


@dataclass(init=False)
class BackboneConfig(Config):
    """Adds the stages of a backbone: which of them it hands out, by name or by index.

    `stage_names` is "stem", "stage1", "stage2", …; `out_features` and `out_indices` say the same
    thing twice, and either one may be given. Without both, the last stage is handed out.
    """

    # Whether stages come at falling resolutions, ready for fusion without reassembling.
    is_hierarchical: ClassVar[bool] = False
    synonyms: ClassVar[Sequence[Sequence[str]]] = (("out_features", "out_indices"),)
    followed = Config.followed | {"out_features", "out_indices"}

    out_features: Sequence[str] | None = None
    out_indices: Sequence[int] | None = None

    def __init__(self, **values: Any) -> None:
        values.pop("stage_names", None)  # follows from the number of stages
        super().__init__(**values)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.stage_names
        features, indices = self.out_features, self.out_indices
        if features is None and indices is None:
            indices = [len(names) - 1]
        if features is None:
            assert indices is not None
            features = [names[self._stage_index(index)] for index in indices]
        features = list(features)
        if any(name not in names for name in features):
            raise ConfigError(f"out_features: {list(features)} must be among {', '.join(names)}")
        if list(features) != [name for name in names if name in features]:
            raise ConfigError(
                f"out_features: {list(features)} must name each stage once, in rising order"
            )
        expected = [names.index(name) for name in features]
        if indices is not None and [self._stage_index(index) for index in indices] != expected:
            raise ConfigError(
                f"out_indices: {list(indices)} are not the stages of "
                f"out_features {list(features)}; give one of the two"
            )
        self._set("out_features", features)
        self._set("out_indices", expected)

    def _stage_index(self, index: Any) -> int:
        num_stages = len(self.stage_names)
        require_int("out_indices", index, low=-num_stages, high=num_stages - 1)
        return int(index) % num_stages

    @property
    def num_stages(self) -> int:
        """How many stages follow the stem."""
        raise NotImplementedError

    @property
    def stage_names(self) -> list[str]:
        """The names that `out_features` may hold."""
        return ["stem", *(f"stage{index}" for index in range(1, self.num_stages + 1))]

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "stage_names": self.stage_names}


def check_transformer(
    config: Any,
    *,
    rates: Sequence[str] = (
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "drop_path_rate",
    ),
) -> None:
    """Refuse wrong values in the fields that all plain transformers have."""
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_channels"):
        require_int(name, getattr(config, name), low=1)
    if config.hidden_size % config.num_attention_heads:
        raise ConfigError(
            f"hidden_size: {config.hidden_size} is not a multiple of "
            f"num_attention_heads {config.num_attention_heads}"
        )
    require_activation("hidden_act", config.hidden_act)
    for name in rates:
        require_number(name, getattr(config, name), low=0.0, high=1.0)
    require_number("layer_norm_eps", config.layer_norm_eps, low=0.0)
    grid_of(config.image_size, config.patch_size)

"""ZoeDepthConfig: relative depth by a DPT, turned into metres by bins (Bhat et al. 2023)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from dptcli.errors import ConfigError
from dptcli.model.base_config import Config
from dptcli.model.checks import Activation, require_choice, require_int, require_number
from dptcli.model.config import DPTConfig

# The bins are refined once at each of four resolutions; a neck of fewer leaves the last ones out.
NUM_REFINEMENTS = 4
DEFAULT_BACKBONE = {
    "model_type": "beit",
    "image_size": 384,
    "num_hidden_layers": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "use_relative_position_bias": True,
    "reshape_hidden_states": False,
    "out_features": ["stage6", "stage12", "stage18", "stage24"],
}
DEFAULT_BINS = {"n_bins": 64, "min_depth": 1e-3, "max_depth": 10.0}


class Domain(NamedTuple):
    """One kind of scene (indoors, roads, …) with bins of its own; depths in metres."""

    name: str
    num_bins: int
    min_depth_m: float
    max_depth_m: float


@dataclass(init=False)
class ZoeDepthConfig(Config):
    """The architecture of a ZoeDepth model, with the reference's names and defaults.

    `bin_configurations` names the domains; with several of them, a small transformer
    (`patch_transformer_…`) chooses one for each image. `bin_centers_type` "softplus" leaves depths
    unbounded, "normed" keeps them between the domain's depths. As in the reference,
    `attractor_alpha` and `attractor_gamma` say nothing: the released models use 300 and 2.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "zoedepth"
    depth_estimation_type: ClassVar[str] = "metric"

    backbone_config: Config | Mapping[str, Any] | None = None
    hidden_act: Activation = "gelu"
    initializer_range: float = 0.02
    batch_norm_eps: float = 1e-5
    readout_type: str = "project"
    reassemble_factors: Sequence[float] = (4, 2, 1, 0.5)
    neck_hidden_sizes: Sequence[int] = (96, 192, 384, 768)
    fusion_hidden_size: int = 256
    head_in_index: int = -1
    use_batch_norm_in_fusion_residual: bool = False
    use_bias_in_fusion_residual: bool | None = None
    num_relative_features: int = 32
    add_projection: bool = False
    bottleneck_features: int = 256
    num_attractors: Sequence[int] = (16, 8, 4, 1)
    bin_embedding_dim: int = 128
    attractor_alpha: int = 1000
    attractor_gamma: int = 2
    attractor_kind: str = "mean"
    min_temp: float = 0.0212
    max_temp: float = 50.0
    bin_centers_type: str = "softplus"
    bin_configurations: Sequence[Mapping[str, Any]] | None = None
    num_patch_transformer_layers: int | None = None
    patch_transformer_hidden_size: int | None = None
    patch_transformer_intermediate_size: int | None = None
    patch_transformer_num_attention_heads: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backbone_config is None:
            self._set("backbone_config", DEFAULT_BACKBONE)
        self._set("neck_config", self._as_dpt())
        self._set("backbone_config", self.neck_config.backbone_config)
        if not self.bin_configurations:
            self._set("bin_configurations", [DEFAULT_BINS])
        self._check_bins()
        if len(self.domains) > 1:
            self._check_routing()

    def _as_dpt(self) -> DPTConfig:
        """Backbone and neck are those of a DPT, so that is how they are checked and built."""
        shared = (
            "backbone_config",
            "hidden_act",
            "batch_norm_eps",
            "readout_type",
            "reassemble_factors",
            "neck_hidden_sizes",
            "fusion_hidden_size",
            "head_in_index",
            "use_batch_norm_in_fusion_residual",
            "use_bias_in_fusion_residual",
        )
        return DPTConfig(**{name: getattr(self, name) for name in shared})

    def _check_bins(self) -> None:
        for name in ("num_relative_features", "bin_embedding_dim"):
            require_int(name, getattr(self, name), low=2)
        if self.bottleneck_features != self.fusion_hidden_size:
            raise ConfigError(
                f"bottleneck_features: {self.bottleneck_features} must equal "
                f"fusion_hidden_size {self.fusion_hidden_size}, whose maps it takes"
            )
        if len(self.num_attractors) != NUM_REFINEMENTS:
            raise ConfigError(
                f"num_attractors: {list(self.num_attractors)} must hold {NUM_REFINEMENTS} numbers, "
                "one for each refinement of the bins"
            )
        stages = self.neck_config.backbone_config.out_features
        if len(self.neck_hidden_sizes) != len(stages) or len(stages) > NUM_REFINEMENTS:
            raise ConfigError(
                f"neck_hidden_sizes: {list(self.neck_hidden_sizes)} must hold one number for each "
                f"of the backbone's out_features {list(stages)}, at most {NUM_REFINEMENTS}"
            )
        for number in self.num_attractors:
            require_int("num_attractors", number, low=1)
        require_choice("attractor_kind", self.attractor_kind, ("mean", "sum"))
        require_choice("bin_centers_type", self.bin_centers_type, ("softplus", "normed"))
        require_number("min_temp", self.min_temp, low=0.0)
        require_number("max_temp", self.max_temp, low=self.min_temp)
        names = [domain.name for domain in self.domains]
        if len(names) > 1 and (len(set(names)) < len(names) or not all(names)):
            raise ConfigError(
                f"bin_configurations: the names {names} must be given and differ from each other"
            )

    def _check_routing(self) -> None:
        for name in (
            "num_patch_transformer_layers",
            "patch_transformer_hidden_size",
            "patch_transformer_intermediate_size",
            "patch_transformer_num_attention_heads",
        ):
            require_int(name, getattr(self, name), low=1)
        width, num_heads = (
            self.patch_transformer_hidden_size,
            self.patch_transformer_num_attention_heads,
        )
        assert width is not None
        assert num_heads is not None
        if width % num_heads or width % 2:
            raise ConfigError(
                f"patch_transformer_hidden_size: {width} must be even and a multiple of "
                f"patch_transformer_num_attention_heads {num_heads}"
            )

    def with_max_depth(self, max_depth_m: float) -> "ZoeDepthConfig":
        """A copy whose bins end at `max_depth_m`; of a model with one domain."""
        if len(self.domains) > 1 or self.bin_configurations is None:
            names = ", ".join(domain.name for domain in self.domains)
            raise ConfigError(
                f"max_depth {max_depth_m:g}: the domains {names} have one each; change them in "
                "config.json's bin_configurations"
            )
        [bins] = self.bin_configurations
        return self.replace(bin_configurations=[{**bins, "max_depth": max_depth_m}])

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The domains that `bin_configurations` describes."""
        return tuple(_domain(values) for values in self.bin_configurations or ())


def _domain(values: Mapping[str, Any]) -> Domain:
    missing = DEFAULT_BINS.keys() - values.keys()
    if missing:
        raise ConfigError(f"bin_configurations: {dict(values)} lacks {', '.join(sorted(missing))}")
    require_int("n_bins", values["n_bins"], low=2)
    require_number("min_depth", values["min_depth"], low=0.0)
    require_number("max_depth", values["max_depth"], low=values["min_depth"])
    return Domain(
        name=str(values.get("name", "")),
        num_bins=values["n_bins"],
        min_depth_m=values["min_depth"],
        max_depth_m=values["max_depth"],
    )

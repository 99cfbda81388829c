"""PromptDepthAnythingConfig: Depth Anything's fields, for a model that takes a prompt."""

from dataclasses import dataclass
from typing import ClassVar, Self

from dptcli.model.base_config import Config
from dptcli.model.families.depth_anything.config import DepthAnythingConfig


@dataclass(init=False)
class PromptDepthAnythingConfig(DepthAnythingConfig):
    """The architecture of a Prompt Depth Anything model, with the reference's names and defaults.

    depth_estimation_type: "metric" ends in a sigmoid (as the released models do), "relative" in a
    ReLU; either way a prompt in metres makes metres. As in the reference, max_depth and
    head_in_index say nothing: the prompt's range scales the last map.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "prompt_depth_anything"
    takes_prompt: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        # "relative" is of the head's values, before the prompt's range.
        if self.depth_estimation_type != "metric":
            self.extra.setdefault("gives", "metres")

    def with_max_depth(self, max_depth_m: float) -> Self:
        """Raise ConfigError: the prompt bounds the metres."""
        return Config.with_max_depth(self, max_depth_m)

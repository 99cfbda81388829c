"""A scale and a shift that make metres of what a network gives, kept in a model's config.json."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dptcli.errors import ConfigError
from dptcli.kinds import Kind, kind_of

if TYPE_CHECKING:
    from torch import Tensor

KEY = "calibration"

_FARTHEST_M = 1000.0
_NEAREST_M = 0.001


@dataclass(frozen=True)
class Calibration:
    """metres = 1 / (scale · value + shift) of inverse depth, else scale · value + shift.

    of: what the network gives. What comes out behind infinity ends at 1 km.
    """

    of: Kind
    scale: float
    shift: float

    def metres(self, values: "Tensor") -> "Tensor":
        """Return depth in metres, of the shape of `values`."""
        fitted = values * self.scale + self.shift
        if self.of == "inverse_depth":
            return 1 / fitted.clamp_min(1 / _FARTHEST_M)
        return fitted.clamp_min(_NEAREST_M)

    def facts(self) -> dict[str, Any]:
        """Return what config.json says."""
        return {"of": self.of, "scale": self.scale, "shift": self.shift}


def result_kind(config: object) -> Kind:
    """What a depth model's results are: metres where a calibration is kept with it.

    Raises ConfigError.
    """
    return kind_of(config) if calibration_of(config) is None else "depth_m"


def calibration_of(config: object) -> Calibration | None:
    """What a model's configuration says of it, None for most. Raises ConfigError."""
    said = getattr(config, KEY, None)
    if said is None:
        return None
    try:
        scale, shift, of = float(said["scale"]), float(said["shift"]), said["of"]
    except (TypeError, KeyError, ValueError) as error:
        raise ConfigError(f"{KEY}: {said!r} must have scale, shift and of") from error
    if not (scale > 0 and math.isfinite(scale + shift)) or of != kind_of(config):
        raise ConfigError(f"{KEY}: {said!r} does not fit this model; calibrate it anew")
    return Calibration(of, scale, shift)

"""What the values of a depth map mean: the kinds, and what each place calls them.

Loads nothing, so that commands, files and models may all ask here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from dptcli.errors import ConfigError, UsageError

Kind = Literal["inverse_depth", "depth", "depth_m", "height_m"]
CONFIDENCE = "confidence"
"""The "kind" of a file that says how sure a depth map is."""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What one kind is.

    unit, polarity: as results say them. type: of a model that gives it, as `depth_estimation_type`
    in config.json and as the catalogue have it. word: of `--gives`. title: for a table. in_metres:
    whether the values are lengths; near_is_large: whether a larger one is nearer to the camera.
    """

    unit: str
    polarity: str
    type: str
    word: str
    title: str
    in_metres: bool = False
    near_is_large: bool = False


MEANINGS: Mapping[Kind, Meaning] = {
    "inverse_depth": Meaning(
        unit="none (scale and shift are unknown)",
        polarity="large is near",
        type="relative",
        word="inverse",
        title="relative depth",
        near_is_large=True,
    ),
    "depth": Meaning(
        unit="none (the scale is unknown)",
        polarity="large is far",
        type="depth",
        word="depth",
        title="depth without scale",
    ),
    "depth_m": Meaning(
        unit="metre",
        polarity="large is far",
        type="metric",
        word="metres",
        title="depth in metres",
        in_metres=True,
    ),
    # Above the ground, from photographs taken from above.
    "height_m": Meaning(
        unit="metre",
        polarity="large is high",
        type="height",
        word="height",
        title="height in metres",
        in_metres=True,
        near_is_large=True,
    ),
}
DEPTH_TYPES = tuple(meaning.type for meaning in MEANINGS.values())
WORDS = tuple(meaning.word for meaning in MEANINGS.values())
_BY_TYPE: dict[str, Kind] = {meaning.type: kind for kind, meaning in MEANINGS.items()}
_BY_WORD: dict[str, Kind] = {meaning.word: kind for kind, meaning in MEANINGS.items()}


def kind_of(config: object) -> Kind:
    """What a depth model of this configuration gives. Raises ConfigError for an unknown word.

    Its `gives`, which `--gives` leaves in a file, else its `depth_estimation_type`. The first says
    only what the values mean; the second also chooses the last layer of some families.
    """
    said: Any = getattr(config, "gives", None)
    if said is None:
        return kind_of_type(getattr(config, "depth_estimation_type", DEPTH_TYPES[0]))
    if said not in _BY_WORD:
        raise ConfigError(f"gives: {said!r} must be one of {', '.join(WORDS)}")
    return _BY_WORD[said]


def kind_of_type(name: str) -> Kind:
    """The kind that a `depth_estimation_type` names. Raises ConfigError."""
    if name not in _BY_TYPE:
        raise ConfigError(
            f"depth_estimation_type: {name!r} must be one of {', '.join(DEPTH_TYPES)}"
        )
    return _BY_TYPE[name]


def check_gives(text: str | None) -> str | None:
    """The word of --gives. Raises UsageError."""
    if text is None or text in _BY_WORD:
        return text
    raise UsageError(f"--gives {text!r} must be {', '.join(WORDS[:-1])} or {WORDS[-1]}")


def is_kind(name: object) -> bool:
    """Whether a file's "kind" is one of a depth map."""
    return name in MEANINGS


def near_is_large(kind: object) -> bool:
    """Whether a larger value of the kind is nearer."""
    return is_kind(kind) and MEANINGS[cast("Kind", kind)].near_is_large


def in_metres(kind: object) -> bool:
    """Whether values of the kind are lengths in metres."""
    return is_kind(kind) and MEANINGS[cast("Kind", kind)].in_metres

"""What the catalogue knows of a named model. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path

RELATIVE = "relative"
SCALELESS = "depth"
METRIC = "metric"
HEIGHT = "height"
LABELS = "labels"

APACHE = "Apache-2.0"
MIT = "MIT"
NON_COMMERCIAL = "CC-BY-NC-4.0"
UNSTATED = "not stated"
DINOV3 = "DINOv3 licence"
APPLE = "Apple's own"
# Licences of a publisher's own, to be read before the first download.
OWN_TERMS = {
    DINOV3: "https://ai.meta.com/resources/models-and-libraries/dinov3-license",
    APPLE: "https://huggingface.co/apple/DepthPro-hf/blob/main/LICENSE",
}


@dataclass(frozen=True, kw_only=True)
class KnownNumbers:
    """What the publisher's own test expects for COCO val2017 000000039769.

    first: the first values of the first row of the output (of the first class for labels),
    divided by `divisor`. shape: the whole output's, as far as it is known.
    """

    first: tuple[float, float, float]
    shape: tuple[int, ...] | None = None
    divisor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """One named model.

    repository: on the hub, or None for a built-in one, which lies in `folder`. revision: the
    commit that is fetched, or None for the newest. original: the authors' own file there, where the
    repository holds no model in the hub's layout. gives: relative (inverse depth), depth (without
    scale), metric (metres), height (metres above the ground) or labels. range_m: the metres it was
    made for. also: other tasks that its files serve. parameters: a count. input_size: what the
    network sees, in pixels. caution: what is known to be wrong with the published file, said on
    every run.
    """

    name: str
    family: str
    task: str
    gives: str
    backbone: str
    parameters: int
    input_size: str
    licence: str
    good_for: str
    repository: str | None = None
    revision: str | None = None
    original: str | None = None
    folder: Path | None = None
    note: str = ""
    caution: str = ""
    range_m: tuple[float, float] | None = None
    known: KnownNumbers | None = None
    also: tuple[str, ...] = ()

    @property
    def is_non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-NC" in self.licence

"""Which photographs of a run are panoramas. Loads nothing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Panoramas:
    """All of a run's pictures, or those whose files say that they are.

    unfit: an option with which none can be, in words; then such files are plain pictures.
    """

    all_are: bool = False
    unfit: str | None = None

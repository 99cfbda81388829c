"""How a network that sees several frames at once goes through a clip."""

from collections.abc import Sequence
from dataclasses import dataclass

from dptcli.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ClipWindow:
    """Windows of `num_frames` frames, of which the first repeat frames of the window before.

    keyframes: the places in one window whose frames begin the next one. num_blended: the last of
    them, which follow each other without a gap and end the window: results of both windows fade
    into each other there. The others are what the next window is scaled and shifted by, where
    `fits`; else its values are taken as they are (metres).
    """

    num_frames: int
    keyframes: Sequence[int]
    num_blended: int
    fits: bool

    def __post_init__(self) -> None:
        places = tuple(self.keyframes)
        end = tuple(range(self.num_frames - self.num_blended, self.num_frames))
        if not 1 < self.num_blended < len(places) < self.num_frames:
            raise ConfigError(
                f"keyframes: {list(places)} with {self.num_blended} blended ones must be fewer "
                f"than {self.num_frames} frames, and more than the blended ones"
            )
        if self.step < self.num_blended:
            raise ConfigError(
                f"keyframes: {len(places)} leave {self.step} new frames in a window of "
                f"{self.num_frames}, fewer than the {self.num_blended} blended ones"
            )
        if places[-self.num_blended :] != end or places[0] < 0 or sorted(set(places)) != [*places]:
            raise ConfigError(
                f"keyframes: {list(places)} must rise from 0 on and end with the window's last "
                f"{self.num_blended} frames"
            )

    @property
    def overlap(self) -> int:
        """The number of frames that a window repeats."""
        return len(self.keyframes)

    @property
    def step(self) -> int:
        """The number of new frames in a window behind the first."""
        return self.num_frames - self.overlap

    @property
    def num_fitted(self) -> int:
        """The number of frames that tell how a window's values relate to those before."""
        return self.overlap - self.num_blended

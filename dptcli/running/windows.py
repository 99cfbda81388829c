"""A clip through a network that sees several frames at once: windows, brought onto one scale.

Each window begins with frames of the one before, so that the network sees what came earlier, and
its values are scaled and shifted to agree with those (Chen et al. 2025, section 3.3). Memory holds
a window, however long the clip.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from dptcli.errors import UsageError
from dptcli.model.clip_window import ClipWindow
from dptcli.running.seen import Seen
from dptcli.weights.load import LoadedModel

Frame = TypeVar("Frame")


class WindowedClip(Generic[Frame]):
    """Frames in, depth out as soon as no later frame changes it.

    run: the network on one window's frames, a map (h, w) each. A frame of another size begins
    another clip.
    """

    def __init__(
        self, window: ClipWindow, run: Callable[[Sequence[Seen]], Sequence[Tensor]]
    ) -> None:
        self.window = window
        self._run = run
        self._waiting: deque[Frame] = deque()  # frames whose map may still change
        self._restart()

    def add(self, frame: Frame, view: Seen) -> list[tuple[Frame, Tensor]]:
        """The next frame, and what the network sees of it -> frames that are done, in order."""
        is_other = bool(self._views) and self._views[0].shape != view.shape
        done = self.close() if is_other else []
        self._waiting.append(frame)
        self._views.append(view)
        self._num_frames += 1
        if len(self._views) == self.window.num_frames:
            done += self._finish_window()
        return done

    def close(self) -> list[tuple[Frame, Tensor]]:
        """The clip ends here -> the frames that were not done; the next one begins another."""
        done = []
        # Also where a window brings no new frame: the last ones fade into it, as in the middle.
        while self._num_frames > self._num_windows * self.window.step:
            missing = self.window.num_frames - len(self._views)
            self._views += [self._views[-1]] * missing
            done += self._finish_window()
        done += self._done(self._stitcher.rest())
        self._waiting.clear()
        self._restart()
        return done

    def give_up(self) -> list[Frame]:
        """The frames that were not done; the next one begins another clip."""
        given_up = list(self._waiting)
        self._waiting.clear()
        self._restart()
        return given_up

    def _restart(self) -> None:
        self._views: list[Seen] = []  # of the window that is being filled
        self._num_frames = self._num_windows = 0
        self._stitcher = Stitcher(self.window)

    def _finish_window(self) -> list[tuple[Frame, Tensor]]:
        maps = self._stitcher.add(self._run(self._views))
        self._num_windows += 1
        self._views = [self._views[place] for place in self.window.keyframes]
        return self._done(maps)

    def _done(self, maps: Sequence[Tensor]) -> list[tuple[Frame, Tensor]]:
        """Maps in the order of the frames; behind the last frame they are of its repetitions."""
        return [(self._waiting.popleft(), one) for one in maps if self._waiting]


def depths_together(
    views: Sequence[Seen], window: ClipWindow, run: Callable[[Sequence[Seen]], Sequence[Tensor]]
) -> list[Tensor]:
    """What the network sees of a clip's frames, all at hand -> a map (h, w) each."""
    clip: WindowedClip[None] = WindowedClip(window, run)
    ready = [found for view in views for found in clip.add(None, view)]
    return [depth for _, depth in [*ready, *clip.close()]]


def refuse_tiles(model: LoadedModel) -> None:
    """Raise UsageError for a clip in tiles with a network that sees several frames at once."""
    window = model.clip_window
    if window is not None:
        raise UsageError(
            f"--tile: model {model.name!r} sees {window.num_frames} frames of a clip at once, each "
            "of them whole; leave it out, or take --size"
        )


def refuse_mirrored(model: LoadedModel) -> None:
    """Raise UsageError for two passes over a clip with such a network."""
    if model.clip_window is not None:
        raise UsageError(
            f"--confidence: model {model.name!r} sees the frames of a clip together, and asking it "
            "twice is for photographs; leave it out"
        )


class Stitcher:
    """Brings each window's maps onto the scale of those before, and fades one into the other."""

    def __init__(self, window: ClipWindow) -> None:
        self.window = window
        self._known: list[Tensor] = []  # what the next window's first maps should be
        self._fading: list[Tensor] = []  # the last maps, which the next window changes

    def add(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The next window's maps (h, w) -> those that are final, in the order of the frames."""
        window, num_fitted = self.window, self.window.num_fitted
        is_first = not self._fading
        final: list[Tensor] = []
        if not is_first:
            scale, shift = 1.0, 0.0
            if window.fits:
                found = torch.cat([one.flatten() for one in maps[:num_fitted]])
                known = torch.cat([one.flatten() for one in self._known])
                scale, shift = fit_scale_shift(found, known)
            # Inverse depth and metres end at 0.
            maps = [(one * scale + shift).clamp(min=0) for one in maps]
            weights = torch.linspace(0, 1, window.num_blended).tolist()
            overlapping = maps[num_fitted : window.overlap]
            for weight, before, after in zip(weights, self._fading, overlapping, strict=True):
                final.append(before * (1 - weight) + after * weight)
        final += maps[0 if is_first else window.overlap : -window.num_blended]
        self._fading = list(maps[-window.num_blended :])
        # The clip's first frame stays the anchor of every window.
        first = maps[window.keyframes[0]] if is_first else self._known[0]
        self._known = [first, *(maps[place] for place in window.keyframes[1:num_fitted])]
        return final

    def rest(self) -> list[Tensor]:
        """The last maps, which no window follows."""
        return self._fading


def fit_scale_shift(values: Tensor, known: Tensor) -> tuple[float, float]:
    """The least-squares scale and shift from values (N,) to known ones; 1, 0 where none is best."""
    x, y = values.double(), known.double()
    spread = (x - x.mean()).square().sum()
    if not spread > 0:
        return 1.0, 0.0
    scale = ((x - x.mean()) * (y - y.mean())).sum() / spread
    return float(scale), float(y.mean() - scale * x.mean())

"""Images on their way through a run, and a clip's frames through a network that sees several."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from dptcli.errors import ModelError
from dptcli.model.clip_window import ClipWindow
from dptcli.records.report import Outcome
from dptcli.results.plan import Job
from dptcli.running.answer import Answer
from dptcli.running.jobs import failure
from dptcli.running.seen import Sample, Seen
from dptcli.running.windows import WindowedClip


@dataclass
class Item:
    """An image on its way through the run."""

    job: Job
    sample: Sample
    started: float
    output: Answer | None = None


def shape_of(item: Item | Outcome) -> tuple[int, ...] | None:
    """The shape (3, H, W), or more, of an image for the network; None for one that failed."""
    return None if isinstance(item, Outcome) else item.sample.shape


def predict_clip(
    items: Iterator[Item | Outcome],
    window: ClipWindow,
    run: Callable[[Sequence[Seen]], Sequence[Tensor]],
) -> Iterator[list[Item | Outcome]]:
    """Frames in their order -> the same with their output, in groups as they become ready.

    run: the network on one window. Where it fails, the frames under way fail, and the next begins
    another clip.
    """
    clip: WindowedClip[Item] = WindowedClip(window, run)
    for item in itertools.chain(items, [None]):
        if isinstance(item, Outcome):
            yield [item]
            continue
        try:
            ready = clip.close() if item is None else clip.add(item, item.sample.view)
        except ModelError:  # no frame's fault: the run ends
            raise
        except Exception as error:
            yield [failure(one.job, error, one.started) for one in clip.give_up()]
            continue
        for one, output in ready:
            one.output = Answer(output)
        yield [one for one, _ in ready]

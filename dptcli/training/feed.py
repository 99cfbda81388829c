"""Batches made before the step that needs them, by processes beside it: what feeds a GPU."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from dptcli.training.batches import Batch, Source


@dataclass(frozen=True)
class _Batches(Dataset[Batch]):
    """The batches of a source from `first` on, each drawn from its number alone."""

    source: Source
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def __getitem__(self, index: int) -> Batch:
        return self.source.batch(self.first + index)


def feed(source: Source, *, first: int, end: int, workers: int) -> Iterator[Batch]:
    """The batches `first` … `end` − 1 on the model's device, the same for any number of workers.

    workers: processes that make them; 0 makes each when it is asked for. Features of a frozen
    backbone are computed and kept in this process, whatever `workers` says.
    """
    if workers == 0 or source.options.is_frozen:
        batches: Iterator[Batch] = (source.batch(number) for number in range(first, end))
    else:
        batches = iter(
            DataLoader(
                _Batches(source, first, end),
                batch_size=None,
                collate_fn=_as_it_is,
                num_workers=workers,
                worker_init_fn=_one_thread,
                prefetch_factor=4,
            )
        )
    for batch in batches:
        yield batch.to(source.model.device)


def _as_it_is(batch: Any) -> Any:
    return batch


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)

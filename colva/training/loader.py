"""From items by ordinal to micro-batches, dealt to processes and workers in one order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from colva.training.stage import Batch, Data, Stage, part_of
from mmvm_data.core.errors import UsageError


@dataclass(frozen=True)
class Dealing:
    """How the items of an optimiser step are dealt: `batch = micro * processes * rounds`.

    Item k of step s is ordinal s * batch + k, whatever the number of processes and the size of a micro-batch, so a run
    sees the same items in the same steps on any of them.
    """

    batch: int
    micro: int
    processes: int
    rank: int

    @property
    def rounds(self) -> int:
        """Micro-batches that a process takes in a step (gradient accumulation)."""
        return self.batch // (self.micro * self.processes)

    def ordinals(self, step: int, turn: int) -> list[int]:
        """The ordinals of this process's micro-batch number `turn` of a step."""
        first = step * self.batch + (turn * self.processes + self.rank) * self.micro
        return list(range(first, first + self.micro))


def dealing(batch: int, micro: int | None, processes: int, rank: int) -> Dealing:
    """A dealing that comes out even.

    Raises:
        UsageError: the batch cannot be dealt so.
    """
    if batch % processes:
        raise UsageError(f"run.batch: {batch} items cannot be dealt evenly to {processes} processes")
    share = batch // processes
    micro = share if micro is None else min(micro, share)
    if share % micro:
        raise UsageError(
            f"run.micro_batch: {micro} does not divide the {share} items of a process's share of the batch"
        )
    return Dealing(batch, micro, processes, rank)


class _Training(Sampler[list[int]]):
    def __init__(self, deal: Dealing, steps: range) -> None:
        self._deal = deal
        self._steps = steps

    def __len__(self) -> int:
        return len(self._steps) * self._deal.rounds

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            for turn in range(self._deal.rounds):
                yield self._deal.ordinals(step, turn)


class _Once(Sampler[list[int]]):
    """Every item once. Each process gets as many batches; one that has nothing left takes its first one again."""

    def __init__(self, count: int, deal: Dealing) -> None:
        batches = [list(range(k, min(k + deal.micro, count))) for k in range(0, count, deal.micro)]
        rounds = -(-len(batches) // deal.processes)
        mine = [deal.rank + k * deal.processes for k in range(rounds)]
        self.batches = [batches[k] if k < len(batches) else batches[0] for k in mine]
        self.counted = [k < len(batches) for k in mine]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


class _Items(Dataset[Any]):
    def __init__(self, data: Data) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, ordinal: int) -> Any:
        return self._data[ordinal]


@dataclass(frozen=True)
class _Joined:
    """Items to `{"inputs": a batch or None when none is usable, "rejects": ..., "seen": number of items}`."""

    collate: Callable[[list[Any]], Batch]

    def __call__(self, items: list[Any]) -> dict[str, Any]:
        parts = [part_of(item) for item in items]
        rejects = tuple(reject for part in parts for reject in part.rejects)
        usable = [part.value for part in parts if part.value is not None]
        seen = sum(part.seen for part in parts)
        return {"inputs": self.collate(usable) if usable else None, "rejects": rejects, "seen": seen}


def training_loader(
    stage: Stage, deal: Dealing, steps: int, workers: int, pinned: bool, done: int = 0
) -> DataLoader[Any]:
    """The micro-batches of a run of so many steps for one process, those of the first `done` left out."""
    return _loader(stage.train, stage, _Training(deal, range(done, steps)), workers, pinned)


def evaluation_loader(
    data: Data, stage: Stage, deal: Dealing, workers: int, pinned: bool
) -> tuple[DataLoader[Any], list[bool]]:
    """The micro-batches of every held-out item for one process, and which of them count."""
    sampler = _Once(len(data), deal)
    return _loader(data, stage, sampler, workers, pinned), sampler.counted


def _loader(data: Data, stage: Stage, sampler: Sampler[list[int]], workers: int, pinned: bool) -> DataLoader[Any]:
    return DataLoader(
        _Items(data),
        batch_sampler=sampler,
        collate_fn=_Joined(stage.collate),
        num_workers=workers,
        worker_init_fn=_quiet,
        pin_memory=pinned,
        prefetch_factor=2 if workers else None,
        generator=torch.Generator(),  # of its own: the run's source of chance is for the model
    )


def _quiet(worker: int) -> None:
    """One thread a worker; OpenCV's would be as many as there are cores, in each."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)

"""Data loading: items by ordinal, sharded over processes and workers in one global order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from colva.data.main_process import limit_threads
from colva.training.stage import Batch, Stage, TrainingData, as_partial
from mmvm_data.core.errors import UsageError


@dataclass(frozen=True)
class BatchSharding:
    """How the items of an optimizer step are distributed.

    `global_batch_size = micro_batch_size * num_processes * accumulation_steps`. Item k of step s is ordinal
    `s * global_batch_size + k`, whatever the number of processes and the size of a micro-batch, so a run sees the same
    items in the same steps on any of them.
    """

    global_batch_size: int
    micro_batch_size: int
    num_processes: int
    rank: int

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches per process and step (gradient accumulation)."""
        return self.global_batch_size // (self.micro_batch_size * self.num_processes)

    def ordinals(self, step: int, micro_batch: int) -> list[int]:
        """The ordinals of one of this process's micro-batches of a step."""
        start = step * self.global_batch_size
        start += (micro_batch * self.num_processes + self.rank) * self.micro_batch_size
        return list(range(start, start + self.micro_batch_size))


def shard_batch(global_batch_size: int, micro_batch_size: int | None, num_processes: int, rank: int) -> BatchSharding:
    """An even sharding of a batch.

    Args:
        global_batch_size: items of a step over all processes.
        micro_batch_size: items of a forward pass; None for the whole share of a process, which is also the maximum.
        num_processes, rank: number of processes, and which of them this is.

    Raises:
        UsageError: the batch cannot be divided evenly.
    """
    if global_batch_size % num_processes:
        raise UsageError(
            f"trainer.global_batch_size: {global_batch_size} items cannot be divided evenly over "
            f"{num_processes} processes"
        )
    share = global_batch_size // num_processes
    micro_batch_size = share if micro_batch_size is None else min(micro_batch_size, share)
    if share % micro_batch_size:
        raise UsageError(
            f"trainer.micro_batch_size: {micro_batch_size} does not divide the {share} items of a process's share of "
            "the batch"
        )
    return BatchSharding(global_batch_size, micro_batch_size, num_processes, rank)


class _TrainingSampler(Sampler[list[int]]):
    """The ordinals of this process's micro-batches, step by step."""

    def __init__(self, sharding: BatchSharding, steps: range) -> None:
        self._sharding = sharding
        self._steps = steps

    def __len__(self) -> int:
        return len(self._steps) * self._sharding.accumulation_steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            for micro_batch in range(self._sharding.accumulation_steps):
                yield self._sharding.ordinals(step, micro_batch)


class _EvaluationSampler(Sampler[list[int]]):
    """Every item once. All processes get the same number of batches; surplus ones repeat the first and do not count.

    Attributes:
        counted: for each batch of this process, whether it counts.
    """

    def __init__(self, count: int, sharding: BatchSharding) -> None:
        size = sharding.micro_batch_size
        batches = [list(range(k, min(k + size, count))) for k in range(0, count, size)]
        num_batches = -(-len(batches) // sharding.num_processes)
        indices = [sharding.rank + k * sharding.num_processes for k in range(num_batches)]
        self.batches = [batches[k] if k < len(batches) else batches[0] for k in indices]
        self.counted = [k < len(batches) for k in indices]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


class _ItemDataset(Dataset[Any]):
    def __init__(self, data: TrainingData) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, ordinal: int) -> Any:
        return self._data[ordinal]


@dataclass(frozen=True)
class _RejectingCollator:
    """Items -> `{"inputs": a batch or None when no item is usable, "rejects": ..., "seen": number of samples}`."""

    collate: Callable[[list[Any]], Batch]

    def __call__(self, items: list[Any]) -> dict[str, Any]:
        parts = [as_partial(item) for item in items]
        rejects = tuple(reject for part in parts for reject in part.rejects)
        usable = [part.value for part in parts if part.value is not None]
        num_seen = sum(part.num_seen for part in parts)
        return {"inputs": self.collate(usable) if usable else None, "rejects": rejects, "seen": num_seen}


def training_loader(
    stage: Stage, sharding: BatchSharding, num_steps: int, num_workers: int, pin_memory: bool, first_step: int = 0
) -> DataLoader[Any]:
    """The micro-batches of one process, from `first_step` to the end of a run of `num_steps`."""
    sampler = _TrainingSampler(sharding, range(first_step, num_steps))
    return _make_loader(stage.train, stage, sampler, num_workers, pin_memory)


def evaluation_loader(
    data: TrainingData, stage: Stage, sharding: BatchSharding, num_workers: int, pin_memory: bool
) -> tuple[DataLoader[Any], list[bool]]:
    """The micro-batches of all held-out items for one process, and which of them count."""
    sampler = _EvaluationSampler(len(data), sharding)
    return _make_loader(data, stage, sampler, num_workers, pin_memory), sampler.counted


def _make_loader(
    data: TrainingData, stage: Stage, sampler: Sampler[list[int]], num_workers: int, pin_memory: bool
) -> DataLoader[Any]:
    return DataLoader(
        _ItemDataset(data),
        batch_sampler=sampler,
        collate_fn=_RejectingCollator(stage.collate),
        num_workers=num_workers,
        worker_init_fn=limit_threads,
        pin_memory=pin_memory,
        prefetch_factor=2 if num_workers else None,
        generator=torch.Generator(),  # its own, so that loading draws nothing from the model's generator
    )

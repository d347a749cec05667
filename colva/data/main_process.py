"""Work that is done once before training: by the main process alone, or spread over worker processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

Result = TypeVar("Result")
_POLL_SECONDS = 0.5


def main_process_first(is_ready: Callable[[], bool], build: Callable[[], None]) -> None:
    """Let the main process build something while the others wait until it is ready.

    All processes must see the same folder. If the main process dies, torchrun ends the others.

    Args:
        is_ready: whether the result exists; polled by the other processes.
        build: creates it; called in the main process unless it is ready already.
    """
    if is_ready():
        return
    if int(os.environ.get("RANK", "0")) == 0:
        build()
        return
    while not is_ready():
        time.sleep(_POLL_SECONDS)


def map_in_workers(
    function: Callable[[int], Result], numbers: Sequence[int], num_workers: int, prefetch: int = 4
) -> Iterator[Result]:
    """Apply a function to each number in worker processes, and yield the results in order.

    Args:
        function: picklable.
        numbers: its arguments.
        num_workers: processes; 0 calls it in this process.
        prefetch: results of each process that are held in memory, at most.
    """
    loader: DataLoader[Any] = DataLoader(
        _FunctionDataset(function, numbers),
        batch_size=None,
        num_workers=num_workers,
        worker_init_fn=limit_threads,
        prefetch_factor=prefetch if num_workers else None,
        generator=torch.Generator(),
    )
    yield from loader


def limit_threads(worker_id: int) -> None:
    """One thread for OpenCV and torch in a worker process; their default is one per core in every worker."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class _FunctionDataset(Dataset[Any]):
    """The results of a function as a dataset."""

    def __init__(self, function: Callable[[int], Any], numbers: Sequence[int]) -> None:
        self._function = function
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Any:
        return self._function(self._numbers[index])

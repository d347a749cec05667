"""Work that is done once before training, and read by all processes afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

Result = TypeVar("Result")
_PAUSE = 0.5  # seconds between two looks


def by_one(ready: Callable[[], bool], make: Callable[[], None]) -> None:
    """Have the first process make something, while the others wait until it is there.

    All processes must see the same folder. Should the first one die, torchrun ends the others.
    """
    if ready():
        return
    if int(os.environ.get("RANK", "0")) == 0:
        make()
        return
    while not ready():
        time.sleep(_PAUSE)


def in_workers(fn: Callable[[int], Result], numbers: Sequence[int], workers: int) -> Iterator[Result]:
    """`fn` of each number, in order, in worker processes; 0 does it here. At most a few results wait."""
    loader: DataLoader[Any] = DataLoader(
        _Calls(fn, numbers),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_quiet,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),
    )
    yield from loader


class _Calls(Dataset[Any]):
    def __init__(self, fn: Callable[[int], Any], numbers: Sequence[int]) -> None:
        self._fn = fn
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, at: int) -> Any:
        return self._fn(self._numbers[at])


def _quiet(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)

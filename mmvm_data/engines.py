"""The same function over the same inputs, in one process or in many, with results in the order of the inputs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 16  # inputs a worker may run ahead of the slowest one
_state: Any = None


class WorkerDied(Exception):
    """A worker process ended in the middle of an input, as when a decoder crashes or memory runs out."""


def run(
    items: Iterable[Item],
    setup: Callable[..., Any],
    arguments: tuple[Any, ...],
    work: Callable[[Any, Item], Result],
    workers: int,
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """``work(setup(*arguments), item)`` for each item, in the order of the items.

    Args:
        items: inputs; picklable when there is more than one worker.
        setup: makes what a worker keeps (an opened source); called once in each process.
        work: a function at the top of a module. Its exceptions are raised here and end the run.
        workers: processes; 1 works in this one.

    Yields:
        each item with its result. WorkerDied in its place when the process ended on this item, twice and the second
        time alone, so that other items are not blamed.
    """
    if workers == 1:
        state = setup(*arguments)
        for item in items:
            yield item, work(state, item)
        return
    yield from _many(iter(items), setup, arguments, work, workers)


def _many(
    items: Iterator[Item],
    setup: Callable[..., Any],
    arguments: tuple[Any, ...],
    work: Callable[[Any, Item], Result],
    workers: int,
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    pool = _pool(workers, setup, arguments)
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(_call, work, item)))
            if len(waiting) >= workers * _AHEAD:
                break
        while waiting:
            item, future = waiting.popleft()
            try:
                result: Result | WorkerDied = future.result()
            except BrokenProcessPool:
                pool.shutdown(cancel_futures=True)
                result = _alone(item, setup, arguments, work)
                again = [other for other, _ in waiting]
                pool = _pool(workers, setup, arguments)
                waiting = deque((other, pool.submit(_call, work, other)) for other in again)
            yield item, result
            for upcoming in items:
                waiting.append((upcoming, pool.submit(_call, work, upcoming)))
                break
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _alone(
    item: Item, setup: Callable[..., Any], arguments: tuple[Any, ...], work: Callable[[Any, Item], Result]
) -> Result | WorkerDied:
    with _pool(1, setup, arguments) as pool:
        try:
            return pool.submit(_call, work, item).result()
        except BrokenProcessPool:
            return WorkerDied("the process ended while working on this input")


def _pool(workers: int, setup: Callable[..., Any], arguments: tuple[Any, ...]) -> ProcessPoolExecutor:
    # spawn: OpenCV, decord and the progress display hold threads, which a fork would copy half-dead
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(setup, arguments))


def _start(setup: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _state
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the run in order
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _state = setup(*arguments)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _call(work: Callable[[Any, Item], Result], item: Item) -> Result:
    return work(_state, item)

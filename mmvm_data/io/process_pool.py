"""The same function over the same inputs, in one process or in many, with results in the order of the inputs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from types import FrameType
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 16  # inputs a worker may run ahead of the slowest one
_POLL_SECONDS = 0.1
_state: Any = None
_stop = threading.Event()


class WorkerDied(Exception):
    """A worker process ended in the middle of an input, as when a decoder crashes or memory runs out."""


@contextmanager
def orderly_stop() -> Iterator[None]:
    """Inside, Ctrl-C lets ``run`` finish what is in hand, then raises KeyboardInterrupt; a second one raises at once.

    Otherwise it could strike in the midst of a write, or while a process is being started. Does nothing outside the
    main thread, which alone receives signals.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        if _stop.is_set():
            raise KeyboardInterrupt
        _stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _stop.clear()
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _stop.clear()


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

    Raises:
        KeyboardInterrupt: between two results, inside ``orderly_stop``.
    """
    if workers == 1:
        state = setup(*arguments)
        for item in items:
            yield item, work(state, item)
            raise_if_stopped()
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
            waiting.append((item, _submit(pool, work, item)))
            if len(waiting) >= workers * _AHEAD:
                break
        while waiting:
            item, future = waiting.popleft()
            while not wait((future,), timeout=_POLL_SECONDS).done:
                raise_if_stopped()
            try:
                result: Result | WorkerDied = future.result()
            except BrokenProcessPool:
                pool.shutdown(cancel_futures=True)
                result = _alone(item, setup, arguments, work)
                again = [other for other, _ in waiting]
                pool = _pool(workers, setup, arguments)
                waiting = deque((other, _submit(pool, work, other)) for other in again)
            yield item, result
            raise_if_stopped()
            for upcoming in items:
                waiting.append((upcoming, _submit(pool, work, upcoming)))
                break
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _alone(
    item: Item, setup: Callable[..., Any], arguments: tuple[Any, ...], work: Callable[[Any, Item], Result]
) -> Result | WorkerDied:
    with _pool(1, setup, arguments) as pool:
        try:
            return _submit(pool, work, item).result()
        except BrokenProcessPool:
            return WorkerDied("the process ended while working on this input")


def _pool(workers: int, setup: Callable[..., Any], arguments: tuple[Any, ...]) -> ProcessPoolExecutor:
    # spawn: OpenCV, decord and the progress display hold threads, which a fork would copy half-dead
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(setup, arguments))


def _submit(pool: ProcessPoolExecutor, work: Callable[[Any, Item], Result], item: Item) -> Future[Result]:
    """Hand an item to the pool, which may start a process for it.

    A process inherits the mask of signals: with SIGINT blocked it cannot be hit by Ctrl-C on its way to ``_start``, and
    one that arrives here meanwhile is kept until the mask is lifted.
    """
    resource_tracker.ensure_running()  # its own start lifts the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_call, work, item)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def raise_if_stopped() -> None:
    """Raises KeyboardInterrupt after Ctrl-C, inside ``orderly_stop``."""
    if _stop.is_set():
        raise KeyboardInterrupt


def _start(setup: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _state
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the run in order
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _state = setup(*arguments)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _call(work: Callable[[Any, Item], Result], item: Item) -> Result:
    return work(_state, item)

"""Map a function over inputs in one process or in several, with results in the order of the inputs."""

from __future__ import annotations

import atexit
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

_PREFETCH_PER_WORKER = 16  # inputs a worker may run ahead of the slowest one
_POLL_SECONDS = 0.1
DISABLE_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
"""Environment variable that is set in workers, whose models no plugin of pydantic validates."""
_worker_context: Any = None
_interrupted = threading.Event()


class WorkerDied(Exception):
    """A worker process ended while it processed an input, as when a decoder crashes or memory runs out."""


@contextmanager
def graceful_interrupt() -> Iterator[None]:
    """Delay Ctrl-C: ``map_ordered`` finishes the current result, then raises KeyboardInterrupt. A second Ctrl-C raises
    at once.

    Without it, the signal could arrive in the middle of a write or while a process is being started. Does nothing
    outside the main thread, which alone receives signals.
    """

    def on_sigint(number: int, frame: FrameType | None) -> None:
        if _interrupted.is_set():
            raise KeyboardInterrupt
        _interrupted.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _interrupted.clear()
    previous_handler = signal.signal(signal.SIGINT, on_sigint)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous_handler)
        _interrupted.clear()


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt after Ctrl-C, inside ``graceful_interrupt``."""
    if _interrupted.is_set():
        raise KeyboardInterrupt


def map_ordered(
    items: Iterable[Item],
    init_worker: Callable[..., Any],
    init_args: tuple[Any, ...],
    process: Callable[[Any, Item], Result],
    workers: int,
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """Yield ``process(init_worker(*init_args), item)`` for each item, in the order of the items.

    Args:
        items: inputs; picklable when there is more than one worker.
        init_worker: returns the context of a worker (such as an open source); called once in each process.
        init_args: arguments of ``init_worker``.
        process: a function at module level. Its exceptions are raised here and end the iteration.
        workers: number of processes; 1 works in this process.

    Yields:
        each item with its result. The result is a WorkerDied when the process ended on this item twice, the second
        time with no other item in the process, so that other items are not blamed.

    Raises:
        KeyboardInterrupt: between two results, inside ``graceful_interrupt``.
    """
    if workers == 1:
        context = init_worker(*init_args)
        for item in items:
            yield item, process(context, item)
            raise_if_interrupted()
        return
    yield from _map_parallel(iter(items), init_worker, init_args, process, workers)


def _map_parallel(
    items: Iterator[Item],
    init_worker: Callable[..., Any],
    init_args: tuple[Any, ...],
    process: Callable[[Any, Item], Result],
    workers: int,
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    pool = _create_pool(workers, init_worker, init_args)
    pending: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            pending.append((item, _submit(pool, process, item)))
            if len(pending) >= workers * _PREFETCH_PER_WORKER:
                break
        while pending:
            item, future = pending.popleft()
            while not wait((future,), timeout=_POLL_SECONDS).done:
                raise_if_interrupted()
            try:
                result: Result | WorkerDied = future.result()
            except BrokenProcessPool:
                pool.shutdown(cancel_futures=True)
                result = _retry_isolated(item, init_worker, init_args, process)
                unfinished = [other for other, _ in pending]
                pool = _create_pool(workers, init_worker, init_args)
                pending = deque((other, _submit(pool, process, other)) for other in unfinished)
            yield item, result
            raise_if_interrupted()
            for next_item in items:
                pending.append((next_item, _submit(pool, process, next_item)))
                break
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _retry_isolated(
    item: Item, init_worker: Callable[..., Any], init_args: tuple[Any, ...], process: Callable[[Any, Item], Result]
) -> Result | WorkerDied:
    """Process one item in a process of its own."""
    with _create_pool(1, init_worker, init_args) as pool:
        try:
            return _submit(pool, process, item).result()
        except BrokenProcessPool:
            return WorkerDied("the process ended while working on this input")


def _create_pool(workers: int, init_worker: Callable[..., Any], init_args: tuple[Any, ...]) -> ProcessPoolExecutor:
    # spawn: OpenCV, decord and the progress display hold threads, which a fork would copy in a broken state
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=_init_process, initargs=(init_worker, init_args))


def _submit(pool: ProcessPoolExecutor, process: Callable[[Any, Item], Result], item: Item) -> Future[Result]:
    """Submit an item to the pool, which may start a process for it.

    The future of a pool whose worker has died fails, as those of the items before do.

    A process inherits the signal mask. With SIGINT blocked, Ctrl-C cannot reach it before ``_init_process``; a signal
    to this process is delivered when the mask is restored. It inherits the environment too: a worker whose models are
    not validated by plugins does not search all installed packages for them.
    """
    resource_tracker.ensure_running()  # its own start restores the mask
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    previous_plugins = os.environ.get(DISABLE_PLUGINS)
    os.environ.setdefault(DISABLE_PLUGINS, "__all__")
    try:
        return pool.submit(_process_item, process, item)
    except BrokenProcessPool as error:  # a worker died after the last result was read
        failed: Future[Result] = Future()
        failed.set_exception(error)
        return failed
    finally:
        if previous_plugins is None:
            del os.environ[DISABLE_PLUGINS]
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


def _init_process(init_worker: Callable[..., Any], init_args: tuple[Any, ...]) -> None:
    global _worker_context
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the run in order
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    # when all else is done; to take apart what was loaded takes a quarter of a second where Numba is part of it
    atexit.register(os._exit, 0)
    _worker_context = init_worker(*init_args)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _process_item(process: Callable[[Any, Item], Result], item: Item) -> Result:
    return process(_worker_context, item)

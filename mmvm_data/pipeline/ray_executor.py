"""The same function over the same inputs on a Ray cluster (``pip install 'mmvm-data[cluster]'``).

One actor a worker, each with its own opened source; results come in the order of the inputs, as from
``process_pool.map_ordered``.
An actor that dies (killed, out of memory, its machine gone) is replaced. The input it was at is tried once more, alone
on a fresh actor; the others that waited for it are handed out again and not blamed.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mmvm_data.core.errors import UsageError
from mmvm_data.io.process_pool import Item, Result, WorkerDied, raise_if_interrupted

_AHEAD = 16  # inputs a worker may run ahead of the slowest one
_QUEUED = 2  # an actor has one in work and one waiting, so that it does not wait for us
_POLL_SECONDS = 0.1


@dataclass
class _Worker:
    """An actor and the positions that it was given, the one in work first; with ``alone`` it gets no second one."""

    actor: Any
    given: deque[tuple[int, Any]] = field(default_factory=deque)
    alone: bool = False


def run(
    items: Iterable[Item],
    setup: Callable[..., Any],
    arguments: tuple[Any, ...],
    work: Callable[[Any, Item], Result],
    workers: int,
    address: str | None = None,
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """``work(setup(*arguments), item)`` for each item, in the order of the items.

    Args:
        items, setup, arguments, work: as for ``process_pool.map_ordered``; this package must be installed on all
            machines.
        workers: actors, a processor each.
        address: of the cluster ("auto", "ray://host:10001", "host:6379"); None starts one on this machine that ends
            with the run.

    Yields:
        each item with its result, or with WorkerDied when an actor died at it twice.

    Raises:
        UsageError: Ray is not installed, or the cluster does not answer.
        KeyboardInterrupt: between two results, inside ``process_pool.graceful_interrupt``.
    """
    ray = _start(workers, address)
    team = _Team(ray, setup, arguments, work, workers)
    try:
        yield from team.run(iter(items))
    finally:
        team.end()
        ray.shutdown()


class _Team:
    def __init__(
        self, ray: Any, setup: Callable[..., Any], arguments: tuple[Any, ...], work: Callable[..., Any], count: int
    ) -> None:
        self._ray = ray
        self._make = lambda: _actor(ray).remote(setup, arguments, work)
        self._workers = [_Worker(self._make()) for _ in range(count)]
        self._results: dict[int, Any] = {}
        self._items: dict[int, Any] = {}
        self._again: deque[int] = deque()
        self._next = 0

    def run(self, items: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        out = 0
        while True:
            self._hand_out(items, out)
            while out in self._results:
                yield self._items.pop(out), self._results.pop(out)
                out += 1
                raise_if_interrupted()
                self._hand_out(items, out)
            if not any(worker.given for worker in self._workers):
                return
            self._gather()
            raise_if_interrupted()

    def end(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker.actor)

    def _hand_out(self, items: Iterator[Any], out: int) -> None:
        for _ in range(_QUEUED):
            for worker in sorted(self._workers, key=lambda w: len(w.given)):
                if len(worker.given) >= (1 if worker.alone else _QUEUED):
                    continue
                position = self._take(items, out)
                if position is None:
                    return
                self._give(worker, position)

    def _give(self, worker: _Worker, position: int) -> None:
        worker.given.append((position, worker.actor.call.remote(self._items[position])))

    def _take(self, items: Iterator[Any], out: int) -> int | None:
        if self._again:
            return self._again.popleft()
        if self._next >= out + len(self._workers) * _AHEAD:
            return None
        for item in items:
            self._items[self._next] = item
            self._next += 1
            return self._next - 1
        return None

    def _gather(self) -> None:
        running = {worker.given[0][1]: worker for worker in self._workers if worker.given}
        done, _ = self._ray.wait(list(running), num_returns=1, timeout=_POLL_SECONDS)
        for reference in done:
            worker = running[reference]
            position = worker.given[0][0]
            try:
                self._results[position] = self._get(reference)
            except self._ray.exceptions.RayActorError:
                self._replace(worker, position)
            else:
                worker.given.popleft()
                worker.alone = False

    def _replace(self, worker: _Worker, position: int) -> None:
        """A fresh actor for a dead one; the input it was at goes to it alone, the first time."""
        again = not worker.alone
        self._again.extend(other for other, _ in list(worker.given)[1:])
        self._ray.kill(worker.actor)
        worker.actor = self._make()
        worker.given.clear()
        worker.alone = again
        if again:
            self._give(worker, position)
        else:
            self._results[position] = WorkerDied("the process ended while working on this input")

    def _get(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from error


def _start(workers: int, address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its new default, said so that it does not warn
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'mmvm-data[cluster]'") from error
    here: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **here)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise UsageError(f"the Ray cluster at {address or 'this machine'} does not start or answer: {error}") from error
    return ray


def _actor(ray: Any) -> Any:
    return ray.remote(num_cpus=1, max_restarts=0)(_Actor)


class _Actor:
    """What runs on the cluster: keeps what ``setup`` made. It is made with the first input, so that its errors are the
    run's and not taken for the death of the actor."""

    def __init__(self, setup: Callable[..., Any], arguments: tuple[Any, ...], work: Callable[[Any, Any], Any]) -> None:
        self._setup = setup
        self._arguments = arguments
        self._work = work
        self._state: list[Any] = []

    def call(self, item: Any) -> Any:
        if not self._state:
            self._state.append(self._setup(*self._arguments))
        return self._work(self._state[0], item)

"""Map a function over inputs on a Ray cluster (``pip install 'mmvm-data[cluster]'``).

One actor a worker, each with its own context; results come in the order of the inputs, as from
``process_pool.map_ordered``. An actor that dies (killed, out of memory, its machine lost) is replaced. The input that
it was processing is retried once, alone on a new actor; inputs that were queued behind it are assigned again and not
counted as failures.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mmvm_data.core.errors import UsageError
from mmvm_data.io.process_pool import Item, Result, WorkerDied, raise_if_interrupted

_PREFETCH_PER_WORKER = 16  # inputs a worker may run ahead of the slowest one
_QUEUED_PER_ACTOR = 2  # one that is processed and one that waits, so that the actor need not wait for the driver
_POLL_SECONDS = 0.1
_connections: list[Any] = []
"""The module ``ray`` while this process is connected."""


@dataclass
class _ActorSlot:
    """An actor and what it was assigned: positions with their results' references, the one in progress first.

    While it retries an input, no other one is assigned to it.
    """

    actor: Any
    assigned: deque[tuple[int, Any]] = field(default_factory=deque)
    is_retrying: bool = False


def map_ordered(
    items: Iterable[Item],
    init_worker: Callable[..., Any],
    init_args: tuple[Any, ...],
    process: Callable[[Any, Item], Result],
    workers: int,
    address: str | None = None,
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """Yield ``process(init_worker(*init_args), item)`` for each item, in the order of the items.

    Args:
        items, init_worker, init_args, process: as for ``process_pool.map_ordered``; this package must be installed on
            all machines.
        workers: number of actors, with one processor each.
        address: address of the cluster ("auto", "ray://host:10001", "host:6379"); None starts one on this machine that
            ends with the iteration.

    Yields:
        each item with its result, or with WorkerDied when an actor died on it twice.

    Raises:
        UsageError: Ray is not installed, or the cluster does not answer.
        KeyboardInterrupt: between two results, inside ``process_pool.graceful_interrupt``.
    """
    with connect(workers, address) as ray:
        pool = ActorPool(ray, init_worker, init_args, process, workers)
        try:
            yield from pool.map_ordered(iter(items))
        finally:
            pool.shutdown()


@contextmanager
def connect(workers: int, address: str | None = None) -> Iterator[Any]:
    """Connect to a cluster until the block ends; inside another such block, keep that one's connection.

    Starting a cluster, or connecting to one, takes seconds, which a command that maps several times spends once.

    Args:
        workers, address: see ``map_ordered``.

    Returns:
        the module ``ray``.

    Raises:
        UsageError: as ``map_ordered``.
    """
    if _connections:
        yield _connections[-1]
        return
    ray = _init_ray(workers, address)
    _connections.append(ray)
    try:
        yield ray
    finally:
        _connections.pop()
        ray.shutdown()


class ActorPool:
    """Actors that process inputs; a dead one is replaced.

    Args:
        ray: the module, initialized.
        init_worker, init_args, process: see ``map_ordered``.
        size: number of actors.
    """

    def __init__(
        self,
        ray: Any,
        init_worker: Callable[..., Any],
        init_args: tuple[Any, ...],
        process: Callable[..., Any],
        size: int,
    ) -> None:
        self._ray = ray
        self._actor_args = (init_worker, init_args, process)
        self._slots = [_ActorSlot(self._start_actor()) for _ in range(size)]
        self._results: dict[int, Any] = {}
        self._items: dict[int, Any] = {}
        self._unassigned: deque[int] = deque()  # positions that a dead actor left behind
        self._num_read = 0

    def map_ordered(self, items: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield each item with its result, in order; see the function of this name."""
        position = 0
        while True:
            self._assign_items(items, position)
            while position in self._results:
                yield self._items.pop(position), self._results.pop(position)
                position += 1
                raise_if_interrupted()
                self._assign_items(items, position)
            if not any(slot.assigned for slot in self._slots):
                return
            self._collect_results()
            raise_if_interrupted()

    def shutdown(self) -> None:
        """End all actors."""
        for slot in self._slots:
            self._ray.kill(slot.actor)

    def _assign_items(self, items: Iterator[Any], num_yielded: int) -> None:
        """Fill the queues of the actors, the shortest first."""
        for _ in range(_QUEUED_PER_ACTOR):
            for slot in sorted(self._slots, key=lambda slot: len(slot.assigned)):
                if len(slot.assigned) >= (1 if slot.is_retrying else _QUEUED_PER_ACTOR):
                    continue
                position = self._next_position(items, num_yielded)
                if position is None:
                    return
                self._assign(slot, position)

    def _assign(self, slot: _ActorSlot, position: int) -> None:
        slot.assigned.append((position, slot.actor.process.remote(self._items[position])))

    def _next_position(self, items: Iterator[Any], num_yielded: int) -> int | None:
        """The position of the next input to assign; None when there is none, or too many results are waiting."""
        if self._unassigned:
            return self._unassigned.popleft()
        if self._num_read >= num_yielded + len(self._slots) * _PREFETCH_PER_WORKER:
            return None
        for item in items:
            self._items[self._num_read] = item
            self._num_read += 1
            return self._num_read - 1
        return None

    def _collect_results(self) -> None:
        """Wait a moment for results, and keep those that are there."""
        in_progress = {slot.assigned[0][1]: slot for slot in self._slots if slot.assigned}
        ready, _ = self._ray.wait(list(in_progress), num_returns=1, timeout=_POLL_SECONDS)
        for reference in ready:
            slot = in_progress[reference]
            position = slot.assigned[0][0]
            try:
                self._results[position] = self._get(reference)
            except self._ray.exceptions.RayActorError:
                self._replace_actor(slot, position)
            else:
                slot.assigned.popleft()
                slot.is_retrying = False

    def _replace_actor(self, slot: _ActorSlot, position: int) -> None:
        """Start a new actor for a dead one; it retries the input at ``position`` if that was its first attempt."""
        is_first_attempt = not slot.is_retrying
        self._unassigned.extend(queued for queued, _ in list(slot.assigned)[1:])
        self._ray.kill(slot.actor)
        slot.actor = self._start_actor()
        slot.assigned.clear()
        slot.is_retrying = is_first_attempt
        if is_first_attempt:
            self._assign(slot, position)
        else:
            self._results[position] = WorkerDied("the process ended while working on this input")

    def _start_actor(self) -> Any:
        return _actor_class(self._ray).remote(*self._actor_args)

    def _get(self, reference: Any) -> Any:
        """The result of a call; an error of the function itself is raised as it was."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from error


def _init_ray(workers: int, address: str | None) -> Any:
    """Connect to a cluster, or start one on this machine; return the module ``ray``."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # the new default; set so that Ray does not warn about it
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError("`engine='ray'` needs Ray: pip install 'mmvm-data[cluster]'") from error
    local_settings: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **local_settings)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise UsageError(f"the Ray cluster at {address or 'this machine'} does not start or answer: {error}") from error
    return ray


def _actor_class(ray: Any) -> Any:
    return ray.remote(num_cpus=1, max_restarts=0)(_Actor)


class _Actor:
    """The class of the actors: holds the context that ``init_worker`` returns.

    The context is opened with the first input, so that its errors are raised to the caller and not taken for the death
    of the actor.
    """

    def __init__(
        self, init_worker: Callable[..., Any], init_args: tuple[Any, ...], process: Callable[[Any, Any], Any]
    ) -> None:
        self._init_worker = init_worker
        self._init_args = init_args
        self._process = process
        self._context: list[Any] = []

    def process(self, item: Any) -> Any:
        """The result of one input."""
        if not self._context:
            self._context.append(self._init_worker(*self._init_args))
        return self._process(self._context[0], item)

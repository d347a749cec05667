"""The order, the queues and the retries of actors, on a stand-in for Ray whose actors die on given inputs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from mmvm_data.core.errors import UsageError
from mmvm_data.io.process_pool import WorkerDied
from mmvm_data.pipeline import ray_executor


class ActorError(Exception):
    pass


class TaskError(Exception):
    def __init__(self, cause: object) -> None:
        self.cause = cause


class Killed(BaseException):
    """Raised by an input that ends its actor."""


@dataclass(eq=False)
class Actor:
    ray: Ray
    instance: Any

    def __post_init__(self) -> None:
        self.queue: list[Call] = []
        self.is_alive = True
        self.process = SimpleNamespace(remote=self.call)

    def call(self, item: Any) -> Call:
        self.queue.append(Call(self, item))
        self.ray.lengths.append(len(self.queue))
        return self.queue[-1]


@dataclass(eq=False)
class Call:
    actor: Actor
    item: Any


class Ray:
    """Results are ready in the reverse order of the actors, each when it is asked for."""

    exceptions = SimpleNamespace(RayActorError=ActorError, RayTaskError=TaskError)

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.lengths: list[int] = []
        self.settings: dict[str, Any] = {}
        self.is_running = False

    def init(self, **settings: Any) -> None:
        self.settings, self.is_running = settings, True

    def shutdown(self) -> None:
        self.is_running = False

    def remote(self, **options: Any) -> Any:
        assert options == {"num_cpus": 1, "max_restarts": 0}
        return lambda cls: SimpleNamespace(remote=lambda *args: self.start(cls(*args)))

    def start(self, instance: Any) -> Actor:
        self.actors.append(Actor(self, instance))
        return self.actors[-1]

    def wait(self, calls: list[Call], num_returns: int, timeout: float) -> tuple[list[Call], list[Call]]:
        assert num_returns == 1 and 0 < timeout < 1
        assert all(call is call.actor.queue[0] for call in calls)
        return calls[-1:], calls[:-1]

    def get(self, call: Call) -> Any:
        if not call.actor.is_alive:
            raise ActorError
        assert call.actor.queue.pop(0) is call
        try:
            return call.actor.instance.process(call.item)
        except Killed:
            call.actor.is_alive = False
            raise ActorError from None
        except Exception as error:
            raise TaskError(error) from error

    def kill(self, actor: Actor) -> None:
        actor.is_alive = False


@pytest.fixture()
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    stand_in = Ray()
    monkeypatch.setitem(sys.modules, "ray", stand_in)  # type: ignore[arg-type]
    return stand_in


class Work:
    """Adds 100 to an input; negative ones end their actor, as often as given."""

    def __init__(self, **deaths: int) -> None:
        self.deaths = {-int(name[1:]): number for name, number in deaths.items()}
        self.attempts: list[tuple[int, int]] = []
        self.opened = 0

    def open(self, base: int) -> int:
        self.opened += 1
        return base

    def process(self, context: int, item: int) -> int:
        self.attempts.append((self.opened, item))
        if self.deaths.get(item, 0):
            self.deaths[item] -= 1
            raise Killed
        return context + item

    def run(self, items: Iterable[int], workers: int = 2, address: str | None = None) -> list[tuple[int, Any]]:
        return list(ray_executor.map_ordered(items, self.open, (100,), self.process, workers, address))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_are_in_order_and_queues_are_short(ray: Ray, workers: int) -> None:
    work = Work()
    assert work.run(range(70), workers) == [(item, 100 + item) for item in range(70)]
    assert len(ray.actors) == work.opened == workers
    assert max(ray.lengths) == 2
    assert not ray.is_running and not any(actor.is_alive for actor in ray.actors)
    assert work.run([]) == []


def test_each_actor_has_work_before_one_has_two(ray: Ray) -> None:
    results = ray_executor.map_ordered(range(9), Work().open, (0,), Work().process, 3)
    next(results)
    assert ray.lengths[:6] == [1, 1, 1, 2, 2, 2]


def test_inputs_are_read_only_a_little_ahead(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_executor, "_PREFETCH_PER_WORKER", 3)
    read = []

    def items() -> Iterator[int]:
        for item in range(40):
            read.append(item)
            yield item

    work = Work()
    for item, _ in ray_executor.map_ordered(items(), work.open, (0,), work.process, 2):
        assert len(read) <= item + 1 + 2 * 3
    assert read == list(range(40))


def test_a_dead_actor_is_replaced_and_its_input_retried(ray: Ray) -> None:
    work = Work(_5=1)
    items = [1, 2, -5, 3, 4, 6]
    assert work.run(items) == [(item, 100 + item) for item in items]
    assert sorted(item for _, item in work.attempts) == sorted([*items, -5])
    assert len(ray.actors) == work.opened == 3


def test_an_input_on_which_two_actors_die_is_given_up(ray: Ray) -> None:
    work = Work(_5=2, _6=1)
    items = [1, -5, 2, -6, *range(10, 30)]
    results = work.run(items)
    assert [item for item, _ in results] == items
    (died,) = [result for item, result in results if item == -5]
    assert isinstance(died, WorkerDied)
    assert str(died) == "the process ended while working on this input"
    assert [result for item, result in results if item != -5] == [100 + item for item in items if item != -5]
    assert [item for _, item in work.attempts].count(-5) == 2
    assert len(ray.actors) == 2 + 3


def test_a_retry_is_alone_on_its_actor(ray: Ray) -> None:
    work = Work(_5=2)
    results = work.run([-5, *range(8)], workers=1)
    assert [type(result) for _, result in results] == [WorkerDied, *[int] * 8]
    second = ray.actors[1]
    assert [call.item for call in second.queue] == []
    assert work.attempts[:3] == [(1, -5), (2, -5), (3, 0)]
    assert ray.lengths[:4] == [1, 2, 1, 1]  # the second actor got one input, the third one at first


def test_errors_of_the_work_are_raised_as_they_are(ray: Ray) -> None:
    def fail(context: int, item: int) -> int:
        raise ValueError(f"bad input {item}")

    with pytest.raises(ValueError, match="bad input 3"):
        list(ray_executor.map_ordered([3, 4], Work().open, (0,), fail, 1))
    assert not ray.is_running and not any(actor.is_alive for actor in ray.actors)


def test_an_error_without_a_cause_is_raised_itself(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(call: Call) -> None:
        raise TaskError("a text")

    monkeypatch.setattr(ray, "get", fail)
    with pytest.raises(TaskError):
        Work().run([1])


def test_settings_of_a_cluster_of_our_own_and_of_another(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        monkeypatch.setenv(name, "")  # restored at the end
        monkeypatch.delenv(name)
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    Work().run([1], workers=3)
    assert ray.settings == quiet | {"address": "local", "num_cpus": 3, "include_dashboard": False}
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0" == os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "1"
    Work().run([1], address="10.0.0.1:6379")
    assert ray.settings == quiet | {"address": "10.0.0.1:6379"}
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


def test_a_cluster_that_does_not_start(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UsageError) as caught:
        Work().run([1])
    assert str(caught.value) == "the Ray cluster at this machine does not start or answer: no room"


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError) as caught:
        Work().run([1])
    assert str(caught.value) == "`engine='ray'` needs Ray: pip install 'mmvm-data[cluster]'"


def test_one_connection_serves_what_runs_inside_it(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "init", lambda **settings: starts.append(settings))
    work = Work()
    with ray_executor.connect(2, "10.0.0.1:6379"):
        assert work.run([1, 2]) == [(1, 101), (2, 102)] and work.run([3]) == [(3, 103)]
    assert [settings["address"] for settings in starts] == ["10.0.0.1:6379"]
    with pytest.raises(ValueError, match="inside"), ray_executor.connect(2):
        raise ValueError("inside")
    work.run([1], address="auto")
    assert [settings["address"] for settings in starts[1:]] == ["local", "auto"]

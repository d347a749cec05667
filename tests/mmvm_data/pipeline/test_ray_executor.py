"""One function over many inputs on a Ray cluster: order, crashes, errors."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmvm_data.core.errors import UsageError
from mmvm_data.io import process_pool
from tests import rays

ray = pytest.importorskip("ray")

from mmvm_data.pipeline import ray_executor  # noqa: E402

pytestmark = pytest.mark.xdist_group("ray")  # one cluster at a time


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    yield from rays.cluster()


def init_worker(base: int, folder: str) -> tuple[int, Path]:
    if base < 0:
        raise UsageError("the source cannot be opened")
    return base, Path(folder)


def process(state: tuple[int, Path], item: int) -> int:
    base, folder = state
    if item == -2:
        raise ValueError("bad input")
    if item == -1:
        os.kill(os.getpid(), signal.SIGKILL)  # as a decoder that crashes
    if item == -3 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)  # as a person or the kernel does
    return base + item


def map_items(
    items: list[int], folder: Path, address: str, workers: int = 2, base: int = 100
) -> list[tuple[int, object]]:
    return list(ray_executor.map_ordered(items, init_worker, (base, str(folder)), process, workers, address))


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_inputs(workers: int, tmp_path: Path, address: str) -> None:
    assert map_items(list(range(80)), tmp_path, address, workers) == [(i, 100 + i) for i in range(80)]
    assert map_items([], tmp_path, address, workers) == []


def test_a_crash_loses_one_input_only(tmp_path: Path, address: str) -> None:
    items = [1, 2, -1, 3, 4, 5, 6]
    results = map_items(items, tmp_path, address, base=0)
    assert [item for item, _ in results] == items
    died = [isinstance(result, process_pool.WorkerDied) for _, result in results]
    assert died == [item == -1 for item in items]
    assert [r for _, r in results if not isinstance(r, process_pool.WorkerDied)] == [1, 2, 3, 4, 5, 6]


def test_the_input_of_a_killed_worker_is_retried(tmp_path: Path, address: str) -> None:
    assert map_items([0, -3, 2, 3, 4], tmp_path, address) == [(0, 100), (-3, 97), (2, 102), (3, 103), (4, 104)]


def test_errors_of_the_work_and_of_opening_end_the_run(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match="bad input"):
        map_items([1, -2, 3], tmp_path, address)
    with pytest.raises(UsageError, match="cannot be opened"):
        map_items([1], tmp_path, address, base=-1)


def test_a_missing_cluster_is_an_error_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UsageError, match=r"at 127\.0\.0\.1:1 does not start or answer: nobody there"):
        map_items([1], tmp_path, "127.0.0.1:1")

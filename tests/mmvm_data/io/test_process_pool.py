"""One function over many inputs: order, crashes, interrupts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.io import process_pool


def setup(base: int, folder: str) -> tuple[int, Path]:
    return base, Path(folder)


def work(state: tuple[int, Path], item: int) -> int:
    if item < 0:
        if item == -2:
            raise ValueError("bad input")
        os._exit(3)  # as a decoder that crashes
    time.sleep(0.02 * (item % 3))  # later items finish first
    return state[0] + item


def read_variable(state: str, item: int) -> str | None:
    return os.environ.get(state)


@pytest.mark.parametrize("chosen", [None, "logfire-plugin"])
def test_workers_search_for_no_plugins_of_pydantic(monkeypatch: pytest.MonkeyPatch, chosen: str | None) -> None:
    name = "PYDANTIC_DISABLE_PLUGINS"
    monkeypatch.delenv(name, raising=False)
    if chosen:
        monkeypatch.setenv(name, chosen)
    assert list(process_pool.map_ordered([0], str, (name,), read_variable, 2)) == [(0, chosen or "__all__")]
    assert os.environ.get(name) == chosen


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_the_order_of_the_inputs(workers: int, tmp_path: Path) -> None:
    found = list(process_pool.map_ordered(range(50), setup, (100, str(tmp_path)), work, workers))
    assert found == [(i, 100 + i) for i in range(50)]


def test_crash_affects_only_one_input(tmp_path: Path) -> None:
    items = [1, 2, -1, 3, 4, -1, 5]
    found = list(process_pool.map_ordered(items, setup, (0, str(tmp_path)), work, 2))
    assert [item for item, _ in found] == items
    died = [isinstance(result, process_pool.WorkerDied) for _, result in found]
    assert died == [item == -1 for item in items]
    assert [r for _, r in found if not isinstance(r, process_pool.WorkerDied)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("prefetch", [16, 1])
def test_a_crash_between_two_results_affects_only_one_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefetch: int
) -> None:
    """The next input is submitted when the pool already knows that its worker is gone: at the start, or later."""
    monkeypatch.setattr(process_pool, "_PREFETCH_PER_WORKER", prefetch)
    submit, futures = process_pool._submit, []

    def record(*arguments: Any) -> Any:
        futures.append(submit(*arguments))
        return futures[-1]

    def inputs() -> Iterator[int]:
        yield from (1, -1)
        assert futures[1].exception(timeout=120)
        yield from (2, 3)

    monkeypatch.setattr(process_pool, "_submit", record)
    found = list(process_pool.map_ordered(inputs(), setup, (0, str(tmp_path)), work, 2))
    assert [item for item, _ in found] == [1, -1, 2, 3]
    assert isinstance(found[1][1], process_pool.WorkerDied)
    assert [result for item, result in found if item > 0] == [1, 2, 3]


@pytest.mark.parametrize("workers", [1, 2])
def test_exception_ends_the_iteration(workers: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad input"):
        list(process_pool.map_ordered([1, -2, 3], setup, (0, str(tmp_path)), work, workers))


SCRIPT = """
import sys, time
from pathlib import Path
from mmvm_data.io.process_pool import map_ordered

def setup(folder):
    return Path(folder)

def work(folder, item):
    import os
    (folder / str(os.getpid())).touch()
    time.sleep(0.2)
    return item

if __name__ == "__main__":
    for _ in map_ordered(range(1000), setup, (sys.argv[1],), work, 2):
        pass
"""


def test_workers_exit_when_the_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    marks = tmp_path / "pids"
    marks.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(marks)])
    while len(list(marks.iterdir())) < 2:
        assert parent.poll() is None
        time.sleep(0.1)
    pids = [int(p.name) for p in marks.iterdir()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    while any(_alive(pid) for pid in pids):  # where one stays, the time limit of the test ends it
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"

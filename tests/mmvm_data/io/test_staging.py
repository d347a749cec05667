"""What killed processes leave beside a file or a folder, and folders that appear when they are complete."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from mmvm_data.core.errors import UsageError
from mmvm_data.io import leftovers
from mmvm_data.io.files import atomic_write
from mmvm_data.io.staging import scratch_folder, staging_folder


def run_and_die(action: Callable[[], None]) -> int:
    """Call a function in a fork that ends in the middle of it; returns the process id."""
    child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    return child


def write_and_die(path: Path) -> int:
    def write_half() -> None:
        with atomic_write(path) as handle:
            handle.write("half")
            handle.flush()
            os._exit(0)

    return run_and_die(write_half)


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_found", {})


def test_a_file_of_a_killed_process_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    first = write_and_die(tmp_path / "a.json")
    other = write_and_die(tmp_path / "b.json")
    assert set(os.listdir(tmp_path)) == {f".a.json.{first}.tmp", f".b.json.{other}.tmp"}
    with atomic_write(tmp_path / "a.json") as handle:
        handle.write("whole")
    assert set(os.listdir(tmp_path)) == {"a.json", f".b.json.{other}.tmp"}
    with atomic_write(tmp_path / "b.json") as handle:
        handle.write("whole")
    assert set(os.listdir(tmp_path)) == {"a.json", "b.json"}


def test_files_that_are_in_use_and_those_of_others_stay(tmp_path: Path) -> None:
    dead = write_and_die(tmp_path / "x")
    alive, locked = tmp_path / f".a.json.{os.getpid()}.tmp", tmp_path / f".a.json.{dead}.tmp"
    others = [tmp_path / name for name in (".a.json.tmp", f"a.json.{dead}.tmp", f".a.json.{dead}.tmp~", ".notes.12")]
    link = tmp_path / f".a.json.{dead}.r0f.tmp"
    for path in (alive, locked, *others):
        path.write_text("mine")
    link.symlink_to(others[0])
    with open(locked) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # as a process on another machine holds it
        leftovers.remove_leftovers(tmp_path / "a.json")
    assert all(path.read_text() == "mine" for path in (alive, locked, *others)) and link.is_symlink()


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new/result"

    def fill_half() -> None:
        with staging_folder(target) as folder:
            (folder / "a").mkdir()
            (folder / "a/b").write_text("half")
            os._exit(0)

    run_and_die(fill_half)
    assert len(os.listdir(target.parent)) == 1 and not target.exists()
    with staging_folder(target) as folder:
        assert os.listdir(target.parent) == [folder.name]
        (folder / "c").write_text("whole")
    assert os.listdir(target.parent) == ["result"] and os.listdir(target) == ["c"]
    with pytest.raises(UsageError, match="not empty"), staging_folder(target):
        pass
    with pytest.raises(KeyError), staging_folder(tmp_path / "other"):
        raise KeyError
    assert os.listdir(tmp_path) == ["new"]


def stage(target: Path, started: Event, go: Event) -> None:
    with staging_folder(target) as folder:
        (folder / "first").touch()
        started.set()
        go.wait(60)


def test_a_second_process_is_refused_with_the_id_of_the_first(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started, go = context.Event(), context.Event()
    first = context.Process(target=stage, args=(tmp_path / "result", started, go))
    first.start()
    assert started.wait(60)
    try:
        with (
            pytest.raises(UsageError, match=rf"another command \(pid {first.pid}\) is writing"),
            staging_folder(tmp_path / "result"),
        ):
            pass
    finally:
        go.set()
        first.join()
    assert os.listdir(tmp_path / "result") == ["first"]


def test_who_comes_second_does_not_replace_the_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already exists"), staging_folder(tmp_path / "result"):
        (tmp_path / "result").mkdir()
        (tmp_path / "result/first").touch()
    assert os.listdir(tmp_path) == ["result"]


@pytest.mark.parametrize("random", [b"\x79\x49\x35\x94", b"\x00\x0f\xa0\x1e"])
def test_scratch_folders_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random: bytes
) -> None:
    """Also those whose random part is written in digits alone, as an id is."""
    digits = iter([random, b"\x11\x22\x33\x44", b"\x55\x66\x77\x88"])
    monkeypatch.setattr(os, "urandom", lambda size: next(digits))

    def leave_scratch_folder() -> None:
        with scratch_folder(tmp_path / "builds/build") as folder:
            (folder / "a").touch()
            os._exit(0)

    run_and_die(leave_scratch_folder)
    next(digits)  # the fork has used it
    (left,) = os.listdir(tmp_path / "builds")
    with scratch_folder(tmp_path / "builds/build") as first, scratch_folder(tmp_path / "builds/build") as second:
        assert sorted(os.listdir(tmp_path / "builds")) == sorted((first.name, second.name))
        assert left not in (first.name, second.name)
    assert os.listdir(tmp_path / "builds") == []

"""The lock of a folder: its holder's name, waiting, giving up, and what a killed holder leaves."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from mmvm_data.core.errors import OutputError, UsageError
from mmvm_data.io import folder_lock
from mmvm_data.io.folder_lock import LOCK_FILE, lock_folder


def hold(folder: Path, held: Event) -> None:
    with lock_folder(folder, "mmvm-data rationale"):
        held.set()
        time.sleep(60)


def start_holder(folder: Path) -> multiprocessing.context.SpawnProcess:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(folder, held))
    process.start()
    assert held.wait(60)
    return process


def test_the_file_names_its_holder_and_goes(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "mmvm-data cues"):
        assert json.loads((tmp_path / LOCK_FILE).read_text()) == {"command": "mmvm-data cues", "pid": os.getpid()}
    assert os.listdir(tmp_path) == []


def test_who_waits_says_for_whom_and_gives_up_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start_holder(tmp_path)
    holder = f"`mmvm-data rationale` (pid {process.pid})"
    try:
        start = time.monotonic()
        with pytest.raises(UsageError) as caught, lock_folder(tmp_path, "mmvm-data cues", wait_seconds=0.3):
            pass
        assert time.monotonic() - start >= 0.3
        assert holder in str(caught.value) and "\n" not in str(caught.value)
        assert capsys.readouterr().err == f"waiting for {holder}\n"
    finally:
        process.kill()
        process.join()


def test_a_killed_holder_is_no_obstacle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start_holder(tmp_path)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / LOCK_FILE).exists()
    with lock_folder(tmp_path, "mmvm-data cues", wait_seconds=0):
        pass
    assert capsys.readouterr().err == "" and os.listdir(tmp_path) == []


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pid": 1}'])
def test_whatever_the_file_says(tmp_path: Path, left: str) -> None:
    (tmp_path / LOCK_FILE).write_text(left)
    with lock_folder(tmp_path, "mmvm-data cues", wait_seconds=0):
        pass


def test_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "_POLL_SECONDS", 0.0005)
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(40):
            with lock_folder(tmp_path, "work", on_wait=lambda _: None):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"), lock_folder(tmp_path / "missing", "work"):
        pass

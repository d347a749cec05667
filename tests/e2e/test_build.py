"""`mmvm-data build` as a whole command: the same bytes whatever happens to it."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.pipeline import build, case_writer
from tests.worlds import davis, tree

COMMAND = [sys.executable, "-m", "mmvm_data.cli"]


def run(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=240)
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return davis(tmp_path_factory.mktemp("world"), videos=30)


@pytest.fixture(scope="module")
def reference(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("reference") / "bench"
    run("build", "--source", "davis", "--root", world, "--out", out, "--seed", 5, "--min-area", 100)
    files = tree(out)
    assert sum(name.endswith("FRAME00.json") for name in files) > 80
    return files


def build_command(world: Path, out: Path, *more: object) -> list[str]:
    return [
        *map(str, ("build", "--source", "davis", "--root", world, "--out", out, "--seed", 5, "--min-area", 100, *more))
    ]


def test_two_workers_write_the_same_bytes(world: Path, reference: dict[str, bytes], tmp_path: Path) -> None:
    run(*build_command(world, tmp_path / "b", "--workers", 2))
    assert tree(tmp_path / "b") == reference


def test_caches_do_not_change_the_result(
    world: Path, reference: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_writer, "_CACHED_FRAME_BYTES", 1)
    monkeypatch.setattr(case_writer, "_CACHED_OUTLINES", 1)
    options = build.BuildOptions(sampling=SamplingOptions(seed=5, min_area=100))
    build.build("davis", world, tmp_path / "b", options)
    assert tree(tmp_path / "b") == reference


def test_the_root_may_lie_elsewhere(reference: dict[str, bytes], tmp_path: Path) -> None:
    run(*build_command(davis(tmp_path / "copy", videos=30), tmp_path / "b"))
    assert tree(tmp_path / "b") == reference


def test_killed_twenty_times_and_resumed(world: Path, reference: dict[str, bytes], tmp_path: Path) -> None:
    out, rng, kills = tmp_path / "b", random.Random(1), 0
    for attempt in range(200):
        workers = 1 + attempt % 2
        process = subprocess.Popen(
            [*COMMAND, *build_command(world, out, "--workers", workers, "--resume")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            if kills < 20:
                _wait_for_work(out, process)
                time.sleep(rng.random() * 0.15)
                process.kill()
                kills += process.wait() == -signal.SIGKILL
            else:
                _, errors = process.communicate(timeout=240)
                assert process.returncode == 0, errors
                break
        finally:
            process.kill()
            process.wait()
        if (out / "build.json").exists():  # it finished first: start again, with the count kept
            assert "nothing to do" in run(*build_command(world, out, "--resume")).stdout
            assert tree(out) == reference
            run(*build_command(world, out, "--overwrite", "--max-cases", 1))
            (out / "build.json").unlink()
            subprocess.run(["rm", "-r", str(out)], check=True)
    assert kills == 20
    assert tree(out) == reference
    assert not (out / ".build").exists()


def _wait_for_work(out: Path, process: subprocess.Popen[Any]) -> None:
    """Wait until this process has finished a video."""
    length = _journal_length(out)
    while process.poll() is None and _journal_length(out) <= length:
        time.sleep(0.02)


def _journal_length(out: Path) -> int:
    file = out / ".build/journal.jsonl"
    return file.stat().st_size if file.exists() else 0


@pytest.mark.parametrize(("workers", "seconds"), [(1, 0.0), (2, 0.0), (2, 0.03), (2, 0.2)])
def test_interrupted_with_ctrl_c(
    world: Path, reference: dict[str, bytes], tmp_path: Path, workers: int, seconds: float
) -> None:
    for attempt in range(20):
        out = tmp_path / f"b{attempt}"
        process = subprocess.Popen(
            [*COMMAND, *build_command(world, out, "--workers", workers)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        _wait_for_work(out, process)
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        _, errors = process.communicate(timeout=240)
        if not (out / "build.json").exists():  # else it finished first
            break
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "--resume" in errors
    run(*build_command(world, out, "--resume"))
    assert tree(out) == reference


def test_a_larger_build_starts_with_the_smaller_one(world: Path, reference: dict[str, bytes], tmp_path: Path) -> None:
    run(*build_command(world, tmp_path / "b", "--max-cases", 7))
    few = tree(tmp_path / "b")
    cases = {name: data for name, data in few.items() if name.startswith("match_bench/")}
    assert len({name.split("/")[1] for name in cases}) == 7
    assert all(reference[name] == data for name, data in cases.items())
    assert reference["cases.jsonl"].startswith(few["cases.jsonl"])


def test_existing_output_is_never_lost_by_accident(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert "not empty" in run(*build_command(world, out), expect=2).stderr
    assert "not empty" in run(*build_command(world, out, "--overwrite"), expect=2).stderr
    assert (out / "thesis.txt").read_text() == "mine"
    out = tmp_path / "c"
    run(*build_command(world, out, "--max-cases", 3))
    before = tree(out)
    assert "--overwrite" in run(*build_command(world, out, "--max-cases", 3), expect=2).stderr
    assert "nothing to do" in run(*build_command(world, out, "--max-cases", 3, "--resume")).stdout
    assert "max_cases" in run(*build_command(world, out, "--max-cases", 4, "--resume"), expect=2).stderr
    assert tree(out) == before
    run(*build_command(world, out, "--max-cases", 3, "--overwrite"))
    assert tree(out) == before


def test_one_build_at_a_time(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    first = subprocess.Popen(
        [*COMMAND, *build_command(world, out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_for_work(out, first)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        if first.poll() is None and (out / ".build").exists():
            for more in ((), ("--resume",), ("--overwrite",)):
                refusal = run(*build_command(world, out, *more), expect=2).stderr
                assert f"`mmvm-data build` (pid {first.pid}) is writing here" in refusal
    finally:
        os.kill(first.pid, signal.SIGCONT)
        first.wait(timeout=120)


def test_the_former_build_stays_until_the_new_one_is_complete(world: Path, tmp_path: Path) -> None:
    """A replacing build is killed, and replaced itself; an unfinished build counts as a former one too."""
    out = tmp_path / "b"
    run(*build_command(world, out, "--max-cases", 3))
    before = tree(out, leave_out=())
    for more in (("--overwrite",), ("--resume",), ("--overwrite",)):
        process = subprocess.Popen(
            [*COMMAND, *build_command(world, out, *more)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait_for_work(out, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert tree(out / ".replaced", leave_out=()) == before
    refusal = run(*build_command(world, out), expect=2).stderr
    assert "an unfinished build" in refusal
    run(*build_command(world, out, "--resume"))
    assert not [name for name in os.listdir(out) if name.startswith(".")]


@pytest.fixture()
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk(world: Path, reference: dict[str, bytes], small_disk: Path) -> None:
    for workers in (1, 2):
        out = small_disk / f"b{workers}"
        done = run(*build_command(world, out, "--workers", workers), expect=2)
        assert "No space left" in done.stderr
        for folder in (out / "match_bench").glob("case_*"):
            assert len(list(folder.iterdir())) == 6  # complete cases only
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        run(*build_command(world, out, "--workers", workers, "--resume"))
        assert tree(out) == reference
        subprocess.run(["rm", "-r", str(out)], check=True)
        subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)


def test_read_only_disk(world: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "Read-only" in run(*build_command(world, small_disk / "b"), expect=2).stderr


def test_strict_exits_with_one_for_bad_inputs(world: Path, tmp_path: Path) -> None:
    spoiled = davis(tmp_path / "spoiled", videos=3)
    image = spoiled / "JPEGImages/480p/clip001/00002.jpg"
    image.write_bytes(image.read_bytes()[:700])
    run(*build_command(spoiled, tmp_path / "b"))
    run(*build_command(spoiled, tmp_path / "c", "--strict", "--cases-per-video", 12), expect=1)
    rejects = [json.loads(line) for line in (tmp_path / "c/rejects.jsonl").read_text().splitlines()]
    assert any(r["file"] == "JPEGImages/480p/clip001/00002.jpg" for r in rejects)
    assert len(list((tmp_path / "c/match_bench").iterdir())) > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--source", "davsi"), "did you mean 'davis'"),
        (("--root", "nowhere"), "No such file"),
        (("--none-share", "1.5"), "none-share"),
        (("--workers", "-1"), "workers"),
        (("--candidates", "5"), "candidates"),
        (("--min-gap", "9", "--max-gap", "3"), "max-gap"),
    ],
)
def test_wrong_usage(world: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run(*build_command(world, tmp_path / "b", *arguments), expect=2)
    assert message in done.stderr.replace("_", "-")
    assert not (tmp_path / "b").exists()


def test_unreadable_root(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        missing = tmp_path / "file"
        missing.write_text("")
    else:
        missing = tmp_path / "closed"
        missing.mkdir()
        missing.chmod(stat.S_IWUSR)
    run("build", "--source", "davis", "--root", missing, "--out", tmp_path / "b", expect=2)

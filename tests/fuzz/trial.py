"""One run of a command over files with a fault, and what it may print and return."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shutil
import signal
import traceback
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import click

from mmvm_data.io import console
from tests.fuzz.families import FAMILIES, Family, replaced_services
from tests.fuzz.faults import SYSTEMATIC, TEXTS, apply_fault, edit_randomly

EXIT_CODES = (0, 1, 2, 3)
HANG_SECONDS = 60
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What a terminal would obey, or what changes the direction of text: nothing that a command prints of data holds it."""


class Hang(BaseException):
    """A command took too long."""


class Outcome(NamedTuple):
    """What a run of a command gave.

    Attributes:
        command: its name.
        fault: the file that was changed, and how.
        code: the exit code; None after an exception or a hang.
        problem: why the outcome is not allowed, "" when it is.
        stderr: what was printed as error.
        peak_mb: largest resident memory of the process during the run, 0 where it is not known.
        growth_mb: by how much that is more than before the run: a process of many tests holds much already.
    """

    command: str
    fault: str
    code: int | None
    problem: str
    stderr: str
    peak_mb: float
    growth_mb: float = 0.0


class Inputs:
    """The unharmed input files of a family, in memory.

    Args:
        family: whose files are written.
        folder: empty or missing; it is removed again.
    """

    def __init__(self, family: Family, folder: Path) -> None:
        folder.mkdir(parents=True)
        family.prepare(folder)
        self.family = family
        self._origin = str(folder).encode()
        self._files = {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        self._folders = [p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_dir()]
        shutil.rmtree(folder)
        groups: dict[str, list[str]] = {}
        for name in self._files:
            if not any(part in f"/{name}" for part in family.skip):
                groups.setdefault(re.sub(r"\d+", "0", str(name)), []).append(str(name))
        self.groups = list(groups.values())

    def write(self, folder: Path) -> None:
        """Write the files to a folder; paths in their content lead there."""
        for name in self._folders:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, data in self._files.items():
            if name.suffix in (".json", ".jsonl", ".yaml"):
                data = data.replace(self._origin, str(folder).encode())
            (folder / name).write_bytes(data)


def run_trial(inputs: Inputs, folder: Path, number: int, seed: int = 0) -> Outcome:
    """Run a command with one fault that follows from ``number`` and ``seed``.

    The command, the kind of file (files whose names differ in numbers alone are one kind), the file and its fault are
    drawn at random; every second fault is a systematic one.
    """
    rng = random.Random(f"{seed} {number}")
    command = inputs.family.commands[rng.randrange(len(inputs.family.commands))]
    name = rng.choice(inputs.groups[rng.randrange(len(inputs.groups))])
    fault = rng.choice(SYSTEMATIC) if rng.random() < 0.5 else "edit"
    return run_with_fault(inputs, folder, command, name, fault, rng)


def run_with_fault(
    inputs: Inputs, folder: Path, command: tuple[str, ...], name: str, fault: str, rng: random.Random
) -> Outcome:
    """Run a command after a fault was put into a file.

    Args:
        inputs: the files.
        folder: missing; removed afterwards.
        command: one of the family's.
        name: of the file, relative to the folder.
        fault: one of SYSTEMATIC, or "edit" for a random one.
        rng: for random edits and odd values.
    """
    inputs.write(folder)
    odd = rng.choice(TEXTS)
    try:
        if fault == "edit":
            edit_randomly(folder / name, rng)
        else:
            apply_fault(folder / name, fault)
        words = [word.replace("{d}", str(folder)).replace("{odd}", odd) for word in command]
        code, problem, stderr, peak, growth = run_words(inputs.family.program, words)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    words = takewhile(lambda word: not word.startswith(("{", "-")), command)
    return Outcome(" ".join(words), f"{name}: {fault}", code, problem, stderr, peak, growth)


def run_words(program: str, words: list[str]) -> tuple[int | None, str, str, float, float]:
    """Run a command in this process, as its entry point does; see ``Outcome`` for what is returned."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors=e) for e in ("strict", "backslashreplace"))
    code: int | None = None
    problem = ""
    previous = signal.signal(signal.SIGALRM, _raise_hang)
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    _reset_peak()
    before = _peak_mb()
    try:
        services = replaced_services(words[2]) if words[:2] == ["browse", "pull"] else contextlib.nullcontext()
        with services, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                console.run_command(group_of(program), program, words)
                code = 0
            finally:
                out.flush()
                err.flush()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    except Hang:
        problem = f"hang: {traceback.format_exc(limit=-4)}"
    except Exception:
        problem = f"traceback: {traceback.format_exc()}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    printed = err.buffer.getvalue().decode()  # type: ignore[attr-defined]
    stdout = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    if not problem and (found := CONTROL.search(stdout + printed)):
        problem = f"a control character is printed: {found[0]!r}"
    peak = _peak_mb()
    return code, problem or check_output(code, printed), printed, peak, peak - before


def check_output(code: int | None, stderr: str) -> str:
    """Return what is wrong with an exit code and a message, "" when nothing is."""
    if code not in EXIT_CODES:
        return f"exit code {code}"
    if "Traceback (most recent call last)" in stderr:
        return "traceback printed"
    if code == 2 and "Usage: " not in stderr:
        messages = re.split(r"^error: ", stderr, flags=re.MULTILINE)[1:]
        if len(messages) != 1:
            return f"{len(messages)} messages"
        first, *rest = messages[0].rstrip("\n").split("\n")
        if not first.strip() or not all(line.startswith("  ") for line in rest):
            return "a message of several lines"
        if "\x1b" in messages[0]:
            return "an escape code in a message"
    return ""


def group_of(program: str) -> click.Group:
    """The group of commands of a program."""
    if program == "colva":
        from colva.cli import main

        return main
    from mmvm_data.cli import cli

    return cli


def _raise_hang(number: int, frame: FrameType | None) -> None:
    raise Hang


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    match = re.search(r"VmHWM:\s+(\d+)", status)
    return int(match[1]) / 1024 if match else 0.0


def scratch_folder(pid: int) -> Path:
    """A folder of a process for files that are written many times, in memory where that is possible."""
    memory = Path("/dev/shm")
    return (memory if os.access(memory, os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))) / f"fuzz-{pid}"


def open_inputs(name: str, scratch: Path) -> Inputs:
    """The inputs of a family by its name."""
    return Inputs(FAMILIES[name], scratch / "origin")

"""Share of mutants that the tests kill, room by room, from fixed random samples of mutmut's mutants.

python benchmarks/mutation.py --rooms core losses --sample 100 --seeds 0 1 --out benchmarks/results/mutation.json

A copy of the tracked files is mutated, never the checkout. Each mutant runs the tests of its room that reach the
mutated function. A mutant counts as killed when a test fails, the process dies or the tests take far too long; one
that no test reaches counts as survived, also on lines that no test executes. A survivor that is listed in
``equivalent_mutants.json`` behaves like the original, for the reason stated there: it is recorded with that reason and
counts neither way. Rooms are measured one after the other; 100 mutants take 2 to 10 minutes. An existing record keeps
what other rooms and seeds gave.

mutmut sees only what a test calls in its own process. With ``--subprocesses`` each mutant that is left runs again: all
tests of its room, and those of ``SUBPROCESS_TESTS``, run with the mutant in their environment, so that the workers and
commands that they start run it too. That takes a minute or two a mutant. With ``--keep`` a run that was stopped
continues.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from common import emit, machine

ROOT = Path(__file__).resolve().parents[1]
ROOMS: dict[str, tuple[list[str], list[str]]] = {
    "core": (["mmvm_data/core/*.py"], ["tests/mmvm_data/core"]),
    "cases": (["mmvm_data/cases/*.py"], ["tests/mmvm_data/cases"]),
    "pipeline": (
        ["mmvm_data/pipeline/*.py"],
        ["tests/mmvm_data/pipeline", "--ignore=tests/mmvm_data/pipeline/test_ray_executor.py"],
    ),
    "losses": (["colva/losses.py"], ["tests/colva/test_losses.py"]),
    "processing": (["colva/processing/*.py"], ["tests/colva/processing"]),
}
"""Room -> the files that are mutated, and their tests."""

SUBPROCESS_TESTS = {
    "pipeline": ["tests/e2e/test_build.py", "tests/e2e/test_cloud.py", "tests/mmvm_data/builders/test_every.py"]
}
"""Room -> further tests that start processes which run its files; those of clusters do not survive mutmut's forks."""

# torch.compile cannot trace mutmut's trampolines
PYTEST_OPTIONS = ["-n", "0", "-x", "-m", "not slow", "-k", "not compile"]

SURVIVED, NO_TESTS = 0, (5, 33)
"""mutmut's exit codes; every other one that is recorded means that the mutant was noticed."""

EQUIVALENT = Path(__file__).with_name("equivalent_mutants.json")
"""Mutants that no test can tell from the original: ``function``, ``change`` (as in a record) and ``reason`` of each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rooms", nargs="+", choices=sorted(ROOMS), default=list(ROOMS))
    parser.add_argument("--sample", type=int, default=100, help="mutants a room and seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one sample each")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--subprocesses", action="store_true", help="run what is left with processes that tests start")
    parser.add_argument("--keep", type=Path, help="folder for the mutated copies, to use mutmut in them afterwards")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    facts = machine()
    record: dict[str, Any] = {"rooms": {}}
    if arguments.out and arguments.out.exists():
        record = json.loads(arguments.out.read_text(encoding="utf-8"))
    for room in arguments.rooms:
        with tempfile.TemporaryDirectory() as folder:
            copy = (arguments.keep or Path(folder)) / room
            copy_checkout(copy, *ROOMS[room])
            run_mutmut(copy, arguments.processes, "no.such.mutant")  # generates all mutants, runs none
            for seed in arguments.seeds:
                tests = list_all_tests(room) if arguments.subprocesses else []
                counts = measure_sample(copy, arguments.sample, seed, arguments.processes, tests)
                options = f"--rooms {room} --sample {arguments.sample} --seeds {seed} --processes {arguments.processes}"
                options += " --subprocesses" * arguments.subprocesses
                counts |= {"command": f"python benchmarks/mutation.py {options}", "machine": facts}
                record["rooms"].setdefault(room, {})[f"seed {seed}"] = counts
                emit(record, arguments.out)


def measure_sample(copy: Path, sample: int, seed: int, processes: int, tests: list[str]) -> dict[str, Any]:
    """Counts of one sample, and what its surviving mutants change; ``tests`` run again for those that mutmut leaves."""
    started = time.monotonic()
    names = sorted(read_exit_codes(copy))
    chosen = sorted(random.Random(seed).sample(names, min(sample, len(names))))
    output = run_mutmut(copy, processes, *chosen)
    codes = {name: code for name, code in read_exit_codes(copy).items() if name in set(chosen)}
    if all(code is None for code in codes.values()):
        raise SystemExit(f"mutmut ran no mutant: {output[-4000:]}")
    left = [name for name in chosen if classify(codes[name]) != "killed"] if tests else []
    again = run_in_subprocesses(copy, left, tests)
    codes |= again
    reasons = read_equivalents()
    outcomes: Counter[str] = Counter()
    survivors, equivalents = {}, {}
    for name in chosen:
        outcome = classify(codes[name])
        if outcome == "survived":
            change = read_change(copy, name)
            reason = reasons.get((function_of(name), *change))
            if reason is None:
                survivors[name] = change
            else:
                outcome = "equivalent"
                equivalents[name] = {"change": change, "reason": reason}
        outcomes[outcome] += 1
    tried = outcomes["killed"] + outcomes["survived"]
    return {
        "mutants": len(names),
        "sampled": len(chosen),
        "not_run": outcomes["not_run"],
        "killed": outcomes["killed"],
        "killed_in_subprocesses": sum(classify(code) == "killed" for code in again.values()),
        "equivalent": outcomes["equivalent"],
        "killed_share": round(outcomes["killed"] / tried, 4) if tried else None,
        "survivors": survivors,
        "equivalents": equivalents,
        "seconds": round(time.monotonic() - started),
    }


def read_equivalents() -> dict[tuple[str, ...], str]:
    """(Function, changed lines...) -> why the change has no effect."""
    entries = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    return {(entry["function"], *entry["change"]): entry["reason"] for entry in entries}


def function_of(mutant: str) -> str:
    """Qualified name of the function that a mutant changes."""
    module, _, name = mutant.rpartition("__mutmut_")[0].rpartition(".")
    return f"{module}.{name[1:].strip('ǁ').replace('ǁ', '.') if 'ǁ' in name else name[2:]}"


def read_change(copy: Path, mutant: str) -> list[str]:
    """The lines that a mutant removes (``- line``) and adds (``+ line``), without indentation."""
    done = subprocess.run([sys.executable, "-m", "mutmut", "show", mutant], cwd=copy, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line[:1] in "-+" and line[:3] not in ("---", "+++")]
    return [f"{line[0]} {line[1:].strip()}" for line in lines]


def copy_checkout(copy: Path, files: list[str], tests: list[str]) -> None:
    """Copy the tracked and new files, and configure mutmut for one room."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    configuration = {
        "source_paths": ["mmvm_data", "colva"],
        "only_mutate": files,
        "also_copy": ["tests", "configs", "docs", "benchmarks", "README.md", "CONTRIBUTING.md"],
        "pytest_add_cli_args": PYTEST_OPTIONS,
        "pytest_add_cli_args_test_selection": tests,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in configuration.items()]
    with open(copy / "pyproject.toml", "a", encoding="utf-8") as handle:
        handle.write("\n[tool.mutmut]\n" + "\n".join(lines) + "\n")


def run_mutmut(copy: Path, processes: int, *names: str) -> str:
    """Run mutants by name and return the output; mutmut keeps what it has generated and measured before."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment.setdefault("MMVM_SHARED", str(ROOT.parent / "shared"))
    environment["OMP_NUM_THREADS"] = "1"  # a forked child waits for ever for threads that it does not have
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(processes), *names]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    if not any((copy / "mutants").rglob("*.meta")):
        raise SystemExit(f"mutmut made no mutants: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout + done.stderr


def list_all_tests(room: str) -> list[str]:
    """The tests of a room, with those that mutmut cannot run."""
    return [test for test in ROOMS[room][1] if not test.startswith("--")] + SUBPROCESS_TESTS.get(room, [])


def run_in_subprocesses(copy: Path, mutants: list[str], tests: list[str]) -> dict[str, int]:
    """Run all tests for each mutant, which is active in every process that they start, and return the exit codes.

    Codes are kept in a file of the copy, so that they are not measured twice.
    """
    file = copy / "subprocesses.json"
    codes: dict[str, int] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if not mutants:
        return {}
    started = time.monotonic()
    if run_tests(copy, "none", tests) != SURVIVED:
        raise SystemExit("the tests fail without a mutant in their environment")
    limit = 60 + 3 * (time.monotonic() - started)
    for name in mutants:
        if name not in codes:
            codes[name] = run_tests(copy, name, tests, limit)
            file.write_text(json.dumps(codes, indent=1), encoding="utf-8")
    return {name: codes[name] for name in mutants}


def run_tests(copy: Path, mutant: str, tests: list[str], seconds: float | None = None) -> int:
    """Exit code of the tests with a mutant in their environment; -SIGKILL when they take too long."""
    folder = copy / "mutants"
    environment = {"MMVM_SHARED": str(ROOT.parent / "shared")} | os.environ
    environment |= {"PYTHONPATH": str(folder), "MUTANT_UNDER_TEST": mutant, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", *PYTEST_OPTIONS, *tests]
    with (
        open(copy / "subprocesses.log", "a", encoding="utf-8") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True) as done,
    ):
        try:
            return done.wait(seconds)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(done.pid, signal.SIGKILL)  # and what the tests have left


def read_exit_codes(copy: Path) -> dict[str, int | None]:
    """Name of each mutant -> the exit code of its tests, None when it was not run."""
    codes: dict[str, int | None] = {}
    for path in (copy / "mutants").rglob("*.meta"):
        codes |= json.loads(path.read_text(encoding="utf-8")).get("exit_code_by_key", {})
    return codes


def classify(code: int | None) -> str:
    """``killed``, ``survived`` or ``not_run``."""
    if code is None:
        return "not_run"
    return "survived" if code == SURVIVED or code in NO_TESTS else "killed"


if __name__ == "__main__":
    main()

"""Share of mutants that the tests kill, room by room, from a fixed random sample of mutmut's mutants.

python benchmarks/mutation.py --rooms core losses --sample 150 --out benchmarks/results/mutation.json

A copy of the tracked files is mutated, never the checkout. Each mutant runs the tests of its room that reach the
mutated function. A mutant counts as killed when a test fails, the process dies or the tests take far too long; one
that no test reaches counts as survived. Rooms are measured one after the other; 150 mutants take 2 to 10 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
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
    "pipeline": (["mmvm_data/pipeline/*.py"], ["tests/mmvm_data/pipeline", "tests/e2e/test_build.py"]),
    "losses": (["colva/losses.py"], ["tests/colva/test_losses.py"]),
    "processing": (["colva/processing/*.py"], ["tests/colva/processing"]),
}
"""Room -> the files that are mutated, and their tests."""

SURVIVED, NO_TESTS = 0, (5, 33)
"""mutmut's exit codes; every other one that is recorded means that the mutant was noticed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rooms", nargs="+", choices=sorted(ROOMS), default=list(ROOMS))
    parser.add_argument("--sample", type=int, default=200, help="mutants a room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    record: dict[str, Any] = {"machine": machine(), "seed": arguments.seed, "rooms": {}}
    for room in arguments.rooms:
        record["rooms"][room] = measure_room(room, arguments.sample, arguments.seed)
        emit(record, arguments.out)


def measure_room(room: str, sample: int, seed: int) -> dict[str, Any]:
    """Counts of one room and the names of its surviving mutants."""
    files, tests = ROOMS[room]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        copy_checkout(copy, files, tests)
        run_mutmut(copy, "no.such.mutant")  # generates all mutants, runs none
        names = sorted(read_exit_codes(copy))
        chosen = sorted(random.Random(seed).sample(names, min(sample, len(names))))
        output = run_mutmut(copy, *chosen)
        codes = {name: code for name, code in read_exit_codes(copy).items() if name in set(chosen)}
    if all(code is None for code in codes.values()):
        raise SystemExit(f"{room}: mutmut ran no mutant: {output[-4000:]}")
    outcomes = Counter(classify(code) for code in codes.values())
    survivors = sorted(name for name, code in codes.items() if classify(code) == "survived")
    tried = outcomes["killed"] + outcomes["survived"]
    return {
        "mutants": len(names),
        "sampled": len(chosen),
        "not_run": outcomes["not_run"],
        "killed": outcomes["killed"],
        "killed_share": round(outcomes["killed"] / tried, 4) if tried else None,
        "survivors": survivors,
        "seconds": round(time.monotonic() - started),
    }


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
        # torch.compile cannot trace mutmut's trampolines
        "pytest_add_cli_args": ["-n", "0", "-x", "-m", "not slow", "-k", "not compile"],
        "pytest_add_cli_args_test_selection": tests,
        "mutate_only_covered_lines": True,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in configuration.items()]
    with open(copy / "pyproject.toml", "a", encoding="utf-8") as handle:
        handle.write("\n[tool.mutmut]\n" + "\n".join(lines) + "\n")


def run_mutmut(copy: Path, *names: str) -> str:
    """Run mutants by name and return the output; mutmut keeps what it has generated and measured before."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment.setdefault("MMVM_SHARED", str(ROOT.parent / "shared"))
    command = [sys.executable, "-m", "mutmut", "run", *names]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    if not any((copy / "mutants").rglob("*.meta")):
        raise SystemExit(f"mutmut made no mutants: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout + done.stderr


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

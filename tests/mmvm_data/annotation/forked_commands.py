"""Commands that change a benchmark, each in a forked process that is slowed down or killed at its file-system events.

Run as a script, so that the process that forks has no threads. It prints one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmvm_data import cli
from mmvm_data.annotation.review.task import build_task
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.viz import fiftyone, mongo
from mmvm_data.viz.dataset_samples import StoredCase
from tests.forks import KILLED, Hook, ask_script, fork, run_command, wait
from tests.mmvm_data.annotation.annotations import choice
from tests.worlds import tree

_browsed: list[str] = []
STATE_LEFT_OUT = ("build.json", "commit.json", ".lock")


def ask(request: dict[str, Any]) -> Any:
    """Have this script carry out a request, in a process without threads."""
    return ask_script("tests.mmvm_data.annotation.forked_commands", request, timeout=900)


def write_export(path: Path, cases: Iterable[tuple[Case, list[dict[str, Any]], str]], hour: int = 1) -> Path:
    """Write a Label Studio export: for each case the proposal with changed results and a verdict."""
    tasks = []
    for number, (case, changes, verdict) in enumerate(cases, 1):
        task = build_task(case, str, len(case.frames))
        replaced = {change["from_name"] for change in changes}
        results = [r for r in task["predictions"][0]["result"] if r["from_name"] not in replaced]
        annotation = {
            "id": number,
            "unique_id": f"{path.stem}-{number}-{hour}",
            "completed_by": {"email": "ann@example.org"},
            "updated_at": f"2030-01-01T{hour:02d}:00:{number:02d}Z",
            "lead_time": 5.0,
            "result": [*results, *changes, choice("verdict", verdict)],
        }
        tasks.append({"id": number, "data": task["data"], "annotations": [annotation]})
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def use_fake_app(tags: dict[str, list[str]]) -> None:
    """Let ``browse pull`` find these tags of cases instead of asking a database."""

    class App:
        def dataset_exists(self, name: str) -> bool:
            return True

        def load_dataset(self, name: str) -> App:
            return self

    stored = {case_id: StoredCase({"query": "1"}, {"query": names}, "", ()) for case_id, names in tags.items()}
    clock = type("Clock", (), {"strftime": lambda *_: "2030-01-01T05:00:00Z", "gmtime": time.gmtime})
    replaced: dict[str, Any] = {
        "connect": lambda _: App(),
        "read_stored_cases": lambda *_: stored,
        "write_tags": lambda *_: None,
        "write_cases": lambda *_: None,
        "database_errors": contextlib.nullcontext,
        "_stored_folder": lambda _: _browsed[-1],
        "time": clock,
    }
    for name, value in replaced.items():
        setattr(fiftyone, name, value)
    vars(mongo)["open_database"] = lambda *_: None


def start(arguments: list[str], output: Path, hook: Hook | None = None) -> int:
    """Start a command in a fork that calls ``hook`` before each event that changes the benchmark; returns its id."""
    folder = arguments[2] if arguments[0] in ("review", "browse") else arguments[1]
    if arguments[0] == "browse":
        _browsed.append(str(Path(folder).resolve()))
    return fork(lambda: run_command(cli.cli, arguments), folder, output, hook)


def state(folder: Path) -> dict[str, bytes]:
    """Files that must agree."""
    return {
        name: data
        for name, data in tree(folder, leave_out=STATE_LEFT_OUT).items()
        if not name.startswith((".revision/", ".rationales/"))
    }


def kill_everywhere(pristine: Path, arguments: list[str], work: Path) -> dict[str, Any]:
    """Kill a command at each of its writing events, and look at what stands then, and after the next command.

    Returns:
        ``events``: how many there are; ``faults``: what was wrong; ``old``, ``new``: how often which state stood.
    """
    faults: list[str] = []
    counts = {"old": 0, "new": 0}
    folder, output = work / "b", work / "output"
    command = [str(folder) if word == "BENCH" else word for word in arguments]

    def restore() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(pristine, folder)

    restore()
    old = state(folder)
    assert wait(start(command, output)) == 0, output.read_text()
    new = state(folder)
    assert old != new
    events = 0
    for events in range(10_000):
        restore()
        seen = 0

        def kill(at: int = events) -> None:
            nonlocal seen
            if seen == at:
                os._exit(KILLED)
            seen += 1

        code = wait(start(command, output, kill))
        if code == 0:
            break
        if code != KILLED:
            faults.append(f"event {events}: exit code {code}: {output.read_text()}")
            continue
        if wait(start(["validate", str(folder)], output)) != 0:
            faults.append(f"event {events}: {output.read_text()}")
        now = state(folder)
        if now == old:
            counts["old"] += 1
        elif now == new:
            counts["new"] += 1
        else:
            names = sorted(name for name in {*old, *now, *new} if now.get(name) not in (old.get(name), new.get(name)))
            mixed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
            faults.append(f"event {events}: neither the old nor the new state: {names}, of {mixed}")
        if wait(start(command, output)) != 0 or state(folder) != new or (folder / ".revision").exists():
            faults.append(f"event {events}: repeated, the command does not give the new state: {output.read_text()}")
    return {"events": events, "faults": faults, **counts}


def race(pristine: Path, commands: list[list[str]], work: Path, seed: int) -> dict[str, Any]:
    """Run commands at the same time, each delayed at random at its writing events."""
    folder = work / f"race{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(pristine, folder)
    children = []
    for number, arguments in enumerate(commands):
        rng = random.Random(f"{seed} {number}")
        pause = rng.random() * 0.5
        command = [str(folder) if word == "BENCH" else word for word in arguments]

        def delay(rng: random.Random = rng) -> None:
            time.sleep(rng.random() ** 4 * 0.15)

        output = work / f"race{seed}.{number}"
        children.append((start_late(command, output, delay, pause), output))
    codes = [wait(child) for child, _ in children]
    return {"folder": str(folder), "codes": codes, "printed": [output.read_text() for _, output in children]}


def start_late(command: list[str], output: Path, hook: Hook, seconds: float) -> int:
    first = [True]

    def delayed() -> None:
        if first[0]:
            first[0] = False
            time.sleep(seconds)
        hook()

    return start(command, output, delayed)


def main() -> None:
    request = json.loads(sys.stdin.read())
    pristine, work = Path(request["bench"]), Path(request["work"])
    use_fake_app(request.get("tags", {}))
    for _ in bench.read(pristine):
        break
    if request["kind"] == "kill":
        result: Any = kill_everywhere(pristine, request["command"], work)
    else:
        result = [race(pristine, request["commands"], work, seed) for seed in request["seeds"]]
    print(json.dumps(result))


if __name__ == "__main__":
    main()

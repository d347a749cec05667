"""A command that writes a result, in forked processes that are killed or slowed down at their file-system events.

Run as a script, so that the process that forks has no threads. It prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from colva import cli as colva
from mmvm_data import cli as mmvm_data
from mmvm_data.io.set_aside import REPLACED
from mmvm_data.io.transaction import JOURNAL
from tests.forks import KILLED, Hook, ask_script, fork, run_command, wait
from tests.worlds import tree

VOLATILE = ("build.json", "environment.json", "report.html")
"""They hold times."""


def ask(request: dict[str, Any]) -> Any:
    """Have this script carry out a request, in a process without threads."""
    return ask_script("tests.e2e.killed_commands", request, timeout=3000)


class Trial:
    """A folder that commands write to, again and again from the same state.

    Args:
        request: ``work``: a folder; ``before``: what lies at OUT at the start, or None.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self.work = Path(request["work"])
        self.folder, self.output = self.work / "t", self.work / "output"
        self.out = self.folder / "out"
        self._before = request.get("before")

    def restore(self) -> None:
        """Put the folder into its state at the start."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        if self._before:
            shutil.copytree(self._before, self.out)

    def fork(self, command: list[str], hook: Hook | None = None, output: Path | None = None) -> int:
        return fork(lambda: self._run(command), self.folder, output or self.output, hook)

    def _run(self, command: list[str]) -> tuple[int, str]:
        words = [word.replace("OUT", str(self.out)) for word in command]
        return run_command(mmvm_data.cli if words[0] == "mmvm-data" else colva.main, words[1:])

    def warm_up(self, command: list[str]) -> None:
        """Run a command in this process, so that its forks need not import what it imports when it runs.

        No Python thread may be left, which a fork would lack; those of native libraries are idle then.
        """
        self.restore()
        code, printed = self._run(command)
        assert code == 0, printed
        assert threading.active_count() == 1

    def call(self, command: list[str], hook: Hook | None = None) -> int:
        return wait(self.fork(command, hook))

    def visible(self, folder: Path | None = None) -> dict[str, bytes]:
        """The result, without hidden files."""
        files = tree(folder or self.out, VOLATILE) if (folder or self.out).exists() else {}
        return {name: data for name, data in files.items() if not name.startswith(".") and "/." not in name}

    def hidden(self) -> list[str]:
        """Hidden files and folders that should not be left. The index of a source is kept on purpose."""
        paths = (path.relative_to(self.folder) for path in self.folder.rglob(".*"))
        return sorted(str(path) for path in paths if path.parts[0] != ".out.index")


def kill_everywhere(request: dict[str, Any]) -> dict[str, Any]:
    """Kill a command at its writing events, look at what stands then, and repeat it.

    Args:
        request: ``command``; ``retries``: commands of which one continues, the others refuse; ``is_atomic``: whether
            only the old or the new state may stand; ``kills``: number of events to look at; 0: all; ``warm_up``: run
            the command once before all forks, where its imports take long.

    Returns:
        ``events``, ``kills``: how many there are, and were looked at; ``faults``: what was wrong.
    """
    trial, faults = Trial(request), []
    command, retries = request["command"], request["retries"]
    if request.get("warm_up"):
        trial.warm_up(command)
    trial.restore()
    old = trial.visible()
    counter = os.open(trial.work / "events", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    code = trial.call(command, lambda: os.write(counter, b"."))
    assert code == 0, trial.output.read_text()
    events = os.fstat(counter).st_size
    os.close(counter)
    new, left = trial.visible(), trial.hidden()
    assert new and new != old and not left, left
    kills = request["kills"] or events
    chosen = range(events) if kills >= events else sorted({round(k * (events - 1) / (kills - 1)) for k in range(kills)})
    for event in chosen:
        trial.restore()
        seen = 0

        def kill(at: int = event) -> None:
            nonlocal seen
            if seen == at:
                os._exit(KILLED)
            seen += 1

        code = trial.call(command, kill)
        if code != KILLED:
            faults.append(f"event {event}: exit code {code}: {trial.output.read_text()}")
            continue
        now = trial.visible()
        is_committed = (trial.out / JOURNAL / "commit.json").exists()  # the next command completes it
        if request["is_atomic"] and now not in (old, new) and not is_committed:
            faults.append(f"event {event}: neither the old nor the new state: {sorted(now)}")
        if (
            old
            and request["keeps_old"]
            and not request["is_atomic"]
            and old not in (now, trial.visible(trial.out / REPLACED))
            and now != new
        ):
            kept = [trial.visible(folder) for folder in trial.out.glob(f"{REPLACED}*")]
            merged = {name: data for part in (now, *kept) for name, data in part.items() if old.get(name) == data}
            if merged != old:
                faults.append(f"event {event}: the former result is gone: {sorted(set(old) - set(merged))}")
        codes = []
        for retry in retries:
            codes.append(trial.call(retry))
            if codes[-1] != 2:
                break
        is_done = codes[-1] == 0 or (request["is_atomic"] and codes[-1] == 2 and (is_committed or now == new))
        if not is_done or trial.visible() != new or trial.hidden():
            faults.append(
                f"event {event}: exit codes {codes}, left {trial.hidden()}, "
                f"differs {[n for n in {*new, *trial.visible()} if new.get(n) != trial.visible().get(n)]}: "
                f"{trial.output.read_text()}"
            )
    return {"events": events, "kills": len(chosen), "faults": faults}


def kill_again_and_again(request: dict[str, Any]) -> dict[str, Any]:
    """Kill a command at a writing event, continue it, kill that, and so on; then let it end.

    Args:
        request: ``command``, which continues what it finds; ``kills``.

    Returns:
        ``kills``: how often it was killed before its end; ``differs``: files that are not those of a run that was not
        killed; ``left``: hidden files that should not be there.
    """
    trial = Trial(request)
    trial.restore()
    counter = os.open(trial.work / "events", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    assert trial.call(request["command"], lambda: os.write(counter, b".")) == 0, trial.output.read_text()
    share = os.fstat(counter).st_size // (request["kills"] + 1)
    os.close(counter)
    new, kills = trial.visible(), 0
    trial.out.rename(trial.work / "whole")
    trial.restore()
    for number in range(request["kills"]):
        left = share + number

        def kill() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(KILLED)

        kills += trial.call(request["command"], kill) == KILLED
    assert trial.call(request["command"]) == 0, trial.output.read_text()
    now = trial.visible()
    differs = sorted(name for name in {*new, *now} if new.get(name) != now.get(name))
    return {"kills": kills, "differs": differs, "left": trial.hidden()}


def race(request: dict[str, Any]) -> dict[str, Any]:
    """Run two commands at the same time, each delayed at random at its writing events, and then a third one.

    Args:
        request: ``commands``: the two; ``results``: commands whose results may stand at the end, each alone;
            ``repair``: completes what a refused command has not done; ``seeds``.

    Returns:
        ``faults``: what was wrong; ``refused``: how often one of the two was.
    """
    trial, faults, refused = Trial(request), [], 0
    allowed = []
    for command in request["results"]:
        trial.restore()
        assert trial.call(command) == 0, trial.output.read_text()
        allowed.append(trial.visible())
    for seed in request["seeds"]:
        trial.restore()
        children, outputs = [], []
        for number, command in enumerate(request["commands"]):
            rng = random.Random(f"{seed} {number}")
            start = [rng.random() * 0.3]

            def delay(rng: random.Random = rng, start: list[float] = start) -> None:
                time.sleep(start.pop() if start else rng.random() ** 4 * 0.08)

            outputs.append(trial.work / f"output{number}")
            children.append(trial.fork(command, delay, outputs[-1]))
        codes = [wait(child) for child in children]
        printed = [output.read_text() for output in outputs]
        refused += 2 in codes
        lines = [[line for line in text.splitlines() if not line.startswith("waiting for")] for text in printed]
        is_clear = all(code == 0 or (code == 2 and len(texts) == 1) for code, texts in zip(codes, lines, strict=True))
        if not is_clear or codes == [2, 2] or trial.visible() not in allowed or trial.hidden():
            faults.append(
                f"seed {seed}: codes {codes}, left {trial.hidden()}, files {sorted(trial.visible())}: {printed}"
            )
    return {"faults": faults, "refused": refused}


def main() -> None:
    request = json.loads(sys.stdin.read())
    kinds = {"kill": kill_everywhere, "again": kill_again_and_again, "race": race}
    result = kinds[request["kind"]](request)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

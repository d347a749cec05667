"""Every command over input files with faults: exit codes, tracebacks, hangs, memory.

python benchmarks/fuzz.py --inputs 2000 --out benchmarks/results/fuzz.json

The commands of a family share their input files. Each input is a copy of them with one fault (tests/fuzz/faults.py),
and follows from ``--seed`` and its number. A family runs in one process, through the function that its entry point
calls. Allowed are the exit codes 0 to 3 and, where a command refuses, one message. A command that takes more than 60 s
is a hang; a process that does not even react to the alarm is killed, counted, and replaced by one that continues with
the next input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from common import emit, machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.fuzz.families import FAMILIES  # noqa: E402
from tests.fuzz.trial import HANG_SECONDS, Outcome, open_inputs, run_trial, scratch_folder  # noqa: E402

START_SECONDS = 300
"""A process may take so long to import a family's libraries and to write its files."""

ADDRESS_SPACE = 16 << 30
"""Bytes; far above what is allowed, so that the machine survives a fault and the peak is still measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--families", nargs="+", choices=sorted(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--inputs", type=int, default=2000, help="inputs a family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0, help="a family, at most")
    parser.add_argument("--add", action="store_true", help="keep the other families of an earlier --out")
    arguments = parser.parse_args()
    record: dict[str, Any] = {
        "machine": machine(),
        "command": " ".join(["python", *sys.argv]),
        "seed": arguments.seed,
        "inputs_each": arguments.inputs,
        "families": {},
    }
    if arguments.add and arguments.out.is_file():
        record["families"] = json.loads(arguments.out.read_text(encoding="utf-8"))["families"]
    for name in arguments.families:
        record["families"][name] = measure_family(name, arguments.inputs, arguments.seed, 60 * arguments.minutes)
        families = record["families"].values()
        record["inputs"] = sum(family["inputs"] for family in families)
        for key in ("tracebacks", "hangs", "other_faults"):
            record[key] = sum(family[key] for family in families)
        record["peak_mb"] = max(family["peak_mb"] for family in families)
        if arguments.out:  # so that a run that is stopped leaves what it has measured
            arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    emit(record, arguments.out)


def read_commit() -> str:
    """The commit of this tree, with "+" when other files than results differ from it; "" outside of a repository."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True).stdout.strip()
    command = [*git, "diff", "--quiet", "HEAD", "--", ".", ":!benchmarks/results"]
    is_changed = subprocess.run(command, capture_output=True).returncode == 1
    return commit + "+" * is_changed


def measure_family(name: str, inputs: int, seed: int, seconds: float) -> dict[str, Any]:
    """Counts of one family, and what its first faults were."""
    started = time.monotonic()
    outcomes: list[Outcome] = []
    while len(outcomes) < inputs and time.monotonic() < started + seconds:
        outcomes += run_process(name, len(outcomes), inputs, seed, started + seconds)
    faults = [outcome for outcome in outcomes if outcome.problem]
    kinds = Counter(outcome.problem.partition(":")[0] for outcome in faults)
    return {
        "commit": read_commit(),
        "commands": dict(sorted(Counter(outcome.command for outcome in outcomes).items())),
        "inputs": len(outcomes),
        "exit_codes": dict(sorted(Counter(str(outcome.code) for outcome in outcomes).items())),
        "tracebacks": kinds["traceback"] + kinds["traceback printed"],
        "hangs": kinds["hang"],
        "other_faults": sum(kinds.values()) - kinds["traceback"] - kinds["traceback printed"] - kinds["hang"],
        "faults": [[o.command, o.fault, o.problem[-1500:]] for o in faults[:20]],
        "peak_mb": round(max(outcome.peak_mb for outcome in outcomes), 1),
        "peak_at": max(outcomes, key=lambda outcome: outcome.peak_mb)[:2],
        "seconds": round(time.monotonic() - started, 1),
    }


def run_process(name: str, first: int, inputs: int, seed: int, deadline: float) -> list[Outcome]:
    """Run inputs from ``first`` on in a new process; fewer when it dies, does not react, or time is up."""
    context = multiprocessing.get_context("spawn")  # so that memory is that of the family alone
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_inputs, args=(sender, name, first, inputs, seed))
    process.start()
    sender.close()
    outcomes: list[Outcome] = []
    patience = float(START_SECONDS)
    while first + len(outcomes) < inputs:
        try:
            if not receiver.poll(patience):
                process.kill()
                outcomes.append(Outcome(name, f"input {first + len(outcomes)}", None, "hang: no reaction", "", 0.0))
                break
            outcomes.append(Outcome(*receiver.recv()))
        except EOFError:
            process.join()
            problem = f"died: exit code {process.exitcode}"
            outcomes.append(Outcome(name, f"input {first + len(outcomes)}", None, problem, "", 0.0))
            break
        patience = HANG_SECONDS + 30.0
        if time.monotonic() > deadline:
            process.terminate()
            break
    process.join()
    shutil.rmtree(scratch_folder(process.pid or 0), ignore_errors=True)
    return outcomes


def run_inputs(sender: Connection, name: str, first: int, inputs: int, seed: int) -> None:
    """Run inputs in this process and send their outcomes."""
    multiprocessing.set_start_method("fork", force=True)  # spawned processes would start their own by spawn too
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # image libraries write there themselves
    scratch = scratch_folder(os.getpid())
    with contextlib.redirect_stderr(open(os.devnull, "w")):
        family = open_inputs(name, scratch)
        for number in range(first, inputs):
            sender.send(tuple(run_trial(family, scratch / str(number), number, seed)))


if __name__ == "__main__":
    main()

"""A toy model, toy videos and a configuration that tests of training share; runs in processes of their own."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

from colva.checkpoints.init_tiny import init_tiny
from colva.config import parse
from colva.training.stage1 import Config
from tests.worlds import davis

STEPS = 10


def make(folder: Path, family: str = "internvl2-phi3") -> Path:
    """A folder with `model` and `videos`."""
    init_tiny(folder / "model", family=family, seed=0)
    davis(folder / "videos", videos=6, frames=6, objects=4)
    return folder


def config(world: Path, out: Path, **changes: Any) -> Config:
    """Ten steps of four pairs; changes are `run__batch=8` for `run.batch`."""
    content: dict[str, Any] = {
        "stage": "stage1",
        "model": str(world / "model"),
        "out": str(out),
        "seed": 3,
        "data": {
            "sources": [{"kind": "davis", "root": str(world / "videos"), "repeat": 8}],
            "held_out": 0.2,
            "pictures": {"max_tiles": 12},
        },
        "optimiser": {"lr": 1e-2},
        "run": {
            "batch": 4,
            "steps": STEPS,
            "workers": 0,
            "precision": "float32",
            "log_every": 1,
            "save_every": 2,
            "eval_every": 5,
        },
    }
    for name, value in changes.items():
        here = content
        *path, last = name.split("__")
        for part in path:
            here = here[part]
        here[last] = value
    return parse(content, Config, "test")


def lines(out: Path) -> list[dict[str, Any]]:
    """The records of a run."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def figures(out: Path) -> list[tuple[Any, ...]]:
    """What must not depend on how a run was carried out: steps, losses, accuracies, rates, norms."""
    names = ("step", "loss", "accuracy", "lr", "grad_norm", "eval_loss", "eval_accuracy")
    return [tuple(line.get(name) for name in names) for line in lines(out)]


def start(settings: Any, resume: bool = False) -> int:
    """`run` in a fork of this process; gives its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        from colva.training.run import run

        run(settings, resume)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def finished(child: int) -> int:
    """Wait for a fork; its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_after(child: int, out: Path, line: int, delay: float) -> None:
    """SIGKILL a fork some seconds after its log has so many lines."""
    log = out / "log.jsonl"
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if log.exists() and len(log.read_bytes().splitlines()) >= line:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(0.005)
    raise AssertionError("the run ended before it was to be killed")


def killed(settings: Any, kills: int, seed: int) -> None:
    """Start a run, kill it so many times, each a little later than the time before, and let it end."""
    rng = random.Random(seed)
    out, steps = Path(settings.out), settings.run.steps
    for kill in range(kills):
        done = len(lines(out)) if (out / "log.jsonl").exists() else 0
        child = start(settings, resume=kill > 0)
        # a line that this attempt will write, and a moment after it
        lowest = 1 + (steps * kill) // kills
        kill_after(child, out, max(lowest, min(done, lowest + 1)), rng.uniform(0, 0.15))
    assert finished(start(settings, resume=True)) == 0


def assert_close(ours: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]], abs: float) -> None:
    """Figures of two runs, line by line, what a line does not say left out."""
    for one, other in zip(ours, theirs, strict=True):
        assert [value for value in one if value is not None] == pytest.approx(
            [value for value in other if value is not None], abs=abs
        )

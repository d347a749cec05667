"""A toy model, toy videos and a configuration for tests of training, and runs in forked processes."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from colva.checkpoints.init_tiny import init_tiny
from colva.training import logs
from colva.training.stage1 import Stage1Config
from mmvm_data.core.config_values import parse_config
from tests.ports import free_port
from tests.worlds import davis

STEPS = 10


def make_world(folder: Path, family: str = "internvl2-phi3") -> Path:
    """A folder with `model` and `videos`."""
    init_tiny(folder / "model", family=family, seed=0)
    davis(folder / "videos", videos=6, frames=6, objects=4)
    return folder


def make_config(world: Path, out: Path, **changes: Any) -> Stage1Config:
    """Ten steps of four pairs; `trainer__global_batch_size=8` changes `trainer.global_batch_size`."""
    content: dict[str, Any] = {
        "stage": "stage1",
        "model": str(world / "model"),
        "output_dir": str(out),
        "seed": 3,
        "data": {
            "sources": [{"kind": "davis", "root": str(world / "videos"), "repeat": 8}],
            "held_out_share": 0.2,
            "image_options": {"max_tiles": 12},
        },
        "optimizer": {"learning_rate": 1e-2},
        "trainer": {
            "global_batch_size": 4,
            "max_steps": STEPS,
            "num_workers": 0,
            "precision": "float32",
            "logging_steps": 1,
            "save_steps": 2,
            "eval_steps": 5,
        },
    }
    for name, value in changes.items():
        section = content
        *path, last = name.split("__")
        for part in path:
            section = section[part]
        section[last] = value
    return parse_config(content, Stage1Config, "test")


def read_log(out: Path) -> list[dict[str, Any]]:
    """The records of a run's log."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def run_metrics(out: Path) -> list[tuple[Any, ...]]:
    """What must not depend on how a run is carried out: steps, losses, accuracies, learning rates, norms."""
    names = ("step", "loss", "accuracy", "lr", "grad_norm", "eval_loss", "eval_accuracy")
    return [tuple(line.get(name) for name in names) for line in read_log(out)]


def start_run(
    settings: Any,
    resume: bool = False,
    environment: Mapping[str, str] | None = None,
    kill_at: tuple[int, float] | None = None,
    **options: Any,
) -> int:
    """Start `train` in a fork of this process; returns its process id.

    Args:
        settings, resume, options: of `train`.
        environment: variables of the fork.
        kill_at: number of lines of the log, and seconds after the run wrote them, at which it is killed (SIGKILL); one
            that ends earlier is killed at its end.
    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ.update(environment or {})
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        from colva.training.run import train

        if kill_at:
            kill_this_process(*kill_at)
        train(settings, resume, **options)
        if kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait_for(child: int) -> int:
    """Wait for a fork; returns its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_processes(settings: Any, count: int, seconds: float = 500, **options: Any) -> None:
    """Run `train` in several forks with gloo; those that wait for each other for ever are killed, which fails."""
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    children = [start_run(settings, environment=rank, **options) for rank in ranks]
    running, codes, end = list(children), [], time.monotonic() + seconds
    try:
        while running and time.monotonic() < end and not any(codes):
            for child in list(running):
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    running.remove(child)
                    codes.append(os.waitstatus_to_exitcode(status))
            time.sleep(0.02)
    finally:
        for child in running:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert codes == [0] * count, f"exit codes {codes}, {len(running)} processes were killed"


def kill_this_process(line: int, delay: float) -> None:
    """Have this process killed some seconds after it wrote a line of the log, which has that many then, or more."""
    write = logs.MetricsLog.write

    def write_and_kill(self: logs.MetricsLog, record: Mapping[str, Any]) -> None:
        write(self, record)
        if len(self.path.read_bytes().splitlines()) >= line:
            if not delay:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    logs.MetricsLog.write = write_and_kill  # type: ignore[method-assign]


def run_with_kills(settings: Any, kills: int, seed: int) -> None:
    """Start a run, kill it a number of times, each time a little later, and let it finish."""
    rng, steps = random.Random(seed), settings.trainer.max_steps
    for kill in range(kills):
        moment = (1 + (steps * kill) // kills, rng.uniform(0, 0.15))
        assert wait_for(start_run(settings, resume=kill > 0, kill_at=moment)) == -signal.SIGKILL
    assert wait_for(start_run(settings, resume=True)) == 0


def assert_close(ours: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]], abs: float) -> None:
    """Compare the metrics of two runs line by line, without those that a line does not have."""
    for ours_line, theirs_line in zip(ours, theirs, strict=True):
        assert [value for value in ours_line if value is not None] == pytest.approx(
            [value for value in theirs_line if value is not None], abs=abs
        )

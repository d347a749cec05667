"""A real database and the command, as the tests of browsing use them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from mmvm_data.core.types import Case

ROOT = Path(__file__).resolve().parents[3]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FIFTYONE_")}
    path = os.pathsep.join((str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])))
    return kept | {"PYTHONPATH": path} | more


def start(*arguments: object, **more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "mmvm_data.cli", "browse", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment(**more))


def run(*arguments: object, code: int = 0, **more: str) -> str:
    """What the command printed on both streams."""
    process = start(*arguments, **more)
    printed, faults = process.communicate(timeout=240)
    assert process.returncode == code, printed + faults
    assert "Traceback" not in faults, faults
    return printed + faults


def write_answers(path: Path, cases: Iterable[Case], models: dict[str, int]) -> Path:
    """Answers of models; a model is right but for every n-th case."""
    with open(path, "w", encoding="utf-8") as lines:
        for model, nth in models.items():
            for k, case in enumerate(cases):
                other = next(option.letter for option in case.options if option.letter != case.letter)
                letter = other if k % nth == 0 else case.letter
                record = {"id": case.id, "model": model, "answer": letter, "text": f"It is {letter}."}
                lines.write(json.dumps(record) + "\n")
    return path

"""Benchmarks and replies with planted answers, for tests of evaluation."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from colva.evaluation.models.base import ModelOptions, Reply
from colva.evaluation.question import Question
from mmvm_data.formats import bench
from tests.builds import make_case, write_build


def folder_of(place: Path, cases: int, **changes: Any) -> Path:
    """A build of generated cases over a few small images that they share; nobody has rejected one."""
    changes = {"review": {"state": "accepted"}, **changes}
    made = [make_case(i if i != 5 else 14, **changes).model_copy(update={"id": f"case_{i:06d}"}) for i in range(cases)]
    return write_build(place, made)


def original(place: Path, cases: int = 6) -> Path:
    """A benchmark as published: case folders and the tsv alone, no records of ours."""
    target = place / "original"
    bench.write(bench.read(folder_of(place / "source", cases)), target)
    (target / bench.CASES).unlink()
    return target


class ScriptedModel:
    """A model with planted replies.

    Args:
        replies: id of the question -> reply; others get "A".
        workers, batch: as a model's.
    """

    def __init__(self, replies: Mapping[str, Reply], name: str = "planted", workers: int = 1, batch: int = 7) -> None:
        self.name, self.workers, self.batch = name, workers, batch
        self.fingerprint = {"model": name}
        self.replies = replies
        self.asked: list[str] = []

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        self.asked += [question.id for question in questions]
        return [self.replies.get(question.id, Reply("A")) for question in questions]


def edit_tsv(path: Path, change: Any) -> None:
    """Rewrite a table; ``change`` gets the rows as a list of dicts and gives the new ones."""
    csv.field_size_limit(2**31 - 1)
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    rows = change(rows)
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0].keys(), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def options(**changes: Any) -> ModelOptions:
    """Options of models, waits short."""
    return ModelOptions(**{"backoff": 0.01, "retries": 2, "timeout": 60.0, **changes})


def load_file(path: Path, stand_ins: Mapping[str, Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of a file, loaded by its path alone.

    Args:
        path: of the file.
        stand_ins: name of a module that it imports -> what that module holds.
        monkeypatch: takes the stand-ins away again.
    """
    for name, values in stand_ins.items():
        module = ModuleType(name)
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("task", path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded

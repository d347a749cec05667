"""The task for Inspect, run by stand-ins of the parts of its interface that the task uses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from colva import evaluate
from colva.evaluation.inspect_export import export_inspect
from colva.evaluation.models.base import Reply
from colva.evaluation.question import AskOptions, Protocol
from mmvm_data.core.errors import UsageError
from tests.colva.evaluation.worlds import ScriptedModel, folder_of, load_file, original


class _Score(SimpleNamespace):
    def as_float(self) -> float:
        return float(self.value)


def load_task(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of a task, loaded by its path alone with stand-ins for Inspect's modules."""
    names = {
        "inspect_ai": {"Task": SimpleNamespace, "task": lambda name: lambda function: function},
        "inspect_ai.dataset": {"MemoryDataset": lambda samples, name: samples, "Sample": SimpleNamespace},
        "inspect_ai.model": dict.fromkeys(
            ("ChatMessageUser", "ContentImage", "ContentText", "GenerateConfig"), SimpleNamespace
        ),
        "inspect_ai.scorer": {
            "Score": _Score,
            "SampleScore": SimpleNamespace,
            "metric": lambda function: function,
            "scorer": lambda metrics: lambda function: function,
            **dict.fromkeys(("accuracy", "stderr"), lambda: None),
        },
        "inspect_ai.solver": {"generate": lambda: None},
    }
    return load_file(path, names, monkeypatch)


@pytest.mark.parametrize("protocol", ["mcq", "vqa"])
def test_a_task_asks_and_scores_as_we_do(tmp_path: Path, protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = original(tmp_path, cases=12)
    report = export_inspect(folder, tmp_path / "task", "a-b", AskOptions(protocol=protocol))
    assert (report.cases, report.left_out) == (12, [])
    module = load_task(tmp_path / "task/a-b.py", monkeypatch)
    assert module.TASK == "a-b"
    samples = module.make_task().dataset
    text = "The answer is 2." if protocol == "vqa" else "B"
    ours = evaluate(folder, ScriptedModel({s.id: Reply(text) for s in samples}), tmp_path / "run", protocol=protocol)
    score, scores = module.match(), []
    for sample, outcome in zip(samples, ours.scored.outcomes, strict=True):
        *images, last = sample.input[0].content
        assert last.text == outcome.prediction.text
        assert [Path(part.image).resolve() for part in images] == [folder / name for name in outcome.prediction.images]
        state = SimpleNamespace(output=SimpleNamespace(completion=text), metadata=sample.metadata)
        result = asyncio.run(score(state, SimpleNamespace(text=sample.target)))
        assert (result.value, result.answer) == (outcome.chosen == outcome.prediction.answer, outcome.chosen)
        scores.append(SimpleNamespace(score=result, sample_metadata=sample.metadata))
    by_type = {f"accuracy_{name}": share.value for name, share in ours.by_type.items() if name != "(none)"}
    assert module.accuracy_by_type()(scores) == pytest.approx(by_type)


def test_a_name_that_another_file_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name must not be 'extract'"):
        export_inspect(folder_of(tmp_path / "b", 1), tmp_path / "task", "extract", AskOptions())
    with pytest.raises(UsageError, match="name must be letters"):
        export_inspect(tmp_path / "b", tmp_path / "task", "a/b", AskOptions())

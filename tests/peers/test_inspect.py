"""Our task in Inspect itself; INSPECT_PYTHON names an interpreter that has inspect_ai."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from colva import evaluate
from colva.evaluation.benchmark import load_questions
from colva.evaluation.inspect_export import export_inspect
from colva.evaluation.question import AskOptions, Protocol
from mmvm_data.formats import bench as bench_format
from tests.colva.evaluation.worlds import ScriptedModel
from tests.peers import world


@world.needs("INSPECT_PYTHON")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("protocol", ["mcq", "vqa"])
def test_its_scores_hits_errors_and_inputs_are_ours(bench: Path, tmp_path: Path, protocol: Protocol) -> None:
    python = world.checkout("INSPECT_PYTHON")
    cases = list(bench_format.read(bench))
    said, by_input = world.script_replies(cases, protocol), {}
    report = evaluate(bench, ScriptedModel(said), tmp_path / "run", protocol=protocol)
    export_inspect(bench, tmp_path / "task", "mmvm-300", AskOptions(protocol=protocol))
    for question in load_questions(bench, AskOptions(protocol=protocol), tmp_path):
        content = b"".join(path.read_bytes() for path in question.images) + question.text.encode()
        by_input[hashlib.sha256(content).hexdigest()] = said[question.case].text
    assert len(by_input) == world.CASES
    (tmp_path / "replies.json").write_text(json.dumps(by_input))  # of another input there is no reply
    (tmp_path / "logs").mkdir()
    paths = [tmp_path / name for name in ("task/mmvm-300.py", "replies.json", "logs/out.json")]
    world.run_peer("run_inspect.py", *paths, cwd=tmp_path, python=python)
    out = json.loads((tmp_path / "logs/out.json").read_text())
    metrics = out["metrics"]
    assert out["task"] == "mmvm-300"
    assert metrics.pop("accuracy") == pytest.approx(report.accuracy)
    share = report.overall.hits / world.CASES
    assert metrics.pop("stderr") == pytest.approx((share * (1 - share) / (world.CASES - 1)) ** 0.5, rel=1e-6)
    by_type = {f"accuracy_{name}": share.value for name, share in report.by_type.items() if name != "(none)"}
    assert metrics == pytest.approx(by_type)
    ours = {o.prediction.id: int(o.chosen == o.prediction.answer) for o in report.scored.outcomes}
    assert out["hits"] == ours

"""Our task in lighteval itself; LIGHTEVAL_PYTHON names an interpreter that has lighteval."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from colva import evaluate
from colva.evaluation.benchmark import load_questions
from colva.evaluation.lighteval_export import export_lighteval
from colva.evaluation.question import AskOptions, Protocol
from mmvm_data.formats import bench as bench_format
from tests.colva.evaluation.worlds import ScriptedModel
from tests.peers import world


@world.needs("LIGHTEVAL_PYTHON")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("protocol", ["mcq", "vqa"])
def test_its_scores_hits_errors_and_inputs_are_ours(bench: Path, tmp_path: Path, protocol: Protocol) -> None:
    python = world.checkout("LIGHTEVAL_PYTHON")
    cases = list(bench_format.read(bench))
    said, by_input = world.script_replies(cases, protocol), {}
    report = evaluate(bench, ScriptedModel(said), tmp_path / "run", protocol=protocol)
    export_lighteval(bench, tmp_path / "task", "mmvm-300", AskOptions(protocol=protocol))
    for question in load_questions(bench, AskOptions(protocol=protocol), tmp_path):
        total = hashlib.sha256(question.text.encode())
        for path in question.images:
            image = Image.open(path).convert("RGB")
            total.update(f"{image.size}".encode() + image.tobytes())
        by_input[total.hexdigest()] = said[question.case].text
    assert len(by_input) == world.CASES
    (tmp_path / "replies.json").write_text(json.dumps(by_input))  # of another input there is no reply
    (tmp_path / "logs").mkdir()
    paths = [tmp_path / name for name in ("task/mmvm-300.py", "replies.json", "logs/out.json")]
    world.run_peer("run_lighteval.py", *paths, cwd=tmp_path, python=python)
    out = json.loads((tmp_path / "logs/out.json").read_text())
    shares = {"accuracy": report.overall} | {
        f"accuracy_{name}": share for name, share in report.by_type.items() if name != "(none)"
    }
    expected = {name: share.hits / share.n for name, share in shares.items()} | {
        f"{name}_stderr": (share.hits * (share.n - share.hits) / (share.n - 1)) ** 0.5 / share.n
        for name, share in shares.items()
    }
    assert out["results"] == pytest.approx(expected, rel=1e-9)
    hits = {o.prediction.id: float(o.chosen == o.prediction.answer) for o in report.scored.outcomes}
    assert {name: metrics["accuracy"] for name, metrics in out["hits"].items()} == hits
    assert (out["asked_again"], out["same"]) == (0, True)
    details = list((tmp_path / "logs/results/details").rglob("*.parquet"))
    assert len(details) == 2
    assert max(file.stat().st_size for file in details) < 1_000_000, "images are saved by their paths"

"""Our task in lmms-eval itself; LMMS_EVAL names a checkout of EvolvingLMMs-Lab/lmms-eval."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from colva import evaluate
from colva.evaluation.benchmark import load_questions
from colva.evaluation.lmms_eval_export import export_lmms_eval
from colva.evaluation.question import AskOptions, Protocol
from mmvm_data.formats import bench as bench_format
from mmvm_data.formats.tsv import drawn_paths
from tests.colva.evaluation.worlds import ScriptedModel
from tests.peers import world


@world.needs("LMMS_EVAL")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("protocol", ["mcq", "vqa"])
def test_its_scores_errors_questions_and_pixels_are_ours(bench: Path, tmp_path: Path, protocol: Protocol) -> None:
    checkout = world.checkout("LMMS_EVAL")
    cases = list(bench_format.read(bench))
    replies = world.script_replies(cases, protocol)
    said = {name: reply.text for name, reply in replies.items()}
    report = evaluate(bench, ScriptedModel(replies), tmp_path / "run", protocol=protocol)
    export_lmms_eval(bench, tmp_path / "task", "mmvm", AskOptions(protocol=protocol))
    (tmp_path / "replies.json").write_text(json.dumps(said))
    paths = [tmp_path / name for name in ("task", "replies.json", "out.json")]
    world.run_peer("run_lmms_eval.py", checkout, *paths, cwd=tmp_path)
    out = json.loads((tmp_path / "out.json").read_text())
    results = out["results"]
    assert results["overall,none"] == pytest.approx(report.accuracy)
    for name, share in report.by_type.items():
        if name != "(none)":
            assert results[f"type_{name},none"] == pytest.approx(share.value)
    hits, count = results["overall,none"], len(cases)
    error = (hits * (1 - hits) / (count - 1)) ** 0.5
    assert results["overall_stderr,none"] == pytest.approx(error, rel=1e-6)
    questions = load_questions(bench, AskOptions(protocol=protocol), tmp_path)
    for case, question in zip(cases, questions, strict=True):
        assert out["questions"][case.id]["text"] == question.text
        images = [Image.open(bench / name).convert("RGB") for name in drawn_paths(case)]
        expected = [[list(image.size), hashlib.sha256(image.tobytes()).hexdigest()] for image in images]
        assert out["questions"][case.id]["images"] == expected

"""Our table and predictions in MMVMBench itself; VLMEVALKIT names a checkout of open-compass/VLMEvalKit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colva import evaluate
from colva.evaluation.benchmark import load_questions
from colva.evaluation.models.base import Reply
from colva.evaluation.question import AskOptions
from mmvm_data.core.types import MATCH_TYPES
from mmvm_data.formats import bench as bench_format
from mmvm_data.formats import vlmevalkit
from mmvm_data.formats.tsv import drawn_paths
from tests.colva.evaluation.worlds import ScriptedModel
from tests.peers import world


@world.needs("VLMEVALKIT")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("replies", ["numbers", "mixed"])
def test_the_kit_finds_our_scores_questions_and_pixels(bench: Path, tmp_path: Path, replies: str) -> None:
    """All replies bare numbers, and numbers among others, from both tables; every fourth case has no answer."""
    checkout = world.checkout("VLMEVALKIT")
    cases = list(bench_format.read(bench))
    vlmevalkit.write(cases, bench, tmp_path / "mine.tsv")
    said = {case.id: Reply(str(1 + k % 3)) for k, case in enumerate(cases)}
    if replies == "mixed":
        none = vlmevalkit.NONE_TEXT
        said |= {case.id: Reply(none if case.answer is None else "I see none") for case in cases[::5]}
    report = evaluate(bench, ScriptedModel(said), tmp_path / "run", protocol="vqa", xlsx=True)
    for ending in ("tsv", "xlsx"):
        (tmp_path / f"run/vlmevalkit/planted_MMVMBench.{ending}").rename(tmp_path / f"predictions.{ending}")
    world.run_peer("run_vlmevalkit.py", checkout, tmp_path, tmp_path / "out.json")
    out = json.loads((tmp_path / "out.json").read_text())
    assert len(out["scores"]) == 4
    for scores in out["scores"].values():
        assert scores.pop("Overall") == pytest.approx(report.accuracy)
        ours = {name: share.value for name, share in report.by_type.items() if name != "(none)"}
        assert {name: scores[name] for name in ours} == pytest.approx(ours)
        assert set(scores) == {name for name, _ in MATCH_TYPES.values()}
    questions = load_questions(bench, AskOptions(protocol="vqa"), tmp_path)
    for case, question, (*saved, text) in zip(cases, questions, out["prompts"], strict=True):
        assert text == question.text
        for name, file in zip(drawn_paths(case), saved, strict=True):
            drawn = np.asarray(Image.open(bench / name).convert("RGB"))
            assert np.array_equal(np.asarray(Image.open(file).convert("RGB")), drawn)

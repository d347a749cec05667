"""Our table and predictions in MMatch, the published benchmark's own scorer; MMVMEVALKIT names a checkout of
zhouyiks/MMVMEvalKit.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colva import evaluate
from colva.evaluation.benchmark import load_questions
from colva.evaluation.models.base import Reply
from colva.evaluation.question import AskOptions
from mmvm_data.cases import prompts
from mmvm_data.core.types import MATCH_TYPES
from mmvm_data.formats import bench as bench_format
from tests.colva.evaluation.worlds import ScriptedModel
from tests.peers import world

STYLES = (
    *("{}", "{}.", "({})", "[{}]", "**{}**", "Answer: {}", "The answer is {}.", "The best answer is ({}).", "{}) sure"),
    *("option {}", "Option {}: it moves alike.", "It is {}, not Z.", "{}\n", "  {}", "Answer:{}", "#{}", "{};", "'{}'"),
    *("{}. {}", "A or {}", "I think it is {}.", "{text}", "Candidate {text} it is.", "The object is numbered {text}."),
    *("{lower}", "The answer is {lower}.", "\\boxed{{{}}}", "<answer>{}</answer>", "Z", "I cannot tell.", "nan", ""),
    *("Cannot determine the answer, perhaps {}", "Sorry, I can't help with images of people yet. {}"),
)
"""34 forms of a reply: the letter or the text of an option within."""
NUMBERS = ("{number}", "{number}", "")
"""Bare numbers and empty replies alone, a column that pandas reads as floats."""


@world.needs("MMVMEVALKIT")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("shift", "styles"), [(0, STYLES), (1, STYLES), (0, NUMBERS)])
def test_its_scores_hits_and_prompts_are_ours(bench: Path, tmp_path: Path, shift: int, styles: tuple[str, ...]) -> None:
    checkout = world.checkout("MMVMEVALKIT")
    cases = list(bench_format.read(bench))
    said = {}
    for k, case in enumerate(cases):
        options = [option.letter for option in case.options]
        letter = case.letter if (k + shift) % 3 else options[(options.index(case.letter) + 1) % len(options)]
        number = case.options[options.index(letter)].number
        text = prompts.NONE_TEXT if number is None else str(number)
        style = styles[k % len(styles)]
        said[case.id] = Reply(style.format(letter, letter, text=text, lower=letter.lower(), number=number or 1))
    report = evaluate(bench, ScriptedModel(said), tmp_path / "run", protocol="mcq")
    folder = tmp_path / "run/vlmevalkit"
    arguments = [folder, folder / "planted_MMatch.tsv", tmp_path / "out.json"]
    world.run_peer("run_mmatch.py", checkout, *arguments, cwd=bench)
    out = json.loads((tmp_path / "out.json").read_text())
    scores = out["scores"]
    assert scores["Overall"] == pytest.approx(report.accuracy)
    for name, _ in MATCH_TYPES.values():
        share = report.by_type[name]
        assert (scores[name], scores[f"num_{name}"]) == (pytest.approx(share.value), share.n)
    hits = {o.prediction.index: int(o.chosen == o.prediction.answer) for o in report.scored.outcomes}
    assert out["hits"] == hits
    questions = list(load_questions(bench, AskOptions(), tmp_path))
    for question, prompt in zip(questions, out["prompts"], strict=True):
        assert prompt[-1] == {"type": "text", "value": question.text}
        assert [bench / part["value"] for part in prompt[:-1]] == list(question.images)

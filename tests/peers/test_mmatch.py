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
from mmvm_data.formats import bench
from tests.colva.evaluation.worlds import ScriptedModel
from tests.peers import world

COUNT = 300
STYLES = (
    *("{}", "{}.", "({})", "[{}]", "**{}**", "Answer: {}", "The answer is {}.", "The best answer is ({}).", "{}) sure"),
    *("option {}", "Option {}: it moves alike.", "It is {}, not Z.", "{}\n", "  {}", "Answer:{}", "#{}", "{};", "'{}'"),
    *("{}. {}", "A or {}", "I think it is {}.", "{text}", "Candidate {text} it is.", "The object is numbered {text}."),
    *("{lower}", "The answer is {lower}.", "\\boxed{{{}}}", "<answer>{}</answer>", "Z", "I cannot tell.", "nan", ""),
    *("Cannot determine the answer, perhaps {}", "Sorry, I can't help with images of people yet. {}"),
)
"""34 forms of a reply: the letter or the text of an option within."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("shift", [0, 1])
def test_its_scores_hits_and_prompts_are_ours(tmp_path: Path, shift: int) -> None:
    checkout = world.checkout("MMVMEVALKIT")
    world.write_benchmark(tmp_path, COUNT)
    cases = list(bench.read(tmp_path / "bench"))
    said = {}
    for k, case in enumerate(cases):
        options = [option.letter for option in case.options]
        letter = case.letter if (k + shift) % 3 else options[(options.index(case.letter) + 1) % len(options)]
        number = case.options[options.index(letter)].number
        text = prompts.NONE_TEXT if number is None else str(number)
        style = STYLES[k % len(STYLES)]
        said[case.id] = Reply(style.format(letter, letter, text=text, lower=letter.lower()))
    report = evaluate(tmp_path / "bench", ScriptedModel(said), tmp_path / "run", protocol="mcq")
    folder = tmp_path / "run/vlmevalkit"
    arguments = [folder, folder / "planted_MMatch.tsv", tmp_path / "out.json"]
    world.run_peer("run_mmatch.py", checkout, *arguments, cwd=tmp_path / "bench")
    out = json.loads((tmp_path / "out.json").read_text())
    scores = out["scores"]
    assert scores["Overall"] == pytest.approx(report.accuracy)
    for name, _ in MATCH_TYPES.values():
        share = report.by_type[name]
        assert (scores[name], scores[f"num_{name}"]) == (pytest.approx(share.value), share.n)
    hits = {o.prediction.index: int(o.chosen == o.prediction.answer) for o in report.scored.outcomes}
    assert out["hits"] == hits
    questions = list(load_questions(tmp_path / "bench", AskOptions(), tmp_path))
    for question, prompt in zip(questions, out["prompts"], strict=True):
        assert prompt[-1] == {"type": "text", "value": question.text}
        assert [tmp_path / "bench" / part["value"] for part in prompt[:-1]] == list(question.images)

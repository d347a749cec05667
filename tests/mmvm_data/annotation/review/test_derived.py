"""A reviewer changes what cues and a rationale are about: they agree with the case afterwards, or are marked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mmvm_data import cli
from mmvm_data.annotation.rationale.cue_proposals import write_cues
from mmvm_data.annotation.rationale.generate import write_rationales
from mmvm_data.annotation.rationale.selection import RationaleOptions, new_rationale
from mmvm_data.annotation.review.pull import ReviewPullResult, pull
from mmvm_data.cases.claims import direct_claims, referenced_numbers
from mmvm_data.cases.consistency import second_look
from mmvm_data.core.types import Case, Cue
from mmvm_data.formats import bench
from mmvm_data.formats.revisions import revise
from mmvm_data.pipeline.build import BuildOptions, build
from tests.mmvm_data.annotation.annotations import choice, text
from tests.mmvm_data.annotation.forked_commands import write_export
from tests.worlds import davis


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    build("davis", davis(tmp_path / "world", videos=3), tmp_path / "b", BuildOptions(max_cases=6))
    return tmp_path / "b"


def get(folder: Path, name: str) -> Case:
    return next(case for case in bench.read(folder) if case.id == name)


def with_answer(folder: Path) -> Case:
    """A case whose answer is a candidate."""
    return next(case for case in bench.read(folder) if case.answer is not None)


def other_answer(case: Case) -> tuple[int, dict[str, Any]]:
    option = next(o for o in case.options if o.number not in (None, case.answer))
    return option.number or 0, choice("answer", f"{option.letter}. {option.number}")


def review(folder: Path, case: Case, verdict: str, *changes: dict[str, Any], hour: int = 1) -> ReviewPullResult:
    return pull(folder, None, None, write_export(folder.parent / "e.json", [(case, [*changes], verdict)], hour))


def test_proposals_left_as_they_were_are_accepted(folder: Path) -> None:
    write_cues(folder)
    case = next(case for case in bench.read(folder) if case.cues)
    types = tuple(sorted({cue.type for cue in case.cues}))
    assert review(folder, case, "accept").problems == []
    now = get(folder, case.id)
    assert (now.review.state, now.match_types, now.cues) == ("accepted", types, case.cues)
    untick = choice("match_types", *[])
    review(folder, case, "accept", untick, hour=2)
    assert (get(folder, case.id).review.state, get(folder, case.id).match_types) == ("fixed", ())


def test_program_texts_follow_the_answer(folder: Path) -> None:
    write_cues(folder)
    write_rationales(folder, RationaleOptions())
    case = next(case for case in bench.read(folder) if case.rationale_by == "template")
    number, answer = other_answer(case)
    done = review(folder, case, "fix", answer)
    now = get(folder, case.id)
    assert now.answer == number and now.review.state == "fixed" and second_look(now) == {}
    assert direct_claims(str(now.rationale)) <= {number}
    assert now.rationale is None or (now.rationale_by == "template" and number in referenced_numbers(now.rationale))
    assert all(cue.measures.get("rival") != number for cue in now.cues)
    words = dict(note.split(": ", 1) for _, note in done.notes)
    assert set(words) == {"cues", "rationale"}
    assert ("dropped" in words["rationale"]) == (now.rationale is None)
    assert bench.validate(folder).problems == []


def test_proposals_that_cannot_be_measured_are_dropped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cues(folder)
    write_rationales(folder, RationaleOptions())
    case = next(case for case in bench.read(folder) if case.rationale_by == "template")

    def fail(*_: object) -> None:
        raise ValueError("a mask is broken")

    monkeypatch.setattr("mmvm_data.annotation.review.derived.propose_cues", fail)
    done = review(folder, case, "fix", other_answer(case)[1])
    now = get(folder, case.id)
    assert (now.cues, now.rationale, now.written) == ((), None, None)
    assert any(" dropped" in note and "proposal" in note and "a mask is broken" in note for _, note in done.notes)
    assert any("template's text" in note and "is dropped" in note for _, note in done.notes)


def export_sft(folder: Path, *arguments: str) -> tuple[set[str], str]:
    """Ids of the exported cases, and what was printed."""
    out = folder.parent / "train"
    result = CliRunner().invoke(cli.cli, ["export", str(folder), "--to", "sft", "--out", str(out), *arguments])
    assert result.exit_code == 0, result.output
    lists = [json.loads((out / name).read_text()) for name in ("match_records.json", "match_conversations.json")]
    ids = [{record["id"] for record in records} for records in lists]
    assert ids[0] == ids[1]
    return ids[0], " ".join(result.output.split())


@pytest.mark.parametrize("by", ["human", "model"])
def test_a_text_that_was_left_is_kept_marked_and_not_taught(folder: Path, by: str) -> None:
    case = with_answer(folder)
    words = f"Object {case.answer} is the same: it has a red bell."
    if by == "model":
        changed = new_rationale(case, (), words, "model", "1", "m").apply(case)
    else:
        changed = case.model_copy(update={"rationale": words})
    revise(folder, {case.id: changed})
    assert bench.validate(folder).problems == []
    number, answer = other_answer(case)
    done = review(folder, changed, "fix", answer)
    now = get(folder, case.id)
    assert (now.answer, now.rationale, now.rationale_by) == (number, words, by)
    assert "rationale" in second_look(now)
    assert any(name == case.id and "second look" in note for name, note in done.notes)
    (problem,) = bench.validate(folder).problems
    assert case.id in problem.where and "needs a second look" in problem.what
    everyone = {c.id for c in bench.read(folder)}
    exported, printed = export_sft(folder)
    assert exported == everyone - {case.id}
    assert case.id in printed and "--include-flagged" in printed
    assert export_sft(folder, "--include-flagged")[0] == everyone
    # a text of a program is written again, one of a person is not
    write_cues(folder)
    assert len(write_rationales(folder, RationaleOptions()).failures) <= len(everyone)
    if by == "human":
        assert get(folder, case.id).rationale == words and "rationale" in second_look(get(folder, case.id))
        # the person looks again
        review(folder, changed, "fix", answer, text("rationale", f"Object {number} has the bell."), hour=2)
        assert second_look(get(folder, case.id)) == {} and bench.validate(folder).problems == []
        assert export_sft(folder)[0] == everyone
    elif get(folder, case.id).cues:
        assert get(folder, case.id).rationale_by == "template" and second_look(get(folder, case.id)) == {}


def test_a_text_without_a_number_is_marked_too_and_an_accept_clears_it(folder: Path) -> None:
    case = with_answer(folder)
    cue = Cue(type=1, score=1, evidence="it has a red bell", source="human")
    mine = case.model_copy(update={"rationale": "It has a red bell.", "cues": (cue,)})
    revise(folder, {case.id: mine})
    review(folder, mine, "fix", other_answer(case)[1])
    now = get(folder, case.id)
    assert now.rationale == "It has a red bell." and now.cues == (cue,)
    assert second_look(now) == {
        "rationale": f"was written for object {case.answer}",
        "cues": f"were given for object {case.answer}",
    }
    review(folder, now, "accept", choice("match_types", "CL colour"), hour=2)
    assert second_look(get(folder, case.id)) == {} and bench.validate(folder).problems == []


def test_a_typed_text_about_another_object_is_marked(folder: Path) -> None:
    case = with_answer(folder)
    number, answer = other_answer(case)
    done = review(folder, case, "fix", answer, text("rationale", f"Object {case.answer} is the same bus."))
    assert done.notes and second_look(get(folder, case.id))["rationale"].startswith(f"names object {case.answer}")
    review(folder, case, "fix", answer, text("rationale", f"Object {number} is the same bus."), hour=2)
    assert second_look(get(folder, case.id)) == {}


def test_a_rationale_that_another_person_wrote_since_is_kept(folder: Path) -> None:
    case = with_answer(folder)
    revise(folder, {case.id: case.model_copy(update={"rationale": "by hand"})})
    review(folder, case, "accept")
    now = get(folder, case.id)
    assert (now.rationale, now.review.state) == ("by hand", "accepted")


def test_an_accepted_text_is_not_replaced_by_a_newer_one_of_a_program(folder: Path) -> None:
    case = with_answer(folder)
    words = f"Object {case.answer} has the same bell."
    shown = new_rationale(case, (), words, "model", "1", "m").apply(case)
    newer = new_rationale(case, (), words.replace("bell", "wheel"), "model", "1", "n").apply(case)
    revise(folder, {case.id: newer})
    review(folder, shown, "accept")
    now = get(folder, case.id)
    assert (now.rationale, now.rationale_by, now.written) == (words, "model", shown.written)

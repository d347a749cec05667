"""Every form of a benchmark becomes the same questions; what cannot be asked about is counted and named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from colva.evaluation.benchmark import LoadReport, load_questions
from colva.evaluation.question import AskOptions, Question, make_case_questions, question_digest, rotate_options
from mmvm_data.cases.consistency import RATIONALE, with_second_look
from mmvm_data.cases.prompts import build_options
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.formats import bench, hub, vlmevalkit
from mmvm_data.formats.open_benchmark import open_benchmark
from tests.colva.evaluation.worlds import edit_tsv, folder_of, original


def ask(path: Path, cache_dir: Path, report: LoadReport | None = None, **changes: object) -> list[Question]:
    return list(load_questions(path, AskOptions(**changes), cache_dir, report))  # type: ignore[arg-type]


def test_a_build_is_asked_as_published(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 12)
    cases = list(bench.read(folder))
    questions = ask(folder, tmp_path)
    assert [q.id for q in questions] == [case.id for case in cases]
    for row, (question, case) in zip(range(12), zip(questions, cases, strict=True), strict=True):
        cells = bench.tsv_row(case, row)
        assert (question.text, question.pure) == (cells["question"], cells["pure_question"])
        assert "\n".join(f"{a}. {b}" for a, b in question.choices.items()) == cells["choices"]
        assert (question.answer, question.index, question.types) == (case.letter, str(row), case.match_types)
        assert question.images[-1].name == "FRAME01_CAND.jpg"
        assert (question.source, question.candidates) == (case.provenance.source, len(case.candidates))
        assert question.why_prompt is None


def test_the_original_form_gives_the_same_questions(tmp_path: Path) -> None:
    folder = original(tmp_path)
    ours = ask(tmp_path / "source", tmp_path)
    theirs = ask(folder, tmp_path)
    assert open_benchmark(folder).form == "bench"
    for one, two in zip(ours, theirs, strict=True):
        assert (one.text, one.choices, one.answer, one.types) == (two.text, two.choices, two.answer, two.types)
        assert (one.source, one.candidates, one.index) == (two.source, two.candidates, two.index)
    table = folder / "other.tsv"
    (folder / bench.TSV).rename(table)
    assert [q.text for q in ask(table, tmp_path)] == [q.text for q in ours]


def test_the_newer_form_is_answered_by_numbers(tmp_path: Path) -> None:
    folder = original(tmp_path)
    table = tmp_path / "newer.tsv"
    vlmevalkit.write(bench.read(folder), folder, table)
    questions = ask(table, tmp_path / "run", protocol="vqa")
    own = ask(folder, tmp_path, protocol="vqa")
    assert open_benchmark(table).form == "vlmevalkit"
    assert [(q.text, q.answer, q.types) for q in questions] == [(q.text, q.answer, q.types) for q in own]
    assert "none" in {q.answer for q in questions}
    for one, two in zip(questions, own, strict=True):
        assert [p.read_bytes() for p in one.images] == [p.read_bytes() for p in two.images]
        assert one.images[0].is_relative_to(tmp_path / "run/images")
        assert (one.candidates, dict(one.choices)) == (None, {})
    with pytest.raises(UsageError, match=r"`protocol=.mcq.`"):
        ask(table, tmp_path)
    with pytest.raises(UsageError, match="`difficulty`"):
        ask(table, tmp_path, protocol="vqa", difficulty=4)


def test_a_data_set_of_the_hub_is_asked_in_the_same_way(tmp_path: Path) -> None:
    folder = original(tmp_path)
    hub.write(bench.read(folder), tmp_path / "hub")
    assert open_benchmark(tmp_path / "hub").form == "hub"
    own, questions = ask(folder, tmp_path), ask(tmp_path / "hub", tmp_path / "run")
    assert [(q.id, q.text, q.answer, q.types, q.source) for q in questions] == [
        (q.id, q.text, q.answer, q.types, q.source) for q in own
    ]
    for one, two in zip(questions, own, strict=True):
        assert [p.read_bytes() for p in one.images] == [p.read_bytes() for p in two.images]


def test_numbers_are_the_labels_of_vqa(tmp_path: Path) -> None:
    question = ask(folder_of(tmp_path / "b", 3), tmp_path, protocol="vqa", ask_why=True)[1]
    assert list(question.choices) == ["1", "2", "3", "none"]
    assert question.why_prompt
    assert question.text.endswith("None of the above choices are correct")
    with pytest.raises(UsageError, match="num_variants must be 1"):
        ask(tmp_path / "b", tmp_path, protocol="vqa", num_variants=2)


def test_fewer_candidates_keep_the_answer_and_are_drawn_again(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 16)
    whole = {q.id: q for q in ask(folder, tmp_path)}
    few = ask(folder, tmp_path / "run", difficulty=4)
    assert len(few) == 16
    reduced = [q for q in few if whole[q.id].candidates > 4]
    assert reduced
    for question in few:
        before = whole[question.id]
        assert question.candidates == min(before.candidates, 4)
        assert question.difficulty == "4"
        case, old = question.source_case, before.source_case
        if question not in reduced:
            assert question.images == before.images
            continue
        assert question.images[-1].is_relative_to(tmp_path / "run/drawn")
        assert question.images[-1].read_bytes() != before.images[-1].read_bytes()
        regions = {c.number: c.region for c in case.candidates}
        assert list(regions) == [1, 2, 3, 4]
        assert (case.answer is None) == (old.answer is None)
        if case.answer is not None:
            assert regions[case.answer] == next(c.region for c in old.candidates if c.number == old.answer)
        assert case.letter == question.answer
    again = ask(folder, tmp_path / "again", difficulty=4)
    assert [question_digest(q) for q in again] == [question_digest(q) for q in few]


def test_shuffled_options_move_numbers_and_keep_none_last(tmp_path: Path) -> None:
    questions = ask(folder_of(tmp_path / "b", 4), tmp_path, num_variants=3)
    by_case: dict[str, list[Question]] = {}
    for question in questions:
        by_case.setdefault(question.case, []).append(question)
    assert [q.id for q in by_case["case_000002"]] == ["case_000002", "case_000002~1", "case_000002~2"]
    for of_one in by_case.values():
        meant = {q.choices[q.answer] for q in of_one}
        assert len(meant) == 1, "the right object stays the same"
        assert all(list(q.choices.values())[-1].startswith("None") for q in of_one)
        assert len({tuple(q.choices.values()) for q in of_one}) == len(of_one)
    assert [[o.number for o in v] for v in rotate_options(build_options([1, 2, 3], 1), 9)] == [
        [1, 2, 3, None],
        [2, 3, 1, None],
        [3, 1, 2, None],
    ]


def test_what_cannot_be_asked_is_left_out_and_named(tmp_path: Path) -> None:
    folder = original(tmp_path, cases=6)
    (folder / "match_bench/case_000001/FRAME00.jpg").unlink()
    (folder / "match_bench/case_000004/FRAME01_CAND.jpg").write_bytes(b"<html>no image</html>")

    def change(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        rows[2]["answer"] = "Y"
        rows[3]["index"] = rows[0]["index"]
        rows[5]["match_type"] = "[1, 99]"
        return rows

    edit_tsv(folder / bench.TSV, change)
    report = LoadReport()
    questions = ask(folder, tmp_path, report)
    assert [q.id for q in questions] == ["case_000000", "case_000005"]
    assert (report.cases, report.total) == (2, 6)
    replies = {problem.where.split(": line")[0]: problem.what for problem in report.left_out}
    assert len(report.left_out) == 4
    assert "match_bench/case_000001/FRAME00.jpg" in replies["case_000001"]
    assert "not one of" in replies[bench.TSV]
    assert "index 0 is that of case_000000" in replies["case_000003"]
    assert "FRAME01_CAND.jpg" in replies["case_000004"]
    assert str(tmp_path) not in json.dumps(replies), "paths are relative to the benchmark"
    assert [problem.what for problem in report.notes] == ["expected numbers from 1 to 8, found [1, 99]"]


def test_rows_that_share_a_folder_are_two_cases(tmp_path: Path) -> None:
    folder = original(tmp_path, cases=3)

    def change(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [*rows, rows[1] | {"index": "77"}]

    edit_tsv(folder / bench.TSV, change)
    assert [q.id for q in ask(folder, tmp_path)][1::2] == ["case_000001", "case_000001@77"]


def test_rejected_cases_are_left_out(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 2, review={"state": "rejected", "reason": "blurred"})
    report = LoadReport()
    assert ask(folder, tmp_path, report) == []
    assert [problem.what for problem in report.left_out] == [
        "case_000000: rejected in review: blurred",
        "case_000001: rejected in review: blurred",
    ]


def test_a_missing_benchmark_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("")
    for path in (tmp_path, tmp_path / "x.txt", tmp_path / "gone"):
        with pytest.raises(InputError, match="holds no benchmark"):
            ask(path, tmp_path)


def test_the_digest_follows_what_a_model_sees(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 3)
    question = ask(folder, tmp_path)[1]
    same = question_digest(question)
    assert question_digest(replace(question, answer="Q", types=(), source="other")) == same
    assert question_digest(replace(question, text=question.text + " ")) != same
    assert question_digest(replace(question, why_prompt="Why?")) != same
    image = question.images[0]
    image.write_bytes(image.read_bytes() + b"\0")
    assert question_digest(question) != same
    image.unlink()
    with pytest.raises(InputError, match="FRAME00"):
        question_digest(question)


def test_a_rationale_that_does_not_agree_with_the_answer_is_no_reference(tmp_path: Path) -> None:
    case = next(c for c in bench.read(folder_of(tmp_path, 6)) if c.answer is not None)
    other = next(c.number for c in case.candidates if c.number != case.answer)
    agrees, differs = (case.model_copy(update={"rationale": f"Object {n} is the match."}) for n in (case.answer, other))
    marked = with_second_look(agrees, {RATIONALE: "the answer has changed"})
    kept = [make_case_questions(c, AskOptions(), "0")[0].rationale for c in (agrees, differs, marked)]
    assert kept == [agrees.rationale, None, None]

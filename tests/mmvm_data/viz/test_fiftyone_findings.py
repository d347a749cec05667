"""In a real FiftyOne: fields to filter by, findings, the map of colors, edited labels, and imported benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmvm_data.audit.run import audit
from mmvm_data.cases import baselines
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import MATCH_TYPES, Case, Cue
from mmvm_data.formats import bench, predictions
from mmvm_data.formats.revisions import revise
from mmvm_data.viz import case_labels, embeddings, fiftyone, findings
from tests.builds import make_case, write_build
from tests.mmvm_data.viz.browse_world import write_answers

COUNT = 12


@pytest.fixture
def cases() -> list[Case]:
    made = [make_case(i if i != 5 else 14) for i in range(COUNT)]  # case 5 has an image that is not written
    return [case.model_copy(update={"id": f"case_{i:06d}"}) for i, case in enumerate(made)]


@pytest.fixture
def folder(tmp_path: Path, cases: list[Case]) -> Path:
    return write_build(tmp_path / f"bench {tmp_path.name}", cases)


def records(folder: Path) -> dict[str, Case]:
    return {case.id: case for case in bench.read(folder)}


def edit(fo: Any, name: str, key: str, **fields: Any) -> None:
    [sample] = fo.load_dataset(name).select_group_slices(_allow_mixed=True).match(fo.ViewField("key") == key)
    for field, value in fields.items():
        sample[field] = value
    sample.save()


def test_facts_can_be_filtered(fo: Any, folder: Path) -> None:
    dataset = fo.load_dataset(fiftyone.load(fo, folder).name)
    field, stored = fo.ViewField, records(folder)
    for number, (short, _) in MATCH_TYPES.items():
        wanted = [case.id for case in stored.values() if number in case.match_types]
        assert dataset.match(field("match_types").contains(short)).values("case_id") == wanted
    for name, choose in baselines.BASELINES.items():
        wanted = [case.id for case in stored.values() if choose(case) == case.letter] if name != "random" else []
        assert dataset.match(field("baselines_right").contains(name)).values("case_id") == wanted
    assert dataset.values("baseline_hits") == [len(hits) for hits in dataset.values("baselines_right")]
    low, high = dataset.bounds("difficulty")
    assert 0 <= low < high <= 1
    assert "query cyan" in dataset.description


def test_runs_are_predictions_and_baselines_that_beat_models_are_a_view(
    fo: Any, folder: Path, cases: list[Case], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    write_answers(tmp_path / "run/answers.jsonl", cases, {"m": 2})
    with pytest.raises(InputError, match=r"holds no answers\.jsonl: it is no finished run"):
        predictions.read_answers([tmp_path])
    answers = predictions.read_answers([tmp_path / "run"])
    dataset = fo.load_dataset(fiftyone.load(fo, folder, answers=answers).name)
    wrong = {case.id for case in cases[::2]}
    beaten = [name for name, hits in zip(*dataset.values(["case_id", "baseline_hits"]), strict=True) if hits]
    wanted = [name for name in beaten if name in wrong]
    assert wanted
    assert dataset.load_saved_view("baselines right, models wrong").values("case_id") == wanted
    assert set(dataset.match(fo.ViewField("model_m.correct") == False).values("case_id")) == wrong  # noqa: E712


def test_what_annotators_and_audits_found_are_views(fo: Any, folder: Path, tmp_path: Path) -> None:
    other = write_build(tmp_path / "other", [make_case(i) for i in range(COUNT, COUNT + 4)])
    report = audit(folder, against=other).to_json()
    report["near_duplicates"]["pairs"] = [{"cases": ["case_000001", "case_000004"]}]
    report["leak"] |= {"videos": [], "frames": {"pairs": [{"cases": ["case_000002", "case_000013"]}]}}
    video = records(folder)["case_000003"].provenance
    assert video is not None
    report["leak"]["videos"] = [f"{video.source} {video.video}"]
    report["repeated_cases"] = [["case_000007", "case_000005", "case_000006"]]
    (tmp_path / "audit.json").write_text(json.dumps(report))
    (folder / "annotation").mkdir()
    people = {"a@x": {"annotation": 1, "verdict": "kept", "answer": 1, "match_types": []}}
    queue = {"case_000008": {"fields": ["answer", "masks"], "people": people}}
    (folder / "annotation/agreement.json").write_text(json.dumps({"adjudicate": queue}))
    name = fiftyone.load(fo, folder, audit=findings.read_audit(tmp_path / "audit.json")).name
    dataset = fo.load_dataset(name)
    ids = {view: dataset.load_saved_view(view).values("case_id") for view in dataset.list_saved_views()}
    assert ids["annotators disagree"] == ["case_000008"]
    assert sorted(ids["near-duplicates"]) == [f"case_00000{k}" for k in (1, 4, 5, 6, 7)]
    origins = {c.id: c.provenance for c in records(folder).values() if c.provenance}
    same = [case for case, at in origins.items() if (at.source, at.video) == (video.source, video.video)]
    assert set(ids["leakage"]) == {"case_000002", *same}
    pairs = dict(zip(*dataset.values(["case_id", "near_duplicates"]), strict=True))
    assert (pairs["case_000004"], pairs["case_000006"]) == (["case_000001"], ["case_000005", "case_000007"])
    (folder / "annotation/agreement.json").unlink()
    dataset = fo.load_dataset(fiftyone.load(fo, folder).name)  # adjudicated; the audit is kept
    assert dataset.load_saved_view("annotators disagree").values("case_id") == []
    assert sorted(dataset.load_saved_view("near-duplicates").values("case_id")) == sorted(ids["near-duplicates"])
    for bad in (
        '{"repeated_cases": [], "near_duplicates": 3, "leak": null}',
        '{"repeated_cases": [["\\ud800"]]}',
        "[]",
    ):
        (tmp_path / "audit.json").write_text(bad)
        with pytest.raises(InputError, match=r"audit --json|surrogate|UTF"):
            findings.read_audit(tmp_path / "audit.json")


def test_cases_of_like_colors_are_near(fo: Any, folder: Path, cases: list[Case]) -> None:
    for _ in range(2):  # a second time, the former results are replaced
        loaded = fiftyone.load(fo, folder, with_embeddings=True)
        assert loaded.embedded == COUNT
    dataset = fo.load_dataset(loaded.name)
    assert dataset.load_brain_results(embeddings.MAP_KEY).points.shape == (COUNT, 2)
    view = dataset.load_saved_view(embeddings.VIEW)
    vectors = {case.id: embeddings.color_features(case) for case in bench.read(folder)}
    first = view.first()
    nearest = view.sort_by_similarity(first.id, brain_key=embeddings.SIMILARITY_KEY).values("case_id")
    assert sorted(nearest) == [case.id for case in cases]
    similarity = [float(np.dot(vectors[first.case_id], vectors[name])) for name in nearest]  # type: ignore[arg-type]
    assert similarity == pytest.approx(sorted(similarity, reverse=True))
    assert similarity[0] == pytest.approx(1, abs=1e-5) and similarity[-1] < 0.999


def test_edited_labels_come_back(fo: Any, folder: Path, cases: list[Case]) -> None:
    name = fiftyone.load(fo, folder).name
    case = next(case for case in cases if len(case.options) > 2 and case.answer is not None)
    other = next(option.number for option in case.options if option.number not in (None, case.answer))
    edit(fo, name, f"{case.id}/candidates", answer=str(other), match_types=["RP", "CL"])
    bad, twice = cases[10:12]
    edit(fo, name, f"{bad.id}/query", answer="77")
    edit(fo, name, f"{twice.id}/query", match_types=["SZ"])
    edit(fo, name, f"{twice.id}/candidates", match_types=["TM"])
    pulled = fiftyone.pull(fo, folder, by="ana")
    assert pulled.changed == [case.id]
    assert [problem.where for problem in pulled.problems] == [f"{bad.id}: answer", f"{twice.id}: match_types"]
    found = records(folder)[case.id]
    assert (found.answer, found.match_types) == (other, (1, 5))
    assert (found.review.state, found.review.by) == ("fixed", "ana")
    rows = dict(zip(*fo.load_dataset(name).values(["case_id", "answer"]), strict=True))
    assert rows[case.id] == str(other)
    query = fo.load_dataset(name).select_group_slices("query").match(fo.ViewField("case_id") == case.id).first()
    assert (query.answer, query.match_types, query.review_state) == (str(other), ["CL", "RP"], "fixed")
    before = (folder / "cases.jsonl").read_bytes()
    assert fiftyone.pull(fo, folder).changed == []
    assert (folder / "cases.jsonl").read_bytes() == before


def test_an_edit_of_a_record_that_changed_since_is_reported(fo: Any, folder: Path, cases: list[Case]) -> None:
    name = fiftyone.load(fo, folder).name
    plain, both, same = [c for c in cases if len(c.options) > 3 and c.answer is not None][:3]
    numbers = {c.id: [o.number for o in c.options if o.number not in (None, c.answer)] for c in (plain, both, same)}
    edit(fo, name, f"{plain.id}/query", match_types=["OM"])
    for case in (both, same):
        edit(fo, name, f"{case.id}/query", answer=str(numbers[case.id][0]))
    revise(
        folder,
        {
            plain.id: plain.model_copy(update={"rationale": "It has the same scratch."}),
            both.id: both.model_copy(update={"answer": numbers[both.id][1]}),
            same.id: same.model_copy(update={"answer": numbers[same.id][0]}),
        },
    )
    pulled = fiftyone.pull(fo, folder, by="ana")
    assert pulled.changed == [plain.id]
    ((where, reason),) = pulled.problems
    assert where == f"{both.id}: answer"
    first, second = numbers[both.id][:2]
    assert f"edited to {first}, but the record has changed since it was loaded" in reason
    assert f"(from {both.answer} to {second})" in reason
    now = records(folder)
    assert (now[plain.id].match_types, now[plain.id].rationale) == ((8,), "It has the same scratch.")
    assert (now[both.id].answer, now[same.id].answer) == (second, numbers[same.id][0])
    loaded = fiftyone.load(fo, folder)
    assert [problem.where for problem in loaded.replaced_edits] == [f"{both.id}: answer"]
    answers = dict(zip(*fo.load_dataset(name).values(["case_id", "answer"]), strict=True))
    assert answers[both.id] == str(second)
    assert fiftyone.pull(fo, folder).problems == fiftyone.load(fo, folder).replaced_edits == []


def test_an_edit_that_was_not_pulled_is_kept_by_a_load(fo: Any, folder: Path, cases: list[Case]) -> None:
    name = fiftyone.load(fo, folder).name
    case = cases[0]
    edit(fo, name, f"{case.id}/query", match_types=["OM"])
    revise(folder, {case.id: case.model_copy(update={"rationale": "It has the same scratch."})})
    loaded = fiftyone.load(fo, folder)
    assert (loaded.updated, loaded.replaced_edits) == (1, [])
    assert fiftyone.pull(fo, folder).changed == [case.id]
    assert records(folder)[case.id].match_types == (8,)


def test_an_edited_answer_marks_what_speaks_of_another() -> None:
    case = make_case(1)
    assert case.answer is not None
    other = next(option.number for option in case.options if option.number not in (None, case.answer))
    case = case.model_copy(
        update={
            "rationale": f"Object {case.answer} is the same.",
            "cues": (Cue(type=5, score=0.9, evidence=f"left of object {other}"),),
        }
    )
    labels = [case_labels.record_labels(case), case_labels.record_labels(case)._replace(answer=str(other))]
    after = case_labels.with_labels(case, labels, None, "now")
    assert set(after.extra["second_look"]) == {"rationale", "cues"}
    assert case_labels.with_labels(case, labels[:1] * 2, None, "now") is case


def test_tags_and_labels_of_an_imported_benchmark_come_back(fo: Any, folder: Path, tmp_path: Path) -> None:
    foreign = tmp_path / f"foreign {tmp_path.name}"
    bench.write(bench.read(folder), foreign)
    (foreign / bench.CASES).unlink()
    loaded = fiftyone.load(fo, foreign)
    assert (loaded.added, loaded.problems, (foreign / bench.CASES).exists()) == (COUNT, [], False)
    edit(fo, loaded.name, "case_000001/query", tags=["golden"])
    edit(fo, loaded.name, "case_000002/candidates", tags=["reject"])
    edit(fo, loaded.name, "case_000003/candidates", match_types=["BR"])
    pulled = fiftyone.pull(fo, foreign, by="ana")
    assert (pulled.changed, pulled.problems) == (["case_000001", "case_000002", "case_000003"], [])
    found = records(foreign)
    assert found["case_000001"].extra["tags"] == ["golden"]
    assert (found["case_000002"].review.state, found["case_000002"].review.by) == ("rejected", "ana")
    assert found["case_000003"].match_types == (7,)
    assert (foreign / "import.json").is_file() and (foreign / "revisions/imported.tsv").is_file()
    before = {str(path): path.read_bytes() for path in foreign.rglob("*") if path.is_file()}
    assert fiftyone.pull(fo, foreign).changed == []
    assert {str(path): path.read_bytes() for path in foreign.rglob("*") if path.is_file()} == before
    assert fiftyone.load(fo, foreign).unchanged == COUNT

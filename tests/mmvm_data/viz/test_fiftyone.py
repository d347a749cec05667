"""Benchmarks in a real FiftyOne with its own mongod: what is loaded, loaded again, tagged and pulled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Case, Review
from mmvm_data.formats import bench, predictions
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.viz import case_tags, fiftyone
from mmvm_data.viz.samples import DRAWN
from tests.builds import make_case, write_build
from tests.mmvm_data.viz.browse_world import write_answers

COUNT = 30


@pytest.fixture
def cases() -> list[Case]:
    return [make_case(i) for i in range(COUNT)]


@pytest.fixture
def folder(tmp_path: Path, cases: list[Case]) -> Path:
    place = write_build(tmp_path / f"bench {tmp_path.name}", cases)
    third = place / "match_bench/case_000005"
    (third / "FRAME02_ORI.jpg").write_bytes((third / "FRAME01_ORI.jpg").read_bytes())
    return place


def flat(fo: Any, name: str) -> Any:
    return fo.load_dataset(name).select_group_slices(_allow_mixed=True)


def tag(fo: Any, name: str, slice_name: str, case_id: str, tags: list[str]) -> None:
    for sample in flat(fo, name).match(fo.ViewField("key") == f"{case_id}/{slice_name}"):
        sample.tags = tags
        sample.save()


def records(folder: Path) -> dict[str, Case]:
    return {case.id: case for case in bench.read(folder)}


def state_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_image_is_a_sample_with_its_masks_and_facts(fo: Any, folder: Path, cases: list[Case]) -> None:
    before = state_of(folder)
    loaded = fiftyone.load(fo, folder)
    assert (loaded.added, loaded.problems, state_of(folder)) == (COUNT, [], before)
    dataset = fo.load_dataset(loaded.name)
    assert dataset.persistent
    assert sorted(dataset.group_slices) == ["candidates", "query", "query2"]
    samples = {sample.key: sample for sample in flat(fo, loaded.name)}
    assert len(samples) == 2 * COUNT + 1
    for case in cases:
        last = samples[f"{case.id}/candidates"]
        assert Path(last.filepath) == folder / case.frames[-1].path
        assert [d.label for d in last.candidates.detections] == [str(c.number) for c in case.candidates]
        answers = [d.number for d in last.candidates.detections if d.role == "answer"]
        assert answers == ([] if case.answer is None else [case.answer])
        assert last.answer == ("none" if case.answer is None else str(case.answer))
        for slice_name in ("query", "candidates"):
            sample = samples[f"{case.id}/{slice_name}"]
            assert (sample.source, sample.ordinal, sample.gap) == (
                case.provenance.source,
                case.provenance.ordinal,
                case.provenance.gap,
            )
            assert sample.review_state == case.review.state
        for detection, candidate in zip(last.candidates.detections, case.candidates, strict=True):
            if candidate.region.mask is None:
                assert detection.mask is None
                continue
            whole = np.zeros((last.metadata.height, last.metadata.width), bool)
            x, y, width, height = detection.bounding_box
            left, top = round(x * whole.shape[1]), round(y * whole.shape[0])
            rows, columns = round(height * whole.shape[0]), round(width * whole.shape[1])
            whole[top : top + rows, left : left + columns] = detection.mask
            np.testing.assert_array_equal(whole, masks.decode(candidate.region.mask).astype(bool))


def test_loading_again_changes_what_changed_and_nothing_else(fo: Any, folder: Path, cases: list[Case]) -> None:
    name = fiftyone.load(fo, folder).name
    ids = set(flat(fo, name).values("id"))
    tag(fo, name, "query", "case_000002", ["golden"])
    again = fiftyone.load(fo, folder)
    assert (again.added, again.updated, again.unchanged, again.removed) == (0, 0, COUNT, 0)
    changed = [cases[0].model_copy(update={"rationale": "new words"}), *cases[1:-1], make_case(COUNT)]
    (folder / "cases.jsonl").write_text("".join(case.model_dump_json() + "\n" for case in changed))
    third = fiftyone.load(fo, folder)
    assert (third.added, third.updated, third.unchanged, third.removed) == (1, 1, COUNT - 2, 1)
    rows = dict(zip(*flat(fo, name).values(["key", "rationale"]), strict=True))
    assert rows["case_000000/query"] == rows["case_000000/candidates"] == "new words"
    assert len(ids & set(flat(fo, name).values("id"))) == 2 * (COUNT - 1) + 1
    assert dict(zip(*flat(fo, name).values(["key", "tags"]), strict=True))["case_000002/query"] == ["golden"]


def test_a_load_that_was_cut_off_is_finished_by_the_next(
    fo: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fiftyone, "BATCH", 4)

    def stop(done: int, of: int | None) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fiftyone.load(fo, folder, progress=stop)
    dataset = fo.load_dataset(folder.name)
    half = [
        i for i, key in zip(*flat(fo, folder.name).values(["id", "key"]), strict=True) if key == "case_000003/query"
    ]
    dataset.delete_samples(half)  # as a kill between two images of a case leaves it
    loaded = fiftyone.load(fo, folder)
    assert (loaded.added, loaded.updated, loaded.unchanged) == (COUNT - 8, 1, 7)
    keys = flat(fo, folder.name).values("key")
    assert len(keys) == len(set(keys)) == 2 * COUNT + 1


def test_one_bad_case_is_named_and_the_rest_is_there(fo: Any, folder: Path) -> None:
    lines = (folder / "cases.jsonl").read_text().splitlines()
    lines[3] = '{"id": "case_000003"}'
    broken = json.loads(lines[7])
    broken["query"][0]["mask"]["counts"] = "9"
    lines[7] = json.dumps(broken)
    (folder / "cases.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "match_bench/case_000005/FRAME02_ORI.jpg").unlink()
    loaded = fiftyone.load(fo, folder)
    assert loaded.cases == COUNT - 3
    assert [p.where.split(":")[0] for p in loaded.problems] == ["cases.jsonl", "case_000005", "case_000007"]


def test_without_images_the_database_is_untouched(fo: Any, folder: Path) -> None:
    for image in folder.rglob("*_ORI.jpg"):
        image.unlink()
    with pytest.raises(InputError, match=r"no case can be shown: case_000000: image 1: .* is missing"):
        fiftyone.load(fo, folder)
    assert not fo.dataset_exists(folder.name)


def test_names_of_other_data_are_not_taken(fo: Any, folder: Path, tmp_path: Path) -> None:
    fiftyone.load(fo, folder, name="shared name")
    other = write_build(tmp_path / "other", [make_case(0)])
    with pytest.raises(UsageError, match="choose another `name`"):
        fiftyone.load(fo, other, name="shared name")
    with pytest.raises(UsageError, match="has not been loaded"):
        fiftyone.pull(fo, other, name="shared name")


def test_answers_of_models_are_next_to_the_truth(fo: Any, folder: Path, cases: list[Case]) -> None:
    answers = predictions.read_answers([write_answers(folder / "answers.jsonl", cases, {"gpt-4o": 3, "Ours 4B": 5})])
    loaded = fiftyone.load(fo, folder, answers=answers)
    assert loaded.models == {"gpt-4o": 20 / 30, "Ours 4B": 24 / 30}
    dataset = fo.load_dataset(loaded.name)
    wrong = dataset.load_saved_view("wrong by gpt-4o").values("case_id")
    assert wrong == [case.id for case in cases[::3]]
    assert dataset.load_saved_view("wrong by all models").values("case_id") == ["case_000000", "case_000015"]
    differ = {case.id for k, case in enumerate(cases) if (k % 3 == 0) != (k % 5 == 0)}
    assert set(dataset.load_saved_view("disagreements").values("case_id")) == differ
    assert dataset.load_saved_view("hardest").first().models_wrong == 2
    right = dataset.match(fo.ViewField("case_id") == "case_000001").first()
    assert (right.model_gpt_4o.label, right.model_gpt_4o.text) == (right.answer, f"It is {cases[1].letter}.")
    assert right.choice_gpt_4o.label == f"gpt-4o: {right.answer}"
    # the record's answer changes: what the data set keeps is judged anew, without the file
    options = [option.number for option in cases[1].options if option.number]
    other = next(number for number in options if number != cases[1].answer)
    fixed = cases[1].model_copy(update={"answer": other, "review": Review(state="fixed")})
    lines = [case.model_dump_json() for case in [cases[0], fixed, *cases[2:]]]
    (folder / "cases.jsonl").write_text("\n".join(lines) + "\n")
    fiftyone.load(fo, folder)
    assert "case_000001" in fo.load_dataset(loaded.name).load_saved_view("wrong by gpt-4o").values("case_id")


def test_saved_views_show_what_they_say(fo: Any, folder: Path, cases: list[Case]) -> None:
    dataset = fo.load_dataset(fiftyone.load(fo, folder).name)
    none = dataset.load_saved_view("none of the above").values("case_id")
    assert none == [case.id for case in cases if case.answer is None]
    for state in ("proposed", "accepted", "fixed", "rejected"):
        wanted = [case.id for case in cases if case.review.state == state]
        assert dataset.load_saved_view(state).values("case_id") == wanted
    alike = dataset.load_saved_view("hardest").values("look_alikes")
    assert alike == sorted(alike, reverse=True)


def test_tags_come_back_and_are_followed(fo: Any, folder: Path, cases: list[Case]) -> None:
    name = fiftyone.load(fo, folder).name
    tag(fo, name, "candidates", "case_000000", ["reject", "odd"])
    tag(fo, name, "query", "case_000002", ["reject"])
    tag(fo, name, "query", "case_000001", ["zebra", "golden"])
    pulled = fiftyone.pull(fo, folder, by="ana")
    assert pulled.changed == ["case_000000", "case_000001", "case_000002"]
    assert pulled.tags == {"golden": 1, "odd": 1, "reject": 2, "zebra": 1}
    found = records(folder)
    review = found["case_000000"].review
    assert (review.state, review.reason, review.by) == ("rejected", case_tags.REASON, "ana")
    assert found["case_000000"].extra["tags"] == ["odd"]
    assert found["case_000001"].extra["tags"] == ["golden", "zebra"]
    assert found["case_000002"].review.state == "rejected"
    assert {k: v for k, v in found.items() if k > "case_000002"} == {c.id: c for c in cases[3:]}
    tags = dict(zip(*flat(fo, name).values(["key", "tags"]), strict=True))
    assert tags["case_000000/query"] == tags["case_000000/candidates"] == ["odd", "reject"]
    assert "case_000000" in fo.load_dataset(name).load_saved_view("rejected").values("case_id")
    before = state_of(folder)
    assert fiftyone.pull(fo, folder).changed == []
    assert state_of(folder) == before
    assert fiftyone.load(fo, folder).unchanged == COUNT
    # taken away again, from one of the two images only
    tag(fo, name, "query", "case_000000", ["odd"])
    tag(fo, name, "candidates", "case_000001", ["golden"])
    tag(fo, name, "candidates", "case_000002", [])
    fiftyone.pull(fo, folder)
    found = records(folder)
    assert found["case_000000"].review == cases[0].review
    assert found["case_000000"].extra == {"tags": ["odd"]}
    assert found["case_000001"].extra["tags"] == ["golden"]
    assert found["case_000002"] == cases[2]  # it had been accepted before


def test_tags_of_the_record_reach_a_new_data_set(fo: Any, folder: Path, cases: list[Case]) -> None:
    lines = [case.model_copy(update={"extra": {"tags": ["golden"]}}).model_dump_json() for case in cases[:2]]
    (folder / "cases.jsonl").write_text("\n".join([*lines, *(case.model_dump_json() for case in cases[2:])]) + "\n")
    name = fiftyone.load(fo, folder).name
    tags = dict(zip(*flat(fo, name).values(["key", "tags"]), strict=True))
    assert tags["case_000001/query"] == ["golden"]
    assert fiftyone.pull(fo, folder).changed == []


def test_a_rejection_by_a_person_keeps_its_reason() -> None:
    case = make_case(1, review={"state": "rejected", "reason": "blurred", "by": "bo"})
    assert case_tags.with_tags(case, {"reject"}, None, "now") is case
    assert case_tags.with_tags(case, set(), None, "now") is case


@pytest.mark.parametrize(
    ("agreed", "sides", "result"),
    [
        ({"a"}, [{"a"}, {"a"}], {"a"}),
        ({"a"}, [{"a", "b"}, {"a"}], {"a", "b"}),
        ({"a"}, [{"a"}, set()], set()),
        (set(), [{"a"}, {"b"}], {"a", "b"}),
        ({"a", "b"}, [{"b"}, {"a", "c"}], {"c"}),
    ],
)
def test_changes_of_both_sides_are_merged(agreed: set[str], sides: list[set[str]], result: set[str]) -> None:
    assert case_tags.merge_tags(agreed, sides) == result


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "JSON"),
        ('{"id": "a", "model": "m"}', "at answer"),
        ('{"id": "a", "model": "m", "answer": "b"}', "at answer"),
        ('{"id": "a", "model": "m", "answer": "B", "txet": ""}', "at txet"),
        ('{"id": "a", "model": "m", "answer": 2}', "at answer"),
        ('{"id": "x", "model": "m", "answer": "B"}', "answers .x. twice"),
        ('{"id": "x", "model": "M", "answer": "B"}', "punctuation"),
    ],
)
def test_answers_of_another_form_are_refused_by_line(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "x", "model": "m", "answer": null, "text": "?"}\n' + line + "\n")
    with pytest.raises(InputError, match=rf"answers.jsonl: line 2: .*{fault}"):
        predictions.read_answers([path])


def test_the_app_shows_pictures_as_their_masks_are_stored(fo: Any, shared_cases: Path, tmp_path: Path) -> None:
    """The App shows the file of a sample in a browser, which applies an orientation tag; masks do not follow it."""
    folder = tmp_path / "rotated"
    build("frames", shared_cases / "hub_export_exif", folder, BuildOptions(max_cases=2))
    assert fiftyone.load(fo, folder).problems == []
    samples = list(flat(fo, folder.name))
    assert len(samples) == 4
    for sample in samples:
        assert (sample.metadata.width, sample.metadata.height) == (320, 240)
        for path in (sample.filepath, sample[DRAWN]):
            with Image.open(path) as image:
                assert ImageOps.exif_transpose(image).size == (320, 240)
        with Image.open(sample.filepath) as image:
            shown = np.asarray(ImageOps.exif_transpose(image))
        for detection in (sample.query or sample.candidates).detections:
            x, y, width, height = detection.bounding_box
            left, top, right, bottom = (round(v) for v in (320 * x, 240 * y, 320 * (x + width), 240 * (y + height)))
            color = np.median(shown[top:bottom, left:right][detection.mask], axis=0)
            assert int(color.argmax()) == int(detection.track) - 1  # objects 1, 2, 3 are red, green, blue
            assert np.sort(color)[1] < 100 < 180 < color.max()
    # a file that another tool wrote is left out with its reason
    original = shared_cases / "hub_export_exif/images/v/00000.jpg"
    (folder / "match_bench/case_000001/FRAME00_ORI.jpg").write_bytes(original.read_bytes())
    again = fiftyone.load(fo, folder)
    assert [problem.where for problem in again.problems] == ["case_000001: match_bench/case_000001/FRAME00_ORI.jpg"]
    assert "orientation tag asks for a rotation" in again.problems[0].what

"""Match records and conversations."""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench, sft

H, W = 12, 17


def _published_masks(segmentations: list[Any], height: int, width: int) -> list[np.ndarray]:
    """Bitmaps as the published loader decodes them: an independent reading with pycocotools."""
    found = []
    for item in segmentations:
        if isinstance(item, dict):
            rle = coco.frPyObjects(item, height, width) if isinstance(item["counts"], list) else item
        else:
            rle = coco.merge(coco.frPyObjects(item, height, width))
        found.append(coco.decode(rle))
    return found


def _plain(bitmap: np.ndarray) -> dict[str, Any]:
    """Uncompressed run lengths, counted by hand."""
    counts, value = [0], 0
    for pixel in bitmap.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"counts": counts, "size": list(bitmap.shape)}


bitmaps = st.lists(st.booleans(), min_size=H * W, max_size=H * W).map(
    lambda bits: np.array(bits, np.uint8).reshape(H, W)
)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Match records of the published kind, with the keys that only some of them have."""
    images = draw(st.integers(2, 4))
    gone = draw(st.booleans())
    objects = [_plain(bitmap) for bitmap in draw(st.lists(bitmaps, min_size=images, max_size=images + 4))]
    shown = objects[images - 1 :]
    queries = [[item] if sum(item["counts"][1::2]) else [] for item in objects[: images - 1]]
    names = [f"./data/vid/{5 * k:05d}.jpg" for k in range(images)]
    record: dict[str, Any] = {
        "id": draw(st.text("0123456789abc", min_size=1, max_size=8)),
        "file_names": names,
        "is_disappear": gone,
        "pos_annotations": [*queries, [] if gone else shown[:1]],
        "neg_annotations": [*([] for _ in queries), shown if gone else shown[1:]],
    }
    if draw(st.booleans()):
        record["description"] = draw(st.text(max_size=30))
    if draw(st.booleans()):
        record["vprompt_type"] = "mask"
    if draw(st.booleans()):
        record["source"] = {"name": "x", "list": [1, 2.5, None]}
    return record


def _decoded(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its annotations as bitmaps."""
    result = dict(record)
    for key in ("pos_annotations", "neg_annotations"):
        result[key] = [[m.tolist() for m in _published_masks(part, H, W)] for part in record[key]]
    return result


@given(records())
def test_a_record_is_written_back_from_its_case(record: dict[str, Any]) -> None:
    # an object that only an empty image says the size of cannot occur here: the last image always has one
    whole = json.loads(json.dumps(record))
    sizes_known = all(record["pos_annotations"][:-1])
    if not sizes_known:
        with pytest.raises(InputError, match="has no size of the image"):
            sft.from_record(whole)
        return
    case = sft.from_record(whole)
    again = sft.to_record(Case.model_validate_json(case.model_dump_json()))
    assert _decoded(again) == _decoded(record)
    answer = {c.number: c.region for c in case.candidates}.get(case.answer or 0)
    if record["is_disappear"]:
        assert answer is None and case.options[-1].number is None
    else:
        expected = _published_masks(record["pos_annotations"][-1][:1], H, W)[0]
        assert answer is not None and answer.mask is not None
        assert np.array_equal(masks.decode(answer.mask), expected)
    assert sorted(c.number for c in case.candidates) == list(range(1, len(case.candidates) + 1))


def test_numbers_do_not_give_the_answer_away() -> None:
    pixels = np.zeros((H, W), np.uint8)
    pixels[2:5, 3:9] = 1
    answers = []
    for name in range(400):
        record = {
            "id": f"{name:08d}",
            "file_names": ["./a.jpg", "./b.jpg"],
            "is_disappear": False,
            "pos_annotations": [[_plain(pixels)], [_plain(pixels)]],
            "neg_annotations": [[], [_plain(pixels)] * 3],
        }
        answers.append(sft.from_record(record).answer)
    counts = [answers.count(number) for number in (1, 2, 3, 4)]
    assert sum(counts) == 400 and min(counts) > 70  # 100 each if even, standard deviation 9
    assert answers == [sft.from_record({**record, "id": f"{name:08d}"}).answer for name in range(400)]


def test_more_candidates_than_letters_keep_the_answer() -> None:
    pixels = np.ones((H, W), np.uint8)
    record = {
        "file_names": ["./a.jpg", "./b.jpg"],
        "is_disappear": False,
        "pos_annotations": [[_plain(pixels)], [_plain(pixels)]],
        "neg_annotations": [[], [_plain(pixels)] * 36],
        "numbers": [37, *range(1, 37)],
    }
    case = sft.from_record(record)
    assert case.answer == 37 and case.letter == "Y" and len(case.options) == 26


def test_numbers_of_many_candidates_are_offered() -> None:
    pixels = np.ones((H, W), np.uint8)
    letters = []
    for name in range(500):
        record = {
            "id": f"{name:08d}",
            "file_names": ["./a.jpg", "./b.jpg"],
            "is_disappear": False,
            "pos_annotations": [[_plain(pixels)], [_plain(pixels)]],
            "neg_annotations": [[], [_plain(pixels)] * 36],
        }
        case = sft.from_record(record)
        assert [o.number for o in case.options] == [*range(1, 26), None]
        assert sorted(c.number for c in case.candidates) == list(range(1, 38))
        letters.append(case.letter)
    assert len(set(letters)) == 25 and max(letters.count(letter) for letter in set(letters)) < 45  # 20 if even


def test_real_cases_are_what_the_published_loader_reads(cases: list[Case], tmp_path: Path) -> None:
    sft.write(cases, tmp_path / "match.json")
    written = json.loads((tmp_path / "match.json").read_text())
    for case, record in zip(cases, written, strict=True):
        size = case.frames[-1].height, case.frames[-1].width
        assert record["file_names"] == [f"./{frame.path}" for frame in case.frames]
        assert record["is_disappear"] is (case.answer is None)
        assert record["vprompt_type"] == ("bbox" if case.prompt == "box" else "mask")
        assert len(record["pos_annotations"]) == len(record["neg_annotations"]) == len(case.frames)
        seen = _published_masks(record["pos_annotations"][-1] + record["neg_annotations"][-1], *size)
        regions = {c.number: c.region for c in case.candidates}
        for number, bitmap in zip(record["numbers"], seen, strict=True):
            region = regions[number]
            expected = region.mask or masks.from_box(region.box, *size)  # type: ignore[arg-type]
            assert np.array_equal(bitmap, masks.decode(expected))
        assert case.answer is None or record["numbers"][0] == case.answer
        assert record.get("description") == case.rationale


@pytest.mark.parametrize("name", ["match.json", "match.jsonl"])
def test_written_cases_are_read_back(cases: list[Case], root: Path, tmp_path: Path, name: str) -> None:
    sft.write(cases, tmp_path / name)
    back = list(sft.read(tmp_path / name, root))  # the folder: boxes are polygons, which have no image size
    for case, read in zip(cases, back, strict=True):
        for key in ("id", "frames", "answer", "prompt", "question", "options", "rationale"):
            assert getattr(read, key) == getattr(case, key), key
        assert [(c.number, c.region.mask) for c in read.candidates] == [
            (c.number, c.region.mask) for c in case.candidates
        ]
        for ours, theirs in zip(
            [*read.query, *(c.region for c in read.candidates)],
            [*case.query, *(c.region for c in case.candidates)],
            strict=True,
        ):
            assert (ours.box is None) == (theirs.box is None)
            assert ours.box is None or ours.box == pytest.approx(theirs.box)
    assert [sft.to_record(read) for read in back] == [sft.to_record(case) for case in cases]


def test_boxes_are_read_without_the_images(cases: list[Case], root: Path, tmp_path: Path) -> None:
    """Polygons do not say how large an image is, so the record does."""
    boxes = next(case for case in cases if case.prompt == "box")
    record = sft.to_record(boxes)
    assert record["sizes"] == [[frame.height, frame.width] for frame in boxes.frames]
    assert "sizes" not in sft.to_record(cases[0])
    read = sft.from_record(record)
    assert [(f.width, f.height) for f in read.frames] == [(f.width, f.height) for f in boxes.frames]
    assert sft.to_record(read) == record
    without = {key: value for key, value in record.items() if key != "sizes"}
    with pytest.raises(InputError, match="has no size of the image"):
        sft.from_record(without)
    assert sft.to_record(sft.from_record(without, root)) == without
    for sizes in ([[1, 2]], [[1, 2], [3, True]], 7):
        with pytest.raises(InputError, match="height and width of each image"):
            sft.from_record({**record, "sizes": sizes})


def test_a_box_query_may_be_hidden_in_between(schoolgirls: Callable[..., Case], root: Path, tmp_path: Path) -> None:
    """Three images, the query visible in the first and the last: the second has no annotation."""
    record = sft.to_record(schoolgirls("case_000009", (0, 10, 30), "box"))
    record["pos_annotations"][1] = []
    case = sft.from_record(record)
    assert case.prompt == "box" and case.query[0].box and case.query[1].mask and case.answer
    assert masks.area(case.query[1].mask) == 0
    assert sft.to_record(case) == record
    bench.write([case], tmp_path, root)
    assert bench.validate(tmp_path, deep=True).problems == []
    (tmp_path / bench.CASES).unlink()
    assert next(bench.read(tmp_path)).prompt == "box" and bench.validate(tmp_path).problems == []


def test_files_go_by_name_and_folder(cases: list[Case], root: Path, tmp_path: Path) -> None:
    sft.write(cases, str(tmp_path / "m.json"))
    sft.write(cases, str(tmp_path))
    sft.write(cases, tmp_path, "conversations")
    assert (tmp_path / "m.json").read_bytes() == (tmp_path / "match_records.json").read_bytes()
    by_file, by_folder = (list(sft.read(str(path), str(root))) for path in (tmp_path / "m.json", tmp_path))
    assert by_file == by_folder and {case.root for case in by_file} == {root}
    assert len(list(sft.read_llava(str(tmp_path)))) == len(cases)
    # a record whose images lie in a known folder becomes a benchmark
    assert bench.write(by_file, str(tmp_path / "bench")) == len(cases)
    assert bench.validate(str(tmp_path / "bench"), deep=True).problems == []


def test_a_changed_answer_changes_the_record(cases: list[Case]) -> None:
    read = sft.from_record(sft.to_record(cases[0]))
    other = next(c.number for c in read.candidates if c.number != read.answer)
    changed = sft.to_record(read.model_copy(update={"answer": other}))
    assert changed["numbers"][0] == other and len(changed["pos_annotations"][-1]) == 1
    gone = sft.to_record(read.model_copy(update={"answer": None}))
    assert gone["is_disappear"] and gone["pos_annotations"][-1] == []
    assert len(gone["neg_annotations"][-1]) == len(read.candidates)


def test_conversations(cases: list[Case], tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    sft.write(cases, path, kind="conversations")
    for case, talk in zip(cases, sft.read_llava(path), strict=True):
        assert talk.images == tuple(frame.path for frame in case.frames)
        first = talk.turns[0].text
        assert first.startswith("Image-1: <image>\nImage-2: <image>\n") and first.count("<image>") == len(case.frames)
        assert first.endswith("None of the above choices are correct") and case.question in first
        assert [turn.role for turn in talk.turns] == ["human", "gpt"] * (2 if case.rationale else 1)
        assert talk.turns[1].text == case.letter
        if case.rationale:
            assert talk.turns[3].text == case.rationale


def test_conversations_of_a_benchmark_show_the_marks(cases: list[Case], root: Path, tmp_path: Path) -> None:
    """The question speaks of a cyan contour, and a conversation has no regions to draw it from."""
    bench.write(cases, tmp_path, root)
    table = pd.read_csv(tmp_path / bench.TSV, sep="\t")
    for case, paths in zip(bench.read(tmp_path), table["image_path"], strict=True):
        talk = sft.to_conversations(case)
        assert talk["image"] == ast.literal_eval(paths)
        assert sft.to_record(case)["file_names"] == [f"./{frame.path}" for frame in case.frames]


def test_an_empty_set_is_an_empty_list(tmp_path: Path) -> None:
    sft.write([], tmp_path / "a.json")
    sft.write([], tmp_path / "a.jsonl")
    assert json.loads((tmp_path / "a.json").read_text()) == [] and (tmp_path / "a.jsonl").read_text() == ""
    assert list(sft.read(tmp_path / "a.json")) == list(sft.read(tmp_path / "a.jsonl")) == []


def test_llava_and_sharegpt4o_as_published(tmp_path: Path) -> None:
    llava = [
        {
            "id": "000000033471",
            "image": "coco/x.jpg",
            "conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A bus."}],
        },
        {"id": 7, "model": "", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hé"}]},
        {"image": "", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    ]
    (tmp_path / "llava.json").write_text(json.dumps(llava))
    first, second, third = sft.read_llava(tmp_path / "llava.json")
    assert third.images == ()
    assert first.images == ("coco/x.jpg",) and first.turns[1].text == "A bus."
    assert second.images == () and second.id == "7" and second.extra == {"model": ""}
    line = {"id": "1", "image": "images/a.jpg", "width": 4, "height": 3, "conversations": llava[0]["conversations"]}
    (tmp_path / "share.jsonl").write_text(json.dumps(line) + "\n\n" + json.dumps(line) + "\n")
    both = list(sft.read_sharegpt4o(tmp_path / "share.jsonl"))
    sft.write(both, tmp_path / "again.jsonl", "conversations")
    assert [json.loads(text) for text in (tmp_path / "again.jsonl").read_text().splitlines()] == [line, line]
    with pytest.raises(InputError, match="no regions"):
        sft.write(both, tmp_path / "again.jsonl")
    assert len(both) == 2 and both[0].extra == {"width": 4, "height": 3} and both[0].images == ("images/a.jpg",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_names": ["./a.jpg"]}, "record 0: file_names: expected two or more names"),
        ({"file_names": ["./a.jpg", "../b.jpg"]}, "must be relative"),
        ({"is_disappear": 1}, "record 0: is_disappear: expected true or false"),
        ({"pos_annotations": [[]]}, "record 0: pos_annotations: expected 2 lists"),
        ({"vprompt_type": "point"}, "record 0: vprompt_type: expected mask or bbox"),
        ({"numbers": [1, 1]}, "record 0: numbers: expected 2 different numbers"),
        ({"neg_annotations": [[], [{"counts": [3], "size": [2, 2]}]]}, "expected an RLE or polygons: .*4"),
        ({"neg_annotations": [[], [[[1, 2, "x", 4, 5, 6]]]]}, "expected an RLE or polygons"),
        ({"neg_annotations": [[], [{"counts": [9], "size": [3, 3]}]]}, "differs from the image's"),
    ],
)
def test_broken_records_are_errors(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    pixels = np.ones((2, 2), np.uint8)
    record = {
        "file_names": ["./a.jpg", "./b.jpg"],
        "is_disappear": False,
        "pos_annotations": [[_plain(pixels)], [_plain(pixels)]],
        "neg_annotations": [[], [_plain(pixels)]],
    }
    path = tmp_path / "m.json"
    path.write_text(json.dumps([{**record, **change}, record]))
    with pytest.raises(InputError, match=message):
        list(sft.read(path))
    problems: list[Any] = []
    assert len(list(sft.read(path, problems=problems))) == 1 and problems[0].where.startswith("m.json: record 0")


@pytest.mark.parametrize("text", ['[{"id": 1}, {"id"', '{"a":\n 1}', "[1", "\xff[", ""])
def test_broken_files_are_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(text.encode("latin-1"))
    if not text:
        assert list(sft.read(path)) == []
        return
    with pytest.raises(InputError):
        list(sft.read_llava(path))


def test_a_place_that_cannot_be_written(tmp_path: Path, cases: list[Case]) -> None:
    with pytest.raises(OutputError):
        sft.write(cases, tmp_path / "no" / "m.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_mutated_records_never_raise_anything_else(data: st.DataObject) -> None:
    pixels = np.ones((2, 2), np.uint8)
    record: Any = {
        "id": "1",
        "file_names": ["./a.jpg", "./b.jpg"],
        "is_disappear": False,
        "pos_annotations": [[_plain(pixels)], [[[0, 0, 2, 0, 2, 2, 0, 2]]]],
        "neg_annotations": [[], [{"size": [2, 2], "counts": "04"}]],
        "vprompt_type": data.draw(st.sampled_from(["mask", "bbox"])),
        "description": "why",
        "numbers": [2, 1],
    }
    node, path = record, []
    while isinstance(node, (dict, list)) and node and (not path or data.draw(st.booleans())):
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        path.append(key)
        parent, node = node, node[key]
    parent[path[-1]] = data.draw(json_values)
    with contextlib.suppress(InputError):
        Case.model_validate_json(sft.from_record(record).model_dump_json())


def test_records_stream(tmp_path: Path, schoolgirls: Callable[..., Case]) -> None:
    """The first case comes without the rest of the file being parsed: its end is broken."""
    path = tmp_path / "m.json"
    text = json.dumps(sft.to_record(schoolgirls()))
    path.write_text("[" + ",".join([text] * 500) + ", {broken")
    first = next(iter(sft.read(path)))
    assert first.id == "case_000000"
    with pytest.raises(InputError, match="not JSON"):
        for _ in sft.read(path):
            pass

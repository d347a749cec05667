"""Counts of a build against the same counts taken from the plain JSON."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from pathlib import Path

import pytest
from pycocotools import mask as coco
from rich.console import Console

from mmvm_data.audit import stats
from mmvm_data.core.errors import InputError
from tests.builds import make_case, make_reject, write_build


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rejects = [
        make_reject(0),
        make_reject(1, "frame 12 has 1 objects, 2 are needed"),
        make_reject(2, "file 'a' is cut"),
    ]
    return write_build(tmp_path_factory.mktemp("build"), [make_case(i) for i in range(150)], rejects)


def area(region: dict) -> int:
    if region["mask"] is None:
        return round(region["box"][2] * region["box"][3])
    return int(coco.area({"size": region["mask"]["size"], "counts": region["mask"]["counts"].encode()}))


def bins(values: list[int]) -> dict[str, int]:
    found = Counter(2 ** int(math.log2(value)) if value else 0 for value in values)
    return {str(low): found[low] for low in sorted(found)}


def counted(values: list) -> dict[str, int]:
    found = Counter(values)
    return {str(value): found[value] for value in sorted(found)}


def test_every_count_agrees_with_the_plain_json(build: Path) -> None:
    everything = [json.loads(line) for line in (build / "cases.jsonl").read_text().splitlines()]
    cases = [case for case in everything if case["review"]["state"] != "rejected"]
    plain = stats.collect_stats(build).to_json()
    assert plain["rejected"] == len(everything) - len(cases) == 30
    origins = [case["provenance"] for case in cases]
    assert plain["cases"] == 120
    assert plain["videos"] == len({(o["source"], o["video"]) for o in origins})
    assert plain["none"] == sum(case["answer"] is None for case in cases)
    assert plain["none_share"] == pytest.approx(plain["none"] / 120, abs=1e-6)
    assert plain["candidates"] == counted([len(case["candidates"]) for case in cases])
    assert plain["query_areas"] == bins([area(region) for case in cases for region in case["query"]])
    assert plain["candidate_areas"] == bins([area(c["region"]) for case in cases for c in case["candidates"]])
    assert plain["gaps"] == counted([o["gap"] for o in origins])
    assert plain["look_alikes"] == counted([o["look_alikes"] for o in origins])
    letters = [next(o["letter"] for o in case["options"] if o["number"] == case["answer"]) for case in cases]
    assert plain["letters"] == counted(letters)
    assert plain["match_types"] == counted([t for case in cases for t in case["match_types"] or [0]])
    assert plain["prompts"] == {"box": 40, "mask": 80}
    assert plain["reviews"] == counted([case["review"]["state"] for case in everything])
    assert plain["images"] == counted([len(case["frames"]) for case in cases])
    davis = [case for case in cases if case["provenance"]["source"] == "davis"]
    assert plain["sources"]["davis"] == {
        "cases": len(davis),
        "videos": len({case["provenance"]["video"] for case in davis}),
        "none": sum(case["answer"] is None for case in davis),
        "candidates": sum(len(case["candidates"]) for case in davis),
        "rejects": 3,
    }
    assert list(plain["sources"]) == ["davis", "mot17", "ytvos"]
    assert plain["rejects"] == 3
    assert plain["reasons"] == {"file '…' is cut": 1, "frame N has N objects, N are needed": 2}
    assert plain["build"]["counts"] == {"cases": 150}
    assert json.loads(json.dumps(plain)) == plain


def test_a_case_without_provenance_counts_as_unknown(tmp_path: Path) -> None:
    plain = stats.collect_stats(write_build(tmp_path, [make_case(1, provenance=None)])).to_json()
    assert plain["sources"]["(unknown)"]["cases"] == 1
    assert plain["videos"] == 0
    assert plain["gaps"] == plain["look_alikes"] == {}


def test_an_empty_build_has_no_counts(tmp_path: Path) -> None:
    found = stats.collect_stats(write_build(tmp_path, []))
    assert (found.cases, found.none_share, found.to_json()["candidates"]) == (0, 0.0, {})
    assert "no cases" in printed(found)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cases.jsonl", '{"version":1}\n', ("cases.jsonl: line 1", "id")),
        ("cases.jsonl", "\n{cut", ("cases.jsonl: line 2", "JSON")),
        ("cases.jsonl", b"\xff\xfe", ("cases.jsonl: line 1",)),
        ("rejects.jsonl", '{"source":1}\n', ("rejects.jsonl: line 1, source", "string")),
        ("rejects.jsonl", json.dumps(make_reject(0) | {"reason": 5}), ("rejects.jsonl: line 1, reason", "string")),
        ("rejects.jsonl", "[]\n", ("rejects.jsonl: line 1",)),
        ("build.json", "[1]", ("build.json", "object")),
        ("build.json", "{", ("build.json", "JSON")),
        ("build.json", '{"rate": NaN}', ("build.json", "NaN")),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, name: str, content: str | bytes, words: tuple) -> None:
    folder = write_build(tmp_path, [make_case(0)])
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        stats.collect_stats(folder)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def printed(found: stats.Stats) -> str:
    console = Console(file=io.StringIO(), width=120)
    stats.print_stats(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_folder_without_a_benchmark_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no benchmark.*expected the output of a build"):
        stats.collect_stats(tmp_path)
    (tmp_path / "match_bench").mkdir()
    with pytest.raises(InputError, match="--resume"):
        stats.collect_stats(tmp_path)


def test_tables_show_the_counts(build: Path) -> None:
    text = printed(stats.collect_stats(build))
    for words in ("davis", "mot17", "ytvos", "CL colour", "none given", "frame N has N objects, N are needed"):
        assert words in text
    assert "120" in text
    assert "30 cases were rejected by people, and left out of the figures" in text
    assert "accepted" in text


def test_names_are_not_taken_for_markup(tmp_path: Path) -> None:
    origin = make_case(0).provenance
    assert origin is not None
    named = make_case(0, provenance=origin.model_copy(update={"source": "[red]x[/red]"}))
    text = printed(stats.collect_stats(write_build(tmp_path, [named], [make_reject(0, "no [/bold] here")])))
    assert "[red]x[/red]" in text
    assert "no [/bold] here" in text

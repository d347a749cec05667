"""What build.json records, what an output folder may hold before, and the commonest reasons of the rejects."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.version import __version__
from mmvm_data.formats import bench, tsv
from mmvm_data.io.folder_lock import LOCK_FILE
from mmvm_data.pipeline.build import build
from mmvm_data.pipeline.journal import Totals
from mmvm_data.pipeline.options import BuildOptions, BuildResult
from mmvm_data.pipeline.output_folder import (
    create_folder,
    describe_request,
    finish_build,
    open_journal,
    read_finished,
    result_of,
)
from mmvm_data.pipeline.reject_summary import find_common_reasons, suggest_options
from tests.builds import make_case
from tests.worlds import davis, tree

REQUEST = {"source": "davis", "versions": {"mmvm_data": "1"}}
COUNTS = {"cases": 5, "none_cases": 1, "rejects": 4, "bad_inputs": 2, "videos_read": 3, "videos": 9}
RECORD = {"counts": COUNTS, "times": {"seconds": 7, "finished": "2026-01-01T00:00:00+00:00"}}


def test_options_added_later_are_recorded_where_they_differ() -> None:
    request = describe_request("davis", "s3://user:secret@host/davis", BuildOptions(max_cases=3, quality=70))
    assert request == {
        "source": "davis",
        "root": "s3://***@host/davis",
        "sampling": {
            "seed": 0,
            "cases_per_video": 4,
            "min_gap": 1,
            "max_gap": 100,
            "min_area": 400,
            "min_side": 12,
            "max_covered": 0.6,
            "min_sharpness": 20.0,
            "none_share": 0.1,
            "candidates": None,
            "min_candidates": 2,
            "look_alikes": "prefer",
            "attempts": 32,
        },
        "max_cases": 3,
        "quality": 70,
        "proposals": None,
        "versions": {"mmvm_data": __version__, "numpy": np.__version__, "opencv": cv2.__version__},
    }
    later = {"gone": "left", "variants": True, "embeddings": "e", "min_seconds": 0.5, "frame_rate": 25.0}
    options = BuildOptions(SamplingOptions(**later), proposals=Path("a/masks"))  # type: ignore[arg-type]
    changed = describe_request("davis", "x", options)
    assert changed["sampling"] == request["sampling"] | later
    assert changed["proposals"] == "a/masks"


def test_folders_that_cannot_be_created(tmp_path: Path) -> None:
    create_folder(tmp_path / "a/b")
    create_folder(tmp_path / "a/b")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as caught:
        create_folder(tmp_path / "file")
    assert str(caught.value) == f"{tmp_path}/file: is a file; `out` must be a folder"
    with pytest.raises(OutputError, match=f"^{tmp_path}/file/b: "):
        create_folder(tmp_path / "file/b")


@pytest.mark.parametrize(
    ("files", "existing", "message"),
    [
        (["notes"], "refuse", "is not empty and holds no build; choose another `out`"),
        (["notes"], "resume", "is not empty and holds no build; choose another `out`"),
        (["notes"], "overwrite", "is not empty and holds no build; choose another `out`"),
        (
            [".build/request.json"],
            "refuse",
            "holds an unfinished build; `existing='resume'` continues it, `existing='overwrite'` starts again",
        ),
        (
            ["build.json"],
            "refuse",
            "holds a finished build; `existing='overwrite'` replaces it, another `out` keeps both",
        ),
        (["build.json"], "resume", "was built with other options (source); `existing='overwrite'` replaces it"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, files: list[str], existing: Any, message: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"request": REQUEST | {"source": "mose", "later": 1}}))
    with pytest.raises(UsageError) as caught:
        open_journal(tmp_path, REQUEST, BuildOptions(existing=existing))
    assert str(caught.value) == f"{tmp_path}: {message}"
    assert [name for name in files if not (tmp_path / name).is_file()] == []


def test_a_request_that_is_no_object_is_named(tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text('{"request": [1]}')
    with pytest.raises(InputError) as caught:
        open_journal(tmp_path, REQUEST, BuildOptions(existing="resume"))
    assert str(caught.value) == f"{tmp_path}/build.json: request: expected an object, found list"


def test_a_finished_build_with_the_same_request_has_no_journal(tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text(json.dumps({"request": REQUEST | {"later": 1}}))
    (tmp_path / ".build").mkdir()  # left by a build that was killed at its end
    assert open_journal(tmp_path, REQUEST, BuildOptions(existing="resume")) is None
    assert not (tmp_path / ".build").exists()


def test_a_file_in_place_of_the_folder_of_cases(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()
    (tmp_path / ".build").mkdir()
    (tmp_path / "match_bench").touch()
    with pytest.raises(OutputError, match=f"^{tmp_path}/match_bench: "):
        open_journal(tmp_path, REQUEST, BuildOptions(existing="resume"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": None}, "counts: expected numbers: cases, none_cases, rejects, bad_inputs, videos_read"),
        ({"counts": COUNTS | {"rejects": True}}, "counts: expected numbers: cases, "),
        ({"counts": COUNTS | {"videos_read": "3"}}, "counts: expected numbers: cases, "),
        ({"times": [1]}, "times: expected a number of seconds"),
        ({"times": {"seconds": "7"}}, "times: expected a number of seconds"),
    ],
)
def test_records_without_counts_or_times_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        result_of("s3://b/out", RECORD | changes)
    assert str(caught.value).startswith(f"s3://b/out/build.json: {message}")


def test_the_result_of_a_record(tmp_path: Path) -> None:
    expected = BuildResult(Path("x"), 5, 1, 4, 2, 3, 7.0)
    assert result_of(Path("x"), RECORD) == expected
    (tmp_path / "build.json").write_text(json.dumps(RECORD))
    expected = replace(expected, out=tmp_path, already_done=True)
    assert read_finished(tmp_path) == expected
    (tmp_path / "rejects.jsonl").write_text('{"reason": "no frames"}\n')
    assert read_finished(tmp_path) == replace(expected, common_reasons=(("no frames", 1),))


def test_finishing_writes_all_files_and_deletes_the_journal(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, REQUEST, BuildOptions())
    assert journal is not None
    case = make_case(1, id="case_000000")
    with journal:
        journal.append(Totals(2, 1, 0, 3, 2), [case.model_dump_json().encode() + b"\n"], [])
        journal.earlier_seconds = 100.0
        result = finish_build(journal, tmp_path, REQUEST, 9, time.monotonic() - 20)
    assert 120 <= result.seconds < 140
    assert result == BuildResult(tmp_path, 1, 0, 3, 2, 2, result.seconds)
    record = json.loads((tmp_path / "build.json").read_text())
    assert record["request"] == REQUEST and record["versions"] == REQUEST["versions"]
    counts = {"videos": 9, "videos_read": 2, "cases": 1, "none_cases": 0, "rejects": 3, "bad_inputs": 2}
    assert record["counts"] == counts
    assert record["times"]["seconds"] == result.seconds == round(result.seconds, 3)
    assert record["times"]["finished"].endswith("+00:00") and len(record["times"]["finished"]) == 25
    names = {"build.json", "cases.jsonl", "rejects.jsonl", "mllm_match_eval_full.tsv", "match_bench"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert [case.id for case in bench.read(tmp_path)] == ["case_000000"]
    assert "case_000000" in (tmp_path / "mllm_match_eval_full.tsv").read_text()


def test_the_table_has_the_rows_that_are_known_and_those_of_the_records(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    journal = open_journal(tmp_path / "out", REQUEST, BuildOptions())
    assert journal is not None
    cases = [make_case(k, id=f"case_{k:06d}") for k in range(3)]
    with journal:
        for k, case in enumerate(cases):
            line = case.model_dump_json().encode() + b"\n"
            rows: list[str | None] = [tsv.format_row(case) if k == 1 else None]
            journal.append(Totals(k + 1, k + 1, 0, 0, 0), [line], [], rows=rows)
        finish_build(journal, tmp_path / "out", REQUEST, 3, time.monotonic())
    bench.write_tsv(cases, tmp_path / "expected.tsv")
    assert (tmp_path / "out" / bench.TSV).read_bytes() == (tmp_path / "expected.tsv").read_bytes()


def test_reasons_that_differ_in_numbers_count_together(tmp_path: Path) -> None:
    reasons = ["b", "frame 3 of 7.5 s", "object #00ff00 is small", "frame 12 of 9 s", "object #a0b0c0 is small", "c"]
    reasons += ["object #123456 is small", "c", "abc1"]
    lines = "".join(json.dumps({"reason": reason}) + "\n" for reason in reasons)
    (tmp_path / "rejects.jsonl").write_text(lines)
    common = (("object #00ff00 is small", 3), ("frame 3 of 7.5 s", 2), ("c", 2))
    assert find_common_reasons(tmp_path / "rejects.jsonl") == common
    assert find_common_reasons(tmp_path / "rejects.jsonl", 5) == (*common, ("b", 1), ("abc1", 1))
    (tmp_path / "rejects.jsonl").write_text(lines + '{"reason": 3}\n')
    with pytest.raises(InputError, match=r"rejects\.jsonl: line 10, reason: expected text$"):
        find_common_reasons(tmp_path / "rejects.jsonl")
    (tmp_path / "rejects.jsonl").write_text(lines + "{\n")
    with pytest.raises(InputError, match=r"rejects\.jsonl: line 10: "):
        find_common_reasons(tmp_path / "rejects.jsonl")


def test_options_are_suggested_for_the_commonest_reason_that_has_some() -> None:
    reasons = [("is cut short", 9), ("the query is blurred (3 tries)", 4), ("no query has a look-alike", 2)]
    assert suggest_options(reasons) == ("--min-sharpness",)
    assert suggest_options(reasons[:1]) == ()


@pytest.mark.parametrize("name", ["annotation", "revisions"])
def test_a_benchmark_that_people_have_reviewed_is_not_overwritten(name: str, tmp_path: Path) -> None:
    davis(tmp_path / "DAVIS", videos=1)
    options = BuildOptions(sampling=SamplingOptions(min_area=50, min_side=5))
    build("davis", tmp_path / "DAVIS", tmp_path / "out", options)
    (tmp_path / "out" / name).mkdir()
    before = tree(tmp_path / "out", ())
    with pytest.raises(
        UsageError, match=rf"out: was reviewed or changed since it was built \({name}\); choose another"
    ):
        build("davis", tmp_path / "DAVIS", tmp_path / "out", replace(options, existing="overwrite"))
    assert tree(tmp_path / "out", ()) == before

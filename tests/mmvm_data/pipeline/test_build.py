"""What a build refuses, counts and writes beside the cases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError
from mmvm_data.core.options import OptionError
from mmvm_data.formats.open_benchmark import open_benchmark
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.pipeline.source_state import SourceState, find_change
from tests.worlds import davis

SAMPLING = SamplingOptions(seed=5, min_area=100)


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("accept_changes", BuildOptions(existing="resume", accept_changes=True)),
        ("keep_journal", BuildOptions(keep_journal=True)),
    ],
)
def test_journals_are_kept_on_this_machine_alone(tmp_path: Path, argument: str, options: BuildOptions) -> None:
    with pytest.raises(OptionError) as caught:
        build("davis", tmp_path, "memory://out", options)
    assert (caught.value.argument, caught.value.reason) == (argument, "needs an `out` folder on this machine")


def test_videos_that_the_index_leaves_out_are_counted(tmp_path: Path) -> None:
    root = davis(tmp_path / "root", videos=3)
    shutil.rmtree(root / "Annotations" / "480p" / "clip001")
    result = build("davis", root, tmp_path / "out", BuildOptions(sampling=SAMPLING))
    lines = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["video"] for line in lines] == ["clip001"]
    assert (result.rejects, result.bad_inputs) == (1, 1)
    assert len(result.common_reasons) == 1
    text = (tmp_path / "out" / "build.json").read_text()
    assert text == json.dumps(json.loads(text), indent=1) + "\n"


def test_drawn_images_have_the_quality_that_was_asked_for(tmp_path: Path) -> None:
    root = davis(tmp_path / "root", videos=1)
    sizes = []
    for quality in (40, 95):
        out = tmp_path / str(quality)
        build("davis", root, out, BuildOptions(sampling=SAMPLING, quality=quality))
        ids = [case.id for case in open_benchmark(out).cases()]
        sizes.append(sum((out / "match_bench" / name / "FRAME00.jpg").stat().st_size for name in ids))
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.parametrize("record", [{}, {"videos": [], "rejects": [], "reads": []}, {"videos": {}, "rejects": []}])
def test_a_state_without_its_fields_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        SourceState.from_json(record, "journal")
    assert str(caught.value) == "journal: expected `videos`, `rejects` and `reads` of a build's source"


def test_changes_are_named_in_words(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "x"
    reads: dict[str, dict[str, object]] = {"files": {"a": {"x": None}}}
    assert find_change(reads, tmp_path) is None
    file.write_text("text")
    assert find_change(reads, tmp_path) == "a/x is new"
    status = file.stat()
    assert find_change({"files": {"a": {"x": [4, status.st_mtime_ns]}}}, tmp_path) is None
    assert find_change({"files": {"a": {"x": [5, status.st_mtime_ns]}}}, tmp_path) == "a/x has changed"
    file.unlink()
    assert find_change({"files": {"a": {"x": [4, status.st_mtime_ns]}}}, tmp_path) == "a/x is no longer there"

"""What a build refuses, counts and writes beside the cases."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.options import OptionError
from mmvm_data.formats.open_benchmark import open_benchmark
from mmvm_data.io import files
from mmvm_data.pipeline import worker
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.pipeline.case_writer import CaseWriter
from mmvm_data.pipeline.source_state import SourceState, find_change
from mmvm_data.pipeline.worker import VideoResult, WorkerContext
from tests.worlds import davis, tree

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


@pytest.mark.parametrize("max_cases", [None, 5])
def test_a_video_begins_while_threads_write_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_cases: int | None
) -> None:
    root = davis(tmp_path / "root", videos=3)
    options = BuildOptions(sampling=SAMPLING, max_cases=max_cases, writer_threads=0)
    build("davis", root, tmp_path / "alone", options)
    build_cases, write_file = worker._build_cases, files.write_file
    has_begun = threading.Event()

    def begin(context: WorkerContext, job: tuple[int, str], writer: CaseWriter) -> VideoResult:
        if job[0] == 1:
            has_begun.set()
        return build_cases(context, job, writer)

    def write(path: str, data: bytes) -> None:
        if "/0-3/" in path:  # the last case of the first video
            assert has_begun.wait(60)
        write_file(path, data)

    monkeypatch.setattr(worker, "_build_cases", begin)
    monkeypatch.setattr(files, "write_file", write)
    build("davis", root, tmp_path / "out", replace(options, writer_threads=2))
    assert has_begun.is_set()
    assert tree(tmp_path / "out") == tree(tmp_path / "alone")
    assert not list((tmp_path / "out").glob(".*"))


def test_a_disk_that_is_full_at_the_last_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = davis(tmp_path / "root", videos=2)
    write_file = files.write_file

    def write(path: str, data: bytes) -> None:
        if path.endswith("/1-3/FRAME01_CAND.json"):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        write_file(path, data)

    monkeypatch.setattr(files, "write_file", write)
    options = BuildOptions(sampling=SAMPLING, writer_threads=2)
    with pytest.raises(OutputError, match=r"1-3/FRAME01_CAND\.json: cannot write: No space left"):
        build("davis", root, tmp_path / "out", options)
    monkeypatch.undo()
    build("davis", root, tmp_path / "out", replace(options, existing="resume"))
    build("davis", root, tmp_path / "fresh", options)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


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

"""The cases of one video: rejects, frames that are read once, ids."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import rle
from mmvm_data.core.errors import InputError, OutputError, Reject
from mmvm_data.core.types import Case, Video
from mmvm_data.formats import tsv
from mmvm_data.pipeline import source_defaults, worker
from mmvm_data.pipeline.worker import WorkerContext
from tests.sets.every import write_set
from tests.worlds import davis

SAMPLING = SamplingOptions(seed=5, min_area=100)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return davis(tmp_path_factory.mktemp("world"), videos=2)


def init(root: Path, tmp_path: Path, sampling: SamplingOptions = SAMPLING, quality: int = 95) -> WorkerContext:
    (tmp_path / "stage").mkdir(exist_ok=True)
    return worker.init_worker("davis", root, tmp_path / "index", tmp_path / "stage", sampling, quality)


def test_a_context_has_what_it_was_opened_with(world: Path, tmp_path: Path) -> None:
    cv2.setNumThreads(2)
    context = init(world, tmp_path, quality=40)
    assert cv2.getNumThreads() == 1
    assert (context.staging_dir, context.sampling, context.quality) == (tmp_path / "stage", SAMPLING, 40)
    assert (context.cache, context.embedding_ranker) == (tmp_path / "index", None)
    assert sorted(context.source.videos) == ["clip000", "clip001"]
    assert context.source.root == world


def test_a_worker_imports_what_its_source_needs(tmp_path: Path) -> None:
    """Each worker of a build imports it again, so no other reader, no video decoder and nothing that prints."""
    write_set("ytvis", "", tmp_path / "set")
    (tmp_path / "stage").mkdir()
    code = f"""if True:
    import sys
    from pathlib import Path
    from mmvm_data.cases.sampling_options import SamplingOptions
    from mmvm_data.pipeline import worker
    root, stage = Path({str(tmp_path / "set")!r}), Path({str(tmp_path / "stage")!r})
    context = worker.init_worker("ytvis", root, None, stage, SamplingOptions(min_area=60, min_side=4), 90)
    print(len(worker.build_video_cases(context, (0, context.source.videos[0])).cases))
    print(*sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    cases, names = done.stdout.splitlines()
    assert int(cases) > 0
    loaded = set(names.split())
    assert not loaded & {"rich", "click", "PIL", "av", "decord", "fsspec", "subprocess", "mmvm_data.io.video_index"}
    readers = {name for name in loaded if name.startswith("mmvm_data.builders.") and name.count(".") == 2}
    assert readers == {f"mmvm_data.builders.{name}" for name in ("catalogue", "common", "own_data", "source", "ytvis")}


def test_spans_of_masks_do_not_add_up_over_videos(world: Path, tmp_path: Path) -> None:
    """They are cached up to 16 MB, of use within a video only; a worker would grow by that much."""
    context = init(world, tmp_path)
    for unit, video in enumerate(context.source.videos):
        assert worker.build_video_cases(context, (unit, video)).cases
        assert not rle._cache


@pytest.mark.parametrize(
    ("sampling", "rate"),
    [
        (SAMPLING, None),
        (replace(SAMPLING, min_seconds=0.1), 24.0),
        (replace(SAMPLING, min_seconds=0.1, frame_rate=10.0), 10.0),
        (replace(SAMPLING, frame_rate=10.0), 10.0),
    ],
)
def test_the_frame_rate_of_a_source(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampling: SamplingOptions, rate: float | None
) -> None:
    monkeypatch.setitem(source_defaults.FRAME_RATES, "davis", 24.0)
    assert init(world, tmp_path, sampling).sampling.frame_rate == rate


def test_records_and_folders_of_a_video(world: Path, tmp_path: Path) -> None:
    result = worker.build_video_cases(init(world, tmp_path), (12, "clip001"))
    assert result.rejects == []
    assert len(result.cases) == SAMPLING.max_cases_per_video == 4
    assert sorted(path.name for path in (tmp_path / "stage").iterdir()) == [f"12-{k}" for k in range(4)]
    for ordinal, built in enumerate(result.cases):
        assert built.line.endswith(b"}\n")
        line, row = worker.assign_case_id(built, "case_000042")
        case = Case.model_validate_json(line)
        assert row == tsv.format_row(case)
        assert built.is_none == (case.answer is None)
        assert case.id == "case_000042"
        assert [f.path for f in case.frames] == [f"match_bench/case_000042/FRAME0{k}_ORI.jpg" for k in range(2)]
        origin = case.provenance
        assert origin is not None
        assert (origin.source, origin.video, origin.ordinal, origin.seed) == ("davis", "clip001", ordinal, 5)
        assert origin.gap == origin.frames[1].index - origin.frames[0].index != 0
        assert origin.tracks[1:] == tuple(candidate.region.id for candidate in case.candidates)
        assert origin.tracks[0] == case.query[0].id
        assert origin.versions == worker.library_versions()
        folder = tmp_path / f"stage/12-{ordinal}"
        for k, frame in enumerate(origin.frames):
            assert (folder / f"FRAME0{k}_ORI.jpg").read_bytes() == (world / frame.path).read_bytes()
    folders = {folder.rpartition("/")[2] for folder in result.reads["files"]}
    assert "clip001" in folders and "clip000" not in folders
    assert not any("index" in folder for folder in result.reads["files"])


def test_variants_share_an_id(tmp_path: Path) -> None:
    root = davis(tmp_path / "world", videos=1, objects=8)
    result = worker.build_video_cases(init(root, tmp_path, replace(SAMPLING, variants=True)), (0, "clip000"))
    origins = [json.loads(built.line)["provenance"] for built in result.cases]
    assert len(origins) > 4
    for origin in origins:
        assert origin["extra"]["shared_id"] == f"davis/clip000/{origin['ordinal']}"
    assert len({(origin["ordinal"], origin["extra"]["variant"]) for origin in origins}) == len(origins)
    assert sorted(path.name for path in (tmp_path / "stage").iterdir()) == sorted(f"0-{k}" for k in range(len(origins)))


def test_a_broken_video_is_one_reject(world: Path, tmp_path: Path) -> None:
    def fail(video: str) -> Video:
        raise InputError(world / "Annotations/x.png", "is cut short", "palette")

    context = init(world, tmp_path)
    context = replace(context, source=replace(context.source, load=fail))
    result = worker.build_video_cases(context, (0, "clip000"))
    expected = Reject("davis", "clip000", -1, "is cut short", "Annotations/x.png", "palette")
    assert (result.cases, result.rejects) == ([], [expected])


def test_files_of_rejects_are_relative_to_the_root() -> None:
    for file, shown in (("/data/a/b.png", "a/b.png"), ("a/b.png", "a/b.png"), ("/other/b.png", "/other/b.png")):
        reject = worker._make_reject("davis", "v", InputError(file, "is broken"), Path("/data"))
        assert reject == Reject("davis", "v", -1, "is broken", shown, "")


def test_a_video_that_gives_fewer_cases_says_so(world: Path, tmp_path: Path) -> None:
    """Also where it gives none."""
    root = davis(tmp_path / "still", videos=1)
    for name in ("00001", "00002"):
        (root / f"JPEGImages/480p/clip000/{name}.jpg").write_bytes(b"")
    few = worker.build_video_cases(init(root, tmp_path), (0, "clip000"))
    assert len(few.cases) == 4
    assert {reject.file for reject in few.rejects} <= {
        f"JPEGImages/480p/clip000/{name}.jpg" for name in ("00001", "00002")
    }
    (shortage,) = worker.build_video_cases(init(root, tmp_path, replace(SAMPLING, min_gap=90)), (0, "clip000")).rejects
    assert (shortage.ordinal, shortage.file) == (-1, "")
    assert "frames apart" in shortage.reason and " of 4 cases" not in shortage.reason


def test_a_later_case_that_is_missing_is_counted(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = worker.VideoSampler.draw_steps
    monkeypatch.setattr(
        worker.VideoSampler,
        "draw_steps",
        lambda self, ordinal: draw(self, ordinal) if ordinal < 2 else iter(["too dark"]),
    )
    result = worker.build_video_cases(init(world, tmp_path), (0, "clip000"))
    assert len(result.cases) == 2
    assert result.rejects == [Reject("davis", "clip000", 2, "2 of 4 cases: too dark")]


def test_a_staging_folder_that_is_gone(world: Path, tmp_path: Path) -> None:
    context = init(world, tmp_path)
    (tmp_path / "stage").rmdir()
    with pytest.raises(OutputError, match="stage/3-0"):
        worker.build_video_cases(context, (3, "clip000"))


def test_a_placeholder_elsewhere_in_a_record_stays(world: Path, tmp_path: Path) -> None:
    built = worker.build_video_cases(init(world, tmp_path), (0, "clip000")).cases[0]
    record = json.loads(built.line)
    record["candidates"][0]["region"]["category"] = worker._ID_PLACEHOLDER
    unusual = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    expected = json.loads(worker.assign_case_id(built, "case_000007")[0])
    expected["candidates"][0]["region"]["category"] = worker._ID_PLACEHOLDER
    assigned, row = worker.assign_case_id(replace(built, line=unusual), "case_000007")
    assert row is None
    assert json.loads(assigned) == expected
    assert assigned.endswith(b"}\n")

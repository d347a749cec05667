"""Workers with a shared disk and without one give the cases of a local worker."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import OutputError
from mmvm_data.pipeline import remote_worker, worker
from mmvm_data.pipeline.worker import VideoResult
from tests.worlds import davis, tree

SAMPLING = SamplingOptions(seed=5, min_area=100)
JOB = (7, "clip000")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return davis(tmp_path_factory.mktemp("world"), videos=1)


@pytest.fixture()
def local(world: Path, tmp_path: Path) -> tuple[VideoResult, dict[str, bytes]]:
    """The result of a local worker, and its files."""
    (tmp_path / "local").mkdir()
    context = worker.init_worker("davis", world, tmp_path / "index", tmp_path / "local", SAMPLING, 60)
    return worker.build_video_cases(context, JOB), tree(tmp_path / "local")


@pytest.fixture()
def staging_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The staging folder of a build; temporary folders are made beside it."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "stage").mkdir()
    return tmp_path / "stage"


def test_with_a_shared_disk(
    world: Path, local: tuple[VideoResult, dict[str, bytes]], staging_dir: Path, tmp_path: Path
) -> None:
    marker = remote_worker.write_shared_marker(staging_dir)
    assert marker != remote_worker.write_shared_marker(tmp_path / "temporary")
    contexts = [
        remote_worker.init_worker("davis", world, tmp_path / "index", staging_dir, marker, SAMPLING, 60)
        for _ in range(2)
    ]
    assert [context.is_shared for context in contexts] == [True, True]
    own = [context.local.staging_dir for context in contexts]
    assert len(set(own)) == 2  # so that one that was given up does no harm
    assert {folder.parent for folder in own} == {staging_dir}
    assert {context.local.cache for context in contexts} == {tmp_path / "index"}
    result = remote_worker.build_video_cases(contexts[0], JOB)
    assert (result.video.folder, result.files) == (own[0], {})
    assert remote_worker.collect_result(result, JOB, staging_dir) == replace(local[0], folder=own[0])
    assert tree(own[0]) == local[1]  # they are moved once, when they get their numbers
    own[1].rmdir()
    assert {path.name for path in staging_dir.iterdir()} == {own[0].name, remote_worker._MARKER}


@pytest.mark.parametrize("marker", ["of another disk", None])
def test_without_a_shared_disk(
    world: Path, local: tuple[VideoResult, dict[str, bytes]], staging_dir: Path, tmp_path: Path, marker: str | None
) -> None:
    if marker is not None:
        (staging_dir / remote_worker._MARKER).write_text(marker)
    context = remote_worker.init_worker("davis", world, tmp_path / "index", staging_dir, "a", SAMPLING, 60)
    assert not context.is_shared
    assert context.local.cache is None
    own = context.local.staging_dir
    assert own.parent == tmp_path / "temporary" and own.name.startswith("mmvm-data-")
    result = remote_worker.build_video_cases(context, JOB)
    assert result.video.folder is None
    assert {
        f"{folder}/{name}": data for folder, files in result.files.items() for name, data in files.items()
    } == local[1]
    assert list(own.iterdir()) == []
    assert remote_worker.collect_result(result, JOB, staging_dir) == local[0]
    assert tree(staging_dir, leave_out=(remote_worker._MARKER,)) == local[1]


def test_a_staging_folder_that_cannot_be_written(world: Path, staging_dir: Path, tmp_path: Path) -> None:
    context = remote_worker.init_worker("davis", world, None, staging_dir, "a", SAMPLING, 60)
    result = remote_worker.build_video_cases(context, JOB)
    with pytest.raises(OutputError, match="missing"):
        remote_worker.collect_result(result, JOB, tmp_path / "missing")

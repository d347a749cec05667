"""The files of a case: frames that are kept, and what threads write."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path

import pytest

from mmvm_data import open_source
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import OutputError
from mmvm_data.io import files as file_io
from mmvm_data.io import media
from mmvm_data.pipeline import case_writer, worker
from tests.worlds import davis


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return davis(tmp_path_factory.mktemp("world"), videos=1)


def build_files(world: Path, folder: Path, threads: int) -> dict[str, bytes]:
    """The files of the cases of one video by their path."""
    folder.mkdir()
    sampling = SamplingOptions(seed=5, min_area=100)
    context = worker.init_worker("davis", world, None, folder, sampling, 90, writer_threads=threads)
    result = worker.build_video_cases(context, (0, "clip000"))
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(files) == 6 * len(result.cases) > 0
    return files


@pytest.mark.parametrize("is_jpeg", [True, False])
def test_threads_write_the_same_files(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_jpeg: bool
) -> None:
    if not is_jpeg:
        load_frame = media.load_frame
        monkeypatch.setattr(media, "load_frame", lambda *given: load_frame(*given)._replace(jpeg=None))
    alone = build_files(world, tmp_path / "alone", 0)
    originals = [data for name, data in alone.items() if name.endswith("_ORI.jpg")]
    sources = [path.read_bytes() for path in (world / "JPEGImages").rglob("*.jpg")]
    assert all((data in sources) == is_jpeg for data in originals)
    for threads in (1, 3):
        assert build_files(world, tmp_path / f"threads{threads}", threads) == alone


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("ending", ["FRAME00.jpg", "FRAME01_CAND.json"])
def test_a_full_disk(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, ending: str) -> None:
    write_file = file_io.write_file

    def fail(path: str, data: bytes) -> None:
        if path.endswith(f"0-1/{ending}"):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        write_file(path, data)

    monkeypatch.setattr(file_io, "write_file", fail)
    with pytest.raises(OutputError, match=f"0-1/{ending}: cannot write: No space left"):
        build_files(world, tmp_path / "out", threads)


def test_a_partial_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is almost full, or where a signal arrives."""

    class ShortFile:
        def __init__(self) -> None:
            self.content = b""

        def write(self, data: bytes) -> int:
            self.content += bytes(data[:3])
            return min(3, len(data))

        def __enter__(self) -> ShortFile:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    file = ShortFile()
    monkeypatch.setattr("builtins.open", lambda *arguments, **options: file)
    file_io.write_file(str(tmp_path / "a"), b"12345678")
    monkeypatch.undo()
    assert file.content == b"12345678"


def test_frames_used_last_are_kept(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = open_source("davis", world).load("clip000")
    loads: Counter[str] = Counter()
    load_frame = media.load_frame

    def note(root, frame, *rest):  # type: ignore[no-untyped-def]
        loads[Path(frame.path).stem] += 1
        return load_frame(root, frame, *rest)

    monkeypatch.setattr(media, "load_frame", note)
    size = load_frame(video.root, video.frames[0]).bgr.nbytes
    monkeypatch.setattr(case_writer, "_CACHED_FRAME_BYTES", 3 * size)
    frames = case_writer.FrameCache(video)
    for position in (0, 1, 2, 0, 3):  # 1 is the one that was used longest ago
        frames.bgr(position)
    assert loads == {"00000": 1, "00001": 1, "00002": 1, "00003": 1}
    for position in (0, 2, 3):
        frames.bgr(position)
    assert sum(loads.values()) == 4
    frames.bgr(1)
    assert loads["00001"] == 2
    monkeypatch.setattr(case_writer, "_CACHED_FRAME_BYTES", 1)
    frames = case_writer.FrameCache(video)
    for position in (0, 1, 0, 1):  # those of one case
        frames.bgr(position)
    assert sum(loads.values()) == 7

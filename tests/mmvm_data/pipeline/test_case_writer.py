"""The files of a case: frames that are kept, and what threads write."""

from __future__ import annotations

import errno
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmvm_data import open_source
from mmvm_data.cases import render
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Video
from mmvm_data.io import files as file_io
from mmvm_data.io import media
from mmvm_data.pipeline import case_writer, worker
from tests.worlds import davis, tree


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return davis(tmp_path_factory.mktemp("world"), videos=1)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def open_worker(world: Path, folder: Path, threads: int = 0) -> worker.WorkerContext:
    folder.mkdir()
    sampling = SamplingOptions(seed=5, min_area=100)
    return worker.init_worker("davis", world, None, folder, sampling, 90, writer_threads=threads)


def build_files(world: Path, folder: Path, threads: int) -> dict[str, bytes]:
    """The files of the cases of one video by their path."""
    result = worker.build_video_cases(open_worker(world, folder, threads), (0, "clip000"))
    files = tree(folder)
    assert len(files) == 6 * len(result.cases) > 0
    return files


@pytest.mark.parametrize("is_jpeg", [True, False])
def test_threads_write_the_same_files(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_jpeg: bool
) -> None:
    if not is_jpeg:
        decode_frame = media.decode_frame
        monkeypatch.setattr(media, "decode_frame", lambda *given: decode_frame(*given)._replace(jpeg=None))
    alone = build_files(world, tmp_path / "alone", 0)
    originals = [data for name, data in alone.items() if name.endswith("_ORI.jpg")]
    sources = [path.read_bytes() for path in (world / "JPEGImages").rglob("*.jpg")]
    assert all((data in sources) == is_jpeg for data in originals)
    for threads in (1, 3):
        assert build_files(world, tmp_path / f"threads{threads}", threads) == alone


def test_images_are_drawn_by_whoever_is_free(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor
) -> None:
    """Where a thread is busy the caller draws, and where too many images wait it writes them too."""
    drawn_by: Counter[bool] = Counter()

    def note(mark: Callable[..., None], *given: Any, **options: Any) -> None:
        drawn_by[threading.current_thread() is threading.main_thread()] += 1
        mark(*given, **options)

    monkeypatch.setattr(render, "mark_query", partial(note, render.mark_query))
    monkeypatch.setattr(render, "mark_candidates", partial(note, render.mark_candidates))
    monkeypatch.setattr(case_writer, "_WAITING_IMAGES", 5)
    alone = build_files(world, tmp_path / "alone", 0)
    images = len(alone) // 3
    drawn_by.clear()
    is_free = threading.Event()
    pool.submit(is_free.wait)
    _, writer = worker.start_video_cases(replace(open_worker(world, tmp_path / "threads"), pool=pool), (0, "clip000"))
    written = tree(tmp_path / "threads")
    assert images > 5 and len(written) == 3 * (images - 5) and drawn_by == {True: images - 1}
    is_free.set()
    writer.finish()
    assert tree(tmp_path / "threads") == alone and drawn_by == {True: images - 1, False: 1}


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


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Name of each file that is decoded, and whether this thread does it; they are added while a test runs."""
    decoded: list[tuple[str, bool]] = []
    decode_frame = media.decode_frame

    def note(path, *rest):  # type: ignore[no-untyped-def]
        decoded.append((path.name, threading.current_thread() is threading.main_thread()))
        return decode_frame(path, *rest)

    monkeypatch.setattr(media, "decode_frame", note)
    return decoded


def test_frames_are_decoded_ahead_by_threads(
    world: Path, pool: ThreadPoolExecutor, decoders: list[tuple[str, bool]]
) -> None:
    video = open_source("davis", world).load("clip000")
    expected = [media.load_frame(video.root, frame).bgr for frame in video.frames[:3]]
    decoders.clear()
    frames = case_writer.FrameCache(video, pool)
    frames.bgr(0)
    frames.prefetch((0, 1))
    frames.prefetch((1, 2))
    pool.submit(int).result()
    assert decoders == [("00000.jpg", True), ("00001.jpg", False), ("00002.jpg", False)]
    for position in (2, 0, 1, 1):
        assert (frames.bgr(position) == expected[position]).all()
    assert len(decoders) == 3


def test_a_frame_that_no_thread_has_begun_is_decoded_by_the_caller(
    world: Path, pool: ThreadPoolExecutor, decoders: list[tuple[str, bool]]
) -> None:
    frames = case_writer.FrameCache(open_source("davis", world).load("clip000"), pool)
    is_free = threading.Event()
    pool.submit(is_free.wait)
    frames.prefetch((0, 1))
    frames.bgr(1)
    assert decoders == [("00001.jpg", True)]
    is_free.set()
    frames.bgr(0)
    assert [name for name, _ in decoders] == ["00001.jpg", "00000.jpg"]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xd8\xff cut off"])
def test_an_error_of_a_frame_ahead_is_raised_where_it_is_used(
    tmp_path: Path, pool: ThreadPoolExecutor, content: bytes | None
) -> None:
    root = davis(tmp_path / "broken", videos=1)
    video = open_source("davis", root).load("clip000")
    path = root / video.frames[1].path
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError) as direct:
        case_writer.FrameCache(video).bgr(1)
    frames = case_writer.FrameCache(video, pool)
    frames.prefetch((0, 1))
    assert frames.bgr(0).size
    for _ in range(2):
        with pytest.raises(InputError) as ahead:
            frames.bgr(1)
        assert str(ahead.value) == str(direct.value)


def test_computed_frames_are_not_read_ahead(
    world: Path, pool: ThreadPoolExecutor, decoders: list[tuple[str, bool]]
) -> None:
    frame = open_source("davis", world).load("clip000").frames[0]
    rendered = np.full((frame.height, frame.width, 3), 7, np.uint8)
    video = Video.lazy(
        lambda position: (), lambda position: rendered, id="v", source="s", root=world, frames=(frame,), annotated=(0,)
    )
    frames = case_writer.FrameCache(video, pool)
    frames.prefetch((0,))
    assert frames.bgr(0) is rendered
    assert not decoders

"""Readers at a URL give the same videos, under the same ids, as at a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mmvm_data.builders import open_source
from mmvm_data.builders.detect import choose_source
from tests.sets.every import write_set
from tests.sets.video_sets import mot_columns

fsspec = pytest.importorskip("fsspec")

Upload = Callable[[Path], str]
"""Copies a folder to a URL and returns it."""


@pytest.fixture
def upload(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MMVM_DATA_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")

    def put(folder: Path) -> str:
        for file in folder.rglob("*"):
            if file.is_file():
                memory.pipe_file(f"/{tmp_path.name}/{folder.name}/{file.relative_to(folder)}", file.read_bytes())
        return f"memory://{tmp_path.name}/{folder.name}"

    yield put
    memory.store.clear()


def compare(source: str, folder: Path, url: str) -> None:
    here, there = open_source(source, folder), open_source(source, url)
    assert list(here.videos) == list(there.videos)
    for name in here.videos:
        video, other = here.load(name), there.load(name)
        assert video.annotated == other.annotated
        assert [video.regions(p) for p in video.annotated] == [other.regions(p) for p in other.annotated]
        assert [frame.path for frame in video.frames] == [frame.path for frame in other.frames]


@pytest.mark.parametrize(
    ("source", "layout"),
    [
        *(("cvat", layout) for layout in ("", "masks", "project")),
        *(("datumaro", ""), ("coco_panoptic", ""), ("saco", ""), ("mot", ""), ("frames", "")),
    ],
)
def test_the_same_videos(source: str, layout: str, tmp_path: Path, upload) -> None:
    write_set(source, layout, tmp_path / "set")
    url = upload(tmp_path / "set")
    compare(source, tmp_path / "set", url)
    assert choose_source("auto", url) == source


def test_single_videos_are_named_after_the_folder_at_the_url(tmp_path: Path, upload) -> None:
    write_set("frames", "", tmp_path / "pairs", 1)
    for kind in ("images", "masks"):
        (tmp_path / "pairs" / kind / "clip0").rename(tmp_path / "alone")
        (tmp_path / "pairs" / kind).rmdir()
        (tmp_path / "alone").rename(tmp_path / "pairs" / kind)
    mot_columns(9)(tmp_path / "sequences", 1)
    (tmp_path / "sequences/clip0").rename(tmp_path / "MOT20-01")
    for source, folder in (("frames", "pairs"), ("mot", "MOT20-01")):
        url = upload(tmp_path / folder)
        assert list(open_source(source, url).videos) == [folder]
        compare(source, tmp_path / folder, url)
    assert choose_source("auto", f"memory://{tmp_path.name}/MOT20-01") == "mot20"

"""Every reader on a tiny data set written to its specification: its regions are as written, and cases are built."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import numpy as np
import pytest

from mmvm_data.builders import SOURCES, open_source
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Region
from mmvm_data.formats import bench
from mmvm_data.pipeline.build import BuildOptions, build
from tests.sets.every import IDS, LAYOUTS, ONE_OBJECT, VIEWS, write_set
from tests.worlds import tree

SMALL = SamplingOptions(min_area=60, min_side=4, cases_per_video=3)


def test_every_source_has_a_tiny_set() -> None:
    assert {source for source, _ in LAYOUTS} | {"davis2017"} == set(SOURCES)


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_catalogue_entry_is_complete(source: str) -> None:
    spec = SOURCES[source]
    assert all((spec.title, spec.layout, spec.license, spec.tested_on))
    assert spec.page.startswith(("https://", "http://")) or source in ("frames", "video")
    assert ("proposals" in spec.layout or "min-candidates" in spec.layout) == (source in ONE_OBJECT)


def _agree(region: Region, shape: object) -> bool:
    if isinstance(shape, np.ndarray):
        return region.mask is not None and bool((masks.decode(region.mask) == shape).all())
    return region.box is not None and np.allclose(region.box, shape, atol=1e-9)


@pytest.mark.parametrize(("source", "layout"), [p for p in LAYOUTS if p[0] not in VIEWS],
                         ids=[i for i, p in zip(IDS, LAYOUTS, strict=True) if p[0] not in VIEWS])  # fmt: skip
def test_reader_returns_the_written_regions(source: str, layout: str, tmp_path: Path) -> None:
    written = write_set(source, layout, tmp_path)
    opened = open_source(source, tmp_path)
    assert opened.rejects == ()
    assert sorted(opened.videos) == sorted(written.expected)
    for name in opened.videos:
        video = opened.load(name)
        assert (video.id, video.source) == (name, source)
        assert sorted(video.frames[p].index for p in video.annotated) == sorted(written.expected[name])
        for position in video.annotated:
            frame = video.frames[position]
            expected = written.expected[name][frame.index]
            found = {region.id: region for region in video.regions(position)}
            assert set(found) == set(expected)
            assert (video.root / frame.path).is_file()
            for track, (shape, category) in expected.items():
                assert _agree(found[track], shape), (name, frame.index, track)
                assert found[track].category == category
                assert (found[track].box is not None) == (video.prompt == "box")


@pytest.mark.parametrize(("source", "layout"), LAYOUTS, ids=IDS)
def test_cases_are_built_and_complete(source: str, layout: str, tmp_path: Path) -> None:
    write_set(source, layout, tmp_path / "set")
    alone = {"min_candidates": 1} if source in ONE_OBJECT else {}
    sampling = SamplingOptions(**{**vars(SMALL), **alone})
    result = build(source, tmp_path / "set", tmp_path / "bench", BuildOptions(sampling=sampling))
    assert result.cases > 0
    rejects = [json.loads(line) for line in (tmp_path / "bench/rejects.jsonl").read_text().splitlines()]
    assert not any(reject["file"] for reject in rejects), rejects
    assert not bench.validate(tmp_path / "bench", deep=True).problems


@pytest.mark.parametrize(("source", "layout"), LAYOUTS, ids=IDS)
def test_nothing_of_a_video_waits_for_the_garbage_collector(source: str, layout: str, tmp_path: Path) -> None:
    """It rarely looks at old objects, so that masks in cycles of references add up over the videos of a build."""
    write_set(source, layout, tmp_path)
    opened = open_source(source, tmp_path)

    def read_all() -> None:
        for name in opened.videos:
            video = opened.load(name)
            video.render_frame(0)
            for position in video.annotated:
                video.regions(position)

    read_all()  # what is kept for all videos
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        read_all()
        gc.collect()
        unreachable = {type(value) for value in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.enable()
        gc.garbage.clear()
    assert not {kind for kind in unreachable if kind.__module__.startswith(("mmvm_data", "numpy"))}


@pytest.mark.parametrize(("source", "layout"), LAYOUTS, ids=IDS)
def test_circular_links_are_not_videos(source: str, layout: str, tmp_path: Path) -> None:
    write_set(source, layout, tmp_path / "set")
    before = list(open_source(source, tmp_path / "set").videos)
    folders = [p for p in (tmp_path / "set").rglob("*") if p.is_dir()]
    for folder in (tmp_path / "set", *folders):
        (folder / "loop").symlink_to("loop")
        (folder / "up").symlink_to("..")
        (folder / "nowhere.json").symlink_to(tmp_path / "nowhere.json")
        (folder / "nowhere.txt").symlink_to(tmp_path / "nowhere.txt")
    opened = open_source(source, tmp_path / "set")
    assert set(before) <= set(opened.videos)
    for video in opened.videos:
        try:
            loaded = opened.load(video)
        except InputError:
            assert video not in before
            continue
        assert video in before
        assert all(".." not in frame.path.split("/") for frame in loaded.frames)


def test_views_are_the_same_in_two_processes(tmp_path: Path) -> None:
    write_set("coco", "", tmp_path / "set")
    for workers in (1, 2):
        build("coco", tmp_path / "set", tmp_path / f"b{workers}", BuildOptions(sampling=SMALL, workers=workers))
    assert tree(tmp_path / "b1") == tree(tmp_path / "b2")
    assert len(tree(tmp_path / "b1")) > 10

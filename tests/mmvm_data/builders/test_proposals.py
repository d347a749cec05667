"""Proposals beside the tracks of sets that follow one object."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mmvm_data import cli
from mmvm_data.builders import open_source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from tests.sets import tracker_sets, video_sets, view_sets
from tests.sets.world import FRAMES, OBJECTS, VIDEOS, draw_bitmap, draw_labels, tight_box


def propose(folder: Path, videos: list[str], stem: str = "{:08d}", first: int = 1) -> Path:
    """All objects of the world as proposals, numbered anew in each frame."""
    for v, name in enumerate(videos):
        for f in range(FRAMES):
            file = folder / name / f"{stem.format(f + first)}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw_labels(v, f, [10 + (k + f) % OBJECTS for k in range(OBJECTS)])).save(file)
    return folder


def test_box_proposals_are_added(tmp_path: Path) -> None:
    tracker_sets.lasot(tmp_path / "set")
    names = [f"person-{v}" for v in range(VIDEOS)]
    source = open_source("lasot", tmp_path / "set", proposals=propose(tmp_path / "masks", names))
    ids = set()
    for v, name in enumerate(names):
        video = source.load(name)
        for f in video.annotated:
            tracked = [r for r in video.regions(f) if not r.extra.get("proposal")]
            proposed = [r for r in video.regions(f) if r.extra.get("proposal")]
            assert [r.id for r in tracked] == ([] if v == 1 and f == tracker_sets.HIDDEN else ["1"])
            # the object itself is not proposed again; where it is hidden, nothing is known of it
            there = [k for k in range(OBJECTS) if tight_box(v, f, k) and (k or not tracked)]
            assert sorted(r.box or () for r in proposed) == sorted(tight_box(v, f, k) or () for k in there)
            assert ids.isdisjoint(r.id for r in proposed) or v
            ids |= {r.id for r in proposed}


def test_mask_proposals_are_added_and_parts_of_objects_dropped(tmp_path: Path) -> None:
    video_sets.davis2016(tmp_path / "set")
    folder = propose(tmp_path / "masks", ["clip0"], "{:05d}", 0)
    extra = draw_labels(0, 0)
    extra[draw_bitmap(0, 0, 0) == 1] = 0
    extra[14:18, 5:9] = 40  # a part of the object
    extra[extra == 0] = 50  # all that is around, the object within
    extra[18:24, :8] = 60  # more than half of it lies on the object
    Image.fromarray(extra).save(folder / "clip0/00000.png")
    regions = open_source("davis2016", tmp_path / "set", proposals=folder).load("clip0").regions(0)
    found = {r.id: r.mask for r in regions if r.mask is not None}
    assert list(found) == ["1", "proposal 0-2", "proposal 0-3"]
    for k in (1, 2):
        shown = draw_bitmap(0, 0, k).copy()
        assert (masks.decode(found[f"proposal 0-{k + 1}"]) == shown).all()


def test_case_counts_its_proposals(tmp_path: Path) -> None:
    tracker_sets.lasot(tmp_path / "set")
    folder = propose(tmp_path / "masks", [f"person-{v}" for v in range(VIDEOS)])
    small = ["--min-area", "60", "--min-side", "4", "--source", "lasot", "--root", str(tmp_path / "set")]
    for out, more, code in (
        ("none", [], 3),
        ("bench", ["--proposals", str(folder)], 0),
        ("x", ["--proposals", "y"], 2),
    ):
        done = CliRunner().invoke(cli.cli, ["build", *small, "--out", str(tmp_path / out), *more])
        assert done.exit_code == code, done.output
    assert list(bench.read(tmp_path / "none")) == []
    cases = [Case.model_validate_json(line) for line in (tmp_path / "bench/cases.jsonl").read_text().splitlines()]
    assert cases
    for case in cases:
        assert case.provenance is not None
        proposed = [c for c in case.candidates if c.region.extra.get("proposal")]
        assert case.provenance.extra == {"proposals": len(proposed)}
        assert case.query[0].id == "1"
        assert len(proposed) == len(case.candidates) - (case.answer is not None) > 0
    assert not bench.validate(tmp_path / "bench", deep=True).problems
    request = json.loads((tmp_path / "bench/build.json").read_text())["request"]
    assert request["proposals"] == str(folder)


def test_what_is_wrong_with_proposals(tmp_path: Path) -> None:
    tracker_sets.lasot(tmp_path / "set")
    with pytest.raises(UsageError, match="proposals must be a folder"):
        open_source("lasot", tmp_path / "set", proposals=tmp_path / "nowhere")
    folder = propose(tmp_path / "masks", ["person-0"])
    source = open_source("lasot", tmp_path / "set", proposals=folder)
    with pytest.raises(InputError, match="masks/person-1: no proposals: the folder is missing"):
        source.load("person-1")
    (folder / "person-0/00000001.png").unlink()
    Image.fromarray(np.ones((5, 5), np.uint8)).save(folder / "person-0/00000002.png")
    video = source.load("person-0")
    assert [r.id for r in video.regions(0)] == ["1"]
    with pytest.raises(InputError, match=r"00000002\.png: mask is 5 x 5, its frame is 64 x 48"):
        video.regions(1)
    view_sets.coco(tmp_path / "coco")
    with pytest.raises(InputError, match="coco gives views"):
        open_source("coco", tmp_path / "coco", proposals=folder).load("0")

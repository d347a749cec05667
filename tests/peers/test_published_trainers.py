"""The two subsets of match records go through the published training code; COLVA names a checkout of zhouyiks/CoLVA."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from mmvm_data.core import masks
from mmvm_data.core.types import Case, Region
from mmvm_data.formats import bench as bench_format
from mmvm_data.formats import sft
from mmvm_data.formats.match_records import published_fault
from tests.peers import world

FILLED = "Please make a choice from the following options: \n"


@world.needs("COLVA")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["choices", "reasoning"])
def test_its_data_set_gives_our_masks_answers_and_rationales(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Literal["choices", "reasoning"]
) -> None:
    sft.write(bench_format.read(bench), tmp_path, kind)
    (tmp_path / "data").symlink_to(bench)
    monkeypatch.chdir(tmp_path)
    expected = [
        case
        for case in bench_format.read(bench)
        if not published_fault(case) and (kind == "reasoning") == bool(case.rationale and case.prompt == "mask")
    ]
    with world.stream_peer(
        "run_published_dataset.py", world.checkout("COLVA"), kind, tmp_path / sft.FILES[kind]
    ) as out:
        paths = pickle.load(out)
        assert paths == [[f"./data/{frame.path}" for frame in case.frames] for case in expected] and paths
        for case in expected:
            compare(case, pickle.load(out), kind)


def compare(case: Case, theirs: dict[str, Any], kind: str) -> None:
    assert theirs["id"] == case.id
    order = sorted(case.candidates, key=lambda candidate: (candidate.number != case.answer, candidate.number))
    regions = [[region] for region in case.query] + [[candidate.region for candidate in order]]
    for ours, decoded, frame in zip(regions, theirs["masks"], case.frames, strict=True):
        assert np.array_equal(np.stack([bitmap(region, frame.height, frame.width) for region in ours]), decoded)
    assert len(theirs["covered"]) == len(case.query) + len(order)
    assert theirs["regions"][-1] == list(range(1, len(order) + 1))
    [answer] = theirs["regions"][0]  # its number in their own numbering, -1 where none is right
    assert (answer == -1) == (case.answer is None)
    turns = [turn["value"] for turn in theirs["conversation"]]
    options = dict(re.findall(r"(?m)^([A-Z])\. (.+)$", turns[0].partition(FILLED)[2]))
    none = "None of the above choices are correct"
    assert list(options.values()) == [*map(str, range(1, len(order) + 1)), none]
    assert options[turns[1]] == (none if answer == -1 else str(answer))
    marks = ("contour", "outlined") if case.prompt == "mask" else ("bounding box", "outlined")
    assert any(mark in turns[0] for mark in marks) and "{" not in turns[0]
    if kind == "reasoning":
        assert turns[3].endswith(f": {case.rationale}")
    assert len(turns) == (4 if kind == "reasoning" else 2)


def bitmap(region: Region, height: int, width: int) -> np.ndarray:
    if region.mask is not None:
        return masks.decode(region.mask)
    assert region.box is not None
    x, y, w, h = region.box
    return masks.decode(masks.from_polygons([[x, y, x + w, y, x + w, y + h, x, y + h]], height, width, rule="union"))

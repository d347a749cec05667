"""Harder cases: variants of one case, queries that left the picture, queries that were away in between."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmvm_data.cases.hardness import rank_candidates
from mmvm_data.cases.sampling import CaseDraft, VideoSampler
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.cases.tracks import Tracks, at_edge
from mmvm_data.core import masks
from mmvm_data.core.types import Case, Region, Video
from mmvm_data.formats import bench
from mmvm_data.pipeline import build
from tests.mmvm_data.cases.sampled_videos import HEIGHT, LOOSE, NOISE, WIDTH, square, video
from tests.worlds import PALETTE, davis, tree


def crowd(count: int) -> Video:
    """Small squares in rows, a frame apart by one pixel."""
    return video(
        lambda p: [Region(id=str(k), mask=square(2 + 9 * (k % 17), 2 + 12 * (k // 17) + p, 8)) for k in range(count)]
    )


def sampler(v: Video, **options: object) -> VideoSampler:
    return VideoSampler(v, replace(LOOSE, **options), lambda p: NOISE)  # type: ignore[arg-type]


def drafts(v: Video, count: int = 12, **options: object) -> list[CaseDraft]:
    made = sampler(v, **options)
    return [d for d in (made.draw_case(k) for k in range(count)) if isinstance(d, CaseDraft)]


def ids(draft: CaseDraft) -> set[str]:
    return {seen.region.id for seen in draft.candidates}


@pytest.mark.parametrize(
    ("count", "names"), [(3, ["all"]), (4, ["all"]), (7, ["4", "all"]), (30, ["4", "8", "12", "all"])]
)
def test_variants_are_nested_and_hold_the_hardest(count: int, names: list[str]) -> None:
    made = sampler(crowd(count), variants=True)
    for ordinal in range(4):
        draft = made.draw_case(ordinal)
        assert isinstance(draft, CaseDraft)
        found = made.build_variants(draft, ordinal)
        assert [name for name, _ in found] == names
        assert found[-1][1] == draft
        sets = [ids(variant) for _, variant in found]
        assert all(a < b for a, b in pairwise(sets))
        others = [c for c in draft.candidates if c.region.id != draft.query.region.id]
        order = [others[k].region.id for k in rank_candidates(NOISE, draft.query, NOISE, others)]
        for (name, variant), kept in zip(found, sets, strict=True):
            assert name == "all" or len(variant.candidates) == int(name)
            assert variant.query == draft.query
            assert variant.first_position == draft.first_position
            assert variant.last_position == draft.last_position
            assert variant.answer is not None
            assert variant.candidates[variant.answer - 1].region.id == draft.query.region.id
            assert kept - {draft.query.region.id} == set(order[: len(kept) - 1])


def test_letters_of_variants_are_even() -> None:
    counts = np.zeros(4)
    for name in range(60):
        v = crowd(9).model_copy(update={"id": str(name)})
        made = sampler(v)
        for ordinal in range(5):
            draft = made.draw_case(ordinal)
            assert isinstance(draft, CaseDraft)
            answer = made.build_variants(draft, ordinal)[0][1].answer
            assert answer
            counts[answer - 1] += 1
    assert (abs(counts - 75) < 35).all()


def test_variants_without_an_answer_stay_without() -> None:
    def leaves(p: int) -> list[Region]:
        return list(crowd(12).regions(p))[: 12 if p < 5 else 11]

    made = sampler(video(leaves), none_share=1.0)
    draft = made.draw_case(0)
    assert isinstance(draft, CaseDraft)
    assert draft.answer is None
    for name, variant in made.build_variants(draft, 0):
        assert variant.answer is None
        assert len(variant.candidates) == (11 if name == "all" else int(name))


def moving(p: int) -> list[Region]:
    """0 and 1 stay; 2 leaves to the right by frame 5; 3 vanishes in the middle of the picture at frame 4."""
    found = [Region(id=str(k), mask=square(10 + 30 * k, 50)) for k in range(2)]
    if p < 5:
        found.append(Region(id="2", mask=square(min(100 + 12 * p, WIDTH - 12), 5, 12)))
    if p < 4:
        found.append(Region(id="3", mask=square(60, 20, 14)))
    return found


def test_what_is_hidden_has_not_left() -> None:
    absent = {d.query.region.id for d in drafts(video(moving), none_share=1.0) if d.answer is None}
    assert absent == {"2", "3"}
    left = [d for d in drafts(video(moving), none_share=1.0, gone="left") if d.answer is None]
    assert {d.query.region.id for d in left} == {"2"}
    assert all(d.facts == {"gone": "left"} for d in left)


def test_what_is_back_in_the_next_frame_has_not_left() -> None:
    def blinks(p: int) -> list[Region]:
        return [r for r in moving(0) if r.id != "2" or p % 2 == 0] + [Region(id="9", mask=square(140, 70, 18))]

    v = video(blinks, frames=11)
    assert [d for d in drafts(v, none_share=1.0) if d.answer is None]
    # at frame 9, the last one without it, the next frame shows it again
    assert not [d for d in drafts(v, none_share=1.0, gone="left") if d.answer is None]


def returns(p: int) -> list[Region]:
    found = [Region(id=str(k), mask=square(10 + 30 * k, 50)) for k in range(3)]
    return found if p not in (4, 5) else [r for r in found if r.id != "1"]


def test_queries_that_come_back() -> None:
    found = drafts(video(returns), reappear_share=1.0)
    back = [d for d in found if d.facts]
    assert len(back) > 5
    for draft in back:
        assert draft.query.region.id == "1"
        assert draft.first_position < 4
        assert draft.last_position > 5
        assert draft.facts == {"reappears": 2}
        assert draft.answer is not None
    assert found == drafts(video(returns), reappear_share=1.0)
    half = [bool(drafts(video(returns, name=str(n)), 1, reappear_share=0.5)[0].facts) for n in range(60)]
    assert 15 < sum(half) < 45


def test_where_nothing_comes_back_other_cases_are_made() -> None:
    found = drafts(crowd(4), reappear_share=1.0)
    assert len(found) == 12
    assert not any(d.facts for d in found)


def test_gaps_bound_returns_too() -> None:
    assert not any(d.facts for d in drafts(video(returns), reappear_share=1.0, max_gap=2))
    found = [d for d in drafts(video(returns), reappear_share=1.0, max_gap=4) if d.facts]
    assert found
    assert all(d.last_position - d.first_position <= 4 for d in found)


def test_tracks() -> None:
    tracks = Tracks.from_frames({0: frozenset("ab"), 5: frozenset("a"), 10: frozenset("b"), 15: frozenset("ab")})
    assert tracks.absences() == [("a", 10, 15), ("b", 5, 10)]
    assert tracks.count_absent_frames("a", 0, 15) == 1
    assert tracks.count_absent_frames("b", 10, 15) == 0
    assert Tracks.from_frames({}).absences() == []


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 30, 10, 10), True),
        ((2, 30, 9, 9), True),
        ((10, 30, 20, 20), False),
        ((140, 30, 20, 9), True),
        ((50, 79, 9, 9), True),
    ],
)
def test_at_edge(box: tuple[int, int, int, int], expected: bool) -> None:
    for region in (Region(id="a", box=box), Region(id="a", mask=masks.from_box(box, HEIGHT, WIDTH))):
        assert at_edge(region, WIDTH, HEIGHT) == expected


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Ten squares a frame, of which one hides for two frames."""
    root = davis(tmp_path / "world", videos=3, objects=8, frames=8)
    for path in sorted((root / "Annotations/480p").glob("*/0000[34].png")):
        labels = np.array(Image.open(path))
        labels[labels == 2] = 0
        picture = Image.fromarray(labels, "P")
        picture.putpalette(PALETTE)
        picture.save(path)
    return root


def test_builds_of_hard_cases(world: Path, tmp_path: Path) -> None:
    sampling = SamplingOptions(min_area=100, variants=True, reappear_share=0.7, gone="left", none_share=0.0, seed=2)
    for name, workers in (("a", 1), ("b", 2)):
        build.build("davis", world, tmp_path / name, build.BuildOptions(sampling, workers=workers))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert bench.validate(tmp_path / "a", deep=True).problems == []
    groups: dict[str, list[Case]] = {}
    for case in bench.read(tmp_path / "a"):
        assert case.provenance
        groups.setdefault(case.provenance.extra["shared_id"], []).append(case)
    assert len(groups) >= 9
    for name, cases in groups.items():
        assert name.startswith("davis/clip00")
        variants = [case.provenance.extra["variant"] for case in cases]  # type: ignore[union-attr]
        assert variants in (["4", "all"], ["all"])
        assert len({(case.frames[0].index, case.query[0].id, case.provenance.ordinal) for case in cases}) == 1  # type: ignore[union-attr]
        originals = [(tmp_path / "a" / case.frames[1].path).read_bytes() for case in cases]
        assert len(set(originals)) == 1
    assert any("reappears" in case.provenance.extra for cases in groups.values() for case in cases)  # type: ignore[union-attr]


def test_other_options_leave_no_trace_by_default(world: Path, tmp_path: Path) -> None:
    build.build("davis", world, tmp_path / "a", build.BuildOptions(SamplingOptions(min_area=100)))
    request = json.loads((tmp_path / "a/build.json").read_text())["request"]["sampling"]
    assert not {"gone", "variants", "reappear_share"} & set(request)
    assert all(case.provenance and case.provenance.extra == {} for case in bench.read(tmp_path / "a"))
    assert cv2.imread(str(tmp_path / "a/match_bench/case_000000/FRAME00.jpg")) is not None


@pytest.mark.parametrize("side", [WIDTH, 1000])
def test_edges_are_two_pixels_or_a_hundredth_of_the_side(side: int) -> None:
    near = max(2, side // 100)
    for x, expected in ((near, True), (near + 1, False), (side - near - 20, True), (side - near - 21, False)):
        if side == 1000 or 0 <= x <= side - 20:
            assert at_edge(Region(id="a", box=(x, 40, 20, 9)), side, 120) == expected
            assert at_edge(Region(id="a", box=(40, x, 9, 20)), 120, side) == expected


def test_tracks_of_frames_in_any_order() -> None:
    tracks = Tracks.from_frames({9: frozenset("a"), 2: frozenset("ba"), 5: frozenset("b")})
    assert (tracks.positions, tracks.present) == ((2, 5, 9), {"a": [2, 9], "b": [2, 5]})
    assert list(tracks.present) == ["a", "b"]
    counts = [tracks.count_absent_frames("a", *span) for span in ((2, 9), (5, 9), (2, 5), (0, 9), (2, 8))]
    assert counts == [1, 0, 0, 1, 1]
    assert tracks.count_absent_frames("c", 0, 10) == 3

"""Which cases are drawn from a video."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mmvm_data.cases import prompts
from mmvm_data.cases.hardness import measure_sharpness, rank_candidates
from mmvm_data.cases.sampling import CaseDraft, VideoSampler
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.cases.visibility import VisibleObject
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import Frame, Region, Rle, Video
from tests.mmvm_data.cases.sampled_videos import HEIGHT, LOOSE, NOISE, WIDTH, drafts, drawn, row, square, video


def test_the_answer_is_the_query() -> None:
    found = drafts(video(row(5)))
    assert len(found) == 8
    for draft in found:
        assert draft.first_position < draft.last_position
        assert draft.answer is not None
        assert draft.candidates[draft.answer - 1].region.id == draft.query.region.id
        assert len({c.region.id for c in draft.candidates}) == 5


def test_same_names_and_seed_give_the_same_cases() -> None:
    assert drafts(video(row(5))) == drafts(video(row(5)))
    assert drafts(video(row(5)), count=3) == drafts(video(row(5)), count=8)[:3]
    assert drafts(video(row(5))) != drafts(video(row(5), name="w"))
    assert drafts(video(row(5))) != drafts(video(row(5)), replace(LOOSE, seed=1))


def test_no_case_twice_and_an_end() -> None:
    found = drawn(video(row(2), frames=2), count=4)
    assert [isinstance(d, CaseDraft) for d in found] == [True, True, False, False]
    assert "no further object" in str(found[2])
    assert {d.query.region.id for d in found[:2] if isinstance(d, CaseDraft)} == {"0", "1"}


@pytest.mark.parametrize(("low", "high"), [(1, 2), (5, 9), (10, 30), (20, None)])
def test_gaps_are_counted_in_frames_of_the_source(low: int, high: int | None) -> None:
    v = video(row(3), frames=12, step=5)
    found = drafts(v, replace(LOOSE, min_gap=low, max_gap=high))
    gaps = {v.frames[d.last_position].index - v.frames[d.first_position].index for d in found}
    assert all(low <= gap <= (high or 1000) for gap in gaps)
    assert bool(found) == ((low, high) != (1, 2))


def test_the_time_between_images() -> None:
    v = video(row(3), frames=12, step=5)  # 2.2 seconds at 25 frames a second
    options = replace(LOOSE, min_seconds=1.4, frame_rate=25)
    gaps = {v.frames[d.last_position].index - v.frames[d.first_position].index for d in drafts(v, options)}
    assert gaps and min(gaps) == 35
    timed = v.model_copy(update={"frames": tuple(f.model_copy(update={"time": f.index / 5}) for f in v.frames)})
    seconds = [(d.last_position - d.first_position) * 1.0 for d in drafts(timed, options)]
    assert set(seconds) >= {2.0} and min(seconds) == 2  # times of the source count before the rate
    assert "needs `frame_rate`" in str(drawn(v, replace(LOOSE, min_seconds=1))[0])
    too_long = drawn(v, replace(LOOSE, min_seconds=3, frame_rate=25))[0]
    assert too_long == "no two readable annotated frames that lie 1 to 100 frames and 3 seconds apart"


def test_only_annotated_frames_are_used() -> None:
    found = drafts(video(row(3), annotated=(0, 4, 9)))
    assert {d.first_position for d in found} | {d.last_position for d in found} <= {0, 4, 9}


def leaves(p: int) -> list[Region]:
    regions = row(5)(p)
    return regions if p < 5 else regions[:4]


def test_objects_that_disappear_make_cases_without_an_answer() -> None:
    found = drafts(video(leaves), replace(LOOSE, none_share=1.0))
    gone = [d for d in found if d.answer is None]
    assert gone
    for draft in gone:
        assert draft.query.region.id == "4"
        assert draft.first_position < 5 <= draft.last_position
        assert "4" not in {c.region.id for c in draft.candidates}


def test_the_share_without_an_answer() -> None:
    options = replace(LOOSE, none_share=0.3, cases_per_video=1)

    def blinks(p: int) -> list[Region]:
        return [r for k, r in enumerate(row(6)(p)) if (p + k) % 3]

    found = [drafts(video(blinks, name=str(n)), options, count=1)[0] for n in range(300)]
    share = sum(d.answer is None for d in found) / len(found)
    assert 0.22 < share < 0.38


def test_an_object_too_small_to_mark_has_not_disappeared() -> None:
    def shrinks(p: int) -> list[Region]:
        regions = row(4)(p)
        return [*regions[:3], Region(id="3", mask=square(100, 40, 20 if p < 5 else 2))]

    found = drafts(video(shrinks), replace(LOOSE, none_share=1.0))
    assert found
    assert all(d.answer is not None for d in found)


@pytest.mark.parametrize("shape", [square(120, 60, 7), square(120, 4, 8, 80), square(130, 60, 24, 3)])
def test_small_and_thin_objects_are_left_out(shape: Rle) -> None:
    options = replace(LOOSE, min_area=60, min_side=17)
    found = drafts(video(lambda p: [*row(4)(p), Region(id="odd", mask=shape)]), options)
    assert found
    assert all("odd" not in {c.region.id for c in d.candidates} for d in found)


def test_covered_objects_are_left_out() -> None:
    v = video(lambda p: [*row(4)(p), Region(id="under", mask=square(82, 4 + p, 14))])
    assert all("under" not in {c.region.id for c in d.candidates} for d in drafts(v))
    assert any("under" in {c.region.id for c in d.candidates} for d in drafts(v, replace(LOOSE, max_occlusion=1.0)))


def test_boxes_are_cut_at_the_edge_and_hidden_ones_left_out() -> None:
    def boxes(p: int) -> list[Region]:
        return [
            Region(id="a", box=(-10.0, 5.0, 40.0, 40.0)),
            Region(id="b", box=(50.0, 5.0, 30.0, 30.0), extra={"visibility": 1.0}),
            Region(id="c", box=(100.0, 5.0, 30.0, 30.0), extra={"visibility": 0.1}),
        ]

    found = drafts(video(boxes))
    assert {c.region.id for d in found for c in d.candidates} == {"a", "b"}
    assert {c.box for d in found for c in d.candidates if c.region.id == "a"} == {(0, 5, 30, 40)}


def test_blurred_queries_are_left_out() -> None:
    gray = np.full((HEIGHT, WIDTH, 3), 99, np.uint8)
    sampler = VideoSampler(video(row(3)), LOOSE, lambda p: gray)
    assert "blurred" in str(sampler.draw_case(0))
    assert measure_sharpness(gray, (10, 10, 20, 20)) == 0
    assert measure_sharpness(NOISE, (10, 10, 20, 20)) > 1000


def test_look_alikes_are_preferred_or_required() -> None:
    def mixed(p: int) -> list[Region]:
        names = ["dog", "dog", "cat", "cup"]
        return [r.model_copy(update={"category": n}) for r, n in zip(row(4)(p), names, strict=True)]

    assert {d.query.region.category for d in drafts(video(mixed))} == {"dog"}
    assert all(d.look_alikes == 1 for d in drafts(video(mixed)))
    assert len({d.query.region.category for d in drafts(video(mixed), replace(LOOSE, look_alikes="any"))}) > 1
    alone = drawn(video(lambda p: mixed(p)[1:]), replace(LOOSE, look_alikes="require"))
    assert "look-alike" in str(alone[0])


def test_fewer_candidates_are_the_hardest_of_the_same_case() -> None:
    def mixed(p: int) -> list[Region]:
        return [r.model_copy(update={"category": "dog" if k < 3 else "cat"}) for k, r in enumerate(row(6)(p))]

    every = drafts(video(mixed), replace(LOOSE, look_alikes="any"))
    few = drafts(video(mixed), replace(LOOSE, look_alikes="any", candidates=3))
    assert len(every) == len(few)
    for full, kept in zip(every, few, strict=True):
        assert kept.query == full.query
        assert kept.first_position == full.first_position
        assert kept.last_position == full.last_position
        assert len(kept.candidates) == 3
        assert kept.answer is not None
        assert kept.candidates[kept.answer - 1].region.id == full.query.region.id
        assert {c.region.id for c in kept.candidates} < {c.region.id for c in full.candidates}
        assert kept.visible == 6
        same = [c for c in kept.candidates if c.region.category == full.query.region.category]
        assert len(same) == 3


def test_ranking_uses_color_shape_size_and_place() -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def seen(name: str, rle: Rle) -> VisibleObject:
        x, y, w, h = masks.bbox(rle)
        return VisibleObject(Region(id=name, mask=rle), rle, masks.area(rle), (x, y, w, h))

    query, near, far, thin = (
        seen("q", square(10, 10)),
        seen("near", square(40, 10)),
        seen("far", square(130, 60)),
        seen("thin", square(70, 10, 8, 60)),
    )
    image[:] = (40, 40, 200)
    assert rank_candidates(image, query, image, [thin, far, near]) == [2, 1, 0]
    other = image.copy()
    other[10:30, 40:60] = (200, 40, 40)
    assert rank_candidates(image, query, other, [near, far]) == [1, 0]


def test_positions_of_the_answer_cannot_be_guessed() -> None:
    counts = [0] * 5
    for n in range(60):
        for draft in drafts(video(row(5), name=str(n)), count=4):
            assert draft.answer is not None
            counts[draft.answer - 1] += 1
    assert min(counts) > sum(counts) / 5 * 0.6


def test_a_broken_frame_is_named_once_and_others_are_used() -> None:
    def broken(p: int) -> list[Region]:
        if p in (2, 3):
            raise InputError(f"{p}.png", "is cut short")
        return row(4)(p)

    sampler = VideoSampler(video(broken), LOOSE, lambda p: NOISE)
    found = [sampler.draw_case(k) for k in range(8)]
    assert all(isinstance(d, CaseDraft) and not {d.first_position, d.last_position} & {2, 3} for d in found)
    files = [e.file for e in sampler.problems]
    assert len(files) == len(set(files)) <= 2


def test_a_fault_of_the_whole_file_is_named_once() -> None:
    def fails(p: int) -> list[Region]:
        raise InputError("annotations.json", "not valid JSON")

    sampler = VideoSampler(video(fails), LOOSE, lambda p: NOISE)
    assert isinstance(sampler.draw_case(0), str)
    assert [str(e) for e in sampler.problems] == ["annotations.json: not valid JSON"]


def test_an_unreadable_picture_is_named_once() -> None:
    def pixels(position: int) -> np.ndarray:
        if position == 7:
            raise InputError("7.jpg", "is cut short")
        return NOISE

    sampler = VideoSampler(video(row(4)), replace(LOOSE, cases_per_video=30), pixels)
    assert all(isinstance(sampler.draw_case(k), CaseDraft) for k in range(30))
    assert [e.file for e in sampler.problems] == ["7.jpg"]


def test_a_mask_of_another_size_is_a_problem_of_its_frame() -> None:
    wrong = masks.encode(np.ones((5, 5), np.uint8))
    sampler = VideoSampler(video(lambda p: [*row(3)(p), Region(id="x", mask=wrong)]), LOOSE, lambda p: NOISE)
    assert "no two readable" in str(sampler.draw_case(0)) or "cannot be read" in str(sampler.draw_case(1))
    assert "5 x 5" in sampler.problems[0].reason


def crowd(p: int) -> list[Region]:
    return [Region(id=f"{k:02d}", box=(3.0 * (k % 50), 4.0 + 20 * (k // 50), 2.9, 18.0)) for k in range(80)]


def test_more_objects_than_the_benchmark_allows() -> None:
    found = drafts(video(crowd), replace(LOOSE, min_area=10, min_side=2), count=2)
    assert [len(d.candidates) for d in found] == [37, 37]
    assert all(d.answer is not None and d.visible == 80 for d in found)


def test_with_more_candidates_than_letters_the_options_do_not_tell() -> None:
    letters = []
    for n in range(60):
        for draft in drafts(video(crowd, name=str(n)), replace(LOOSE, min_area=10, min_side=2), count=8):
            offered = prompts.build_options(range(1, len(draft.candidates) + 1), draft.answer)
            assert [o.number for o in offered] == [*range(1, 26), None]
            letters += [o.letter for o in offered if o.number == draft.answer]
            assert draft.answer and draft.candidates[draft.answer - 1].region.id == draft.query.region.id
            assert len({c.region.id for c in draft.candidates}) == 37
    assert _far_from_even(letters, 25) < 1


def _far_from_even(values: list[str], kinds: int) -> float:
    """Pearson's chi-square of values over equally likely kinds, over the limit that chance exceeds once in 1,000."""
    expected = len(values) / kinds
    counts = [values.count(value) for value in sorted(set(values))]
    counts += [0] * (kinds - len(counts))
    limit = {2: 10.83, 3: 13.82, 4: 16.27, 5: 18.47, 25: 51.18}[kinds]  # tables of chi-square, kinds - 1 degrees
    return sum((count - expected) ** 2 / expected for count in counts) / limit


@pytest.mark.parametrize("count", [2, 3, 5])
def test_letters_and_ranks_are_even(count: int) -> None:
    """Over 480 videos the answer's letter, and where the answer ranks by place, could be anything."""

    def sizes(p: int) -> list[Region]:
        return [Region(id=str(k), mask=square(2 + 26 * k, 2 + p, 14 + 2 * k)) for k in range(count)]

    found = [drafts(video(sizes, name=str(n)), count=1)[0] for n in range(480)]
    assert _far_from_even([str(d.answer) for d in found], count) < 1
    assert _far_from_even([d.query.region.id for d in found], count) < 1


def test_views_make_pairs_in_either_order_whatever_their_distance() -> None:
    frames = tuple(Frame(path=f"{k}.jpg", index=500 * k, width=160, height=120) for k in range(3))

    def read(position: int) -> tuple[Region, ...]:
        return tuple(Region(id=str(k), box=(10 + 40 * k + position, 20, 30, 40)) for k in range(3))

    video = Video.lazy(
        read, id="v", source="s", frames=frames, annotated=(0, 1, 2), prompt="box", order="views", note={"a": 1}
    )
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    sampler = VideoSampler(video, SamplingOptions(none_share=0), lambda _: noise)
    drafts = [sampler.draw_case(ordinal) for ordinal in range(12)]
    pairs = {(draft.first_position, draft.last_position) for draft in drafts if isinstance(draft, CaseDraft)}
    assert {(0, 2), (2, 0)} <= pairs
    assert all(first != last for first, last in pairs)


def test_proposals_are_candidates_and_never_queries_or_answers() -> None:
    frames = tuple(Frame(path=f"{k}.jpg", index=k, width=160, height=120) for k in range(4))

    def read(position: int) -> tuple[Region, ...]:
        tracked = Region(id="1", box=(10, 20, 30, 40))
        proposed = Region(id=f"proposal {position}", box=(60 + position, 20, 30, 40), extra={"proposal": True})
        return tracked, proposed

    video = Video.lazy(read, id="v", source="s", frames=frames, annotated=(0, 1, 2, 3), prompt="box")
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    sampler = VideoSampler(video, SamplingOptions(none_share=0.5), lambda _: noise)
    drafts = [draft for draft in map(sampler.draw_case, range(8)) if isinstance(draft, CaseDraft)]
    assert len(drafts) >= 4
    for draft in drafts:
        assert draft.query.region.id == "1"
        assert draft.answer is not None
        assert sorted(seen.region.id for seen in draft.candidates) == ["1", f"proposal {draft.last_position}"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"look_alikes": "requre"}, "look_alikes must be 'prefer', 'require' or 'any', got 'requre'"),
        ({"gone": "lefft"}, "gone must be 'absent' or 'left', got 'lefft'"),
        ({"min_area": "400"}, "min_area must be an integer, got '400'"),
        ({"variants": 1}, "variants must be True or False, got 1"),
        ({"none_share": 3}, "none_share must be in [0, 1], got 3"),
        ({"reappear_share": -0.1}, "reappear_share must be in [0, 1], got -0.1"),
        ({"max_occlusion": 1.5}, "max_occlusion must be in [0, 1], got 1.5"),
        ({"min_seconds": -1}, "min_seconds must be at least 0, got -1"),
        ({"frame_rate": 0}, "frame_rate must be above 0, got 0"),
        ({"cases_per_video": 0}, "cases_per_video must be at least 1, got 0"),
        ({"min_candidates": 38}, "min_candidates must be in [1, 37], got 38"),
        ({"candidates": 38}, "candidates must be at most 37, got 38"),
        ({"attempts": 0}, "attempts must be at least 1, got 0"),
        ({"min_gap": 9, "max_gap": 3}, "max_gap must be at least min_gap (9), got 3"),
        ({"min_candidates": 5, "candidates": 4}, "candidates must be at least min_candidates (5), got 4"),
        ({"variants": True, "candidates": 4}, "it cannot be combined with `candidates`"),
        ({"embeddings": "mobilenetv2"}, "it needs `candidates` or `variants`"),
        ({"max_covered": 0.5}, "max_covered is an unknown option"),
    ],
)
def test_wrong_options_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        SamplingOptions(**given)
    assert str(caught.value).endswith(message)
    if len(given) == 1 and "embeddings" not in given:
        with pytest.raises(OptionError):
            replace(SamplingOptions(), **given)


def blinking(p: int) -> list[Region]:
    """Twelve objects of three categories; each is away in some frames, and one stands at the edge."""
    regions = []
    for k in range(12):
        if (p + k) % 7 in (2, 3) and k % 3:
            continue
        shape = square(2 + 26 * (k % 6), 2 + 44 * (k // 6) + p, 14 + k)
        regions.append(Region(id=f"{k}", mask=shape, category=["dog", "cat", None][k % 3]))
    return regions


SEED_CASES: list[tuple[dict[str, Any], str]] = [
    ({}, "ffc8aee94722e2d55821a0c6"),
    (
        {"none_share": 0.5, "look_alikes": "any", "candidates": 5},
        "ba846fe26b254f118dbce50c",
    ),
    (
        {"none_share": 0.6, "gone": "left", "min_gap": 3, "max_gap": 7},
        "b23bdcd149398e377e005770",
    ),
    (
        {"reappear_share": 0.8, "look_alikes": "require", "max_gap": None},
        "63598690ffed8a3205125c66",
    ),
    (
        {"variants": True, "none_share": 0.3, "max_occlusion": 0.2, "seed": 9},
        "2e2fcbf1909e01dc9da26111",
    ),
]


@pytest.mark.parametrize(("options", "digest"), SEED_CASES)
def test_cases_of_a_seed_never_change(options: dict[str, Any], digest: str) -> None:
    """Builds have the same bytes from version to version only if these do not change."""
    image = np.random.default_rng(5).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    lines: list[object] = []
    for name, step, order in (("a", 1, "time"), ("b", 2, "time"), ("c", 1, "views")):
        v = video(blinking, frames=20, name=name, step=step).model_copy(update={"order": order})
        sampler = VideoSampler(v, replace(LOOSE, **options), lambda p: np.roll(image, p, axis=0))
        for ordinal in range(16):
            draft = sampler.draw_case(ordinal)
            if isinstance(draft, str):
                lines.append(draft)
                continue
            variants = sampler.build_variants(draft, ordinal) if sampler.options.variants else [("", draft)]
            lines += [
                (
                    (variant, d.first_position, d.last_position, d.query.region.id, d.answer, d.look_alikes, d.visible),
                    ([c.region.id for c in d.candidates], sorted(d.facts.items())),
                )
                for variant, d in variants
            ]
    assert hashlib.sha256(repr(lines).encode()).hexdigest()[:24] == digest


def test_a_share_of_queries_moves_past_another_candidate() -> None:
    def crossing(p: int) -> list[Region]:
        left, right = 4 + 13 * p, 124 - 13 * p
        return [Region(id="1", mask=square(left, 5)), Region(id="2", mask=square(right, 27))]

    def has_moved(draft: CaseDraft) -> bool:
        assert draft.answer is not None
        (x, y, *_), places = draft.query.box, [c.box[:2] for c in draft.candidates]
        gaps = [math.hypot((x - u) / WIDTH, (y - v) / HEIGHT) for u, v in places]
        return gaps[draft.answer - 1] > min(gaps)

    options = replace(LOOSE, cases_per_video=30)
    always = drafts(video(crossing), replace(options, moved_share=1.0), count=12)
    assert len(always) == 12
    assert all(has_moved(d) and d.facts == {"moved": True} for d in always)
    some = drafts(video(crossing), replace(options, moved_share=0.5), count=30)
    marked = [d for d in some if d.facts]
    assert 5 < len(marked) < 25 and all(has_moved(d) for d in marked)
    assert not any(d.facts for d in drafts(video(crossing), options))
    still = drafts(video(row(3)), replace(options, moved_share=1.0))
    assert still and not any(d.facts for d in still)

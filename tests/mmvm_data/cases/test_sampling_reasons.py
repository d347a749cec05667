"""Why a video gives no case, and what a case depends on."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mmvm_data.cases.hardness import measure_sharpness
from mmvm_data.cases.sampling import VideoSampler, case_rng
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Region
from mmvm_data.pipeline.reject_summary import suggest_options
from tests.mmvm_data.cases.sampled_videos import HEIGHT, LOOSE, NOISE, WIDTH, drafts, drawn, row, square, video


def test_reasons_for_no_case() -> None:
    few = LOOSE
    one = [Region(id="1", mask=square(10, 10))]
    two = [*one, Region(id="2", mask=square(60, 10))]

    def reason(regions: Callable[[int], list[Region]], options: SamplingOptions = few, **more: Any) -> str:
        return str(drawn(video(regions, **more), options, count=1)[0])

    none = "no case in 32 pairs of frames, mostly: "
    assert reason(lambda p: []) == none + "no object is annotated in one of the images"
    assert reason(lambda p: [two[p % 2]], frames=2) == none + "no object is annotated in both images"
    assert reason(lambda p: one) == none + "fewer than 2 candidates are clearly visible in the second image"
    tiny = [Region(id="1", mask=square(10, 10, 2))]
    assert reason(lambda p: tiny) == none + "no further object is clearly visible in both images"
    assert reason(lambda p: two, replace(few, look_alikes="require")) == none + "no query has a look-alike"
    assert reason(lambda p: two, replace(few, none_share=1.0), frames=1).startswith("no two readable annotated frames")
    far = "no two readable annotated frames that lie 50 to 60 frames apart"
    assert reason(lambda p: two, replace(few, min_gap=50, max_gap=60)) == far
    far = "no two readable annotated frames that lie 50 to any number of frames apart"
    assert reason(lambda p: two, replace(few, min_gap=50, max_gap=None)) == far
    gray = VideoSampler(
        video(lambda p: two), replace(few, attempts=5), lambda p: np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    )
    assert gray.draw_case(0) == "no case in 5 pairs of frames, mostly: the query is blurred"
    small = reason(lambda p: two, replace(few, min_share=0.5))
    assert small == none + "the query is a small part of the image"
    vague = reason(lambda p: two, replace(few, min_contrast=200))
    assert vague == none + "the query hardly differs from what is around it"
    fast = replace(few, min_seconds=9, frame_rate=25)
    for said, option in (
        (reason(lambda p: one), "--min-candidates"),
        (reason(lambda p: tiny), "--min-area"),
        (reason(lambda p: two, replace(few, look_alikes="require")), "--look-alikes"),
        (far, "--max-gap"),
        (reason(lambda p: two, fast), "--min-seconds"),
        (reason(lambda p: two, replace(fast, frame_rate=None)), "--frame-rate"),
        (str(gray.draw_case(0)), "--min-sharpness"),
        (small, "--min-share"),
        (vague, "--min-contrast"),
    ):
        assert option in suggest_options([(said, 1)]), said
    views = video(lambda p: two, frames=1).model_copy(update={"order": "views"})
    assert drawn(views, count=1) == ["no two readable views"]


def test_the_commonest_reason_is_named() -> None:
    def regions(p: int) -> list[Region]:
        return [Region(id="1", mask=square(10, 10))] if p < 9 else []

    assert str(drawn(video(regions), replace(LOOSE, attempts=200), count=1)[0]) == (
        "no case in 200 pairs of frames, mostly: fewer than 2 candidates are clearly visible in the second image"
    )
    # a case without an answer is tried 8 times before the others
    kept = replace(LOOSE, attempts=20, none_share=1.0)
    assert "in 28 pairs of frames" in str(drawn(video(regions), kept, count=1)[0])
    assert "in 10 pairs of frames" in str(drawn(video(regions), replace(kept, attempts=5), count=1)[0])


def test_ranker_and_its_option_belong_together() -> None:
    for options, ranker in ((LOOSE, lambda *_: np.zeros(1)), (replace(LOOSE, candidates=4, embeddings="m"), None)):
        with pytest.raises(ValueError) as caught:
            VideoSampler(video(row(3)), options, lambda p: NOISE, ranker)
        assert str(caught.value) == "options.embeddings and embedding_ranker must be given together"


def test_unreadable_frames() -> None:
    def broken(p: int) -> list[Region]:
        if p:
            raise InputError(f"{p}.png", "is cut short")
        return row(4)(p)

    sampler = VideoSampler(video(broken), LOOSE, lambda p: NOISE)
    assert not sampler.is_unreadable
    reason = "no two readable annotated frames that lie 1 to 100 frames apart"
    assert sampler.draw_case(0) == reason
    assert sampler.is_unreadable
    assert sorted(str(problem) for problem in sampler.problems) == [f"{p}.png: is cut short" for p in range(1, 10)]
    single = VideoSampler(video(row(4), frames=1), LOOSE, lambda p: NOISE)
    assert single.draw_case(0) == reason
    assert not single.is_unreadable


def test_objects_of_sixteen_frames_are_kept() -> None:
    reads: list[int] = []

    def load_regions(p: int) -> list[Region]:
        reads.append(p)
        return row(3)(p % 20)

    sampler = VideoSampler(video(load_regions, frames=40), LOOSE, lambda p: NOISE)
    for position in [*range(16), *range(16)]:
        sampler._load_objects(position)
    assert reads == list(range(16))
    sampler._load_objects(16)
    sampler._load_objects(1)
    sampler._load_objects(0)
    assert reads[16:] == [16, 0]


def test_sharpness_of_query_and_answer() -> None:
    """It counts in both images, and its limit is inclusive."""
    flat = np.full((HEIGHT, WIDTH, 3), 99, np.uint8)
    v = video(lambda p: [Region(id="1", mask=square(10, 10)), Region(id="2", mask=square(60, 10))], frames=2)
    for images in ((NOISE, flat), (flat, NOISE)):
        sampler = VideoSampler(v, LOOSE, images.__getitem__)
        assert "blurred" in str(sampler.draw_case(0))
    low, high = sorted(measure_sharpness(NOISE, (x, 10, 20, 20)) for x in (10, 60))
    assert len(drafts(v, replace(LOOSE, min_sharpness=low), count=2)) == 2
    assert len(drafts(v, replace(LOOSE, min_sharpness=high), count=2)) == 1
    assert drafts(v, replace(LOOSE, min_sharpness=high * 1.001), count=2) == []


def test_generator_of_a_case_depends_on_each_argument() -> None:
    key = "\0".join(("3", "davis", "clip\x01", "5", "004"))
    expected = random.Random(int.from_bytes(hashlib.sha256(key.encode()).digest(), "big")).random()
    assert case_rng(3, "davis", "clip\x01", 5, "004").random() == expected
    odd = case_rng(3, "davis", "clip\udcff", 5).random()
    digest = hashlib.sha256(b"\0".join((b"3", b"davis", b"clip\xff", b"5"))).digest()
    assert odd == random.Random(int.from_bytes(digest, "big")).random()

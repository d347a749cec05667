"""Cases that are drawn one ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mmvm_data.cases.draw_ahead import draw_cases
from mmvm_data.cases.sampling import CaseDraft, VideoSampler
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Region
from tests.mmvm_data.cases.sampled_videos import LOOSE, NOISE, square, video

WALK = video(lambda p: [Region(id=str(k), mask=square(4 + 25 * k + p % 3, 10 + 4 * p)) for k in range(5) if p != k])


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("min_gap", [1, 8])
def test_they_are_those_drawn_one_by_one(count: int, min_gap: int) -> None:
    """In some frames an object is absent, and one frame cannot be read."""

    def read(position: int) -> NDArray[np.uint8]:
        if position == 3:
            raise InputError("3.jpg", "cut off")
        return NOISE

    options = replace(LOOSE, none_share=0.3, min_gap=min_gap, reappear_share=0.3)
    ahead, single = VideoSampler(WALK, options, read), VideoSampler(WALK, options, read)
    drafts = list(draw_cases(ahead, count, lambda positions: None))
    expected = []
    for ordinal in range(count):
        expected.append(single.draw_case(ordinal))
        if isinstance(expected[-1], str):
            break
    assert drafts == expected
    assert [str(problem) for problem in ahead.problems] == [str(problem) for problem in single.problems]
    if count == 40 and min_gap == 8:
        assert isinstance(drafts[-1], str) and 1 < len(drafts) < count


def test_frames_are_announced_before_they_are_read_and_before_the_case_in_front() -> None:
    events: list[tuple[str, int]] = []

    def read(position: int) -> NDArray[np.uint8]:
        events.append(("read", position))
        return NOISE

    sampler = VideoSampler(WALK, LOOSE, read)
    pairs = []
    for draft in draw_cases(sampler, 3, lambda positions: events.extend(("ahead", p) for p in positions)):
        assert isinstance(draft, CaseDraft)
        pairs.append((draft.first_position, draft.last_position))
        events.append(("case", len(pairs)))
    (a, b), (c, d), (e, f) = pairs
    assert events == [
        *(("ahead", a), ("ahead", b), ("read", a), ("read", b), ("ahead", c), ("ahead", d), ("case", 1)),
        *(("read", c), ("read", d), ("ahead", e), ("ahead", f), ("case", 2)),
        *(("read", e), ("read", f), ("case", 3)),
    ]

"""Draws the cases of a video one ahead, so that frames are decoded while the case before is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mmvm_data.cases.sampling import CaseDraft, Positions, Step, VideoSampler


def draw_cases(sampler: VideoSampler, count: int, prefetch: Callable[[Positions], None]) -> Iterator[CaseDraft | str]:
    """Yield what ``sampler.draw_case`` returns for the ordinals from 0 on, up to the first that there is no case for.

    Args:
        sampler: of a video.
        count: how many at most, 1 or more.
        prefetch: called with the positions of two frames that are about to be read; for the next case, before a case
            is yielded.
    """

    def advance(steps: Iterator[Step]) -> Step:
        step = next(steps)
        if isinstance(step, tuple):
            prefetch(step)
        return step

    steps = sampler.draw_steps(0)
    step = advance(steps)
    for following in range(1, count + 1):
        while isinstance(step, tuple):
            step = advance(steps)
        draft = step
        if isinstance(draft, CaseDraft) and following < count:
            steps = sampler.draw_steps(following)
            step = advance(steps)
        yield draft
        if isinstance(draft, str):
            return

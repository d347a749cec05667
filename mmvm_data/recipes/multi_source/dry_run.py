"""What a recipe is likely to give, from a few videos of each source; nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from mmvm_data.builders import Source
from mmvm_data.cases.sampling import CaseDraft, VideoSampler
from mmvm_data.core.case_facts import difficulty_name
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Video
from mmvm_data.io import media
from mmvm_data.pipeline.build import shuffle_videos
from mmvm_data.pipeline.source_defaults import with_frame_rate
from mmvm_data.recipes.multi_source.balance_levels import LEVELS, candidate_range, list_impossible
from mmvm_data.recipes.multi_source.plan import Plan, PlannedSource, count_variants

_MAX_VIDEOS = 5
_CACHED_FRAMES = 4


@dataclass(frozen=True)
class SourceEstimate:
    """What a source is likely to give.

    Attributes:
        cases: their number.
        drafts: cases that were drawn from its first videos, in the order of the build.
        wanted_none: how many of these draws were to have the answer "none of the above".
        reason: why a video gave fewer cases than it may, the commonest one; "" where all gave as many.
    """

    cases: int
    drafts: tuple[CaseDraft, ...] = ()
    wanted_none: int = 0
    reason: str = ""

    @property
    def none_drafts(self) -> int:
        """Number of drafts with the answer "none of the above"."""
        return sum(draft.answer is None for draft in self.drafts)


def estimate_cases(source: PlannedSource, opened: Source) -> SourceEstimate:
    """What a source is likely to give, from the first videos of the build's order.

    Embeddings, which only rank candidates, are left out; of variants the most that can be is assumed.
    """
    sampling = with_frame_rate(source.reader, replace(source.sampling, embeddings=None))
    videos = shuffle_videos(opened.videos, sampling.seed, source.reader)[:_MAX_VIDEOS]
    drafts: list[CaseDraft] = []
    wanted_none, reasons = 0, Counter[str]()
    for video_id in videos:
        try:
            video = opened.load(video_id)
        except InputError as error:
            reasons[str(error)] += 1
            continue
        sampler = VideoSampler(video, sampling, lru_cache(_CACHED_FRAMES)(partial(_read_frame, video)))
        for ordinal in range(sampling.max_cases_per_video):
            draft = sampler.draw_case(ordinal)
            if isinstance(draft, str):
                reasons[draft] += 1
                break
            drafts.append(draft)
            wanted_none += sampler.wants_none(ordinal)
    cases = round(len(drafts) * count_variants(sampling) * len(opened.videos) / len(videos)) if videos else 0
    reason = max(reasons, key=lambda text: (reasons[text], text), default="")
    return SourceEstimate(cases, tuple(drafts), wanted_none, reason)


def list_unreachable(plan: Plan, estimates: Sequence[SourceEstimate]) -> tuple[list[str], list[str]]:
    """What of the recipe's targets cannot be reached, and what was not found among the drawn cases; one sentence each.

    Args:
        plan: of the recipe.
        estimates: of its sources.
    """
    certain = list_impossible(plan.recipe, [source.sampling for source in plan.sources])
    drafts = [draft for estimate in estimates for draft in estimate.drafts]
    possible, balance = [], plan.recipe.balance
    for source, estimate in zip(plan.sources, estimates, strict=True):
        pool = estimate.cases * source.pool_cases_per_video // source.sampling.max_cases_per_video
        if source.wanted is not None and source.wanted <= estimate.cases and pool < source.wanted * source.pool_factor:
            possible.append(
                f"source {source.name!r}: about {pool} cases are expected to choose {source.wanted} from; pool_factor "
                f"asks for {source.wanted * source.pool_factor}"
            )
        if estimate.wanted_none and not estimate.none_drafts:
            possible.append(
                f"source {source.name!r}: {estimate.wanted_none} of {len(estimate.drafts)} cases should be "
                '"none of the above", and no object disappears'
            )
    if balance is None or not drafts:
        return certain, possible
    found = {
        "candidates": {candidate_range(len(draft.candidates)) for draft in drafts},
        "difficulty": {difficulty_name(draft.look_alikes) for draft in drafts},
    }
    for name, levels in found.items():
        target = getattr(balance, name)
        wanted = LEVELS[name] if target == "equal" else [level for level, share in (target or {}).items() if share]
        possible += [
            f"balance.{name} {level}: no such case is among the {len(drafts)} that the first videos of the sources give"
            for level in wanted
            if level not in levels and not any(text.startswith(f"balance.{name} {level}:") for text in certain)
        ]
    return certain, possible


def _read_frame(video: Video, position: int) -> NDArray[np.uint8]:
    """A frame, uint8 [h, w, 3], BGR."""
    rendered = video.render_frame(position)
    return media.load_frame(video.root, video.frames[position]).bgr if rendered is None else rendered

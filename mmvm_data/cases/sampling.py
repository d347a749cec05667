"""Chooses the frames, the query and the candidates of a case.

Everything random about a case is a function of (seed, source, video id, ordinal), so that a case does not depend on the
order of the cases, the number of workers or restarts.
"""

from __future__ import annotations

import hashlib
import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases import hardness, prompts
from mmvm_data.cases.prompts import MAX_OFFERED
from mmvm_data.cases.sampling_options import MAX_CANDIDATES, VARIANT_SIZES, SamplingOptions
from mmvm_data.cases.tracks import Tracks, at_edge
from mmvm_data.cases.visibility import VisibleObject, find_visible_objects, is_proposal
from mmvm_data.core.errors import InputError
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import Candidate, Case, Frame, Provenance, Video

_GONE_ATTEMPTS = 8  # more attempts only cost time where nothing disappears
_NEAREST_FRAMES = 5  # annotated frames on each side of an absence from which the images are drawn
_SAME_TIME = 1e-6  # seconds, for times that are quotients of numbers of frames
_CACHED_FRAMES = 16  # frames whose objects are kept in memory

ReadFrame = Callable[[int], NDArray[np.uint8]]
"""Position in the video -> its frame, uint8 [h, w, 3] BGR."""
Positions = tuple[int, int]
"""Positions of the first and the last frame of a case."""


@dataclass(frozen=True)
class CaseDraft:
    """A case before its images are drawn and its question is written.

    Attributes:
        first_position, last_position: positions of the two images in the video.
        query: the query in the first image.
        candidates: in the order of their numbers 1, 2, …
        answer: number of the right candidate, at most MAX_OFFERED, or None.
        look_alikes: number of candidates of the query's category, the answer not counted.
        visible: number of usable objects of the last image, before the hardest were kept.
        facts: what is special about the case, for its provenance: JSON values by name.
    """

    first_position: int
    last_position: int
    query: VisibleObject
    candidates: tuple[VisibleObject, ...]
    answer: int | None
    look_alikes: int
    visible: int
    facts: dict[str, Any] = field(default_factory=dict)


Step = Positions | CaseDraft | str
"""Of drawing a case: the positions of two frames that are about to be read, and at last a case or why there is none."""


def make_case(
    draft: CaseDraft, video: Video, case_id: str, frames: tuple[Frame, Frame], provenance: Provenance | None = None
) -> Case:
    """Return the record of a draft, with the benchmark's question.

    Args:
        draft: of a case.
        video: that it was drawn from.
        case_id: its id.
        frames: its two images, with the paths that the record is to have.
        provenance: where it is from.
    """
    numbers = range(1, len(draft.candidates) + 1)
    return Case(
        id=case_id,
        frames=frames,
        query=(draft.query.region,),
        candidates=tuple(Candidate(number=n, region=s.region) for n, s in zip(numbers, draft.candidates, strict=True)),
        answer=draft.answer,
        prompt=video.prompt,
        question=prompts.format_question(video.prompt),
        options=prompts.build_options(numbers, draft.answer),
        provenance=provenance,
    )


class VideoSampler:
    """Draws the cases of one video, in the order of their ordinals.

    Attributes:
        problems: errors of the frames that were tried and cannot be read, each error once.
    """

    def __init__(
        self,
        video: Video,
        options: SamplingOptions,
        read_frame: ReadFrame,
        embedding_ranker: hardness.EmbeddingRanker | None = None,
    ) -> None:
        """
        Args:
            video: the video to draw from.
            options: rules for drawing cases.
            read_frame: reads a frame; raises InputError. A frame that cannot be read is not tried again.
            embedding_ranker: the model that ``options.embeddings`` names.

        Raises:
            ValueError: ``options.embeddings`` is set but ``embedding_ranker`` is missing, or the reverse.
        """
        if (options.embeddings is None) != (embedding_ranker is None):
            raise ValueError("options.embeddings and embedding_ranker must be given together")
        self.video = video
        self.options = options
        self.problems: list[InputError] = []
        self._read_frame = read_frame
        self._embedding_ranker = embedding_ranker
        self._usable_positions = list(video.annotated)
        self._objects: dict[int, tuple[list[VisibleObject], frozenset[str]]] = {}
        self._drawn: set[tuple[str, int, int]] = set()
        self._tracks: Tracks | None = None

    @property
    def is_unreadable(self) -> bool:
        """Whether errors left fewer than two frames to draw from."""
        return bool(self.problems) and len(self._usable_positions) < 2

    def draw_case(self, ordinal: int) -> CaseDraft | str:
        """The case with this ordinal, or one sentence that says why there is none."""
        return next(step for step in self.draw_steps(ordinal) if not isinstance(step, tuple))

    def wants_none(self, ordinal: int) -> bool:
        """Whether the case with this ordinal is to have the answer "none of the above", where something disappears."""
        return self._begin_case(ordinal)[1]

    def _begin_case(self, ordinal: int) -> tuple[random.Random, bool]:
        """The random generator of a case, and what it decides first: see ``wants_none``."""
        rng = case_rng(self.options.seed, self.video.source, self.video.id, ordinal)
        return rng, rng.random() < self.options.none_share

    def draw_steps(self, ordinal: int) -> Iterator[Step]:
        """What ``draw_case`` returns, and before it the positions of each two frames that are about to be read."""
        yield (yield from self._find_case(ordinal))

    def _find_case(self, ordinal: int) -> Generator[Positions, None, CaseDraft | str]:
        options = self.options
        rng, wants_none = self._begin_case(ordinal)
        reasons: dict[str, int] = {}
        if options.reappear_share and not wants_none and rng.random() < options.reappear_share:
            reappearance = yield from self._draw_reappearance(rng)
            if reappearance:
                return reappearance
        wants_moved = bool(options.moved_share) and not wants_none and rng.random() < options.moved_share
        kinds = [kind for kind, is_wanted in (("gone", wants_none), ("moved", wants_moved)) if is_wanted]
        for kind in (*kinds, "any"):
            for _ in range(min(options.attempts, _GONE_ATTEMPTS) if kind == "gone" else options.attempts):
                pair = self._draw_positions(rng)
                if pair is None:
                    return self._explain_no_pair()
                draft = yield from self._draft_case(rng, *pair, gone=kind == "gone", moved=kind == "moved")
                if isinstance(draft, CaseDraft):
                    return self._remember(draft)
                reasons[draft] = reasons.get(draft, 0) + 1
        most = max(reasons, key=lambda reason: (reasons[reason], reason))
        return f"no case in {pluralize(sum(reasons.values()), 'pair')} of frames, mostly: {most}"

    def build_variants(self, draft: CaseDraft, ordinal: int) -> list[tuple[str, CaseDraft]]:
        """The variants of a case by name, those with fewer candidates first, the case itself ("all") last.

        Args:
            draft: from ``draw_case``, with all candidates.
            ordinal: ordinal of the case.
        """
        first_image, last_image = self._read_frame(draft.first_position), self._read_frame(draft.last_position)
        answer = None if draft.answer is None else draft.candidates[draft.answer - 1]
        others = sorted((c for c in draft.candidates if c is not answer), key=lambda c: c.region.id)
        order = hardness.rank_candidates(first_image, draft.query, last_image, others, self._embedding_ranker)
        variants = []
        for size in VARIANT_SIZES:
            if size >= len(draft.candidates):
                break
            kept = [others[k] for k in order[: size - (answer is not None)]]
            kept += [answer] if answer is not None else []
            kept.sort(key=lambda c: c.region.id)
            case_rng(self.options.seed, self.video.source, self.video.id, ordinal, f"{size}").shuffle(kept)
            number = None if answer is None else kept.index(answer) + 1
            look_alikes = _count_look_alikes(draft.query, kept)
            variant = replace(draft, candidates=tuple(kept), answer=number, look_alikes=look_alikes)
            variants.append((str(size), variant))
        return [*variants, ("all", draft)]

    def _remember(self, draft: CaseDraft) -> CaseDraft:
        """The draft; its query is not drawn again in these two frames."""
        self._drawn.add((draft.query.region.id, draft.first_position, draft.last_position))
        return draft

    def _draw_reappearance(self, rng: random.Random) -> Generator[Positions, None, CaseDraft | None]:
        """A case whose query is absent in between, or None where there is none."""
        tracks = self._load_tracks()
        indices = [frame.index for frame in self.video.frames]
        low, high = self.options.min_gap, self.options.max_gap or indices[-1]
        absences = tracks.absences()
        for _ in range(self.options.attempts if absences else 0):
            track, absent_from, back_at = absences[rng.randrange(len(absences))]
            present = tracks.present[track]
            first = rng.choice([p for p in present if p < absent_from][-_NEAREST_FRAMES:])
            last = rng.choice([p for p in present if p >= back_at][:_NEAREST_FRAMES])
            if not self._are_apart(first, last):
                continue
            if low <= indices[last] - indices[first] <= high and {first, last} <= set(self._usable_positions):
                draft = yield from self._draft_case(rng, first, last, gone=False, only=track)
                if isinstance(draft, CaseDraft):
                    absent_frames = tracks.count_absent_frames(track, first, last)
                    return self._remember(replace(draft, facts={"reappears": absent_frames}))
        return None

    def _load_tracks(self) -> Tracks:
        """The frames in which each object is visible; reads every annotation of the video, once."""
        if self._tracks is None:
            visible_ids: dict[int, frozenset[str]] = {}
            for position in list(self._usable_positions):
                try:
                    _, visible_ids[position] = self._load_objects(position)
                except InputError:
                    continue  # the frame was dropped, and its error noted
            self._tracks = Tracks.from_frames(visible_ids)
        return self._tracks

    def _has_left(self, track: str, last: int) -> bool:
        """Whether an object that is absent from the frame at position ``last`` moved out of the frame."""
        tracks = self._load_tracks()
        earlier = [p for p in tracks.present.get(track, []) if p < last]
        following = [p for p in tracks.positions if p > last][:1]
        if not earlier or (following and following[0] in tracks.present[track]):
            return False
        frame = self.video.frames[earlier[-1]]
        region = next(r for r in self.video.regions(earlier[-1]) if r.id == track)
        return at_edge(region, frame.width, frame.height)

    def _draw_positions(self, rng: random.Random) -> tuple[int, int] | None:
        """Positions of two frames at an allowed distance."""
        positions = self._usable_positions
        if self.video.order == "views" and len(positions) > 1:
            first, last = rng.sample(positions, 2)
            return first, last
        indices = [self.video.frames[p].index for p in positions]
        seconds = []
        if self.options.min_seconds:
            times = [self._time_of(p) for p in positions]
            seconds = [time for time in times if time is not None]
            if len(seconds) < len(times):
                return None
        for _ in range(64):
            if len(positions) < 2:
                return None
            start = rng.randrange(len(positions) - 1)
            low = bisect_left(indices, indices[start] + self.options.min_gap, lo=start + 1)
            if seconds:
                earliest = seconds[start] + self.options.min_seconds - _SAME_TIME
                low = max(low, bisect_left(seconds, earliest, lo=start + 1))
            high = len(positions)
            if self.options.max_gap is not None:
                high = bisect_right(indices, indices[start] + self.options.max_gap, lo=start + 1)
            if low < high:
                return positions[start], positions[rng.randrange(low, high)]
        return None

    def _time_of(self, position: int) -> float | None:
        """Seconds from the start of the video, None where neither the source nor the options say."""
        frame = self.video.frames[position]
        if frame.time is not None or self.options.frame_rate is None:
            return frame.time
        return frame.index / self.options.frame_rate

    def _are_apart(self, first: int, last: int) -> bool:
        """Whether two frames are as many seconds apart as is asked for."""
        if not self.options.min_seconds:
            return True
        start, end = self._time_of(first), self._time_of(last)
        return start is not None and end is not None and end - start >= self.options.min_seconds - _SAME_TIME

    def _explain_no_pair(self) -> str:
        if self.video.order == "views":
            return "no two readable views"
        if self.options.min_seconds and any(self._time_of(p) is None for p in self._usable_positions):
            return "the source does not say its frame rate: min_seconds needs `frame_rate`"
        low, high = self.options.min_gap, self.options.max_gap
        bounds = f"{low} to {'any number of' if high is None else high}"
        seconds = f" and {self.options.min_seconds:g} seconds" if self.options.min_seconds else ""
        return f"no two readable annotated frames that lie {bounds} frames{seconds} apart"

    def _draft_case(
        self, rng: random.Random, first: int, last: int, gone: bool, only: str | None = None, moved: bool = False
    ) -> Generator[Positions, None, CaseDraft | str]:
        """A case of two frames, or why there is none; yields them before they are read.

        Args:
            rng: draws the query and the order of the candidates.
            first, last: positions of the two frames.
            gone: whether the query must be absent from the last frame.
            only: id of the one object that may be the query; None: any.
            moved: whether another candidate must be nearer to the query's place than the query is in the last frame.
        """
        options = self.options
        try:
            first_objects, first_present = self._load_objects(first)
            last_objects, present = self._load_objects(last)
        except InputError:
            return "a frame's annotation cannot be read"
        by_id = {candidate.region.id: candidate for candidate in last_objects}
        queries = [q for q in first_objects if not is_proposal(q.region)]
        queries = [q for q in queries if (q.region.id not in present if gone else q.region.id in by_id)]
        queries = [q for q in queries if (q.region.id, first, last) not in self._drawn]
        queries = [q for q in queries if only is None or q.region.id == only]
        if moved:
            queries = [q for q in queries if self._has_moved(q, by_id[q.region.id], last_objects, first, last)]
            if not queries:
                return "no object moves past another"
        if gone and options.gone == "left":
            queries = [q for q in queries if self._has_left(q.region.id, last)]
        if not queries:
            return "no object disappears" if gone else _explain_no_query(first_present, present)
        if len(last_objects) < options.min_candidates:
            return f"fewer than {options.min_candidates} candidates are clearly visible in the second image"
        if options.look_alikes != "any":
            alike = [q for q in queries if _count_look_alikes(q, last_objects) > 0]
            if not alike and options.look_alikes == "require":
                return "no query has a look-alike"
            queries = alike or queries
        query = queries[rng.randrange(len(queries))]
        answer = by_id.get(query.region.id)
        yield first, last
        images = []
        for position in (first, last):
            try:
                images.append(self._read_frame(position))
            except InputError as error:
                self._drop_frame(position, error)
                return "a frame cannot be read"
        first_image, last_image = images
        if hardness.measure_sharpness(first_image, query.box) < options.min_sharpness or (
            answer is not None and hardness.measure_sharpness(last_image, answer.box) < options.min_sharpness
        ):
            return "the query is blurred"
        for image, shown in ((first_image, query), (last_image, answer)):
            if shown is not None and (reason := self._explain_indistinct(image, shown)):
                return reason
        limit = min(options.candidates or MAX_CANDIDATES, MAX_CANDIDATES)
        kept = last_objects
        if len(last_objects) > limit:
            others = [c for c in last_objects if c is not answer]
            order = hardness.rank_candidates(first_image, query, last_image, others, self._embedding_ranker)
            kept = [others[k] for k in order[: limit - (answer is not None)]]
            kept += [answer] if answer is not None else []
            if moved and answer is not None and not self._has_moved(query, answer, kept, first, last):
                return "no object moves past another"
        kept = sorted(kept, key=lambda c: c.region.id)
        rng.shuffle(kept)
        if answer is not None and (index := kept.index(answer)) >= MAX_OFFERED:
            # the options are the lowest numbers; a higher one among them would give the answer away
            other = rng.randrange(MAX_OFFERED)
            kept[index], kept[other] = kept[other], answer
        return CaseDraft(
            first_position=first,
            last_position=last,
            query=query,
            candidates=tuple(kept),
            answer=None if answer is None else kept.index(answer) + 1,
            look_alikes=_count_look_alikes(query, kept),
            visible=len(last_objects),
            facts={"gone": "left"} if gone and options.gone == "left" else {"moved": True} if moved else {},
        )

    def _has_moved(
        self, query: VisibleObject, answer: VisibleObject, candidates: list[VisibleObject], first: int, last: int
    ) -> bool:
        """Whether another candidate is nearer to the query's place in the first frame than the answer is."""
        place = _relative_center(query, self.video.frames[first])
        frame = self.video.frames[last]
        others = [_relative_center(c, frame) for c in candidates if c.region.id != answer.region.id]
        return min((math.dist(place, other) for other in others), default=math.inf) < math.dist(
            place, _relative_center(answer, frame)
        )

    def _explain_indistinct(self, image: NDArray[np.uint8], query: VisibleObject) -> str | None:
        """Why a query is too small or fades into what is around it; None where it does not."""
        options = self.options
        if options.min_share and query.area < options.min_share * image.shape[0] * image.shape[1]:
            return "the query is a small part of the image"
        if options.min_contrast and hardness.measure_contrast(image, query) < options.min_contrast:
            return "the query hardly differs from what is around it"
        return None

    def _drop_frame(self, position: int, error: InputError) -> None:
        """Do not try this frame again, and note its error."""
        if position in self._usable_positions:
            self._usable_positions.remove(position)
            if str(error) not in map(str, self.problems):  # a broken file of many frames fails for each of them
                self.problems.append(error)

    def _load_objects(self, position: int) -> tuple[list[VisibleObject], frozenset[str]]:
        """The usable objects of a frame, and the ids of all that are visible at all."""
        if position not in self._objects:
            try:
                regions = self.video.regions(position)
                self._objects[position] = find_visible_objects(regions, self.video.frames[position], self.options)
            except InputError as error:
                self._drop_frame(position, error)
                raise
            if len(self._objects) > _CACHED_FRAMES:
                del self._objects[next(iter(self._objects))]
        return self._objects[position]


def _explain_no_query(first_present: frozenset[str], last_present: frozenset[str]) -> str:
    if not first_present or not last_present:
        return "no object is annotated in one of the images"
    if not first_present & last_present:
        return "no object is annotated in both images"
    return "no further object is clearly visible in both images"


def case_rng(seed: int, source: str, video: str, ordinal: int, *parts: str) -> random.Random:
    """The random generator of one case (or, with ``parts``, of a part of it), a function of the arguments alone."""
    key = "\0".join((str(seed), source, video, str(ordinal), *parts))
    return random.Random(int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest(), "big"))


def _relative_center(visible: VisibleObject, frame: Frame) -> tuple[float, float]:
    """x, y of the center of an object's box, as shares of the frame's sides."""
    x, y, width, height = visible.box
    return (x + width / 2) / frame.width, (y + height / 2) / frame.height


def _count_look_alikes(query: VisibleObject, candidates: list[VisibleObject]) -> int:
    """Candidates of the query's category, the query itself not counted; 0 where it has no category."""
    if query.region.category is None:
        return 0
    return sum(c.region.category == query.region.category and c.region.id != query.region.id for c in candidates)

"""Chooses the frames, the query and the candidates of a case.

Everything random about a case comes from (seed, source, video id, ordinal), so that the same case comes out whatever
the order, the number of workers or the restarts.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from mmvm_data.cases import hardness
from mmvm_data.cases.prompts import MAX_OFFERED
from mmvm_data.cases.tracks import Tracks, at_edge
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.options import options
from mmvm_data.core.types import Region, Rle, Video

MAX_CANDIDATES = 37
"""Largest number of candidates in the published benchmark."""

_GONE_ATTEMPTS = 8  # where nothing disappears, looking for long only costs time
_NEAR = 5  # annotated frames on each side of an absence from which the images are drawn

VARIANTS = (4, 8, 12)
"""Numbers of candidates of the variants of a case, beside all."""

LookAlikes = Literal["prefer", "require", "any"]
Gone = Literal["absent", "left"]
ReadPixels = Callable[[int], np.ndarray]
"""Position in the video -> its frame, uint8 [h, w, 3] BGR."""


@options
class SamplingOptions:
    """Rules for drawing cases from a video.

    Attributes:
        seed: any integer.
        cases_per_video: cases drawn from each video, at most.
        min_gap, max_gap: bounds on the distance of the two images, in frames of the source; None: no upper bound.
        min_area: visible pixels of an object, in both images.
        min_side: pixels of the shorter side of its box; its mean thickness must be half of that.
        max_occlusion: largest share (0..1) of an object that another object may cover.
        min_sharpness: smallest variance of the Laplacian (gray levels squared) in the query's box.
        none_share: share (0..1) of cases whose query is gone in the last image. Where nothing disappears, a case with
            an answer is drawn instead.
        gone: what counts as gone: ``absent`` from the last image's annotation, or ``left``, out of the picture: the
            query was last seen at the edge of the frame, and is not back in the next annotated frame. An object that
            another one hides is absent, but has not left.
        reappear_share: share (0..1) of cases whose query is absent in between, in one annotated frame or more. Where
            nothing reappears, another case is drawn instead.
        candidates: number of candidates to keep, the hardest ones; None keeps all (37 at most).
        variants: also write each case with the hardest 4, 8 and 12 candidates (see ``VARIANTS``), where it has more.
            The variants of a case share an id and differ in their candidates only.
        min_candidates: an image pair with fewer makes no case.
        look_alikes: whether the query should have a candidate of its own category beside the answer.
        attempts: pairs of frames that are tried for one case.
        embeddings: name of a vision model whose features also count in ranking candidates; the caller passes the model
            itself to ``VideoSampler``.

    Raises:
        OptionError: a value is out of range, ``max_gap`` is below ``min_gap``, ``candidates`` is below
            ``min_candidates``, ``variants`` comes with ``candidates``, or ``embeddings`` with neither of the two.
    """

    seed: int = 0
    cases_per_video: Annotated[int, Field(ge=1)] = 4
    min_gap: Annotated[int, Field(ge=1)] = 1
    max_gap: Annotated[int, Field(ge=1)] | None = 100
    min_area: Annotated[int, Field(ge=1)] = 400
    min_side: Annotated[int, Field(ge=1)] = 12
    max_occlusion: Annotated[float, Field(ge=0, le=1)] = 0.6
    min_sharpness: Annotated[float, Field(ge=0)] = 20.0
    none_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    gone: Gone = "absent"
    reappear_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    candidates: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] | None = None
    variants: bool = False
    min_candidates: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 2
    look_alikes: LookAlikes = "prefer"
    attempts: Annotated[int, Field(ge=1)] = 32
    embeddings: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.max_gap is not None and self.max_gap < self.min_gap:
            raise ValueError(f"max_gap must be at least min_gap ({self.min_gap}), got {self.max_gap}")
        low = self.min_candidates
        if self.candidates is not None and self.candidates < low:
            raise ValueError(f"candidates must be at least min_candidates ({low}), got {self.candidates}")
        if self.variants and self.candidates is not None:
            raise ValueError("variants keeps 4, 8, 12 and all candidates; it cannot be combined with `candidates`")
        if self.embeddings is not None and self.candidates is None and not self.variants:
            raise ValueError("embeddings ranks candidates where some are left out; it needs `candidates` or `variants`")
        return self


@dataclass(frozen=True)
class Seen:
    """One object of one frame with its whole-pixel mask (of a box: its filled rectangle)."""

    region: Region
    rle: Rle
    area: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Draft:
    """A case before it has pixels and words.

    Attributes:
        first, last: positions of the two images in the video.
        query: the query in the first image.
        candidates: in the order of their numbers 1, 2, …
        answer: number of the right one, at most MAX_OFFERED, or None.
        look_alikes: candidates of the query's category, the answer not counted.
        visible: usable objects of the last image before the hardest were kept.
        facts: what is special about the case, plain JSON values by name, for its provenance.
    """

    first: int
    last: int
    query: Seen
    candidates: tuple[Seen, ...]
    answer: int | None
    look_alikes: int
    visible: int
    facts: dict[str, Any] = field(default_factory=dict)


class VideoSampler:
    """Draws the cases of one video, in the order of their ordinals."""

    def __init__(self, video: Video, options: SamplingOptions, pixels: ReadPixels) -> None:
        """
        Args:
            video: where cases come from.
            options: what makes a good case.
            pixels: reads a frame; raises InputError. A frame that cannot be read is not asked for again.
        """
        self.video = video
        self.options = options
        self.problems: list[InputError] = []
        """What was wrong with frames that were tried, each named once."""
        self._pixels = pixels
        self._usable = list(video.annotated)
        self._objects: dict[int, tuple[list[Seen], frozenset[str]]] = {}
        self._taken: set[tuple[str, int, int]] = set()
        self._tracks: Tracks | None = None

    def draw(self, ordinal: int) -> Draft | str:
        """The case with this ordinal, or in one sentence why there is none."""
        options = self.options
        rng = random_for(options.seed, self.video.source, self.video.id, ordinal)
        wants_none = rng.random() < options.none_share
        reasons: dict[str, int] = {}
        if options.reappear_share and not wants_none and rng.random() < options.reappear_share:
            returning = self._draw_return(rng)
            if returning:
                return returning
        for gone in (True, False) if wants_none else (False,):
            for _ in range(min(options.attempts, _GONE_ATTEMPTS) if gone else options.attempts):
                pair = self._pair(rng)
                if pair is None:
                    return self._no_pair()
                draft = self._try(rng, *pair, gone=gone)
                if isinstance(draft, Draft):
                    return self._take(draft)
                reasons[draft] = reasons.get(draft, 0) + 1
        most = max(reasons, key=lambda reason: (reasons[reason], reason))
        return f"no case in {sum(reasons.values())} pairs of frames, mostly: {most}"

    def variants(self, draft: Draft, ordinal: int) -> list[tuple[str, Draft]]:
        """The variants of a case by name, those with fewer candidates first, the case itself ("all") last.

        Args:
            draft: from ``draw``, with all candidates.
            ordinal: of the case.
        """
        before, after = self._pixels(draft.first), self._pixels(draft.last)
        answer = None if draft.answer is None else draft.candidates[draft.answer - 1]
        others = sorted((c for c in draft.candidates if c is not answer), key=lambda seen: seen.region.id)
        order = hardness.hardest(before, draft.query, after, others, self.options.embeddings)
        made = []
        for size in VARIANTS:
            if size >= len(draft.candidates):
                break
            kept = [others[k] for k in order[: size - (answer is not None)]]
            kept += [answer] if answer is not None else []
            kept.sort(key=lambda seen: seen.region.id)
            random_for(self.options.seed, self.video.source, self.video.id, ordinal, f"{size}").shuffle(kept)
            number = None if answer is None else kept.index(answer) + 1
            alike = _look_alikes(draft.query, kept)
            made.append((str(size), replace(draft, candidates=tuple(kept), answer=number, look_alikes=alike)))
        return [*made, ("all", draft)]

    def _take(self, draft: Draft) -> Draft:
        self._taken.add((draft.query.region.id, draft.first, draft.last))
        return draft

    def _draw_return(self, rng: random.Random) -> Draft | None:
        """A case whose query is away in between, or None where none can be made."""
        tracks = self._seen()
        indices = [frame.index for frame in self.video.frames]
        low, high = self.options.min_gap, self.options.max_gap or indices[-1]
        absences = tracks.absences()
        for _ in range(self.options.attempts if absences else 0):
            track, away, back = absences[rng.randrange(len(absences))]
            present = tracks.present[track]
            first = rng.choice([p for p in present if p < away][-_NEAR:])
            last = rng.choice([p for p in present if p >= back][:_NEAR])
            if low <= indices[last] - indices[first] <= high and {first, last} <= set(self._usable):
                draft = self._try(rng, first, last, gone=False, only=track)
                if isinstance(draft, Draft):
                    return self._take(replace(draft, facts={"reappears": tracks.away(track, first, last)}))
        return None

    def _seen(self) -> Tracks:
        """Where each object shows at all; reads every annotation of the video, once."""
        if self._tracks is None:
            shows: dict[int, frozenset[str]] = {}
            for position in list(self._usable):
                try:
                    _, shows[position] = self._look(position)
                except InputError:
                    continue  # it was given up, and is a problem
            self._tracks = Tracks.of(shows)
        return self._tracks

    def _left(self, track: str, last: int) -> bool:
        """Whether an object that is absent from the frame at ``last`` went over the picture's edge."""
        tracks = self._seen()
        seen = [p for p in tracks.present.get(track, []) if p < last]
        following = [p for p in tracks.positions if p > last][:1]
        if not seen or (following and following[0] in tracks.present[track]):
            return False
        frame = self.video.frames[seen[-1]]
        region = next(r for r in self.video.regions(seen[-1]) if r.id == track)
        return at_edge(region, frame.width, frame.height)

    def _pair(self, rng: random.Random) -> tuple[int, int] | None:
        """Positions of two frames at an allowed distance."""
        places = self._usable
        if self.video.order == "views" and len(places) > 1:
            first, last = rng.sample(places, 2)
            return first, last
        indices = [self.video.frames[p].index for p in places]
        for _ in range(64):
            if len(places) < 2:
                return None
            i = rng.randrange(len(places) - 1)
            low = bisect_left(indices, indices[i] + self.options.min_gap, lo=i + 1)
            high = len(places)
            if self.options.max_gap is not None:
                high = bisect_right(indices, indices[i] + self.options.max_gap, lo=i + 1)
            if low < high:
                return places[i], places[rng.randrange(low, high)]
        return None

    def _no_pair(self) -> str:
        if self.video.order == "views":
            return "no two readable views"
        bounds = (
            f"{self.options.min_gap} to {'any number of' if self.options.max_gap is None else self.options.max_gap}"
        )
        return f"no two readable annotated frames that lie {bounds} frames apart"

    def _try(self, rng: random.Random, first: int, last: int, gone: bool, only: str | None = None) -> Draft | str:
        options = self.options
        try:
            here, _ = self._look(first)
            there, present = self._look(last)
        except InputError:
            return "a frame's annotation cannot be read"
        by_id = {seen.region.id: seen for seen in there}
        here = [seen for seen in here if not is_proposal(seen.region)]
        queries = [q for q in here if (q.region.id not in present if gone else q.region.id in by_id)]
        queries = [q for q in queries if (q.region.id, first, last) not in self._taken]
        queries = [q for q in queries if only is None or q.region.id == only]
        if gone and options.gone == "left":
            queries = [q for q in queries if self._left(q.region.id, last)]
        if not queries:
            return "no object disappears" if gone else "no further object that shows well in both"
        if len(there) < options.min_candidates:
            return f"fewer than {options.min_candidates} candidates show well in the second image"
        if options.look_alikes != "any":
            alike = [q for q in queries if _look_alikes(q, there) > 0]
            if not alike and options.look_alikes == "require":
                return "no query has a look-alike"
            queries = alike or queries
        query = queries[rng.randrange(len(queries))]
        answer = by_id.get(query.region.id)
        images = []
        for position in (first, last):
            try:
                images.append(self._pixels(position))
            except InputError as error:
                self._give_up(position, error)
                return "a frame cannot be read"
        before, after = images
        if hardness.sharpness(before, query.box) < options.min_sharpness or (
            answer is not None and hardness.sharpness(after, answer.box) < options.min_sharpness
        ):
            return "the query is blurred"
        limit = min(options.candidates or MAX_CANDIDATES, MAX_CANDIDATES)
        kept = there
        if len(there) > limit:
            others = [s for s in there if s is not answer]
            order = hardness.hardest(before, query, after, others, options.embeddings)
            kept = [others[k] for k in order[: limit - (answer is not None)]]
            kept += [answer] if answer is not None else []
        kept = sorted(kept, key=lambda s: s.region.id)
        rng.shuffle(kept)
        if answer is not None and (place := kept.index(answer)) >= MAX_OFFERED:
            # options are the lowest numbers; one above them among the letters would be known as the answer
            other = rng.randrange(MAX_OFFERED)
            kept[place], kept[other] = kept[other], answer
        return Draft(
            first=first,
            last=last,
            query=query,
            candidates=tuple(kept),
            answer=None if answer is None else kept.index(answer) + 1,
            look_alikes=_look_alikes(query, kept),
            visible=len(there),
            facts={"gone": "left"} if gone and options.gone == "left" else {},
        )

    def _give_up(self, position: int, error: InputError) -> None:
        if position in self._usable:
            self._usable.remove(position)
            if str(error) not in map(str, self.problems):  # a file of many frames fails for each of them
                self.problems.append(error)

    def _look(self, position: int) -> tuple[list[Seen], frozenset[str]]:
        """Objects of a frame that show well, and the ids of all that are there at all."""
        if position not in self._objects:
            try:
                self._objects[position] = self._inspect(position)
            except InputError as error:
                self._give_up(position, error)
                raise
            if len(self._objects) > 16:
                del self._objects[next(iter(self._objects))]
        return self._objects[position]

    def _inspect(self, position: int) -> tuple[list[Seen], frozenset[str]]:
        frame = self.video.frames[position]
        regions = self.video.regions(position)
        size = (frame.height, frame.width)
        for region in regions:
            if region.mask is not None and region.mask.size != size:
                raise InputError(
                    frame.path,
                    f"mask of {region.mask.size[1]} x {region.mask.size[0]} on a frame of {size[1]} x {size[0]}",
                    field=f"object {region.id}",
                )
        rles = [_whole_pixels(region, size) for region in regions]
        areas, boxes = masks.areas(rles), masks.bboxes(rles)
        covered = _covered(rles, areas)
        options = self.options
        good = []
        for k, region in enumerate(regions):
            short, long = sorted(boxes[k, 2:].tolist())
            if (
                areas[k] >= options.min_area
                and short >= options.min_side
                and areas[k] >= long * options.min_side / 2
                and covered[k] <= options.max_occlusion
                and 1 - float(region.extra.get("visibility", 1.0)) <= options.max_occlusion
            ):
                x, y, w, h = boxes[k].tolist()
                good.append(Seen(region, rles[k], int(areas[k]), (x, y, w, h)))
        return good, frozenset(r.id for r, area in zip(regions, areas, strict=True) if area)


def random_for(seed: int, source: str, video: str, ordinal: int, *more: str) -> random.Random:
    """The random numbers of one case (or, with ``more``, of a part of it), a function of these alone."""
    name = "\0".join((str(seed), source, video, str(ordinal), *more))
    return random.Random(int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest(), "big"))


def is_proposal(region: Region) -> bool:
    """Whether a region is a proposal (see ``builders.proposals``): a candidate at most, since it has no identity over
    the video."""
    return region.extra.get("proposal") is True


def _look_alikes(query: Seen, candidates: list[Seen]) -> int:
    if query.region.category is None:
        return 0
    return sum(c.region.category == query.region.category and c.region.id != query.region.id for c in candidates)


def _whole_pixels(region: Region, size: tuple[int, int]) -> Rle:
    if region.mask is not None:
        return region.mask
    assert region.box is not None  # a region has one of the two
    return masks.from_box(region.box, *size)


def _covered(rles: list[Rle], areas: np.ndarray) -> np.ndarray:
    """Share of each object that lies under the one other object that covers it most: float [n]."""
    if len(rles) < 2:
        return np.zeros(len(rles))
    shared = masks.intersections(rles, rles).astype(float)
    np.fill_diagonal(shared, 0)
    return shared.max(axis=1) / np.maximum(areas, 1)

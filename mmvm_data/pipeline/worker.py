"""One video -> its cases, written to a staging folder. What a worker does."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from mmvm_data.builders import open_source
from mmvm_data.builders.source import Source
from mmvm_data.cases import prompts, render
from mmvm_data.cases.hardness import EmbeddingRanker, EmbeddingRankerFactory
from mmvm_data.cases.sampling import CaseDraft, VideoSampler
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.cases.visibility import VisibleObject, is_proposal
from mmvm_data.core import masks, polygons
from mmvm_data.core.errors import InputError, OutputError, Reject
from mmvm_data.core.types import Candidate, Case, Frame, Provenance, Video
from mmvm_data.core.version import __version__
from mmvm_data.formats import bench
from mmvm_data.formats.drawing import jpeg
from mmvm_data.io import media, remote
from mmvm_data.pipeline.embedding_rankers import open_embedding_ranker

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
_HELD_BYTES = 64 << 20  # of clean frames, for one video
_HELD_OUTLINES = 256  # of objects, for one video
_UNNAMED = "case_#######"
"""Stands for a case's name until its number is known."""


@dataclass(frozen=True)
class Shop:
    """What a worker keeps: the opened source, where to put cases, and how they are made."""

    source: Source
    stage: Path
    sampling: SamplingOptions
    quality: int
    embedding_ranker: EmbeddingRanker | None = None


@dataclass(frozen=True)
class Made:
    """One case: its record as a line of JSON (without its name), and whether it has no answer."""

    line: bytes
    none: bool


@dataclass(frozen=True)
class Outcome:
    """All of one video. Case k lies in the staging folder under ``staged(unit, k)``."""

    cases: list[Made] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def open_shop(
    source: str,
    root: Path | str,
    cache: Path | None,
    stage: Path,
    sampling: SamplingOptions,
    quality: int,
    proposals: Path | None = None,
    ranker_factory: EmbeddingRankerFactory | None = None,
) -> Shop:
    """Open the source in this process. See ``pipeline.BuildOptions`` for the arguments."""
    cv2.setNumThreads(1)  # the workers share the cores
    _keep_memory()
    if isinstance(root, str):
        root = remote.open_mirror(root, refresh=False)
    ranker = None if sampling.embeddings is None else open_embedding_ranker(sampling.embeddings, ranker_factory)
    return Shop(open_source(source, root, cache, proposals), stage, sampling, quality, ranker)


def make_video(shop: Shop, job: tuple[int, str]) -> Outcome:
    """Make the cases of one video.

    Args:
        shop: from ``open_shop``.
        job: number of the video in the build, and its id.

    Returns:
        cases and rejects. A broken frame is a reject and its case is made from other frames; a video that gives fewer
        cases than asked says so in one reject.

    Raises:
        OutputError: the staging folder cannot be written.
    """
    unit, name = job
    source = shop.source.name
    try:
        video = shop.source.load(name)
    except InputError as error:
        return Outcome(rejects=[_reject(source, name, error, shop.source.root)])
    frames = _Frames(video)
    sampler = VideoSampler(video, shop.sampling, frames.bgr, shop.embedding_ranker)
    cases: list[Made] = []
    made = 0
    shortage: list[Reject] = []
    for ordinal in range(shop.sampling.cases_per_video):
        draft = sampler.draw_case(ordinal)
        if isinstance(draft, str):
            # what comes after would look through the same frames again
            reason = draft if not made else f"{made} of {shop.sampling.cases_per_video} cases: {draft}"
            shortage = [Reject(source, name, ordinal if cases else -1, reason)]
            break
        for variant, kept in sampler.build_variants(draft, ordinal) if shop.sampling.variants else [(None, draft)]:
            case = _case(video, kept, ordinal, shop.sampling, variant)
            folder = shop.stage / staged(unit, len(cases))
            try:
                folder.mkdir(exist_ok=True)
                _write(folder, case, kept, frames, shop.quality)
            except OSError as error:
                raise OutputError(error.filename or folder, error) from error
            cases.append(Made(case.model_dump_json().encode() + b"\n", case.answer is None))
        made = ordinal + 1
    problems = [_reject(source, name, problem, video.root, frame=True) for problem in sampler.problems]
    return Outcome(cases, problems + shortage)


def staged(unit: int, number: int) -> str:
    """Folder name of a video's case, counted from 0, in the staging folder."""
    return f"{unit}-{number}"


def named(line: bytes, name: str) -> bytes:
    """The record with the case's name in its id and in the paths of its images."""
    before = line.replace(_UNNAMED.encode(), name.encode())
    return before if line.count(_UNNAMED.encode()) == line.count(b'_ORI.jpg"') + 1 else _named_slowly(line, name)


def _named_slowly(line: bytes, name: str) -> bytes:
    """The same for a record that holds the stand-in elsewhere too, as a category might."""
    record = json.loads(line)
    record["id"] = name
    for frame in record["frames"]:
        frame["path"] = f"{bench.FOLDER}/{name}/{frame['path'].rpartition('/')[2]}"
    return Case.model_validate(record).model_dump_json().encode() + b"\n"


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Of this package and of the libraries that decide pixels and files."""
    return {"mmvm_data": __version__, "numpy": np.__version__, "opencv": cv2.__version__}


def _keep_memory() -> None:
    """Let glibc keep the memory of freed images for the next ones, instead of asking the kernel for zeroed pages each
    time; decoding a frame into fresh pages takes about twice as long."""
    libc = ctypes.CDLL(ctypes.util.find_library("c"))
    if hasattr(libc, "mallopt"):
        libc.mallopt(_TRIM_THRESHOLD, 512 << 20)
        libc.mallopt(_MMAP_THRESHOLD, 256 << 20)


class _Frames:
    """The clean pixels of a video's frames and the outlines of their objects, those used last held for the cases to
    come."""

    def __init__(self, video: Video) -> None:
        self._video = video
        self._held: OrderedDict[int, media.Pixels] = OrderedDict()
        self._outlines: OrderedDict[tuple[int, str], polygons.Outline] = OrderedDict()

    def bgr(self, position: int) -> np.ndarray:
        return self.pixels(position).bgr

    def pixels(self, position: int) -> media.Pixels:
        if position in self._held:
            self._held.move_to_end(position)
            return self._held[position]
        drawn = self._video.render_frame(position)
        if drawn is None:
            found = media.load_frame(self._video.root, self._video.frames[position])
        else:
            found = media.Pixels(drawn, None)
        while len(self._held) >= max(2, _HELD_BYTES // found.bgr.nbytes):
            self._held.popitem(last=False)
        self._held[position] = found
        return found

    def outlines(self, shown: Sequence[tuple[int, VisibleObject]]) -> list[polygons.Outline]:
        """Of objects, each with the position of its frame."""
        keys = [(position, seen.region.id) for position, seen in shown]
        missing = {key: seen.rle for key, (_, seen) in zip(keys, shown, strict=True) if key not in self._outlines}
        traced = polygons.trace_outlines([masks.crop(rle) for rle in missing.values()])
        self._outlines.update(zip(missing, traced, strict=True))
        for key in keys:
            self._outlines.move_to_end(key)
        found = [self._outlines[key] for key in keys]
        while len(self._outlines) > _HELD_OUTLINES:
            self._outlines.popitem(last=False)
        return found


def _case(video: Video, draft: CaseDraft, ordinal: int, sampling: SamplingOptions, variant: str | None) -> Case:
    shared = {} if variant is None else {"shared_id": f"{video.source}/{video.id}/{ordinal}", "variant": variant}
    first, last = video.frames[draft.first_position], video.frames[draft.last_position]
    numbers = range(1, len(draft.candidates) + 1)
    proposals = sum(is_proposal(seen.region) for seen in draft.candidates)
    return Case(
        id=_UNNAMED,
        frames=tuple(_written(frame, k) for k, frame in enumerate((first, last))),
        query=(draft.query.region,),
        candidates=tuple(Candidate(number=n, region=s.region) for n, s in zip(numbers, draft.candidates, strict=True)),
        answer=draft.answer,
        prompt=video.prompt,
        question=prompts.format_question(video.prompt),
        options=prompts.build_options(numbers, draft.answer),
        provenance=Provenance(
            source=video.source,
            video=video.id,
            frames=(first, last),
            tracks=(draft.query.region.id, *(s.region.id for s in draft.candidates)),
            seed=sampling.seed,
            ordinal=ordinal,
            gap=last.index - first.index if video.order == "time" else 0,
            look_alikes=draft.look_alikes,
            visible=draft.visible,
            versions=versions(),
            extra=video.note | ({"proposals": proposals} if proposals else {}) | draft.facts | shared,
        ),
    )


def _written(frame: Frame, k: int) -> Frame:
    path = f"{bench.FOLDER}/{_UNNAMED}/FRAME{k:02d}_ORI.jpg"
    return frame.model_copy(update={"path": path, "video_frame": None})


def _write(folder: Path, case: Case, draft: CaseDraft, frames: _Frames, quality: int) -> None:
    """Draw and write one case. The frames are drawn upon, and clean again at the end."""
    first, last = frames.pixels(draft.first_position), frames.pixels(draft.last_position)
    originals = [pixels.jpeg or jpeg(pixels.bgr, quality) for pixels in (first, last)]
    query, *candidates = frames.outlines(
        [(draft.first_position, draft.query), *((draft.last_position, seen) for seen in draft.candidates)]
    )
    contours = [candidate.contours for candidate in candidates]
    colors = [color[::-1] for color in render.distinct_colors(len(candidates) + 1)]
    kept: list[render.Kept] = []
    render.mark_query(first.bgr, query.contours, render.COLORS["cyan"][::-1], kept)
    drawn = [jpeg(first.bgr, quality)]
    render.restore(first.bgr, kept)
    render.mark_candidates(last.bgr, contours, range(1, len(contours) + 1), colors, kept)
    drawn.append(jpeg(last.bgr, quality))
    render.restore(last.bgr, kept)
    outlines = [[query.polygons], [candidate.polygons for candidate in candidates]]
    bench.write_case(folder, case, originals, drawn, outlines)


def _reject(source: str, video: str, error: InputError, root: Path, frame: bool = False) -> Reject:
    """An error as a line of the rejects, its file relative to the root where it lies inside."""
    file = error.file
    if Path(file).is_relative_to(root):  # else it is relative to the root already, or outside
        file = Path(file).relative_to(root).as_posix()
    return Reject(source, video, -1, error.reason, file, error.field or "")

"""Where pairs of frames come from: stills seen twice, frames of videos, cases of a build.

Every source is a list of names and a function from a name and a source of chance to a `Pair`. Opening one reads an
index at most; pixels and masks are read pair by pair.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from mmvm_data import SOURCES, Source, open_source
from mmvm_data.core import augment, masks
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Case, Frame, Region, Rle, Video
from mmvm_data.formats.bench import CASES
from mmvm_data.io import media
from mmvm_data.io.files import path_kind

STILLS = ("sa1b", "coco")
BUILD = "build"
_TRIES = 8


@dataclass(frozen=True, kw_only=True)
class PairSource:
    """One line of a stage-1 mixture.

    Attributes:
        kind: `sa1b` or `coco` (images, two views of each), `build` (the folder that `mmvm-data build` wrote), or a
            source that `mmvm-data sources` lists (two frames of each video).
        root: its folder (or annotation file, where the reader takes one).
        index: for `sa1b`, a list of the images to take in place of all: a JSON file with `images[].file_name`, or a
            text file with one path a line, relative to `root`; each has its JSON beside it.
        augmentation: how each frame is changed (see `mmvm_data.core.augment`): `published` (stills only), `strong`, or
            `none`; by default `published` for stills and `none` for real pairs.
        repeat: how often an epoch takes it.
        max_gap: largest distance of two frames of a video, in the source's numbering.
    """

    kind: str
    root: Path
    index: Path | None = None
    augmentation: Literal["published", "strong", "none"] | None = None
    repeat: Annotated[int, Field(ge=1)] = 1
    max_gap: Annotated[int, Field(ge=1)] = 150


@dataclass(frozen=True)
class Shot:
    """One side of a pair.

    Attributes:
        bgr: uint8 `[h, w, 3]`, blue first, of the file (no view applied).
        view: the view of it that is seen, or None for the whole picture.
        ids: identity of each object.
        rles: its mask in the file's picture.
    """

    bgr: np.ndarray
    view: augment.ViewTransform | None
    ids: tuple[str, ...]
    rles: tuple[Rle, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what is seen."""
        return (self.bgr.shape[0], self.bgr.shape[1]) if self.view is None else (augment.SIZE, augment.SIZE)


Pair = tuple[Shot, Shot]


@dataclass(frozen=True)
class Opened:
    """A source that can be asked for pairs.

    Attributes:
        source: what was opened.
        names: of its images, videos or cases; unique, in a stable order.
        pair: name, chance -> a pair; raises InputError when there is none to be had.
    """

    source: PairSource
    names: Sequence[str]
    pair: Callable[[str, random.Random], Pair]
    rejects: tuple[tuple[str, str], ...] = field(default=())


def open_pairs(source: PairSource, cache: Path | None = None) -> Opened:
    """Open one source.

    Args:
        source: see there.
        cache: folder for the index of a large annotation file; None keeps none.

    Raises:
        UsageError: an unknown kind, a folder that cannot be read, or options that do not go together.
        InputError: the source's index is broken.
    """
    if source.kind not in (*STILLS, BUILD) and source.kind not in SOURCES:
        raise UsageError(f"kind {source.kind!r}: expected sa1b, coco, build, or one of `mmvm-data sources`")
    if source.index is not None and source.kind != "sa1b":
        raise UsageError(f"index is for sa1b, not for {source.kind}")
    if path_kind(source.root) == "nothing":
        raise UsageError(f"{source.root}: there is nothing")
    if source.kind in STILLS:
        if source.augmentation == "none":
            raise UsageError(f"{source.kind}: two views of one image without augmentation are the same picture")
        return _stills(source, _open_stills(source, cache))
    if source.augmentation == "published":
        raise UsageError(
            f"{source.kind}: the published augmentation is for two views of one image; take strong or none"
        )
    return _build(source) if source.kind == BUILD else _videos(source, cache)


def _open_stills(source: PairSource, cache: Path | None) -> Source:
    images = None if source.index is None else _listed(source.index)
    return open_source(source.kind, source.root, cache, images=images)


def _listed(index: Path) -> list[str]:
    """The images that an index names, each once, in its order."""
    try:
        text = index.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(index, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(index, "not UTF-8") from error
    if index.suffix == ".json":
        try:
            names = [image["file_name"] for image in json.loads(text)["images"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(index, "images[].file_name is expected") from error
        if not all(isinstance(name, str) for name in names):
            raise InputError(index, "a file name is expected", "images[].file_name")
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise InputError(index, "names no image")
    return list(dict.fromkeys(names))


def _stills(source: PairSource, stills: Source) -> Opened:
    style: augment.ViewKind = "strong" if source.augmentation == "strong" else "published"

    load_image = stills.load_image
    assert load_image is not None  # sa1b and coco are sources of still images

    def pair(name: str, rng: random.Random) -> Pair:
        still = load_image(name)
        objects = still.read_objects()
        ids, rles = tuple(item.id for item in objects), tuple(item.mask for item in objects)
        bgr = media.read_frame_bgr(stills.root, still.frame)
        first, second = augment.sample_views(style, still.frame.width, still.frame.height, rng)
        return Shot(bgr, first, ids, rles), Shot(bgr, second, ids, rles)

    rejects = tuple((reject.video, reject.reason) for reject in stills.rejects)
    return Opened(source, stills.videos, pair, rejects)


def _videos(source: PairSource, cache: Path | None) -> Opened:
    opened = open_source(source.kind, source.root, cache)

    def pair(name: str, rng: random.Random) -> Pair:
        video = opened.load(name)
        for _ in range(_TRIES):
            chosen = _two_frames(video, source.max_gap, rng)
            if chosen is None:
                break
            sides = [video.regions(position) for position in chosen]
            if len({region.id for region in sides[0]} & {region.id for region in sides[1]}) > 1:
                return (
                    _shot(video, chosen[0], sides[0], source, rng),
                    _shot(video, chosen[1], sides[1], source, rng),
                )
        where = f"{source.root}: {name}"
        raise InputError(where, f"no two frames within {source.max_gap} that share two objects ({_TRIES} tries)")

    rejects = tuple((reject.video, reject.reason) for reject in opened.rejects)
    return Opened(source, opened.videos, pair, rejects)


def _two_frames(video: Video, max_gap: int, rng: random.Random) -> tuple[int, int] | None:
    """Two annotated positions, not further apart than allowed; None when there are none."""
    if len(video.annotated) < 2:
        return None
    first = rng.choice(video.annotated)
    if video.order == "views":
        near = [p for p in video.annotated if p != first]
    else:
        here = video.frames[first].index
        near = [p for p in video.annotated if p != first and abs(video.frames[p].index - here) <= max_gap]
    return (first, rng.choice(near)) if near else None


def _shot(video: Video, position: int, regions: Sequence[Region], source: PairSource, rng: random.Random) -> Shot:
    frame = video.frames[position]
    drawn = video.render_frame(position)
    bgr = media.read_frame_bgr(video.root, frame) if drawn is None else drawn
    return _seen(bgr, frame, regions, [region.id for region in regions], source, rng)


def _seen(
    bgr: np.ndarray,
    frame: Frame,
    regions: Sequence[Region],
    ids: Sequence[str],
    source: PairSource,
    rng: random.Random,
) -> Shot:
    view = (
        augment.sample_views("strong", frame.width, frame.height, rng, 1)[0]
        if source.augmentation == "strong"
        else None
    )
    return Shot(bgr, view, tuple(ids), tuple(_mask(region, frame) for region in regions))


def _mask(region: Region, frame: Frame) -> Rle:
    if region.mask is not None:
        return region.mask
    assert region.box is not None  # a region has one of the two
    return masks.from_box(region.box, frame.height, frame.width)


def _build(source: PairSource) -> Opened:
    file = source.root / CASES
    try:
        with open(file, "rb") as handle:
            starts = np.cumsum([0, *(len(line) for line in handle)])
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}; is this the folder of a build?") from error

    def pair(name: str, rng: random.Random) -> Pair:
        line = int(name)
        with open(file, "rb") as handle:
            handle.seek(int(starts[line]))
            text = handle.readline()
        try:
            case = Case.model_validate_json(text)
        except ValidationError as error:
            said = error.errors()[0]
            raise InputError(file, said["msg"], f"line {line + 1}, {'.'.join(map(str, said['loc']))}") from error
        return _case_pair(case, source, rng)

    return Opened(source, _Numbers(len(starts) - 1), pair)


class _Numbers(Sequence[str]):
    """0, 1, 2 … as names, without a list of them."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: int) -> str:  # type: ignore[override]
        if not 0 <= at < self._count:
            raise IndexError(at)
        return str(at)


def _case_pair(case: Case, source: PairSource, rng: random.Random) -> Pair:
    """The query's last image and the candidates' image; the query has its answer's identity."""
    where = f"{source.root}: {case.id}"
    if case.answer is None:
        raise InputError(where, "the right answer is none of the above, so no object is in both images")
    sides = []
    for position in (len(case.frames) - 2, len(case.frames) - 1):
        frame = case.frames[position]
        if position < len(case.query):
            regions, ids = [case.query[position]], [str(case.answer)]
        else:
            regions = [candidate.region for candidate in case.candidates]
            ids = [str(candidate.number) for candidate in case.candidates]
        sides.append(_seen(media.read_frame_bgr(source.root, frame), frame, regions, ids, source, rng))
    return sides[0], sides[1]

"""Sources of frame pairs: still images seen twice, frames of videos, cases of a build.

Every source is a list of names and a function from a name and a random number generator to a `FramePair`. Opening a
source reads an index at most; pixels and masks are read pair by pair.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Literal, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from mmvm_data import SOURCES, Source, open_source
from mmvm_data.core import augment, masks
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import options
from mmvm_data.core.types import Case, Frame, Region, Rle, Video
from mmvm_data.formats.bench import CASES
from mmvm_data.io import media
from mmvm_data.io.files import open_regular, path_kind
from mmvm_data.io.json_files import parse_json, read_text_file
from mmvm_data.io.transaction import settle

STILL_KINDS = ("sa1b", "coco")
BUILD_KIND = "build"
_MAX_TRIES = 8


@options
class PairSource:
    """One source of the stage-1 data.

    Attributes:
        kind: `sa1b` or `coco` (still images, two views of each), `build` (a folder that `mmvm-data build` wrote), or a
            source that `mmvm-data sources` lists (two frames of each video).
        root: its folder (or annotation file, where the reader accepts one).
        index: for `sa1b`, a list of the images to use instead of all: a JSON file with `images[].file_name`, or a text
            file with one path per line, relative to `root`; each image has its JSON file next to it.
        augmentation: how each frame is changed (see `mmvm_data.core.augment`): `published` (stills only), `strong`, or
            `none`; by default `published` for stills and `none` for real pairs.
        repeat: how often an epoch uses the source.
        max_gap: largest distance between two frames of a video, in the source's frame numbering.
    """

    _: KW_ONLY
    kind: str
    root: Path
    index: Path | None = None
    augmentation: Literal["published", "strong", "none"] | None = None
    repeat: Annotated[int, Field(ge=1)] = 1
    max_gap: Annotated[int, Field(ge=1)] = 150


@dataclass(frozen=True)
class FrameSample:
    """One side of a pair.

    Attributes:
        bgr: uint8 `[h, w, 3]`, BGR, as in the file (no view applied).
        view: the view of the image to use, or None for the full image.
        ids: identity of each object.
        rles: its mask in the coordinates of the file's image.
    """

    bgr: NDArray[np.uint8]
    view: augment.ViewTransform | None
    ids: tuple[str, ...]
    rles: tuple[Rle, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the view."""
        return (self.bgr.shape[0], self.bgr.shape[1]) if self.view is None else (augment.SIZE, augment.SIZE)


FramePair = tuple[FrameSample, FrameSample]


@dataclass(frozen=True)
class PairReader:
    """An opened source of pairs.

    Attributes:
        source: what was opened.
        names: of its images, videos or cases; unique, in a stable order.
        read_pair: reads the pair of a name with a random number generator; raises InputError when there is none.
        rejects: name and reason of what could not be opened.
    """

    source: PairSource
    names: Sequence[str]
    read_pair: Callable[[str, random.Random], FramePair]
    rejects: tuple[tuple[str, str], ...] = field(default=())


def open_pair_source(source: PairSource, cache_dir: Path | None = None) -> PairReader:
    """Open one source.

    Args:
        source: see there.
        cache_dir: folder for the index of a large annotation file; None caches nothing.

    Raises:
        UsageError: an unknown kind, a folder that cannot be read, or options that do not fit together.
        InputError: the source's index is damaged.
    """
    if source.kind not in (*STILL_KINDS, BUILD_KIND) and source.kind not in SOURCES:
        raise UsageError(f"kind must be sa1b, coco, build, or one of `mmvm-data sources`, got {source.kind!r}")
    if source.index is not None and source.kind != "sa1b":
        raise UsageError(f"index is for sa1b, not for {source.kind}")
    if path_kind(source.root) == "nothing":
        raise UsageError(f"{source.root}: does not exist")
    if source.kind in STILL_KINDS:
        if source.augmentation == "none":
            raise UsageError(f"{source.kind}: two views of one image without augmentation are the same image")
        return _make_still_reader(source, _open_stills(source, cache_dir))
    if source.augmentation == "published":
        raise UsageError(f"{source.kind}: the published augmentation is for two views of one image; use strong or none")
    return _make_build_reader(source) if source.kind == BUILD_KIND else _make_video_reader(source, cache_dir)


def _open_stills(source: PairSource, cache_dir: Path | None) -> Source:
    images = None if source.index is None else _read_index(source.index)
    return open_source(source.kind, source.root, cache_dir, images=images)


def _read_index(index: Path) -> list[str]:
    """The images that an index lists, each once, in its order."""
    text = read_text_file(index)
    if index.suffix == ".json":
        try:
            names = [image["file_name"] for image in parse_json(text, index)["images"]]
        except (KeyError, TypeError) as error:
            raise InputError(index, "expected images[].file_name") from error
        if not all(isinstance(name, str) for name in names):
            raise InputError(index, "expected a file name", "images[].file_name")
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise InputError(index, "lists no image")
    return list(dict.fromkeys(names))


def _make_still_reader(source: PairSource, stills: Source) -> PairReader:
    """Pairs of two views of one image."""
    style: augment.ViewKind = "strong" if source.augmentation == "strong" else "published"
    load_image = stills.load_image
    assert load_image is not None  # sa1b and coco are sources of still images

    def read_pair(name: str, rng: random.Random) -> FramePair:
        still = load_image(name)
        objects = still.read_objects()
        ids, rles = tuple(item.id for item in objects), tuple(item.mask for item in objects)
        bgr = media.read_frame_bgr(stills.root, still.frame)
        first, second = augment.sample_views(style, still.frame.width, still.frame.height, rng)
        return FrameSample(bgr, first, ids, rles), FrameSample(bgr, second, ids, rles)

    rejects = tuple((reject.video, reject.reason) for reject in stills.rejects)
    return PairReader(source, stills.videos, read_pair, rejects)


def _make_video_reader(source: PairSource, cache_dir: Path | None) -> PairReader:
    """Pairs of two frames of a video that share at least two objects."""
    videos = open_source(source.kind, source.root, cache_dir)

    def read_pair(name: str, rng: random.Random) -> FramePair:
        video = videos.load(name)
        for _ in range(_MAX_TRIES):
            positions = _sample_positions(video, source.max_gap, rng)
            if positions is None:
                break
            first, second = (video.regions(position) for position in positions)
            if len({region.id for region in first} & {region.id for region in second}) > 1:
                return (
                    _read_video_frame(video, positions[0], first, source, rng),
                    _read_video_frame(video, positions[1], second, source, rng),
                )
        reason = f"no two frames within {source.max_gap} that share two objects ({_MAX_TRIES} tries)"
        raise InputError(f"{source.root}: {name}", reason)

    rejects = tuple((reject.video, reject.reason) for reject in videos.rejects)
    return PairReader(source, videos.videos, read_pair, rejects)


def _sample_positions(video: Video, max_gap: int, rng: random.Random) -> tuple[int, int] | None:
    """Two annotated positions at most `max_gap` apart; None when there are none."""
    if len(video.annotated) < 2:
        return None
    first = rng.choice(video.annotated)
    if video.order == "views":
        near = [p for p in video.annotated if p != first]
    else:
        index = video.frames[first].index
        near = [p for p in video.annotated if p != first and abs(video.frames[p].index - index) <= max_gap]
    return (first, rng.choice(near)) if near else None


def _read_video_frame(
    video: Video, position: int, regions: Sequence[Region], source: PairSource, rng: random.Random
) -> FrameSample:
    frame = video.frames[position]
    drawn = video.render_frame(position)
    bgr = media.read_frame_bgr(video.root, frame) if drawn is None else drawn
    return _make_frame_sample(bgr, frame, regions, [region.id for region in regions], source, rng)


def _make_frame_sample(
    bgr: NDArray[np.uint8],
    frame: Frame,
    regions: Sequence[Region],
    ids: Sequence[str],
    source: PairSource,
    rng: random.Random,
) -> FrameSample:
    view = None
    if source.augmentation == "strong":
        view = augment.sample_views("strong", frame.width, frame.height, rng, 1)[0]
    rles = tuple(masks.region_mask(region, frame.height, frame.width) for region in regions)
    return FrameSample(bgr, view, tuple(ids), rles)


def _make_build_reader(source: PairSource) -> PairReader:
    """Pairs of a case's query image and its candidates' image."""
    file = source.root / CASES
    settle(source.root)
    try:
        with open_regular(file) as handle:
            starts = np.cumsum([0, *(len(line) for line in handle)])
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}; is this the folder of a build?") from error

    def read_pair(name: str, rng: random.Random) -> FramePair:
        line = int(name)
        with open_regular(file) as handle:
            handle.seek(int(starts[line]))
            text = handle.readline()
        try:
            case = Case.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(file, first["msg"], f"line {line + 1}, {'.'.join(map(str, first['loc']))}") from error
        return _read_case_pair(case, source, rng)

    return PairReader(source, _NumberNames(len(starts) - 1), read_pair)


class _NumberNames(Sequence[str]):
    """The names 0, 1, 2 … without a list of them."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [str(number) for number in range(self._count)[index]]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return str(index)


def _read_case_pair(case: Case, source: PairSource, rng: random.Random) -> FramePair:
    """The query's last image and the candidates' image; the query has the identity of its answer."""
    if case.answer is None:
        reason = "the right answer is none of the above, so no object is in both images"
        raise InputError(f"{source.root}: {case.id}", reason)
    sides = []
    for position in (len(case.frames) - 2, len(case.frames) - 1):
        frame = case.frames[position]
        if position < len(case.query):
            regions, ids = [case.query[position]], [str(case.answer)]
        else:
            regions = [candidate.region for candidate in case.candidates]
            ids = [str(candidate.number) for candidate in case.candidates]
        sides.append(_make_frame_sample(media.read_frame_bgr(source.root, frame), frame, regions, ids, source, rng))
    return sides[0], sides[1]

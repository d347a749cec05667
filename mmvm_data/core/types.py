"""The data model: Region, Frame, Video and Case, which all other modules take and return.

All are frozen pydantic models: read with ``Case.model_validate_json``, written with ``case.model_dump_json``.
Unknown fields, NaN and infinities are rejected. Whole records (Video, Case) carry a ``version``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module  # by name at call time: this module reads no files and needs no other room
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from mmvm_data.core.errors import InputError
from mmvm_data.core.limits import check_pixels

FORMAT_VERSION: Final = 1
MATCH_TYPES: Mapping[int, tuple[str, str]] = {
    1: ("CL", "colour"),
    2: ("SP", "shape or posture"),
    3: ("TM", "textual or logo marker"),
    4: ("SZ", "size"),
    5: ("RP", "relative position"),
    6: ("OO", "object orientation and movement"),
    7: ("BR", "binding relationship"),
    8: ("OM", "object markers"),
}
"""The eight match types of the MMVM benchmark: number -> (abbreviation, meaning)."""

MatchType = Annotated[int, Field(ge=1, le=8)]
Box = tuple[float, float, float, float]
"""x, y, width, height in pixels; (0, 0) is the outer corner of the top left pixel."""


def _check_plain_json(value: Any) -> Any:
    """Return ``value`` if JSON preserves it: None, booleans, strings, finite numbers, and lists and dicts of these."""
    unchecked = [value] if value else []
    while unchecked:
        item = unchecked.pop()
        if isinstance(item, dict):
            if bad_keys := [key for key in item if not isinstance(key, str)]:
                raise ValueError(f"the key {bad_keys[0]!r} is not a string")
            unchecked.extend(item.values())
        elif isinstance(item, list):
            unchecked.extend(item)
        elif not (item is None or isinstance(item, (bool, int, str)) or (isinstance(item, float) and isfinite(item))):
            raise ValueError(f"{item!r:.40} is not a plain JSON value")
    return value


Extra = Annotated[dict[str, Any], AfterValidator(_check_plain_json)]
"""Further information from a source: plain JSON values by name."""


class FrozenModel(BaseModel):
    """Base of all records: frozen; rejects unknown fields, NaN and infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_COUNTS = re.compile("(?:[0-o]*[0-O])?")
"""Characters of COCO's string encoding; the last one says that no more of its number follow."""


class Rle(FrozenModel):
    """A mask in COCO's compressed run-length encoding (column-major runs, see maskApi.c of pycocotools).

    Attributes:
        size: (height, width) in pixels.
        counts: COCO's string encoding of the run lengths.

    Raises:
        ValidationError: the mask has more pixels than the limit (see ``limits``) and would take memory when decoded, or
            the counts hold characters that the encoding has not.
    """

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    counts: str

    @model_validator(mode="after")
    def _check_pixels(self) -> Self:
        check_pixels(self.size[1], self.size[0], "mask")
        if not _COUNTS.fullmatch(self.counts):  # decoders read beyond the end of such a text
            raise PydanticCustomError("broken_counts", "counts are not in COCO's run-length encoding")
        return self


class Region(FrozenModel):
    """One object in one frame: a mask or a box, never both.

    Attributes:
        id: identity over the video; the same string in every frame of the video.
        mask: exact mask of the size of the frame, or None for box sources.
        box: (x, y, width, height) in pixels, width and height > 0, or None for mask sources. May extend beyond the
            frame, as MOT boxes do.
        category: name of the class, or None when the source has none.
        extra: further information from the source (visibility, scores, flags), plain JSON values.
    """

    id: str
    mask: Rle | None = None
    box: Box | None = None
    category: str | None = None
    extra: Extra = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if (self.mask is None) == (self.box is None):
            raise ValueError("a region must have either a mask or a box")
        if self.box is not None and not (all(isfinite(v) for v in self.box) and self.box[2] > 0 and self.box[3] > 0):
            raise ValueError(f"box {self.box} must be finite, with width and height above 0")
        return self


class Frame(FrozenModel):
    """Where the pixels of one frame are stored.

    Attributes:
        path: image file, or video file when ``video_frame`` is set; "/"-separated, relative to the root of its
            source (or, in a written case, to the benchmark's folder).
        index: number of the frame as the source counts (file name, mp4 frame, MOT line).
        width, height: pixels.
        video_frame: 0-based position inside the video file ``path``; None for an image file.
        time: seconds from the start of the video, when the frame rate is known.
    """

    path: str
    index: int
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    video_frame: int | None = None
    time: float | None = None


class Video(FrozenModel):
    """Frames in order and the objects in them; annotations are read on access.

    Attributes:
        id: name of the video inside its source, unique there.
        source: name of the source, a key of ``mmvm_data.builders.SOURCES``.
        root: folder that the paths of the frames are relative to; not part of the JSON.
        frames: in time order.
        annotated: positions in ``frames`` whose annotation is complete, ascending. An object that is not listed in
            one of them is not visible there.
        prompt: whether the regions are masks or boxes.
        tracks: regions by position, or None when they are read on access; see ``lazy`` and ``with_tracks``.
        order: "time", or "views" for frames without an order in time: cameras at one instant, augmented views of one
            image, sheets of crops. Any two views form a pair in either order, and nothing moves between them.
        note: copied to ``Provenance.extra`` of every case of the video, plain JSON values.
    """

    version: Literal[1] = FORMAT_VERSION
    id: str
    source: str
    root: Path = Field(default=Path(), exclude=True)
    frames: tuple[Frame, ...]
    annotated: tuple[int, ...]
    prompt: Literal["mask", "box"] = "mask"
    tracks: dict[int, tuple[Region, ...]] | None = None
    order: Literal["time", "views"] = "time"
    note: Extra = Field(default_factory=dict)
    _read_regions: Callable[[int], tuple[Region, ...]] | None = PrivateAttr(default=None)
    _render: Callable[[int], NDArray[np.uint8]] | None = PrivateAttr(default=None)
    _problems: tuple[InputError, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _check_positions(self) -> Self:
        if any(b <= a for a, b in pairwise(self.annotated)):
            raise ValueError("annotated positions must ascend")
        if self.annotated and not 0 <= self.annotated[0] <= self.annotated[-1] < len(self.frames):
            raise ValueError(f"annotated positions must lie in 0..{len(self.frames) - 1}")
        annotated = frozenset(self.annotated) if self.tracks else frozenset()
        for position, regions in (self.tracks or {}).items():
            if position not in annotated:
                raise ValueError(f"tracks contain frame {position}, which is not annotated")
            if len({region.id for region in regions}) != len(regions):
                raise ValueError(f"frame {position} has two regions of one track")
        return self

    @classmethod
    def lazy(
        cls,
        read_regions: Callable[[int], tuple[Region, ...]],
        render: Callable[[int], NDArray[np.uint8]] | None = None,
        problems: Sequence[InputError] = (),
        **fields: Any,
    ) -> Self:
        """Return a video whose regions are read on access.

        Args:
            read_regions: position in ``frames`` -> regions of that frame; raises InputError for a frame that cannot be
                read.
            render: position -> pixels (a new uint8 [h, w, 3], BGR) of a frame that is computed, such as a view of an
                image; raises InputError. None: the pixels are read from the files that ``frames`` name.
            problems: what of the annotation is not used; a build lists it among the rejects.
            fields: the attributes of the class.
        """
        video = cls(**fields)
        video._read_regions = read_regions
        video._render = render
        video._problems = tuple(problems)
        return video

    @property
    def problems(self) -> tuple[InputError, ...]:
        """Parts of the annotation that are not used, such as lines for frames that do not exist."""
        return self._problems

    @property
    def is_computed(self) -> bool:
        """Whether the frames are computed by ``render_frame``, rather than read from files."""
        return self._render is not None

    def with_regions_reader(self, read_regions: Callable[[int], tuple[Region, ...]]) -> Self:
        """Return a copy that reads its regions with another function; see ``lazy``."""
        video = self.model_copy(update={"tracks": None})
        video._read_regions = read_regions
        return video

    def render_frame(self, position: int) -> NDArray[np.uint8] | None:
        """Return the pixels of a computed frame: a new uint8 [h, w, 3], BGR; None when a file holds them.

        Raises:
            InputError: the files that the frame is computed from cannot be read.
        """
        return self._render(position) if self._render else None

    def regions(self, position: int) -> tuple[Region, ...]:
        """Return the objects that are visible in the frame at ``position`` (0-based, in ``annotated``).

        Raises:
            InputError: the annotation of this frame is broken.
            KeyError: the frame is not annotated.
        """
        if position not in self.annotated:
            raise KeyError(f"frame {position} of video {self.id} is not annotated")
        if self.tracks is not None:
            return self.tracks.get(position, ())
        return self._read_regions(position) if self._read_regions else ()

    def with_tracks(self) -> Self:
        """Return a copy with every annotation read into ``tracks``, as JSON serialization needs it."""
        return self.model_copy(update={"tracks": {p: self.regions(p) for p in self.annotated}})

    def _repr_html_(self) -> str:
        """Return a few annotated frames with their objects, for notebooks."""
        return str(import_module("mmvm_data.viz.notebook").video_html(self))


class Candidate(FrozenModel):
    """One marked object of the last image and the number drawn on it (1, 2, …)."""

    number: Annotated[int, Field(ge=1)]
    region: Region


class Option(FrozenModel):
    """One answer option: its letter (A, B, …) and the number of a candidate; None means "none of the above"."""

    letter: str
    number: int | None


class Review(FrozenModel):
    """The result of a human review of a case.

    Attributes:
        state: "proposed" until a person has reviewed it; "unsure" when that person could not tell.
        by: reviewer.
        at: time of the review (ISO 8601, UTC).
        seconds: time spent on it.
        reason: why it was rejected.
    """

    state: Literal["proposed", "accepted", "fixed", "unsure", "rejected"] = "proposed"
    by: str | None = None
    at: str | None = None
    seconds: float | None = None
    reason: str | None = None


class Provenance(FrozenModel):
    """Where a case comes from; enough to build it again.

    Attributes:
        source, video: names of the source and of the video in it.
        frames: the source's frames, paths relative to the source's root.
        tracks: identity of the query, then of the candidates in the order of their numbers.
        seed, ordinal: together with source and video they determine the case.
        gap: number of source frames between the first and the last image.
        look_alikes: number of candidates of the query's category, excluding the answer.
        visible: number of objects in the last image before the hardest were selected as candidates.
        versions: of this package and of the libraries that determine pixels.
        extra: further information, plain JSON values.
    """

    source: str
    video: str
    frames: tuple[Frame, ...]
    tracks: tuple[str, ...]
    seed: int
    ordinal: int
    gap: int
    look_alikes: int = 0
    visible: int = 0
    versions: dict[str, str] = Field(default_factory=dict)
    extra: Extra = Field(default_factory=dict)


class Cue(FrozenModel):
    """A feature that distinguishes the answer from the other candidates.

    Attributes:
        type: 1..8, see MATCH_TYPES.
        score: 0..1, how clearly it distinguishes the answer.
        evidence: a clause with the relevant numbers, without a final full stop.
        measures: the numbers by name, in the units that ``mmvm_data.cases.cues`` documents.
        source: "proposed" by a program, or "human" once a person has confirmed or added it.
    """

    type: MatchType
    score: Annotated[float, Field(ge=0, le=1)]
    evidence: str
    measures: dict[str, float] = Field(default_factory=dict)
    source: Literal["proposed", "human"] = "proposed"


class RationaleAuthor(FrozenModel):
    """Author of a rationale that was not written by a person.

    Attributes:
        by: a model at an endpoint, or a template filled from cues.
        model: name of the model in the request to the endpoint.
        version: of the prompt or of the template.
        digest: SHA-256 of the text in hexadecimal. A text with a different digest was edited by a person.
    """

    by: Literal["model", "template"]
    model: str | None = None
    version: str
    digest: str


@dataclass(frozen=True)
class _CaseRoot:
    """The folder of a case; it does not take part in comparisons."""

    folder: Path | None = field(default=None, compare=False)


class Case(FrozenModel):
    """One correspondence question: images, the marked query, the numbered candidates, the answer.

    Records of version 1 from before ``cues`` and ``written`` existed are read with their defaults.

    Attributes:
        id: name of the case folder, such as ``case_000000``.
        frames: two or more unmarked images, paths relative to the benchmark's folder; the last holds the candidates.
        query: the query object in each image except the last.
        candidates: in the order of their numbers.
        answer: number of the correct candidate; None when none of them is.
        prompt: how objects are marked and asked about.
        question: the question without the options (``pure_question`` of the tsv).
        options: in the order of their letters; the last is "none of the above".
        match_types: 1..8, see MATCH_TYPES.
        cues: what distinguishes the answer from the other candidates; proposals until a person has confirmed them.
        rationale: explanation why the answer is correct.
        written: author of the rationale when it was not a person; see ``rationale_by``.
        review: result of the human review.
        provenance: None for cases read from a data set that has none.
        extra: further columns of a tsv that was read, plain JSON values.
    """

    version: Literal[1] = FORMAT_VERSION
    id: str
    frames: Annotated[tuple[Frame, ...], Field(min_length=2)]
    query: Annotated[tuple[Region, ...], Field(min_length=1)]
    candidates: tuple[Candidate, ...]
    answer: int | None
    prompt: Literal["mask", "box"] = "mask"
    question: str
    options: tuple[Option, ...]
    match_types: tuple[MatchType, ...] = ()
    cues: tuple[Cue, ...] = ()
    rationale: str | None = None
    written: RationaleAuthor | None = None
    review: Review = Review()
    provenance: Provenance | None = None
    extra: Extra = Field(default_factory=dict)
    _case_root: _CaseRoot = PrivateAttr(default_factory=_CaseRoot)  # a default would be copied deeply

    @property
    def root(self) -> Path | None:
        """Folder that the paths of ``frames`` are relative to; None when no reader has set it. It is not part of the
        JSON or of comparisons, since a benchmark may be moved."""
        return self._case_root.folder

    def with_root(self, root: Path) -> Self:
        """Return a copy with this ``root``."""
        copy = self.model_copy()
        copy._case_root = _CaseRoot(root)
        return copy

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        expected = len(self.frames) - 1
        if len(self.query) != expected:
            raise ValueError(f"{expected + 1} frames need {expected} query regions, got {len(self.query)}")
        numbers = [candidate.number for candidate in self.candidates]
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"candidate numbers {numbers} repeat")
        if self.answer is not None and self.answer not in numbers:
            raise ValueError(f"answer {self.answer} is not one of the candidates {numbers}")
        return self

    @property
    def letter(self) -> str:
        """Letter of the correct option.

        Raises:
            ValueError: no option stands for the answer.
        """
        for option in self.options:
            if option.number == self.answer:
                return option.letter
        raise ValueError(f"{self.id}: no option for answer {self.answer}")

    @property
    def rationale_by(self) -> Literal["human", "model", "template"] | None:
        """Author of the rationale: "human" unless ``written`` refers to exactly this text; None without a rationale."""
        if not self.rationale:
            return None
        if self.written and self.written.digest == hashlib.sha256(self.rationale.encode()).hexdigest():
            return self.written.by
        return "human"

    def _repr_html_(self) -> str:
        """Return the drawn images, the question and the options with the correct one marked, for notebooks."""
        return str(import_module("mmvm_data.viz.notebook").case_html(self))

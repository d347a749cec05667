"""The nouns: Region, Frame, Video, Case. Everything else takes and returns these.

All are frozen pydantic models: JSON in with ``Model.model_validate_json``, JSON out with ``model.model_dump_json``.
Unknown fields, NaN and infinities are refused. Whole records (Video, Case) carry a ``version``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from typing_extensions import Self

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


def _plain(value: Any) -> Any:
    """``value`` itself, when JSON gives it back unchanged: None, booleans, text, finite numbers, and lists and dicts of
    these."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            if strange := [key for key in item if not isinstance(key, str)]:
                raise ValueError(f"the key {strange[0]!r} is no text")
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
        elif not (item is None or isinstance(item, (bool, int, str)) or (isinstance(item, float) and isfinite(item))):
            raise ValueError(f"{item!r:.40} is no plain JSON value")
    return value


Extra = Annotated[dict[str, Any], AfterValidator(_plain)]
"""What else a source says: plain JSON values under names."""


class Model(BaseModel):
    """Base of all records: frozen, strict about unknown fields, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rle(Model):
    """A mask as COCO's compressed run-length string (column-major runs, see pycocotools' maskApi).

    Attributes:
        size: (height, width) in pixels.
        counts: COCO's printable encoding of the run lengths.
    """

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    counts: str


class Region(Model):
    """One object in one frame: a mask or a box, never both.

    Attributes:
        id: identity over the video; the same string in every frame of the video.
        mask: exact mask of the whole frame's size, or None for box sources.
        box: (x, y, width, height) in pixels, width and height > 0, or None for mask sources. May reach over the
            frame's edge, as MOT boxes do.
        category: name of the class, or None when the source has none.
        extra: what else the source says (visibility, scores, flags), plain JSON values.
    """

    id: str
    mask: Rle | None = None
    box: Box | None = None
    category: str | None = None
    extra: Extra = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if (self.mask is None) == (self.box is None):
            raise ValueError("a region has either a mask or a box")
        if self.box is not None and not (all(isfinite(v) for v in self.box) and self.box[2] > 0 and self.box[3] > 0):
            raise ValueError(f"box {self.box} must be finite with width and height above 0")
        return self


class Frame(Model):
    """Where the pixels of one frame are.

    Attributes:
        path: image file, or video file when ``video_frame`` is set; "/"-separated, relative to the root of its
            source (or, in a written case, to the benchmark's folder).
        index: number of the frame in the source's own counting (file name, mp4 frame, MOT line).
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


class Video(Model):
    """Frames in order and the objects in them; annotations are read when they are asked for.

    Attributes:
        id: name of the video inside its source, unique there.
        source: name of the source, a key of ``mmvm_data.builders.SOURCES``.
        root: folder that the paths of the frames are relative to; not part of the JSON.
        frames: in time order.
        annotated: positions in ``frames`` whose annotation is complete, ascending. An object that is not listed in
            one of these is not visible there.
        prompt: whether the regions are masks or boxes.
        order: "time", or "views" for frames that have no order in time: cameras at one instant, augmented views of one
            image, sheets of crops. Any two of those make a pair, whichever comes first, and nothing moves between them.
        note: what every case of the video should say of its origin (``Provenance.extra``), plain JSON values.
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
    _read: Callable[[int], tuple[Region, ...]] | None = PrivateAttr(default=None)
    _draw: Callable[[int], NDArray[np.uint8]] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if any(b <= a for a, b in pairwise(self.annotated)):
            raise ValueError("annotated positions must ascend")
        if self.annotated and not 0 <= self.annotated[0] <= self.annotated[-1] < len(self.frames):
            raise ValueError(f"annotated positions must lie in 0..{len(self.frames) - 1}")
        annotated = frozenset(self.annotated) if self.tracks else frozenset()
        for position, regions in (self.tracks or {}).items():
            if position not in annotated:
                raise ValueError(f"tracks name frame {position}, which is not annotated")
            if len({region.id for region in regions}) != len(regions):
                raise ValueError(f"a track is there twice in frame {position}")
        return self

    @classmethod
    def lazy(
        cls,
        read: Callable[[int], tuple[Region, ...]],
        draw: Callable[[int], NDArray[np.uint8]] | None = None,
        **fields: Any,
    ) -> Self:
        """A video whose regions come from ``read(position)``, which is called once for each frame that is used.

        Args:
            read: position in ``frames`` -> regions of that frame; raises InputError for a frame it cannot read.
            draw: position -> pixels (new uint8 [h, w, 3], BGR) of a frame that no file holds as it is, such as a view
                of an image; raises InputError. None: frames are the files (or frames of the video file) they name.
            fields: the attributes of the class.
        """
        video = cls(**fields)
        video._read = read
        video._draw = draw
        return video

    def reading(self, read: Callable[[int], tuple[Region, ...]]) -> Self:
        """The same video with other regions; see ``lazy``."""
        video = self.model_copy(update={"tracks": None})
        video._read = read
        return video

    def drawn(self, position: int) -> NDArray[np.uint8] | None:
        """The pixels of a frame that is made, uint8 [h, w, 3], BGR, new for each call; None when a file holds them.

        Raises:
            InputError: what it is made of cannot be read.
        """
        return self._draw(position) if self._draw else None

    def regions(self, position: int) -> tuple[Region, ...]:
        """The objects that are visible in the frame at ``position`` (0-based, in ``annotated``).

        Raises:
            InputError: the annotation of this frame is broken.
            KeyError: the frame is not annotated.
        """
        if position not in self.annotated:
            raise KeyError(f"frame {position} of video {self.id} is not annotated")
        if self.tracks is not None:
            return self.tracks.get(position, ())
        return self._read(position) if self._read else ()

    def loaded(self) -> Self:
        """The same video with every annotation read into ``tracks``, as its JSON needs it."""
        return self.model_copy(update={"tracks": {p: self.regions(p) for p in self.annotated}})


class Candidate(Model):
    """One marked object of the last image and the number that is drawn on it (1, 2, …)."""

    number: Annotated[int, Field(ge=1)]
    region: Region


class Option(Model):
    """One line of the choices: letter (A, B, …) and the number it stands for; None: "none of the above"."""

    letter: str
    number: int | None


class Review(Model):
    """What people said about a case.

    Attributes:
        state: proposed until a person has looked at it.
        by, at, seconds, reason: who, when (ISO 8601, UTC), for how long, and why it was rejected.
    """

    state: Literal["proposed", "accepted", "fixed", "rejected"] = "proposed"
    by: str | None = None
    at: str | None = None
    seconds: float | None = None
    reason: str | None = None


class Provenance(Model):
    """Where a case comes from; enough to make it again.

    Attributes:
        source, video: names of the source and of the video in it.
        frames: the source's frames, paths relative to the source's root.
        tracks: identity of the query, then of the candidates in the order of their numbers.
        seed, ordinal: with source and video they determine the case.
        gap: frames of the source between the first and the last image.
        look_alikes: candidates of the query's category, the answer not counted.
        visible: marked-up objects of the last image before the hardest were kept.
        versions: of this package and of the libraries that decide pixels.
        extra: anything more, plain JSON values.
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


class Cue(Model):
    """A sign by which the answer can be told from the other candidates.

    Attributes:
        type: 1..8, see MATCH_TYPES.
        score: 0..1, how clearly it sets the answer apart.
        evidence: in words, with the numbers that count; a clause without a full stop.
        measures: the numbers by name, in the units that ``cases.cues`` states.
        source: proposed by a program, until a person has said so.
    """

    type: MatchType
    score: Annotated[float, Field(ge=0, le=1)]
    evidence: str
    measures: dict[str, float] = Field(default_factory=dict)
    source: Literal["proposed", "human"] = "proposed"


class Written(Model):
    """Who wrote a rationale, when no person did.

    Attributes:
        by: a model behind an endpoint, or a template filled from cues.
        model: name of the model, as the endpoint was asked for it.
        version: of the prompt or of the template.
        digest: SHA-256 of the text in hexadecimal. A text that is another one now was changed by a person.
    """

    by: Literal["model", "template"]
    model: str | None = None
    version: str
    digest: str


@dataclass(frozen=True)
class _Place:
    """A folder that does not make two cases differ."""

    folder: Path | None = field(default=None, compare=False)


class Case(Model):
    """One correspondence question: images, the marked query, the numbered candidates, the answer.

    Records of version 1 that were written before ``cues`` and ``written`` existed lack them and are read as without.

    Attributes:
        id: name of the case folder, such as ``case_000000``.
        frames: two or more clean images, paths relative to the benchmark's folder; the last holds the candidates.
        query: the query in each image but the last.
        candidates: in the order of their numbers.
        answer: number of the right candidate; None when none of them is right.
        prompt: how objects are marked and asked about.
        question: the question without the choices (``pure_question`` of the tsv).
        options: in the order of their letters; the last is "none of the above".
        match_types: 1..8, see MATCH_TYPES.
        cues: what tells the answer from the others; proposals until a person has said so.
        rationale: why the answer is right, in words.
        written: who wrote the rationale, when no person did; see ``rationale_by``.
        review: what people said.
        provenance: None for cases read from a set that does not say.
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
    written: Written | None = None
    review: Review = Review()
    provenance: Provenance | None = None
    extra: Extra = Field(default_factory=dict)
    _place: _Place = PrivateAttr(default=_Place())

    @property
    def root(self) -> Path | None:
        """Folder that the paths of ``frames`` are relative to, when a reader has said so; neither in the JSON nor in
        comparisons, since a benchmark may be moved."""
        return self._place.folder

    def at(self, root: Path) -> Self:
        """The same case with its ``root``."""
        placed = self.model_copy()
        placed._place = _Place(root)
        return placed

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(self.query) != len(self.frames) - 1:
            raise ValueError(
                f"{len(self.frames)} frames need {len(self.frames) - 1} query regions, got {len(self.query)}"
            )
        numbers = [candidate.number for candidate in self.candidates]
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"candidate numbers {numbers} repeat")
        if self.answer is not None and self.answer not in numbers:
            raise ValueError(f"answer {self.answer} is not one of the candidates {numbers}")
        return self

    @property
    def letter(self) -> str:
        """Letter of the right option.

        Raises:
            ValueError: no option stands for the answer.
        """
        for option in self.options:
            if option.number == self.answer:
                return option.letter
        raise ValueError(f"{self.id}: no option for answer {self.answer}")

    @property
    def rationale_by(self) -> Literal["human", "model", "template"] | None:
        """Who wrote the rationale: a person unless ``written`` speaks of exactly this text. None without one."""
        if not self.rationale:
            return None
        if self.written and self.written.digest == hashlib.sha256(self.rationale.encode()).hexdigest():
            return self.written.by
        return "human"

"""Options for drawing cases from a video."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from mmvm_data.core.options import options

MAX_CANDIDATES = 37
"""Largest number of candidates in the published benchmark."""

CASES_PER_VIDEO = 4
VARIANT_SIZES = (4, 8, 12)
"""Numbers of candidates of the variants of a case, beside the one with all candidates."""

STILL_MIN_SHARE, STILL_MIN_CONTRAST = 0.005, 12.0
"""Defaults of ``min_share`` and ``min_contrast`` for still images, whose objects are often specks and background."""

LookAlikes = Literal["prefer", "require", "any"]
Gone = Literal["absent", "left"]


@options
class SamplingOptions:
    """Rules for drawing cases from a video.

    Attributes:
        seed: any integer.
        cases_per_video: cases drawn from each video, at most; None: 4, or 1 for sources of still images.
        min_gap, max_gap: bounds on the distance of the two images, in frames of the source; None: no upper bound.
        min_seconds: smallest time between the two images; 0: any. Needs times in the source, or ``frame_rate``.
        frame_rate: frames a second of a source that does not say it; None: the data set's, where it is known.
        min_area: visible pixels of an object, in both images.
        min_side: pixels of the shorter side of its box; its mean thickness must be half of that.
        max_occlusion: largest share (0..1) of an object that another object may cover.
        min_sharpness: smallest variance of the Laplacian (gray levels squared) in the query's box, in both images.
        min_share: share (0..1) of the image that the query covers at least, in both images; None: 0, or 0.005 for
            sources of still images.
        min_contrast: smallest mean color difference (CIELAB) across the query's outline, in both images; None: 0, or 12
            for sources of still images.
        none_share: share (0..1) of cases whose query is gone in the last image. Where nothing disappears, a case with
            an answer is drawn instead.
        gone: what counts as gone: ``absent`` from the last image's annotation, or ``left``, out of the picture: the
            query was last seen at the edge of the frame, and is not back in the next annotated frame. An object that
            another one hides is absent, but has not left.
        reappear_share: share (0..1) of cases whose query is absent in between, in one annotated frame or more. Where
            nothing reappears, another case is drawn instead.
        moved_share: share (0..1) of cases in which another candidate is nearer to the query's place in the first image
            than the query is in the last one; it is drawn from the cases that have an answer. Where nothing moves that
            far, another case is drawn instead.
        candidates: number of candidates to keep, the hardest ones; None keeps all (37 at most).
        variants: also write each case with the hardest 4, 8 and 12 candidates (see ``VARIANT_SIZES``), where it has
            more. The variants of a case share an id and differ in their candidates only.
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
    cases_per_video: Annotated[int, Field(ge=1)] | None = None
    min_gap: Annotated[int, Field(ge=1)] = 1
    max_gap: Annotated[int, Field(ge=1)] | None = 100
    min_seconds: Annotated[float, Field(ge=0)] = 0.0
    frame_rate: Annotated[float, Field(gt=0)] | None = None
    min_area: Annotated[int, Field(ge=1)] = 400
    min_side: Annotated[int, Field(ge=1)] = 12
    max_occlusion: Annotated[float, Field(ge=0, le=1)] = 0.6
    min_sharpness: Annotated[float, Field(ge=0)] = 20.0
    min_share: Annotated[float, Field(ge=0, le=1)] | None = None
    min_contrast: Annotated[float, Field(ge=0)] | None = None
    none_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    gone: Gone = "absent"
    reappear_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    moved_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    candidates: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] | None = None
    variants: bool = False
    min_candidates: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 2
    look_alikes: LookAlikes = "prefer"
    attempts: Annotated[int, Field(ge=1)] = 32
    embeddings: Annotated[str, Field(min_length=1)] | None = None

    @property
    def max_cases_per_video(self) -> int:
        """``cases_per_video``, or its default for videos."""
        return CASES_PER_VIDEO if self.cases_per_video is None else self.cases_per_video

    def with_still_defaults(self) -> SamplingOptions:
        """These options for a source of still images: its defaults in place of None."""
        return replace(
            self,
            cases_per_video=1 if self.cases_per_video is None else self.cases_per_video,
            min_share=STILL_MIN_SHARE if self.min_share is None else self.min_share,
            min_contrast=STILL_MIN_CONTRAST if self.min_contrast is None else self.min_contrast,
        )

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

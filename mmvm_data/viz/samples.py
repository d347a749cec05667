"""A case as the samples of a FiftyOne group: one image each, with the same fields on all of them.

The fields are on every image of a case, because the App filters the images of the slice that it shows. Fields have the
names of ``Case`` and ``Provenance`` where these have them.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mmvm_data.cases import baselines
from mmvm_data.core import masks
from mmvm_data.core.case_facts import answer_letter, check_masks, list_image_regions, region_area, source_name, video_id
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import MATCH_TYPES, Case, Frame, Region
from mmvm_data.formats.case_images import check_orientation
from mmvm_data.formats.difficulty import rate_difficulty
from mmvm_data.formats.predictions import NONE
from mmvm_data.io.checked_images import read_frame_image
from mmvm_data.io.files import path_kind, safe_join
from mmvm_data.viz import case_tags
from mmvm_data.viz.case_images import image_paths
from mmvm_data.viz.case_labels import record_labels

SCHEMA_VERSION = 3
"""Increased when samples change: the samples of an earlier version are then written again at the next load."""

LAST = "candidates"
"""Slice of the last image. The others are ``query``, ``query2`` …; fields with the objects have the same names."""

FieldKind = Literal["text", "texts", "integer", "integers", "number", "yes/no"]


class Fact(NamedTuple):
    """A field: its group in the sidebar ("" hides it), its name, its kind, and what it means."""

    group: str
    name: str
    kind: FieldKind
    meaning: str


FACTS = (
    Fact("case", "case_id", "text", "name of the case folder"),
    Fact("case", "answer", "text", "number of the right candidate, or none"),
    Fact("case", "answer_letter", "text", "letter of the right option"),
    Fact("case", "match_types", "texts", "match types that people set, by abbreviation"),
    Fact("case", "cue_types", "texts", "match types of the proposed cues, by abbreviation"),
    Fact("case", "cues", "texts", "proposed cues: abbreviation, score 0..1, evidence"),
    Fact("case", "prompt", "text", "whether objects are marked by masks or boxes"),
    Fact("case", "question", "text", "the question without the choices"),
    Fact("case", "choices", "texts", "the options, by letter"),
    Fact("case", "rationale", "text", "why the answer is right"),
    Fact("case", "category", "text", "class of the query"),
    Fact("difficulty", "difficulty", "number", "0 (easy) to 1 (hard), from choices, look-alikes and size of the query"),
    Fact("difficulty", "baselines_right", "texts", "blind baselines that name the right option"),
    Fact("difficulty", "baseline_hits", "integer", "how many blind baselines do"),
    Fact("difficulty", "candidate_count", "integer", "marked objects of the last image"),
    Fact("difficulty", "gap", "integer", "frames of the source between the first and the last image"),
    Fact("difficulty", "look_alikes", "integer", "candidates of the query's category, the answer not counted"),
    Fact("difficulty", "visible", "integer", "objects of the last image before the selection of the hardest"),
    Fact("difficulty", "query_area", "integer", "pixels of the query in the first image"),
    Fact("difficulty", "query_share", "number", "query_area over the image's, 0..1"),
    Fact("difficulty", "answer_area", "integer", "pixels of the right candidate"),
    Fact("difficulty", "smallest_area", "integer", "pixels of the smallest candidate"),
    Fact("review", "review_state", "text", "proposed, accepted, fixed, unsure or rejected"),
    Fact("review", "review_by", "text", "reviewer"),
    Fact("review", "review_at", "text", "time of the review, ISO 8601"),
    Fact("review", "review_seconds", "number", "duration of the review in seconds"),
    Fact("review", "review_reason", "text", "reason of a rejection"),
    Fact("provenance", "source", "text", "name of the source"),
    Fact("provenance", "video", "text", "id of the video in the source"),
    Fact("provenance", "source_frames", "texts", "files of the source, in the order of the images"),
    Fact("provenance", "frame_indices", "integers", "frame numbers in the source"),
    Fact("provenance", "tracks", "texts", "identity of the query, then of the candidates"),
    Fact("provenance", "seed", "integer", "with source, video and ordinal it determines the case"),
    Fact("provenance", "ordinal", "integer", "which case of the video"),
    Fact("provenance", "versions", "texts", "versions of the packages that built the case"),
    Fact("provenance", "extra", "text", "further values as JSON"),
    Fact("", "image", "integer", "0-based number of the image in the case"),
    Fact("", "key", "text", "case and slice; unique"),
    Fact("", "made_from", "text", "digest of the record: a changed case is loaded again"),
    Fact("", "agreed_tags", "texts", "tags of the case's record at the last pull or load"),
    Fact("", "agreed_answer", "text", "answer of the case's record when this sample was written"),
    Fact("", "agreed_match_types", "texts", "match types of the case's record when this sample was written"),
)
DRAWN = "drawn_path"
"""Field of the image with its marks, as models see it; the App's settings switch between the two."""

OBJECT_FACTS = {"number": "integer", "role": "text", "track": "text", "category": "text", "area": "integer"}
"""Attributes of each marked object beside its label. role: query, answer, look-alike, other."""


def slice_names(case: Case) -> list[str]:
    """Return the names of the slices of a case's images, in order."""
    return ["query", *(f"query{n}" for n in range(2, len(case.frames))), LAST]


def record_digest(case: Case, folder: Path) -> str:
    """Return SHA-256 over everything that the samples of a case are made from."""
    record = case.model_dump_json().encode()
    return hashlib.sha256(
        b"%d\0%b\0%b" % (SCHEMA_VERSION, str(folder).encode("utf-8", "surrogateescape"), record)
    ).hexdigest()


def check_case(case: Case, folder: Path) -> None:
    """Check that a case can be shown.

    Raises:
        InputError: an image is missing, damaged, of another size or asks for a rotation, or a mask is broken or not of
            its image's size.
    """
    for position, (frame, (drawn, clean)) in enumerate(zip(case.frames, image_paths(case), strict=True)):
        try:
            names = [clean, drawn] if os.path.lexists(safe_join(folder, drawn, case.id)) else [clean]
            for name in names:
                read_frame_image(folder, name, frame, case.id)
        except InputError as error:
            raise InputError(case.id, f"{error.file}: {error.reason}", f"image {position + 1}") from error
        for name in names:
            check_orientation(folder / name, case.id, name)
    check_masks(case)


def case_fields(case: Case) -> dict[str, Any]:
    """Return the values of the FACTS that all images of a case share."""
    origin, first = case.provenance, case.frames[0]
    areas = [region_area(candidate.region) for candidate in case.candidates]
    answer_area = next((area for c, area in zip(case.candidates, areas, strict=True) if c.number == case.answer), None)
    query_area = region_area(case.query[0])
    labels = record_labels(case)
    hits = _baseline_hits(case)
    extra = {k: v for k, v in case.extra.items() if k != case_tags.TAGS} | (origin.extra if origin else {})
    facts: dict[str, Any] = {
        "case_id": case.id,
        "answer": labels.answer,
        "answer_letter": answer_letter(case),
        "match_types": list(labels.match_types),
        "cue_types": [MATCH_TYPES[number][0] for number in sorted({cue.type for cue in case.cues})],
        "cues": [f"{MATCH_TYPES[cue.type][0]} {cue.score:.2f}: {cue.evidence}" for cue in case.cues],
        "prompt": case.prompt,
        "question": case.question.strip(),
        "choices": [f"{o.letter}. {NONE if o.number is None else o.number}" for o in case.options],
        "rationale": case.rationale,
        "category": case.query[0].category,
        "difficulty": rate_difficulty(case).score,
        "baselines_right": hits,
        "baseline_hits": len(hits),
        "candidate_count": len(case.candidates),
        "query_area": query_area,
        "query_share": query_area / (first.width * first.height),
        "answer_area": answer_area,
        "smallest_area": min(areas, default=None),
        **{f"review_{name}": value for name, value in case.review.model_dump().items()},
        "source": source_name(case),
        "video": video_id(case),
        "extra": json.dumps(extra, ensure_ascii=False, sort_keys=True) if extra else None,
        "agreed_tags": sorted(case_tags.record_tags(case)),
        "agreed_answer": labels.answer,
        "agreed_match_types": list(labels.match_types),
    }
    if origin:
        facts |= {name: getattr(origin, name) for name in ("gap", "look_alikes", "visible", "seed", "ordinal")}
        facts["source_frames"] = [frame.path for frame in origin.frames]
        facts["frame_indices"] = [frame.index for frame in origin.frames]
        facts["tracks"] = list(origin.tracks)
        facts["versions"] = [f"{name} {version}" for name, version in sorted(origin.versions.items())]
    return facts


def _baseline_hits(case: Case) -> list[str]:
    """Return the names of the blind baselines that are right, chance not counted; without a root, that of colors is
    left out.
    """
    right, hits = answer_letter(case), []
    for name, choose in baselines.BASELINES.items():
        if name == "random" or (name == "nearest_color" and case.root is None):
            continue
        if choose(case) == right:
            hits.append(name)
    return hits


def make_sample_fields(fo: Any, case: Case, folder: Path) -> dict[str, dict[str, Any]]:
    """Return slice -> the fields of its sample, all but the group and the tags.

    Args:
        fo: the library.
        case: one that ``check_case`` accepts.
        folder: the benchmark, absolute.
    """
    shared = case_fields(case) | {"made_from": record_digest(case, folder)}
    samples = {}
    for position, (name, (drawn, original)) in enumerate(zip(slice_names(case), image_paths(case), strict=True)):
        frame = case.frames[position]
        path = folder / original
        drawn_path = folder / drawn
        samples[name] = shared | {
            "filepath": str(path),
            DRAWN: str(drawn_path if path_kind(drawn_path) == "file" else path),
            "metadata": fo.ImageMetadata(
                size_bytes=path.stat().st_size, width=frame.width, height=frame.height, num_channels=3
            ),
            "image": position,
            "key": f"{case.id}/{name}",
            "query": None if name == LAST else _detections(fo, case, frame, position),
            LAST: _detections(fo, case, frame, position) if name == LAST else None,
        }
    return samples


def candidate_box(case: Case, number: int) -> list[float]:
    """Return the box of a candidate: x, y, width, height over the size of the last image."""
    region = next(candidate.region for candidate in case.candidates if candidate.number == number)
    return _relative_box(region, case.frames[-1])


def _detections(fo: Any, case: Case, frame: Frame, position: int) -> Any:
    is_last = position == len(case.frames) - 1
    category = case.query[0].category
    detections = []
    for k, region in enumerate(list_image_regions(case, position)):
        patch = masks.crop(region.mask).bitmap if region.mask else None
        if patch is not None and not patch.size:  # not visible in this image
            continue
        number = case.candidates[k].number if is_last else None
        if not is_last:
            role = "query"
        elif number == case.answer:
            role = "answer"
        else:
            role = "look-alike" if category is not None and region.category == category else "other"
        detections.append(
            fo.Detection(
                label="query" if number is None else str(number),
                bounding_box=_relative_box(region, frame),
                mask=None if patch is None else patch.astype(bool),
                number=number,
                role=role,
                track=region.id,
                category=region.category,
                area=region_area(region),
            )
        )
    return fo.Detections(detections=detections)


def _relative_box(region: Region, frame: Frame) -> list[float]:
    """Return x, y, width, height over the image's size, clipped to the image."""
    x, y, width, height = region.box or masks.bbox(masks.region_mask(region, frame.height, frame.width))
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + width, frame.width), min(y + height, frame.height)
    return [
        left / frame.width,
        top / frame.height,
        max(right - left, 0.0) / frame.width,
        max(bottom - top, 0.0) / frame.height,
    ]

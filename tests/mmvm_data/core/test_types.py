"""The nouns: JSON in and out, and what they refuse."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from mmvm_data.builders.mot import open_mot
from mmvm_data.builders.palette import open_davis
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import (
    Candidate,
    Case,
    Cue,
    Frame,
    Option,
    Provenance,
    RationaleAuthor,
    Region,
    Review,
    Rle,
    Video,
)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


def _frames(count: int) -> tuple[Frame, ...]:
    return tuple(Frame(path=f"{k}.jpg", index=k, width=16, height=12) for k in range(count))


def _box(track: str = "1", **more: Any) -> Region:
    return Region(id=track, box=(1, 2, 3, 4), **more)


def _case(**changes: Any) -> Case:
    fields: dict[str, Any] = {
        "id": "case_000000",
        "frames": _frames(2),
        "query": (_box(),),
        "candidates": (Candidate(number=1, region=_box("2")), Candidate(number=2, region=_box())),
        "answer": 2,
        "question": "which?",
        "options": (Option(letter="A", number=1), Option(letter="B", number=2), Option(letter="C", number=None)),
        "provenance": Provenance(source="s", video="v", frames=_frames(2), tracks=("1",), seed=0, ordinal=0, gap=1),
    }
    return Case(**{**fields, **changes})


def _everything() -> list[BaseModel]:
    case = _case()
    return [
        Rle(size=(12, 16), counts="0"),
        _box(),
        Region(id="1", mask=Rle(size=(12, 16), counts="0"), category="cat", extra={"a": [1, {"b": None}]}),
        Frame(path="a.mp4", index=3, width=16, height=12, video_frame=3, time=0.125),
        Video(id="v", source="s", frames=_frames(3), annotated=(0, 2), tracks={0: (_box(),), 2: ()}),
        Candidate(number=1, region=_box()),
        Option(letter="A", number=None),
        Review(state="rejected", by="me", seconds=1.5),
        Cue(type=1, score=0.5, evidence="its colour is nearest", measures={"answer": 3.0}, source="human"),
        RationaleAuthor(by="model", model="m", version="1", digest="0"),
        case,
        *([case.provenance] if case.provenance else []),
    ]


@pytest.mark.parametrize("value", _everything(), ids=lambda value: type(value).__name__)
def test_json_round_trip_is_exact_and_strict(value: BaseModel) -> None:
    text = value.model_dump_json()
    assert type(value).model_validate_json(text) == value
    content = json.loads(text)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        type(value).model_validate({**content, "new": 1})
    if "version" in content:
        with pytest.raises(ValidationError, match="version"):
            type(value).model_validate({**content, "version": 2})
    with pytest.raises(ValidationError, match="frozen"):
        setattr(value, next(iter(content)), None)


def test_videos_of_real_sets_as_json(realdata: Path) -> None:
    for video in (
        open_davis("davis2017", realdata / "davis2017_interactive").load("tennis"),
        open_mot("mot17", realdata / "mot17_mini").load("MOT17-04-FRCNN"),
    ):
        again = Video.model_validate_json(video.with_tracks().model_dump_json())
        assert again.tracks is not None
        assert (again.frames, again.annotated, again.prompt) == (video.frames, video.annotated, video.prompt)
        for position in video.annotated:
            assert again.regions(position) == video.regions(position)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), PLAIN, max_size=4))
def test_extra_accepts_any_plain_json(extra: dict[str, Any]) -> None:
    region = _box(extra=extra)
    assert Region.model_validate_json(region.model_dump_json()) == region


@pytest.mark.parametrize(
    "extra", [{"a": float("nan")}, {"a": [1, {"b": float("inf")}]}, {"a": {1: 2}}, {"a": (1, 2)}, {"a": object()}]
)
def test_extra_rejects_what_json_does_not_preserve(extra: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"is not a plain JSON value|is not a string"):
        _box(extra=extra)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"mask": Rle(size=(1, 1), counts="0"), "box": (1, 2, 3, 4)},
        {"box": (1, 2, float("nan"), 4)},
        {"box": (1, float("inf"), 3, 4)},
        {"box": (1, 2, 0, 4)},
        {"box": (1, 2, 3, -4)},
        {"box": (1, 2, 3)},
        {"box": (1, 2, 3, 4), "id": 5},
    ],
)
def test_invalid_regions(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Region(**{"id": "1", **fields})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"annotated": (0, 3)}, "must lie in 0..2"),
        ({"annotated": (-1, 0)}, "must lie in 0..2"),
        ({"annotated": (1, 0)}, "must ascend"),
        ({"annotated": (0, 0)}, "must ascend"),
        ({"annotated": (0, 2), "tracks": {1: ()}}, "frame 1, which is not annotated"),
        ({"annotated": (0,), "tracks": {0: (_box(), _box())}}, "frame 0 has two regions of one track"),
    ],
)
def test_invalid_videos(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Video(id="v", source="s", frames=_frames(3), **fields)


def test_regions_of_a_frame_without_annotation_raise_key_error() -> None:
    video = Video.lazy(lambda position: (_box(str(position)),), id="v", source="s", frames=_frames(3), annotated=(0, 2))
    assert [video.regions(p)[0].id for p in video.annotated] == ["0", "2"]
    with pytest.raises(KeyError, match="frame 1 of video v is not annotated"):
        video.regions(1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"query": (_box(), _box())}, "2 frames need 1 query regions, got 2"),
        ({"candidates": (Candidate(number=1, region=_box()),) * 2, "answer": 1}, r"numbers \[1, 1\] repeat"),
        ({"answer": 3}, "answer 3 is not one of the candidates"),
        ({"match_types": (9,)}, "less than or equal to 8"),
        ({"frames": _frames(1)}, "at least 2"),
        ({"extra": {"a": float("nan")}}, "is not a plain JSON value"),
    ],
)
def test_invalid_cases(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        _case(**changes)


def test_letter_of_the_answer() -> None:
    assert _case().letter == "B"
    assert _case(answer=None).letter == "C"
    with pytest.raises(ValueError, match="no option for answer 1"):
        _ = _case(answer=1, options=(Option(letter="A", number=2),)).letter


def test_records_from_before_cues_are_read() -> None:
    content = json.loads(_case(rationale="it has a bell").model_dump_json())
    for name in ("cues", "written"):
        del content[name]
    case = Case.model_validate_json(json.dumps(content))
    assert (case.cues, case.written, case.rationale_by) == ((), None, "human")


def test_rationale_edited_by_a_person_counts_as_human() -> None:
    mark = RationaleAuthor(by="template", version="1", digest=hashlib.sha256(b"it is red").hexdigest())
    assert _case(rationale="it is red", written=mark).rationale_by == "template"
    assert _case(rationale="it is green", written=mark).rationale_by == "human"
    assert _case(written=mark).rationale_by is None


def test_regions_reader_and_pixels_of_a_lazy_video() -> None:
    problem = InputError("a.txt", "line 3 names a frame that does not exist")
    fields: dict[str, Any] = {"id": "v", "source": "s", "frames": _frames(3), "annotated": (0, 2)}
    video = Video.lazy(
        lambda position: (_box(f"track {position}"),),
        lambda position: np.full((12, 16, 3), position, np.uint8),
        [problem],
        **fields,
    )
    assert video.problems == (problem,)
    pixels = video.render_frame(2)
    assert pixels is not None
    assert (pixels.shape, pixels.min(), pixels.max()) == ((12, 16, 3), 2, 2)
    tracks = {0: (_box("track 0"),), 2: (_box("track 2"),)}
    assert (video.tracks, video.with_tracks().tracks) == (None, tracks)
    for other in (video, video.with_tracks()):
        replaced = other.with_regions_reader(lambda position: (_box(f"other {position}"),))
        assert [replaced.regions(position)[0].id for position in (0, 2)] == ["other 0", "other 2"]
        assert replaced.problems == (problem,)
    assert Video.lazy(lambda position: (), **fields).problems == ()
    stored = Video(**fields, tracks={0: (_box(),)})
    assert (stored.render_frame(0), stored.regions(0), stored.regions(2)) == (None, (_box(),), ())
    assert Video(**fields).regions(0) == ()


def test_root_of_a_case_is_kept_beside_its_record() -> None:
    case = _case()
    moved = case.with_root(Path("folder"))
    assert (case.root, moved.root) == (None, Path("folder"))
    assert moved == case
    assert moved.model_dump_json() == case.model_dump_json()


def test_messages_about_plain_json() -> None:
    with pytest.raises(ValidationError, match=r"the key 3 is not a string"):
        _box(extra={"a": [{"b": {3: 1}}]})
    with pytest.raises(ValidationError, match=r"Value error, \(1, 2\) is not a plain JSON value"):
        _box(extra={"a": [0, (1, 2)]})
    long = "x" * 100
    with pytest.raises(ValidationError, match=rf"Value error, \('{'x' * 38} is not a plain JSON value"):
        _box(extra={"a": (long,)})


@pytest.mark.parametrize("counts", ["a\x9bb", "é", "p", "[/]~", "04P", "0 4", "\n"])
def test_counts_that_a_decoder_would_read_beyond(counts: str) -> None:
    """Characters that the encoding has not, and a last one that says that another follows."""
    with pytest.raises(ValueError, match="counts are not in COCO's run-length encoding"):
        Rle(size=(2, 2), counts=counts)
    Rle(size=(2, 2), counts="04")
    Rle(size=(2, 2), counts="")

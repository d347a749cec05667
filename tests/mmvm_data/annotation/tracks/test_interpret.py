"""Annotations of shots, usable and not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmvm_data.annotation.labelstudio.brush import encode_brush
from mmvm_data.annotation.labelstudio.shapes import Editor
from mmvm_data.annotation.tracks.interpret import read_tracks
from mmvm_data.annotation.tracks.layout import Shot
from mmvm_data.annotation.tracks.sam2 import TrackedMask
from mmvm_data.annotation.tracks.task import tracks_to_results
from mmvm_data.core import masks
from mmvm_data.core.types import Frame, Region

SHOT = Shot(first=0, last=9, frames=tuple(Frame(path=f"f/{n}.jpg", index=3 * n, width=40, height=30) for n in range(3)))


def shape(kind: str, value: dict[str, Any], label: str, picture: int = 0, name: str = "") -> list[dict[str, Any]]:
    """A shape and its number, as the server gives them."""
    name = name or f"{kind}{label}{picture}"
    common = {"id": name, "to_name": "original1", "original_width": 40, "original_height": 30, "item_index": picture}
    return [
        common | {"type": kind, "from_name": f"{kind}1", "value": value},
        common | {"type": "labels", "from_name": "object1", "value": value | {"labels": [label]}},
    ]


def bitmap(x: int, y: int, side: int = 6) -> np.ndarray:
    square = np.zeros((30, 40), np.uint8)
    square[y : y + side, x : x + side] = 1
    return square


def painted(label: str, picture: int, mask: np.ndarray, name: str = "") -> list[dict[str, Any]]:
    return shape("brush", {"format": "rle", "rle": encode_brush(masks.encode(mask))}, label, picture, name)


def boxed(label: str, picture: int = 0, name: str = "") -> list[dict[str, Any]]:
    return shape("rectangle", {"x": 10, "y": 10, "width": 50, "height": 20, "rotation": 0}, label, picture, name)


def categorized(label: str, name: str) -> dict[str, Any]:
    return {"id": label, "from_name": "category", "type": "textarea", "value": {"text": [name]}}


@given(st.integers(0, 2**32), st.floats(0.05, 0.95))
def test_brushes_that_overlap_come_back_to_the_pixel(seed: int, share: float) -> None:
    two = (np.random.default_rng(seed).random((2, 30, 40)) < share).astype(np.uint8)
    results = painted("1", 0, two[0]) + painted("2", 0, two[1]) + painted("1", 2, two[0] | two[1])
    video = read_tracks("c/s", SHOT, results).video
    assert video.annotated == (0, 2)
    assert [(r.id, r.mask) for r in video.regions(0)] == [(str(k + 1), masks.encode(two[k])) for k in range(2)]
    assert video.regions(2)[0].mask == masks.encode(two[0] | two[1])


def test_pieces_are_one_mask_and_far_ones_are_noted() -> None:
    near = painted("3", 0, bitmap(0, 0), "a") + painted("3", 0, bitmap(8, 0), "b") + painted("3", 1, bitmap(0, 0))
    done = read_tracks("c/s", SHOT, near)
    assert done.video.regions(0)[0].mask == masks.encode(bitmap(0, 0) | bitmap(8, 0))
    assert done.notes == ()
    far = painted("3", 0, bitmap(0, 0), "a") + painted("3", 0, bitmap(30, 20), "b") + painted("3", 1, bitmap(0, 0))
    assert (
        "object 3 on picture 1 (frame 0) is drawn in pieces that lie far apart"
        in read_tracks("c/s", SHOT, far).notes[0]
    )


def test_a_category_is_given_once() -> None:
    first = painted("1", 0, bitmap(0, 0), "x")
    results = [*first, *painted("1", 1, bitmap(2, 0)), categorized("x", " dog ")]
    video = read_tracks("c/s", SHOT, results).video
    assert [video.regions(p)[0].category for p in (0, 1)] == ["dog", "dog"]
    results = [*results, categorized("brush11", "cat")]
    with pytest.raises(ValueError, match="object 1 is called 'dog' and 'cat'"):
        read_tracks("c/s", SHOT, results)


def test_boxes_and_a_mixture() -> None:
    video = read_tracks("c/s", SHOT, boxed("1") + boxed("1", 1)).video
    assert (video.prompt, video.regions(1)[0].box) == ("box", (4.0, 3.0, 20.0, 6.0))
    done = read_tracks("c/s", SHOT, boxed("1") + painted("2", 1, bitmap(5, 6)))
    assert done.video.regions(1)[0].box == (5, 6, 6, 6)
    assert "1 masks became boxes" in done.notes[0]


def test_proposals_that_are_left_as_they_are_come_back() -> None:
    tracks = {p: [Region(id="4", mask=masks.encode(bitmap(3 + p, 5, 9)))] for p in range(3)}
    video = read_tracks("c/s", SHOT, tracks_to_results(SHOT, tracks)).video
    assert {p: list(video.regions(p)) for p in range(3)} == tracks
    exact = read_tracks("c/s", SHOT, tracks_to_results(SHOT, tracks, "brush")).video
    assert {p: list(exact.regions(p)) for p in range(3)} == tracks


@pytest.mark.parametrize("editor", ["polygon", "brush"])
def test_the_score_of_a_mask_stands_beside_its_shapes(editor: Editor) -> None:
    rle = masks.encode(bitmap(3, 5, 9))
    scored = Region(id="4", mask=TrackedMask(size=rle.size, counts=rle.counts, score=0.42))
    results = tracks_to_results(SHOT, {1: [scored], 2: [Region(id="4", mask=rle)]}, editor)
    assert {(result["item_index"], result.get("score")) for result in results} == {(1, 0.42), (2, None)}
    assert read_tracks("c/s", SHOT, results).video.regions(1)[0].mask == rle


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "is empty"),
        (shape("keypoint", {"x": 1, "y": 1}, "1"), "only clicks"),
        (boxed("1", 0, "a") + boxed("1", 0, "b"), "object 1 on picture 1 .*: is drawn 2 times"),
        (boxed("1", 0, "a") + painted("1", 0, bitmap(1, 1), "b"), "is drawn 2 times"),
        (boxed("1", 7), "picture 7, there are 3"),
        (boxed("1")[:1], "has no number"),
        (boxed("one"), "has no number"),
        (painted("1", 0, np.zeros((30, 40), np.uint8)), "holds no pixel"),
        (
            shape("brush", {"rle": encode_brush(masks.encode(np.ones((9, 9))))}, "1"),
            "brush covers an image of 81 pixels",
        ),
        ([r | {"original_width": 41} for r in boxed("1")], "drawn on an image of 41 x 30"),
        (shape("polygon", {"points": [[1, 1], [2, 2]]}, "1"), "fewer than three points"),
        (shape("polygon", {"points": [[1, 1], [9, 1], [9, 9]], "closed": False}, "1"), "polygon is not closed"),
        (shape("polygon", {"points": [[1, 1], [50, 50], [99, 99]], "closed": True}, "1"), "holds no pixel"),
        ("text", "no list of regions"),
        ([{"type": "brush"}], "no list of regions"),
    ],
)
def test_bad_annotations_are_one_message(results: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tracks("c/s", SHOT, results)


def test_a_single_picture_is_noted() -> None:
    assert "only one picture" in read_tracks("c/s", SHOT, boxed("1")).notes[0]


def polygon(*points: tuple[float, float]) -> list[dict[str, Any]]:
    """A polygon of object 1 with its points in per cent of the image, as the editor saves it."""
    return shape("polygon", {"points": [list(point) for point in points], "closed": True}, "1")


def drawn_mask(results: list[dict[str, Any]]) -> np.ndarray:
    (region,) = read_tracks("c/s", SHOT, results).video.regions(0)
    assert region.mask is not None
    return masks.decode(region.mask)


def test_a_bow_tie_is_both_of_its_wings() -> None:
    bow = drawn_mask(polygon((10, 10), (90, 90), (90, 10), (10, 90)))
    assert bow[15, 6] == bow[15, 34] == 1  # left and right
    assert bow[5, 20] == bow[25, 20] == 0  # above and below the knot
    assert np.array_equal(bow, bow[:, ::-1])


def test_a_pentagram_is_filled_in_its_middle_as_on_the_page() -> None:
    angles = np.pi / 2 + np.arange(5) * 4 * np.pi / 5
    star = drawn_mask(polygon(*zip(50 + 40 * np.cos(angles), 50 - 40 * np.sin(angles), strict=True)))
    assert star[15, 20] == 1
    assert star[15, 3] == star[3, 3] == 0

"""Following by flow and appearance, with a segmenter that needs no weights."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mmvm_data.annotation.tracks.follow import (
    FlowTracker,
    bounding_box,
    inner_point,
    overlap,
    prompt_logits,
    search_mask,
)
from mmvm_data.annotation.tracks.matching import cell_shares
from mmvm_data.annotation.tracks.sam2 import Prompt, TrackedMask
from mmvm_data.core import masks
from tests.mmvm_data.annotation.tracks.segmenters import ColorSegmenter

SIZE = 120, 160


def picture(x: int, y: int = 40, other: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A red disc with its middle at x, y on a textured ground, and its mask; ``other``: x of a blue disc."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(60, 200, (15, 20, 3), dtype=np.uint8), SIZE[::-1])
    mask = np.zeros(SIZE, np.uint8)
    if other is not None:
        cv2.circle(image, (other, y), 14, (220, 40, 30), cv2.FILLED)
    cv2.circle(image, (x, y), 14, (20, 20, 230), cv2.FILLED)
    cv2.circle(mask, (x, y), 14, 1, cv2.FILLED)
    return image, mask.astype(bool)


def follow(images: list[NDArray[np.uint8]], prompt: Prompt) -> list[NDArray[np.bool_] | None]:
    tracks = FlowTracker(ColorSegmenter()).propagate(images, {"7": prompt})
    return [masks.decode(found["7"]).astype(bool) if found else None for found in tracks]


@pytest.mark.parametrize("step", [4, 11, 45])
def test_an_object_is_followed_over_small_and_large_steps(step: int) -> None:
    pictures = [picture(x) for x in range(25, 145, step)]
    found = follow([image for image, _ in pictures], Prompt(clicks=((25.0, 40.0),)))
    assert len(found) == len(pictures) > 2
    for mask, (_, truth) in zip(found, pictures, strict=True):
        assert mask is not None and overlap(mask, truth) > 0.9


def test_where_nothing_has_the_shape_of_the_guess_its_box_is_drawn_again() -> None:
    class BoxSegmenter(ColorSegmenter):
        """Draws nothing for a mask."""

        def segment(self, image: Any, box: Any = None, clicks: Any = (), others: Any = (), logits: Any = None) -> Any:
            drawn, scores, low = super().segment(image, box, clicks, others, logits)
            return drawn & (logits is None), scores, low

    before, _ = picture(60)
    after = cv2.rectangle(before.copy(), (60, 60), (66, 100), (20, 20, 230), cv2.FILLED)  # it puts a leg out
    after = cv2.line(after, (60, 40), (60, 62), (20, 20, 230), 6)
    tracks = FlowTracker(BoxSegmenter()).propagate([before, after], {"7": Prompt(box=(46, 26, 29, 29))})
    drawn, _, _ = ColorSegmenter().segment(after, (46, 26, 29, 29))
    assert np.array_equal(masks.decode(tracks[1]["7"]).astype(bool), drawn[1])
    assert drawn[1][90, 63]


def test_the_color_decides_between_two_objects_of_one_shape() -> None:
    pictures = [picture(40, other=100), picture(60, other=115), picture(80, other=130)]
    found = follow([image for image, _ in pictures], Prompt(box=(26, 26, 29, 29)))
    for mask, (_, truth) in zip(found, pictures, strict=True):
        assert mask is not None and overlap(mask, truth) > 0.9


def test_an_object_that_leaves_is_gone_and_found_again() -> None:
    pictures = [picture(40), picture(50), picture(400), picture(60)]
    found = follow([image for image, _ in pictures], Prompt(clicks=((40.0, 40.0),)))
    assert [mask is None for mask in found] == [False, False, True, False]
    assert found[3] is not None and overlap(found[3], pictures[3][1]) > 0.9


def test_an_object_that_comes_out_elsewhere_in_another_shape_is_found_by_its_colors() -> None:
    first, _ = picture(40)
    covered, _ = picture(400)
    again = covered.copy()
    cv2.rectangle(again, (90, 98), (149, 107), (20, 20, 230), cv2.FILLED)  # a bar of the disc's area
    truth = np.all(again == (20, 20, 230), axis=2)
    found = follow([first, covered, again], Prompt(clicks=((40.0, 40.0),)))
    assert found[1] is None
    assert found[2] is not None and np.array_equal(found[2], truth)
    # something of other colors is not taken for it
    again[truth] = (220, 40, 30)
    assert follow([first, covered, again], Prompt(clicks=((40.0, 40.0),)))[2] is None


def test_the_colors_of_what_covers_an_object_are_not_learned() -> None:
    """Half of it is seen, then nothing, and what is in front of it has not become the object."""
    first, _ = picture(40)
    ground, _ = picture(400)
    front = np.array((90, 160, 60), np.uint8)
    half, hidden = first.copy(), ground.copy()
    half[20:62, 40:70] = front
    hidden[20:62, 20:70] = front
    found = follow([first, half, hidden, hidden], Prompt(clicks=((40.0, 40.0),)))
    assert [mask is None for mask in found] == [False, False, True, True]


class FeatureSegmenter(ColorSegmenter):
    """Its features tell an object that is given for each picture from everything else; its colors do not."""

    def __init__(self, objects: dict[bytes, NDArray[np.bool_]]) -> None:
        super().__init__()
        self._objects = objects

    def features(self, image: Any) -> NDArray[np.float32] | None:
        shares = cell_shares(self._objects[image.tobytes()], 40)
        return np.stack([shares > 0.5, shares <= 0.5]).astype(np.float32)


def test_features_tell_an_object_from_one_of_its_colors_that_takes_its_place() -> None:
    first, mask = picture(40)
    second, _ = picture(400)
    cv2.rectangle(second, (90, 96), (149, 107), (20, 20, 230), cv2.FILLED)  # it lies down
    truth = np.all(second == (20, 20, 230), axis=2)
    cv2.rectangle(second, (30, 30), (50, 50), (20, 20, 230), cv2.FILLED)
    given = {"7": Prompt(mask=masks.encode(mask.astype(np.uint8)))}
    objects = {first.tobytes(): mask, second.tobytes(): truth}
    found = []
    for segmenter in (ColorSegmenter(), FeatureSegmenter(objects)):
        tracks = FlowTracker(segmenter).propagate([first, second], given)
        found.append(overlap(masks.decode(tracks[1]["7"]).astype(bool), truth))
    assert found[0] == 0 and found[1] > 0.9


def test_scores_tell_how_sure_a_mask_is() -> None:
    (first, mask), (moved, _) = picture(40), picture(44)
    far, _ = picture(400)
    cv2.rectangle(far, (90, 98), (149, 107), (20, 20, 230), cv2.FILLED)
    given = Prompt(mask=masks.encode(mask.astype(np.uint8)))
    near, away = (FlowTracker(ColorSegmenter()).propagate([first, image], {"7": given}) for image in (moved, far))
    tracked = [found["7"] for found in (*near, away[1])]
    assert all(isinstance(one, TrackedMask) for one in tracked)
    scores = [one.score for one in tracked if isinstance(one, TrackedMask)]
    assert scores[0] == 1.0 and scores[1] > 0.9 and 0.3 < scores[2] < 0.75


def test_a_mask_that_is_given_is_kept_in_its_picture() -> None:
    image, truth = picture(60)
    ragged = truth.copy()
    ragged[::3] = False
    found = follow([image], Prompt(mask=masks.encode(ragged.astype(np.uint8))))
    assert found[0] is not None and np.array_equal(found[0], ragged)


def test_measures() -> None:
    image, mask = picture(60)
    assert bounding_box(mask) == (46, 26, 29, 29)
    x, y = inner_point(mask)
    assert abs(x - 60.5) <= 1 and abs(y - 40.5) <= 1
    logits = prompt_logits(mask)
    assert logits.shape == (256, 256) and logits[192:].max() < 0 < logits[64, 97]
    moved = search_mask(image, mask, picture(110)[0])
    assert moved is not None and overlap(moved, picture(110)[1]) > 0.85
    assert search_mask(image, np.zeros_like(mask), image) is None

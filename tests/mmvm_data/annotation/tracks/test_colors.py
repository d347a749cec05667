"""Where an image has an object's colors."""

from __future__ import annotations

import numpy as np
import pytest

from mmvm_data.annotation.tracks.colors import color_histogram, likely_boxes
from tests.mmvm_data.annotation.tracks.test_follow import picture


def test_a_histogram_holds_the_share_of_each_color() -> None:
    image, mask = picture(60)
    assert color_histogram(image, mask).sum() == pytest.approx(1)
    assert color_histogram(image, mask).max() == pytest.approx(1)
    assert not color_histogram(image, np.zeros_like(mask)).any()


def test_the_likeliest_boxes_hold_the_color_and_stay_in_the_image() -> None:
    image, mask = picture(60)
    colors, area = color_histogram(image, mask), int(mask.sum())
    for x, y in ((120, 70), (4, 6)):
        moved, truth = picture(x, y, other=60)
        boxes = likely_boxes(moved, colors, area, (29, 29))
        left, top, width, height = boxes[0]
        rows, columns = (slice(round(a), round(a + side)) for a, side in ((top, height), (left, width)))
        assert truth[rows, columns].sum() > 0.9 * truth.sum()
        assert all(x >= 0 and y >= 0 and x + w <= 160 and y + h <= 120 for x, y, w, h in boxes)
    assert likely_boxes(np.zeros_like(image), colors, area, (29, 29)) == []

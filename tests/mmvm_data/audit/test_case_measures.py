"""Measures with images are those of boxes and mean colors apart; each object of a frame is measured once."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mmvm_data.audit.case_measures import RegionRows, measure_case, measure_with_images
from mmvm_data.cases import baselines
from tests.mmvm_data.audit.test_baseline_answers import random_case
from tests.mmvm_data.cases.test_baselines import HEIGHT, WIDTH


@pytest.mark.parametrize("step", [1, 4])
def test_measures_with_images_are_those_of_boxes_and_colors(step: int) -> None:
    rng, values = random.Random(1), np.random.default_rng(1)
    shape = (HEIGHT // step, WIDTH // step, 3)
    for _ in range(60):
        case = random_case(rng)
        images = [values.integers(0, 256, shape, np.uint8) for _ in case.frames]
        expected = measure_case(case, baselines.measure_colors(case, images.__getitem__))
        rows: RegionRows = {}
        found = measure_with_images(case, images.__getitem__, rows, range(len(images)))
        again = measure_with_images(case, lambda number: pytest.fail(f"image {number} is read again"), rows, (0, 1))
        for measures in (found, again):
            np.testing.assert_array_equal(measures.regions, expected.regions)
            assert measures._replace(regions=expected.regions) == expected

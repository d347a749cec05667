"""Where the features of an object are found again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmvm_data.annotation.tracks.matching import FeatureMemory, cell_shares, likely_parts, match

SHAPE = 48, 64
"""Of pictures whose square has 16 x 16 cells of 4 pixels; the last four rows of cells lie below the picture."""


def picture(row: int, column: int, kind: int = 1) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features of a picture with an object of 3 x 2 cells at a cell, one direction for each kind, and its mask."""
    rng = np.random.default_rng(row + column)
    kinds = np.zeros((16, 16), int)
    kinds[row : row + 3, column : column + 2] = kind
    kinds[12:] = 1  # what the model sees below the picture is no part of it
    features = np.eye(4)[kinds].transpose(2, 0, 1) + rng.normal(0, 0.02, (4, 16, 16))
    features /= np.linalg.norm(features, axis=0)
    mask = np.zeros(SHAPE, bool)
    mask[4 * row : 4 * row + 12, 4 * column : 4 * column + 8] = True
    return features.astype(np.float32), mask


def test_an_object_is_found_wherever_it_is() -> None:
    memory = FeatureMemory(*picture(2, 3))
    features, mask = picture(8, 13)
    shares = memory.locate(features, SHAPE)
    assert match(mask, shares) > 0.95 and match(~mask, shares) < 0.05
    assert not shares[12:].any()
    (part,) = likely_parts(shares, SHAPE, 1)
    assert part.shape == SHAPE and (part & mask).sum() / (part | mask).sum() > 0.9


def test_an_object_that_is_gone_has_no_part() -> None:
    memory = FeatureMemory(*picture(2, 3))
    shares = memory.locate(picture(8, 13, kind=2)[0], SHAPE)
    assert likely_parts(shares, SHAPE, 1) == []


def test_what_it_looks_like_now_is_learned_and_the_first_look_is_kept() -> None:
    memory = FeatureMemory(*picture(2, 3))
    for kind in (2, 2, 3):
        memory.add(*picture(4, 5, kind))
    for kind in (1, 2, 3):
        features, mask = picture(6, 9, kind)
        assert match(mask, memory.locate(features, SHAPE)) > 0.9
    memory.add(*picture(4, 5, 3))
    features, mask = picture(6, 9, 2)
    assert match(mask, memory.locate(features, SHAPE)) < 0.1  # two pictures ago is forgotten


def test_the_largest_parts_come_first_and_small_ones_not_at_all() -> None:
    shares = np.zeros((16, 16), np.float32)
    shares[1:3, 1:3], shares[6:10, 6:10], shares[0, 15] = 0.9, 0.8, 1.0
    parts = likely_parts(shares, SHAPE, 2)
    assert [int(part[:, :].sum()) > 150 for part in parts] == [True, False]
    assert parts[0][32, 32] and parts[1][8, 8]


def test_shares_of_cells() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[0:4, 0:2] = True
    assert np.argwhere(cell_shares(mask, 16)).tolist() == [[0, 0]]
    assert cell_shares(mask, 16)[0, 0] == 0.5

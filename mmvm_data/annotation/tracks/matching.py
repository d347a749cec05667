"""Where an object is in another picture, by the features of the model that draws it.

A cell of a picture belongs to the object as far as the cells that are most like it do, in the pictures in which it is
known where the object is (label propagation, as Jabri et al., NeurIPS 2020, use to follow masks). Steps between
pictures may be large, and the object may turn: nothing is carried along, so nothing drifts.

Features cover the square that the model sees: its side is the longer side of the picture, which lies at its upper left.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]
"""Of a picture, [c, n, n] over the square; each cell has length 1."""
CellShares = NDArray[np.float32]
"""How far each cell belongs to an object, [n, n], 0..1."""

_NEIGHBORS: Final = 10
_TEMPERATURE: Final = 0.03  # of similarities, cosines
_LAST_PICTURES: Final = 2
_SURE_SHARE: Final = 0.5


class FeatureMemory:
    """What is known of an object: its cells in the picture in which it was marked, and in the last ones.

    Args:
        features: of the picture.
        mask: the object in it, [h, w].
    """

    def __init__(self, features: Features, mask: NDArray[np.bool_]) -> None:
        self._known = [_cut(features, mask)]

    def add(self, features: Features, mask: NDArray[np.bool_]) -> None:
        """Learn where the object is in one more picture of the same size; the first and the last two are kept."""
        self._known = [self._known[0], *self._known[1:][-(_LAST_PICTURES - 1) :], _cut(features, mask)]

    def locate(self, features: Features, shape: tuple[int, int]) -> CellShares:
        """How far each cell of a picture belongs to the object.

        Args:
            features: of the picture.
            shape: its height and width in pixels.
        """
        size = features.shape[-1]
        cells = features[:, : _used_rows(size, shape), : _used_rows(size, shape[::-1])]
        known, shares = (np.concatenate(parts, axis=-1) for parts in zip(*self._known, strict=True))
        similarity = cells.reshape(len(cells), -1).T @ known
        nearest = np.argpartition(similarity, -_NEIGHBORS, axis=1)[:, -_NEIGHBORS:]
        found = np.take_along_axis(similarity, nearest, axis=1)
        weights = np.exp((found - found.max(axis=1, keepdims=True)) / _TEMPERATURE)
        located = (weights * shares[nearest]).sum(axis=1) / weights.sum(axis=1)
        square = np.zeros((size, size), np.float32)
        square[: cells.shape[1], : cells.shape[2]] = located.reshape(cells.shape[1:])
        return square


def cell_shares(mask: NDArray[np.bool_], size: int) -> CellShares:
    """How far each of ``size`` x ``size`` cells is covered by a mask [h, w]."""
    side = max(mask.shape)
    square = np.zeros((side, side), np.float32)
    square[: mask.shape[0], : mask.shape[1]] = mask
    shares: CellShares = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    return shares


def match(mask: NDArray[np.bool_], shares: CellShares) -> float:
    """How far a mask covers the cells that belong to an object and no others, 0..1."""
    covered = cell_shares(mask, len(shares))
    return float(np.minimum(covered, shares).sum() / max(float(np.maximum(covered, shares).sum()), 1e-6))


def likely_parts(shares: CellShares, shape: tuple[int, int], least: float, most: int = 3) -> list[NDArray[np.bool_]]:
    """Connected parts of a picture that belong to an object, the largest first.

    Args:
        shares: of ``FeatureMemory.locate``.
        shape: of the picture, height and width in pixels.
        least: how many cells a part has at least.
        most: how many parts.
    """
    count, labels, facts, _ = cv2.connectedComponentsWithStats((shares > _SURE_SHARE).astype(np.uint8), connectivity=8)
    sizes = sorted(((int(facts[part, cv2.CC_STAT_AREA]), part) for part in range(1, count)), reverse=True)
    side = max(shape)
    parts = []
    for cells, part in sizes[:most]:
        if cells < least:
            break
        square = cv2.resize((labels == part).astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
        parts.append(square[: shape[0], : shape[1]] > 0.5)
    return [part for part in parts if part.any()]


def _cut(features: Features, mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features and shares of the cells that lie in the picture, [c, cells] and [cells]."""
    size = features.shape[-1]
    rows, columns = _used_rows(size, mask.shape), _used_rows(size, mask.shape[::-1])
    shares = cell_shares(mask, size)[:rows, :columns]
    return features[:, :rows, :columns].reshape(len(features), -1), shares.ravel()


def _used_rows(size: int, shape: tuple[int, ...]) -> int:
    """Rows of the square's cells that the picture reaches, of its height and width."""
    return -(-size * shape[0] // max(shape))

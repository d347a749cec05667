"""A segmenter that needs no weights: it draws the pixels that have the color of the click, or of the box's middle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.types import Box


class ColorSegmenter:
    """Counts in ``encoded`` how many images it encoded."""

    def __init__(self) -> None:
        self.encoded = 0

    def embed(self, bgr: NDArray[np.uint8]) -> Any:
        self.encoded += 1
        return bgr

    def features(self, image: Any) -> NDArray[np.float32] | None:
        return None

    def segment(
        self,
        image: Any,
        box: Box | None = None,
        clicks: Sequence[tuple[float, float]] = (),
        others: Sequence[tuple[float, float]] = (),
        logits: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
        if clicks:
            x, y = (int(value) for value in clicks[0])
        else:
            assert box is not None
            x, y = int(box[0] + box[2] / 2), int(box[1] + box[3] / 2)
        near = np.abs(image.astype(int) - image[y, x].astype(int)).max(axis=2) < 40
        _, parts = cv2.connectedComponents(near.astype(np.uint8))
        whole = parts == parts[y, x]
        part = whole.copy()
        part[y:] = False
        drawn = np.stack([part, whole, np.ones_like(whole)])
        return drawn, np.array([0.5, 0.9, 0.2], np.float32), np.zeros((3, 256, 256), np.float32)

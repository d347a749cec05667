"""The interface of an image processor: one RGB image to the pixels of a vision tower."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from colva.model.positions import ImageGrid
from colva.model.token_grid import Geometry
from mmvm_data.core.options import OptionError


@dataclass(frozen=True)
class PreparedImage:
    """One image in the form that its vision tower takes.

    Attributes:
        pixels: family-specific (uint8 tiles, or float patches); images are joined along the first axis.
        grid: (time or tiles, rows, columns) before tokens are merged.
        geometry: the part of the image that each text token stands for, in the order of the tokens.
    """

    pixels: Tensor
    grid: ImageGrid
    geometry: Geometry

    @property
    def num_tokens(self) -> int:
        """Number of image tokens in the text."""
        return self.geometry.num_tokens


class ImageProcessor(Protocol):
    """Prepares images for one model family. It has no weights, so that data workers can run it."""

    def __call__(self, image: NDArray[np.uint8]) -> PreparedImage:
        """Prepare one RGB uint8 `[H, W, 3]` image; ValueError when it has another shape, dtype or range of sizes."""
        ...

    def count_tokens(self, width: int, height: int) -> int:
        """Return the number of tokens of an image of this size; ValueError when it cannot be prepared."""
        ...

    def position_ids(self, ids: Tensor, grids: Iterator[ImageGrid]) -> Tensor:
        """Return the positions of one unpadded sample: int64 `[t]` or, for 3-D rotary positions, `[3, t]`.

        Takes from `grids` one for each image in the ids; families that need none take none.
        """
        ...


def check_image_options(options: Mapping[str, Any], known: Mapping[str, type]) -> None:
    """Check the names and types of a family's options; numbers must be positive integers.

    Raises:
        OptionError: an unknown option, or a value of another type.
    """
    unknown = set(options) - set(known)
    if unknown:
        raise OptionError(
            "pictures", f"must be {', '.join(known) or 'empty'}; got {', '.join(sorted(map(str, unknown)))}"
        )
    for name, value in options.items():
        kind = known[name]
        if type(value) is not kind or (isinstance(value, int) and kind is int and value < 1):
            expected = {bool: "True or False", int: "a positive integer"}.get(kind, f"a {kind.__name__}")
            raise OptionError("pictures", f"{name} must be {expected}, got {value!r:.40}")

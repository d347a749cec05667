"""The largest image or mask that is decoded, so that a file of a few bytes cannot take all memory.

A PNG of 2.6 MB can hold 30,000 x 30,000 pixels, and a record of 60 bytes a mask of 65,535 x 65,535. Sizes are compared
with the limit before anything is decoded or allocated.
"""

from __future__ import annotations

import os
from typing import Final

DEFAULT_MAX_PIXELS: Final = 1 << 28
"""16,384 x 16,384 pixels: 0.8 GB as colors, 0.3 GB as a mask."""

VARIABLE: Final = "MMVM_DATA_MAX_PIXELS"
"""Environment variable with another limit; worker processes inherit it."""


def max_pixels() -> int:
    """Return the largest number of pixels of an image or a mask.

    A value of the variable that is no number above 0 counts as the default; ``mmvm-data`` refuses it.
    """
    text = os.environ.get(VARIABLE, "")
    return int(text) if text.isdecimal() and int(text) > 0 else DEFAULT_MAX_PIXELS


def set_max_pixels(count: int) -> None:
    """Set the limit for this process and for those that it starts.

    Args:
        count: pixels, at least 1.

    Raises:
        ValueError: less than 1.
    """
    if count < 1:
        raise ValueError(f"max_pixels must be at least 1, got {count}")
    os.environ[VARIABLE] = str(count)


def check_pixels(width: int, height: int, what: str = "image") -> None:
    """Check the size of an image or a mask before it is decoded.

    Args:
        width, height: pixels.
        what: names it in the message.

    Raises:
        ValueError: it has more pixels than the limit.
    """
    limit = max_pixels()
    if width * height > limit:
        raise ValueError(
            f"{what} of {width} x {height} has {width * height} pixels, above the limit of {limit} ({VARIABLE})"
        )

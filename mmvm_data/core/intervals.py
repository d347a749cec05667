"""Confidence intervals of shares."""

from __future__ import annotations

import math
from typing import Final

Z95: Final = 1.959963984540054
"""The normal distribution's 0.975 quantile."""


def wilson_interval(share: float, size: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share (0..1) of ``size`` observations at ``z`` standard deviations."""
    middle = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    return max(0.0, middle - half), min(1.0, middle + half)

"""How the functions of this room are compiled, and what several of them use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

_Function = TypeVar("_Function", bound=Callable[..., Any])

_njit: Any = numba.njit  # its types say that a dispatcher comes out, which is called as the function is
Ints = NDArray[np.int64]
Labels = NDArray[np.int32]
Bitmap = NDArray[np.uint8]

INT = numba.types.int64
INTS = numba.types.Array(INT, 1, "C")
BYTES = numba.types.Array(numba.types.uint8, 1, "C", readonly=True)


def compile_entry(*types: Any) -> Callable[[_Function], _Function]:
    """Compile a function that Python calls with arguments of these types when it is imported, or take it from Numba's
    cache, together with all that it calls."""
    compiled: Callable[[_Function], _Function] = _njit(types, nogil=True, error_model="numpy", cache=True)
    return compiled


compile_helper: Callable[[_Function], _Function] = _njit(nogil=True, error_model="numpy")
"""Compiles what other compiled functions call."""


@compile_helper
def enlarge(values: Ints, size: int) -> Ints:
    """Return the same array, or a copy with more room where ``size`` values do not fit."""
    if size <= len(values):
        return values
    larger = np.empty(max(2 * len(values), size), np.int64)
    larger[: len(values)] = values
    return larger


@compile_helper
def find_box(starts: Ints, ends: Ints, first: int, end: int, height: int) -> tuple[int, int, int, int]:
    """Return the tight box of the mask whose runs are first..end, at least one: left and top, and right and bottom,
    which are exclusive.

    Args:
        starts, ends: of runs, as column-major positions.
        first, end: those of the mask.
        height: of the frame.
    """
    top, bottom = height, 0
    for k in range(first, end):
        row = starts[k] % height
        top, bottom = min(top, row), max(bottom, row + ends[k] - starts[k])
    if bottom > height:  # a run continues in the next column
        top, bottom = 0, height
    return starts[first] // height, top, (ends[end - 1] - 1) // height + 1, bottom

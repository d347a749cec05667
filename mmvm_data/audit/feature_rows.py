"""The features of the options of many cases, in memory or, where they are many, in a temporary file.

Gradient boosting reads the rows that it is fitted on, and those that it predicts in parts, so that a large set does not
take more memory than a small one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit.option_features import COLUMNS
from mmvm_data.core.errors import OutputError

_ROW_BYTES: Final = 4 * len(COLUMNS)
_MEMORY_BYTES: Final = 4 << 20  # the rows of about 5,000 cases
_BLOCK_ROWS: Final = 8_192


class _RowFile:
    """A temporary file of rows without a name; closed with the last rows that read it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="mmvm-data-", buffering=0)  # noqa: SIM115

    def __del__(self) -> None:
        if hasattr(self, "_file"):  # it could be opened
            self._file.close()

    def append(self, data: bytearray) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """Rows by their numbers, float32 [last - first, columns]."""
        data = os.pread(self._file.fileno(), (last - first) * _ROW_BYTES, first * _ROW_BYTES)
        return np.frombuffer(data, np.float32).reshape(-1, len(COLUMNS))


class FeatureRows:
    """Rows of features, float32 [rows, columns], that are read in blocks."""

    def __init__(self, values: NDArray[np.float32] | _RowFile, rows: NDArray[np.int64] | int) -> None:
        """
        Args:
            values: float32 [rows, columns], or a file of such.
            rows: which of them these are, ascending, or how many.
        """
        self._values = values
        self._rows = rows

    def __len__(self) -> int:
        return self._rows if isinstance(self._rows, int) else len(self._rows)

    def take(self, rows: NDArray[np.int64]) -> FeatureRows:
        """Some of the rows by their numbers, ascending."""
        return FeatureRows(self._values, rows if isinstance(self._rows, int) else self._rows[rows])

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The rows in blocks: which they are, and their features."""
        for first in range(0, len(self), _BLOCK_ROWS):
            block = slice(first, min(first + _BLOCK_ROWS, len(self)))
            rows = np.arange(block.start, block.stop) if isinstance(self._rows, int) else self._rows[block]
            yield block, self._read(rows)

    def read(
        self, columns: NDArray[np.int64] | None = None, dtype: type[np.floating[Any]] = np.float32
    ) -> NDArray[np.floating[Any]]:
        """All rows, floating point [rows, columns].

        Args:
            columns: numbers of those that are wanted; None: all.
            dtype: of the result.
        """
        wanted = np.arange(len(COLUMNS)) if columns is None else columns
        features = np.empty((len(self), len(wanted)), dtype)
        for own, block in self.blocks():
            features[own] = block[:, wanted]
        return features

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if isinstance(self._values, np.ndarray):
            return self._values[rows]
        features = np.empty((len(rows), len(COLUMNS)), np.float32)
        taken = 0
        while taken < len(rows):  # rows that lie apart with those in between, but no more of these than of a block
            first = int(rows[taken])
            end = int(np.searchsorted(rows, first + _BLOCK_ROWS))
            features[taken:end] = self._values.read(first, int(rows[end - 1]) + 1)[rows[taken:end] - first]
            taken = end
        return features


class FeatureRowsBuilder:
    """Adds rows of some cases at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._file: _RowFile | None = None
        self._rows = 0

    def add(self, features: NDArray[np.float32]) -> None:
        """Add rows, float32 [rows, columns].

        Raises:
            OutputError: the temporary file cannot be written.
        """
        self._buffer += features.tobytes()
        self._rows += len(features)
        if len(self._buffer) > _MEMORY_BYTES:
            self._flush()

    def build(self) -> FeatureRows:
        """All rows.

        Raises:
            OutputError: as ``add``.
        """
        if self._file is None:
            values = np.frombuffer(bytes(self._buffer), np.float32).reshape(-1, len(COLUMNS))
            return FeatureRows(values, self._rows)
        self._flush()
        return FeatureRows(self._file, self._rows)

    def _flush(self) -> None:
        try:
            self._file = self._file or _RowFile()
            self._file.append(self._buffer)
        except OSError as error:
            raise OutputError(tempfile.gettempdir(), error) from error
        self._buffer = bytearray()

"""Parquet files of a limited size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmvm_data.formats.hub_rows import import_pyarrow, schema

_ROWS_PER_GROUP = 32  # readers load one row group at a time; a case with four images of 1080p has about 2 MB
# the page index lets the hub's viewer and streaming readers fetch parts of a group
_FOOTER_BYTES, _GROUP_BYTES = (
    32_000,
    16_000,
)  # upper bounds of what a file, and each of its row groups, adds to the rows


class ParquetShards:
    """Writes rows to Parquet files; a new file is started when the next row would exceed the limit.

    Args:
        folder: an existing folder.
        limit: largest size of a file in bytes; it has at least one row.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._schema = schema()
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None
        self._size = 0
        self._files: list[Path] = []

    def add(self, row: dict[str, Any], size: int) -> None:
        """Add a row of about ``size`` bytes."""
        if self._writer is not None and self._size + size > self._limit:
            self.close()
        if self._writer is None:
            _, parquet = import_pyarrow()
            self._files.append(self._folder / f"{len(self._files)}.part")
            self._writer = parquet.ParquetWriter(
                self._files[-1],
                self._schema,
                compression="snappy",
                write_statistics=["id", "source", "video"],
                write_page_index=True,
            )
            self._size = _FOOTER_BYTES
        self._rows.append(row)
        self._size += size
        if len(self._rows) == _ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the remaining rows and close the current file."""
        if self._writer is not None:
            self._flush()
            self._writer.close()
            self._writer = None

    def rename_files(self, split: str) -> list[Path]:
        """Give the files their final names, which contain their number; without any row, write a file without rows."""
        if not self._files:
            _, parquet = import_pyarrow()
            self._files.append(self._folder / "0.part")
            parquet.write_table(self._schema.empty_table(), self._files[0])
        total = len(self._files)
        return [
            file.rename(self._folder / f"{split}-{k:05d}-of-{total:05d}.parquet") for k, file in enumerate(self._files)
        ]

    def _flush(self) -> None:
        if self._rows:
            pa, _ = import_pyarrow()
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._size += _GROUP_BYTES
            self._rows = []

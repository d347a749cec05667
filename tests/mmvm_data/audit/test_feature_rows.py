"""Rows of features: the same from a file as from memory, all or some of them, and in blocks."""

from __future__ import annotations

import numpy as np
import pytest

from mmvm_data.audit import feature_rows
from mmvm_data.audit.feature_rows import FeatureRows, FeatureRowsBuilder
from mmvm_data.audit.option_features import COLUMNS
from mmvm_data.core.errors import OutputError


def make_rows(values: np.ndarray) -> FeatureRows:
    builder = FeatureRowsBuilder()
    for part in np.split(values, [3, 10, 11, 30]):
        builder.add(part)
    return builder.build()


@pytest.mark.parametrize("memory", [0, 2_000, 1 << 20])
def test_rows_are_those_that_were_added(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    monkeypatch.setattr(feature_rows, "_MEMORY_BYTES", memory)
    monkeypatch.setattr(feature_rows, "_BLOCK_ROWS", 7)
    values = np.random.default_rng(0).random((50, len(COLUMNS))).astype(np.float32)
    rows = make_rows(values)
    assert len(rows) == 50
    np.testing.assert_array_equal(rows.read(), values)
    for numbers in ([0, 3, 4, 9, 40, 49], list(range(5, 45, 2)), [17], []):
        part = rows.take(np.array(numbers, np.int64))
        np.testing.assert_array_equal(part.read(), values[numbers])
        np.testing.assert_array_equal(part.take(np.arange(len(part))[1:]).read(), values[numbers][1:])
    found = [(own.start, own.stop, len(block)) for own, block in rows.blocks()]
    assert found == [(k, min(k + 7, 50), min(7, 50 - k)) for k in range(0, 50, 7)]


def test_a_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_rows, "_MEMORY_BYTES", 0)
    monkeypatch.setattr("tempfile.tempdir", "/missing")
    with pytest.raises(OutputError, match="/missing: cannot write: No such file"):
        make_rows(np.zeros((50, len(COLUMNS)), np.float32))

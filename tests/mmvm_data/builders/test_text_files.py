"""Lines of numbers and flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmvm_data.builders.common.text_files import (
    parse_numbers,
    parse_rectangle,
    read_flags,
    read_lines,
    read_lines_by_frame,
)
from mmvm_data.core.errors import InputError


def test_numbers_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    assert parse_numbers(file, 1, "1, 2\t,3 ,4") == (1, 2, 3, 4)
    assert parse_numbers(file, 1, "1.5\t-2  3e1") == (1.5, -2, 30)
    assert parse_numbers(file, 1, "NaN,nan") is None
    assert parse_rectangle(file, 1, "5 6 0 0") is None
    for line in ("1,,2", "nan,1,2,3", "1_0 2 3 4", "inf,1,1,1", "", "1e7,1,1,1"):
        with pytest.raises(InputError, match="line 7"):
            parse_rectangle(file, 7, line)


def test_flags_are_in_one_line_or_in_many(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    for text in ("0,1,1,0", "0\n1\n1\n0\n", "0,1\r\n1 0", "\ufeff0 1.0 1 0"):
        file.write_text(text)
        assert read_flags(file, 4) == [0, 1, 1, 0]
    file.write_text("0,8")
    assert read_flags(file, 2, 8) == [0, 8]
    with pytest.raises(InputError, match="number 2: a number from 0 to 1 is expected, found '8'"):
        read_flags(file, 2)


def test_trailing_empty_lines_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_bytes(b"\xef\xbb\xbf1,2\r\n\r\n 3 \n\n \n")
    assert read_lines(file) == ["1,2", "", "3"]


def test_lines_of_a_frame_keep_their_numbers(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_text("3 a\n\n1 b\n3 c\n")
    assert read_lines_by_frame(file, None) == {3: [(1, "3 a"), (4, "3 c")], 1: [(3, "1 b")]}
    file.write_text("3, a\n-1, b\n")
    with pytest.raises(InputError, match="line 2, column frame: a frame number is expected, found '-1'"):
        read_lines_by_frame(file, ",")

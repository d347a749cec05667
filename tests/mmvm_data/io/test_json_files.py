from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.core.errors import InputError
from mmvm_data.io.json_files import (
    MAX_DEPTH,
    is_deeper,
    parse_json,
    parse_json_object,
    read_json_file,
    read_json_object,
    read_text_file,
)


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_depth_is_bounded_below_the_recursion_limit_and_above_it() -> None:
    assert parse_json(nested(MAX_DEPTH), "f") is not None
    for levels in (MAX_DEPTH + 1, 900, 100_000):
        with pytest.raises(InputError, match=r"^f: line 3: not JSON: more than 100 levels$"):
            parse_json(nested(levels), "f", "line 3")
        with pytest.raises(InputError, match="more than 100 levels"):
            parse_json('{"a":' * levels + "1" + "}" * levels, "f")


def test_siblings_do_not_count_as_levels() -> None:
    value: Any = [[{"a": [1]}]] * 1000
    assert not is_deeper(value, 4)
    assert is_deeper(value, 3)
    assert not is_deeper("text", 0)


@pytest.mark.parametrize("content", [b"", b"[1", b"\xff\xfe{", b"1" * 10_000, b"\0\0", '{"é":1}'.encode("latin-1")])
def test_what_is_not_json_is_one_line_with_the_name_of_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json_file(path)
    assert str(caught.value).startswith(f"{path}: not JSON: ")
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json_object(tmp_path / "x") == {"a": 1}
    assert read_text_file(tmp_path / "x") == '{"a": 1}'


def test_another_value_than_an_object_is_named() -> None:
    for text, kind in (("[]", "list"), ("1", "int"), ("null", "NoneType")):
        with pytest.raises(InputError, match=f"expected a JSON object, found {kind}"):
            parse_json_object(text, "f")


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "loop", "pipe", "missing", "a" * 300, "nul\0"):
        with pytest.raises(InputError, match="cannot be read: "):
            read_json_file(tmp_path / name)
    with pytest.raises(InputError, match="not UTF-8"):
        (tmp_path / "latin").write_bytes(b"\xe9")
        read_text_file(tmp_path / "latin")


def test_keys_that_occur_twice(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1, "b": [{"a": 2, "c": 3, "c": 4}]}')
    assert read_json_file(path) == {"a": 1, "b": [{"a": 2, "c": 4}]}
    with pytest.raises(InputError, match=r"x\.json: the key 'c' occurs twice in one object$"):
        read_json_file(path, has_unique_keys=True)
    path.write_text('{"a": 1, "b": {"a": 1}}')
    assert read_json_file(path, has_unique_keys=True) == {"a": 1, "b": {"a": 1}}

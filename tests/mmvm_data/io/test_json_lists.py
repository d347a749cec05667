from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.core.errors import InputError
from mmvm_data.io.json_files import MAX_DEPTH
from mmvm_data.io.json_lists import _DepthGuard, iter_json_list


def test_items_and_a_byte_order_mark(tmp_path: Path) -> None:
    items: list[Any] = [1, 2.5, 'a[[[\\"{', {"b": [None, True]}, [[]]]
    for mark in ("", "\ufeff"):
        (tmp_path / "x").write_text(mark + json.dumps(items), encoding="utf-8")
        assert list(iter_json_list(tmp_path / "x")) == items


@pytest.mark.parametrize("text", ["{}", "1", "[1", "[1]]", "", "[\xff]"])
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"x: (not JSON|expected a JSON list)"):
        list(iter_json_list(tmp_path / "x"))


def test_depth_is_bounded_and_so_is_memory(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert list(iter_json_list(path))
    path.write_text("[" * 100_000)
    tracemalloc.start()
    with pytest.raises(InputError, match="more than 100 levels"):
        list(iter_json_list(path))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_brackets_in_strings_do_not_count_wherever_a_read_ends(tmp_path: Path) -> None:
    rng = random.Random(0)
    text = json.dumps([["[[{" * 9 + '\\"\\\\' * n + "[" for n in range(20)]] * 5).encode()
    path = tmp_path / "x"
    path.write_bytes(text)
    for _ in range(200):
        with open(path, "rb") as handle:
            guard = _DepthGuard(path, handle)
            while data := guard.read(rng.randrange(1, 30)):
                assert data
            assert guard._depth == 0

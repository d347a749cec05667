"""The walk over a JSON file, against the parser of the standard library and ijson."""

from __future__ import annotations

import io
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import ijson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvm_data.builders.common import json_spans
from mmvm_data.core.errors import InputError

SPACE = st.text(" \t\n\r", max_size=3)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.text('"\\[]{},:ü€𝄞\u0000', max_size=8)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """A value as JSON with random white space and random escapes."""

    def pad(text: str) -> str:
        return draw(SPACE) + text + draw(SPACE)

    if isinstance(value, dict):
        pairs = [f"{pad(draw(written(k)))}:{draw(written(v))}" for k, v in value.items()]
        return pad("{" + ",".join(pairs) + draw(SPACE) + "}")
    if isinstance(value, list):
        return pad("[" + ",".join(draw(written(v)) for v in value) + draw(SPACE) + "]")
    return pad(json.dumps(value, ensure_ascii=draw(st.booleans())))


@st.composite
def documents(draw: st.DrawFn) -> str:
    return draw(written(draw(st.dictionaries(TEXT, VALUE | st.lists(VALUE, max_size=5), max_size=5))))


def _gathered(file: Path) -> dict[str, Any]:
    """The file's content put together from its items; checks that each item's bytes say its value."""
    data = file.read_bytes()
    found: dict[str, Any] = {}
    for item in json_spans.iter_items(file):
        if item.length:
            raw = data[item.offset : item.offset + item.length]
            assert raw == raw.strip()
            assert json.loads(raw) == item.value == json_spans.parse_json(file, raw, item.offset)
        if item.position is None:
            found[item.key] = item.value if item.length else []
        else:
            assert item.position == len(found[item.key])
            found[item.key].append(item.value)
    return found


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_spans, "BLOCK_SIZE", 3)


@given(documents(), st.booleans())
@settings(max_examples=120)
def test_items_are_what_json_reads(text: str, mark: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder, "a.json")
        file.write_bytes(b"\xef\xbb\xbf" * mark + text.encode())
        expected = json.loads(text)
        assert _gathered(file) == expected
        for block in (1, 3, 64):
            patch.setattr(json_spans, "BLOCK_SIZE", block)
            assert _gathered(file) == expected


@given(documents())
@settings(max_examples=120)
def test_an_object_inside_the_file_is_read_by_its_bytes_alone(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.json")
        file.write_text(f'{{"é": [0, {text}, {{}}], "b": 1}}')
        inner = next(item for item in json_spans.iter_items(file) if item.position == 1)
        for block in (1, 5, 1000):
            found: dict[str, Any] = {}
            for item in json_spans.iter_items(file, inner.offset, inner.length, block):
                assert inner.offset <= item.offset <= inner.offset + inner.length - item.length
                if item.position is None:
                    found[item.key] = item.value
                else:
                    found[item.key].append(item.value)
            assert found == json.loads(text) == inner.value


def test_blocks_are_of_the_size_that_is_asked_for(tmp_path: Path, small_blocks: None) -> None:
    sizes = []

    class Handle(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            sizes.append(size)
            return super().read(size)

    file = tmp_path / "a.json"
    file.write_text('{"a": [1, 2, 3]}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_spans, "open_regular", lambda path: Handle(path.read_bytes()))
        list(json_spans.iter_items(file))
        assert sizes[0] == 3
        list(json_spans.iter_items(file, block_size=2))
    assert 2 in sizes


def test_items_agree_with_ijson(tmp_path: Path) -> None:
    rng = random.Random(3)
    counts = ["".join(chr(rng.randrange(48, 112)) for _ in range(rng.randrange(200))) for _ in range(400)]
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"annotations": [{"a": [{"counts": c}, None]} for c in counts], "info": {"x": 1.5}}))
    found = [
        item.value for item in json_spans.iter_items(file) if item.key == "annotations" and item.position is not None
    ]
    with open(file, "rb") as handle:
        assert found == list(ijson.items(handle, "annotations.item"))


@pytest.mark.parametrize(
    ("data", "byte", "reason"),
    [
        (b"", 0, "the file ends"),
        (b"   ", 3, "the file ends"),
        (b"[1, 2]", 0, "an object is expected"),
        (b'{"a": 1', 7, "the file ends: a comma or }"),
        (b'{"a": [1, 2', 11, "the file ends: a comma or ]"),
        (b'{"a": [1, {"b": ', 16, "Expecting value"),
        (b'{"a": "never closed', 6, "Unterminated string"),
        (b'{"a" 1}', 5, "a colon is expected"),
        (b'{"a": 1,}', 8, "a value is expected after the comma"),
        (b'{"a": [1,]}', 9, "a value is expected after the comma"),
        (b'{"a": [,]}', 7, "Expecting value"),
        (b'{"a": [1 2]}', 9, "a comma or ]"),
        (b'{"a": 1} x', 9, "nothing is expected after"),
        (b'{"a": 1}{', 8, "nothing is expected after"),
        (b'{"a": 1, "a": 2}', 9, "the key 'a' occurs twice"),
        (b"{1: 2}", 1, "a key in quotes"),
        (b'{"a": tru}', 6, "Expecting value"),
        (b'{"a": [1, "\xff"]}', 10, "utf-8"),
        (b"\xff\xfe{\x00", 0, "an object is expected"),
    ],
)
@pytest.mark.parametrize("block", [1, 4, 1 << 20])
def test_what_is_not_json_is_named_by_its_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, byte: int, reason: str, block: int
) -> None:
    monkeypatch.setattr(json_spans, "BLOCK_SIZE", block)
    file = tmp_path / "a.json"
    file.write_bytes(data)
    with pytest.raises(InputError) as caught:
        list(json_spans.iter_items(file))
    assert (caught.value.file, caught.value.field) == (str(file), f"byte {byte}")
    assert reason in caught.value.reason


def test_every_cut_is_found(tmp_path: Path, small_blocks: None) -> None:
    data = json.dumps({"videos": [{"id": 1, "name": "é\\"}], "n": [-1.5e3, True, None], "o": {}}).encode()
    file = tmp_path / "a.json"
    for end in range(len(data)):
        file.write_bytes(data[:end])
        with pytest.raises(InputError) as caught:
            list(json_spans.iter_items(file))
        assert caught.value.field is not None
        assert 0 <= int(caught.value.field.removeprefix("byte ")) <= end


@pytest.mark.parametrize("inner", ["[" * 100_000, "9" * 5000])
def test_invalid_json_is_an_error(tmp_path: Path, inner: str) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"a": [' + inner + "]}")
    with pytest.raises(InputError):
        list(json_spans.iter_items(file))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        list(json_spans.iter_items(tmp_path / "none.json"))


def test_a_mistake_early_in_a_file_does_not_read_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_spans, "BLOCK_SIZE", 1024)
    file = tmp_path / "a.json"
    file.write_text('{"a": [' + "1, " * 100 + "oops, " + "1, " * 100_000 + "1]}")
    reads: list[int] = []
    more = json_spans._JsonScanner._read_block
    monkeypatch.setattr(json_spans._JsonScanner, "_read_block", lambda self: reads.append(1) or more(self))
    with pytest.raises(InputError, match="byte 307"):
        list(json_spans.iter_items(file))
    assert len(reads) == 1

"""Faults of input files: systematic ones, each with a name, and random edits of the content."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.mutation import corrupt, edit_json, edit_text

DEEP = 20_000
"""Levels of the deeply nested documents: far beyond the recursion limit of Python."""

CONTENTS: Mapping[str, bytes] = {
    "empty": b"",
    "spaces": b" \n\n\t ",
    "binary": bytes(range(256)) * 8,
    "zeros": b"\0" * 4096,
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep and open": b"[" * DEEP,
    "200 levels": b'{"request":' * 200 + b"1" + b"}" * 200,
    "long number": b"1" * 10_000,
    "large exponent": b"1e999999999",
    "NaN": b"NaN",
    "null": b"null",
    "text": b'"text"',
    "list": b"[]",
    "object": b"{}",
    "list of numbers": b"[1, 2, 3]\n",
    "objects in lines": b'{"id": 1}\n{"step": 1}\n{"key": "x"}\n',
    "lone surrogate": b'{"id": "\\ud800", "reason": "\\udfff", "request": "\\ud800"}\n',
    "UTF-16": '{"id": "é"}\n'.encode("utf-16"),
    "Latin-1": '{"id": "é", "request": {}}\n'.encode("latin-1"),
    "BOM": b'\xef\xbb\xbf{"id": 1}\n',
    "YAML aliases": b"a: &a [1, 1, 1, 1, 1, 1, 1, 1]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\n",
    "YAML recursion": b"stage: &a [*a]\nmodel: *a\n",
    "YAML tag": b"stage: !!python/object/apply:os.system [echo]\n",
    "escape codes": b'{"id": "\\u001b[31mred\\u001b]8;;x\\u0007", "reason": "\x1b[2J"}\n',
}
"""Content that replaces a file."""


def _remove(path: Path) -> None:
    path.unlink()


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _make_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _make_broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def _make_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


PATHS: Mapping[str, Callable[[Path], None]] = {
    "missing": _remove,
    "folder": _make_folder,
    "link loop": _make_loop,
    "broken link": _make_broken_link,
    "named pipe": _make_pipe,
}
"""What takes the place of a file."""

SYSTEMATIC = (*CONTENTS, *PATHS, "cut", "with BOM", "as UTF-16", "twice")
TEXTS = (
    *("[" * 3000, "{" * 3000, "NaN", "1e999", "9" * 5000, "", os.fsdecode(b"a\xff"), "../..", "x" * 5000),
    *("ftp://127.0.0.1:9/y", "\x1b[31m", "a.b=[" * 200, "a" + ".b" * 3000 + "=1", "stage=!!python/name:os.system"),
)
"""Odd values of options."""


def apply_fault(path: Path, fault: str) -> None:
    """Put a systematic fault in the place of a file; ``fault`` is one of SYSTEMATIC."""
    if fault in PATHS:
        PATHS[fault](path)
        return
    data = path.read_bytes()
    if fault == "cut":
        data = data[: len(data) // 2]
    elif fault == "with BOM":
        data = b"\xef\xbb\xbf" + data
    elif fault == "as UTF-16":
        data = data.decode("utf-8", "replace").encode("utf-16")
    elif fault == "twice":
        data += data
    else:
        data = CONTENTS[fault]
    path.write_bytes(data)


def edit_randomly(path: Path, rng: random.Random) -> None:
    """Change a file at one place: bytes, a value of its JSON or of one of its lines of JSON, a column of its text."""
    data = path.read_bytes()
    kind = rng.randrange(4)
    if kind == 0 and data:
        data = corrupt(path.with_suffix(".bin"), data, rng)
    elif path.suffix == ".json" and data:
        data = json.dumps(edit_json(json.loads(data), rng)).encode()
    elif path.suffix == ".jsonl" and data:
        lines = data.decode().splitlines()
        number = rng.randrange(len(lines))
        lines[number] = json.dumps(edit_json(json.loads(lines[number]), rng))
        data = ("\n".join(lines) + "\n").encode()
    elif path.suffix in (".tsv", ".txt", ".yaml", ".yml"):
        data = edit_text(data.decode(), rng).encode("utf-8", "surrogatepass")
    else:
        data = corrupt(path.with_suffix(".bin"), data, rng) if data else b"\0"
    path.write_bytes(data)

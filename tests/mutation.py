"""Randomly corrupted files, and the check that a reader reports them as rejects or InputErrors and nothing else."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

from mmvm_data.builders import open_source
from mmvm_data.core.errors import InputError
from mmvm_data.io import media
from tests.sets.every import write_set
from tests.sets.world import WrittenSet

ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2, 3.5, float("nan"), 1e400, 10**30, "", "1", "é\ud800", "../a", "/etc/passwd", "a\0b", "C:\\x",
    [], {}, [[]], [1, 2], {"id": 1}, [0] * 4, [-5.0, 1e9, 3, 4],
)  # fmt: skip
ODD_TEXTS = ("nan", "-1", "0", "1e400", "", "x", "9" * 400, "1 2", "²", "inf", "../x", "m", "present", "\u2028")


def corrupt(file: Path, data: bytes, rng: random.Random) -> bytes:
    """Return the content of a file with one fault: of its format, or in its bytes."""
    kind = rng.randrange(8)
    at = rng.randrange(len(data)) if data else 0
    if kind == 0:
        return data[:at] + data[at + rng.randrange(1, 20) :]
    if kind == 1:
        return data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 4))) + data[at + 1 :]
    if kind == 2:
        return data[:at]
    if kind == 3:
        return data[: at + rng.randrange(200)] + data[at:]
    if file.suffix == ".json":
        return json.dumps(edit_json(json.loads(data), rng)).encode()
    if file.suffix == ".xml":
        return edit_xml(data.decode(), rng).encode()
    if file.suffix in (".txt", ".label", ".csv", ".ini", ".m"):
        return edit_text(data.decode(), rng).encode()
    return bytes(byte if rng.random() > 0.01 else rng.randrange(256) for byte in data)


def edit_json(content: Any, rng: random.Random) -> Any:
    """Replace, remove, repeat or rename one value somewhere in a JSON document."""
    at, parent, key = content, None, None
    for _ in range(rng.randrange(1, 8)):
        if isinstance(at, dict) and at:
            parent, key = at, rng.choice(sorted(at))
        elif isinstance(at, list) and at:
            parent, key = at, rng.randrange(len(at))
        else:
            break
        at = parent[key]
    if parent is None or key is None:
        return rng.choice(ODD_VALUES)
    kind = rng.randrange(6)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list):
        parent.append(parent[key])
    elif kind == 2 and isinstance(parent, dict):
        parent[rng.choice(("x", "", "id", key.upper()))] = parent.pop(key)
    else:
        parent[key] = rng.choice(ODD_VALUES)
    return content


def edit_text(text: str, rng: random.Random) -> str:
    """Change one column, line or separator of a text."""
    lines = text.split("\n")
    n = rng.randrange(len(lines))
    between = "," if "," in lines[n] else "=" if "=" in lines[n] else " "
    columns = lines[n].split(between)
    kind = rng.randrange(6)
    if kind == 0:
        del lines[n]
    elif kind == 1:
        lines.insert(n, lines[n])
    elif kind == 2:
        lines[n] = rng.choice((";", "\t", " , ", ":")).join(columns)
    elif kind == 3:
        lines[n] = between.join(columns[:-1])
    else:
        columns[rng.randrange(len(columns))] = rng.choice(ODD_TEXTS)
        lines[n] = between.join(columns)
    return "\n".join(lines)


def edit_xml(text: str, rng: random.Random) -> str:
    """Replace or remove the value of one attribute or element, or remove one line."""
    kind = rng.randrange(8)
    if kind == 0:
        lines = text.split("\n")
        del lines[rng.randrange(len(lines))]
        return "\n".join(lines)
    found = list(re.finditer(r'="([^"]*)"' if kind < 6 else r">([^<>]+)<", text))
    if not found:
        return text[:-1]
    match = rng.choice(found)
    if kind == 1:
        return text[: match.start()] + text[match.end() :]
    value = rng.choice(("1", match[1][:-1], match[1] + match[1], *ODD_TEXTS))
    return text[: match.start(1)] + value + text[match.end(1) :]


def corrupt_files(source: str, layout: str, root: Path, count: int, seed: int = 0) -> Counter[str]:
    """Corrupt ``count`` files of a tiny data set one after the other and read the data set each time.

    Returns:
        how often the set was refused, gave rejects, had videos or frames that could not be read, or was readable.

    Raises:
        AssertionError: an error without a file or a reason or with several lines, or a path that leaves the root.
        Exception: any other error of a reader: a crash.
    """
    written = write_set(source, layout, root)
    images = sorted(p for p in root.rglob("*") if p.suffix in (".jpg", ".jpeg", ".png") and p not in written.files)
    rng = random.Random(f"{source} {layout} {seed}")
    outcomes: Counter[str] = Counter(dict.fromkeys(("refused", "rejects", "video", "frame", "whole"), 0))
    for _ in range(count):
        file = rng.choice(images if images and rng.random() < 0.08 else written.files)
        clean = file.read_bytes()
        file.write_bytes(corrupt(file, clean, rng))
        outcomes[_read_everything(source, written, file)] += 1
        file.write_bytes(clean)
    return outcomes


def _read_everything(source: str, written: WrittenSet, file: Path) -> str:
    """Read all regions; return the worst outcome."""
    try:
        opened = open_source(source, written.root)
    except InputError as error:
        _assert_one_line(error)
        return "refused"
    assert len(set(opened.videos)) == len(opened.videos)
    for reject in opened.rejects:
        assert reject.reason
        assert reject.source == source
        json.dumps(reject.to_json(), ensure_ascii=False).encode()
    worst = "rejects" if opened.rejects else "whole"
    for name in opened.videos:
        try:
            video = opened.load(name)
        except InputError as error:
            _assert_one_line(error)
            worst = "video"
            continue
        for frame in video.frames:
            assert not frame.path.startswith("/")
            assert ".." not in frame.path.split("/")
        for position in video.annotated:
            try:
                for region in video.regions(position):
                    region.model_dump_json()
                if video.render_frame(position) is None and video.root / video.frames[position].path == file:
                    media.load_frame(video.root, video.frames[position])
            except InputError as error:
                _assert_one_line(error)
                worst = "frame" if worst != "video" else worst
    return worst


def _assert_one_line(error: InputError) -> None:
    assert error.file
    assert error.reason
    assert "\n" not in str(error)

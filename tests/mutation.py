"""Files spoiled at random, and what a reader makes of them: rejects and errors with a name, nothing else."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from mmvm_data.builders import open_source
from mmvm_data.core.errors import InputError
from mmvm_data.io import media
from tests.sets.every import write
from tests.sets.world import Made

ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2, 3.5, float("nan"), 1e400, 10**30, "", "1", "é\ud800", "../a", "/etc/passwd", "a\0b", "C:\\x",
    [], {}, [[]], [1, 2], {"id": 1}, [0] * 4, [-5.0, 1e9, 3, 4],
)  # fmt: skip
ODD_TEXTS = ("nan", "-1", "0", "1e400", "", "x", "9" * 400, "1 2", "²", "inf", "../x", "m", "present", "\u2028")


def spoiled(file: Path, data: bytes, rng: random.Random) -> bytes:
    """The contents of a file with one fault, of a kind that fits what the file is, or of any."""
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
        return json.dumps(edited(json.loads(data), rng)).encode()
    if file.suffix in (".txt", ".label", ".csv", ".ini", ".m"):
        return reworded(data.decode(), rng).encode()
    return bytes(byte if rng.random() > 0.01 else rng.randrange(256) for byte in data)


def edited(content: Any, rng: random.Random) -> Any:
    """One value somewhere in a JSON document replaced, removed, doubled or renamed."""
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
    how = rng.randrange(6)
    if how == 0:
        del parent[key]
    elif how == 1 and isinstance(parent, list):
        parent.append(parent[key])
    elif how == 2 and isinstance(parent, dict):
        parent[rng.choice(("x", "", "id", key.upper()))] = parent.pop(key)
    else:
        parent[key] = rng.choice(ODD_VALUES)
    return content


def reworded(text: str, rng: random.Random) -> str:
    """One column, one line or one separator of a text changed."""
    lines = text.split("\n")
    n = rng.randrange(len(lines))
    between = "," if "," in lines[n] else "=" if "=" in lines[n] else " "
    columns = lines[n].split(between)
    how = rng.randrange(6)
    if how == 0:
        del lines[n]
    elif how == 1:
        lines.insert(n, lines[n])
    elif how == 2:
        lines[n] = rng.choice((";", "\t", " , ", ":")).join(columns)
    elif how == 3:
        lines[n] = between.join(columns[:-1])
    else:
        columns[rng.randrange(len(columns))] = rng.choice(ODD_TEXTS)
        lines[n] = between.join(columns)
    return "\n".join(lines)


def spoil(source: str, layout: str, root: Path, count: int, seed: int = 0) -> Counter[str]:
    """Spoil ``count`` files of a tiny set one after the other and read the set each time.

    Returns:
        how often a set was refused, gave rejects, videos or frames that could not be read, or read as if whole.

    Raises:
        AssertionError: an error without a file, a reason or in several lines, or a path that leaves the root.
        Exception: whatever else a reader raises: a crash.
    """
    made = write(source, layout, root)
    pictures = sorted(p for p in root.rglob("*") if p.suffix in (".jpg", ".jpeg", ".png") and p not in made.files)
    rng = random.Random(f"{source} {layout} {seed}")
    outcomes: Counter[str] = Counter(dict.fromkeys(("refused", "rejects", "video", "frame", "whole"), 0))
    for _ in range(count):
        file = rng.choice(pictures if pictures and rng.random() < 0.08 else made.files)
        clean = file.read_bytes()
        file.write_bytes(spoiled(file, clean, rng))
        outcomes[_read(source, made, file)] += 1
        file.write_bytes(clean)
    return outcomes


def _read(source: str, made: Made, file: Path) -> str:
    """Everything that the set says, and the worst that came out."""
    try:
        opened = open_source(source, made.root)
    except InputError as error:
        _named(error)
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
            _named(error)
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
                _named(error)
                worst = "frame" if worst != "video" else worst
    return worst


def _named(error: InputError) -> None:
    assert error.file
    assert error.reason
    assert "\n" not in str(error)

"""The tables of docs/scale.md from the records in ``results/``: figures of one unit, times numbers of cases."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import replace_between

COUNTS = {"10 thousand cases": 10_000, "220 thousand": 220_000, "10 million": 10_000_000}
PROCESSES = 16
FILES_A_CASE = 6
UNITS, SETS, ENDS = (
    (f"<!-- {name} of records -->", f"<!-- end of {name} of records -->") for name in ("units", "sets", "ends")
)


def write_tables(page: Path, results: Path) -> None:
    """Write the three tables of the page.

    Args:
        page: docs/scale.md.
        results: folder with build.json, ray_engine.json and scale.json.
    """
    build, ray, scale = (
        json.loads((results / name).read_text(encoding="utf-8"))
        for name in ("build.json", "ray_engine.json", "scale.json")
    )
    tables = {
        UNITS: format_units(build, ray, scale),
        SETS: format_sets(build, scale),
        ENDS: format_ends(build, scale),
    }
    for marks, table in tables.items():
        replace_between(page, marks, f"\n{table}\n")  # Markdown takes a table right below a comment for text


def format_units(build: dict[str, Any], ray: dict[str, Any], scale: dict[str, Any]) -> str:
    """What was measured."""
    small, large = (scale["bytes_a_case"][size] for size in ("480p", "1080p"))
    speedups = build["two_workers"]
    places = [f"{speedups[place]['speedup']:.2f} {words}" for place, words in _PLACES.items() if place in speedups]
    rejects, cases = scale["rejects"], scale["cases"]
    memory = build["memory"]["one_process"]
    rows = [
        ("a case from frames of 854 x 480, one process without threads", f"{_case_ms(build, '480p'):.1f} ms", BUILD),
        ("a case from frames of 1920 x 1080", f"{_case_ms(build, '1080p'):.1f} ms", BUILD),
        ("gain of a second process", ", ".join(places), BUILD),
        ("gain of a second actor on Ray", f"{ray['speedup']:.2f}", RAY),
        ("memory of a worker, whatever the number of cases", f"{memory['peak_mb_10x']:.0f} MB", BUILD),
        (
            "the process that numbers and commits: a video with one case",
            f"{_commit_ms(cases):.2f} ms of processor time",
            SCALE,
        ),
        ("the same: a video without a case", f"{_commit_ms(rejects):.2f} ms", SCALE),
        (
            f"memory of that process with {cases['videos']:,} videos, and with {rejects['videos']:,}",
            f"{cases['resident_mb_by_fifths'][-1]:.0f} MB, {rejects['resident_mb_by_fifths'][-1]:.0f} MB",
            SCALE,
        ),
        ("files of a case: 854 x 480, 1920 x 1080", f"{_size(small['files'])}, {_size(large['files'])}", SCALE),
        ("its record in `cases.jsonl`", f"{_size(small['record'])}, {_size(large['record'])}", SCALE),
        ("its row in the tsv", f"{_size(small['row'])}, {_size(large['row'])}", SCALE),
    ]
    return _table(("", "measured", "by"), rows)


BUILD, RAY, SCALE = (f"`benchmarks/results/{name}.json`" for name in ("build", "ray_engine", "scale"))
_PLACES = {"disk": "on disk", "memory": "in memory"}


def format_sets(build: dict[str, Any], scale: dict[str, Any]) -> str:
    """What sets of frames of 854 x 480 take."""
    case_ms, commit_ms, sizes = _case_ms(build, "480p"), _commit_ms(scale["cases"]), scale["bytes_a_case"]["480p"]
    share = build["two_workers"]["disk"]["speedup"] / 2
    rows: dict[str, Callable[[int], str]] = {
        "workers, added up": lambda n: _duration(n * case_ms / 1000),
        f"one machine, {PROCESSES} processes at {share:.2f} each": lambda n: _duration(
            n * case_ms / 1000 / PROCESSES / share
        ),
        "the committing process, one case a video": lambda n: _duration(n * commit_ms / 1000),
        "images and their JSON files": lambda n: _size(n * sizes["files"]),
        "`cases.jsonl`": lambda n: _size(n * sizes["record"]),
        "tsv": lambda n: _size(n * sizes["row"]),
        "objects on object storage, six files a case": lambda n: f"{FILES_A_CASE * n:,}",
    }
    return _table(("", *COUNTS), [(name, *(of(n) for n in COUNTS.values())) for name, of in rows.items()])


def format_ends(build: dict[str, Any], scale: dict[str, Any]) -> str:
    """What one committing process can serve."""
    commit_ms = _commit_ms(scale["cases"])
    busy = [f"{_case_ms(build, size) / commit_ms:.0f}" for size in ("480p", "1080p")]
    few, many = scale["cases"], scale["rejects"]
    grown = many["resident_mb_by_fifths"][-1] - few["resident_mb_by_fifths"][-1]
    bytes_a_video = grown * 2**20 / (many["videos"] - few["videos"])
    rows = [
        ("workers that one committing process keeps busy: 854 x 480, 1920 x 1080", ", ".join(busy)),
        (
            "memory of the list of videos: one video, a hundred million",
            f"{_size(bytes_a_video)}, {_size(bytes_a_video * 1e8)}",
        ),
        ("a revision of ten million cases writes", _size(1e7 * scale["bytes_a_case"]["480p"]["record"])),
    ]
    return _table(("", "from the figures above"), rows)


def _case_ms(build: dict[str, Any], size: str) -> float:
    value: float = build["one_process"][size]["ms_a_case"]["build_cpu"]
    return value


def _commit_ms(record: dict[str, Any]) -> float:
    value: float = 1000 * record["cpu_seconds"] / record["videos"]
    return value


def _duration(seconds: float) -> str:
    """Seconds in words of two units at most."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    """Bytes in decimal units, of two or three digits."""
    units = ("bytes", "KB", "MB", "GB", "TB")
    power = 0
    while count >= 1000 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.1f} {units[power]}" if count < 10 and power else f"{count:.0f} {units[power]}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])

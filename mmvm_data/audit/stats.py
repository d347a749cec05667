"""The counts of a benchmark folder, collected in one pass over its files and printed as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmvm_data.cases.statistics import HISTOGRAMS, Stats, floor_power_of_two
from mmvm_data.core.types import MATCH_TYPES
from mmvm_data.formats import bench
from mmvm_data.formats.build_files import read_build, read_cases, read_rejects
from mmvm_data.io.console import escape


def collect_stats(folder: Path) -> Stats:
    """Count the cases, rejects and build facts of a benchmark folder.

    The files are read line by line; memory grows only with the number of different videos and reasons.

    Args:
        folder: output of a build, or a benchmark without ``cases.jsonl`` (case folders and a tsv).

    Raises:
        InputError: a file is missing or a line of it cannot be read.
    """
    stats = Stats(build=read_build(folder))
    problems: list[bench.Problem] = []
    for case in read_cases(folder, problems):
        stats.add_case(case)
    stats.problems = len(problems)
    for reject in read_rejects(folder):
        stats.add_reject(reject)
    return stats


def print_stats(stats: Stats, console: Console) -> None:
    """Print the counts as tables."""
    if stats.sources:
        table = Table(title="Sources", title_justify="left")
        for name in ("source", "cases", "videos", "mean candidates", "none of the above", "rejects"):
            table.add_column(name, justify="left" if name == "source" else "right")
        for name in sorted(stats.sources):
            source = stats.sources[name]
            mean = f"{source.candidates / source.cases:.1f}" if source.cases else "-"
            row = (source.cases, source.videos, mean, _format_share(source.none, source.cases), source.rejects)
            table.add_row(escape(name), *map(str, row))
        table.add_section()
        candidates = sum(source.candidates for source in stats.sources.values())
        mean = f"{candidates / stats.cases:.1f}" if stats.cases else "-"
        row = (stats.cases, stats.videos, mean, _format_share(stats.none, stats.cases), stats.rejects)
        table.add_row("all", *map(str, row))
        console.print(table)
    for name, title in HISTOGRAMS.items():
        counts: Counter[Any] = getattr(stats, name)
        label = _match_type_label if name == "match_types" else str
        if name == "gaps" and len(counts) > 16:
            counts, title = _merge_by_power_of_two(counts), f"{title} from"
        if counts:
            console.print(_build_histogram(title, counts, label, by_count=name == "reasons"))
    if stats.problems:
        console.print(f"problems found while reading: {stats.problems} (mmvm-data validate lists them)")
    if stats.rejected:
        noun = "case was" if stats.rejected == 1 else "cases were"
        console.print(f"{stats.rejected} {noun} rejected by people, and left out of the figures above but for review")
    if not stats.cases:
        console.print("no cases")


def _match_type_label(number: int) -> str:
    return " ".join(MATCH_TYPES[number]) if number else "none given"


def _build_histogram(title: str, counts: Counter[Any], label: Callable[[Any], str], by_count: bool) -> Table:
    table = Table(title=title[0].upper() + title[1:], title_justify="left", show_header=False, box=None)
    table.add_column(justify="left" if by_count else "right", overflow="fold")
    table.add_column(justify="right")
    table.add_column()
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0])) if by_count else sorted(counts.items())
    highest, total = max(counts.values()), sum(counts.values())
    for value, count in rows[:60]:
        bar = "█" * max(1, round(24 * count / highest))
        table.add_row(escape(label(value)), str(count), f"{bar} {_format_share(count, total)}")
    if len(rows) > 60:
        table.add_row("…", str(sum(count for _, count in rows[60:])), f"in {len(rows) - 60} more")
    return table


def _format_share(part: int, total: int) -> str:
    return f"{100 * part / total:.1f} %" if total else "-"


def _merge_by_power_of_two(counts: Counter[int]) -> Counter[int]:
    merged: Counter[int] = Counter()
    for value, count in counts.items():
        merged[floor_power_of_two(value)] += count
    return merged

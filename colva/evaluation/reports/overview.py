"""One page that leads to all of a folder: benchmarks, audits of them, training runs with their curves, evaluations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from colva.evaluation.reports import charts
from colva.evaluation.reports.texts import between, percent
from colva.evaluation.runs import read_json
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.io.files import atomic_write

DEPTH = 4
WIDTH, HEIGHT, MARGIN = 340, 150, 34
_CURVES = {"loss": "loss", "accuracy": "matching accuracy"}


@dataclass(frozen=True)
class Found:
    """Folders below one, by what they hold, and files that are called comparison.html, each list sorted."""

    benchmarks: tuple[Path, ...]
    trainings: tuple[Path, ...]
    evaluations: tuple[Path, ...]
    comparisons: tuple[Path, ...]


def find(root: Path) -> Found:
    """What lies below a folder, a few levels deep."""
    kinds: dict[str, list[Path]] = {"build.json": [], "log.jsonl": [], "scores.json": []}
    comparisons = []
    for folder in _folders(root, DEPTH):
        if (folder / "comparison.html").is_file():
            comparisons.append(folder / "comparison.html")
        for name, found in kinds.items():
            if (folder / name).is_file():
                found.append(folder)
    return Found(*(tuple(sorted(found)) for found in (*kinds.values(), comparisons)))


def write_overview(root: Path, path: Path) -> Found:
    """Write the page.

    Args:
        root: folder that holds what is to be shown.
        path: the page; its links are relative to its folder.

    Raises:
        UsageError: there is nothing to show.
        InputError: a file of a build or a run is damaged.
        OutputError: the page cannot be written.
    """
    found = find(root)
    if not any((found.benchmarks, found.trainings, found.evaluations)):
        raise UsageError(f"{root}: no benchmark, training run or evaluation lies here")
    sections = [
        _evaluations(found.evaluations, found.comparisons, path.parent),
        _trainings(found.trainings, root),
        _benchmarks(found.benchmarks, path.parent),
    ]
    files = resources.files("colva.evaluation.reports")
    style = resources.files("mmvm_data.viz").joinpath("report.css").read_text(encoding="utf-8")
    page = files.joinpath("report.html").read_text(encoding="utf-8")
    page = page.replace("/*styles*/", style + files.joinpath("report.css").read_text(encoding="utf-8"))
    counts = {
        "benchmarks": len(found.benchmarks),
        "training runs": len(found.trainings),
        "evaluations": len(found.evaluations),
    }
    totals = "".join(f"<div><dt>{name}</dt><dd>{count}</dd></div>" for name, count in counts.items())
    page = page.replace('<span class="kind">Evaluation</span>', '<span class="kind">Overview</span>')
    page = page.replace("<!--title-->", escape(root.resolve().name)).replace("<!--totals-->", totals)
    page = page.replace("/*scripts*/", "").replace("<!--body-->", "".join(sections))
    try:
        with atomic_write(path) as handle:
            handle.write(page)
    except OSError as error:
        raise OutputError(path, error) from error
    return found


def _folders(root: Path, depth: int) -> Iterator[Path]:
    yield root
    if depth:
        for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith((".", "checkpoint-", "case_")):
                yield from _folders(Path(entry.path), depth - 1)


def _link(target: Path, base: Path, text: str) -> str:
    if not target.is_file():
        return escape(text)
    return f'<a href="{escape(quote(os.path.relpath(target, base)))}">{escape(text)}</a>'


def _evaluations(folders: Sequence[Path], comparisons: Sequence[Path], base: Path) -> str:
    if not folders:
        return ""
    rows = []
    for number, folder in enumerate(folders):
        scores = read_json(folder / "scores.json")
        overall = scores["overall"]
        rows.append(
            [
                _link(folder / "report.html", base, str(scores["model"])),
                escape(str(scores["bench"])),
                charts.bar(overall, number),
                percent(overall["value"]),
                escape(between(overall)),
                percent(scores.get("chance")),
                str(overall["n"]),
            ]
        )
    heads = ["model", "benchmark", "", "right, %", "95 % interval", "chance, %", "cases"]
    compared = "".join(f"<p>{_link(page, base, 'Compared case by case')}</p>" for page in comparisons)
    return f"<section><h2>Evaluations</h2>{charts.table(heads, rows)}{compared}</section>"


def _benchmarks(folders: Sequence[Path], base: Path) -> str:
    if not folders:
        return ""
    rows = []
    for folder in folders:
        build = read_json(folder / "build.json")
        counts = build.get("counts", {})
        rows.append(
            [
                _link(folder / "report.html", base, folder.name),
                escape(str(build.get("request", {}).get("source", ""))),
                str(counts.get("cases", "")),
                str(counts.get("rejects", "")),
                _shortcuts(folder / "audit.json", base),
            ]
        )
    heads = ["benchmark", "source", "cases", "left out", "shortcuts"]
    return f"<section><h2>Benchmarks</h2>{charts.table(heads, rows)}</section>"


def _shortcuts(audit: Path, base: Path) -> str:
    """What the audit found that answers without understanding, leading to the whole of it."""
    if not audit.is_file():
        return ""
    found = read_json(audit).get("shortcuts")
    if not isinstance(found, list):
        raise InputError(audit, "the names of players are expected", field="shortcuts")
    return _link(audit, base, ", ".join(str(name).replace("_", " ") for name in found) or "none")


def _trainings(folders: Sequence[Path], root: Path) -> str:
    pieces = []
    for folder in folders:
        lines = _log(folder / "log.jsonl")
        drawn = []
        for name, title in _CURVES.items():
            trained = [(line["step"], line[name]) for line in lines if _is_number(line.get(name))]
            held_out = [(line["step"], line[f"eval_{name}"]) for line in lines if _is_number(line.get(f"eval_{name}"))]
            if trained or held_out:
                drawn.append(curve(title, trained, held_out))
        where = escape(os.path.relpath(folder, root))
        pieces.append(f"<div><h3>{where}</h3><div class='side-by-side'>{''.join(drawn)}</div></div>")
    return f"<section><h2>Training</h2>{''.join(pieces)}</section>" if pieces else ""


def _log(path: Path) -> list[Mapping[str, Any]]:
    """The lines of a training log; a last one that was cut off by a kill is left out."""
    lines: list[Mapping[str, Any]] = []
    try:
        text = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read: {error}") from error
    for number, line in enumerate(text, 1):
        try:
            found = json.loads(line)
        except ValueError as error:
            if number == len(text):
                break
            raise InputError(path, f"not JSON: {error}", field=f"line {number}") from error
        if not isinstance(found, dict) or not isinstance(found.get("step"), int):
            raise InputError(path, "an object with a step is expected", field=f"line {number}")
        lines.append(found)
    return lines


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def curve(title: str, trained: Sequence[tuple[int, float]], held_out: Sequence[tuple[int, float]]) -> str:
    """A figure over the steps as SVG: a line for training, dots for the part held out; the axis begins at 0."""
    points = [*trained, *held_out]
    last = max(step for step, _ in points) or 1
    top = max(value for _, value in points) or 1.0

    def at(step: float, value: float) -> str:
        x = MARGIN + (WIDTH - MARGIN - 8) * step / last
        return f"{x:.1f} {8 + (HEIGHT - MARGIN) * (1 - value / top):.1f}"

    line = "M" + "L".join(at(step, value) for step, value in trained) if trained else ""
    dots = "".join(
        '<circle class="run1" cx="{}" cy="{}" r="4"/>'.format(*at(step, value).split()) for step, value in held_out
    )
    floor = 8 + HEIGHT - MARGIN
    label = f"{title}: {trained[0][1]:.3g} to {trained[-1][1]:.3g}" if trained else title
    if held_out:
        label += f", held out {held_out[0][1]:.3g} to {held_out[-1][1]:.3g}"
    return (
        f"<figure><figcaption>{escape(label)}</figcaption>"
        f'<svg class="share" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{escape(label)}"><path class="whisker" d="M{MARGIN} 8V{floor}H{WIDTH - 8}"/>'
        f'<text x="2" y="14" font-size="11" fill="currentColor">{top:.3g}</text>'
        f'<text x="2" y="{floor}" font-size="11" fill="currentColor">0</text>'
        f'<text x="{WIDTH - 60}" y="{HEIGHT - 8}" font-size="11" fill="currentColor">step {last}</text>'
        f'<path d="{line}" fill="none" stroke="var(--bar)" stroke-width="2"/>{dots}</svg></figure>'
    )

"""One page that links everything in a folder: benchmarks, their audits, training runs with curves, evaluations."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from colva.evaluation import runs
from colva.evaluation.reports import charts
from colva.evaluation.reports.charts import Cell, Content, Curve, Table, make_bar, make_curve, make_table
from colva.evaluation.reports.gallery import Card, make_examples
from colva.evaluation.reports.texts import between, interval, percent
from colva.evaluation.scoring.score_run import load_run
from colva.evaluation.scoring.scores_file import read_scores
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.plurals import pluralize
from mmvm_data.io.files import atomic_write
from mmvm_data.io.json_files import parse_json, read_file, read_json_object
from mmvm_data.io.pages import stream

MAX_DEPTH = 4
"""Levels of folders below the root that are searched."""
_CURVES = {"loss": "loss", "accuracy": "accuracy"}


class _Evaluation(NamedTuple):
    """Folder of an evaluation, and its scores."""

    folder: Path
    scores: Mapping[str, Any]


@dataclass(frozen=True)
class OverviewFolders:
    """Folders below a root by what they hold, and files that are called comparison.html; each list is sorted."""

    benchmarks: tuple[Path, ...]
    trainings: tuple[Path, ...]
    evaluations: tuple[Path, ...]
    comparisons: tuple[Path, ...]


def find_folders(root: Path) -> OverviewFolders:
    """Return what lies below a folder, ``MAX_DEPTH`` levels deep."""
    by_file: dict[str, list[Path]] = {"build.json": [], "log.jsonl": [], "scores.json": []}
    comparisons = []
    for folder in _walk_folders(root, MAX_DEPTH):
        if (folder / "comparison.html").is_file():
            comparisons.append(folder / "comparison.html")
        for name, folders in by_file.items():
            if (folder / name).is_file():
                folders.append(folder)
    return OverviewFolders(*(tuple(sorted(folders)) for folders in (*by_file.values(), comparisons)))


def write_overview(root: Path, path: Path) -> OverviewFolders:
    """Write the page, and return what it shows.

    Args:
        root: folder that holds what is to be shown.
        path: the page; its links are relative to its folder.

    Raises:
        UsageError: there is nothing to show.
        InputError: a file of a build or a run is damaged.
        OutputError: the page cannot be written.
    """
    folders = find_folders(root)
    if not any((folders.benchmarks, folders.trainings, folders.evaluations)):
        raise UsageError(f"{root}: no benchmark, training run or evaluation lies here")
    ladder = _rank(folders.evaluations)
    groups = _by_benchmark(ladder)
    trained = {folder.name for folder in folders.trainings}
    subjects = {name: _choose_subject(group, trained) for name, group in groups.items()}
    page = stream(
        "colva.evaluation.reports/overview.html",
        kind="Overview",
        title=root.resolve().name,
        totals={
            "benchmarks": len(folders.benchmarks),
            "training runs": len(folders.trainings),
            "evaluations": len(folders.evaluations),
        },
        evaluations=_evaluations(ladder, path.parent) if ladder else None,
        sentences=[_summarize(group, subjects[name]) for name, group in groups.items()],
        examples={name: _examples(group, subjects[name], path.parent) for name, group in groups.items()},
        comparisons=[_url(page, path.parent) for page in folders.comparisons],
        trainings={os.path.relpath(folder, root): _curves(folder / "log.jsonl") for folder in folders.trainings},
        benchmarks=_benchmarks(folders.benchmarks, path.parent) if folders.benchmarks else None,
        sizes=charts,
    )
    try:
        with atomic_write(path) as handle:
            handle.writelines(page)
    except OSError as error:
        raise OutputError(path, error) from error
    return folders


def _walk_folders(root: Path, depth: int) -> Iterator[Path]:
    yield root
    if depth:
        for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith((".", "checkpoint-", "case_")):
                yield from _walk_folders(Path(entry.path), depth - 1)


def _url(target: Path, base: Path) -> str:
    return quote(os.path.relpath(target, base))


def _link(target: Path, base: Path, text: str) -> Cell:
    """Return a cell that leads to a file, or the text alone when there is no such file."""
    return Cell(text, link=_url(target, base)) if target.is_file() else Cell(text)


def _rank(folders: Sequence[Path]) -> list[_Evaluation]:
    """Return the evaluations by benchmark, the worst first."""
    found = [_Evaluation(folder, read_scores(folder / runs.SCORES)) for folder in folders]
    return sorted(found, key=lambda one: (str(one.scores["bench"]), one.scores["overall"]["value"] or 0.0))


def _by_benchmark(ladder: Sequence[_Evaluation]) -> dict[str, list[_Evaluation]]:
    groups: dict[str, list[_Evaluation]] = {}
    for evaluation in ladder:
        groups.setdefault(str(evaluation.scores["bench"]), []).append(evaluation)
    return groups


def _choose_subject(ladder: Sequence[_Evaluation], trained: Collection[str]) -> _Evaluation:
    """Return the best run of a model that was trained here, or else the best run."""
    return next((one for one in reversed(ladder) if one.scores["model"] in trained), ladder[-1])


def _summarize(ladder: Sequence[_Evaluation], subject: _Evaluation) -> str:
    """Return in a sentence how a run on a benchmark stands against chance and the others.

    It is above what lies below its interval.
    """
    overall, chance = subject.scores["overall"], subject.scores.get("chance")
    low, high = interval(overall) or (0.0, 1.0)
    rivals = [] if chance is None else [("chance", chance)]
    rivals += [(str(one.scores["model"]), one.scores["overall"]["value"] or 0.0) for one in ladder if one != subject]
    parts = [
        f"{word} {', '.join(f'{name} ({percent(value)} %)' for name, value in listed)}"
        for word, listed in (
            ("above", [rival for rival in rivals if rival[1] < low]),
            ("not clearly above", [rival for rival in rivals if low <= rival[1] <= high]),
            ("below", [rival for rival in rivals if rival[1] > high]),
        )
        if listed
    ]
    facts = f"{percent(overall['value'])} % of {pluralize(overall['n'], 'case')} ({between(overall)})"
    return (
        f"On {subject.scores['bench']}, {subject.scores['model']} is right in {facts}: {'; '.join(parts) or 'alone'}."
    )


def _examples(ladder: Sequence[_Evaluation], subject: _Evaluation, base: Path) -> list[Card]:
    """Return two cases with the answers of all runs on a benchmark; none without predictions of the subject."""
    ordered = [*(one for one in ladder if one != subject), subject]
    kept = [one for one in ordered if (one.folder / runs.PREDICTIONS).is_file() and (one.folder / runs.RUN).is_file()]
    if not kept or kept[-1] != subject:
        return []
    scored = [(one.folder, load_run(one.folder)) for one in kept]
    benches = {one.folder: runs.read_bench(one.folder) for one in kept}
    return make_examples(scored, benches, [str(one.scores["model"]) for one in kept], base)


def _evaluations(ladder: Sequence[_Evaluation], base: Path) -> Table:
    rows: list[list[Content]] = []
    for number, (folder, scores) in enumerate(ladder):
        overall = scores["overall"]
        rows.append(
            [
                _link(folder / "report.html", base, str(scores["model"])),
                str(scores["bench"]),
                make_bar(overall, number),
                percent(overall["value"]),
                between(overall),
                percent(scores.get("chance")),
                str(overall["n"]),
            ]
        )
    return make_table(["model", "benchmark", "", "right, %", "95 % interval", "chance, %", "cases"], rows)


def _benchmarks(folders: Sequence[Path], base: Path) -> Table:
    rows: list[list[Content]] = []
    for folder in folders:
        build = read_json_object(folder / "build.json")
        counts, request = build.get("counts", {}), build.get("request", {})
        for key, value in (("counts", counts), ("request", request)):
            if not isinstance(value, dict):
                raise InputError(folder / "build.json", f"expected an object, found {type(value).__name__}", key)
        rows.append(
            [
                _link(folder / "report.html", base, folder.name),
                str(request.get("source", "")),
                str(counts.get("cases", "")),
                str(counts.get("rejects", "")),
                _shortcuts(folder / "audit.json", base),
            ]
        )
    return make_table(["benchmark", "source", "cases", "left out", "shortcuts"], rows)


def _shortcuts(audit: Path, base: Path) -> Cell:
    """Return the baselines that an audit found to answer without looking at both images, linked to the audit."""
    if not audit.is_file():
        return Cell()
    names = read_json_object(audit).get("shortcuts")
    if not isinstance(names, list):
        raise InputError(audit, "the names of baselines are expected", field="shortcuts")
    return _link(audit, base, ", ".join(str(name).replace("_", " ") for name in names) or "none")


def _curves(path: Path) -> list[Curve]:
    lines = _read_log(path)
    curves = []
    for name, title in _CURVES.items():
        trained = [(line["step"], line[name]) for line in lines if _is_number(line.get(name))]
        held_out = [(line["step"], line[f"eval_{name}"]) for line in lines if _is_number(line.get(f"eval_{name}"))]
        if trained or held_out:
            curves.append(make_curve(title, trained, held_out))
    return curves


def _read_log(path: Path) -> list[Mapping[str, Any]]:
    """Return the lines of a training log, without a last line that a kill cut off.

    Raises:
        InputError: the file cannot be read, or a line is not an object with a step.
    """
    lines: list[Mapping[str, Any]] = []
    texts = read_file(path).splitlines()
    for number, text in enumerate(texts, 1):
        try:
            line = parse_json(text, path, f"line {number}")
        except InputError:
            if number == len(texts):
                break
            raise
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            raise InputError(path, "an object with a step is expected", field=f"line {number}")
        lines.append(line)
    return lines


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")

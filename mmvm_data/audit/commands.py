"""The commands ``mmvm-data audit`` and ``mmvm-data diff``: options and tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.table import Table

from mmvm_data.audit import run
from mmvm_data.audit.baseline_scores import BASELINE_NAMES, BaselineName
from mmvm_data.audit.diff import BuildDiff, DiffOptions, compare_builds
from mmvm_data.audit.duplicates import DuplicateFrames
from mmvm_data.audit.gradient_boosting import Importance, describe_shortage
from mmvm_data.audit.results import AuditOptions, AuditResult
from mmvm_data.core.plurals import pluralize
from mmvm_data.io import console
from mmvm_data.io.console import escape, out
from mmvm_data.io.param_types import EXISTING_FOLDER, count_processes

_LISTED = 10  # items of each list that are printed
_LISTED_GROUPS = 5
_AUDIT_DEFAULTS = AuditOptions()
_DIFF_DEFAULTS = DiffOptions()


@click.command(short_help="Find shortcuts, duplicates, leakage.", epilog="\b\nExample:\n  mmvm-data audit bench")
@click.argument("directory", type=EXISTING_FOLDER)
@click.option("--against", type=EXISTING_FOLDER, help="Another benchmark, to find videos and frames that both have.")
@click.option("--no-pixels", "pixels", flag_value=False, default=True, help="Do not open images: no colors, no frames.")
@click.option(
    "--margin",
    type=float,
    default=_AUDIT_DEFAULTS.margin,
    show_default=True,
    help="Score above chance that raises no warning, 0 to 1.",
)
@click.option(
    "--accept", type=click.Choice(BASELINE_NAMES), multiple=True, help="A baseline that may beat chance; may repeat."
)
@click.option("--workers", default=_AUDIT_DEFAULTS.workers, show_default=True, help="Processes; 0 for one a core.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--strict", is_flag=True, help="Exit with 1 when there is a warning.")
def audit(
    directory: Path,
    against: Path | None,
    pixels: bool,
    margin: float,
    accept: tuple[BaselineName, ...],
    workers: int,
    as_json: bool,
    strict: bool,
) -> None:
    """Audit a benchmark: scores of blind baselines, videos that share frames, leakage from another set."""
    options = AuditOptions(workers=count_processes(workers), pixels=pixels, margin=margin, accept=accept)
    with console.progress_bar("cases") as bar:
        task = bar.add_task("reading", total=None, note="")
        result = run.audit(directory, against, options, lambda done: bar.update(task, completed=done))
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=1))
    else:
        _print_audit(result)
    sys.exit(1 if strict and result.warnings else 0)


@click.command(short_help="Compare two builds.", epilog="\b\nExample:\n  mmvm-data diff bench bench")
@click.argument("before", type=EXISTING_FOLDER)
@click.argument("after", type=EXISTING_FOLDER)
@click.option("--files", "compare_files", is_flag=True, help="Also compare the files of the case folders.")
@click.option("--max-changes", default=_DIFF_DEFAULTS.max_changes, show_default=True, help="Changes to list, at most.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--strict", is_flag=True, help="Exit with 1 when the cases differ.")
def diff(before: Path, after: Path, compare_files: bool, max_changes: int, as_json: bool, strict: bool) -> None:
    """Compare two builds: options, versions, counts, and cases field by field.

    A case is identified by its video and ordinal, not by its number.
    """
    result = compare_builds(before, after, DiffOptions(compare_files=compare_files, max_changes=max_changes))
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=1))
    else:
        _print_diff(result)
    sys.exit(1 if strict and not result.is_same else 0)


def _print_audit(result: AuditResult) -> None:
    table = Table(title=f"Blind baselines, {pluralize(result.cases, 'case')}", title_justify="left")
    table.add_column("baseline")
    for name in ("score", "interval", "chance", "cases"):
        table.add_column(name, justify="right")
    table.add_column("")
    shortcuts = {score.baseline for score in result.shortcuts}
    for score in result.scores:
        mark = "[yellow]beats chance[/]" if score.baseline in shortcuts else "accepted" if score.beats_chance() else ""
        table.add_row(
            score.baseline.replace("_", " "),
            f"{score.score:.1%}",
            f"{score.low:.1%} - {score.high:.1%}",
            f"{score.chance:.1%}",
            str(score.cases),
            mark,
        )
    if result.scores:
        out.print(table)
        out.print("[dim]intervals hold with 95 % for all baselines together; for random: the spread of one try[/]")
    _print_learned(result)
    if result.frames:
        blank = f", {result.frames.blank} blank ones left out" if result.frames.blank else ""
        out.print(f"{pluralize(result.frames.frames, 'frame')} compared{blank}")
        _print_video_pairs(result.frames, "videos that share frames")
    if result.leak:
        out.print(f"against {console.path_markup(result.leak.against)}, {pluralize(result.leak.cases, 'case')}:")
        for title, videos in (
            ("videos that both have", result.leak.videos),
            ("ids that both have under different sources", result.leak.same_ids),
        ):
            if videos:
                rest = f" and {len(videos) - _LISTED} more" if len(videos) > _LISTED else ""
                out.print(f"  {title}: {len(videos)} ({escape(', '.join(videos[:_LISTED]))}{rest})")
        if result.leak.frames:
            _print_video_pairs(result.leak.frames, "frames that both have")
    for names in result.repeated[:_LISTED]:
        out.print(f"same question: {escape(', '.join(names))}")
    for problem in result.problems[:_LISTED]:
        out.print(f"[bold]{escape(problem.where)}[/]: {escape(problem.what)}")
    if len(result.problems) > _LISTED:
        out.print(f"… and {len(result.problems) - _LISTED} more that could not be read")
    for text in result.warnings:
        out.print(f"[yellow]warning[/]: {escape(text)}")
    if result.shortage:
        out.print(f"[yellow]{result.shortage}[/]")
    elif not result.warnings:
        out.print("no warnings")


def _print_learned(result: AuditResult) -> None:
    """Print where the learned baseline is right, and from what."""
    learned = result.learned
    if learned.reason and learned.reason != result.shortage:
        out.print(f"no gradient boosting: {escape(learned.reason)}", soft_wrap=True)
    if learned.score and learned.score.beats_chance() and learned.importance:
        losses = _describe_losses(learned.importance)
        out.print(f"accuracy that gradient boosting loses without a group of features: {losses}")
    reasons = dict(learned.importance_by_source)
    for source, score in learned.by_source:
        interval = f"{score.low:.1%} - {score.high:.1%}, chance {score.chance:.1%}"
        from_what = f"; loses {_describe_losses(reasons[source])}" if reasons.get(source) else ""
        out.print(f"gradient boosting on {escape(source)}: {score.score:.1%} ({interval}){from_what}", soft_wrap=True)
    for source, videos in learned.short_sources:
        out.print(f"gradient boosting on {escape(source)}: {describe_shortage(videos)}", soft_wrap=True)


def _describe_losses(importance: Importance) -> str:
    return ", ".join(f"{group} {loss:.1%}" for group, loss in importance[:_LISTED_GROUPS])


def _print_video_pairs(frames: DuplicateFrames, title: str) -> None:
    for pair in frames.pairs[:_LISTED]:
        places = [f"{case} image {image}" for case, image in zip(pair.cases, pair.images, strict=True)]
        what = f"{pluralize(pair.pairs, 'pair')}, nearest {' and '.join(places)} ({pair.bits} of 64 bits differ)"
        out.print(f"  {title}: {escape(pair.videos[0])} and {escape(pair.videos[1])}, {escape(what)}")
    if len(frames.pairs) > _LISTED:
        out.print(f"  … and {len(frames.pairs) - _LISTED} more pairs of videos")


def _print_diff(diff: BuildDiff) -> None:
    if diff.settings:
        table = Table(title="Settings and counts", title_justify="left")
        for name in ("", "before", "after"):
            table.add_column(name, overflow="fold")
        for name, (before, after) in diff.settings.items():
            table.add_row(escape(name.removeprefix("request.")), escape(str(before)), escape(str(after)))
        out.print(table)
    out.print(f"cases: {diff.cases[0]} before, {diff.cases[1]} after")
    for title, names in (("added", diff.added), ("removed", diff.removed)):
        if names:
            rest = ", …" if len(names) > _LISTED else ""
            out.print(f"{title}: {len(names)} ({escape(', '.join(names[:_LISTED]))}{rest})")
    if diff.renumbered:
        out.print(f"same origin, another number: {diff.renumbered}")
    if diff.changed:
        fields = ", ".join(f"{escape(name)} in {count}" for name, count in sorted(diff.fields.items()))
        out.print(f"changed: {diff.changed} ({fields})")
    for change in diff.changes:
        if change.field == "files":
            out.print(f"[bold]{escape(change.case)}[/] {escape(change.before)}: other bytes")
        else:
            values = f"{escape(change.before)} -> {escape(change.after)}"
            out.print(f"[bold]{escape(change.case)}[/] {escape(change.field)}: {values}")
    if diff.is_same:
        out.print("the cases are the same")

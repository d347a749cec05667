"""The commands ``mmvm-data audit`` and ``mmvm-data diff``: parse and call, nothing else."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from mmvm_data.audit import run
from mmvm_data.audit.baseline_scores import NAMES
from mmvm_data.audit.diff import Difference
from mmvm_data.audit.diff import diff as compare
from mmvm_data.audit.duplicates import Likeness
from mmvm_data.io import console
from mmvm_data.io.console import out

_EXISTING = click.Path(path_type=Path, exists=True, file_okay=False)
_SHOWN = 10


@click.command(short_help="Find shortcuts, duplicates, leakage.", epilog="\b\nExample:\n  mmvm-data audit bench")
@click.argument("directory", type=_EXISTING)
@click.option("--against", type=_EXISTING, help="Another benchmark, to find videos and frames that both have.")
@click.option("--no-pixels", is_flag=True, help="Do not open images: no colours, no frames.")
@click.option(
    "--margin", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Above chance, without a warning."
)
@click.option("--accept", type=click.Choice(NAMES), multiple=True, help="A player that may beat chance; may repeat.")
@click.option("--workers", default=1, show_default=True, help="Processes; 0 for one a core.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.option("--strict", is_flag=True, help="Exit with 1 when there is a warning.")
def audit(
    directory: Path,
    against: Path | None,
    no_pixels: bool,
    margin: float,
    accept: tuple[str, ...],
    workers: int,
    as_json: bool,
    strict: bool,
) -> None:
    """Say what players that understand nothing would score, which videos share frames, what another set has too."""
    options = run.Options(workers or os.cpu_count() or 1, not no_pixels, margin, accept)
    with console.progress_bar("cases") as bar:
        task = bar.add_task("looking", total=None, note="")
        found = run.audit(directory, against, options, lambda done: bar.update(task, completed=done))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        _show_audit(found)
    sys.exit(1 if strict and found.warnings else 0)


@click.command(short_help="Say how two builds differ.", epilog="\b\nExample:\n  mmvm-data diff bench bench")
@click.argument("before", type=_EXISTING)
@click.argument("after", type=_EXISTING)
@click.option("--files", is_flag=True, help="Also compare the files of the case folders.")
@click.option("--most", type=click.IntRange(min=0), default=50, show_default=True, help="Changes to list.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.option("--strict", is_flag=True, help="Exit with 1 when the cases differ.")
def diff(before: Path, after: Path, files: bool, most: int, as_json: bool, strict: bool) -> None:
    """Say how two builds differ: options, versions, counts, and cases field by field.

    A case is known by its video and ordinal, whatever its number.
    """
    found = compare(before, after, files, most)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        _show_diff(found)
    sys.exit(1 if strict and not found.same else 0)


def _show_audit(found: run.Audit) -> None:
    table = Table(title=f"Players, {console.pluralize(found.cases, 'case')}", title_justify="left")
    table.add_column("player")
    for name in ("score", "interval", "chance", "cases"):
        table.add_column(name, justify="right")
    table.add_column("")
    loud = {score.player for score in found.shortcuts}
    for score in found.scores:
        mark = "[yellow]beats chance[/]" if score.player in loud else "accepted" if score.beats() else ""
        table.add_row(
            score.player.replace("_", " "),
            f"{score.score:.1%}",
            f"{score.low:.1%} - {score.high:.1%}",
            f"{score.chance:.1%}",
            str(score.cases),
            mark,
        )
    if found.scores:
        out.print(table)
        out.print("[dim]intervals hold with 95 % for all players together; that of random is the spread of one try[/]")
    if found.frames:
        blank = f", {found.frames.blank} blank ones left out" if found.frames.blank else ""
        out.print(f"{console.pluralize(found.frames.frames, 'frame')} compared{blank}")
        _show_alike(found.frames, "videos that share frames")
    if found.leak:
        out.print(f"against {console.path_markup(found.leak.against)}, {console.pluralize(found.leak.cases, 'case')}:")
        for title, videos in (
            ("videos that both have", found.leak.videos),
            ("ids that both have under different sources", found.leak.same_ids),
        ):
            if videos:
                rest = f" and {len(videos) - _SHOWN} more" if len(videos) > _SHOWN else ""
                out.print(f"  {title}: {len(videos)} ({escape(', '.join(videos[:_SHOWN]))}{rest})")
        if found.leak.frames:
            _show_alike(found.leak.frames, "frames that both have")
    for names in found.repeated[:_SHOWN]:
        out.print(f"ask the same: {escape(', '.join(names))}")
    for problem in found.problems[:_SHOWN]:
        out.print(f"[bold]{escape(problem.where)}[/]: {escape(problem.what)}")
    if len(found.problems) > _SHOWN:
        out.print(f"… and {len(found.problems) - _SHOWN} more that could not be read")
    for text in found.warnings:
        out.print(f"[yellow]warning[/]: {escape(text)}")
    if not found.warnings:
        out.print("nothing to warn about")


def _show_alike(found: Likeness, title: str) -> None:
    for pair in found.alike[:_SHOWN]:
        places = [f"{case} image {image}" for case, image in zip(pair.cases, pair.images, strict=True)]
        what = (
            f"{console.pluralize(pair.pairs, 'pair')}, nearest {' and '.join(places)} ({pair.bits} of 64 bits differ)"
        )
        out.print(f"  {title}: {escape(pair.videos[0])} and {escape(pair.videos[1])}, {escape(what)}")
    if len(found.alike) > _SHOWN:
        out.print(f"  … and {len(found.alike) - _SHOWN} more pairs of videos")


def _show_diff(found: Difference) -> None:
    if found.settings:
        table = Table(title="Settings and counts", title_justify="left")
        for name in ("", "before", "after"):
            table.add_column(name, overflow="fold")
        for name, (before, after) in found.settings.items():
            table.add_row(name.removeprefix("request."), escape(str(before)), escape(str(after)))
        out.print(table)
    out.print(f"cases: {found.cases[0]} before, {found.cases[1]} after")
    for title, names in (("added", found.added), ("removed", found.removed)):
        if names:
            rest = ", …" if len(names) > _SHOWN else ""
            out.print(f"{title}: {len(names)} ({escape(', '.join(names[:_SHOWN]))}{rest})")
    if found.renumbered:
        out.print(f"same origin, another number: {found.renumbered}")
    if found.changed:
        fields = ", ".join(f"{name} in {count}" for name, count in sorted(found.fields.items()))
        out.print(f"changed: {found.changed} ({fields})")
    for change in found.changes:
        if change.field == "files":
            out.print(f"[bold]{change.case}[/] {escape(change.before)}: other bytes")
        else:
            out.print(f"[bold]{change.case}[/] {change.field}: {escape(change.before)} -> {escape(change.after)}")
    if found.same:
        out.print("the cases are the same")

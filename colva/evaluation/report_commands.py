"""The commands ``colva compare`` and ``colva overview``: parse, call, print."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.table import Table

from colva.evaluation import runs
from colva.evaluation.reports.overview import write_overview
from colva.evaluation.reports.report import write_report
from colva.evaluation.reports.texts import between, percent
from colva.evaluation.scoring.compare import Comparison, compare_runs
from colva.evaluation.scoring.score_run import load_run
from mmvm_data.core.errors import UsageError
from mmvm_data.core.plurals import pluralize
from mmvm_data.io import console
from mmvm_data.io.console import escape, out
from mmvm_data.io.param_types import EXISTING_FOLDER


@click.command(
    short_help="Compare runs over the same cases.",
    epilog=(
        "\b\nExamples:\n"
        "  colva eval --bench bench --model random --out runs/random\n"
        "  colva eval --bench bench --model largest --out runs/largest\n"
        "  colva compare runs/random runs/largest --out comparison.html"
    ),
)
@click.argument("folders", nargs=-1, required=True, type=EXISTING_FOLDER, metavar="RUN RUN...")
@click.option("--out", "destination", type=click.Path(path_type=Path, dir_okay=False), help="Write a report as HTML.")
@click.option("--seed", default=0, show_default=True, help="Of the intervals.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def compare(folders: tuple[Path, ...], destination: Path | None, seed: int, as_json: bool) -> None:
    """Compare runs over the cases that they share, each with the first: differences with intervals, McNemar's test."""
    if len(folders) < 2:
        raise UsageError("compare needs two runs or more")
    scored = [(folder, load_run(folder)) for folder in folders]
    comparisons = compare_runs([run for _, run in scored], seed)
    if destination is not None:
        benches = {folder: runs.read_bench(folder) for folder in folders}
        write_report(scored, destination, benches, comparisons)
    if as_json:
        click.echo(json.dumps([c.to_json() for c in comparisons], indent=1))
        return
    for comparison in comparisons:
        _print_comparison(comparison)
    if destination is not None:
        out.print(f"open {console.path_markup(destination)} in a browser")


def _print_comparison(c: Comparison) -> None:
    models = f"[bold]{escape(c.second)}[/] against [bold]{escape(c.first)}[/]"
    out.print(f"{models}, {pluralize(c.overall.n, 'case')} that both answered")
    for note in c.notes:
        out.print(f"[yellow]note[/]: {escape(note)}")
    table = Table(box=None, header_style="dim")
    for name in ("", c.first, c.second, "difference", "95 % interval", "only first / second", "p", "p, Holm"):
        table.add_column(escape(name), justify="right" if name else "left")
    for name, row in (("overall", c.overall), *c.types.items()):
        table.add_row(
            escape(name),
            percent(row.first / row.n if row.n else None),
            percent(row.second / row.n if row.n else None),
            percent(row.value, signed=True),
            between(row._asdict(), signed=True),
            f"{row.test.only_first} / {row.test.only_second}",
            f"{row.test.mid_p:.3g}",
            "" if row.adjusted is None else f"{row.adjusted:.3g}",
        )
    out.print(table)
    out.print("p: McNemar's mid-p; types corrected for their number by Holm's method", style="dim")


@click.command(short_help="Write one page that links all runs in a folder.", epilog="\b\nExample:\n  colva overview .")
@click.argument("folder", type=EXISTING_FOLDER)
@click.option("--out", "path", type=click.Path(path_type=Path, dir_okay=False), help="[default: FOLDER/index.html]")
def overview(folder: Path, path: Path | None) -> None:
    """Collect benchmarks, training runs and evaluations below FOLDER on one page: scores, curves, links."""
    path = path or folder / "index.html"
    write_overview(folder, path)
    out.print(f"open {console.path_markup(path)} in a browser")

"""The commands ``mmvm-data sample`` and ``split``: parse and call, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click
from rich.table import Table

from mmvm_data.core.options import OptionError
from mmvm_data.core.plurals import pluralize
from mmvm_data.formats import set_operations
from mmvm_data.formats.set_commands import OUT_OPTION, SEED_OPTION, case_progress, print_written
from mmvm_data.io.console import escape, out
from mmvm_data.io.param_types import EXISTING_FOLDER, count_processes
from mmvm_data.recipes.resistant_sample import sample_resistant
from mmvm_data.recipes.video_split import split_videos


@click.command(
    short_help="Draw cases at random, balanced.",
    epilog="\b\nExamples:\n  mmvm-data sample bench --n 500 --balance source,match_types --out small\n"
    "  mmvm-data sample bench --n 2000 --resist --out hard",
)
@click.argument("directory", type=EXISTING_FOLDER)
@OUT_OPTION
@click.option("--n", required=True, type=int, help="Number of cases.")
@click.option("--balance", default="", metavar="FIELD,…", help="Fields whose values are to be equally frequent.")
@click.option("--resist", is_flag=True, help="Choose cases that blind baselines answer no better than chance.")
@click.option("--workers", default=1, show_default=True, help="With --resist: number of processes; 0: one a core.")
@SEED_OPTION
def sample(directory: Path, out_dir: Path, n: int, balance: str, resist: bool, workers: int, seed: int) -> None:
    """Draw cases at random, none that was rejected; with --balance, from the values that are rarest so far.

    Fields: those of filter.

    With --resist, the baselines of `mmvm-data audit` play the whole benchmark, which should have at least three times
    as many cases as are wanted, and cases are chosen so that each ends at chance. What cannot be reached is printed.
    """
    fields = [name.strip() for name in balance.split(",") if name.strip()]
    if not resist:
        with case_progress() as progress:
            number = set_operations.sample_set(directory, out_dir, n, fields, seed, progress)
        print_written(number, out_dir)
        return
    if fields:
        raise OptionError("balance", "must not be used with `resist`, which keeps the shares of the sources")
    with case_progress("choosing") as progress:
        selection = sample_resistant(directory, out_dir, n, seed, count_processes(workers), progress)
    print_selection(selection.to_json(), selection.warnings)
    print_written(n, out_dir)


@click.command(
    short_help="Divide a benchmark by video or source.",
    epilog="\b\nExample:\n  mmvm-data split bench --by video --shares train=0.8,test=0.2 --out splits",
)
@click.argument("directory", type=EXISTING_FOLDER)
@OUT_OPTION
@click.option(
    "--by", type=click.Choice(["video", "source"]), default="video", show_default=True, help="What stays together."
)
@click.option("--shares", metavar="NAME=SHARE,…", help="video: the parts; the shares sum to 1.")
@click.option("--ignore-duplicates", is_flag=True, help="video: do not look for pictures that videos share.")
@click.option("--workers", default=1, show_default=True, help="video: processes that read images; 0: one a core.")
@SEED_OPTION
def split(
    directory: Path,
    out_dir: Path,
    by: Literal["video", "source"],
    shares: str | None,
    ignore_duplicates: bool,
    workers: int,
    seed: int,
) -> None:
    """Divide a benchmark into several, one folder each.

    By video, all cases of a video are in one part, and videos that share pictures, or an original, stay together:
    the images of the cases are compared as `mmvm-data audit` does. By source, each source is a part.
    """
    parts = _parse_shares(shares)
    if by == "source" or ignore_duplicates:
        with case_progress() as progress:
            counts = set_operations.split_set(directory, out_dir, by, parts, seed, progress)
    else:
        with case_progress("comparing and writing") as progress:
            result = split_videos(directory, out_dir, parts, seed, count_processes(workers), progress)
        counts = result.cases
        out.print(
            f"{pluralize(result.tied, 'video')} of {pluralize(result.groups, 'group')} share pictures or an original, "
            "and stay together"
            if result.tied
            else "no videos share pictures or an original"
        )
    for name, number in counts.items():
        print_written(number, out_dir / name)


def _parse_shares(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    shares: dict[str, float] = {}
    for item in text.split(","):
        name, _, share = item.strip().partition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not name or value < 0 or name in shares:
            raise OptionError("shares", f"must be distinct NAME=SHARE, such as train=0.8,test=0.2, got {item!r}")
        shares[name] = value
    return shares


def print_selection(scores: Mapping[str, Any], warnings: Sequence[str]) -> None:
    """Print the score of each baseline before and after, and what could not be reached.

    Args:
        scores: of ``Selection.to_json``.
        warnings: one sentence each.
    """
    table = Table(
        title=f"Baselines on {pluralize(scores['pool_cases'], 'case')}, and on those chosen", title_justify="left"
    )
    for name in ("baseline", "source", "before", "after", "interval", "chance"):
        table.add_column(name, justify="left" if name in ("baseline", "source") else "right")
    for comparison in scores["baselines"]:
        before, after = comparison["pool"], comparison["chosen"]
        interval = f"{after['low']:.1%} - {after['high']:.1%}"
        source = escape(comparison["source"] or "all")
        row = (f"{before['score']:.1%}", f"{after['score']:.1%}", interval, f"{after['chance']:.1%}")
        table.add_row(before["baseline"], source, *row)
    out.print(table)
    print_shortfalls(warnings)


def print_shortfalls(texts: Sequence[str]) -> None:
    """Print what could not be reached, one sentence each."""
    for text in texts:
        out.print(f"[yellow]not reached[/]: {escape(text)}")

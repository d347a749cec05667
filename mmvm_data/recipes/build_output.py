"""What a build prints at its end, and its exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from mmvm_data.core.case_facts import DIFFICULTIES
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.redact import redact_urls
from mmvm_data.formats.build_files import REJECTS
from mmvm_data.io.console import err, escape, out, path_markup, print_next_steps, progress_bar
from mmvm_data.pipeline.options import BuildProgress, BuildResult
from mmvm_data.pipeline.reject_summary import ONE_OBJECT, suggest_options
from mmvm_data.recipes.commands import print_selection, print_shortfalls
from mmvm_data.recipes.multi_source.build import RecipeResult
from mmvm_data.recipes.report_card import ReportCard, make_card
from mmvm_data.recipes.selection_scores import Selection

NO_CASES_EXIT_CODE = 3
"""Exit code of a build from which no case came out."""

_MAX_REASON = 300  # characters of a reason that are printed


@contextmanager
def show_progress(
    destination: object, is_quiet: bool = False
) -> Iterator[tuple[Callable[[BuildProgress], None], Callable[[int], None]]]:
    """Show the progress of a build; when it is interrupted, say how to continue.

    Args:
        destination: of the build.
        is_quiet: show nothing.

    Returns:
        What to call after each video, and what with the number of cases that were looked at to choose some.
    """
    with progress_bar("videos", is_quiet) as bar:
        building = bar.add_task("building", total=None, note="")
        choosing = bar.add_task("choosing", total=None, note="", visible=False)

        def update(progress: BuildProgress) -> None:
            note = f"{pluralize(progress.cases, 'case')}, {pluralize(progress.rejects, 'reject')}"
            bar.update(building, completed=progress.videos, total=progress.total_videos, note=note)

        try:
            yield update, lambda number: bar.update(choosing, completed=number, visible=True)
        except KeyboardInterrupt:
            bar.stop()
            err.print(
                "stopped; what was finished is kept. Continue with the same command and --resume "
                f"({escape(str(destination))})"
            )
            raise


def exit_by_result(result: BuildResult, is_strict: bool) -> None:
    """Exit with 3 where no case came out, and with 1 where inputs were rejected that may not be."""
    if not result.cases:
        sys.exit(NO_CASES_EXIT_CODE)
    if is_strict and result.bad_inputs:
        err.print(
            f"--strict: {pluralize(result.bad_inputs, 'input')} rejected, see {escape(f'{result.out}/{REJECTS}')}"
        )
        sys.exit(1)


@dataclass(frozen=True)
class OutputOptions:
    """What a build prints.

    Attributes:
        as_json: the summary as one JSON object.
        is_quiet: nothing but errors, and what was asked for as JSON.
    """

    as_json: bool = False
    is_quiet: bool = False


def finish_output(
    result: BuildResult,
    options: OutputOptions,
    none_share: float = 0.0,
    recipe: RecipeResult | None = None,
    selection: Selection | None = None,
) -> None:
    """Print what a build has made: nothing, one JSON object, or a summary with its card.

    Args:
        result: of the build.
        options: what to print.
        none_share: the requested share of "none of the above", 0..1.
        recipe: of a recipe, its splits and what it could not reach.
        selection: of a build that chose cases which baselines do not solve.

    Raises:
        InputError: a record of the build cannot be read.
    """
    if options.is_quiet and not options.as_json:
        if not result.cases:
            for reason, count in result.common_reasons[:1]:
                err.print(f"{count} x {escape(reason[:_MAX_REASON])}")
            err.print(_describe_no_cases(result.common_reasons))
        return
    splits = recipe.splits if recipe else {}
    shortfalls = recipe.shortfalls if recipe else selection.warnings if selection else ()
    card = None
    if result.cases and not result.already_done and isinstance(result.out, Path):
        card = make_card(result.out, list(splits))
    if options.as_json:
        counts = asdict(replace(result, out=redact_urls(str(result.out)), common_reasons=()))
        counts["common_reasons"] = [{"reason": text, "rejects": count} for text, count in result.common_reasons]
        more = {"splits": splits, "shortfalls": list(shortfalls), "card": card and card.to_json()}
        if recipe:
            more["notes"] = list(recipe.notes)
        if not result.cases:
            more["options_that_may_help"] = list(suggest_options(result.common_reasons))
        click.echo(json.dumps(counts | more, indent=1))
        return
    scores = selection.to_json() if selection else recipe.scores if recipe else None
    if scores is not None:
        print_selection(scores, shortfalls)
    else:
        print_shortfalls(shortfalls)
    for text in recipe.notes if recipe else ():
        out.print(f"note: {escape(text)}")
    for name, cases in splits.items():
        out.print(f"{escape(name)}: {pluralize(cases, 'case')}")
    folder = result.out / next(iter(splits), "") if isinstance(result.out, Path) else None
    print_build_summary(result, none_share, card, folder, recipe.review if recipe else None, scores is not None)


def print_build_summary(
    result: BuildResult,
    none_share: float,
    card: ReportCard | None = None,
    first: Path | None = None,
    review: Mapping[str, Any] | None = None,
    is_chosen: bool = False,
) -> None:
    """Print the counts of a build, where it is, its card, and the commands to type next.

    Args:
        result: result of the build.
        none_share: the requested share of "none of the above", 0..1.
        card: of the build, if there is one.
        first: folder that the commands look at; None: all of it.
        review: the recipe's settings of the review.
        is_chosen: whether cases were chosen that baselines do not solve.
    """
    folder = path_markup(result.out)
    if result.already_done:
        out.print(f"{folder} was finished before: {pluralize(result.cases, 'case')}, nothing to do")
    else:
        rate = result.cases / result.seconds if result.seconds else 0
        out.print(
            f"[bold]{pluralize(result.cases, 'case')}[/] from {pluralize(result.videos, 'video')} "
            f"in {result.seconds:.1f} s ({rate:.1f} a second): {folder}"
        )
    if result.none_cases:
        out.print(f'the right answer is "none of the above" in {result.none_cases} of them')
    if result.cases >= 20 and result.none_cases < none_share * result.cases / 2:
        out.print(f'too few objects disappear for the requested share of "none of the above", {none_share:g}')
    if result.rejects:
        rejects = result.out / REJECTS if isinstance(result.out, Path) else f"{result.out}/{REJECTS}"
        out.print(f"{pluralize(result.rejects, 'reject')}, with reasons: {path_markup(rejects)}")
        for reason, count in result.common_reasons:
            out.print(f"  {count} x {escape(reason[:_MAX_REASON])}")
    if card is not None:
        print_card(card)
    if result.cases and isinstance(result.out, Path):
        bench = str(first or result.out)
        steps = [
            (["validate", bench], "check every file, mask and letter"),
            (["report", bench], "look at it"),
        ]
        if card is not None and card.shortcuts:
            hint = "" if is_chosen else "; build with --resist to choose against it"
            steps.append((["audit", bench], f"see what beats chance{hint}"))
        if review is not None:
            people = ["--annotators", ",".join(review["annotators"])] if review["annotators"] else []
            push = ["review", "push", bench, "--overlap", str(review["overlap"]), *people]
            steps.append((push, "let people check it"))
        print_next_steps(*steps)
    elif not result.cases:
        out.print(_describe_no_cases(result.common_reasons))


def _describe_no_cases(reasons: Sequence[tuple[str, int]]) -> str:
    """What to do where no case came out, as markup: a line or two."""
    names = suggest_options(reasons)
    hint = f"; another value of {', '.join(names)} may help" if names else ""
    text = f"[yellow]no case came out[/]: the rejects say why{hint}"
    if reasons and ONE_OBJECT in reasons[0][0]:
        text += "\nvideos of one object each need --proposals, or --min-candidates 1"
    return text


def print_card(card: ReportCard) -> None:
    """Print the cases by source and difficulty, and what blind baselines score."""
    table = Table(title="Cases by source and difficulty", title_justify="left")
    table.add_column("source")
    for name in ("cases", "videos", *DIFFICULTIES, "none", "rejects"):
        table.add_column(name, justify="right")
    for name, source in card.sources.items():
        levels = [source.difficulty[level] for level in DIFFICULTIES]
        numbers = [source.cases, source.videos, *levels, source.none, source.rejects]
        table.add_row(escape(name), *map(str, numbers))
    out.print(table)
    mark = "[yellow]audit[/]" if card.shortcuts else "audit"
    out.print(f"{mark}: {escape(card.audit)}")

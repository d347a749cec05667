"""``mmvm-data build RECIPE``: calls, and prints what came or would come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.table import Table

from mmvm_data.core.errors import UsageError
from mmvm_data.io.console import escape, out
from mmvm_data.io.param_types import count_processes
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.recipes.build_output import exit_by_result, print_build_summary, show_progress
from mmvm_data.recipes.multi_source.build import build_recipe
from mmvm_data.recipes.multi_source.dry_run import estimate_cases
from mmvm_data.recipes.multi_source.plan import make_plan
from mmvm_data.recipes.multi_source.recipe import Recipe, read_recipe

_BESIDE_RECIPE = {
    *("recipe", "destination", "workers", "engine", "ray_address"),
    *("existing", "accept_changes", "strict", "dry_run"),
}
"""Parameters of the command that do not decide the cases."""


def require_out(context: click.Context, values: dict[str, Any]) -> None:
    """Refuse a command line without --out."""
    if values["destination"] is None:
        raise click.UsageError("Missing option '--out'.", context)


def run_recipe(context: click.Context, path: Path, values: dict[str, Any]) -> None:
    """Build a recipe, or print what it would give."""
    for param in context.command.params:
        name = param.name or ""
        if name not in _BESIDE_RECIPE and context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise UsageError(f"{param.opts[0]} must not be used with a recipe, which says it")
    recipe = read_recipe(path)
    if values["dry_run"]:
        print_plan(recipe, path.parent)
        return
    require_out(context, values)
    options = BuildOptions(
        workers=count_processes(values["workers"]),
        existing=values["existing"] or "refuse",
        accept_changes=values["accept_changes"],
        engine=values["engine"],
        ray_address=values["ray_address"],
    )
    with show_progress(values["destination"]) as (update, choosing):
        result = build_recipe(recipe, path.parent, values["destination"], options, update, choosing)
    for name, cases in result.splits.items():
        out.print(f"{escape(name)}: {cases} cases")
    for text in result.shortfalls:
        out.print(f"[yellow]not reached[/]: {escape(text)}")
    print_build_summary(result.build, 0.0)
    exit_by_result(result.build, values["strict"])


def print_plan(recipe: Recipe, folder: Path) -> None:
    """Print the videos of each source, how many cases are wanted, and how many are expected. Nothing is written.

    Raises:
        UsageError, InputError: as ``make_plan``.
    """
    plan = make_plan(recipe, folder)
    table = Table(title="What would come", title_justify="left")
    for name in ("source", "reader", "videos", "wanted", "expected", "at most"):
        table.add_column(name, justify="left" if name in ("source", "reader") else "right")
    expected_total, short = 0, []
    for source, opened in zip(plan.sources, plan.opened, strict=True):
        expected = estimate_cases(source, opened)
        if source.wanted is not None and expected < source.wanted:
            short.append(f"source {source.name!r}: about {expected} cases are expected, {source.wanted} are wanted")
        kept = expected if source.wanted is None else min(expected, source.wanted)
        expected_total += kept
        wanted = "all" if source.wanted is None else str(source.wanted)
        row = (str(source.videos), wanted, str(kept), str(source.capacity))
        table.add_row(escape(source.name), escape(source.reader), *row)
    out.print(table)
    out.print(f"about {expected_total} cases are expected")
    for name, share in (recipe.splits or {}).items():
        out.print(f"{escape(name)}: about {round(share * expected_total)} cases")
    for text in short:
        out.print(f"[yellow]cannot be met[/]: {escape(text)}")

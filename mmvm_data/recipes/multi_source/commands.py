"""``mmvm-data build RECIPE``: calls, and prints what came or would come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.table import Table

from mmvm_data.core.errors import UsageError
from mmvm_data.core.plurals import pluralize
from mmvm_data.io.console import escape, out
from mmvm_data.io.param_types import count_processes
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.pipeline.output_folder import index_folder
from mmvm_data.recipes.build_output import OutputOptions, exit_by_result, finish_output, show_progress
from mmvm_data.recipes.multi_source.build import build_recipe
from mmvm_data.recipes.multi_source.dry_run import estimate_cases, list_unreachable
from mmvm_data.recipes.multi_source.plan import Plan, make_plan
from mmvm_data.recipes.multi_source.recipe import read_recipe
from mmvm_data.recipes.multi_source.split_groups import require_groups

_BESIDE_RECIPE = {
    *("recipe", "destination", "workers", "engine", "ray_address"),
    *("existing", "accept_changes", "strict", "dry_run", "as_json", "quiet"),
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
        plan = make_plan(recipe, path.parent, find_index(values))
        require_groups(plan)
        print_plan(plan, values["as_json"])
        return
    require_out(context, values)
    options = BuildOptions(
        workers=count_processes(values["workers"]),
        existing=values["existing"] or "refuse",
        accept_changes=values["accept_changes"],
        engine=values["engine"],
        ray_address=values["ray_address"],
    )
    output = OutputOptions(as_json=values["as_json"], is_quiet=values["quiet"])
    with show_progress(values["destination"], output.is_quiet) as (update, choosing):
        result = build_recipe(recipe, path.parent, values["destination"], options, update, choosing)
    finish_output(result.build, output, recipe=result)
    exit_by_result(result.build, values["strict"])


def find_index(values: dict[str, Any]) -> Path | None:
    """The folder with indices of sources that an earlier build of the same --out has left; None without one."""
    out_dir = values["destination"]
    folder = index_folder(out_dir) if isinstance(out_dir, Path) else None
    return folder if folder is not None and folder.is_dir() else None


def print_plan(plan: Plan, as_json: bool = False) -> None:
    """Print the videos of each source, how many cases are wanted, and how many are expected. Nothing is written."""
    rows: list[dict[str, Any]] = []
    short = []
    estimates = [estimate_cases(source, opened) for source, opened in zip(plan.sources, plan.opened, strict=True)]
    for source, estimate in zip(plan.sources, estimates, strict=True):
        expected = estimate.cases
        if source.wanted is not None and expected < source.wanted:
            why = f"; mostly: {estimate.reason}" if estimate.reason else ""
            cases = pluralize(expected, "case")
            short.append(f"source {source.name!r}: {source.wanted} wanted, about {cases} expected{why}")
        kept = expected if source.wanted is None else min(expected, source.wanted)
        facts = {"source": source.name, "reader": source.reader, "videos": source.videos}
        rows.append(facts | {"wanted": source.wanted, "expected": kept, "at_most": source.capacity})
    total = sum(row["expected"] for row in rows)
    splits = {name: round(share * total) for name, share in (plan.recipe.splits or {}).items()}
    impossible, doubtful = list_unreachable(plan, estimates)
    short += impossible
    if as_json:
        facts = {"sources": rows, "expected": total, "splits": splits}
        texts = {"cannot_be_met": short, "may_not_be_met": doubtful, "notes": list(plan.notes)}
        click.echo(json.dumps(facts | texts, indent=1))
        return
    table = Table(title="What would come", title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if name in ("source", "reader") else "right")
    for row in rows:
        table.add_row(*("all" if value is None else escape(str(value)) for value in row.values()))
    out.print(table)
    out.print(f"about {pluralize(total, 'case')} expected")
    for name, cases in splits.items():
        out.print(f"{escape(name)}: about {pluralize(cases, 'case')}")
    for text in short:
        out.print(f"[yellow]cannot be met[/]: {escape(text)}")
    for text in doubtful:
        out.print(f"[yellow]may not be met[/]: {escape(text)}")
    for text in plan.notes:
        out.print(f"note: {escape(text)}")

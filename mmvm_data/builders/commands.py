"""The command ``mmvm-data sources``: parses and calls, nothing else."""

from __future__ import annotations

import json

import click
from rich.padding import Padding
from rich.table import Table

from mmvm_data.builders.catalogue import SOURCES
from mmvm_data.io.console import escape, out, print_next_steps

_ANNOTATED_AS = {"mask": "masks", "box": "boxes"}


@click.command(short_help="List what build reads.", epilog="\b\nExample:\n  mmvm-data sources")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def sources(as_json: bool) -> None:
    """List what `build` reads: layout on disk, page, license, masks or boxes."""
    if as_json:
        facts = ("title", "layout", "page", "license", "prompt", "tested_on")
        click.echo(json.dumps({name: {f: getattr(spec, f) for f in facts} for name, spec in SOURCES.items()}, indent=1))
        return
    print_sources()


def print_sources() -> None:
    """Print each source with its layout on disk, page and license.

    One block a source, so that at 80 columns the URL of a page is not split, as it would be in a table.
    """
    names: dict[int, list[str]] = {}
    for name, spec in SOURCES.items():
        names.setdefault(id(spec), []).append(name)
    for known in names.values():
        spec = SOURCES[known[0]]
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="dim", min_width=9)
        table.add_column(overflow="fold")
        for label, text in (
            ("also", ", ".join(known[1:])),
            ("on disk", spec.layout),
            ("page", spec.page),
            ("license", spec.license),
            ("tested on", spec.tested_on),
        ):
            if text:
                table.add_row(label, escape(text))
        out.print(f"[bold]{known[0]}[/]  {escape(spec.title)}, {_ANNOTATED_AS[spec.prompt]}", soft_wrap=False)
        out.print(Padding(table, (0, 0, 1, 2)), soft_wrap=False)
    print_next_steps((["build", "--source", "NAME", "--root", "FOLDER", "--out", "BENCHMARK"], ""))

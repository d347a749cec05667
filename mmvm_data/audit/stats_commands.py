"""The command ``mmvm-data stats``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mmvm_data.audit.stats import collect_stats, print_stats
from mmvm_data.io.console import out
from mmvm_data.io.param_types import EXISTING_FOLDER


@click.command(short_help="Count what a benchmark holds.", epilog="\b\nExample:\n  mmvm-data stats bench")
@click.argument("directory", type=EXISTING_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def stats(directory: Path, as_json: bool) -> None:
    """Count: cases, candidates, areas, gaps, letters, match types, sources, rejects."""
    counts = collect_stats(directory)
    if as_json:
        click.echo(json.dumps(counts.to_json(), indent=1))
    else:
        print_stats(counts, out)

"""The command ``mmvm-data report``: parses and calls, nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from mmvm_data.io.console import out, path_markup, progress_bar
from mmvm_data.io.param_types import EXISTING_FOLDER
from mmvm_data.viz.report import write_report


@click.command(short_help="Write one HTML file to look at.", epilog="\b\nExample:\n  mmvm-data report bench")
@click.argument("directory", type=EXISTING_FOLDER)
@click.option("--out", "destination", type=click.Path(path_type=Path), help="File.  [default: DIRECTORY/report.html]")
def report(directory: Path, destination: Path | None) -> None:
    """Write one HTML file to look at: totals, histograms, and a gallery to filter and search."""
    with progress_bar("cases") as bar:
        task = bar.add_task("writing", total=None, note="")
        path = write_report(directory, destination, lambda done, of: bar.update(task, completed=done, total=of))
    size = path.stat().st_size / 1e6
    out.print(f"open {path_markup(path)} in a browser ({size:.1f} MB, works without a server)")

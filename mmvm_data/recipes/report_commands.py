"""The command ``mmvm-data report``: parses and calls, nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from mmvm_data.audit.results import AuditOptions
from mmvm_data.audit.run import audit
from mmvm_data.io.console import out, path_markup, progress_bar
from mmvm_data.io.param_types import EXISTING_FOLDER, count_processes
from mmvm_data.viz.report import write_report


@click.command(short_help="Write one HTML file to look at.", epilog="\b\nExample:\n  mmvm-data report bench")
@click.argument("directory", type=EXISTING_FOLDER)
@click.option("--out", "destination", type=click.Path(path_type=Path), help="File.  [default: DIRECTORY/report.html]")
@click.option("--no-audit", is_flag=True, help="Leave out the audit, which takes most of the time.")
@click.option("--workers", default=1, show_default=True, help="Processes of the audit; 0 for one a core.")
def report(directory: Path, destination: Path | None, no_audit: bool, workers: int) -> None:
    """Write one HTML file to look at: totals, histograms, a gallery to filter and search, and the audit."""
    with progress_bar("cases") as bar:
        findings = None
        if not no_audit:
            task = bar.add_task("auditing", total=None, note="")
            options = AuditOptions(workers=count_processes(workers))
            findings = audit(directory, None, options, lambda done: bar.update(task, completed=done)).to_json()
        task = bar.add_task("writing", total=None, note="")
        path = write_report(
            directory, destination, lambda done, of: bar.update(task, completed=done, total=of), findings
        )
    size = path.stat().st_size / 1e6
    out.print(f"open {path_markup(path)} in a browser ({size:.1f} MB, works without a server)")

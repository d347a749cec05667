"""The command ``colva export-lmms-eval``: parses, calls, prints."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from colva.evaluation.benchmark import default_protocol
from colva.evaluation.lmms_eval_export import export_lmms_eval
from colva.evaluation.question import AskOptions, Protocol
from mmvm_data.core.errors import OutputError
from mmvm_data.io import console
from mmvm_data.io.console import escape, out
from mmvm_data.io.param_types import FOLDER


@click.command(
    "export-lmms-eval",
    short_help="Write a benchmark as a task for lmms-eval.",
    epilog="\b\nExample:\n  colva export-lmms-eval bench --out task",
)
@click.argument("bench", type=click.Path(path_type=Path, exists=True))
@click.option("--out", "folder", required=True, type=FOLDER, help="Folder of the task.")
@click.option("--name", default="mmvm", show_default=True, help="Of the task.")
@click.option("--protocol", type=click.Choice(["mcq", "vqa"]), help="As for eval.")
def export(bench: Path, folder: Path, name: str, protocol: Protocol | None) -> None:
    """Write a benchmark as a task for lmms-eval: yaml, functions, questions."""
    ask_options = AskOptions(protocol=protocol or default_protocol(bench))
    try:
        report = export_lmms_eval(bench, folder, name, ask_options)
    except OSError as error:
        raise OutputError(error.filename or folder, error) from error
    out.print(f"{console.pluralize(report.cases, 'question')} in {console.path_markup(folder)}")
    for where, what in report.left_out:
        out.print(f"[yellow]left out[/] {escape(where)}: {escape(what)}")
    command = ["lmms-eval", "--include_path", str(folder), "--tasks", name, "--model", "MODEL"]
    out.print(f"next: {escape(shlex.join(command))}")

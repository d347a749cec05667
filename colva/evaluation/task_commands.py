"""The commands ``colva export-inspect``, ``export-lighteval`` and ``export-lmms-eval``: parse, call, print."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from colva.evaluation.benchmark import LoadReport, default_protocol
from colva.evaluation.inspect_export import export_inspect
from colva.evaluation.lighteval_export import export_lighteval
from colva.evaluation.lmms_eval_export import export_lmms_eval
from colva.evaluation.question import AskOptions, Protocol
from mmvm_data.core.errors import OutputError
from mmvm_data.core.plurals import pluralize
from mmvm_data.io import console
from mmvm_data.io.console import escape, out
from mmvm_data.io.param_types import FOLDER


def _task_options(command: Any) -> Any:
    """Add the argument and the options of an export."""
    decorators = (
        click.argument("bench", type=click.Path(path_type=Path, exists=True)),
        click.option("--out", "folder", required=True, type=FOLDER, help="Folder of the task."),
        click.option("--name", default="mmvm", show_default=True, help="Of the task."),
        click.option("--protocol", type=click.Choice(["mcq", "vqa"]), help="As for eval."),
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


@click.command(
    "export-lmms-eval",
    short_help="Write a benchmark as a task for lmms-eval.",
    epilog="\b\nExample:\n  colva export-lmms-eval bench --out task",
)
@_task_options
def lmms_eval(bench: Path, folder: Path, name: str, protocol: Protocol | None) -> None:
    """Write a benchmark as a task for lmms-eval: yaml, functions, questions."""
    command = ["lmms-eval", "--include_path", str(folder), "--tasks", name, "--model", "MODEL"]
    _export(export_lmms_eval, bench, folder, name, protocol, command)


@click.command(
    "export-inspect",
    short_help="Write a benchmark as a task for Inspect.",
    epilog="\b\nExample:\n  colva export-inspect bench --out task",
)
@_task_options
def inspect(bench: Path, folder: Path, name: str, protocol: Protocol | None) -> None:
    """Write a benchmark as a task for Inspect: a file of Python, questions."""
    # with the task's name, since Inspect looks for an absolute path without one below the working directory
    command = ["inspect", "eval", f"{folder / name}.py@{name}", "--model", "MODEL"]
    _export(export_inspect, bench, folder, name, protocol, command)


@click.command(
    "export-lighteval",
    short_help="Write a benchmark as a task for lighteval.",
    epilog="\b\nExample:\n  colva export-lighteval bench --out task",
)
@_task_options
def lighteval(bench: Path, folder: Path, name: str, protocol: Protocol | None) -> None:
    """Write a benchmark as a task for lighteval: a file of Python, questions."""
    # with the number of examples, since lighteval opens a name alone as a list of tasks where a file has it
    command = ["lighteval", "accelerate", "model_name=MODEL", f"{name}|0"]
    command += ["--vision-model", "--custom-tasks", str(folder / f"{name}.py")]
    _export(export_lighteval, bench, folder, name, protocol, command)


def _export(
    write: Callable[[Path, Path, str, AskOptions], LoadReport],
    bench: Path,
    folder: Path,
    name: str,
    protocol: Protocol | None,
    next_command: list[str],
) -> None:
    ask_options = AskOptions(protocol=protocol or default_protocol(bench))
    try:
        report = write(bench, folder, name, ask_options)
    except OSError as error:
        raise OutputError(error.filename or folder, error) from error
    out.print(f"{pluralize(report.cases, 'question')} in {console.path_markup(folder)}")
    for where, what in report.left_out:
        out.print(f"[yellow]left out[/] {escape(where)}: {escape(what)}")
    out.print(f"next: {escape(shlex.join(next_command))}")

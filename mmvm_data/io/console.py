"""What the commands print: progress bars, paths, counts, errors as one line, and the commands to type next."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mmvm_data.core.errors import InputError, UsageError, escape_message
from mmvm_data.io.flags import message_with_flags

COMMAND = "mmvm-data"
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def print_next_steps(*steps: tuple[list[str], str]) -> None:
    """Print commands that can be pasted into a shell, each with what it is for.

    Args:
        steps: (arguments of the command, purpose or "") each.
    """
    lines = [(shlex.join([program_name(), *arguments]), purpose) for arguments, purpose in steps]
    width = max(len(line) for line, _ in lines)
    for line, purpose in lines:
        out.print(f"next: {escape(line)}" + (f"{' ' * (width - len(line))}  [dim]# {purpose}[/]" if purpose else ""))


def program_name() -> str:
    """The name of this program as it can be typed: a path if it is not on PATH."""
    called = Path(sys.argv[0])
    if called.stem != COMMAND:
        return COMMAND
    on_path = shutil.which(COMMAND)
    return COMMAND if on_path and Path(on_path).resolve() == called.resolve() else str(called)


def run_command(command: click.Command, name: str, arguments: list[str] | None = None) -> None:
    """Run a command and exit with its exit code. Errors are one line, never a traceback.

    Args:
        command: a command or a group.
        name: its name in messages.
        arguments: its arguments; None for those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names in data may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    try:
        command.main(arguments, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except UsageError as error:
        _print_error(message_with_flags(error))
        sys.exit(2)
    except InputError as error:
        _print_error(str(error))
        sys.exit(2)
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        _discard_output()
        sys.exit(0)
    except OSError as error:  # a file or a disk that fails where no command expects it
        _print_error(f"{error.filename}: {error.strerror or error}" if error.filename else str(error))
        if error.filename is None:
            _discard_output()  # it may be the output itself that cannot be written, and would fail again at exit
        sys.exit(2)


def _discard_output() -> None:
    """Drop what is still to be written to the output, where that is a file of the system."""
    with contextlib.suppress(io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(message: str) -> None:
    err.print(f"[red]error[/]: {escape(escape_message(message))}", highlight=False, soft_wrap=True)


def pluralize(number: int, name: str) -> str:
    """A count with its noun: "1 case", "48 cases"."""
    return f"{number} {name}{'' if number == 1 else 's'}"


def path_markup(path: Path | str) -> str:
    """A path as markup: bold, and a link if the terminal supports links; a URL, which is a string, in bold."""
    if isinstance(path, str):
        return f"[bold]{escape(path)}[/]"
    return f"[bold link={path.resolve().as_uri()}]{escape(str(path))}[/]"


def progress_bar(unit: str) -> Progress:
    """A progress bar on standard error with rate and remaining time; hidden when that is no terminal.

    Args:
        unit: unit of the counts, in the plural. Tasks have a field ``note``.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
        console=err,
        expand=True,
        disable=not err.is_terminal,
    )


class _Rate(ProgressColumn):
    """Shows the rate: units a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self._unit}/s" if speed else "", style="dim")

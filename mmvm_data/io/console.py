"""What the commands print: progress bars, paths, counts, errors as one line, and the commands to type next."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape as escape_markup
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

from mmvm_data.core.errors import InputError, UsageError, escape_message, escape_unprintable
from mmvm_data.core.redact import redact_urls
from mmvm_data.io.flags import message_with_flags

COMMAND = "mmvm-data"


class TextConsole(Console):
    """A console whose texts hold no control character that a terminal would obey, whoever forgot to escape them.

    ``:name:`` is no emoji: ids and file names may hold colons.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(soft_wrap=True, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(escape_lines(text), **options)


out = TextConsole()
err = TextConsole(stderr=True)


def escape(text: str) -> str:
    """Return text from data as markup of one line that shows it as it is.

    Square brackets are no markup, and line breaks, control characters and those that change the direction of text are
    shown as escapes. Passwords in URLs are masked. Everything that a command prints of data goes through here.
    """
    return escape_markup(escape_unprintable(redact_urls(text)))


def escape_lines(text: str) -> str:
    """Return text of several lines without control characters other than line breaks."""
    return "\n".join(map(escape_unprintable, text.split("\n")))


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
        error.message = escape_message(error.message)  # type: ignore[misc]
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
    err.print(f"[red]error[/]: {escape_markup(escape_message(message))}")


def path_markup(path: Path | str) -> str:
    """A path as markup: bold, and a link if the terminal supports links; a URL, which is a string, in bold."""
    if isinstance(path, str):
        return f"[bold]{escape(path)}[/]"
    return f"[bold link={path.resolve().as_uri()}]{escape(str(path))}[/]"


def progress_bar(unit: str, is_hidden: bool = False) -> Progress:
    """A progress bar on standard error with rate and remaining time; hidden when that is no terminal.

    Args:
        unit: unit of the counts, in the plural. Tasks have a field ``note``.
        is_hidden: whether it is hidden in any case.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        _Note(),
        console=err,
        expand=True,
        disable=is_hidden or not err.is_terminal,
    )


class _Note(ProgressColumn):
    """Shows the field ``note``, which may be a name from data."""

    def render(self, task: Task) -> Text:
        return Text(escape_unprintable(str(task.fields["note"])))


class _Rate(ProgressColumn):
    """Shows the rate: units a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self._unit}/s" if speed else "", style="dim")

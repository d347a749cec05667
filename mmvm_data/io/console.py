"""What the command prints: progress, summaries, the list of sources, and what to type next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
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
from rich.table import Table
from rich.text import Text

from mmvm_data.builders import SOURCES
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.pipeline import build

COMMAND = "mmvm-data"
_GIVES = {"mask": "masks", "box": "boxes"}
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def show_build(result: build.BuildResult, none_share: float) -> None:
    """Print what a build did, where it is, and what to type next.

    Args:
        result: of ``pipeline.build``.
        none_share: the share of "none of the above" that was asked for, 0..1.
    """
    place = shown(result.out)
    if result.already_done:
        out.print(f"{place} was finished before: {result.cases} cases, nothing to do")
    else:
        rate = result.cases / result.seconds if result.seconds else 0
        out.print(
            f"[bold]{counted(result.cases, 'case')}[/] from {counted(result.videos, 'video')} "
            f"in {result.seconds:.1f} s ({rate:.1f} a second): {place}"
        )
    if result.none_cases:
        out.print(f'the right answer is "none of the above" in {result.none_cases} of them')
    if result.cases >= 20 and result.none_cases < none_share * result.cases / 2:
        out.print(f'too few objects disappear here for the share of "none of the above" that was asked: {none_share:g}')
    if result.rejects:
        rejects = result.out / build.REJECTS if isinstance(result.out, Path) else f"{result.out}/{build.REJECTS}"
        out.print(f"{counted(result.rejects, 'reject')}, with reasons: {shown(rejects)}")
    if result.cases and isinstance(result.out, Path):
        show_next(
            (["validate", str(result.out)], "check every file, mask and letter"),
            (["report", str(result.out)], "look at it"),
        )
    elif not result.cases:
        out.print(
            "[yellow]no case came out[/]: the rejects say why; "
            "--min-area, --min-candidates, --max-gap may be too strict"
        )


def show_next(*steps: tuple[list[str], str]) -> None:
    """Print commands that can be pasted into a shell, each with what it is for.

    Args:
        steps: (arguments of the command, purpose or "") each.
    """
    lines = [(shlex.join([typed_name(), *arguments]), purpose) for arguments, purpose in steps]
    width = max(len(line) for line, _ in lines)
    for line, purpose in lines:
        out.print(f"next: {escape(line)}" + (f"{' ' * (width - len(line))}  [dim]# {purpose}[/]" if purpose else ""))


def typed_name() -> str:
    """How this command was called, so that what is printed can be typed: a path where it is not on PATH."""
    called = Path(sys.argv[0])
    if called.stem != COMMAND:
        return COMMAND
    found = shutil.which(COMMAND)
    return COMMAND if found and Path(found).resolve() == called.resolve() else str(called)


def show_sources() -> None:
    """Print each source with its layout on disk, page and licence. At 80 columns a page's address stays whole, which a
    table of as many columns would cut into pieces."""
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
            ("on disk", spec.needs),
            ("page", spec.page),
            ("licence", spec.licence),
            ("tested on", spec.verified),
        ):
            if text:
                table.add_row(label, escape(text))
        out.print(f"[bold]{known[0]}[/]  {escape(spec.title)}, {_GIVES[spec.prompt]}", soft_wrap=False)
        out.print(Padding(table, (0, 0, 1, 2)), soft_wrap=False)
    show_next((["build", "--source", "NAME", "--root", "FOLDER", "--out", "BENCHMARK"], ""))


def run(command: click.Command, name: str, arguments: list[str] | None = None) -> None:
    """Run a command: errors as one line, never a traceback; then leave with its exit code.

    Args:
        command: with its sub-commands.
        name: what it is called in messages.
        arguments: None: those of the process.
    """
    try:
        command.main(arguments, prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (UsageError, InputError) as error:
        err.print(f"[red]error[/]: {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def counted(number: int, name: str) -> str:
    """A count with its noun: "1 case", "48 cases"."""
    return f"{number} {name}{'' if number == 1 else 's'}"


def shown(path: Path | str) -> str:
    """A path as markup: bold, and a link where the terminal knows links; a URL, which is text, in bold."""
    if isinstance(path, str):
        return f"[bold]{escape(path)}[/]"
    return f"[bold link={path.resolve().as_uri()}]{escape(str(path))}[/]"


def bar(unit: str) -> Progress:
    """A progress bar on standard error with rate and time left; silent when that is no terminal.

    Args:
        unit: what is counted, in the plural. Tasks have a field ``note``.
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
    """Things a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self._unit}/s" if speed else "", style="dim")

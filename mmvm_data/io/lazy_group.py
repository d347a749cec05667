"""A click group that lists its commands without importing them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click


class LazyCommand(NamedTuple):
    """Where a command is and what its one-line help says.

    Attributes:
        target: ``module:attribute`` of the click command.
        short_help: the short help of that command, repeated here so that ``--help`` need not import it.
    """

    target: str
    short_help: str


class LazyGroup(click.Group):
    """A group of commands that are imported when they run; its own ``--help`` imports none.

    Args:
        lazy_commands: name of each command -> where it is.
    """

    def __init__(self, *args: Any, lazy_commands: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy_commands = dict(lazy_commands)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, sorted."""
        return sorted(self.lazy_commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None when there is none of that name."""
        return self.load_command(cmd_name) if cmd_name in self.lazy_commands else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands with their short help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.lazy_commands[name].short_help) for name in self.list_commands(ctx)])

    def load_command(self, name: str) -> click.Command:
        """Import the command of that name.

        Raises:
            KeyError: there is none.
            TypeError: the target is no click command.
        """
        target = self.lazy_commands[name].target
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{target}: is no click command")
        return command

    def load_commands(self) -> dict[str, click.Command]:
        """Import all commands; by name, sorted."""
        return {name: self.load_command(name) for name in sorted(self.lazy_commands)}

"""Types of command-line parameters that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmvm_data.core.errors import InputError
from mmvm_data.core.options import OptionError
from mmvm_data.io.json_files import parse_json

FOLDER = click.Path(path_type=Path, file_okay=False)
"""A folder that need not exist."""

EXISTING_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
"""A folder that exists."""


def count_processes(workers: int) -> int:
    """Return the number of processes that an option asks for, in which 0 stands for one a core."""
    return workers or os.cpu_count() or 1


if TYPE_CHECKING:
    _ParamType = click.ParamType[dict[str, Any], Any]
else:
    _ParamType = click.ParamType  # generic from click 8.4 on only


class JsonObject(_ParamType):
    """A JSON object, such as ``{"temperature": 0}``."""

    name = "json"

    def convert(
        self, value: str | dict[str, Any], param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """Return the object as a dict.

        Raises:
            OptionError: the text is not JSON, or not an object.
        """
        if isinstance(value, dict):
            return value
        argument = (param.name if param else None) or ""
        try:
            parsed = parse_json(value, argument)
        except InputError as error:
            raise OptionError(argument, f"must be a JSON object, got {value!r:.200} ({error.reason})") from None
        if not isinstance(parsed, dict):
            raise OptionError(argument, f"must be a JSON object, got {value!r:.200}")
        return parsed

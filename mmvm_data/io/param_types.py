"""Types of command-line parameters that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from mmvm_data.io import remote

FOLDER = click.Path(path_type=Path, file_okay=False)
"""A folder that need not exist."""

EXISTING_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
"""A folder that exists."""


class PathOrUrl(click.ParamType):
    """A path, or a URL such as ``s3://bucket/folder``, which stays text."""

    name = "path or URL"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return a URL unchanged and anything else as a path."""
        return remote.path_or_url(value)

"""Types of command-line parameters that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)
"""A folder that need not exist."""

EXISTING_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
"""A folder that exists."""

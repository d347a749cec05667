"""Settings and secrets from environment variables and ``.env`` files."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

from mmvm_data.core.errors import InputError


def env_value(name: str, env_file: Path = Path(".env")) -> str | None:
    """Return the value of an environment variable, or else of the same name in a ``.env`` file.

    A variable that is set and not empty takes precedence over the file. In the file the last assignment of a name
    counts. The file is read by python-dotenv (``export``, quotes and comments are allowed), without expansion of
    ``${NAME}``, since passwords may contain it.

    Args:
        name: name of the variable.
        env_file: the file; it may be missing.

    Returns:
        The value without surrounding white space; None when it is empty or set in neither place.

    Raises:
        InputError: the file exists and cannot be read as UTF-8 text.
    """
    if value := os.environ.get(name, "").strip():
        return value
    try:
        values = dotenv_values(env_file, interpolate=False, encoding="utf-8") if env_file.is_file() else {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(env_file, "cannot be read as UTF-8 text") from error
    return (values.get(name) or "").strip() or None

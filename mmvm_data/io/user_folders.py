"""Folders of the user, outside of any data set, for files that others must not read."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def user_data_dir() -> Path:
    """Return the folder for data of this program that is to be kept: ``mmvm_data`` in XDG_DATA_HOME or ~/.local/share,
    on macOS in ~/Library/Application Support."""
    configured = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(configured):  # the specification says that others are to be ignored
        return Path(configured) / "mmvm_data"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/mmvm_data"
    return Path.home() / ".local/share/mmvm_data"


def user_config_dir() -> Path:
    """Return the folder for settings and logins of this program: ``mmvm_data`` in XDG_CONFIG_HOME or ~/.config, on
    macOS in ~/Library/Application Support."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(configured):
        return Path(configured) / "mmvm_data"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/mmvm_data"
    return Path.home() / ".config/mmvm_data"


def create_private_folder(folder: Path) -> None:
    """Create a folder that its owner alone may enter; the mode of one that exists is changed.

    Raises:
        OSError: it cannot be created, or belongs to another user.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def make_files_private(folder: Path) -> None:
    """Take the permissions of others from the files of a folder, not of those in its subfolders.

    Raises:
        OSError: a file belongs to another user.
    """
    for path in folder.iterdir():
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o077:
            path.chmod(0o600)

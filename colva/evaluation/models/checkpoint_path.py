"""Folders with a model: what they are called, and what is in them, as one number."""

from __future__ import annotations

import hashlib
from pathlib import Path

from colva.config import FINAL
from mmvm_data.io.files import file_sha256

_READ = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja")


def name_of_folder(folder: Path) -> str:
    """The folder's own name, or that of the run whose weights lie in it: `out/stage2/final` is called `stage2`."""
    place = folder.resolve()
    return place.parent.name if place.name == FINAL and place.parent.name else place.name


def digest_of_folder(folder: Path) -> str:
    """SHA-256 of all files that a model is loaded from; a gigabyte takes about a second."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _READ and path.name != "README.md":
            whole.update(f"{path.name}\n".encode() + file_sha256(path))
    return whole.hexdigest()

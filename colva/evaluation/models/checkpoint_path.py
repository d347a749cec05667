"""Names and digests of model folders."""

from __future__ import annotations

import hashlib
from pathlib import Path

from colva.config import FINAL_DIR
from mmvm_data.io.files import file_sha256

_MODEL_FILES = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja")


def model_name(folder: Path) -> str:
    """Return the folder's own name, or that of the training run that saved it: ``out/stage2/final`` -> ``stage2``."""
    path = folder.resolve()
    return path.parent.name if path.name == FINAL_DIR and path.parent.name else path.name


def model_digest(folder: Path) -> str:
    """Return SHA-256 over all files that a model is loaded from; a gigabyte takes about a second."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _MODEL_FILES and path.name != "README.md":
            digest.update(f"{path.name}\n".encode() + file_sha256(path))
    return digest.hexdigest()

"""The model: `colva.model.load(path)` gives one in eval mode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colva.model.colva import ColvaModel


def load(path: str | Path, **options: Any) -> ColvaModel:
    """A model in eval mode from a folder of any known layout; see `colva.checkpoints.load.load` for the options."""
    # transformers is imported with the first model, not with the first module of this package
    from colva.checkpoints import load as loading

    return loading.load(path, **options)

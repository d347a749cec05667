"""The adapter of stage 2: where it comes from, and the scale of the object tokens that it gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import torch
from pydantic import BeforeValidator
from torch import Tensor

from colva.checkpoints.checkpoint import Checkpoint, embedding_name, meta_model
from colva.checkpoints.trained_weights import read_trained_weights, resolve_weights
from colva.data.main_process import main_process_first
from colva.training.cached_objects import ADAPTER_PREFIX, CachedObjects
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import options
from mmvm_data.io.files import atomic_write
from mmvm_data.io.json_files import read_json_object

T = TypeVar("T")
_LAST_LAYER: Final = ("3.weight", "3.bias")
_MEASURED_RECORDS: Final = 16


@options
class AdapterOptions:
    """The adapter that stage 2 uses, frozen.

    Attributes:
        path: the folder that stage 1 wrote, or a published `.pth`; None for the model's own adapter.
        match_text_norm: scale the adapter's last layer so that object tokens have the norm of text embeddings. For a
            new adapter only: a published one was trained together with its language model.
    """

    _: KW_ONLY
    path: Path | None = None
    match_text_norm: bool = False


def _parse_adapter(value: Any) -> Any:
    if value is None or isinstance(value, str | Path):
        return AdapterOptions(path=None if value is None else Path(value))
    if isinstance(value, dict):
        path = value.get("path")
        return AdapterOptions(**value | {"path": Path(path) if isinstance(path, str) else path})
    return value


AdapterField = Annotated[AdapterOptions, BeforeValidator(_parse_adapter)]
"""`AdapterOptions`, or a path alone."""


def load_adapter(base: Checkpoint, path: Path | None) -> dict[str, Tensor]:
    """The adapter's tensors by its own names: from a file or folder of stage 1, or the model's own.

    Raises:
        InputError: the file has no adapter weights.
    """
    if path is None:
        return {name: stored.read() for name, stored in _select_adapter(base.tensors).items()}
    weights = _select_adapter(resolve_weights(read_trained_weights(path), meta_model(base.config)).tensors)
    if not weights:
        raise InputError(path, "has no adapter weights")
    return weights


def _select_adapter(tensors: Mapping[str, T]) -> dict[str, T]:
    """The entries of the adapter, by its own names."""
    return {
        name.removeprefix(ADAPTER_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(ADAPTER_PREFIX)
    }


def check_is_new(base: Checkpoint, adapter: AdapterOptions) -> None:
    """Refuse to change the scale of a published adapter.

    Raises:
        UsageError: it is published: a `.pth`, what `colva convert` made of one, or that of a published model.
    """
    if adapter.path is not None:
        is_published = adapter.path.is_file() or read_trained_weights(adapter.path).is_published
    else:
        is_published = base.published is not None and "radio_config" in base.published
    if is_published:
        raise UsageError(
            f"adapter.match_text_norm: {adapter.path or base.path} has a published adapter, whose scale its language "
            "model was trained with; it is for the adapter of a new stage 1"
        )


def measure_text_norm(base: Checkpoint) -> float:
    """The median norm of a model's token embeddings."""
    table = base.tensors[embedding_name(meta_model(base.config))].read()
    return float(torch.linalg.vector_norm(table.float(), dim=1).median())


def measure_object_norm(objects: CachedObjects) -> float:
    """The mean norm of the object tokens of the first cases; 0 when no object covers a token."""
    norms = torch.linalg.vector_norm(objects.embed_first(_MEASURED_RECORDS), dim=1)
    norms = norms[norms > 0]
    return float(norms.mean()) if len(norms) else 0.0


def scale_to_text_norm(
    base: Checkpoint,
    adapter: Mapping[str, Tensor],
    cache_dir: Path,
    open_objects: Callable[[Mapping[str, Tensor]], CachedObjects],
) -> dict[str, Tensor]:
    """An adapter whose object tokens have the norm of text embeddings on average.

    The main process measures the objects and writes the result, so that all processes scale by the same number.

    Args:
        base: the model.
        adapter: its weights.
        cache_dir: folder of the run's caches.
        open_objects: the objects of the run, for an adapter.

    Raises:
        UsageError: no object can be measured.
    """
    objects = open_objects(adapter)
    file = cache_dir / f"object-norm-{objects.fingerprint}.json"

    def measure() -> None:
        norm = measure_object_norm(objects)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as handle:
            json.dump({"norm": norm}, handle)

    main_process_first(file.exists, measure)
    norm = read_json_object(file).get("norm")
    if not isinstance(norm, int | float) or norm <= 0:
        raise UsageError("adapter.match_text_norm: none of the first objects covers a token of the expert")
    factor = measure_text_norm(base) / norm
    return {name: tensor * factor if name in _LAST_LAYER else tensor for name, tensor in adapter.items()}

"""Folders that appear when they are complete, and tensors in shards that each fit in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save_file
from torch import Tensor

from colva.checkpoints.lazy_tensors import SAFE, LazyTensor
from mmvm_data.core.errors import OutputError
from mmvm_data.io.staging import staging_folder

SHARD_BYTES: Final = 4 * 10**9


@contextmanager
def atomic_folder(destination: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `destination` to write into; on success it is synced and renamed.

    Raises:
        UsageError: the destination exists and is not an empty folder, or another process is writing it.
        OutputError: a full or read-only disk. The temporary folder is removed after any error.
    """
    try:
        with staging_folder(destination) as temporary:
            yield temporary
    except OSError as error:
        raise OutputError(destination, error) from error


def write_tensors(
    folder: Path,
    tensors: Mapping[str, LazyTensor],
    shard_bytes: int = SHARD_BYTES,
    stem: str = SAFE,
    on_progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write tensors in the order given, as one safetensors file or as shards with an index.

    One shard at a time is in memory; a tensor larger than a shard becomes a shard of its own. The layout is that of
    transformers' `save_pretrained`.

    Args:
        folder: exists.
        tensors: by name.
        shard_bytes: largest size of a shard.
        stem: name of the single file.
        on_progress: called with the number of tensors written.
    """
    shards: list[list[str]] = [[]]
    size = 0
    for name, stored in tensors.items():
        if shards[-1] and size + stored.num_bytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += stored.num_bytes
    base = stem.removesuffix(".safetensors")
    file_of: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = stem if len(shards) == 1 else f"{base}-{number:05}-of-{len(shards):05}.safetensors"
        content = _untie_shared({name: tensors[name].read() for name in names})
        save_file(content, folder / file, metadata={"format": "pt"})
        os.chmod(folder / file, 0o666 & ~_umask())  # it writes files that only their owner can read
        file_of |= dict.fromkeys(names, file)
        on_progress(len(file_of))
        del content
    if len(shards) > 1:
        total = sum(stored.num_bytes for stored in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(file_of.items()))}
        write_json(folder / f"{stem}.index.json", index)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _untie_shared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with those copied that share memory with another, which safetensors refuses."""
    untied: dict[str, Tensor] = {}
    spans: list[tuple[int, int]] = []
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        if any(start < other_end and other < end for other, other_end in spans):
            tensor = tensor.clone()
            start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        spans.append((start, end))
        untied[name] = tensor
    return untied


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, indented, with its keys in order."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

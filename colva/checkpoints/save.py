"""Folders that are whole or absent, and tensors in shards that each fit in memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save_file
from torch import Tensor

from colva.checkpoints.store import SAFE, Stored
from mmvm_data.core.errors import OutputError, UsageError
from mmvm_data.io.files import fsync_path, path_kind

SHARD_BYTES: Final = 4 * 10**9


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """A temporary neighbour of `destination` to write into; on success synced and renamed to it.

    Raises:
        UsageError: something is there already.
        OutputError: a full or read-only disk. What was written is removed, also after any other error.
    """
    if path_kind(destination) != "nothing" and not (
        path_kind(destination) == "folder" and not any(destination.iterdir())
    ):
        raise UsageError(f"{destination}: there already; give another destination, or remove it first")
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        for path in sorted(temporary.rglob("*")):
            if path.is_file():
                fsync_path(path)
        fsync_path(temporary)
        if destination.exists():
            destination.rmdir()
        os.replace(temporary, destination)
        fsync_path(destination.parent)
    except OSError as error:
        raise OutputError(destination, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_tensors(
    folder: Path,
    tensors: Mapping[str, Stored],
    shard_bytes: int = SHARD_BYTES,
    stem: str = SAFE,
    tick: Callable[[int], None] = lambda done: None,
) -> None:
    """Write tensors in the order given, as one safetensors file or as shards with an index.

    Never more than one shard is in memory; a tensor larger than a shard makes one by itself. The layout is that of
    transformers' `save_pretrained`.

    Args:
        folder: exists.
        shard_bytes: largest size of a shard.
        stem: name of the single file.
        tick: called with the number of tensors written.
    """
    shards: list[list[str]] = [[]]
    size = 0
    for name, stored in tensors.items():
        if shards[-1] and size + stored.bytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += stored.bytes
    base = stem.removesuffix(".safetensors")
    placed: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = stem if len(shards) == 1 else f"{base}-{number:05}-of-{len(shards):05}.safetensors"
        content = _apart({name: tensors[name].read() for name in names})
        save_file(content, folder / file, metadata={"format": "pt"})
        os.chmod(folder / file, 0o666 & ~_umask())  # it writes files that only their owner can read
        placed |= dict.fromkeys(names, file)
        tick(len(placed))
        del content
    if len(shards) > 1:
        total = sum(stored.bytes for stored in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))}
        write_json(folder / f"{stem}.index.json", index)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, none of which shares memory with another (which safetensors refuses); most are not copied."""
    kept: dict[str, Tensor] = {}
    taken: list[tuple[int, int]] = []
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        if any(start < other_end and other < end for other, other_end in taken):
            tensor = tensor.clone()
            start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        taken.append((start, end))
        kept[name] = tensor
    return kept


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON object, indented, keys in the order given."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

"""Tensors on disk, each read only when it is asked for.

A checkpoint is a dict of name to `Stored`. Shapes and sizes are known and checked before any tensor is read
(https://huggingface.co/docs/safetensors describes the header), so that a damaged file is found at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from colva.checkpoints.pickles import read_pickle
from mmvm_data.core.errors import InputError
from mmvm_data.io.files import path_kind, safe_join

SAFE: Final = "model.safetensors"
BIN: Final = "pytorch_model.bin"
# a header holds about 100 bytes a tensor; the format's own limit
_LARGEST_HEADER: Final = 100_000_000

DTYPES: Final[dict[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Stored:
    """One tensor of a checkpoint.

    Attributes:
        shape, dtype: as `read` will give it.
        read: reads or computes it.
        sources: the names in the files that it is made of; empty for one that is made here.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    sources: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Size in memory."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def in_memory(tensors: dict[str, Tensor]) -> dict[str, Stored]:
    """Tensors that are already here."""
    return {
        name: Stored(tuple(tensor.shape), tensor.dtype, lambda t=tensor: t, (name,))  # type: ignore[misc]
        for name, tensor in tensors.items()
    }


def open_folder(folder: Path, stem: str = SAFE) -> dict[str, Stored]:
    """The tensors of a checkpoint folder: one safetensors file or its shards, else PyTorch's `.bin` files.

    Args:
        folder: holds `model.safetensors`, or `model.safetensors.index.json` with the shards that it names, or
            `pytorch_model.bin` or its index.
        stem: name of the single file.

    Raises:
        InputError: no such file, a missing shard, a truncated one, a name that the index lists and no shard has or
            the other way round, a path that leaves the folder.
    """
    for single, opener in ((stem, open_safetensors), (BIN, _open_bin)):
        index = folder / f"{single}.index.json"
        if path_kind(index) == "file":
            return _open_shards(folder, index, opener)
        if path_kind(folder / single) == "file":
            return opener(_within(folder, single, folder / single))
    raise InputError(folder, f"expected {stem} or {stem}.index.json (or {BIN}), found neither")


def _open_shards(folder: Path, index: Path, opener: Callable[[Path], dict[str, Stored]]) -> dict[str, Stored]:
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(v, str) for v in listed.values()) or not listed:
        raise InputError(index, "expected an object of tensor names to file names", "weight_map")
    found: dict[str, Stored] = {}
    for name in sorted(set(listed.values())):
        shard = _within(folder, name, index)
        if path_kind(shard) != "file":
            count = sum(1 for v in listed.values() if v == name)
            raise InputError(shard, f"shard is missing: the index puts {count} tensors in it")
        inner = opener(shard)
        wanted = {tensor for tensor, file in listed.items() if file == name}
        if inner.keys() != wanted:
            lacking, extra = sorted(wanted - inner.keys()), sorted(inner.keys() - wanted)
            raise InputError(shard, f"not what {index.name} lists: missing {_some(lacking)}, unlisted {_some(extra)}")
        found |= inner
    return found


def _within(folder: Path, name: str, named_by: Path) -> Path:
    """A file of the folder; a link may lead to another place only where a hub's cache keeps its blobs."""
    path = safe_join(folder, name, named_by, "weight_map")
    real, root = path.resolve(), folder.resolve()
    cache = root.parent.parent / "blobs" if root.parent.name == "snapshots" else None
    if not real.is_relative_to(root) and not (cache and real.is_relative_to(cache)):
        raise InputError(path, f"is a link out of its folder, to {real}; expected a file inside {folder}")
    return path


def open_safetensors(path: Path) -> dict[str, Stored]:
    """The tensors of one safetensors file.

    Raises:
        InputError: no safetensors file, or one whose size is not what its header says.
    """
    header, start = _header(path)
    end = 0
    found: dict[str, Stored] = {}
    handles: list[Any] = []

    def read(name: str) -> Tensor:
        if not handles:
            try:
                handles.append(safe_open(path, "pt"))
            except (SafetensorError, OSError) as error:
                raise InputError(path, f"cannot be read: {error}") from error
        return handles[0].get_tensor(name)

    for name, facts in header.items():
        try:
            dtype, shape = DTYPES[facts["dtype"]], tuple(int(n) for n in facts["shape"])
            end = max(end, int(facts["data_offsets"][1]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(path, f"expected dtype, shape and data_offsets, found {facts!r}", name) from error
        found[name] = Stored(shape, dtype, lambda n=name: read(n), (name,))  # type: ignore[misc]
    size = path.stat().st_size
    if size != start + end:
        raise InputError(path, f"truncated or damaged: its header asks for {start + end:,} bytes, found {size:,}")
    return found


def _header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with open(path, "rb") as file:
            first = file.read(8)
            length = int.from_bytes(first, "little")
            if len(first) < 8 or length > _LARGEST_HEADER:
                raise InputError(path, f"not a safetensors file: begins with {first!r}")
            text = file.read(length)
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror}") from error
    if len(text) < length:
        raise InputError(path, f"truncated: expected a header of {length:,} bytes, found {len(text):,}")
    try:
        header = json.loads(text)
    except ValueError as error:
        raise InputError(path, f"not a safetensors file: its header is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise InputError(path, "not a safetensors file: its header is no JSON object")
    header.pop("__metadata__", None)
    return header, 8 + length


def _open_bin(path: Path) -> dict[str, Stored]:
    return in_memory(tensors_in(read_pickle(path), path))


def tensors_in(content: Any, path: Path) -> dict[str, Tensor]:
    """A state dict, with everything that is no tensor refused."""
    if not isinstance(content, dict) or not content:
        raise InputError(path, f"expected a dict of names to tensors, found {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(path, f"expected a tensor, found {type(value).__name__}", str(name))
    return {name: value.detach() for name, value in content.items()}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; InputError when it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(path, f"no JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(path, f"expected a JSON object, found {type(content).__name__}")
    return content


def _some(names: list[str], most: int = 3) -> str:
    """`a, b, c and 12 more`, or `none`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more

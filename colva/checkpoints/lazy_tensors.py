"""Tensors on disk that are read on demand.

A checkpoint is a dict of names to `LazyTensor`. Shapes and sizes are known and checked before any tensor is read
(https://huggingface.co/docs/safetensors describes the header), so that a damaged file is found at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from colva.checkpoints.pickles import read_pickle
from mmvm_data.core.errors import InputError
from mmvm_data.io.files import open_regular, path_kind, real_path, safe_join
from mmvm_data.io.json_files import parse_json_object, read_json_object

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
class LazyTensor:
    """One tensor of a checkpoint.

    Attributes:
        shape, dtype: of what `read` returns.
        read: reads or computes the tensor.
        sources: names in the source files; empty for a tensor without a source.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    sources: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Size in memory."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def wrap_tensors(tensors: dict[str, Tensor]) -> dict[str, LazyTensor]:
    """Return tensors in memory as lazy tensors."""
    return {
        name: LazyTensor(tuple(tensor.shape), tensor.dtype, lambda t=tensor: t, (name,))  # type: ignore[misc]
        for name, tensor in tensors.items()
    }


def open_tensor_folder(folder: Path, stem: str = SAFE) -> dict[str, LazyTensor]:
    """Return the tensors of a checkpoint folder: one safetensors file or its shards, else PyTorch's `.bin` files.

    Args:
        folder: holds `model.safetensors`, or `model.safetensors.index.json` with the shards that it names, or
            `pytorch_model.bin` or its index.
        stem: name of the single file.

    Raises:
        InputError: no such file, a missing or truncated shard, a tensor that is in the index and not in its
            shard or the other way round, a path that leaves the folder.
    """
    for single, opener in ((stem, open_safetensors), (BIN, _open_bin)):
        index = folder / f"{single}.index.json"
        if path_kind(index) == "file":
            return _open_shards(folder, index, opener)
        if path_kind(folder / single) == "file":
            return opener(_resolve_shard(folder, single, folder / single))
    raise InputError(folder, f"expected {stem} or {stem}.index.json (or {BIN}), found neither")


def _open_shards(folder: Path, index: Path, opener: Callable[[Path], dict[str, LazyTensor]]) -> dict[str, LazyTensor]:
    file_of = read_json_object(index).get("weight_map")
    if not isinstance(file_of, dict) or not all(isinstance(v, str) for v in file_of.values()) or not file_of:
        raise InputError(index, "expected an object of tensor names to file names", "weight_map")
    tensors: dict[str, LazyTensor] = {}
    for name in sorted(set(file_of.values())):
        shard = _resolve_shard(folder, name, index)
        if path_kind(shard) != "file":
            count = sum(1 for v in file_of.values() if v == name)
            raise InputError(shard, f"shard is missing: the index puts {count} tensors in it")
        shard_tensors = opener(shard)
        listed_names = {tensor for tensor, file in file_of.items() if file == name}
        if shard_tensors.keys() != listed_names:
            missing, unlisted = sorted(listed_names - shard_tensors.keys()), sorted(shard_tensors.keys() - listed_names)
            raise InputError(
                shard,
                f"not what {index.name} lists: missing {_format_some(missing)}, unlisted {_format_some(unlisted)}",
            )
        tensors |= shard_tensors
    return tensors


def _resolve_shard(folder: Path, name: str, index: Path) -> Path:
    """Return the path of a file in the folder; a link may leave it only to the blobs of a Hugging Face cache."""
    path = safe_join(folder, name, index, "weight_map")
    real, root = real_path(path), real_path(folder)
    cache = root.parent.parent / "blobs" if root.parent.name == "snapshots" else None
    if not real.is_relative_to(root) and not (cache and real.is_relative_to(cache)):
        raise InputError(path, f"is a link out of its folder, to {real}; expected a file inside {folder}")
    return path


def open_safetensors(path: Path) -> dict[str, LazyTensor]:
    """Return the tensors of one safetensors file.

    Raises:
        InputError: not a safetensors file, or its size differs from what its header says.
    """
    header, start = _read_header(path)
    end = 0
    tensors: dict[str, LazyTensor] = {}
    handles: list[Any] = []

    def read(name: str) -> Tensor:
        if not handles:
            try:
                handles.append(safe_open(path, "pt"))
            except (SafetensorError, OSError) as error:
                raise InputError(path, f"cannot be read: {error}") from error
        tensor: Tensor = handles[0].get_tensor(name)
        return tensor

    for name, entry in header.items():
        try:
            dtype, shape = DTYPES[entry["dtype"]], tuple(int(n) for n in entry["shape"])
            end = max(end, int(entry["data_offsets"][1]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(path, f"expected dtype, shape and data_offsets, found {entry!r}", name) from error
        tensors[name] = LazyTensor(shape, dtype, lambda n=name: read(n), (name,))  # type: ignore[misc]
    size = path.stat().st_size
    if size != start + end:
        raise InputError(path, f"truncated or damaged: its header asks for {start + end:,} bytes, found {size:,}")
    return tensors


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with open_regular(path) as file:
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
        header = parse_json_object(text, path)
    except InputError as error:
        raise InputError(path, f"not a safetensors file: its header is no JSON object ({error.reason})") from error
    header.pop("__metadata__", None)
    return header, 8 + length


def _open_bin(path: Path) -> dict[str, LazyTensor]:
    return wrap_tensors(check_state_dict(read_pickle(path), path))


def check_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Return a state dict; InputError when it is not a dict of names to tensors."""
    if not isinstance(content, dict) or not content:
        raise InputError(path, f"expected a dict of names to tensors, found {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(path, f"expected a tensor, found {type(value).__name__}", str(name))
    return {name: value.detach() for name, value in content.items()}


def _format_some(names: list[str], most: int = 3) -> str:
    """Return `a, b, c and 12 more`, or `none`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more

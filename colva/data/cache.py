"""Object embeddings on disk, so that stage 2 trains without the expert.

In stage 2 expert and adapter are frozen and pictures do not change, so each object is one vector. It is stored under
a key of its picture's bytes and its mask, in a folder named by everything else that decides it: the expert's and the
adapter's weights, the canvas and the threshold.

A folder holds parts, each complete or absent: `part-000000.keys.npy` (`[n, 16]` bytes, sorted) and
`part-000000.rows.npy` (`[n, d]` float32), read by memory mapping. The keys are renamed into place last, so rows
without keys are what a killed run left behind, and nothing reads them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Rle
from mmvm_data.io.files import atomic_write

KEY = 16
"""Bytes of a key; two objects in 10^12 share one with a chance of about 10^-15."""
_PART = re.compile(r"part-(\d{6})\.keys\.npy")


def object_key(picture: bytes, rle: Rle) -> bytes:
    """The key of an object: of its picture's digest (see `picture_digest`) and its mask, run lengths and size."""
    height, width = rle.size
    return hashlib.blake2b(picture + f"{height}x{width}:".encode() + rle.counts.encode(), digest_size=KEY).digest()


def picture_digest(data: bytes) -> bytes:
    """The digest of a picture file's bytes."""
    return hashlib.blake2b(data, digest_size=32).digest()


def fingerprint(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> str:
    """A name for what decides embeddings beside picture and mask: 32 hexadecimal digits.

    Args:
        weights: of expert and adapter, by name; their bytes count, and so do their types and shapes.
        settings: JSON-able; canvas, stride, threshold, the expert's configuration.
    """
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=KEY)
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class ObjectCache:
    """The embeddings in one folder, width d each. Processes may read while one writes; `refresh` shows what is new."""

    def __init__(self, folder: str | Path, width: int) -> None:
        self.folder = Path(folder)
        self.width = width
        self._keys: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._names: list[str] = []
        self.refresh()

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._keys)

    def refresh(self) -> None:
        """See the parts that are there now.

        Raises:
            InputError: a part is damaged or of another width.
        """
        if not self.folder.is_dir():
            return
        for name in sorted(name for name in os.listdir(self.folder) if _PART.fullmatch(name)):
            if name in self._names:
                continue
            keys, rows = self._open(name), self._open(name.replace("keys", "rows"))
            if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != KEY:
                raise InputError(self.folder / name, f"{keys.dtype} {list(keys.shape)}: expected uint8 [n, {KEY}]")
            if rows.dtype != np.float32 or rows.shape != (len(keys), self.width):
                raise InputError(
                    self.folder / name.replace("keys", "rows"),
                    f"{rows.dtype} {list(rows.shape)}: expected float32 [{len(keys)}, {self.width}]; "
                    "delete the cache folder to have it made again",
                )
            self._names.append(name)
            self._keys.append(_sortable(keys))
            self._rows.append(rows)

    def _open(self, name: str) -> np.ndarray:
        try:
            found: np.ndarray = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = f"damaged: {error}; delete the cache folder to have it made again"
            raise InputError(self.folder / name, " ".join(reason.split())) from error
        return found

    def _find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Part and row of each key; part -1 where there is none."""
        parts = np.full(len(keys), -1)
        rows = np.zeros(len(keys), np.int64)
        for number, there in enumerate(self._keys):
            at = np.searchsorted(there, keys)
            hit = (at < len(there)) & (there[np.minimum(at, len(there) - 1)] == keys) & (parts < 0)
            parts[hit], rows[hit] = number, at[hit]
        return parts, rows

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Which of the keys are not there, by their place in the list."""
        if not keys:
            return []
        return [int(number) for number in np.flatnonzero(self._find(_array(keys))[0] < 0)]

    def read(self, keys: Sequence[bytes]) -> Tensor:
        """Embeddings `[n, d]` float32, in the order of the keys.

        Raises:
            KeyError: one is not there.
        """
        found = torch.empty(len(keys), self.width)
        if not keys:
            return found
        parts, rows = self._find(_array(keys))
        if (parts < 0).any():
            raise KeyError(f"object {int(np.flatnonzero(parts < 0)[0])} of {len(keys)} is not in {self.folder}")
        for number in np.unique(parts):
            chosen = np.flatnonzero(parts == number)
            found[torch.from_numpy(chosen)] = torch.from_numpy(self._rows[number][rows[chosen]])
        return found

    def append(self, keys: Sequence[bytes], embeddings: Tensor) -> None:
        """Add a part; keys that are there already, or twice, are left out.

        Raises:
            ValueError: embeddings of another shape, or not finite.
        """
        if tuple(embeddings.shape) != (len(keys), self.width):
            raise ValueError(f"embeddings {list(embeddings.shape)} for {len(keys)} keys of width {self.width}")
        if not torch.isfinite(embeddings).all():
            raise ValueError("embeddings are not finite")
        new = {keys[number]: number for number in reversed(self.missing(keys))}
        if not new:
            return
        ordered = sorted(new)
        values = embeddings.detach().float().cpu().numpy()[[new[key] for key in ordered]]
        taken = [int(match[1]) for name in self._names if (match := _PART.fullmatch(name))]
        name = f"part-{max(taken, default=-1) + 1:06d}.keys.npy"
        self.folder.mkdir(parents=True, exist_ok=True)
        for target, array in ((name.replace("keys", "rows"), values), (name, _bytes(ordered))):
            with atomic_write(self.folder / target, "wb") as handle:
                np.save(handle, array, allow_pickle=False)
        self.refresh()


def _bytes(keys: Iterable[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY)


def _sortable(keys: np.ndarray) -> np.ndarray:
    """Keys as one comparable value each, ordered as bytes are: two big-endian numbers."""
    return np.ascontiguousarray(keys).view([("high", ">u8"), ("low", ">u8")]).reshape(-1)


def _array(keys: Sequence[bytes]) -> np.ndarray:
    return _sortable(_bytes(keys))

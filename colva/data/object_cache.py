"""Object embeddings on disk, so that stage 2 trains without the expert.

In stage 2 expert and adapter are frozen and images do not change, so each object has one embedding. It is stored under
a key of its image's bytes and its mask, in a folder named after everything else that determines it: the weights of
expert and adapter, the canvas and the threshold.

A folder holds parts of two files each: `part-000000.keys.npy` (`[n, 16]` bytes, sorted) and `part-000000.rows.npy`
(`[n, d]` float32), read by memory mapping. The keys are renamed into place last, so rows without keys are left over
from a killed run, and are ignored.
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
from numpy.typing import NDArray
from torch import Tensor

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Rle
from mmvm_data.io.files import atomic_write

KEY_BYTES = 16
"""Length of a key; two of 10^12 objects collide with a probability of about 10^-15."""
_PART_NAME = re.compile(r"part-(\d{6})\.keys\.npy")


def object_key(image: bytes, rle: Rle) -> bytes:
    """The key of an object: a hash of its image's digest (see `image_digest`) and its mask's counts and size."""
    height, width = rle.size
    return hashlib.blake2b(image + f"{height}x{width}:".encode() + rle.counts.encode(), digest_size=KEY_BYTES).digest()


def image_digest(data: bytes) -> bytes:
    """The hash of an image file's bytes."""
    return hashlib.blake2b(data, digest_size=32).digest()


def fingerprint_weights(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> str:
    """A hash of everything that determines embeddings besides image and mask: 32 hexadecimal digits.

    Args:
        weights: of expert and adapter, by name; their values, dtypes and shapes count.
        settings: JSON-compatible: canvas, stride, threshold, the expert's configuration.
    """
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=KEY_BYTES)
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class ObjectCache:
    """The embeddings in one folder. Processes may read while one writes; `refresh` shows them the new parts.

    Args:
        folder: of the cache; need not exist yet.
        width: dimension of an embedding.

    Raises:
        InputError: see `refresh`.
    """

    def __init__(self, folder: str | Path, width: int) -> None:
        self.folder = Path(folder)
        self.width = width
        self._keys: list[NDArray[np.void]] = []
        self._rows: list[NDArray[np.float32]] = []
        self._names: list[str] = []
        self.refresh()

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._keys)

    def refresh(self) -> None:
        """Open the parts that were added since the last time.

        Raises:
            InputError: a part is damaged or of another width.
        """
        if not self.folder.is_dir():
            return
        for name in sorted(name for name in os.listdir(self.folder) if _PART_NAME.fullmatch(name)):
            if name in self._names:
                continue
            keys, rows = self._load_part(name), self._load_part(name.replace("keys", "rows"))
            if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != KEY_BYTES:
                raise InputError(
                    self.folder / name, f"{keys.dtype} {list(keys.shape)}: expected uint8 [n, {KEY_BYTES}]"
                )
            if rows.dtype != np.float32 or rows.shape != (len(keys), self.width):
                raise InputError(
                    self.folder / name.replace("keys", "rows"),
                    f"{rows.dtype} {list(rows.shape)}: expected float32 [{len(keys)}, {self.width}]; "
                    "delete the cache folder to have it built again",
                )
            self._names.append(name)
            self._keys.append(_as_comparable(keys))
            self._rows.append(rows)

    def _load_part(self, name: str) -> NDArray[Any]:
        try:
            array: NDArray[Any] = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = f"damaged: {error}; delete the cache folder to have it built again"
            raise InputError(self.folder / name, " ".join(reason.split())) from error
        return array

    def _locate(self, keys: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Part and row of each key; part -1 for a key that is not cached."""
        parts = np.full(len(keys), -1)
        rows = np.zeros(len(keys), np.int64)
        for number, known in enumerate(self._keys):
            index = np.searchsorted(known, keys)
            is_hit = (index < len(known)) & (known[np.minimum(index, len(known) - 1)] == keys) & (parts < 0)
            parts[is_hit], rows[is_hit] = number, index[is_hit]
        return parts, rows

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Positions in the list of those keys that are not cached."""
        if not keys:
            return []
        return [int(number) for number in np.flatnonzero(self._locate(_pack_keys(keys))[0] < 0)]

    def read(self, keys: Sequence[bytes]) -> Tensor:
        """Embeddings `[n, d]` float32, in the order of the keys.

        Raises:
            KeyError: a key is not cached.
        """
        embeddings = torch.empty(len(keys), self.width)
        if not keys:
            return embeddings
        parts, rows = self._locate(_pack_keys(keys))
        if (parts < 0).any():
            raise KeyError(f"object {int(np.flatnonzero(parts < 0)[0])} of {len(keys)} is not in {self.folder}")
        for number in np.unique(parts):
            chosen = np.flatnonzero(parts == number)
            embeddings[torch.from_numpy(chosen)] = torch.from_numpy(self._rows[number][rows[chosen]])
        return embeddings

    def append(self, keys: Sequence[bytes], embeddings: Tensor) -> None:
        """Write a part; keys that are cached already, and repeated ones, are left out.

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
        numbers = [int(match[1]) for name in self._names if (match := _PART_NAME.fullmatch(name))]
        name = f"part-{max(numbers, default=-1) + 1:06d}.keys.npy"
        self.folder.mkdir(parents=True, exist_ok=True)
        for target, array in ((name.replace("keys", "rows"), values), (name, _as_byte_array(ordered))):
            with atomic_write(self.folder / target, "wb") as handle:
                np.save(handle, array, allow_pickle=False)
        self.refresh()


def _as_byte_array(keys: Iterable[bytes]) -> NDArray[np.uint8]:
    """Keys as uint8 `[n, KEY_BYTES]`."""
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)


def _as_comparable(keys: NDArray[np.uint8]) -> NDArray[np.void]:
    """Keys as one comparable value each, in the order of their bytes: two big-endian integers."""
    return np.ascontiguousarray(keys).view([("high", ">u8"), ("low", ">u8")]).reshape(-1)


def _pack_keys(keys: Sequence[bytes]) -> NDArray[np.void]:
    return _as_comparable(_as_byte_array(keys))

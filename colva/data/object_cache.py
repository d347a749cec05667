"""Filling the object cache: every object of the mixture's cases through expert and adapter, once.

Workers read pictures and lay them on the expert's canvas; the expert sees them in batches. What is done is kept in
parts and noted source by source, so that a filling that was killed goes on, and a finished one costs nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from colva.data.cache import ObjectCache, object_key
from colva.data.main_process import in_workers
from colva.data.mixture import CASE_KINDS, Opened
from colva.data.sft import clean_picture, objects_of
from colva.processing.tiling import expert_canvas
from mmvm_data.core import masks as rle_masks
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.io import media
from mmvm_data.io.files import atomic_write

Embed = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Canvases uint8 `[i, 3, s, s]`, cells `[n, k]` bool, each object's canvas `[n]` ascending -> embeddings `[n, d]`."""
_OBJECTS_A_PART = 8192


@dataclass(frozen=True)
class Canvas:
    """A picture with objects that are not cached yet: `pixels` `[3, s, s]`, `cells` `[n, k]`, their keys."""

    pixels: Tensor
    cells: Tensor
    keys: tuple[bytes, ...]


@dataclass(frozen=True)
class Preparation:
    """How objects reach the expert: its canvas and stride in pixels, and the threshold of masks."""

    side: int
    stride: int
    threshold: float


def is_filled(cache: ObjectCache, sources: Sequence[Opened]) -> bool:
    """Whether every record of every source was gone through."""
    return all(_done(cache.folder, one) == len(one) for one in _cases(sources))


def fill(
    cache: ObjectCache,
    sources: Sequence[Opened],
    preparation: Preparation,
    embed: Embed,
    workers: int,
    batch: int = 8,
    told: Callable[[int, int], None] = lambda done, count: None,
    part: int = _OBJECTS_A_PART,
) -> None:
    """Embed what is not there yet. A record that cannot be used is passed over: training lists it.

    Args:
        cache: is appended to.
        sources: of the mixture; those without cases have no objects.
        preparation: see there.
        embed: expert and adapter.
        workers: processes that read pictures; 0 reads them here.
        batch: canvases that the expert sees at once.
        told: called now and then with the records done and the records of a source.
        part: objects that are embedded before they are written.

    Raises:
        OutputError: the cache cannot be written to.
    """
    for one in _cases(sources):
        begun = _done(cache.folder, one)
        if begun == len(one):
            continue
        pending = _Pending()
        task = _Reading(one, preparation, cache)
        try:
            numbers = range(begun, len(one))
            for number, canvases in zip(numbers, in_workers(task, numbers, workers), strict=True):
                pending.add(canvases)
                while len(pending.canvases) >= batch:
                    pending.embed(embed, batch)
                if len(pending.keys) >= part:
                    pending.embed(embed, batch, True)
                    pending.write(cache)
                    _note(cache.folder, one, number + 1)
                    told(number + 1, len(one))
            pending.embed(embed, batch, True)
            pending.write(cache)
            _note(cache.folder, one, len(one))
            told(len(one), len(one))
        except OSError as error:
            raise OutputError(cache.folder, error) from error


@dataclass
class _Pending:
    """What was read and not embedded, and what was embedded and not written."""

    canvases: list[Canvas] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)

    def add(self, canvases: Sequence[Canvas]) -> None:
        for canvas in canvases:
            new = [k for k, key in enumerate(canvas.keys) if key not in self.seen]
            if not new:
                continue
            keys = tuple(canvas.keys[k] for k in new)
            self.seen |= set(keys)
            self.canvases.append(Canvas(canvas.pixels, canvas.cells[new], keys))

    def embed(self, embed: Embed, batch: int, rest: bool = False) -> None:
        while self.canvases and (rest or len(self.canvases) >= batch):
            taken, self.canvases = self.canvases[:batch], self.canvases[batch:]
            counts = torch.tensor([len(one.keys) for one in taken])
            images = torch.repeat_interleave(torch.arange(len(taken)), counts)
            pixels = torch.stack([one.pixels for one in taken])
            found = embed(pixels, torch.cat([one.cells for one in taken]), images)
            self.rows.append(found.detach().float().cpu())
            self.keys += [key for one in taken for key in one.keys]

    def write(self, cache: ObjectCache) -> None:
        if self.keys:
            cache.append(self.keys, torch.cat(self.rows))
        self.keys, self.rows, self.seen = [], [], set()


@dataclass(frozen=True)
class _Reading:
    opened: Opened
    preparation: Preparation
    cache: ObjectCache

    def __call__(self, number: int) -> list[Canvas]:
        try:
            return list(self._canvases(number))
        except (InputError, ValueError):  # listed when training comes to it
            return []

    def _canvases(self, number: int) -> Iterator[Canvas]:
        case, root = self.opened.case(number), self.opened.root
        assert root is not None
        given = self.preparation
        for position, frame in enumerate(case.frames):
            bgr, digest = clean_picture(root, frame)
            size = (bgr.shape[0], bgr.shape[1])
            rles = objects_of(case, position, size)
            keys = [object_key(digest, rle) for rle in rles]
            missing = self.cache.missing(keys)
            if not missing:
                continue
            pixels, geometry = expert_canvas(media.bgr_to_rgb(bgr), given.side, given.stride)
            bitmaps = torch.stack([torch.from_numpy(rle_masks.decode(rles[k])) for k in missing])
            yield Canvas(pixels, geometry.token_mask(bitmaps, given.threshold), tuple(keys[k] for k in missing))


def _cases(sources: Sequence[Opened]) -> list[Opened]:
    return [one for one in sources if one.source.kind in CASE_KINDS]


def _marker(folder: Path, one: Opened) -> Path:
    place = str(None if one.root is None else one.root.absolute())
    said = f"{one.records.stamp} {one.source.kind} {place}"
    digest = hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=8)
    return folder / f"done-{digest.hexdigest()}.json"


def _done(folder: Path, one: Opened) -> int:
    """Records of a source, from the first on, whose objects are in the cache."""
    try:
        found = json.loads(_marker(folder, one).read_text(encoding="utf-8"))["records"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return found if isinstance(found, int) and 0 <= found <= len(one) else 0


def _note(folder: Path, one: Opened, records: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(_marker(folder, one)) as handle:
        json.dump({"records": records}, handle)

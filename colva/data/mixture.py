"""The stage-2 mixture: records of several files, each used as often as its source's weight says.

A record is parsed when it is used. Which records an epoch uses, and how a case is asked about, follows from seed,
epoch and record alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colva.data.prompt_variants import PromptVariants
from colva.data.record_reader import FILE_KINDS, RecordReader, SftSource
from colva.data.records import open_records
from colva.data.video_cases import FIXED_DRAW, Draw, open_video_records
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import options
from mmvm_data.formats.bench import CASES
from mmvm_data.io.files import path_kind
from mmvm_data.io.transaction import settle

_SPLIT_SEED: Final = 0  # of the held-out split, which must not depend on the training seed


@options
class SftOptions:
    """The data of stage 2.

    Attributes:
        sources: the mixture.
        max_length: tokens of a row; a longer conversation is left out, listed and counted.
        packing: several conversations per row; otherwise one per row, padded.
        use_object_cache: embed each object once and cache it; otherwise the expert runs in each step.
        use_object_tokens: cases name their objects by tokens; otherwise questions rely on the drawn images alone.
        vary_prompts: wordings and colors of cases change with seed and epoch.
        renumber: the candidates of a case get other numbers in each epoch, so that its answer cannot be memorized.
        clean_share: share of the cases that are shown without marks (instruction augmentation).
        objects_only_steps: in so many first steps the questions of cases have object tokens and choices alone, without
            images and wording: a curriculum for a language model from scratch, which otherwise sees no pattern in
            whole questions for long.
        copy_share: share of the cases of these steps whose query is one of the candidates itself.
        held_out_share: share of each source's records, or videos, that is held out for evaluation.
        max_held_out: upper limit of held-out records per source.
        image_options: options of the model family's image processor, in addition to those of the model.
        cache_dir: folder for indexes, lengths and object embeddings; by default `cache` in the run's folder.
    """

    _: KW_ONLY
    sources: Annotated[tuple[SftSource, ...], Field(min_length=1)]
    max_length: Annotated[int, Field(ge=16)] = 8192
    packing: bool = True
    use_object_cache: bool = True
    use_object_tokens: bool = True
    vary_prompts: bool = True
    renumber: bool = True
    clean_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    objects_only_steps: Annotated[int, Field(ge=0)] = 0
    copy_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_held_out: Annotated[int, Field(ge=1)] = 256
    image_options: dict[str, Any] = field(default_factory=dict)
    cache_dir: Path | None = None


def open_record_sources(options: SftOptions, cache_dir: Path | None) -> list[RecordReader]:
    """Open all sources of the mixture; a file of a million records takes seconds the first time.

    Args:
        options: of the data.
        cache_dir: folder for the indexes of the files; None caches nothing.

    Raises:
        UsageError: a path of the wrong kind, or a source without the root it needs.
        InputError: a file that cannot be read.
    """
    readers = []
    for number, source in enumerate(options.sources):
        key = f"data.sources.{number}"
        path, root = source.path, source.root
        if source.kind not in FILE_KINDS:
            if options.packing:
                raise UsageError(f"{key}: cases that are drawn again have no known lengths; set packing=false")
            videos = open_video_records(f"{key}.path", key, source.kind, path, source.sampling, cache_dir)
            readers.append(RecordReader(source, videos, videos.source.root))
            continue
        if source.kind == "build":
            if path_kind(path) != "folder":
                raise UsageError(f"{key}.path: {path} is not a folder; expected the output of `mmvm-data build`")
            settle(path)
            path, root = path / CASES, root or path
        elif path_kind(path) != "file":
            raise UsageError(f"{key}.path: {path} is not a file; expected a JSON list or JSON lines")
        if root is not None and path_kind(root) != "folder":
            raise UsageError(f"{key}.root: {root} is not a folder")
        if root is None and source.kind.startswith("match"):
            raise UsageError(f"{key}.root is missing; {source.kind} needs the folder of the images")
        readers.append(RecordReader(source, open_records(path, cache_dir), root))
    return readers


@dataclass(frozen=True)
class EpochItems:
    """The items of one epoch, unordered: one entry per item in each array.

    Attributes:
        source: int16, number of the source.
        record: int64, number of the record in it.
        variant: int16, index of the prompt variant.
        repetition: int16, how often the record came before in this epoch.
    """

    source: NDArray[np.int16]
    record: NDArray[np.int64]
    variant: NDArray[np.int16]
    repetition: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.source)


class Mixture:
    """Decides which records an epoch uses.

    Args:
        readers: the sources.
        options: weights and the held-out share.
        variants: the prompt variants that cases are asked in.
        seed: of the choice.
        held_out: select the held-out part: each record once, whatever its weight and the seed.
    """

    def __init__(
        self,
        readers: Sequence[RecordReader],
        options: SftOptions,
        variants: PromptVariants,
        seed: int,
        held_out: bool = False,
    ) -> None:
        self.readers = tuple(readers)
        self.variants = variants
        self.seed = _SPLIT_SEED if held_out else seed
        self.held_out = held_out
        self._held_out_share, self._max_held_out = options.held_out_share, options.max_held_out

    def _split_records(self, number: int) -> NDArray[np.int64]:
        """The records of a source that belong to this part, ascending."""
        size = self.readers[number].group_size
        count = len(self.readers[number]) // size
        num_held_out = min(int(count * self._held_out_share), -(-self._max_held_out // size))
        order = np.random.default_rng([_SPLIT_SEED, number]).permutation(count) if num_held_out else np.arange(count)
        groups = np.sort(order[count - num_held_out :] if self.held_out else order[: count - num_held_out])
        records: NDArray[np.int64] = (groups[:, None] * size + np.arange(size)).reshape(-1)
        return records

    def epoch_items(self, epoch: int = 0) -> EpochItems:
        """The items of an epoch."""
        columns = []
        for number, reader in enumerate(self.readers):
            part = self._split_records(number)
            rng = np.random.default_rng([self.seed, epoch, number])
            weight = 1.0 if self.held_out else reader.source.weight
            repeats = math.floor(weight)
            rest = round((weight - repeats) * len(part))
            records = np.concatenate([np.tile(part, repeats), np.sort(rng.choice(part, rest, replace=False))])
            repetitions = np.concatenate([np.repeat(np.arange(repeats), len(part)), np.full(rest, repeats)])
            variants = self.variants.sample(len(records), rng)
            columns.append((np.full(len(records), number), records, variants, repetitions))
        source, record, variant, repetition = (np.concatenate(column) for column in zip(*columns, strict=True))
        return EpochItems(
            source.astype(np.int16), record.astype(np.int64), variant.astype(np.int16), repetition.astype(np.int16)
        )

    def item_key(self, items: EpochItems, index: int, epoch: int) -> tuple[int | str, ...]:
        """The key that seeds the numbers and colors of an item."""
        parts = (int(items.source[index]), int(items.record[index]), int(items.repetition[index]))
        return ("stage 2", self.seed, epoch, *parts)

    def item_draw(self, items: EpochItems, index: int, epoch: int) -> Draw:
        """What decides which case a video gives; the held-out part always has the same ones."""
        return FIXED_DRAW if self.held_out else (self.seed, epoch, int(items.repetition[index]))

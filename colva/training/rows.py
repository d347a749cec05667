"""Stage-2 training items by ordinal: rows of one conversation, or of as many as fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from colva.data.lengths import BAD, Lengths
from colva.data.mixture import Items, Mixture, dialogue, measure
from colva.data.packing import Plan, pack, plan
from colva.data.prompt_variants import length_changes
from colva.data.sft import Lookup
from colva.losses import IGNORE_INDEX
from colva.processing.collator import Processor, Sample
from colva.training.stage import Part
from mmvm_data.core.errors import InputError, Reject

Row = tuple[Sample, ...]


@dataclass(frozen=True)
class Preparing:
    """How a record becomes a sample.

    Attributes:
        processor: see there.
        objects: cases name their objects.
        lookup: gives objects from a cache; None gives masks for the expert.
        max_length: of a sample.
    """

    processor: Processor
    objects: bool
    lookup: Lookup | None
    max_length: int


@dataclass(frozen=True)
class _Epoch:
    """One epoch: what it takes, and row by row which of it; `left_out[k]` are items that no row has."""

    items: Items
    plan: Plan
    left_out: np.ndarray


class Rows:
    """Rows of the mixture.

    Args:
        mixture: which records an epoch takes.
        preparing: how they are prepared.
        lengths: of each source; None for rows of one conversation.
    """

    def __init__(self, mixture: Mixture, preparing: Preparing, lengths: Sequence[Lengths] | None) -> None:
        self._mixture = mixture
        self._preparing = preparing
        self._lengths = None if lengths is None else tuple(lengths)
        self._changes = None
        if lengths is not None:
            count = _counter(preparing.processor)
            self._changes = length_changes(count, mixture.variants.kinds)
        self._epoch = lru_cache(maxsize=2)(self._made)
        self._ends = [len(self._epoch(0).plan)]

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_epoch"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2)(self._made)

    def __len__(self) -> int:
        """Rows of the first epoch; later ones may have a few more or less."""
        return self._ends[0]

    @property
    def waste(self) -> float:
        """Share of padding if each row of the first epoch were filled up to max_length."""
        return self._epoch(0).plan.waste

    @property
    def samples(self) -> int:
        """Conversations of the first epoch that are in a row."""
        return len(self._epoch(0).plan.order)

    @property
    def left_out(self) -> int:
        """Conversations of the first epoch that no row has."""
        return len(self._epoch(0).left_out)

    @property
    def spread(self) -> dict[str, int]:
        """Lengths of the first epoch's conversations: least, median, most; nothing without lengths."""
        if self._lengths is None:
            return {}
        tokens = self._tokens(self._epoch(0).items)[self._epoch(0).plan.order]
        if not len(tokens):
            return {}
        return {"least": int(tokens.min()), "median": int(np.median(tokens)), "most": int(tokens.max())}

    def place(self, ordinal: int) -> tuple[int, int]:
        """The epoch and the row in it that an ordinal stands for."""
        while ordinal >= self._ends[-1]:
            self._ends.append(self._ends[-1] + len(self._epoch(len(self._ends)).plan))
        epoch = int(np.searchsorted(self._ends, ordinal, side="right"))
        return epoch, ordinal - (self._ends[epoch - 1] if epoch else 0)

    def __getitem__(self, ordinal: int) -> Part:
        """A row: what of it is usable, and why the rest is not."""
        epoch, number = self.place(ordinal)
        found = self._epoch(epoch)
        samples: list[Sample] = []
        rejects: list[Reject] = []
        for at in found.plan.row(number):
            got = self._sample(found.items, at, epoch)
            if isinstance(got, Reject):
                rejects.append(got)
            else:
                samples.append(got)
        # what no row has is told of by the rows in turn, so that each is told of once an epoch
        for at in found.left_out[number :: len(found.plan)]:
            rejects.append(self._why(found.items, int(at)))
        return Part(tuple(samples) or None, tuple(rejects), len(samples) + len(rejects))

    def shown(self) -> Rows:
        """The same rows with zeros for objects that would come from a cache: to look at before the cache is filled."""
        if self._preparing.lookup is None:
            return self
        given = replace(self._preparing, lookup=lambda keys: torch.zeros(len(keys), 1))
        return Rows(self._mixture, given, self._lengths)

    def first_reject(self) -> Reject | None:
        """Why the first conversation that no row has is left out; None when there is none."""
        found = self._epoch(0)
        return self._why(found.items, int(found.left_out[0])) if len(found.left_out) else None

    def _made(self, epoch: int) -> _Epoch:
        items = self._mixture.items(epoch)
        most, seed = self._preparing.max_length, self._mixture.seed
        if self._lengths is None:
            order: np.ndarray = np.arange(len(items))
            if not self._mixture.held_out:
                order = np.random.default_rng([seed, epoch]).permutation(len(items))
            nothing = np.zeros(0, np.int64)
            ones = Plan(order, np.arange(len(items) + 1), nothing, len(items), 1)
            return _Epoch(items, ones, nothing)
        tokens = self._tokens(items)
        packed = plan(tokens, most, seed, epoch)
        return _Epoch(items, packed, np.flatnonzero((tokens == BAD) | (tokens > most)))

    def _tokens(self, items: Items) -> np.ndarray:
        """Tokens of each item in its own wording; BAD where the record cannot be used."""
        assert self._lengths is not None and self._changes is not None
        found = np.empty(len(items), np.int64)
        for number, one in enumerate(self._lengths):
            here = items.source == number
            records = items.record[here]
            base, form = one.tokens[records].astype(np.int64), one.forms[records]
            changed = base + self._changes[np.maximum(form, 0), items.variant[here]]
            found[here] = np.where(base == BAD, BAD, changed)
        return found

    def _sample(self, items: Items, at: int, epoch: int) -> Sample | Reject:
        opened, number = self._mixture.opened[int(items.source[at])], int(items.record[at])
        given = self._preparing
        variants = self._mixture.variants
        key = None
        if len(variants.kinds) > 2 and not self._mixture.held_out:
            key = self._mixture.key(items, at, epoch)
        try:
            said = dialogue(
                opened,
                number,
                variants.kinds[int(items.variant[at])],
                key,
                given.lookup,
                given.objects,
                given.processor.prompt_style,
            )
            sample = given.processor.prepare(said)
        except (InputError, ValueError) as error:
            return opened.reject(number, error)
        # a packed one was measured; should its tokenizer not add up, its row is some tokens longer
        if self._lengths is None and len(sample) > given.max_length:
            plain = measure(opened, number, given.processor, given.objects)[0]
            return opened.reject(number, _too_long(plain, given.max_length))
        return sample

    def _why(self, items: Items, at: int) -> Reject:
        opened, number = self._mixture.opened[int(items.source[at])], int(items.record[at])
        assert self._lengths is not None
        plain = int(self._lengths[int(items.source[at])].tokens[number])
        if plain != BAD:
            return opened.reject(number, _too_long(plain, self._preparing.max_length))
        try:
            measure(opened, number, self._preparing.processor, self._preparing.objects)
        except (InputError, ValueError) as error:
            return opened.reject(number, error)
        return opened.reject(number, ValueError("could not be used when lengths were measured; delete the cache"))


def _too_long(length: int, most: int) -> ValueError:
    # the same in every epoch, whatever the wording, so that it is listed once
    return ValueError(f"too long for the {most} tokens of data.max_length: {length} as the benchmark asks")


def _counter(processor: Processor) -> Any:
    """Counts the tokens of a text that stands on a line of its own."""
    tokenizer = processor.vocabulary.tokenizer
    frame = len(tokenizer(".\n\nA", add_special_tokens=False)["input_ids"])

    def count(text: str) -> int:
        return len(tokenizer(f".\n{text}\nA", add_special_tokens=False)["input_ids"]) - frame

    return count


@dataclass(frozen=True)
class Joining:
    """Rows to a batch for `ColvaModel.forward`.

    Attributes:
        processor: for padded rows.
        packed: rows of several conversations, told apart by their positions.
    """

    processor: Processor
    packed: bool

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Join rows; `tokens` and `samples` `[1]` say what of it is no padding."""
        if self.packed:
            batch = pack(rows, None, self.processor.pad_id)
        else:
            batch = self.processor.collate([row[0] for row in rows])
        tokens = sum(len(sample) for row in rows for sample in row)
        samples = sum(len(row) for row in rows)
        lengths = [len(sample) for row in rows for sample in row]
        batch["square"] = torch.tensor(float(sum(length**2 for length in lengths)))
        return batch | {"tokens": torch.tensor(tokens), "samples": torch.tensor(samples)}


def learnt(batch: dict[str, Tensor]) -> int:
    """Targets of a batch: the tokens that are learnt, the first of each row never."""
    return int((batch["labels"][:, 1:] != IGNORE_INDEX).sum())

"""Stage-2 training rows by ordinal: one conversation each, or as many as fit."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colva.data.lengths import UNUSABLE, RecordLengths
from colva.data.mixture import EpochItems, Mixture
from colva.data.packing import PackingPlan, collate_packed, plan_packing
from colva.data.prompt_variants import length_deltas
from colva.data.record_reader import RecordReader, build_record_conversation, measure_record
from colva.data.sft import EmbeddingLookup, ask_about_copy
from colva.losses import IGNORE_INDEX
from colva.processing.collator import Processor, Sample
from colva.training.stage import Batch, PartialItem
from mmvm_data.core.errors import InputError, Reject

Row = tuple[Sample, ...]


@dataclass(frozen=True)
class SamplePreparer:
    """Settings of how a record becomes a sample.

    Attributes:
        processor: of the model.
        object_tokens: cases name their objects by tokens.
        lookup: reads object embeddings from a cache; None gives masks for the expert.
        max_length: of a sample, in tokens.
        renumber, recolor: the candidates of training cases get other numbers, and other colors, in each epoch.
        objects_only_rows: in so many first rows cases are asked about by their object tokens alone.
        copy_share: share of these cases whose query is one of the candidates itself.
    """

    processor: Processor
    object_tokens: bool
    lookup: EmbeddingLookup | None
    max_length: int
    renumber: bool = True
    recolor: bool = True
    objects_only_rows: int = 0
    copy_share: float = 0.0


@dataclass(frozen=True)
class _EpochPlan:
    """The items of one epoch, which of them each row holds, and the indices of those that no row holds."""

    items: EpochItems
    packing: PackingPlan
    left_out: NDArray[np.int64]


class RowDataset:
    """Rows of the mixture (see `colva.training.stage.TrainingData`).

    Args:
        mixture: decides which records an epoch uses.
        preparer: how they are prepared.
        lengths: of each source, for packing; None for rows of one conversation.
    """

    def __init__(self, mixture: Mixture, preparer: SamplePreparer, lengths: Sequence[RecordLengths] | None) -> None:
        self._mixture = mixture
        self._preparer = preparer
        self._lengths = None if lengths is None else tuple(lengths)
        self._deltas: NDArray[np.int64] | None = None
        if lengths is not None:
            count = _make_token_counter(preparer.processor)
            self._deltas = length_deltas(count, mixture.variants.variants)
        self._epoch = lru_cache(maxsize=2)(self._plan_epoch)
        self._ends = [len(self._epoch(0).packing)]

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_epoch"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2)(self._plan_epoch)

    def __len__(self) -> int:
        """Rows of the first epoch; later ones may have a few more or less."""
        return self._ends[0]

    @property
    def padding_share(self) -> float:
        """Share of padding if each row of the first epoch were padded to max_length."""
        return self._epoch(0).packing.padding_share

    @property
    def num_samples(self) -> int:
        """Conversations of the first epoch that are in a row."""
        return len(self._epoch(0).packing.order)

    @property
    def num_left_out(self) -> int:
        """Conversations of the first epoch that are in no row."""
        return len(self._epoch(0).left_out)

    @property
    def length_stats(self) -> dict[str, int]:
        """Minimum, median and maximum length of the first epoch's conversations; empty without lengths."""
        if self._lengths is None:
            return {}
        tokens = self._item_lengths(self._epoch(0).items)[self._epoch(0).packing.order]
        if not len(tokens):
            return {}
        return {"least": int(tokens.min()), "median": int(np.median(tokens)), "most": int(tokens.max())}

    def locate(self, ordinal: int) -> tuple[int, int]:
        """The epoch and the number of the row in it that an ordinal stands for."""
        while ordinal >= self._ends[-1]:
            self._ends.append(self._ends[-1] + len(self._epoch(len(self._ends)).packing))
        epoch = int(np.searchsorted(self._ends, ordinal, side="right"))
        return epoch, ordinal - (self._ends[epoch - 1] if epoch else 0)

    def __getitem__(self, ordinal: int) -> PartialItem:
        """A row: its usable samples, and why the others are not."""
        epoch, number = self.locate(ordinal)
        plan = self._epoch(epoch)
        objects_only = not self._mixture.held_out and ordinal < self._preparer.objects_only_rows
        samples: list[Sample] = []
        rejects: list[Reject] = []
        for index in plan.packing.row(number):
            prepared = self._prepare_sample(plan.items, index, epoch, objects_only)
            if isinstance(prepared, Reject):
                rejects.append(prepared)
            else:
                samples.append(prepared)
        # items that are in no row are reported by the rows in turn, so that each is reported once an epoch
        for index in plan.left_out[number :: len(plan.packing)].tolist():
            rejects.append(self._explain_reject(plan.items, index))
        return PartialItem(tuple(samples) or None, tuple(rejects), len(samples) + len(rejects))

    def with_dummy_objects(self) -> RowDataset:
        """The same rows with zeros in place of cached embeddings, to be inspected before the cache is filled."""
        if self._preparer.lookup is None:
            return self
        preparer = replace(self._preparer, lookup=zero_embeddings)
        return RowDataset(self._mixture, preparer, self._lengths)

    def first_reject(self) -> Reject | None:
        """Why the first conversation that is in no row was left out; None when there is none."""
        plan = self._epoch(0)
        return self._explain_reject(plan.items, int(plan.left_out[0])) if len(plan.left_out) else None

    def _plan_epoch(self, epoch: int) -> _EpochPlan:
        items = self._mixture.epoch_items(epoch)
        max_length, seed = self._preparer.max_length, self._mixture.seed
        if self._lengths is None:
            order: NDArray[np.int64] = np.arange(len(items))
            if not self._mixture.held_out:
                order = np.random.default_rng([seed, epoch]).permutation(len(items))
            empty = np.zeros(0, np.int64)
            single = PackingPlan(order, np.arange(len(items) + 1), empty, len(items), 1)
            return _EpochPlan(items, single, empty)
        tokens = self._item_lengths(items)
        packing = plan_packing(tokens, max_length, seed, epoch)
        return _EpochPlan(items, packing, np.flatnonzero((tokens == UNUSABLE) | (tokens > max_length)))

    def _item_lengths(self, items: EpochItems) -> NDArray[np.int64]:
        """Tokens of each item in its own variant; UNUSABLE where the record cannot be used."""
        assert self._lengths is not None and self._deltas is not None
        tokens = np.empty(len(items), np.int64)
        for number, lengths in enumerate(self._lengths):
            of_source = items.source == number
            records = items.record[of_source]
            base, form = lengths.tokens[records].astype(np.int64), lengths.forms[records]
            varied = base + self._deltas[np.maximum(form, 0), items.variant[of_source]]
            tokens[of_source] = np.where(base == UNUSABLE, UNUSABLE, varied)
        return tokens

    def _record_of(self, items: EpochItems, index: int) -> tuple[RecordReader, int]:
        return self._mixture.readers[int(items.source[index])], int(items.record[index])

    def _prepare_sample(self, items: EpochItems, index: int, epoch: int, objects_only: bool) -> Sample | Reject:
        reader, number = self._record_of(items, index)
        preparer, variants = self._preparer, self._mixture.variants.variants
        key = None
        if (preparer.renumber or preparer.recolor) and not self._mixture.held_out:
            key = self._mixture.item_key(items, index, epoch)
        prompt = None
        try:
            if reader.has_cases:
                variant, draw = variants[int(items.variant[index])], self._mixture.item_draw(items, index, epoch)
                prompt = reader.make_prompt(number, variant, key, preparer.renumber, preparer.recolor, draw)
                if objects_only:
                    rng = random.Random(repr((*self._mixture.item_key(items, index, epoch), "copy")))
                    case = ask_about_copy(prompt.case, rng) if rng.random() < preparer.copy_share else prompt.case
                    prompt = replace(prompt, case=case, objects_only=True)
            conversation = build_record_conversation(
                reader, number, prompt, preparer.lookup, preparer.object_tokens, preparer.processor.prompt_style
            )
            sample = preparer.processor.prepare(conversation)
            if self._mixture.held_out and prompt is not None:
                option_ids = _encode_letters([option.letter for option in prompt.case.options], preparer.processor)
                sample = replace(sample, option_ids=option_ids, num_candidates=len(prompt.case.candidates))
        except (InputError, ValueError) as error:
            return reader.make_reject(number, error)
        # packed samples were measured; if a tokenizer's lengths do not add up, the row is some tokens longer
        if self._lengths is None and len(sample) > preparer.max_length:
            length = measure_record(reader, number, preparer.processor, preparer.object_tokens)[0]
            return reader.make_reject(number, _too_long_error(length, preparer.max_length))
        return sample

    def _explain_reject(self, items: EpochItems, index: int) -> Reject:
        reader, number = self._record_of(items, index)
        assert self._lengths is not None
        length = int(self._lengths[int(items.source[index])].tokens[number])
        if length != UNUSABLE:
            return reader.make_reject(number, _too_long_error(length, self._preparer.max_length))
        try:
            measure_record(reader, number, self._preparer.processor, self._preparer.object_tokens)
        except (InputError, ValueError) as error:
            return reader.make_reject(number, error)
        return reader.make_reject(number, ValueError("could not be used when lengths were measured; delete the cache"))


def zero_embeddings(keys: Sequence[bytes]) -> Tensor:
    """An `EmbeddingLookup` in place of a cache: zeros of width 1."""
    return torch.zeros(len(keys), 1)


def _too_long_error(length: int, max_length: int) -> ValueError:
    # the same in every epoch, whatever the wording, so that it is listed once
    return ValueError(
        f"too long for the {max_length} tokens of data.max_length: {length} with the benchmark's question"
    )


def _make_token_counter(processor: Processor) -> Callable[[str], int]:
    """Counts the tokens of a text that stands on lines of its own."""
    tokenizer = processor.vocabulary.tokenizer
    frame = len(tokenizer(".\n\nA", add_special_tokens=False)["input_ids"])

    def count(text: str) -> int:
        return len(tokenizer(f".\n{text}\nA", add_special_tokens=False)["input_ids"]) - frame

    return count


def _encode_letters(letters: Sequence[str], processor: Processor) -> tuple[int, ...]:
    """The token of each letter; empty when one is several tokens, or two begin alike."""
    answers = [processor.vocabulary.answer_ids(letter, processor.template) for letter in letters]
    first = {answer[0] for answer in answers}
    return tuple(a[0] for a in answers) if len(first) == len(answers) and all(len(a) == 2 for a in answers) else ()


@dataclass(frozen=True)
class RowCollator:
    """Joins rows into a batch for `ColvaModel.forward`.

    Attributes:
        processor: for padded rows.
        packing: rows hold several conversations, separated by their positions.
    """

    processor: Processor
    packing: bool

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Join rows; `tokens` and `samples` are the numbers without padding, `square` the sum of squared lengths.

        These are plain numbers: to read one from a device would be to wait for it.

        Of cases that are asked for their accuracy there are `option_ids` `[cases, options]` (-1 for none),
        `option_targets` `[cases]`, which of the batch's target tokens is the answer, and `num_candidates` `[cases]`.
        """
        batch: dict[str, Any]
        if self.packing:
            batch = collate_packed(rows, None, self.processor.pad_id)
        else:
            batch = dict(self.processor.collate([row[0] for row in rows]))
            longest = batch["input_ids"].shape[1]
            batch["segments"] = [tuple(filter(None, (len(row[0]), longest - len(row[0])))) for row in rows]
        samples = [sample for row in rows for sample in row]
        lengths = [len(sample) for sample in samples]
        batch |= _locate_tokens(batch, self.processor) | _join_options(samples)
        return batch | {"tokens": sum(lengths), "samples": len(lengths), "square": float(sum(n**2 for n in lengths))}


def _locate_tokens(batch: Mapping[str, Any], processor: Processor) -> dict[str, Any]:
    """Where image tokens, object tokens and targets are, so that a device need not be asked; see `ColvaModel.forward`.

    Raises:
        ValueError: as many image or object tokens as the samples do not have.
    """
    ids, labels = batch["input_ids"].flatten(), batch["labels"].clone()
    labels[:, 0] = IGNORE_INDEX
    located: dict[str, Any] = {"target_positions": (labels.flatten() != IGNORE_INDEX).nonzero().flatten()}
    if "pixel_values" in batch:
        located["image_positions"] = (ids == processor.vocabulary.image_id).nonzero().flatten()
    if "object_embeddings" in batch or "object_cells" in batch:
        located["object_positions"] = (ids == processor.vocabulary.object_id).nonzero().flatten()
    if "object_images" in batch and len(batch["object_images"]):
        located["max_objects"] = int(batch["object_images"].bincount().max())
    return located


def _join_options(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """The options of the cases among some samples, see `RowCollator`; empty when there are none."""
    counts = [int((sample.labels[1:] != IGNORE_INDEX).sum()) for sample in samples]
    asked = [k for k, sample in enumerate(samples) if sample.option_ids]
    if not asked:
        return {}
    ids = [torch.tensor(samples[k].option_ids) for k in asked]
    return {
        "option_ids": torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-1),
        "option_targets": torch.tensor([sum(counts[:k]) for k in asked]),
        "num_candidates": torch.tensor([samples[k].num_candidates for k in asked]),
    }


def count_hits(batch: Batch, scores: Tensor) -> dict[str, tuple[int, int]]:
    """Cases whose most likely option is the answer, and all cases: of all, and by number of candidates.

    Args:
        batch: of `RowCollator`, with options.
        scores: `[cases, options]`, of each option.
    """
    answers = batch["labels"].flatten()[batch["target_positions"]][batch["option_targets"]]
    best = scores.masked_fill(batch["option_ids"] < 0, -torch.inf).argmax(dim=1, keepdim=True)
    is_hit = (batch["option_ids"].gather(1, best)[:, 0] == answers).tolist()
    hits = {"accuracy": (sum(is_hit), len(is_hit))}
    for number, hit in zip(batch["num_candidates"].tolist(), is_hit, strict=True):
        name = f"accuracy_{number}"
        right, count = hits.get(name, (0, 0))
        hits[name] = right + hit, count + 1
    return hits


def num_target_tokens(batch: dict[str, Tensor]) -> int:
    """Number of target tokens in a batch; the first token of a row never is one."""
    return len(batch["target_positions"])

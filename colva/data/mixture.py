"""The stage-2 mixture: records of several files, each taken as often as its weight says.

A record is parsed when it is used. Which records an epoch takes, and how a case is asked about, follows from seed,
epoch and record alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from colva.data.order import chance
from colva.data.prompt_variants import FORMS, PLAIN, Form, Variant, Variants
from colva.data.records import Records, open_records
from colva.data.sft import Asked, Lookup, ask, asked_dialogue, case_text
from colva.processing.chat_templates import Turn
from colva.processing.collator import Conversation, ImageInput, Processor
from colva.processing.tokens import IMAGE
from mmvm_data.core.errors import InputError, Reject, UsageError
from mmvm_data.core.types import Case
from mmvm_data.formats import sft
from mmvm_data.formats.bench import CASES
from mmvm_data.formats.conversations import parse_conversation
from mmvm_data.io import media
from mmvm_data.io.files import path_kind, safe_join

Kind = Literal["match-choice", "match-reasoning", "build", "llava", "sharegpt4o", "text"]
CASE_KINDS: Final = ("match-choice", "match-reasoning", "build")
_ROLES: Final = {"human": "user", "gpt": "assistant", "system": "system"}
_SPLIT: Final = 0  # seed of the held-out part: another training seed must not move it


@dataclass(frozen=True, kw_only=True)
class SftSource:
    """One line of the mixture.

    Attributes:
        kind: `match-choice` or `match-reasoning` (match records; the latter learns the reason too, and leaves out
            records without one), `build` (the folder that `mmvm-data build` wrote; reasons are learnt where there
            are any), `llava`, `sharegpt4o` (conversations, with or without pictures), `text` (without).
        path: the JSON list or JSON lines file, or the folder of a build.
        root: folder of the pictures; for a build its own folder.
        weight: how often an epoch takes each record; 0.3 takes three tenths of them, others each time.
    """

    kind: Kind
    path: Path
    root: Path | None = None
    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0


@dataclass(frozen=True, kw_only=True)
class SftOptions:
    """What stage 2 trains on.

    Attributes:
        sources: the mixture.
        max_length: tokens of a row; a longer conversation is left out, listed and counted.
        packing: several conversations in a row; without, one a row, padded.
        object_cache: objects are embedded once and kept; without, the expert runs in each step.
        objects: cases name their objects by tokens; without, questions stand on the drawn pictures alone.
        vary: wordings, colours and numbers of cases change with seed and epoch.
        clean_share: share of the cases that are shown without marks (instruction augmentation).
        held_out, most_held_out: share of each source that is kept for evaluation, and at most so many records.
        pictures: options of the family's picture preparation, over those of the model.
        cache: folder for indexes, lengths and object embeddings; by default `cache` in the folder of the run.
    """

    sources: Annotated[tuple[SftSource, ...], Field(min_length=1)]
    max_length: Annotated[int, Field(ge=16)] = 8192
    packing: bool = True
    object_cache: bool = True
    objects: bool = True
    vary: bool = True
    clean_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    most_held_out: Annotated[int, Field(ge=1)] = 256
    pictures: dict[str, Any] = field(default_factory=dict)
    cache: Path | None = None


@dataclass(frozen=True)
class Opened:
    """A source whose records can be asked for."""

    source: SftSource
    records: Records
    root: Path | None

    def __len__(self) -> int:
        return len(self.records)

    def case(self, number: int) -> Case:
        """A record of a case.

        Raises:
            InputError: it is none, or a reviewer rejected it.
        """
        try:
            if self.source.kind == "build":
                case = Case.model_validate_json(self.records.text(number))
            else:
                case = sft.from_record(self.records.read(number), self.root)
        except ValidationError as error:
            said = error.errors(include_url=False)[0]
            reason = f"not a case record: {said['msg']} at {'.'.join(map(str, said['loc']))}"
            raise InputError(self.records.file, reason, f"record {number}") from error
        except InputError as error:
            if error.file != "record":
                raise
            place = f"record {number}{f': {error.field}' if error.field else ''}"
            raise InputError(self.records.file, error.reason, place) from error
        if case.review.state == "rejected":
            raise InputError(self.records.file, "a reviewer rejected this case", f"record {number}")
        if self.source.kind == "match-reasoning" and not case.rationale:
            raise InputError(self.records.file, "description is missing", f"record {number}")
        return case

    def asked(self, number: int, variant: Variant = PLAIN, key: Sequence[int | str] | None = None) -> Asked:
        """A case as it is asked about; `key` decides numbers and colours, None keeps them."""
        why = self.source.kind != "match-choice"
        return ask(self.case(number), variant, None if key is None else chance(*key), why)

    def reject(self, number: int, error: Exception) -> Reject:
        """Why a record is left out."""
        if isinstance(error, InputError):
            at = f"record {number}"
            place = error.field or ""
            place = place if place.startswith(at) else f"{at}{f': {place}' if place else ''}"
            reason = error.reason if error.file == str(self.records.file) else f"{error.file}: {error.reason}"
            return Reject(self.source.kind, "", number, reason, str(self.records.file), place)
        return Reject(self.source.kind, "", number, str(error), str(self.records.file), f"record {number}")


def open_sources(options: SftOptions, cache: Path | None) -> list[Opened]:
    """Open the mixture; a file of a million records takes seconds the first time.

    Raises:
        UsageError: a weight that takes nothing, or a source without what it needs.
        InputError: a file that cannot be read.
    """
    opened = []
    for number, source in enumerate(options.sources):
        place = f"data.sources.{number}"
        if source.weight <= 0:
            reason = "takes nothing; leave the source out" if source.weight == 0 else "expected more than 0"
            raise UsageError(f"{place}.weight: {source.weight:g} {reason} ({source.path})")
        path, root = source.path, source.root
        if source.kind == "build":
            if path_kind(path) != "folder":
                raise UsageError(f"{place}.path: {path} is no folder; expected what `mmvm-data build` wrote")
            path, root = path / CASES, root or path
        elif path_kind(path) != "file":
            raise UsageError(f"{place}.path: {path} is no file; expected a JSON list or JSON lines")
        if root is not None and path_kind(root) != "folder":
            raise UsageError(f"{place}.root: {root} is no folder")
        if root is None and source.kind.startswith("match"):
            raise UsageError(f"{place}.root: is missing; {source.kind} needs the folder of the pictures")
        opened.append(Opened(source, open_records(path, cache), root))
    return opened


def dialogue(
    opened: Opened,
    number: int,
    variant: Variant,
    key: Sequence[int | str] | None,
    lookup: Lookup | None,
    objects: bool,
    style: str,
) -> Conversation:
    """A record as a conversation with its pictures; see `ask` and `asked_dialogue`.

    Raises:
        InputError: it cannot be used.
    """
    if opened.source.kind in CASE_KINDS:
        asked = opened.asked(number, variant, key)
        assert opened.root is not None
        return asked_dialogue(asked, opened.root, lookup, objects, style)
    turns, paths = _talk(opened, number)
    return Conversation(turns, tuple(ImageInput(media.read_image_rgb(path)) for path in paths), f"record {number}")


def measure(opened: Opened, number: int, processor: Processor, objects: bool) -> tuple[int, Form]:
    """Tokens of a record as `PLAIN` asks it, and its form; pictures are looked at by their headers alone.

    Raises:
        InputError, ValueError: it cannot be used.
    """
    if opened.source.kind in CASE_KINDS:
        asked = opened.asked(number)
        case, root = asked.case, opened.root
        assert root is not None
        sizes = []
        for frame in case.frames:
            path = safe_join(root, frame.path, frame.path)
            width, height = media.read_image_size(path) if frame.video_frame is None else (frame.width, frame.height)
            if (width, height) != (frame.width, frame.height):
                said = f"image is {width} x {height}, its masks are {frame.width} x {frame.height}"
                raise InputError(path, said)
            sizes.append((width, height))
        turns = (Turn("user", case_text(case, processor.prompt_style, objects)), *asked.turns[1:])
        form = f"{case.prompt}{'+why' if len(turns) > 2 else ''}"
    else:
        turns, paths = _talk(opened, number)
        sizes, form = [media.read_image_size(path) for path in paths], "talk"
    tokens = [processor.image_processor.count_tokens(width, height) for width, height in sizes]
    named = turns[0].text.count("<VPT_CONTEXT>") if form != "talk" else 0
    encoding = processor.vocabulary.encode(turns, processor.template, tokens, named)
    return len(encoding.ids), FORMS[FORMS.index(form)]


def _talk(opened: Opened, number: int) -> tuple[tuple[Turn, ...], list[Path]]:
    """The turns and picture files of a conversation."""
    said = parse_conversation(opened.records.file, number, opened.records.read(number))
    turns = [Turn(_ROLES[turn.role], turn.text) for turn in said.turns]  # type: ignore[arg-type]
    where = (opened.records.file, f"record {number}")
    if not any(turn.role == "assistant" for turn in turns):
        raise InputError(where[0], "nobody answers, so there is nothing to learn", where[1])
    if said.images and opened.source.kind == "text":
        raise InputError(where[0], "a text source, but the record has an image", where[1])
    if said.images and opened.root is None:
        raise InputError(where[0], "has an image, but the source has no root", where[1])
    marks = sum(turn.text.count(IMAGE) for turn in turns)
    first = next((k for k, turn in enumerate(turns) if turn.role == "user"), None)
    if said.images and marks == 0 and first is not None:  # as the published loader has it
        turns[first] = Turn("user", (IMAGE + "\n") * len(said.images) + turns[first].text)
    return tuple(turns), [safe_join(opened.root or Path(), name, *where) for name in said.images]


@dataclass(frozen=True)
class Items:
    """What one epoch takes, in no order yet: source, record, and variant of each, and which time the record comes."""

    source: np.ndarray
    record: np.ndarray
    variant: np.ndarray
    turn: np.ndarray

    def __len__(self) -> int:
        return len(self.source)


class Mixture:
    """Which records an epoch takes.

    Args:
        opened: the sources.
        options: weights and the held-out share.
        variants: that cases are asked in.
        seed: of the choice.
        held_out: the part for evaluation: each record once, as the benchmark asks.
    """

    def __init__(
        self, opened: Sequence[Opened], options: SftOptions, variants: Variants, seed: int, held_out: bool = False
    ) -> None:
        self.opened = tuple(opened)
        self.variants = variants
        self.seed = _SPLIT if held_out else seed
        self.held_out = held_out
        self._share, self._most = options.held_out, options.most_held_out

    def _part(self, number: int) -> np.ndarray:
        """Records of a source that are of this part."""
        count = len(self.opened[number])
        kept = min(int(count * self._share), self._most)
        if not kept:
            return np.zeros(0, np.int64) if self.held_out else np.arange(count)
        order = np.random.default_rng([_SPLIT, number]).permutation(count)
        return np.sort(order[count - kept :] if self.held_out else order[: count - kept])

    def items(self, epoch: int = 0) -> Items:
        """What an epoch takes."""
        found = []
        for number, opened in enumerate(self.opened):
            part = self._part(number)
            rng = np.random.default_rng([self.seed, epoch, number])
            weight = 1.0 if self.held_out else opened.source.weight
            whole = math.floor(weight)
            rest = round((weight - whole) * len(part))
            records = np.concatenate([np.tile(part, whole), np.sort(rng.choice(part, rest, replace=False))])
            turns = np.concatenate([np.repeat(np.arange(whole), len(part)), np.full(rest, whole)])
            chosen = self.variants.draw(len(records), rng)
            found.append((np.full(len(records), number), records, chosen, turns))
        source, record, variant, turn = (np.concatenate(column) for column in zip(*found, strict=True))
        return Items(source.astype(np.int16), record.astype(np.int64), variant.astype(np.int16), turn.astype(np.int16))

    def key(self, items: Items, at: int, epoch: int) -> tuple[int | str, ...]:
        """What decides the numbers and colours of an item."""
        parts = (int(items.source[at]), int(items.record[at]), int(items.turn[at]))
        return ("stage 2", self.seed, epoch, *parts)

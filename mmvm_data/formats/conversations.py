"""Conversations about images, in the format of LLaVA: written from cases, read as published.

A record has ``image`` (a path, a list of them, or nothing) and ``conversations`` of ``from`` (human, gpt) and
``value``; ``<image>`` in a value stands for the next image (GitHub haotian-liu/LLaVA, docs/Finetune_Custom_Data.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmvm_data.cases import prompts
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.io.files import open_regular
from mmvm_data.io.json_files import parse_json
from mmvm_data.io.json_lists import iter_json_list

Kind = Literal["records", "conversations", "choices", "reasoning"]
FILES: dict[Kind, str] = {
    "records": "match_records.json",
    "conversations": "match_conversations.json",
    "choices": "mllm_match_choices_sft.json",
    "reasoning": "mllm_match_reasoning_sft.json",
}
"""Names of the files in the folder of a training set."""

WHY = "Why is that the right choice?"


class Turn(BaseModel):
    """One turn of a conversation: who speaks, and the text."""

    model_config = ConfigDict(frozen=True)
    role: Literal["human", "gpt", "system"]
    text: str


class Conversation(BaseModel):
    """A conversation about any number of images.

    Attributes:
        id: id as text; "" when the file has none.
        images: paths as in the file, in the order of the ``<image>`` marks.
        turns: turns in order.
        extra: further keys of the record (width, height …).
    """

    model_config = ConfigDict(frozen=True)
    id: str = ""
    images: tuple[str, ...] = ()
    turns: tuple[Turn, ...]
    extra: dict[str, Any] = Field(default_factory=dict)


def to_conversations(case: Case) -> dict[str, Any]:
    """The conversation of a case: question and choices, the letter, and the rationale if there is one.

    Unlike a match record it holds no regions, so its images are the drawn ones of the case's folder, on which the
    question can be answered. A case without such a folder has the clean ones, which must be drawn before use.

    Raises:
        InputError: no option stands for the answer.
    """
    images = "".join(f"Image-{k}: <image>\n" for k in range(1, len(case.frames) + 1))
    try:
        letter = case.letter
    except ValueError as error:
        raise InputError(case.id, str(error), field="options") from error
    turns = [("human", images + case.question + prompts.format_choices(case.options)), ("gpt", letter)]
    if case.rationale:
        turns += [("human", WHY), ("gpt", case.rationale)]
    return {
        "id": case.id,
        "image": drawn_paths(case) or [frame.path for frame in case.frames],
        "conversations": [{"from": role, "value": text} for role, text in turns],
    }


def to_llava(conversation: Conversation) -> dict[str, Any]:
    """The record of a conversation, as ``read_llava`` reads it: one image as a path, several as a list."""
    record: dict[str, Any] = {"id": conversation.id} if conversation.id else {}
    if conversation.images:
        record["image"] = conversation.images[0] if len(conversation.images) == 1 else list(conversation.images)
    record["conversations"] = [{"from": turn.role, "value": turn.text} for turn in conversation.turns]
    return record | conversation.extra


def read_llava(path: str | Path) -> Iterator[Conversation]:
    """Conversations as LLaVA-Instruct publishes them (a JSON list, some without ``image``); JSON lines are read too.

    Raises:
        InputError: the file or a record cannot be read.
    """
    path = training_file(path, "conversations")
    for number, record in iterate_records(path):
        yield parse_conversation(path, number, record)


def read_sharegpt4o(path: str | Path) -> Iterator[Conversation]:
    """Conversations as ShareGPT-4o publishes them (JSON lines; ``width`` and ``height`` go to ``extra``).

    Raises:
        InputError: the file or a record cannot be read.
    """
    yield from read_llava(path)


def parse_conversation(path: Path, number: int, record: Any) -> Conversation:
    """The conversation of one record; ``path`` and ``number`` are for messages.

    Raises:
        InputError: the record is no conversation.
    """
    try:
        if not isinstance(record, dict):
            raise ValueError(f"expected an object, found {type(record).__name__}")
        turns = record.get("conversations")
        if not isinstance(turns, list) or not all(isinstance(t, dict) and {"from", "value"} <= t.keys() for t in turns):
            raise ValueError("expected conversations, a list of objects with from and value")
        image = record.get("image")
        return Conversation(
            id=str(record.get("id", "")),
            images=tuple([image] if isinstance(image, str) and image else image or ()),
            turns=tuple(Turn(role=turn["from"], text=turn["value"]) for turn in turns),
            extra={key: value for key, value in record.items() if key not in ("id", "image", "conversations")},
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise InputError(path, first["msg"], locate_record(number, at)) from error
    except (ValueError, TypeError) as error:
        raise InputError(path, str(error), locate_record(number, None)) from error


def iterate_records(path: Path) -> Iterator[tuple[int, Any]]:
    """The items of a JSON list, or the lines of a JSON lines file, one at a time, numbered from 0.

    Raises:
        InputError: the file cannot be read or is not JSON.
    """
    try:
        with open_regular(path) as handle:
            start = handle.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
            handle.seek(0)
            yield from enumerate(iter_json_list(path) if start == b"[" else _lines(path, handle))
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error


def _lines(path: Path, handle: IO[bytes]) -> Iterator[Any]:
    for number, line in enumerate(handle, 1):
        if not line.strip():
            continue
        yield parse_json(line, path, f"line {number}")


def training_file(path: str | Path, kind: Kind) -> Path:
    """The file of a training set: ``path`` itself, or in an existing folder the file that FILES names."""
    return Path(path) / FILES[kind] if Path(path).is_dir() else Path(path)


def locate_record(number: int, field: str | None) -> str:
    """Name of a record in messages."""
    return f"record {number}{f': {field}' if field else ''}"

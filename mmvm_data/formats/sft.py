"""Training data: match records and conversations, as JSON lists or JSON lines.

Match records have a module of their own (``match_records``), and so have conversations (``conversations``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmvm_data.core.case_facts import check_masks
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats.bench_read import Problem
from mmvm_data.formats.conversations import (
    FILES,
    WHY,
    Conversation,
    Kind,
    Turn,
    iterate_records,
    locate_record,
    read_llava,
    read_sharegpt4o,
    to_conversations,
    to_llava,
    training_file,
)
from mmvm_data.formats.match_records import from_record, published_fault, to_published_record, to_record
from mmvm_data.io.files import atomic_write

__all__ = [
    "FILES",
    "WHY",
    "Conversation",
    "Turn",
    "from_record",
    "read",
    "read_llava",
    "read_sharegpt4o",
    "to_conversations",
    "to_llava",
    "to_record",
    "write",
]


def write(cases: Iterable[Case | Conversation], path: str | Path, kind: Kind = "records") -> None:
    """Write a JSON list, or JSON lines when the name ends in ``.jsonl``; one case is in memory at a time.

    Args:
        cases: any cases; with ``kind="conversations"`` also conversations that were read.
        path: the file, or an existing folder, where the file gets its name in FILES.
        kind: ``records`` (match records), ``conversations``, or one of the two subsets of match records that the
            published loader reads: ``reasoning`` has the cases with a mask and a rationale, ``choices`` the others.
            Cases that its training code cannot use (``match_records.published_fault``) are in neither.

    Raises:
        InputError: a case has no option for its answer or a broken mask, or a conversation is to be written as a
            match record.
        OutputError: the file cannot be written.
    """
    path = training_file(path, kind)
    if kind in ("choices", "reasoning"):
        cases = (case for case in cases if isinstance(case, Conversation) or _published_subset(case) == kind)
    try:
        with atomic_write(path) as handle:
            texts = (json.dumps(_make_record(case, kind), ensure_ascii=False, separators=(",", ":")) for case in cases)
            if path.suffix == ".jsonl":
                handle.writelines(text + "\n" for text in texts)
                return
            handle.write("[")
            handle.writelines((",\n" if number else "\n") + text for number, text in enumerate(texts))
            handle.write("\n]\n")
    except OSError as error:
        raise OutputError(error.filename or path, error) from error


def read(path: str | Path, root: str | Path | None = None, problems: list[Problem] | None = None) -> Iterator[Case]:
    """The cases of match records, one at a time, from a JSON list or JSON lines.

    Args:
        path: the file, or a folder with one of its name in FILES.
        root: folder that ``file_names`` are relative to, without the "./" in front; becomes the ``root`` of the cases.
            Needed where a record has no image sizes, as published ones with polygons.
        problems: list that gets records that were left out; when None they raise.

    Raises:
        InputError: the file cannot be read, or without ``problems`` a record.
    """
    path = training_file(path, "records")
    for number, record in iterate_records(path):
        try:
            yield from_record(record, root)
        except InputError as error:
            if problems is None:
                raise InputError(path, error.reason, locate_record(number, error.field)) from error
            problems.append(Problem(f"{path.name}: {locate_record(number, error.field)}", error.reason))


def _make_record(case: Case | Conversation, kind: Kind) -> dict[str, Any]:
    if isinstance(case, Conversation):
        if kind != "conversations":
            raise InputError(case.id, "a conversation has no regions for a match record")
        return to_llava(case)
    check_masks(case)
    if kind == "conversations":
        return to_conversations(case)
    return to_record(case) if kind == "records" else to_published_record(case, with_reason=kind == "reasoning")


def _published_subset(case: Case) -> Kind | None:
    """The subset of a case, if any; the published questions of the reasoning set speak of contours."""
    if published_fault(case):
        return None
    return "reasoning" if case.rationale and case.prompt == "mask" else "choices"

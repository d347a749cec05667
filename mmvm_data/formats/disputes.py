"""The cases that people disagreed about at the last ``review pull``: ``annotation/agreement.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import MATCH_TYPES
from mmvm_data.io.files import read_regular
from mmvm_data.io.json_files import parse_json

AGREEMENT: Final = "annotation/agreement.json"
"""Path of the file in a benchmark."""


@dataclass(frozen=True)
class Dispute:
    """A case that people disagree about.

    Attributes:
        case: its id.
        fields: what they disagree about: "verdict", "answer", "match_types", "masks".
        people: by person, ``annotation`` (its number), ``verdict``, ``answer`` and ``match_types``.
    """

    case: str
    fields: tuple[str, ...]
    people: dict[str, dict[str, Any]]

    def describe(self) -> list[str]:
        """A line for each person."""
        return [f"{person}: {_describe_opinion(opinion)}" for person, opinion in self.people.items()]


def _describe_opinion(opinion: dict[str, Any]) -> str:
    if opinion["verdict"] in ("rejected", "unsure"):
        return "not sure" if opinion["verdict"] == "unsure" else "rejected"
    answer = "none of the candidates" if opinion["answer"] is None else f"object {opinion['answer']}"
    types = " ".join(MATCH_TYPES[number][0] for number in opinion["match_types"])
    return f"{opinion['verdict']}, {answer}" + (f", {types}" if types else "")


def read_agreement(directory: Path) -> dict[str, Any]:
    """What the last pull measured; empty when nobody shared a case yet.

    Raises:
        InputError: the file cannot be read.
    """
    path = directory / AGREEMENT
    try:
        measured = parse_json(read_regular(path), path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
    if not isinstance(measured, dict):
        raise InputError(path, "expected the object that `review pull` writes")
    return measured


def read_queue(directory: Path) -> list[Dispute]:
    """The cases that people disagreed about at the last pull.

    Raises:
        InputError: ``annotation/agreement.json`` cannot be read.
    """
    queue = read_agreement(directory).get("adjudicate") or {}
    try:
        return [Dispute(name, tuple(entry["fields"]), dict(entry["people"])) for name, entry in queue.items()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(directory / AGREEMENT, "expected cases with fields and people", "adjudicate") from error

"""The cases that people disagree about: a tab of the project, and decisions from the command line.

The queue is that of the last pull (``annotation/agreement.json``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.annotation.labelstudio.history import FOLDER
from mmvm_data.annotation.labelstudio.project import hidden_columns
from mmvm_data.annotation.labelstudio.views import build_view, data_equals, ensure_view
from mmvm_data.annotation.review.plan import read_plan, write_plan
from mmvm_data.annotation.review.pull import AGREEMENT
from mmvm_data.annotation.review.task import DIFFICULTY_KEY, NAME_KEY
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import MATCH_TYPES
from mmvm_data.io.files import read_regular
from mmvm_data.io.json_files import parse_json

VIEW: Final = "To adjudicate"
_NOTHING: Final = "-"
"""No case has this id: the tab of an empty queue is empty."""


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
    path = directory / FOLDER / AGREEMENT
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
        raise InputError(
            directory / FOLDER / AGREEMENT, "expected cases with fields and people", "adjudicate"
        ) from error


def update_queue(
    directory: Path, client: Client, project: Project, adjudicators: tuple[str, ...] = ()
) -> list[Dispute]:
    """Show the queue as a tab of the project, and name the people who decide.

    Args:
        directory: the benchmark.
        client, project: the server.
        adjudicators: e-mail addresses of people whose annotations decide from now on, beside those named before.

    Raises:
        OptionError: an adjudicator has no account on the server.
    """
    if adjudicators:
        known = set(client.list_users().values())
        if missing := [person for person in adjudicators if person not in known]:
            raise OptionError("by", f"must be a user of {client.url}: {missing[0]!r} has no account there")
        plan = read_plan(directory)
        names = tuple(dict.fromkeys((*plan.adjudicators, *adjudicators)))
        write_plan(directory, plan.model_copy(update={"adjudicators": names}))
    queue = read_queue(directory)
    names_shown = [dispute.case for dispute in queue] or [_NOTHING]
    filters = [data_equals(NAME_KEY, name) for name in names_shown]
    ensure_view(client, project, build_view(VIEW, hidden_columns(), filters, "or", DIFFICULTY_KEY))
    return queue


def take_annotation(directory: Path, client: Client, case: str, person: str) -> None:
    """Decide a case for one person's annotation: it is marked as ground truth on the server, for the next pull.

    Raises:
        OptionError: the case is not in the queue, or the person has not annotated it.
    """
    queue = {dispute.case: dispute for dispute in read_queue(directory)}
    if case not in queue:
        raise OptionError("case", f"must be a case that people disagree about, got {case!r}")
    people = queue[case].people
    if person not in people:
        raise OptionError("take", f"must be one of {', '.join(people)}, got {person!r}")
    number = people[person].get("annotation")
    if not isinstance(number, int):
        raise UsageError(f"{directory / FOLDER / AGREEMENT}: has no number of {person}'s annotation; pull again")
    client.mark_ground_truth(number)

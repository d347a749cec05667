"""The cases that people disagree about: a tab of the project, and decisions from the command line.

The queue is that of the last pull (``annotation/agreement.json``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.annotation.labelstudio.project import hidden_columns
from mmvm_data.annotation.labelstudio.views import build_view, data_equals, ensure_view
from mmvm_data.annotation.review.plan import read_plan, write_plan
from mmvm_data.annotation.review.task import DIFFICULTY_KEY, NAME_KEY
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.formats.disputes import AGREEMENT, Dispute, read_queue

VIEW: Final = "To adjudicate"
_NOTHING: Final = "-"
"""No case has this id: the tab of an empty queue is empty."""


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
        raise UsageError(f"{directory / AGREEMENT}: has no number of {person}'s annotation; pull again")
    client.mark_ground_truth(number)

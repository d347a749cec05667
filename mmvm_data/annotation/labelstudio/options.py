"""What the commands that talk to Label Studio share: options, the client, what is printed."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import Any, Final

import click
from rich.markup import escape

from mmvm_data.annotation.labelstudio import client as api
from mmvm_data.annotation.labelstudio.tasks import Problem
from mmvm_data.core.errors import UsageError
from mmvm_data.io.console import out

_COUNTED: Final = "id,total_annotations,cancelled_annotations,draft_exists,annotators"


def server_options(command: Any) -> Any:
    """``--url`` and ``--project``."""
    for option in (
        click.option("--project", help="Its title or number.  [default: the folder's name]"),
        click.option("--url", help=f"Of the server.  [default: LABEL_STUDIO_URL, else {api.DEFAULT_URL}]"),
    ):
        command = option(command)
    return command


def open_client(url: str | None) -> api.Client:
    """A client of the server that ``--url`` or the environment names.

    Raises:
        UsageError: there is no token.
    """
    return api.Client(url or api.setting("LABEL_STUDIO_URL") or api.DEFAULT_URL, api.token())


def open_project(client: api.Client, title: str) -> api.Project:
    """The project of this title or number.

    Raises:
        UsageError: there is none.
    """
    found = client.project(title)
    if found is None:
        raise UsageError(f"{client.url}: there is no project {title!r}: deleted, or not pushed yet (--project)")
    return found


def title_of(directory: Path, project: str | None) -> str:
    """What ``--project`` says, else the folder's name."""
    return project or directory.resolve().name


def connect(directory: Path, project: str | None, url: str | None) -> tuple[api.Client, api.Project]:
    """The server, and the project of a folder on it.

    Raises:
        UsageError: there is no token, or no such project.
    """
    client = open_client(url)
    return client, open_project(client, title_of(directory, project))


def typed_again(project: str | None, url: str | None) -> str:
    """The options that the next command needs too, as markup."""
    given = {"--project": project, "--url": url}
    return "".join(f" {name} {escape(shlex.quote(value))}" for name, value in given.items() if value)


def show_problems(problems: list[Problem]) -> None:
    """Print what was left out, a line each."""
    for where, what in problems:
        out.print(f"[bold]{escape(where)}[/]: {escape(what)}")


def progress_of(client: api.Client, project: api.Project) -> tuple[Counter[str], Counter[str]]:
    """How many tasks are done, skipped, begun, and by several people; and how many each person has done."""
    counts: Counter[str] = Counter()
    by: Counter[str] = Counter()
    people = client.people()
    for task in client.tasks(project.id, _COUNTED):
        counts["tasks"] += 1
        counts["done"] += bool(task["total_annotations"])
        counts["skipped"] += bool(task["cancelled_annotations"] and not task["total_annotations"])
        counts["begun"] += bool(task["draft_exists"] and not task["total_annotations"])
        counts["by several people"] += len(set(task["annotators"])) > 1
        by.update(people.get(number, f"user {number}") for number in set(task["annotators"]))
    return counts, by


def show_progress(client: api.Client, project: api.Project, counts: Counter[str], by: Counter[str]) -> None:
    """Print what ``progress_of`` counted."""
    share = f" ({100 * counts['done'] / counts['tasks']:.0f} %)" if counts["tasks"] else ""
    out.print(f"[bold]{escape(project.title)}[/] at {client.url}/projects/{project.id}/data")
    out.print(f"{counts['done']} of {counts['tasks']} tasks done{share}, {counts['skipped']} skipped, ", end="")
    out.print(f"{counts['begun']} begun, {counts['by several people']} by several people")
    for person, number in by.most_common():
        out.print(f"  {escape(person)}: {number}")

"""What the commands that talk to Label Studio share: options, the client, progress and summaries."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import click

from mmvm_data.annotation.labelstudio.client import DEFAULT_URL, Client, Project, read_token
from mmvm_data.annotation.labelstudio.project import open_project
from mmvm_data.annotation.labelstudio.sync import Problem, PullResult, PushResult
from mmvm_data.core.plurals import pluralize
from mmvm_data.io.console import escape, out
from mmvm_data.io.env import env_value

_COUNTS: Final = "id,total_annotations,cancelled_annotations,draft_exists,annotators"


def add_options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A decorator that adds several of ``click.option`` to a command, in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


server_options = add_options(
    click.option("--url", help=f"Of the server.  [default: LABEL_STUDIO_URL, else {DEFAULT_URL}]"),
    click.option("--project", help="Its title or number.  [default: the folder's name]"),
)
"""``--url`` and ``--project``."""


def image_options(what: str) -> Callable[[Any], Any]:
    """``--images`` and ``--files-root``.

    Args:
        what: "images" or the like, for the help.
    """
    return add_options(
        click.option("--images", help=f"URL in front of {what} (https://…, s3://…), when the server cannot read them."),
        click.option(
            "--files-root",
            type=click.Path(path_type=Path),
            help="The server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.  [default: the folder that holds DIRECTORY]",
        ),
    )


def editor_option(what: str) -> Callable[[Any], Any]:
    """``--masks``, as the parameter ``editor``.

    Args:
        what: start of the help, what is done with masks.
    """
    return click.option(
        "--masks",
        "editor",
        type=click.Choice(["polygon", "brush"]),
        default="polygon",
        show_default=True,
        help=f"{what} Brushes are exact and heavy; masks that polygons cannot hold always get them.",
    )


def open_client(url: str | None) -> Client:
    """A client of the server that ``--url`` or the environment names.

    Raises:
        UsageError: there is no token.
    """
    return Client(url or env_value("LABEL_STUDIO_URL") or DEFAULT_URL, read_token())


def project_name(directory: Path, project: str | None) -> str:
    """The value of ``--project``, else the folder's name."""
    return project or directory.resolve().name


def connect(directory: Path, project: str | None, url: str | None) -> tuple[Client, Project]:
    """The server, and the project of a folder on it.

    Raises:
        UsageError: there is no token, or no such project.
    """
    client = open_client(url)
    return client, open_project(client, project_name(directory, project))


def show_problems(problems: Iterable[Problem]) -> None:
    """Print what was left out, a line each."""
    for where, reason in problems:
        out.print(f"[bold]{escape(where)}[/]: {escape(reason)}")


def show_push(
    result: PushResult,
    client: Client,
    next_command: str,
    directory: Path,
    project: str | None,
    url: str | None,
    **more: str,
) -> None:
    """Print what a push did, and which command comes next.

    Args:
        result: of the push.
        client: the server.
        next_command: "review pull" or the like, which needs the same ``--project`` and ``--url``.
        directory, project, url: of the command.
        more: attributes of the result -> in which words their counts are printed.
    """
    show_problems(result.problems)
    counts = {
        "new": result.created,
        "updated": result.updated,
        "unchanged": result.unchanged,
        "with people's work, left alone": result.annotated,
        "second copies removed": result.duplicates,
    }
    for attribute, words in more.items():
        value = getattr(result, attribute)
        counts[words] = value if isinstance(value, int) else len(value)
    summary = ", ".join(f"{count} {words}" for words, count in counts.items() if count) or "nothing to push"
    out.print(f"[bold]{escape(result.project.title)}[/]: {summary}")
    out.print(f"open {escape(client.url)}/projects/{result.project.id}/data")
    flags = {"--project": project, "--url": url}
    repeated = "".join(f" {flag} {shlex.quote(value)}" for flag, value in flags.items() if value)
    out.print(escape(f"next: mmvm-data {next_command} {directory}{repeated}"))


def show_pull(result: PullResult, changed: str) -> None:
    """Print what a pull did.

    Args:
        result: of the pull.
        changed: how many items changed, in words.
    """
    out.print(
        f"{pluralize(result.annotations, 'annotation')} of {pluralize(result.tasks, 'task')} ({result.new} new); "
        f"[bold]{changed} changed[/]"
        + (f", {pluralize(result.skipped, 'task')} skipped by people" if result.skipped else "")
        + (f", {pluralize(len(result.problems), 'problem')}" if result.problems else "")
    )


def exit_if_strict(strict: bool, problems: list[Problem]) -> None:
    """Exit with 1 when ``--strict`` was given and something was left out."""
    if strict and problems:
        sys.exit(1)


def count_progress(client: Client, project: Project) -> tuple[Counter[str], Counter[str]]:
    """How many tasks are done, skipped, started, and by several people; and how many each person has done."""
    counts: Counter[str] = Counter()
    by_person: Counter[str] = Counter()
    users = client.list_users()
    for task in client.iter_tasks(project.id, _COUNTS):
        counts["tasks"] += 1
        counts["done"] += bool(task["total_annotations"])
        counts["skipped"] += bool(task["cancelled_annotations"] and not task["total_annotations"])
        counts["started"] += bool(task["draft_exists"] and not task["total_annotations"])
        counts["by several people"] += len(set(task["annotators"])) > 1
        by_person.update(users.get(number, f"user {number}") for number in set(task["annotators"]))
    return counts, by_person


def show_progress(client: Client, project: Project, counts: Counter[str], by_person: Counter[str]) -> None:
    """Print what ``count_progress`` counted."""
    share = f" ({100 * counts['done'] / counts['tasks']:.0f} %)" if counts["tasks"] else ""
    out.print(f"[bold]{escape(project.title)}[/] at {escape(client.url)}/projects/{project.id}/data")
    num_tasks = pluralize(counts["tasks"], "task")
    out.print(f"{counts['done']} of {num_tasks} done{share}, {counts['skipped']} skipped, ", end="")
    out.print(f"{counts['started']} started, {counts['by several people']} by several people")
    for person, number in by_person.most_common():
        out.print(f"  {escape(person)}: {number}")

"""``mmvm-data review``: push, pull, status, adjudicate, serve."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from mmvm_data.annotation.labelstudio import command_line
from mmvm_data.annotation.labelstudio.client import TOKEN_VARIABLE
from mmvm_data.annotation.labelstudio.server import (
    PASSWORD_VARIABLE,
    Server,
    ServerOptions,
    start_server,
    stop_server,
)
from mmvm_data.annotation.labelstudio.shapes import Editor
from mmvm_data.annotation.review import adjudicate
from mmvm_data.annotation.review.pull import pull
from mmvm_data.annotation.review.push import ReviewPushOptions, push
from mmvm_data.core.errors import UsageError
from mmvm_data.core.plurals import pluralize
from mmvm_data.formats import bench
from mmvm_data.formats.disputes import AGREEMENT, read_agreement
from mmvm_data.io import console
from mmvm_data.io.console import err, escape, out
from mmvm_data.io.env import env_value
from mmvm_data.io.param_types import EXISTING_FOLDER


@click.group(short_help="Let people check cases in Label Studio.")
def review() -> None:
    """Let people check cases in Label Studio: push, pull, status, adjudicate, serve."""


@review.command("push", epilog="\b\nExample:\n  mmvm-data review push bench --url http://localhost:8080")
@click.argument("directory", type=EXISTING_FOLDER)
@command_line.server_options
@command_line.editor_option("How masks are edited.")
@command_line.image_options("images")
@click.option("--overlap", type=int, help="How many people get each case.  [default: as before, else 1]")
@click.option("--annotators", help="Their e-mail addresses, separated by commas; each gets a tab of what is left.")
@click.option("--golden", type=click.Path(path_type=Path), help="Ids of cases that are known to be right, one a line.")
@click.option(
    "--predictions",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Answers of models as JSON lines, or runs of colva eval: what they disagree about comes first; may repeat.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 when a case had to be left out.")
def push_command(
    directory: Path,
    project: str | None,
    url: str | None,
    editor: Editor,
    images: str | None,
    files_root: Path | None,
    overlap: int | None,
    annotators: str | None,
    golden: Path | None,
    predictions: tuple[Path, ...],
    strict: bool,
) -> None:
    """Create or update the project of a benchmark. Run it again when it was stopped; tasks that people have worked on
    stay as they are.

    With --overlap, a case is final once its people agree or an adjudicator has decided. Golden cases measure the
    annotators: half of them propose a wrong answer, and no annotation changes their records.
    """
    client = command_line.open_client(url)
    people = tuple(dict.fromkeys(name.strip() for name in (annotators or "").split(",") if name.strip()))
    options = ReviewPushOptions(
        editor=editor,
        images=images,
        files_root=files_root,
        overlap=overlap,
        annotators=people,
        golden=golden,
        predictions=predictions,
    )
    with console.progress_bar("cases") as bar:
        task = bar.add_task("pushing", total=None, note="")
        result = push(
            directory,
            client,
            command_line.project_name(directory, project),
            options,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    more = {"skipped": "rejected cases left out", "problems": "cases left out"}
    command_line.show_push(result, client, "review pull", directory, project, url, **more)
    command_line.exit_if_strict(strict, result.problems)


@review.command("pull", epilog="\b\nExample:\n  mmvm-data review pull bench")
@click.argument("directory", type=EXISTING_FOLDER)
@command_line.server_options
@click.option("--export", type=click.Path(path_type=Path), help="Read Label Studio's JSON export, not the server.")
@click.option("--strict", is_flag=True, help="Exit with 1 when an annotation could not be used.")
def pull_command(directory: Path, project: str | None, url: str | None, export: Path | None, strict: bool) -> None:
    """Bring answers, match types, rationales, masks and rejections into the benchmark, as a new revision."""
    client, server_project = command_line.connect(directory, project, url) if export is None else (None, None)
    with console.progress_bar("cases") as bar:
        task = bar.add_task("pulling", total=None, note="")
        result = pull(directory, client, server_project, export, lambda done: bar.update(task, completed=done))
    command_line.show_problems(result.problems)
    for name, note in result.notes:
        out.print(f"[bold]{escape(name)}[/]: {escape(note)}")
    command_line.show_pull(result, pluralize(len(result.changed), "case"))
    if result.shared:
        out.print(
            f"{pluralize(result.shared, 'case')} annotated by several people: {escape(str(directory / AGREEMENT))}"
        )
    _show_people(read_agreement(directory))
    if result.disputed:
        out.print(
            f"{pluralize(len(result.disputed), 'case')} to adjudicate: "
            f"mmvm-data review adjudicate {escape(str(directory))}"
        )
    if result.changed:
        out.print(f"next: mmvm-data validate {escape(str(directory))}   mmvm-data report {escape(str(directory))}")
    command_line.exit_if_strict(strict, result.problems)


@review.command(epilog="\b\nExample:\n  mmvm-data review status bench")
@click.argument("directory", type=EXISTING_FOLDER)
@command_line.server_options
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def status(directory: Path, project: str | None, url: str | None, as_json: bool) -> None:
    """Show progress: tasks done, skipped and started, by whom, what was pulled, and how far people agreed then."""
    client, server_project = command_line.connect(directory, project, url)
    counts, by_person = command_line.count_progress(client, server_project)
    states = Counter(case.review.state for case in bench.read(directory))
    agreement = read_agreement(directory)
    if as_json:
        facts = {"project": server_project.id, "tasks": dict(counts), "people": dict(by_person), "cases": dict(states)}
        if agreement:
            facts["agreement"] = agreement
        click.echo(json.dumps(facts, indent=1))
        return
    command_line.show_progress(client, server_project, counts, by_person)
    out.print("in the benchmark: " + ", ".join(f"{number} {state}" for state, number in sorted(states.items())))
    _show_people(agreement)


def _show_people(agreement: dict[str, Any]) -> None:
    """Print how far people agree, field by field, and how they do on golden cases."""
    if agreement.get("cases"):
        shares = {name: agreement.get(name, {}).get("share") for name in ("verdict", "answer")}
        types = [value.get("share") for value in agreement.get("match_types", {}).values()]
        known = [share for share in types if share is not None]
        shares["match types"] = sum(known) / len(known) if known else None
        words = [f"{name} {100 * share:.0f} %" for name, share in shares.items() if share is not None]
        if agreement.get("mask_iou") is not None:
            words.append(f"masks IoU {agreement['mask_iou']:.2f}")
        out.print(f"agreement over {pluralize(agreement['cases'], 'case')}: {', '.join(words)}")
    if "adjudicate" in agreement:
        waiting = f"{agreement.get('waiting', 0)} wait for another person"
        out.print(f"{waiting}, {len(agreement['adjudicate'])} to adjudicate")
    for person, golden in agreement.get("golden", {}).items():
        out.print(f"  {escape(person)}: {golden['right']} of {pluralize(golden['cases'], 'golden case')} right")


@review.command("adjudicate", epilog="\b\nExample:\n  mmvm-data review adjudicate bench --by curator@example.org")
@click.argument("directory", type=EXISTING_FOLDER)
@command_line.server_options
@click.option("--by", help="E-mail addresses of the people whose annotations decide, separated by commas.")
@click.option("--case", help="Decide this case now, for the annotation of --take.")
@click.option("--take", help="E-mail address of the person who is right about --case.")
def adjudicate_command(
    directory: Path, project: str | None, url: str | None, by: str | None, case: str | None, take: str | None
) -> None:
    """List the cases that people disagreed about at the last pull, and show them as a tab of the project.

    There, somebody named by --by duplicates the right annotation, or the proposal, and submits it. The next pull
    applies the decision.
    """
    if (case is None) != (take is None):
        raise UsageError("--case and --take belong together")
    client, server_project = command_line.connect(directory, project, url)
    if case is not None and take is not None:
        adjudicate.take_annotation(directory, client, case, take)
        out.print(f"[bold]{escape(case)}[/]: decided for {escape(take)}")
        out.print(f"next: mmvm-data review pull {escape(str(directory))}")
        return
    people = tuple(dict.fromkeys(name.strip() for name in (by or "").split(",") if name.strip()))
    queue = adjudicate.update_queue(directory, client, server_project, people)
    for dispute in queue:
        out.print(f"[bold]{escape(dispute.case)}[/]: {escape(', '.join(dispute.fields))}")
        for line in dispute.describe():
            out.print(f"  {escape(line)}")
    out.print(
        f"{pluralize(len(queue), 'case')} in the tab {adjudicate.VIEW!r} of "
        f"{escape(client.url)}/projects/{server_project.id}/data"
    )


@review.command(epilog="\b\nExample:\n  mmvm-data review serve bench")
@click.argument("directory", type=EXISTING_FOLDER)
@click.option("--port", default=8080, show_default=True, help="Where it listens.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Its address; 0.0.0.0 for the network.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of its database.  [default: one for DIRECTORY in the user's data folder]",
)
@click.option("--database", envvar="DATABASE_URL", help="postgresql://…, for teams.  [default: sqlite in --data]")
@click.option("--reset-password", is_flag=True, help="Give the login a new password first.")
def serve(directory: Path, port: int, host: str, data: Path | None, database: str | None, reset_password: bool) -> None:
    """Start a Label Studio of your own and print its address and login. Ctrl-C ends it.

    The login is kept in the user's configuration folder, so that the next start prints one that works.
    """
    options = ServerOptions(port=port, host=host, data=data, database=database)
    with err.status("Label Studio starts; the first time this takes a minute") as status:
        phases: list[str] = []

        def show(seconds: float, phase: str) -> None:
            status.update(f"Label Studio {phase} ({seconds:.0f} s)")
            if not err.is_terminal and phase not in phases:  # such as the log of a service
                err.print(f"Label Studio {phase}")
            phases.append(phase)

        server = start_server(directory, options, reset_password, show)
    try:
        _show_login(server, directory)
        sys.exit(server.process.wait())
    finally:
        stop_server(server)


def _show_login(server: Server, directory: Path) -> None:
    """Print where the server is, and the login that works."""
    out.print(f"Label Studio: [bold]{server.url}[/]   login {server.user}")
    source = f"in {PASSWORD_VARIABLE}" if env_value(PASSWORD_VARIABLE) else "that was kept"
    if not server.is_password_valid:
        out.print(f"the password {source} is not the one of this server (changed on its page?); to set a new one:")
        out.print(f"  mmvm-data review serve {escape(str(directory))} --reset-password")
    elif not env_value(PASSWORD_VARIABLE):
        out.print(f"password: {escape(server.password)}")
    if not server.is_token_valid:
        out.print("for push and pull, copy a token from its page Account & Settings")
    elif env_value(TOKEN_VARIABLE) != server.token:
        out.print(f"for push and pull: export {TOKEN_VARIABLE}={escape(server.token)}")
    if server.credentials is not None and server.credentials.exists():
        out.print(f"both are kept in {escape(str(server.credentials))}")
    if server.is_key_replaced:
        out.print("its SECRET_KEY began with $, which it cannot read: there is a new one, and everybody logs in again")
    out.print(f"its database: {escape(str(server.folder))}")
    out.print(f"next, in another terminal: mmvm-data review push {escape(str(directory))} --url {server.url}")

"""``mmvm-data review``: push, pull, status, serve."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import click

from mmvm_data.annotation.labelstudio import command_line
from mmvm_data.annotation.labelstudio.client import TOKEN_VARIABLE
from mmvm_data.annotation.labelstudio.history import FOLDER
from mmvm_data.annotation.labelstudio.server import PASSWORD_VARIABLE, ServerOptions, start_server, stop_server
from mmvm_data.annotation.labelstudio.shapes import Editor
from mmvm_data.annotation.review.pull import AGREEMENT, pull
from mmvm_data.annotation.review.push import ReviewPushOptions, push
from mmvm_data.formats import bench
from mmvm_data.io import console
from mmvm_data.io.console import err, escape, out
from mmvm_data.io.env import env_value
from mmvm_data.io.param_types import EXISTING_FOLDER


@click.group(short_help="Let people check cases in Label Studio.")
def review() -> None:
    """Let people check cases in Label Studio: push, pull, status, serve."""


@review.command("push", epilog="\b\nExample:\n  mmvm-data review push bench --url http://localhost:8080")
@click.argument("directory", type=EXISTING_FOLDER)
@command_line.server_options
@command_line.editor_option("How masks are edited.")
@command_line.image_options("images")
@click.option("--strict", is_flag=True, help="Exit with 1 when a case had to be left out.")
def push_command(
    directory: Path,
    project: str | None,
    url: str | None,
    editor: Editor,
    images: str | None,
    files_root: Path | None,
    strict: bool,
) -> None:
    """Create or update the project of a benchmark. Run it again when it was stopped; tasks that people have worked on
    stay as they are."""
    client = command_line.open_client(url)
    options = ReviewPushOptions(editor=editor, images=images, files_root=files_root)
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
    command_line.show_pull(result, f"{len(result.changed)} cases")
    if result.shared:
        out.print(
            f"{result.shared} cases were annotated by several people: {escape(str(directory / FOLDER / AGREEMENT))}"
        )
    if result.changed:
        out.print(f"next: mmvm-data validate {escape(str(directory))}   mmvm-data report {escape(str(directory))}")
    command_line.exit_if_strict(strict, result.problems)


@review.command(epilog="\b\nExample:\n  mmvm-data review status bench")
@click.argument("directory", type=EXISTING_FOLDER)
@command_line.server_options
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def status(directory: Path, project: str | None, url: str | None, as_json: bool) -> None:
    """Show progress: tasks done, skipped and started, by whom, and what was pulled."""
    client, server_project = command_line.connect(directory, project, url)
    counts, by_person = command_line.count_progress(client, server_project)
    states = Counter(case.review.state for case in bench.read(directory))
    if as_json:
        facts = {"project": server_project.id, "tasks": dict(counts), "people": dict(by_person), "cases": dict(states)}
        click.echo(json.dumps(facts, indent=1))
        return
    command_line.show_progress(client, server_project, counts, by_person)
    out.print("in the benchmark: " + ", ".join(f"{number} {state}" for state, number in sorted(states.items())))


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
def serve(directory: Path, port: int, host: str, data: Path | None, database: str | None) -> None:
    """Start a Label Studio of your own and print its address and login. Ctrl-C ends it."""
    options = ServerOptions(port=port, host=host, data=data, database=database)
    with err.status("Label Studio starts; the first time this takes a minute"):
        server = start_server(directory, options)
    try:
        out.print(f"Label Studio: [bold]{server.url}[/]   login {server.user}")
        if not env_value(PASSWORD_VARIABLE):
            out.print(f"password (for a new server): {server.password}")
        if not env_value(TOKEN_VARIABLE):
            out.print(f"for push and pull (for a new server): export {TOKEN_VARIABLE}={server.token}")
        out.print(f"its database: {escape(str(server.folder))}")
        out.print(f"next, in another terminal: mmvm-data review push {escape(str(directory))} --url {server.url}")
        sys.exit(server.process.wait())
    finally:
        stop_server(server)

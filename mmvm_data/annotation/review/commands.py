"""``mmvm-data review``: push, pull, status, serve."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import cast

import click
from rich.markup import escape

from mmvm_data.annotation.labelstudio import client as api
from mmvm_data.annotation.labelstudio.history import FOLDER
from mmvm_data.annotation.labelstudio.options import (
    connect,
    open_client,
    progress_of,
    server_options,
    show_problems,
    show_progress,
    title_of,
    typed_again,
)
from mmvm_data.annotation.labelstudio.server import PASSWORD, start, stop
from mmvm_data.annotation.labelstudio.shapes import Editor
from mmvm_data.annotation.review.pull import AGREEMENT, pull
from mmvm_data.annotation.review.push import push
from mmvm_data.formats import bench
from mmvm_data.io import console
from mmvm_data.io.console import err, out

_EXISTING = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group(short_help="Let people check cases in Label Studio.")
def review() -> None:
    """Let people check cases in Label Studio: push, pull, status, serve."""


@review.command("push", epilog="\b\nExample:\n  mmvm-data review push bench --url http://localhost:8080")
@click.argument("directory", type=_EXISTING)
@server_options
@click.option(
    "--masks",
    type=click.Choice(["polygon", "brush"]),
    default="polygon",
    show_default=True,
    help="How masks are edited. Brushes are exact and heavy; masks that polygons cannot hold always get them.",
)
@click.option("--images", help="URL in front of images (https://…, s3://…), when the server cannot read them.")
@click.option(
    "--files-root",
    type=click.Path(path_type=Path),
    help="The server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.  [default: the folder that holds DIRECTORY]",
)
@click.option("--strict", is_flag=True, help="Exit with 1 when a case had to be left out.")
def push_(
    directory: Path,
    project: str | None,
    url: str | None,
    masks: str,
    images: str | None,
    files_root: Path | None,
    strict: bool,
) -> None:
    """Make or update the project of a benchmark. Repeat it when it was stopped; tasks that people have touched stay."""
    client, title = open_client(url), title_of(directory, project)
    with console.progress_bar("cases") as bar:
        task = bar.add_task("pushing", total=None, note="")
        done = push(
            directory,
            client,
            title,
            cast(Editor, masks),
            images,
            files_root,
            lambda cases, of: bar.update(task, completed=cases, total=of),
        )
    show_problems(done.problems)
    counts = {
        "new": done.created,
        "updated": done.updated,
        "as they were": done.same,
        "with people's work, left alone": done.reviewed,
        "rejected cases left out": done.rejected,
        "second copies removed": done.removed,
        "cases left out": len(done.problems),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing to push"
    out.print(f"[bold]{escape(done.project.title)}[/]: {said}")
    out.print(f"open {client.url}/projects/{done.project.id}/data")
    out.print(f"next: mmvm-data review pull {escape(str(directory))}{typed_again(project, url)}")
    if strict and done.problems:
        sys.exit(1)


@review.command("pull", epilog="\b\nExample:\n  mmvm-data review pull bench")
@click.argument("directory", type=_EXISTING)
@server_options
@click.option("--export", type=click.Path(path_type=Path), help="Read Label Studio's JSON export, not the server.")
@click.option("--strict", is_flag=True, help="Exit with 1 when an annotation could not be used.")
def pull_(directory: Path, project: str | None, url: str | None, export: Path | None, strict: bool) -> None:
    """Bring answers, match types, rationales, masks and rejections into the benchmark, as a new revision."""
    client, found = connect(directory, project, url) if export is None else (None, None)
    with console.progress_bar("cases") as bar:
        task = bar.add_task("pulling", total=None, note="")
        done = pull(directory, client, found, export, lambda tasks: bar.update(task, completed=tasks))
    show_problems(done.problems)
    out.print(
        f"{done.annotations} annotations of {done.tasks} tasks ({done.kept} new); "
        f"[bold]{len(done.changed)} cases changed[/]"
        + (f", {done.skipped} tasks skipped by people" if done.skipped else "")
        + (f", {len(done.problems)} problems" if done.problems else "")
    )
    if done.several:
        out.print(f"{done.several} cases were done by several people: {escape(str(directory / FOLDER / AGREEMENT))}")
    if done.changed:
        out.print(f"next: mmvm-data validate {escape(str(directory))}   mmvm-data report {escape(str(directory))}")
    if strict and done.problems:
        sys.exit(1)


@review.command(epilog="\b\nExample:\n  mmvm-data review status bench")
@click.argument("directory", type=_EXISTING)
@server_options
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def status(directory: Path, project: str | None, url: str | None, as_json: bool) -> None:
    """Show progress: tasks done, skipped and begun, by whom, and what has come back."""
    client, found = connect(directory, project, url)
    counts, by = progress_of(client, found)
    states = Counter(case.review.state for case in bench.read(directory))
    if as_json:
        facts = {"project": found.id, "tasks": dict(counts), "people": dict(by), "cases": dict(states)}
        click.echo(json.dumps(facts, indent=1))
        return
    show_progress(client, found, counts, by)
    out.print("in the benchmark: " + ", ".join(f"{number} {state}" for state, number in sorted(states.items())))


@review.command(epilog="\b\nExample:\n  mmvm-data review serve bench")
@click.argument("directory", type=_EXISTING)
@click.option("--port", default=8080, show_default=True, help="Where it listens.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Its address; 0.0.0.0 for a whole network.")
@click.option("--data", type=click.Path(path_type=Path), help="Its folder.  [default: DIRECTORY/annotation/server]")
@click.option("--database", envvar="DATABASE_URL", help="postgresql://…, for teams.  [default: sqlite in --data]")
def serve(directory: Path, port: int, host: str, data: Path | None, database: str | None) -> None:
    """Start a Label Studio of your own and print its address and login. Ctrl-C ends it."""
    with err.status("Label Studio starts; the first time this takes a minute"):
        server = start(directory, port, host, data, database)
    try:
        out.print(f"Label Studio: [bold]{server.url}[/]   login {server.user}")
        if not api.setting(PASSWORD):
            out.print(f"password (for a new server): {server.password}")
        if not api.setting(api.TOKEN):
            out.print(f"for push and pull (for a new server): export {api.TOKEN}={server.token}")
        out.print(f"next, in another terminal: mmvm-data review push {escape(str(directory))} --url {server.url}")
        sys.exit(server.process.wait())
    finally:
        stop(server)

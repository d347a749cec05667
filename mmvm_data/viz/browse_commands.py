"""The command ``mmvm-data browse``: parses and calls, nothing else."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import click

from mmvm_data.core.plurals import pluralize
from mmvm_data.formats import predictions
from mmvm_data.io import console
from mmvm_data.io.console import err, escape, out
from mmvm_data.viz import embeddings, fiftyone, findings, mongo

_EXISTING = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
MAX_LISTED = 20
"""Problems that are printed one by one."""


class _DefaultCommandGroup(click.Group):
    """A group whose first command is the default: ``browse DIR`` is ``browse open DIR``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


def _database_options(command: Any) -> Any:
    """Add the options that name a data set and its database."""
    decorators = (
        click.option("--name", help="Of the data set.  [default: the folder's name]"),
        click.option(
            "--database-uri", envvar="FIFTYONE_DATABASE_URI", help="A MongoDB.  [default: start the bundled one]"
        ),
        click.option(
            "--database-dir",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder of the bundled MongoDB.  [default: FIFTYONE_DATABASE_DIR, or FiftyOne's own]",
        ),
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


@click.group(cls=_DefaultCommandGroup, short_help="Look at a benchmark in FiftyOne; bring tags back.")
def browse() -> None:
    """Look at a benchmark in FiftyOne: `browse DIR` loads it and opens the App, `browse pull DIR` brings tags back.

    All options of `browse open`: mmvm-data browse open --help
    """


@browse.command("open", epilog="\b\nExample:\n  mmvm-data browse bench --predictions answers.jsonl")
@click.argument("directory", type=_EXISTING)
@click.option(
    "--predictions",
    "files",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Answers of models as JSON lines, or runs of colva eval; may repeat.",
)
@click.option("--audit", "audit_file", type=_FILE, help="What audit --json printed: pairs to look at.")
@click.option("--embeddings", type=click.Choice(["color"]), help="Compute a map and a search by the query's colors.")
@click.option("--no-app", is_flag=True, help="Load only.")
@click.option("--port", type=click.IntRange(1, 65535), default=5151, show_default=True, help="Of the App.")
@click.option("--address", default="127.0.0.1", show_default=True, help="Of the App; 0.0.0.0 shows it to the network.")
@click.option("--strict", is_flag=True, help="Exit with 1 when cases were left out.")
@_database_options
def open_(directory: Path, **options: Any) -> None:
    """Load or update a benchmark, and open the App (`browse DIR` does the same)."""
    answers = predictions.read_answers(options["files"])
    audit = findings.read_audit(options["audit_file"]) if options["audit_file"] else None
    database = mongo.open_database(options["database_uri"], options["database_dir"])
    fo = fiftyone.connect(database)
    with console.progress_bar("cases") as bar:
        task = bar.add_task("loading", total=None, note="")
        loaded = fiftyone.load(
            fo,
            directory,
            options["name"],
            answers,
            audit,
            with_embeddings=options["embeddings"] is not None,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
    _print_result(loaded, database)
    pull = f"mmvm-data browse pull {escape(str(directory))}"
    if options["no_app"]:
        out.print(f"next: mmvm-data browse {escape(str(directory))}   {pull}")
    else:
        session, url = fiftyone.open_app(fo, loaded.name, options["address"], options["port"])
        out.print(f"open [bold]{escape(url)}[/] in a browser; Ctrl-C ends it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            out.print(f"\nnext: {pull}")
        finally:
            session.close()
    if options["strict"] and loaded.problems:
        err.print(f"--strict: {pluralize(len(loaded.problems), 'case')} left out")
        sys.exit(1)


@browse.command(epilog="\b\nExample:\n  mmvm-data browse pull bench")
@click.argument("directory", type=_EXISTING)
@click.option("--by", help="Reviewer of the cases that are rejected or edited.")
@_database_options
def pull(directory: Path, **options: Any) -> None:
    """Write tags that were set in the App into cases.jsonl: `reject` rejects a case, others are kept as tags.

    Answers and match types that were edited there are written too, and the case counts as fixed.
    """
    database = mongo.open_database(options["database_uri"], options["database_dir"])
    pulled = fiftyone.pull(fiftyone.connect(database), directory, options["name"], options["by"])
    counts = ", ".join(f"{escape(tag)} {count}" for tag, count in pulled.tags.items())
    for where, what in pulled.problems[:MAX_LISTED]:
        err.print(f"[yellow]not written[/] {escape(where)}: {escape(what)}")
    if len(pulled.problems) > MAX_LISTED:
        err.print(f"[yellow]not written[/] {pluralize(len(pulled.problems) - MAX_LISTED, 'more edit')}")
    out.print(f"tags in [bold]{escape(pulled.name)}[/]: {counts or 'none'}")
    if pulled.changed:
        out.print(
            f"records changed: {len(pulled.changed)}; the state before is kept in {escape(str(directory))}/revisions"
        )
        out.print(f"next: mmvm-data stats {escape(str(directory))}")
    else:
        out.print(f"nothing new; {escape(str(directory))} is as it was")


def _print_result(loaded: fiftyone.LoadResult, database: mongo.Database) -> None:
    for where, what in loaded.problems[:MAX_LISTED]:
        err.print(f"[yellow]left out[/] {escape(where)}: {escape(what)}")
    if len(loaded.problems) > MAX_LISTED:
        err.print(
            f"[yellow]left out[/] {len(loaded.problems) - MAX_LISTED} more; mmvm-data validate lists what is wrong"
        )
    for where, what in loaded.replaced_edits[:MAX_LISTED]:
        err.print(f"[yellow]edit replaced[/] {escape(where)}: {escape(what)}")
    if len(loaded.replaced_edits) > MAX_LISTED:
        err.print(f"[yellow]edit replaced[/] {len(loaded.replaced_edits) - MAX_LISTED} more")
    out.print(
        f"[bold]{pluralize(loaded.cases, 'case')}[/] in data set [bold]{escape(loaded.name)}[/] ({loaded.added} new, "
        f"{loaded.updated} changed, {loaded.removed} removed) in {loaded.seconds:.1f} s"
    )
    for model, share in loaded.models.items():
        out.print(f"{escape(model)}: {100 * share:.2f} % right")
    if loaded.embedded:
        mapped = pluralize(loaded.embedded, "case")
        out.print(f"{mapped} in the map of colors: saved view {embeddings.VIEW!r}, panel Embeddings")
    if loaded.unknown:
        out.print(f"{pluralize(loaded.unknown, 'answer')} for cases that are not in the benchmark")
    out.print(f"database: {escape(str(database))}")

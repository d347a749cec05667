"""The command ``mmvm-data browse``: parses and calls, nothing else."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from mmvm_data.io import console
from mmvm_data.io.console import err, out
from mmvm_data.viz import fiftyone, mongo, predictions

_EXISTING = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
SHOWN = 20


class _Default(click.Group):
    """A group whose first command is meant when none is named: ``browse DIR`` is ``browse open DIR``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


def _database(command: Any) -> Any:
    """The options that name a data set and where it is."""
    options = (
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
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=_Default, short_help="Look at a benchmark in FiftyOne; bring tags back.")
def browse() -> None:
    """Look at a benchmark in FiftyOne: `browse DIR` loads it and opens the App, `browse pull DIR` brings tags back.

    All options of the former: mmvm-data browse open --help
    """


@browse.command("open", epilog="\b\nExample:\n  mmvm-data browse bench --predictions answers.jsonl")
@click.argument("directory", type=_EXISTING)
@click.option("--predictions", "files", type=_FILE, multiple=True, help="Answers of models, JSON lines; may repeat.")
@click.option("--no-app", is_flag=True, help="Load only.")
@click.option("--port", type=click.IntRange(1, 65535), default=5151, show_default=True, help="Of the App.")
@click.option("--address", default="127.0.0.1", show_default=True, help="Of the App; 0.0.0.0 shows it to the network.")
@click.option("--strict", is_flag=True, help="Exit with 1 when cases were left out.")
@_database
def open_(directory: Path, **given: Any) -> None:
    """Load a benchmark, or bring it up to its records, and open the App (`browse DIR` does the same)."""
    runs = predictions.read(given["files"])
    database = mongo.open_database(given["database_uri"], given["database_dir"])
    fo = fiftyone.connect(database)
    with console.progress_bar("cases") as bar:
        task = bar.add_task("loading", total=None, note="")
        loaded = fiftyone.load(
            fo, directory, given["name"], runs, lambda done, of: bar.update(task, completed=done, total=of)
        )
    _tell(loaded, database)
    pull = f"mmvm-data browse pull {escape(str(directory))}"
    if given["no_app"]:
        out.print(f"next: mmvm-data browse {escape(str(directory))}   {pull}")
    else:
        session, url = fiftyone.open_app(fo, loaded.name, given["address"], given["port"])
        out.print(f"open [bold]{escape(url)}[/] in a browser; Ctrl-C ends it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            out.print(f"\nnext: {pull}")
        finally:
            session.close()
    if given["strict"] and loaded.problems:
        err.print(f"--strict: {len(loaded.problems)} cases were left out")
        sys.exit(1)


@browse.command(epilog="\b\nExample:\n  mmvm-data browse pull bench")
@click.argument("directory", type=_EXISTING)
@click.option("--by", help="Who tagged, for the review of rejected cases.")
@_database
def pull(directory: Path, **given: Any) -> None:
    """Write tags that were set in the App into cases.jsonl: `reject` rejects a case, others are kept as tags."""
    database = mongo.open_database(given["database_uri"], given["database_dir"])
    pulled = fiftyone.pull(fiftyone.connect(database), directory, given["name"], given["by"])
    counts = ", ".join(f"{escape(tag)} {count}" for tag, count in pulled.tags.items())
    out.print(f"tags in [bold]{escape(pulled.name)}[/]: {counts or 'none'}")
    if pulled.changed:
        out.print(
            f"records changed: {len(pulled.changed)}; the state before is kept in {escape(str(directory))}/revisions"
        )
        out.print(f"next: mmvm-data stats {escape(str(directory))}")
    else:
        out.print(f"nothing new; {escape(str(directory))} is as it was")


def _tell(loaded: fiftyone.Loaded, database: mongo.Database) -> None:
    """What a load did, and where it is."""
    for where, what in loaded.problems[:SHOWN]:
        err.print(f"[yellow]left out[/] {escape(where)}: {escape(what)}")
    if len(loaded.problems) > SHOWN:
        err.print(f"[yellow]left out[/] {len(loaded.problems) - SHOWN} more; mmvm-data validate lists what is wrong")
    out.print(
        f"[bold]{loaded.cases} cases[/] in data set [bold]{escape(loaded.name)}[/] ({loaded.added} new, "
        f"{loaded.updated} changed, {loaded.removed} removed) in {loaded.seconds:.1f} s"
    )
    for model, share in loaded.models.items():
        out.print(f"{escape(model)}: {100 * share:.2f} % right")
    if loaded.unknown:
        out.print(f"{loaded.unknown} answers are for cases that are not here")
    out.print(f"database: {escape(str(database))}")

"""The commands ``mmvm-data merge`` and ``filter``: parse and call, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from mmvm_data.core.plurals import pluralize
from mmvm_data.formats import set_operations
from mmvm_data.io.console import out, path_markup, print_next_steps, progress_bar
from mmvm_data.io.param_types import EXISTING_FOLDER, FOLDER

OUT_OPTION = click.option("--out", "out_dir", required=True, type=FOLDER, help="New folder for the result.")
SEED_OPTION = click.option("--seed", default=0, show_default=True, help="Another seed draws other cases.")


@contextmanager
def case_progress(activity: str = "writing") -> Iterator[Callable[[int], None]]:
    """Show a bar; yields a function that takes the number of cases that are done."""
    with progress_bar("cases") as bar:
        task = bar.add_task(activity, total=None, note="")
        yield lambda done: bar.update(task, completed=done)


def print_written(number: int, folder: Path) -> None:
    """Print where cases were written, and what to type next."""
    out.print(f"wrote {pluralize(number, 'case')} to {path_markup(folder)}")
    print_next_steps((["validate", str(folder)], "check every file, mask and letter"))


@click.command(
    short_help="Put several benchmarks together.",
    epilog="\b\nExample:\n  mmvm-data merge davis mot17 --out all --fresh-ids",
)
@click.argument("directories", nargs=-1, required=True, type=EXISTING_FOLDER)
@OUT_OPTION
@click.option("--fresh-ids", is_flag=True, help="Number the cases again. Otherwise ids that clash are refused.")
def merge(directories: tuple[Path, ...], out_dir: Path, fresh_ids: bool) -> None:
    """Put several benchmarks together, in order.

    Images are linked or copied byte for byte; reviews, provenance, earlier revisions and rejects are kept.
    `origins.jsonl` has the former id of each case.
    """
    with case_progress() as progress:
        number = set_operations.merge_sets(directories, out_dir, fresh_ids, progress)
    print_written(number, out_dir)


@click.command(
    name="filter",
    short_help="Keep the cases that fit.",
    epilog='\b\nExample:\n  mmvm-data filter bench --where "candidates >= 2" --out few',
)
@click.argument("directory", type=EXISTING_FOLDER)
@OUT_OPTION
@click.option("--where", required=True, metavar="EXPRESSION", help="Condition on the fields of a case.")
def filter_command(directory: Path, out_dir: Path, where: str) -> None:
    """Keep the cases for which an expression is true.

    Fields: id, source, recipe_source, video, gap, seconds, look_alikes, visible, category, prompt, images, candidates,
    answer, none, match_types, rationale, rationale_by, review, reviewer; recipe_source is the name in the recipe. They
    are compared with numbers, quoted texts, True, False, None and lists by == != < <= > >= in, not in, and joined by
    and, or, not. A field without a value is None.
    """
    with case_progress() as progress:
        number = set_operations.filter_set(directory, out_dir, where, progress)
    print_written(number, out_dir)

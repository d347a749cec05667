"""The commands ``mmvm-data validate``, ``export`` and ``import``: parse and call, nothing else."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast, get_args

import click

from mmvm_data.cases.consistency import needs_second_look
from mmvm_data.core.errors import OutputError, UsageError
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import Case
from mmvm_data.formats import bench, build_files, hub, mask_sets, trainers, vlmevalkit, webdataset
from mmvm_data.formats.bench_read import require_benchmark
from mmvm_data.formats.import_bench import import_benchmark
from mmvm_data.formats.match_records import published_fault
from mmvm_data.formats.open_benchmark import VLMEVALKIT_TSV, write_benchmark
from mmvm_data.formats.sft_sets import join_benchmarks, write_training_set
from mmvm_data.io.console import err, escape, out, path_markup, print_next_steps, progress_bar
from mmvm_data.io.param_types import EXISTING_FOLDER

_MAX_LISTED = 20
"""Cases that are printed one by one."""
_TRAINERS, _MASK_FORMS = get_args(trainers.Trainer), get_args(mask_sets.MaskForm)


@click.command(short_help="Check every case of a benchmark.", epilog="\b\nExample:\n  mmvm-data validate bench --deep")
@click.argument("directory", type=EXISTING_FOLDER)
@click.option("--deep", is_flag=True, help="Also draw every case again and compare.")
@click.option("--json", "as_json", is_flag=True, help="The problems as JSON.")
def validate(directory: Path, deep: bool, as_json: bool) -> None:
    """Check every case of a benchmark: files, masks, numbers, options, answers. Exit code 1 when something is wrong."""
    with progress_bar("cases") as bar:
        task = bar.add_task("checking", total=None, note="")
        report = bench.validate(directory, deep, lambda done, of: bar.update(task, completed=done, total=of))
    if as_json:
        click.echo(json.dumps({"cases": report.cases, "problems": [list(p) for p in report.problems]}, indent=1))
    else:
        for where, what in report.problems:
            out.print(f"[bold]{escape(where)}[/]: {escape(what)}")
        wrong = pluralize(len(report.problems), "problem") if report.problems else "no problems"
        out.print(f"{pluralize(report.cases, 'case')}, {wrong} in {path_markup(directory)}")
    sys.exit(1 if report.problems else 0)


def _flagged_cases(cases: Iterator[Case]) -> dict[str, str]:
    """Ids of the cases whose rationale must not be taught, with the reasons."""
    return {case.id: reason for case in cases if (reason := needs_second_look(case))}


def _print_flagged(flagged: dict[str, str]) -> None:
    if not flagged:
        return
    for case, reason in list(flagged.items())[:_MAX_LISTED]:
        err.print(f"[yellow]left out[/] {escape(case)}: its rationale {escape(reason)}")
    err.print(
        f"{pluralize(len(flagged), 'case')} left out, whose rationale needs a second look; "
        "mmvm-data validate lists them, --include-flagged exports them"
    )


def _print_not_published(cases: Iterator[Case]) -> None:
    faults = Counter(fault for case in cases if (fault := published_fault(case)))
    for fault, count in faults.items():
        err.print(f"{pluralize(count, 'case')} in neither published subset, whose training code cannot use {fault}")


@click.command(
    short_help="Write a benchmark in another format.",
    epilog="\b\nExample:\n  mmvm-data export bench --to sft --out train",
)
@click.argument("directories", metavar="DIRECTORY...", nargs=-1, required=True, type=EXISTING_FOLDER)
@click.option(
    "--to",
    "form",
    required=True,
    type=click.Choice(["bench", "vlmevalkit", "sft", "hub", "webdataset", *_TRAINERS, *_MASK_FORMS]),
    help="The format.",
)
@click.option("--out", "out_dir", required=True, type=click.Path(path_type=Path), help="Folder for the result.")
@click.option("--split", default="test", show_default=True, help="hub: name of the split.")
@click.option("--push", metavar="USER/NAME", help="hub: upload the result there too.")
@click.option("--public", is_flag=True, help="hub: a repository that --push makes is not private.")
@click.option(
    "--include-flagged",
    is_flag=True,
    help="sft, trainers: also cases whose rationale does not agree with the answer.",
)
def export(
    directories: tuple[Path, ...],
    form: str,
    out_dir: Path,
    split: str,
    push: str | None,
    public: bool,
    include_flagged: bool,
) -> None:
    """Write a benchmark in another format.

    bench: case folders and tsv, with the same images. vlmevalkit: one tsv with the images inside. sft: match
    records, the published two subsets of them, and conversations for training, of one benchmark or of several,
    with provenance.jsonl, which says where each record is from. hub: Parquet files with a card, for `datasets`.
    webdataset: tar shards for trainers. llamafactory, ms-swift, xtuner: a training set for that trainer, whose
    images stay in DIRECTORY. Cases that were rejected are left out, and of training sets those whose rationale
    needs a second look. coco, ytvis, davis, cvat: the masks (cvat: boxes too), corrected ones too, with the clean
    images, by the names of their source.
    """
    if (push or public) and form != "hub":
        raise UsageError("`push` and `public` need `form='hub'`")
    if len(directories) > 1 and form != "sft":
        raise UsageError(f"several folders need `form='sft'`; `mmvm-data merge` makes one benchmark of them for {form}")
    joined, directory = join_benchmarks(directories), directories[0]
    for folder in directories:  # before a folder is made for the result
        require_benchmark(folder)
    cases = joined.iter_cases

    if form == "bench":
        written = write_benchmark(cases(), out_dir, command="mmvm-data export")
    elif form in _MASK_FORMS:
        written = mask_sets.write(cases(), directory, out_dir, cast(mask_sets.MaskForm, form))
    elif form in ("hub", "webdataset"):
        with progress_bar("cases") as bar:
            task = bar.add_task("writing", total=None, note="")

            def update(done: int) -> None:
                bar.update(task, completed=done)

            if form == "hub":
                build = build_files.read_build(directory)
                written = hub.write(cases(), out_dir, directory, split, build=build, progress=update)
            else:
                written = webdataset.write(cases(), out_dir, directory, progress=update)
    else:
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(out_dir, error) from error
        if form == "vlmevalkit":
            written = [out_dir / VLMEVALKIT_TSV]
            vlmevalkit.write(cases(), directory, written[0])
        else:
            flagged = {} if include_flagged else _flagged_cases(cases())

            def taught() -> Iterator[Case]:
                return (case for case in cases() if case.id not in flagged)

            if form == "sft":
                written = write_training_set(taught, joined.origin_of, out_dir)
                _print_not_published(taught())
                if len(directories) > 1:
                    out.print(f"paths of images are relative to {path_markup(joined.root)}")
            else:
                trainer = cast(trainers.Trainer, form)
                written = trainers.write(taught(), directory, out_dir, trainer)
                command = shlex.join(trainers.train_command(trainer, directory, out_dir))
                out.print(f"train: {escape(command)}", soft_wrap=True)
            _print_flagged(flagged)
    for path in written:
        out.print(f"wrote {path_markup(path)}")
    if push:
        out.print(f"pushed: {escape(hub.push(out_dir, push, private=not public))}")


@click.command(
    "import", short_help="Make a published benchmark editable.", epilog="\b\nExample:\n  mmvm-data import bench"
)
@click.argument("directory", type=EXISTING_FOLDER)
@click.option("--strict", is_flag=True, help="Exit with 1 when a case could not be read.")
def import_command(directory: Path, strict: bool) -> None:
    """Write records (cases.jsonl) for a benchmark in the published layout, which reviews and tags are written into.

    The table and the case folders stay as they are. review push, review pull and browse pull do it by themselves, once.
    """
    result = import_benchmark(directory)
    for problem in result.problems:
        out.print(f"[bold]{escape(problem.where)}[/]: {escape(problem.what)}")
    if not result.is_new:
        out.print(f"{path_markup(directory)} has records already; nothing to import")
        return
    out.print(f"imported {pluralize(result.cases, 'case')} into {path_markup(directory / bench.CASES)}")
    print_next_steps((["review", "push", str(directory)], "let people check the cases"))
    if strict and result.problems:
        sys.exit(1)

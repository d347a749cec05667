"""The command ``mmvm-data``: parses and calls, nothing else.

Exit codes: 0 done; 1 some inputs were rejected and ``--strict`` was given, or a check found problems; 2 wrong usage,
an unreadable root or an output that cannot be written; 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from mmvm_data import synth
from mmvm_data.annotation.rationale import commands
from mmvm_data.annotation.review.commands import review
from mmvm_data.annotation.tracks.commands import ingest
from mmvm_data.audit import stats as statistics
from mmvm_data.audit.commands import audit, diff
from mmvm_data.builders import SOURCES
from mmvm_data.builders.commands import print_sources
from mmvm_data.cases.sampling import SamplingOptions
from mmvm_data.core.errors import OutputError, UsageError
from mmvm_data.core.types import Case
from mmvm_data.core.version import __version__
from mmvm_data.formats import bench, build_files, hub, sft, vlmevalkit, webdataset
from mmvm_data.io import console, remote
from mmvm_data.io.console import err, out
from mmvm_data.pipeline import build as pipeline
from mmvm_data.pipeline.commands import print_build_summary
from mmvm_data.viz.browse_commands import browse
from mmvm_data.viz.report import write_report

_FOLDER = click.Path(path_type=Path, file_okay=False)
_EXISTING = click.Path(path_type=Path, exists=True, file_okay=False)
_DEFAULTS = SamplingOptions()


class _Place(click.ParamType):
    """A path, or a URL that stays text."""

    name = "path or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        return value if isinstance(value, Path) or remote.is_url(value) else Path(value)


_PLACE = _Place()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mmvm-data")
def cli() -> None:
    """Turn videos with masks or boxes into visual-correspondence benchmarks and training sets."""


@cli.command(
    short_help="Make a benchmark from a source.",
    epilog=("\b\nExample:\n  mmvm-data build --source davis --root DAVIS --out bench --workers 2"),
)
@click.option("--source", required=True, help="What the data is; see `mmvm-data sources`.")
@click.option("--root", required=True, type=_PLACE, help="The source's folder (or file), or a URL such as s3://…")
@click.option("--out", "destination", required=True, type=_PLACE, help="Folder for the result, or a URL.")
@click.option("--seed", default=_DEFAULTS.seed, show_default=True, help="Another seed, another sample.")
@click.option("--max-cases", type=int, help="Stop after so many.  [default: all]")
@click.option("--cases-per-video", default=_DEFAULTS.cases_per_video, show_default=True, help="Cases a video, at most.")
@click.option(
    "--candidates",
    type=click.Choice(["4", "8", "12", "all"]),
    default="all",
    show_default=True,
    help="Keep so many candidates, the hardest.",
)
@click.option(
    "--embeddings",
    metavar="EXPERT",
    help="Rank candidates by features of a vision model too: mobilenetv2, or a folder or file of weights; with "
    "--candidates or --variants. Needs the extra train.",
)
@click.option(
    "--min-candidates",
    default=_DEFAULTS.min_candidates,
    show_default=True,
    help="Candidates a case, at least; 1 for sets with one object a video.",
)
@click.option(
    "--none-share",
    default=_DEFAULTS.none_share,
    show_default=True,
    help='Share of cases with the answer "none of the above", where something disappears.',
)
@click.option(
    "--gone",
    type=click.Choice(["absent", "left"]),
    default=_DEFAULTS.gone,
    show_default=True,
    help='For "none of the above": absent from the second image, or last seen at the edge of the picture.',
)
@click.option(
    "--reappear-share",
    default=_DEFAULTS.reappear_share,
    show_default=True,
    help="Share of cases whose query was away in between, where something comes back.",
)
@click.option("--variants", is_flag=True, help="Each case with 4, 8, 12 and all candidates; they share an id.")
@click.option("--min-gap", default=_DEFAULTS.min_gap, show_default=True, help="Frames between the images, at least.")
@click.option("--max-gap", default=_DEFAULTS.max_gap, show_default=True, help="The same, at most; 0: any.")
@click.option("--min-area", default=_DEFAULTS.min_area, show_default=True, help="Pixels of an object, at least.")
@click.option("--min-side", default=_DEFAULTS.min_side, show_default=True, help="Pixels of its shorter side, at least.")
@click.option("--max-occlusion", default=_DEFAULTS.max_occlusion, show_default=True, help="Share of it under another.")
@click.option(
    "--min-sharpness",
    default=_DEFAULTS.min_sharpness,
    show_default=True,
    help="Variance of the Laplacian around the query; 0: any.",
)
@click.option(
    "--look-alikes",
    type=click.Choice(["prefer", "require", "any"]),
    default=_DEFAULTS.look_alikes,
    show_default=True,
    help="Queries that have another object of their category among the candidates.",
)
@click.option(
    "--proposals",
    type=_EXISTING,
    help="Masks <video>/<frame>.png: candidates for sets that follow one object a video.",
)
@click.option("--quality", default=95, show_default=True, help="JPEG quality of drawn images.")
@click.option("--workers", default=1, show_default=True, help="Processes; 0 for one a core.")
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Where workers run."
)
@click.option("--ray-address", help="Of a Ray cluster, such as auto or host:6379.  [default: one on this machine]")
@click.option("--resume", "existing", flag_value="resume", help="Go on with an unfinished build.")
@click.option("--overwrite", "existing", flag_value="overwrite", help="Delete an earlier build in --out first.")
@click.option("--strict", is_flag=True, help="Exit with 1 when some inputs were rejected.")
def build(**given: Any) -> None:
    """Make a benchmark: case folders, the tsv, cases.jsonl, rejects.jsonl, build.json."""
    options = _build_options(given)
    with console.progress_bar("videos") as bar:
        task = bar.add_task("building", total=None, note="")

        def show(state: pipeline.Progress) -> None:
            note = f"{state.cases} cases, {state.rejects} rejects"
            bar.update(task, completed=state.videos, total=state.of_videos, note=note)

        try:
            result = pipeline.build(given["source"], given["root"], given["destination"], options, show)
        except KeyboardInterrupt:
            bar.stop()
            err.print(
                "stopped; what was finished is safe. Go on with the same command and --resume "
                f"({escape(str(given['destination']))})"
            )
            raise
    print_build_summary(result, options.sampling.none_share)
    if given["strict"] and result.bad_inputs:
        err.print(
            f"--strict: {result.bad_inputs} inputs were rejected, see {escape(f'{result.out}/{pipeline.REJECTS}')}"
        )
        sys.exit(1)


def _build_options(given: dict[str, Any]) -> pipeline.BuildOptions:
    sampling = SamplingOptions(
        seed=given["seed"],
        cases_per_video=given["cases_per_video"],
        min_gap=given["min_gap"],
        max_gap=given["max_gap"] or None,
        min_area=given["min_area"],
        min_side=given["min_side"],
        max_occlusion=given["max_occlusion"],
        min_sharpness=given["min_sharpness"],
        none_share=given["none_share"],
        gone=given["gone"],
        reappear_share=given["reappear_share"],
        variants=given["variants"],
        candidates=None if given["candidates"] == "all" else int(given["candidates"]),
        min_candidates=given["min_candidates"],
        look_alikes=given["look_alikes"],
        embeddings=given["embeddings"],
    )
    return pipeline.BuildOptions(
        sampling=sampling,
        max_cases=given["max_cases"],
        workers=given["workers"] or os.cpu_count() or 1,
        existing=given["existing"] or "refuse",
        quality=given["quality"],
        proposals=given["proposals"],
        engine=given["engine"],
        ray_address=given["ray_address"],
    )


@cli.command(short_help="List what build reads.", epilog="\b\nExample:\n  mmvm-data sources")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def sources(as_json: bool) -> None:
    """List what `build` reads: layout on disk, page, license, masks or boxes."""
    if as_json:
        facts = ("title", "layout", "page", "license", "prompt", "tested_on")
        click.echo(json.dumps({name: {f: getattr(spec, f) for f in facts} for name, spec in SOURCES.items()}, indent=1))
        return
    print_sources()


@cli.command(short_help="Check every case of a benchmark.", epilog="\b\nExample:\n  mmvm-data validate bench --deep")
@click.argument("directory", type=_EXISTING)
@click.option("--deep", is_flag=True, help="Also draw every case again and compare.")
@click.option("--json", "as_json", is_flag=True, help="The problems as JSON.")
def validate(directory: Path, deep: bool, as_json: bool) -> None:
    """Check every case of a benchmark: files, masks, numbers, options, answers. Exit code 1 when something is wrong."""
    with console.progress_bar("cases") as bar:
        task = bar.add_task("checking", total=None, note="")
        report = bench.validate(directory, deep, lambda done, of: bar.update(task, completed=done, total=of))
    if as_json:
        click.echo(json.dumps({"cases": report.cases, "problems": [list(p) for p in report.problems]}, indent=1))
    else:
        for where, what in report.problems:
            out.print(f"[bold]{escape(where)}[/]: {escape(what)}", highlight=False, soft_wrap=True)
        wrong = console.pluralize(len(report.problems), "problem") if report.problems else "no problems"
        out.print(f"{console.pluralize(report.cases, 'case')}, {wrong} in {console.path_markup(directory)}")
    sys.exit(1 if report.problems else 0)


@cli.command(short_help="Count what a benchmark holds.", epilog="\b\nExample:\n  mmvm-data stats bench")
@click.argument("directory", type=_EXISTING)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def stats(directory: Path, as_json: bool) -> None:
    """Count: cases, candidates, areas, gaps, letters, match types, sources, rejects."""
    found = statistics.collect(directory)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        statistics.render(found, out)


@cli.command(short_help="Write one HTML file to look at.", epilog="\b\nExample:\n  mmvm-data report bench")
@click.argument("directory", type=_EXISTING)
@click.option("--out", "destination", type=click.Path(path_type=Path), help="File.  [default: DIRECTORY/report.html]")
def report(directory: Path, destination: Path | None) -> None:
    """Write one HTML file to look at: totals, histograms, and a gallery to filter and search."""
    with console.progress_bar("cases") as bar:
        task = bar.add_task("writing", total=None, note="")
        path = write_report(directory, destination, lambda done, of: bar.update(task, completed=done, total=of))
    size = path.stat().st_size / 1e6
    out.print(f"open {console.path_markup(path)} in a browser ({size:.1f} MB, works without a server)")


@cli.command(
    short_help="Write a benchmark in another format.",
    epilog="\b\nExample:\n  mmvm-data export bench --to sft --out train",
)
@click.argument("directory", type=_EXISTING)
@click.option(
    "--to",
    "kind",
    required=True,
    type=click.Choice(["bench", "vlmevalkit", "sft", "hub", "webdataset"]),
    help="The format.",
)
@click.option("--out", "destination", required=True, type=click.Path(path_type=Path), help="Folder for the result.")
@click.option("--split", default="test", show_default=True, help="hub: name of the split.")
@click.option("--push", metavar="USER/NAME", help="hub: upload the result there too.")
@click.option("--public", is_flag=True, help="hub: a repository that --push makes is not private.")
def export(directory: Path, kind: str, destination: Path, split: str, push: str | None, public: bool) -> None:
    """Write a benchmark in another format.

    bench: case folders and tsv, drawn anew. vlmevalkit: one tsv with the images inside. sft: match records and
    conversations for training. hub: Parquet files with a card, for `datasets`. webdataset: tar shards for trainers.
    Cases that were rejected are left out.
    """
    if (push or public) and kind != "hub":
        raise UsageError("--push and --public go with --to hub")

    def cases() -> Iterator[Case]:
        return (case for case in bench.read(directory) if case.review.state != "rejected")

    if kind == "bench":
        _free(destination)
        bench.write(cases(), destination)
        written = [destination / bench.TSV]
    elif kind in ("hub", "webdataset"):
        with console.progress_bar("cases") as bar:
            task = bar.add_task("writing", total=None, note="")

            def show(done: int) -> None:
                bar.update(task, completed=done)

            if kind == "hub":
                record = build_files.read_build(directory)
                written = hub.write(cases(), destination, directory, split, build=record, progress=show)
            else:
                written = webdataset.write(cases(), destination, directory, progress=show)
    else:
        try:
            destination.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(destination, error) from error
        if kind == "vlmevalkit":
            written = [destination / "mmvm_vlmevalkit.tsv"]
            vlmevalkit.write(cases(), directory, written[0])
        else:
            written = [destination / name for name in sft.FILES.values()]
            sft.write(cases(), destination, kind="records")
            sft.write(cases(), destination, kind="conversations")
    for path in written:
        out.print(f"wrote {console.path_markup(path)}")
    if push:
        out.print(f"pushed: {escape(hub.push(destination, push, private=not public))}")


def _free(destination: Path) -> None:
    """Refuse a folder that holds a benchmark: its cases would be mixed with the new ones."""
    if (destination / bench.TSV).exists() or (destination / bench.FOLDER).exists():
        raise UsageError(f"{destination}: holds a benchmark already; give another --out, or delete it first")


@cli.command(
    "synth",
    short_help="Generate videos of look-alikes with exact masks.",
    epilog="\b\nExample:\n  mmvm-data synth videos --videos 12 --seed 1",
)
@click.argument("directory", type=_FOLDER)
@click.option("--videos", default=12, show_default=True, help="How many; the first N of more are the same N.")
@click.option("--frames", default=synth.SynthOptions().frames, show_default=True, help="Annotated frames a video.")
@click.option("--width", default=synth.SynthOptions().width, show_default=True, help="Pixels.")
@click.option("--height", default=synth.SynthOptions().height, show_default=True, help="Pixels.")
@click.option(
    "--objects",
    nargs=2,
    type=int,
    default=synth.SynthOptions().objects,
    show_default=True,
    metavar="MIN MAX",
    help="Fewest and most objects a video.",
)
@click.option(
    "--layout",
    type=click.Choice(["ytvos", "ytvis"]),
    default="ytvos",
    show_default=True,
    help="Lay the files out as YouTube-VOS or YouTube-VIS.",
)
@click.option("--seed", default=0, show_default=True, help="Another seed, another world.")
@click.option("--workers", default=1, show_default=True, help="Processes; 0 for one a core.")
def synthesise(directory: Path, **given: Any) -> None:
    """Generate videos of moving look-alikes with exact masks, laid out as YouTube-VOS or YouTube-VIS."""
    options = synth.SynthOptions(**given | {"workers": given["workers"] or os.cpu_count() or 1})
    with console.progress_bar("videos") as bar:
        task = bar.add_task("drawing", total=options.videos, note="")
        try:
            synth.generate(directory, options, lambda done, of: bar.update(task, completed=done, total=of))
        except OSError as error:
            raise OutputError(directory, error) from error
    out.print(f"{console.pluralize(options.videos, 'video')} in {console.path_markup(directory)}")
    build = ["build", "--source", options.layout, "--root", str(directory), "--out", "BENCHMARK"]
    console.print_next_steps((build, "make cases of them"))


cli.add_command(review)
cli.add_command(commands.rationale)
cli.add_command(commands.cues)
cli.add_command(browse)
cli.add_command(audit)
cli.add_command(diff)
cli.add_command(ingest)


def main() -> None:
    """Entry point: errors as one line, never a traceback."""
    console.run_command(cli, console.COMMAND)


if __name__ == "__main__":
    main()

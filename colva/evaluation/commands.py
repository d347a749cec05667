"""The commands ``colva eval``, ``colva compare`` and ``colva task``: parse, call, tell."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from colva.evaluation import interop, lmms_task, runs
from colva.evaluation.environment import environment
from colva.evaluation.evaluate import Progress, ask_all
from colva.evaluation.models.base import PlayerOptions
from colva.evaluation.models.registry import PLAYERS, open_player
from colva.evaluation.question import LEVELS, AskOptions, Protocol
from colva.evaluation.reports.overview import write_overview
from colva.evaluation.reports.report import write_report
from colva.evaluation.reports.texts import between, percent, totals
from colva.evaluation.scoring.compare import compare_runs
from colva.evaluation.scoring.extract import MODES
from colva.evaluation.scoring.score import load_run, score_run
from mmvm_data.core.errors import OutputError, UsageError
from mmvm_data.formats.open_benchmark import open_benchmark
from mmvm_data.io import console
from mmvm_data.io.console import err, out
from mmvm_data.io.env import env_value
from mmvm_data.io.openai_client import NO_KEY, Endpoint
from mmvm_data.io.param_types import JsonObject

_DEFAULTS = PlayerOptions()
_PATH = click.Path(path_type=Path, exists=True)
_RUN = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command(
    short_help="Ask a model all questions of a benchmark.",
    epilog=(
        "\b\nExamples:\n"
        "  colva eval --bench bench --model random --out runs/random\n"
        "  colva eval --bench bench --model openai:gpt-4o --out runs/gpt-4o"
    ),
)
@click.option("--bench", required=True, type=_PATH, help="A benchmark's folder or tsv, or a data set of the Hub.")
@click.option("--model", "spec", required=True, help=f"Who answers: {', '.join(PLAYERS)}.")
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="Of the run.")
@click.option(
    "--protocol",
    type=click.Choice(["mcq", "vqa"]),
    help="Answer with a letter, or a number.  [default: mcq; vqa for a tsv with images inside]",
)
@click.option(
    "--difficulty",
    type=click.Choice([*map(str, LEVELS), "all"]),
    default="all",
    show_default=True,
    help="Keep so many candidates, the hardest.",
)
@click.option("--limit", type=click.IntRange(1), help="The first so many cases.  [default: all]")
@click.option(
    "--shuffle-options",
    "shuffles",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Ask each case so many times, its options moved round.",
)
@click.option("--why", is_flag=True, help="Ask for the reason in a second turn.")
@click.option("--suffix", default="", help="Text after each question; the published protocol has none.")
@click.option(
    "--by",
    type=click.Choice(["generation", "likelihood"]),
    default=_DEFAULTS.by,
    show_default=True,
    help="Generate text, or take the likeliest option.",
)
@click.option("--max-tokens", default=_DEFAULTS.max_tokens, show_default=True, type=click.IntRange(1), help="A reply.")
@click.option("--seed", default=_DEFAULTS.seed, show_default=True, help="Of random players and of intervals.")
@click.option(
    "--batch", default=_DEFAULTS.batch, show_default=True, type=click.IntRange(1), help="hf: questions at once."
)
@click.option("--device", default=_DEFAULTS.device, show_default=True, help="hf: cpu, cuda, cuda:1 …")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default=_DEFAULTS.dtype,
    show_default=True,
    help="hf: of the weights; auto: as they are saved.",
)
@click.option("--base-url", help="openai: the API.  [default: OPENAI_API_BASE]")
@click.option(
    "--concurrency",
    default=_DEFAULTS.concurrency,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="openai: requests under way at a time.",
)
@click.option(
    "--rpm", default=_DEFAULTS.rpm, show_default=True, type=click.IntRange(0), help="openai: a minute; 0: any."
)
@click.option(
    "--timeout", default=_DEFAULTS.timeout, show_default=True, type=click.FloatRange(0.1), help="openai: seconds."
)
@click.option(
    "--retries", default=_DEFAULTS.retries, show_default=True, type=click.IntRange(0), help="openai: further attempts."
)
@click.option(
    "--backoff",
    default=_DEFAULTS.backoff,
    show_default=True,
    type=click.FloatRange(0),
    help="openai: seconds before the second attempt.",
)
@click.option(
    "--body",
    type=JsonObject(),
    default="{}",
    help="openai: more of the request as JSON, such as '{\"temperature\": 0}'.",
)
@click.option(
    "--max-side",
    default=_DEFAULTS.max_side,
    show_default=True,
    type=click.IntRange(0),
    help="openai: longer side of the images in pixels; 0: files as they are.",
)
@click.option(
    "--extract", "mode", type=click.Choice(MODES), default=MODES[0], show_default=True, help="Text to option."
)
@click.option("--judge", help="Name of a model at an endpoint that reads what the rule cannot.")
@click.option("--judge-url", help="Its API.  [default: OPENAI_API_BASE]")
@click.option("--xlsx", is_flag=True, help="Predictions for VLMEvalKit as xlsx, too.")
@click.option("--overwrite", is_flag=True, help="Replace another run in --out.")
@click.option("--strict", is_flag=True, help="Exit with 1 when a case was left out or got no reply.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def evaluate(**given: Any) -> None:
    """Ask a model all questions of a benchmark, score its answers, and write a report.

    The same command goes on after Ctrl-C, a kill or a fault: what was answered is not asked again. The key of an
    endpoint comes from OPENAI_API_KEY, of the environment or of a file .env.
    """
    bench, folder = given["bench"], given["folder"]
    asked = _asked(given, bench)
    options = _player_options(given)
    judge = _judge(given)
    player = open_player(given["spec"], options)
    with runs.opened(folder, runs.config_of(bench, asked, player), given["overwrite"]):
        facts = environment(given["spec"])
        progress = _ask(player, bench, asked, folder, given["limit"], options)
        with console.progress_bar("verdicts") as bar:
            task_id = bar.add_task("judging", total=None, note="", visible=judge is not None)
            reading = progress.reading
            scored = score_run(
                folder,
                given["mode"],
                judge,
                workers=min(given["concurrency"], 32),
                seed=given["seed"],
                facts={
                    "benchmark": {
                        "cases": reading.cases,
                        "left_out": len(reading.left_out),
                        "notes": len(reading.notes),
                        "complete": progress.cases_read,
                    }
                },
                show=lambda done, of: bar.update(task_id, completed=done, total=of),
            )
        facts.finish(folder / runs.ENVIRONMENT, progress)
        interop.write_vlmevalkit(scored, folder, xlsx=given["xlsx"])
        write_report([(folder, scored)], folder / runs.REPORT, {folder: bench})
    if given["as_json"]:
        click.echo(json.dumps(dict(scored.summary), indent=1, ensure_ascii=False))
    else:
        _tell(folder, progress, scored.summary)
    if given["strict"] and (progress.reading.left_out or progress.faults):
        sys.exit(1)


def _asked(given: dict[str, Any], bench: Path) -> AskOptions:
    return AskOptions(
        protocol=_protocol(given["protocol"], bench),
        difficulty=None if given["difficulty"] == "all" else int(given["difficulty"]),
        shuffles=given["shuffles"],
        why=given["why"],
        suffix=given["suffix"],
    )


def _protocol(given: str | None, bench: Path) -> Protocol:
    if given is None:
        return "mcq" if open_benchmark(bench).has_regions else "vqa"
    return "vqa" if given == "vqa" else "mcq"


def _player_options(given: dict[str, Any]) -> PlayerOptions:
    names = ("seed", "by", "batch", "max_tokens", "device", "dtype", "base_url", "concurrency", "rpm", "body")
    more = ("timeout", "retries", "backoff", "max_side")
    return PlayerOptions(**{name: given[name] for name in (*names, *more)})


def _judge(given: dict[str, Any]) -> Endpoint | None:
    if not given["judge"]:
        return None
    url = given["judge_url"] or env_value("OPENAI_API_BASE")
    if not url:
        raise UsageError("--judge needs --judge-url URL, or OPENAI_API_BASE in the environment or in .env")
    return Endpoint(
        url=url,
        model=given["judge"],
        key=env_value("OPENAI_API_KEY") or NO_KEY,
        max_tokens=16,
        body={"temperature": 0},
        **{name: given[name] for name in ("timeout", "retries", "backoff")},
    )


def _ask(
    player: Any, bench: Path, asked: AskOptions, folder: Path, limit: int | None, options: PlayerOptions
) -> Progress:
    with console.progress_bar("questions") as bar:
        task_id = bar.add_task("asking", total=None, note="")

        def show(state: Progress) -> None:
            note = f"{state.kept} kept, {len(state.faults)} without a reply"
            bar.update(task_id, completed=state.kept + state.replies + len(state.faults), note=note)

        try:
            return ask_all(player, bench, asked, folder, limit, options, show)
        except KeyboardInterrupt:
            bar.stop()
            options.stop.set()
            err.print("stopped; what was answered is kept, the same command goes on from there")
            raise


def _tell(folder: Path, progress: Progress, summary: Any) -> None:
    out.print(f"[bold]{escape(summary['model'])}[/]: {escape(totals(summary))}")
    table = Table(box=None, show_header=True, header_style="dim")
    for name in ("", "right", "95 % interval", "cases"):
        table.add_column(name, justify="left" if not name else "right")
    for name, group in summary["by"]["type"].items():
        table.add_row(escape(name), percent(group["value"]), between(group), str(group["n"]))
    out.print(table)
    if progress.kept:
        out.print(f"{console.pluralize(progress.kept, 'answer')} of an earlier run kept, {progress.replies} new")
    for where, what in progress.reading.left_out[:5]:
        out.print(f"[yellow]left out[/] {escape(where)}: {escape(what)}")
    for question, _, reason in progress.faults[:5]:
        out.print(f"[yellow]no reply[/] {escape(question.id)}: {escape(reason)}")
    if progress.reading.left_out:
        out.print(f"{len(progress.reading.left_out)} cases left out: {console.path_markup(folder / runs.LEFT_OUT)}")
    if progress.faults:
        out.print(f"{len(progress.faults)} without a reply: {console.path_markup(folder / runs.FAULTS)}")
        out.print("the same command asks for these again, and for nothing else")
    out.print(f"open {console.path_markup(folder / runs.REPORT)} in a browser")


@click.command(
    short_help="Compare runs over the same cases.",
    epilog=(
        "\b\nExamples:\n"
        "  colva eval --bench bench --model random --out runs/random\n"
        "  colva eval --bench bench --model largest --out runs/largest\n"
        "  colva compare runs/random runs/largest --out comparison.html"
    ),
)
@click.argument("folders", nargs=-1, required=True, type=_RUN, metavar="RUN RUN...")
@click.option("--out", "destination", type=click.Path(path_type=Path, dir_okay=False), help="Write a report as HTML.")
@click.option("--seed", default=0, show_default=True, help="Of the intervals.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def compare(folders: tuple[Path, ...], destination: Path | None, seed: int, as_json: bool) -> None:
    """Compare runs over the cases that they share, each with the first: differences with intervals, McNemar's test."""
    if len(folders) < 2:
        raise UsageError("compare needs two runs or more")
    scored = [(folder, load_run(folder)) for folder in folders]
    found = compare_runs([run for _, run in scored], seed)
    if destination is not None:
        benches = {folder: Path(str(runs.read_json(folder / runs.RUN)["bench"])) for folder in folders}
        write_report(scored, destination, benches, found)
    if as_json:
        click.echo(json.dumps([c.to_json() for c in found], indent=1, ensure_ascii=False))
        return
    for comparison in found:
        _tell_comparison(comparison)
    if destination is not None:
        out.print(f"open {console.path_markup(destination)} in a browser")


def _tell_comparison(c: Any) -> None:
    d = c.overall
    out.print(f"[bold]{escape(c.second)}[/] against [bold]{escape(c.first)}[/], {d.n} cases that both answered")
    for note in c.notes:
        out.print(f"[yellow]note[/]: {escape(note)}")
    table = Table(box=None, header_style="dim")
    for name in ("", c.first, c.second, "difference", "95 % interval", "only first / second", "p", "p, Holm"):
        table.add_column(escape(name), justify="right" if name else "left")
    for name, row in (("overall", d), *c.types.items()):
        p = f"{row.test.mid_p:.3g}"
        adjusted = "" if row.adjusted is None else f"{row.adjusted:.3g}"
        table.add_row(
            escape(name),
            percent(row.first / row.n if row.n else None),
            percent(row.second / row.n if row.n else None),
            percent(row.value, signed=True),
            between(row._asdict(), signed=True),
            f"{row.test.only_first} / {row.test.only_second}",
            p,
            adjusted,
        )
    out.print(table)
    out.print("p: McNemar's mid-p; types corrected for their number by Holm's method", style="dim")


@click.command(short_help="Write a task for lmms-eval.", epilog="\b\nExample:\n  colva task bench --out task")
@click.argument("bench", type=_PATH)
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="For the task.")
@click.option("--name", default="mmvm", show_default=True, help="Of the task.")
@click.option("--protocol", type=click.Choice(["mcq", "vqa"]), help="As for eval.")
def task(bench: Path, folder: Path, name: str, protocol: str | None) -> None:
    """Write a benchmark as a task for lmms-eval: yaml, functions, questions."""
    asked = AskOptions(protocol=_protocol(protocol, bench))
    try:
        reading = lmms_task.write_task(bench, folder, name, asked)
    except OSError as error:
        raise OutputError(error.filename or folder, error) from error
    out.print(f"{console.pluralize(reading.cases, 'question')} in {console.path_markup(folder)}")
    for where, what in reading.left_out:
        out.print(f"[yellow]left out[/] {escape(where)}: {escape(what)}")
    command = ["lmms-eval", "--include_path", str(folder), "--tasks", name, "--model", "MODEL"]
    out.print(f"next: {escape(shlex.join(command))}")


@click.command(
    short_help="Write one page that leads to all runs of a folder.", epilog="\b\nExample:\n  colva overview ."
)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", "path", type=click.Path(path_type=Path, dir_okay=False), help="[default: FOLDER/index.html]")
def overview(folder: Path, path: Path | None) -> None:
    """Collect benchmarks, training runs and evaluations below FOLDER on one page: scores, curves, links."""
    path = path or folder / "index.html"
    write_overview(folder, path)
    out.print(f"open {console.path_markup(path)} in a browser")

"""The command ``colva eval``: parses, calls ``api.run_evaluation``, prints the result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from colva.evaluation import runs
from colva.evaluation.api import EvaluationOptions, EvaluationReport, run_evaluation, split_options
from colva.evaluation.ask import Progress
from colva.evaluation.models.base import ModelOptions
from colva.evaluation.models.registry import MODELS
from colva.evaluation.question import LEVELS
from colva.evaluation.reports.texts import between, percent, summary_sentence
from colva.evaluation.scoring.extract import MODES
from colva.evaluation.scoring.metrics import NO_TYPE
from mmvm_data.core.plurals import pluralize
from mmvm_data.io import console
from mmvm_data.io.console import err, escape, out
from mmvm_data.io.param_types import JsonObject

_MODEL, _EVALUATION = ModelOptions(), EvaluationOptions()
_MAX_LISTED = 5


@click.command(
    short_help="Ask a model all questions of a benchmark.",
    epilog=(
        "\b\nExamples:\n"
        "  colva eval --bench bench --model random --out runs/random\n"
        "  colva eval --bench bench --model openai:gpt-4o --out runs/gpt-4o"
    ),
)
@click.option(
    "--bench",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="Folder or tsv of a benchmark, or a data set of the Hub.",
)
@click.option("--model", required=True, help=f"Model to ask: {', '.join(MODELS)}.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the run.")
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
    help="Number of candidates to keep, the hardest.",
)
@click.option("--limit", type=click.IntRange(1), help="Number of cases, counted from the first.  [default: all]")
@click.option(
    "--shuffle-options",
    "num_variants",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of times to ask each case, its options moved round.",
)
@click.option("--why", "ask_why", is_flag=True, help="Ask for the reason in a second turn.")
@click.option("--suffix", default="", help="Text after each question; the published protocol has none.")
@click.option(
    "--answer-by",
    type=click.Choice(["generation", "likelihood"]),
    default=_MODEL.answer_by,
    show_default=True,
    help="Generate text, or take the likeliest option.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(0),
    help="Of a reply; 0: no limit is sent to an endpoint.  [default: 512; with published prompts as published]",
)
@click.option("--seed", default=_MODEL.seed, show_default=True, help="Of random answers and of intervals.")
@click.option(
    "--batch", default=_MODEL.batch, show_default=True, type=click.IntRange(1), help="Local models: questions at once."
)
@click.option("--device", default=_MODEL.device, show_default=True, help="Local models: cpu, cuda, cuda:1 …")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default=_MODEL.dtype,
    show_default=True,
    help="Local models: of the weights; auto: as they are saved.",
)
@click.option("--base-url", help="openai: URL of the API.  [default: OPENAI_API_BASE]")
@click.option(
    "--concurrency",
    default=_MODEL.concurrency,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="openai: requests at a time.",
)
@click.option(
    "--rpm",
    default=_MODEL.rpm,
    show_default=True,
    type=click.IntRange(0),
    help="openai: requests a minute, at most; 0: no limit.",
)
@click.option(
    "--timeout",
    default=_MODEL.timeout,
    show_default=True,
    type=click.FloatRange(0.1),
    help="openai: seconds for a reply.",
)
@click.option(
    "--retries",
    default=_MODEL.retries,
    show_default=True,
    type=click.IntRange(0),
    help="openai: attempts after the first.",
)
@click.option(
    "--backoff",
    default=_MODEL.backoff,
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
    default=_MODEL.max_side,
    show_default=True,
    type=click.IntRange(0),
    help="openai: longer side of the images in pixels; 0: files as they are.",
)
@click.option(
    "--extract",
    "extraction",
    type=click.Choice(MODES),
    default=_EVALUATION.extraction,
    show_default=True,
    help="Rule from text to option.",
)
@click.option("--judge", help="Name of a model at an endpoint that reads what the rule cannot.")
@click.option("--judge-url", help="URL of its API.  [default: OPENAI_API_BASE]")
@click.option("--xlsx", is_flag=True, help="Write predictions for VLMEvalKit as xlsx, too.")
@click.option("--overwrite", is_flag=True, help="Replace another run in --out, which is deleted at the end.")
@click.option("--resume", is_flag=True, help="Ask what a smaller --max-tokens has cut again, and nothing else.")
@click.option("--strict", is_flag=True, help="Exit with 1 when a case was left out or got no reply.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def evaluate(bench: Path, model: str, out: Path, difficulty: str, strict: bool, as_json: bool, **values: Any) -> None:
    """Ask a model all questions of a benchmark, score its answers, and write a report.

    The same command continues after Ctrl-C, a kill or an error: what was answered is not asked again. The key of an
    endpoint is read from OPENAI_API_KEY, in the environment or in a file .env.
    """
    values["difficulty"] = None if difficulty == "all" else int(difficulty)
    report = _run(bench, model, out, values)
    if as_json:
        click.echo(json.dumps(dict(report.summary), indent=1))
    else:
        _print_report(report)
    if strict and (report.left_out or report.failed):
        sys.exit(1)


def _run(bench: Path, model: str, run_dir: Path, values: dict[str, Any]) -> EvaluationReport:
    ask_options, model_options, evaluation_options = split_options(values, bench)
    with console.progress_bar("questions") as bar:
        questions = bar.add_task("asking", total=None, note="")
        verdicts = bar.add_task("judging", total=None, note="", visible=False)

        def show_progress(state: Progress) -> None:
            note = f"{state.kept} kept, {len(state.failed)} without a reply"
            bar.update(questions, completed=state.kept + state.replies + len(state.failed), note=note)

        def show_verdicts(done: int, total: int) -> None:
            bar.update(verdicts, completed=done, total=total, visible=True)

        try:
            return run_evaluation(
                bench, model, run_dir, ask_options, model_options, evaluation_options, show_progress, show_verdicts
            )
        except KeyboardInterrupt:
            bar.stop()
            model_options.stop.set()
            err.print("stopped; what was answered is kept, and the same command continues from there")
            raise


def _print_report(report: EvaluationReport) -> None:
    progress, run_dir = report.progress, report.run_dir
    out.print(f"[bold]{escape(report.model)}[/]: {escape(summary_sentence(report.summary))}")
    by_type = report.summary["by"]["type"]
    if set(by_type) - {NO_TYPE}:
        table = Table(box=None, show_header=True, header_style="dim")
        for name in ("match type", "right", "95 % interval", "cases"):
            table.add_column(name, justify="left" if name == "match type" else "right")
        for name, group in by_type.items():
            table.add_row(escape(name), percent(group["value"]), between(group), str(group["n"]))
        out.print(table)
    if progress.kept:
        out.print(f"{pluralize(progress.kept, 'answer')} of an earlier run kept, {progress.replies} new")
    for where, what in report.left_out[:_MAX_LISTED]:
        out.print(f"[yellow]left out[/] {escape(where)}: {escape(what)}")
    for question, _, reason in report.failed[:_MAX_LISTED]:
        out.print(f"[yellow]no reply[/] {escape(question.id)}: {escape(reason)}")
    if cut := report.summary["truncated"]:
        out.print(f"[yellow]cut at the limit of tokens[/] {escape(', '.join(cut[:_MAX_LISTED]))}")
        out.print(f"{len(cut)} cut; a larger --max-tokens with --resume asks these again, and nothing else")
    if report.left_out:
        out.print(f"{pluralize(len(report.left_out), 'case')} left out: {console.path_markup(run_dir / runs.LEFT_OUT)}")
    if report.failed:
        out.print(f"{len(report.failed)} without a reply: {console.path_markup(run_dir / runs.ERRORS)}")
        out.print("the same command asks these again, and nothing else")
    out.print(f"open {console.path_markup(report.html_path)} in a browser")

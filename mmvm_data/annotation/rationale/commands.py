"""The commands ``mmvm-data rationale`` and ``mmvm-data cues``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mmvm_data.annotation.rationale.cue_proposals import write_cues
from mmvm_data.annotation.rationale.generate import FAILURES, preview_prompt, write_rationales
from mmvm_data.annotation.rationale.selection import RationaleOptions, RationaleProgress, count_cases
from mmvm_data.core.errors import UsageError
from mmvm_data.core.plurals import pluralize
from mmvm_data.io import console
from mmvm_data.io.console import err, escape, escape_lines, out
from mmvm_data.io.env import env_value
from mmvm_data.io.openai_client import NO_KEY, Endpoint
from mmvm_data.io.param_types import EXISTING_FOLDER, JsonObject


@click.command(
    short_help="Write why each answer is right.",
    epilog=(
        "\b\nExamples:\n"
        "  mmvm-data rationale bench\n"
        "  mmvm-data rationale bench --endpoint http://localhost:8000/v1 --model MODEL --limit 20"
    ),
)
@click.argument("directory", type=EXISTING_FOLDER)
@click.option("--endpoint", "url", help="OpenAI-compatible API, such as http://localhost:8000/v1.")
@click.option("--model", help="Name of the model there. Without both: a template, filled from cues.")
@click.option("--concurrency", default=8, show_default=True, type=click.IntRange(1, 256), help="Concurrent requests.")
@click.option("--timeout", default=120.0, show_default=True, type=click.FloatRange(0.1), help="Seconds per reply.")
@click.option("--retries", default=5, show_default=True, type=click.IntRange(0), help="Further attempts per case.")
@click.option(
    "--backoff", default=1.0, show_default=True, type=click.FloatRange(0), help="Seconds before the second attempt."
)
@click.option(
    "--max-tokens", default=400, show_default=True, type=click.IntRange(0), help="Limit of a reply; 0 sends no limit."
)
@click.option(
    "--body", type=JsonObject(), default="{}", help="More fields of the request, such as '{\"temperature\": 0}'."
)
@click.option("--price-in", type=click.FloatRange(0), help="Price of a million prompt tokens, in any currency.")
@click.option("--price-out", type=click.FloatRange(0), help="Price of a million reply tokens.")
@click.option("--limit", type=click.IntRange(1), help="Maximum number of cases.")
@click.option("--replace", is_flag=True, help="Also replace rationales of another model.")
@click.option("--retry-failed", is_flag=True, help="Ask again where the check rejected a reply.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="[default: DIRECTORY/.rationales]")
@click.option("--seed", default=0, show_default=True, help="Other seeds give other phrasings of the template.")
@click.option("--dry-run", is_flag=True, help="Print what would be asked; nothing is sent or written.")
@click.option("--strict", is_flag=True, help="Exit with 1 when some cases have no rationale.")
def rationale(
    directory: Path,
    price_in: float | None,
    price_out: float | None,
    dry_run: bool,
    strict: bool,
    **arguments: Any,
) -> None:
    """Write why each answer is right, with a model that sees the drawn images or with a template.

    The key is read from OPENAI_API_KEY and, with --model alone, the address from OPENAI_API_BASE, in the environment or
    in a file .env. What a person wrote or accepted is never replaced. The same command resumes after an interruption;
    replies that arrived are not requested again.
    """
    options = RationaleOptions(
        endpoint=_create_endpoint(arguments),
        **{name: arguments[name] for name in ("concurrency", "limit", "replace", "retry_failed", "cache", "seed")},
    )
    if dry_run:
        _print_plan(directory, options)
        return
    with console.progress_bar("cases") as bar:
        task = bar.add_task("rationales", total=None, note="")

        def on_progress(progress: RationaleProgress) -> None:
            note = f"{pluralize(progress.tokens_in + progress.tokens_out, 'token')}, {len(progress.failures)} failed"
            bar.update(task, completed=progress.done, total=progress.total, note=note)

        try:
            result = write_rationales(directory, options, on_progress)
        except KeyboardInterrupt:
            bar.stop()
            err.print("stopped; received replies are kept, and the same command resumes")
            raise
    _print_result(directory, result, options, price_in, price_out)
    if strict and result.failures:
        sys.exit(1)


def _create_endpoint(arguments: dict[str, Any]) -> Endpoint | None:
    url, model = arguments["url"], arguments["model"]
    if not url and not model:
        return None
    url = url or env_value("OPENAI_API_BASE")
    if not url:
        raise UsageError("--model needs --endpoint URL, or OPENAI_API_BASE in the environment or in .env")
    if not model:
        raise UsageError("--endpoint needs --model NAME")
    return Endpoint(
        url=url,
        model=model,
        key=env_value("OPENAI_API_KEY") or NO_KEY,
        **{name: arguments[name] for name in ("timeout", "retries", "backoff", "max_tokens", "body")},
    )


def _print_plan(directory: Path, options: RationaleOptions) -> None:
    counts = count_cases(directory, options)
    author = escape(options.endpoint.model) if options.endpoint else "template"
    of_all = pluralize(counts.cases, "rationale")
    out.print(f"[bold]{counts.total}[/] of {of_all} would be written by {author}; {_skipped(counts)}")
    if options.endpoint and (prompt := preview_prompt(directory, options)):
        out.print(f"the first prompt (about {pluralize(len(prompt) // 4, 'token')}, without its images):\n")
        click.echo(escape_lines(prompt))


def _skipped(counts: RationaleProgress) -> str:
    return f"skipped: {counts.human} by people, {counts.present} by a model, {counts.rejected} rejected"


def _print_result(
    directory: Path,
    result: RationaleProgress,
    options: RationaleOptions,
    price_in: float | None,
    price_out: float | None,
) -> None:
    author = escape(options.endpoint.model) if options.endpoint else "template"
    out.print(
        f"[bold]{pluralize(result.written, 'rationale')}[/] by {author} for {pluralize(result.total, 'case')}, "
        f"{pluralize(len(result.changed), 'case')} changed in {console.path_markup(directory)}; "
        f"{_skipped(result)}"
    )
    if options.endpoint:
        cost = ""
        if price_in is not None or price_out is not None:
            price = (result.tokens_in * (price_in or 0) + result.tokens_out * (price_out or 0)) / 1e6
            cost = f", cost {price:.4f}"
        out.print(
            f"{pluralize(result.requests, 'request')}, {pluralize(result.cached, 'reply', 'replies')} from the cache, "
            f"{pluralize(result.tokens_in, 'token')} in, "
            f"{result.tokens_out} out{cost}"
        )
    for case, reason in result.failures[:5]:
        out.print(f"[yellow]{escape(case)}[/]: {escape(reason)}")
    if result.failures:
        failures = console.path_markup(directory / FAILURES)
        out.print(f"{pluralize(len(result.failures), 'case')} without a rationale: {failures}")
        if options.endpoint:
            out.print("the same command retries cases without a reply; --retry-failed also retries rejected replies")
    console.print_next_steps(
        (["report", str(directory)], "look at it"),
        (["export", str(directory), "--to", "sft", "--out", "train"], "conversations with rationales"),
    )


@click.command(
    short_help="Propose match types, with evidence.", epilog="\b\nExample:\n  mmvm-data cues bench --root YouTube-VOS"
)
@click.argument("directory", type=EXISTING_FOLDER)
@click.option(
    "--root", type=click.Path(path_type=Path, exists=True), help="The source, to measure neighbors and motion."
)
def cues(directory: Path, root: Path | None) -> None:
    """Propose match types: what distinguishes each answer from the other candidates."""
    with console.progress_bar("cases") as bar:
        task = bar.add_task("cues", total=None, note="")
        summary = write_cues(
            directory, root, lambda cases, types: bar.update(task, completed=cases, note=pluralize(types, "proposal"))
        )
    for case, reason in summary.failures[:5]:
        out.print(f"[yellow]{escape(case)}[/]: {escape(reason)}")
    types = ", ".join(f"{name} {number}" for name, number in summary.types.items() if number) or "none"
    proposals = pluralize(sum(summary.types.values()), "proposal")
    out.print(
        f"[bold]{proposals}[/] for {pluralize(summary.cases, 'case')} ({types}), "
        f"{pluralize(len(summary.changed), 'case')} changed in {console.path_markup(directory)}, "
        f"{len(summary.failures)} could not be measured"
    )
    console.print_next_steps((["rationale", str(directory)], "write why each answer is right"))

"""The commands ``mmvm-data rationale`` and ``mmvm-data cues``: parse, call, tell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from mmvm_data.annotation.rationale import cue_set
from mmvm_data.annotation.rationale.generate import (
    FAILURES,
    RationaleOptions,
    Tally,
    count,
    first_prompt,
    write_rationales,
)
from mmvm_data.core.errors import UsageError
from mmvm_data.io import console
from mmvm_data.io.console import err, out
from mmvm_data.io.env import env_value
from mmvm_data.io.openai_client import NO_KEY, Endpoint
from mmvm_data.io.param_types import JsonObject

_EXISTING = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command(
    short_help="Write why each answer is right.",
    epilog=(
        "\b\nExamples:\n"
        "  mmvm-data rationale bench\n"
        "  mmvm-data rationale bench --endpoint http://localhost:8000/v1 --model MODEL --limit 20"
    ),
)
@click.argument("directory", type=_EXISTING)
@click.option("--endpoint", "url", help="OpenAI-compatible API, such as http://localhost:8000/v1.")
@click.option("--model", help="Its name at the endpoint. Without both: by template, from cues.")
@click.option("--concurrency", default=8, show_default=True, type=click.IntRange(1, 256), help="Requests at a time.")
@click.option("--timeout", default=120.0, show_default=True, type=click.FloatRange(0.1), help="Seconds for a reply.")
@click.option("--retries", default=5, show_default=True, type=click.IntRange(0), help="Further attempts a case.")
@click.option(
    "--backoff", default=1.0, show_default=True, type=click.FloatRange(0), help="Seconds before the second attempt."
)
@click.option("--max-tokens", default=400, show_default=True, type=click.IntRange(0), help="Of a reply; 0: not sent.")
@click.option(
    "--body", type=JsonObject(), default="{}", help="More of the request as JSON, such as '{\"temperature\": 0}'."
)
@click.option("--price-in", type=click.FloatRange(0), help="Price of a million tokens of prompts, in any currency.")
@click.option("--price-out", type=click.FloatRange(0), help="Price of a million tokens of replies.")
@click.option("--limit", type=click.IntRange(1), help="Work on so many cases at most.")
@click.option("--replace", is_flag=True, help="Also where another model's rationale is there.")
@click.option("--retry-failed", is_flag=True, help="Ask again where the check refused a reply.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="[default: DIRECTORY/.rationales]")
@click.option("--dry-run", is_flag=True, help="Say what would be asked; nothing is sent or written.")
@click.option("--strict", is_flag=True, help="Exit with 1 when some cases got no rationale.")
def rationale(directory: Path, **given: Any) -> None:
    """Write why each answer is right: by a model that sees the drawn images, or by template.

    The key comes from OPENAI_API_KEY, and with --model alone the address from OPENAI_API_BASE, of the environment or of
    a file .env. What a person wrote or accepted is never replaced. After a kill the same command goes on: a reply that
    came is not asked for again.
    """
    options = RationaleOptions(
        endpoint=_endpoint(given),
        **{name: given[name] for name in ("concurrency", "limit", "replace", "retry_failed", "cache")},
    )
    if given["dry_run"]:
        _tell_plan(directory, options)
        return
    with console.progress_bar("cases") as bar:
        task = bar.add_task("rationales", total=None, note="")

        def show(tally: Tally) -> None:
            note = f"{tally.tokens_in + tally.tokens_out} tokens, {len(tally.failures)} failed"
            bar.update(task, completed=tally.done, total=tally.total, note=note)

        try:
            tally = write_rationales(directory, options, show)
        except KeyboardInterrupt:
            bar.stop()
            err.print("stopped; replies that came are kept, the same command goes on from there")
            raise
    _tell(directory, tally, options, given["price_in"], given["price_out"])
    if given["strict"] and tally.failures:
        sys.exit(1)


def _endpoint(given: dict[str, Any]) -> Endpoint | None:
    if not given["url"] and not given["model"]:
        return None
    url = given["url"] or env_value("OPENAI_API_BASE")
    if not url:
        raise UsageError("--model needs --endpoint URL, or OPENAI_API_BASE in the environment or in .env")
    if not given["model"]:
        raise UsageError("--endpoint needs --model NAME")
    return Endpoint(
        url=url,
        model=given["model"],
        key=env_value("OPENAI_API_KEY") or NO_KEY,
        **{name: given[name] for name in ("timeout", "retries", "backoff", "max_tokens", "body")},
    )


def _tell_plan(directory: Path, options: RationaleOptions) -> None:
    tally = count(directory, options)
    how = f"asked of {escape(options.endpoint.model)}" if options.endpoint else "filled in by template"
    out.print(f"[bold]{tally.total}[/] of {tally.cases} cases would be {how}; {_alone(tally)}")
    if options.endpoint and (text := first_prompt(directory, options)):
        out.print(f"the first one (about {len(text) // 4} tokens and its images):\n")
        click.echo(text)


def _alone(tally: Tally) -> str:
    return f"left alone: {tally.human} by people, {tally.present} by a model, {tally.rejected} rejected"


def _tell(
    directory: Path, tally: Tally, options: RationaleOptions, price_in: float | None, price_out: float | None
) -> None:
    """What was done, where it is, and what to type next."""
    where = console.path_markup(directory)
    how = f"by {escape(options.endpoint.model)}" if options.endpoint else "by template"
    out.print(
        f"[bold]{tally.written} rationales[/] {how} of {tally.total} cases, {len(tally.changed)} new in {where}; "
        f"{_alone(tally)}"
    )
    if options.endpoint:
        cost = ""
        if price_in is not None or price_out is not None:
            price = (tally.tokens_in * (price_in or 0) + tally.tokens_out * (price_out or 0)) / 1e6
            cost = f", cost {price:.4f}"
        out.print(
            f"{tally.requests} requests, {tally.cached} replies from the cache, {tally.tokens_in} tokens in, "
            f"{tally.tokens_out} out{cost}"
        )
    for case, reason in tally.failures[:5]:
        out.print(f"[yellow]{escape(case)}[/]: {escape(reason)}")
    if tally.failures:
        out.print(
            f"{console.pluralize(len(tally.failures), 'case')} without: {console.path_markup(directory / FAILURES)}"
        )
        if options.endpoint:
            out.print("the same command asks again for what got no reply, with --retry-failed for what was refused too")
    console.print_next_steps(
        (["report", str(directory)], "look at it"),
        (["export", str(directory), "--to", "sft", "--out", "train"], "conversations that say why"),
    )


@click.command(
    short_help="Propose match types, with evidence.", epilog="\b\nExample:\n  mmvm-data cues bench --root YouTube-VOS"
)
@click.argument("directory", type=_EXISTING)
@click.option("--root", type=click.Path(path_type=Path, exists=True), help="The source: also neighbours and motion.")
def cues(directory: Path, root: Path | None) -> None:
    """Propose match types: by what can each answer be told from the other candidates?"""
    with console.progress_bar("cases") as bar:
        task = bar.add_task("cues", total=None, note="")
        done = cue_set.write_cues(
            directory, root, lambda n, types: bar.update(task, completed=n, note=f"{types} proposals")
        )
    for case, reason in done.failures[:5]:
        out.print(f"[yellow]{escape(case)}[/]: {escape(reason)}")
    kinds = ", ".join(f"{name} {n}" for name, n in done.types.items())
    where = console.path_markup(directory)
    out.print(
        f"[bold]{sum(done.types.values())} proposals[/] for {done.cases} cases ({kinds or 'none'}), "
        f"{len(done.changed)} cases new in {where}, {len(done.failures)} could not be measured"
    )
    console.print_next_steps((["rationale", str(directory)], "say why each answer is right"))

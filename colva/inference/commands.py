"""`colva chat`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO, Any

import click

from colva.evaluation.scoring.extract import extract_option
from mmvm_data.cases import prompts
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.formats import bench
from mmvm_data.formats.conversations import WHY
from mmvm_data.io import console
from mmvm_data.io.console import err, out
from mmvm_data.io.files import atomic_write

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command(
    short_help="Ask a model about a case, or about pictures of your own.",
    epilog=(
        "\b\nExamples:\n"
        "  colva init-tiny toy\n"
        "  colva chat toy --case bench/match_bench/case_000000 --why --max-new-tokens 16"
    ),
)
@click.argument("model", type=_FOLDER)
@click.option("--case", "folder", type=_FOLDER, help="A case folder, such as benchmark/match_bench/case_000000.")
@click.option(
    "--image", "images", type=_FILE, multiple=True, help="In place of a case: a picture; the last has the candidates."
)
@click.option(
    "--mask",
    "masks",
    type=_FILE,
    multiple=True,
    help="A PNG for each picture: not 0 is the query; numbers are candidates.",
)
@click.option("--ask", "question", help="Ask this instead of the case's question.")
@click.option("--why", is_flag=True, help="Then ask for the reason.")
@click.option("--more", is_flag=True, help="Go on with what you type, a line each, until the input ends.")
@click.option("--bench", "benchmark", type=_FOLDER, help="Batch mode: every case of a benchmark.")
@click.option(
    "--out",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Batch mode: where the answers go, one JSON a line.",
)
@click.option(
    "--how",
    type=click.Choice(["likelihood", "generate"]),
    default="likelihood",
    show_default=True,
    help="Batch mode: score every option at once, or let the model write.",
)
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="With --bench.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True, help="Of each reply.")
@click.option("--device", help="cpu, cuda, cuda:1 …  [default: a GPU if there is one]")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="[default: as stored]")
def chat(
    model: Path,
    folder: Path | None,
    images: tuple[Path, ...],
    masks: tuple[Path, ...],
    question: str | None,
    why: bool,
    more: bool,
    benchmark: Path | None,
    target: Path | None,
    how: str,
    batch_size: int,
    max_new_tokens: int,
    device: str | None,
    dtype: str | None,
) -> None:
    """Ask a CoLVA model about one case; the answer appears as it is written. With --bench, about many at once."""
    given = sum((folder is not None, bool(images or masks), benchmark is not None))
    if given != 1:
        raise UsageError("say what to ask about: --case, or --image and --mask, or --bench; one of the three")
    if (benchmark is None) != (target is None):
        raise UsageError("--bench and --out go together")
    from colva.inference import chat as talk
    from colva.model import load

    if benchmark is None:
        # before the model, which takes longer: a wrong path is told at once
        case = talk.find_case(folder) if folder else talk.case_from_files(images, masks)
        _one(talk.Chat(load(model, device=device or "auto", dtype=dtype), case), question, why, more, max_new_tokens)
    else:
        assert target is not None
        _many(
            load(model, device=device or "auto", dtype=dtype),
            benchmark,
            target,
            how,
            batch_size,
            max_new_tokens,
            model.name,
        )


def _one(talk: Any, question: str | None, why: bool, more: bool, max_new_tokens: int) -> None:
    from transformers import TextStreamer

    streamer = TextStreamer(talk.model.processor.vocabulary.tokenizer, skip_prompt=True, skip_special_tokens=True)
    talk.ask(question, streamer=streamer, max_new_tokens=max_new_tokens)
    lines: list[str] | IO[str] = [WHY] if why else []
    for line in lines:
        talk.ask(line, streamer=streamer, max_new_tokens=max_new_tokens)
    if more:
        err.print("[dim]go on; an empty line ends it[/]")
        for line in sys.stdin:
            if not line.strip():
                break
            talk.ask(line.strip(), streamer=streamer, max_new_tokens=max_new_tokens)


def _many(model: Any, benchmark: Path, target: Path, how: str, batch_size: int, max_new_tokens: int, name: str) -> None:
    problems: list[Any] = []
    cases = list(bench.read(benchmark, problems))
    for problem in problems:
        err.print(f"[yellow]left out[/]: {problem.where}: {problem.what}", highlight=False)
    options = {} if how == "likelihood" else {"max_new_tokens": max_new_tokens}
    hits = asked = 0
    with atomic_write(target) as handle, console.progress_bar("cases") as bar:
        task = bar.add_task("asking", total=len(cases), note="")
        for at in range(0, len(cases), 8 * batch_size):
            part = cases[at : at + 8 * batch_size]
            try:
                answers = model.answer(part, benchmark, how, batch_size, **options)
            except ValueError as error:
                raise InputError(benchmark, str(error)) from error
            for case, answer in zip(part, answers, strict=True):
                choices = prompts.choice_texts(case.options)
                letter = answer.text if answer.scores else extract_option(answer.text, choices)
                asked, hits = asked + 1, hits + (letter == case.letter)
                record = {"id": case.id, "model": name, "answer": letter, "text": answer.text}
                handle.write(json.dumps(record, ensure_ascii=False) + "\n")
            bar.update(task, advance=len(part))
    out.print(f"{hits} of {asked} right; answers in {console.path_markup(target)}", highlight=False)
    console.print_next_steps(
        (["browse", str(benchmark), "--predictions", str(target)], "look at them beside the truth")
    )

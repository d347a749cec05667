"""`colva chat`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmvm_data.cases import prompts
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.plurals import pluralize
from mmvm_data.formats import bench
from mmvm_data.formats.conversations import WHY
from mmvm_data.io import console
from mmvm_data.io.console import err, escape, escape_lines, out
from mmvm_data.io.files import atomic_write

if TYPE_CHECKING:
    from colva.inference.answer import AnswerBy
    from colva.inference.chat import Chat
    from colva.model.colva import ColvaModel

ExtractOption = Callable[[str, Mapping[str, str]], str | None]
"""From a generated text and letter -> text of each option to the letter that the text means, or None."""

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command(
    short_help="Ask a model about a case, or about images of your own.",
    epilog=(
        "\b\nExamples:\n"
        "  colva init-tiny toy\n"
        "  colva chat toy --case bench/match_bench/case_000000 --why --max-new-tokens 16"
    ),
)
@click.argument("model", type=_FOLDER)
@click.option("--case", "folder", type=_FOLDER, help="A case folder, such as benchmark/match_bench/case_000000.")
@click.option(
    "--image", "images", type=_FILE, multiple=True, help="In place of a case: an image; the last has the candidates."
)
@click.option(
    "--mask",
    "masks",
    type=_FILE,
    multiple=True,
    help="A PNG for each image: not 0 is the query; numbers are candidates.",
)
@click.option("--ask", "question", help="Ask this instead of the case's question.")
@click.option("--why", is_flag=True, help="Then ask for the reason.")
@click.option("--more", is_flag=True, help="Then ask what you type, a line each, until the input ends.")
@click.option("--bench", "benchmark", type=_FOLDER, help="Batch mode: every case of a benchmark.")
@click.option(
    "--out",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Batch mode: where the answers go, one JSON a line.",
)
@click.option(
    "--answer-by",
    type=click.Choice(["generation", "likelihood"]),
    default="likelihood",
    show_default=True,
    help="Batch mode: score every option in one forward, or generate text.",
)
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="With --bench.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True, help="Of each reply.")
@click.option("--device", help="cpu, cuda, cuda:1 …  [default: a GPU if there is one]")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="[default: as stored]")
@click.pass_obj
def chat(
    extract_option: ExtractOption,
    model: Path,
    folder: Path | None,
    images: tuple[Path, ...],
    masks: tuple[Path, ...],
    question: str | None,
    why: bool,
    more: bool,
    benchmark: Path | None,
    target: Path | None,
    answer_by: AnswerBy,
    batch_size: int,
    max_new_tokens: int,
    device: str | None,
    dtype: str | None,
) -> None:
    """Ask a CoLVA model about one case; the answer appears as it is written. With --bench, about many at once."""
    if sum((folder is not None, bool(images or masks), benchmark is not None)) != 1:
        raise UsageError("say what to ask about: --case, or --image and --mask, or --bench; one of the three")
    if (benchmark is None) != (target is None):
        raise UsageError("--bench and --out go together")
    from colva.checkpoints.load import load
    from colva.inference.chat import Chat, case_from_files, find_case

    if benchmark is None or target is None:
        # before the model, which takes longer to load: a wrong path is reported at once
        case = find_case(folder) if folder else case_from_files(images, masks)
        loaded = load(model, device=device or "auto", dtype=dtype)
        _run_chat(Chat(loaded, case), question, why, more, max_new_tokens)
    else:
        loaded = load(model, device=device or "auto", dtype=dtype)
        options = {} if answer_by == "likelihood" else {"max_new_tokens": max_new_tokens}
        _answer_benchmark(loaded, model.name, benchmark, target, extract_option, answer_by, batch_size, options)


def _run_chat(chat: Chat, question: str | None, why: bool, more: bool, max_new_tokens: int) -> None:
    """Ask the question, then the reason, then what the user types; replies are printed as they are generated."""
    from transformers import TextStreamer

    class Streamer(TextStreamer):  # type: ignore[misc]
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            super().on_finalized_text(escape_lines(text), stream_end)

    tokenizer = chat.model.processor.vocabulary.tokenizer
    streamer = Streamer(tokenizer, skip_prompt=True, skip_special_tokens=True)

    def ask(text: str | None) -> None:
        chat.ask(text, streamer=streamer, max_new_tokens=max_new_tokens)
        if chat.is_truncated:
            err.print(f"[yellow]cut[/] at {pluralize(max_new_tokens, 'token')}, the limit that --max-new-tokens sets")

    ask(question)
    if why:
        ask(WHY)
    if more:
        err.print("[dim]type a question a line; an empty line ends the chat[/]")
        for line in sys.stdin:
            if not line.strip():
                break
            ask(line.strip())


def _answer_benchmark(
    model: ColvaModel,
    name: str,
    benchmark: Path,
    target: Path,
    extract_option: ExtractOption,
    answer_by: AnswerBy,
    batch_size: int,
    options: Mapping[str, Any],
) -> None:
    """Answer every case of a benchmark, write one JSON object a line to `target`, and print the number of hits."""
    from colva.inference.answer import answer_cases

    rejects: list[Any] = []
    cases = list(bench.read(benchmark, rejects))
    for reject in rejects:
        err.print(f"[yellow]left out[/]: {escape(reject.where)}: {escape(reject.what)}")
    hits = count = cut = 0
    with atomic_write(target) as handle, console.progress_bar("cases") as bar:
        task = bar.add_task("asking", total=len(cases), note="")
        for start in range(0, len(cases), 8 * batch_size):
            chunk = cases[start : start + 8 * batch_size]
            try:
                answers = answer_cases(model, chunk, benchmark, answer_by, batch_size, **options)
            except ValueError as error:
                raise InputError(benchmark, str(error)) from error
            for case, answer in zip(chunk, answers, strict=True):
                letter: str | None = answer.text
                if answer.scores is None:
                    letter = extract_option(answer.text, prompts.choice_texts(case.options))
                count, hits, cut = count + 1, hits + (letter == case.letter), cut + answer.truncated
                record = {"id": case.id, "model": name, "answer": letter, "text": answer.text}
                handle.write(json.dumps(record, ensure_ascii=False) + "\n")
            bar.update(task, advance=len(chunk))
    if cut:
        err.print(f"{cut} cut at {pluralize(options['max_new_tokens'], 'token')}, the limit that --max-new-tokens sets")
    out.print(f"{hits} of {count} correct; answers in {console.path_markup(target)}", highlight=False)
    console.print_next_steps(
        (["browse", str(benchmark), "--predictions", str(target)], "look at them beside the truth")
    )

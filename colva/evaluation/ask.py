"""Ask a model all questions of a benchmark that it has not answered yet."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from colva.evaluation import runs
from colva.evaluation.benchmark import LoadReport, load_questions
from colva.evaluation.models.base import ModelAdapter, ModelOptions, Reply
from colva.evaluation.question import AskOptions, Question
from mmvm_data.core.errors import InputError
from mmvm_data.formats.bench_read import Problem
from mmvm_data.io.openai_client import EndpointError

_REPLY_FIELDS = {"reply", "scores", "why", "truncated", "withheld", "tokens_in", "tokens_out"}
_MAX_ERRORS_IN_A_ROW = 10
"""Errors without a reply between them, after which the endpoint counts as down, or as rejecting all questions."""


class FailedRequest(NamedTuple):
    """A question, its key, and why it got no reply."""

    question: Question
    key: str
    error: str


@dataclass
class Progress:
    """Counts of a run so far.

    Attributes:
        report: of reading the benchmark.
        questions: asked, or answered by an earlier run.
        kept: answered by an earlier run.
        replies: of this run.
        is_complete: the whole benchmark was read (no limit ended it early).
        tokens_in, tokens_out: of this run's replies.
        order: keys of the questions in the benchmark's order.
        failed: questions without a reply.
    """

    report: LoadReport = field(default_factory=LoadReport)
    questions: int = 0
    kept: int = 0
    replies: int = 0
    is_complete: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    order: list[str] = field(default_factory=list)
    failed: list[FailedRequest] = field(default_factory=list)


OnProgress = Callable[[Progress], None]
_KeyedQuestion = tuple[Question, str]
_AnsweredBatch = tuple[Sequence[_KeyedQuestion], list[Reply]]


def ask_questions(
    model: ModelAdapter,
    bench: Path,
    ask_options: AskOptions,
    run_dir: Path,
    limit: int | None = None,
    model_options: ModelOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> Progress:
    """Ask the questions, and write each reply to ``predictions.jsonl`` of the run's folder as it comes.

    Questions whose key is there already are not asked again, except those that were cut at a smaller limit of tokens,
    where a run was resumed with a larger one. At the end the file is in the benchmark's order, so that
    two runs of the same model give the same bytes, whatever the order of their replies.

    Args:
        model: answers.
        bench: see ``benchmark.load_questions``.
        ask_options: how cases are asked about.
        run_dir: of the run, opened with ``runs.open_run``.
        limit: maximal number of cases, counted from the first.
        model_options: their ``stop`` is set when the run ends early.
        on_progress: called after the replies of each call.

    Raises:
        InputError, UsageError: from the benchmark or the model; the replies until then are kept.
        EndpointError: ten questions in a row got no reply.
    """
    progress = Progress()
    path = run_dir / runs.PREDICTIONS
    known = {key: prediction.truncated for key, prediction in runs.load_known_predictions(run_dir).items()}
    base_dirs = [run_dir, bench if bench.is_dir() else bench.parent]
    with open(path, "a", encoding="utf-8") as handle:
        pending = _pending_questions(model, bench, ask_options, run_dir, limit, known, progress, on_progress)
        errors_in_a_row = 0
        with closing(_answer_batches(model, pending, model_options or ModelOptions())) as answered:
            for batches in answered:
                predictions = []
                for (question, key), reply in chain.from_iterable(zip(*batch, strict=True) for batch in batches):
                    if reply.error is not None:
                        progress.failed.append(FailedRequest(replace(question, source_case=None), key, reply.error))
                        errors_in_a_row += reply.retryable or reply.rejected
                        continue
                    errors_in_a_row = 0
                    progress.replies += 1
                    progress.tokens_in += reply.tokens_in
                    progress.tokens_out += reply.tokens_out
                    predictions.append(runs.make_prediction(question, key, model, reply, base_dirs))
                runs.append_predictions(handle, predictions)
                on_progress(progress)
                if errors_in_a_row >= _MAX_ERRORS_IN_A_ROW:
                    last = progress.failed[-1].error
                    hint = "" if reply.retryable else "; `max_tokens`, `max_side` and `body` change what is sent"
                    raise EndpointError(f"{errors_in_a_row} questions in a row got no reply, the last: {last}{hint}")
    runs.finalize_predictions(run_dir, progress.order)
    positions = {key: number for number, key in enumerate(progress.order)}
    progress.failed.sort(key=lambda request: positions[request.key])
    lines = []
    for question, key, error in progress.failed:
        prediction = runs.make_prediction(question, key, model, Reply(""), base_dirs)
        fields = prediction.model_dump(mode="json", exclude=_REPLY_FIELDS)
        lines.append({"reason": error, "position": positions[key], **fields})
    runs.write_json_lines(run_dir / runs.ERRORS, lines)
    runs.write_json_lines(run_dir / runs.LEFT_OUT, [problem._asdict() for problem in progress.report.left_out])
    return progress


def _pending_questions(
    model: ModelAdapter,
    bench: Path,
    ask_options: AskOptions,
    run_dir: Path,
    limit: int | None,
    known: Mapping[str, bool],
    progress: Progress,
    on_progress: OnProgress,
) -> Iterator[_KeyedQuestion]:
    """Yield the questions that are not answered yet, with their keys.

    Args:
        known: key of each reply -> whether it was cut at the limit of tokens.
    """
    report, earlier_limits = progress.report, runs.read_earlier_limits(run_dir)
    for question in load_questions(bench, ask_options, run_dir, report):
        if limit is not None and report.cases > limit:
            report.cases = limit  # one more was read to see whether there are more
            return
        try:
            key, *earlier = runs.prediction_keys(question, model, earlier_limits)
        except InputError as error:
            # the clean image of a case is missing, or was deleted since it was checked
            report.left_out.append(Problem(question.case, str(error)))
            report.cases -= question.variant == 0
            continue
        if key not in known:
            key = next((other for other in earlier if known.get(other) is False), key)
        progress.questions += 1
        progress.order.append(key)
        if key in known:
            progress.kept += 1
            if progress.kept % 100 == 0:
                on_progress(progress)
            continue
        yield question, key
    progress.is_complete = True


def _answer_batches(
    model: ModelAdapter, pending: Iterator[_KeyedQuestion], model_options: ModelOptions
) -> Generator[list[_AnsweredBatch], None, None]:
    """Yield batches with their replies as they come, with ``model.workers`` calls at a time."""
    batches = iter(lambda: list(islice(pending, model.batch)), [])
    if model.workers == 1:
        for batch in batches:
            yield [(batch, model.answer([question for question, _ in batch]))]
        return
    running: dict[Future[list[Reply]], list[_KeyedQuestion]] = {}
    with ThreadPoolExecutor(model.workers) as pool:
        try:
            has_more = True
            while has_more or running:
                # twice the workers, so that none is idle while this thread reads and writes
                while has_more and len(running) < 2 * model.workers:
                    batch = next(batches, [])
                    has_more = bool(batch)
                    if has_more:
                        running[pool.submit(model.answer, [question for question, _ in batch])] = batch
                done = wait(running, return_when=FIRST_COMPLETED).done if running else set()
                failed = next((future for future in done if future.exception()), None)
                yield [(running.pop(future), future.result()) for future in done if not future.exception()]
                if failed is not None:
                    failed.result()
        finally:
            model_options.stop.set()  # after an error running calls end, and no new one starts
            for future in running:
                future.cancel()

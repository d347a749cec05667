"""Ask a player all questions of a benchmark that it has not answered yet."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from colva.evaluation import runs
from colva.evaluation.benchmark import Reading, questions
from colva.evaluation.models.base import Player, PlayerOptions, Reply
from colva.evaluation.question import AskOptions, Question
from mmvm_data.core.errors import InputError
from mmvm_data.formats.bench_read import Problem
from mmvm_data.io.openai_client import EndpointError

_SAID = {"reply", "scores", "why", "cut", "tokens_in", "tokens_out"}  # a fault's line has none of it
_IN_A_ROW = 10  # passing faults without a reply between them, after which the endpoint counts as down


@dataclass
class Progress:
    """What a run did so far.

    Attributes:
        reading: what was read of the benchmark.
        questions: asked, or answered by an earlier run.
        kept: answered by an earlier run.
        replies: of this run.
        cases_read: the whole benchmark was gone through (no ``--limit`` cut it).
        tokens_in, tokens_out: of this run's replies.
        order: keys of the questions in the benchmark's order.
        faults: (question, its key, why it got no reply).
    """

    reading: Reading = field(default_factory=Reading)
    questions: int = 0
    kept: int = 0
    replies: int = 0
    cases_read: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    order: list[str] = field(default_factory=list)
    faults: list[tuple[Question, str, str]] = field(default_factory=list)


Show = Callable[[Progress], None]
_Asked = tuple[Question, str]
_Played = tuple[Sequence[_Asked], list[Reply]]


def ask_all(
    player: Player,
    bench: Path,
    asked: AskOptions,
    folder: Path,
    limit: int | None = None,
    options: PlayerOptions | None = None,
    show: Show = lambda _: None,
) -> Progress:
    """Ask, and write each reply to ``predictions.jsonl`` of the run's folder as it comes.

    Questions whose key is there already are not asked again. At the end the file is in the benchmark's order, so that
    two runs of the same player give the same bytes, however their replies came.

    Args:
        player: who answers.
        bench: see ``benchmark.questions``.
        asked: how.
        folder: of the run, open (``runs.opened``).
        limit: so many cases at most, counted from the first.
        options: their ``stop`` is set when the run ends early.
        show: called after each call's replies.

    Raises:
        InputError, UsageError: from the benchmark or the player; what came until then is kept.
        EndpointError: ten questions in a row got no reply.
    """
    progress = Progress()
    path = folder / runs.PREDICTIONS
    known = set(runs.known_records(folder))
    with open(path, "a", encoding="utf-8") as handle:
        todo = _todo(player, bench, asked, folder, limit, known, progress, show)
        places = [folder, bench if bench.is_dir() else bench.parent]
        in_a_row = 0
        with closing(_played(player, todo, options or PlayerOptions())) as played:
            for batches in played:
                found = []
                for (question, key), reply in chain.from_iterable(zip(*batch, strict=True) for batch in batches):
                    if reply.fault is not None:
                        progress.faults.append((replace(question, record=None), key, reply.fault))
                        in_a_row += reply.passing
                        continue
                    in_a_row = 0
                    progress.replies += 1
                    progress.tokens_in += reply.tokens_in
                    progress.tokens_out += reply.tokens_out
                    found.append(runs.record_of(question, key, player, reply, places))
                runs.append(handle, found)
                show(progress)
                if in_a_row >= _IN_A_ROW:
                    last = progress.faults[-1][2]
                    raise EndpointError(f"{in_a_row} questions in a row got no reply, the last: {last}")
    runs.settle(folder, progress.order)
    place = {key: number for number, key in enumerate(progress.order)}
    progress.faults.sort(key=lambda fault: place[fault[1]])
    lines = []
    for question, key, reason in progress.faults:
        record = runs.record_of(question, key, player, Reply(""), places).model_dump(mode="json", exclude=_SAID)
        lines.append({"reason": reason, "position": place[key], **record})
    runs.write_lines(folder / runs.FAULTS, lines)
    runs.write_lines(folder / runs.LEFT_OUT, [p._asdict() for p in progress.reading.left_out])
    return progress


def _todo(
    player: Player,
    bench: Path,
    asked: AskOptions,
    folder: Path,
    limit: int | None,
    known: set[str],
    progress: Progress,
    show: Show,
) -> Iterator[_Asked]:
    """Questions that are still to be asked, with their keys."""
    reading = progress.reading
    for question in questions(bench, asked, folder, reading):
        if limit is not None and reading.cases > limit:
            reading.cases = limit  # the one that was read to see that there are more
            return
        try:
            key = runs.key_of(question, player)
        except InputError as error:
            # the clean image of a case is missing, or went since it was checked
            reading.left_out.append(Problem(question.case, str(error)))
            reading.cases -= question.variant == 0
            continue
        progress.questions += 1
        progress.order.append(key)
        if key in known:
            progress.kept += 1
            if progress.kept % 100 == 0:
                show(progress)
            continue
        yield question, key
    progress.cases_read = True


def _played(player: Player, todo: Iterator[_Asked], options: PlayerOptions) -> Generator[list[_Played], None, None]:
    """Batches with their replies, as they come, all that have come together; ``player.workers`` calls at a time."""
    batches = iter(lambda: list(islice(todo, player.batch)), [])
    if player.workers == 1:
        for batch in batches:
            yield [(batch, player.answer([question for question, _ in batch]))]
        return
    running: dict[Future[list[Reply]], list[_Asked]] = {}
    with ThreadPoolExecutor(player.workers) as pool:
        try:
            more = True
            while more or running:
                # as many again wait their turn, so that no worker is idle while this thread reads and writes
                while more and len(running) < 2 * player.workers:
                    batch = next(batches, [])
                    more = bool(batch)
                    if more:
                        running[pool.submit(player.answer, [question for question, _ in batch])] = batch
                done = wait(running, return_when=FIRST_COMPLETED).done if running else set()
                failed = next((future for future in done if future.exception()), None)
                yield [(running.pop(future), future.result()) for future in done if not future.exception()]
                if failed is not None:
                    failed.result()
        finally:
            options.stop.set()  # on the way out of an error: what is under way ends, nothing new begins
            for future in running:
                future.cancel()

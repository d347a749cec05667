"""The folder of a run: what was asked, what came back, line by line as it came.

run.json           who answered which benchmark, and how it was asked; another one is refused in the same folder
predictions.jsonl  one ``Record`` a question, synced as replies come, in the benchmark's order at the end
unused.jsonl       the same, of questions that the present run does not ask (an earlier one had a larger --limit)
faults.jsonl       questions without a reply, and why
left_out.jsonl     cases that could not be asked about, and why
scores.json        see ``scores``
environment.json   versions, machine, times
answers.jsonl      the letters, as ``mmvm-data browse --predictions`` reads them
report.html        see ``report``
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from colva.evaluation.models.base import Player, Reply
from colva.evaluation.question import AskOptions, Question, digest_of
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.types import FrozenModel
from mmvm_data.io.files import atomic_write

RUN, PREDICTIONS, UNUSED = "run.json", "predictions.jsonl", "unused.jsonl"
FAULTS, LEFT_OUT = "faults.jsonl", "left_out.jsonl"
SCORES, ENVIRONMENT, ANSWERS, REPORT = "scores.json", "environment.json", "answers.jsonl", "report.html"


class Record(FrozenModel):
    """One line of ``predictions.jsonl``: the question, what is right, and what was said.

    Attributes:
        key: SHA-256 of everything that could change the reply: images, words, choices, regions, fingerprint.
        id, case, index, variant, types, source, candidates, difficulty: see ``question.Question``.
        protocol: mcq or vqa.
        images: paths relative to the benchmark's folder, or to the run's (``drawn/``, ``images/``).
        text, pure, choices, answer: of the question; ``answer`` is the right label.
        rationale: why the answer is right, when the set says so.
        model: name of the player.
        reply, scores, why, cut, tokens_in, tokens_out: see ``player.Reply``.
    """

    key: str
    id: str
    case: str
    index: str
    variant: int
    protocol: str
    images: tuple[str, ...]
    text: str
    pure: str
    choices: dict[str, str]
    answer: str
    types: tuple[int, ...]
    source: str
    candidates: int | None
    difficulty: str | None
    rationale: str | None = None
    model: str
    reply: str
    scores: dict[str, float] | None = None
    why: str | None = None
    cut: bool = False
    tokens_in: int = 0
    tokens_out: int = 0


def key_of(question: Question, player: Player) -> str:
    """Name of a reply: SHA-256 of the question and the player's fingerprint. The right answer does not enter.

    Raises:
        InputError: an image cannot be read.
    """
    whole = json.dumps([digest_of(question), question.id, dict(player.fingerprint)], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def record_of(question: Question, key: str, player: Player, reply: Reply, places: Sequence[Path]) -> Record:
    """The line for a reply; ``places`` are the folders that image paths may be relative to."""
    return Record(
        key=key,
        images=tuple(_relative(image, places) for image in question.images),
        model=player.name,
        reply=reply.text,
        scores=dict(reply.scores) if reply.scores is not None else None,
        choices=dict(question.choices),
        **{name: getattr(reply, name) for name in ("why", "cut", "tokens_in", "tokens_out")},
        **{name: getattr(question, name) for name in _OF_THE_QUESTION},
    )


_OF_THE_QUESTION = (
    "id",
    "case",
    "index",
    "variant",
    "protocol",
    "text",
    "pure",
    "answer",
    "types",
    "source",
    "candidates",
    "difficulty",
    "rationale",
)


def config_of(bench: Path, options: AskOptions, player: Player) -> dict[str, Any]:
    """What makes two runs the same run; ``--limit``, the mode of extraction and the judge do not."""
    config = {
        "version": 1,
        "bench": str(bench.resolve()),
        "model": player.name,
        "asked": asdict(options),
        "player": dict(player.fingerprint),
    }
    return json.loads(json.dumps(config))  # as it comes back from a file


@contextmanager
def opened(folder: Path, config: Mapping[str, Any], overwrite: bool) -> Iterator[None]:
    """A run's folder, locked against other processes, with ``config`` as its ``run.json``.

    Args:
        folder: made when it is missing.
        config: from ``config_of``.
        overwrite: delete the predictions of another run in it.

    Raises:
        UsageError: it holds another run, holds something else, or another process works on it.
        OutputError: it cannot be written.
    """
    try:
        _claim(folder, config, overwrite)
        with open(folder / ".lock", "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{folder}: another process is working on this run") from None
            if not (folder / RUN).is_file():
                with atomic_write(folder / RUN) as handle:
                    handle.write(json.dumps(config, indent=1, sort_keys=True) + "\n")
            yield
    except OSError as error:
        raise OutputError(error.filename or folder, error) from error


def _claim(folder: Path, config: Mapping[str, Any], overwrite: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUN
    if not path.is_file():
        if any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise UsageError(f"{folder}: is not empty and holds no run; give another --out")
        return
    found = read_json(path)
    if found == config:
        return
    if not overwrite:
        differs = ", ".join(sorted(name for name in {*found, *config} if found.get(name) != config.get(name)))
        raise UsageError(f"{folder}: holds a run with another {differs}; give another --out, or --overwrite it")
    for name in (RUN, PREDICTIONS, UNUSED, FAULTS, LEFT_OUT, SCORES, ENVIRONMENT, ANSWERS, REPORT):
        (folder / name).unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a file.

    Raises:
        InputError: the file is missing, or it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(path, f"expected a JSON object, found {type(found).__name__}")
    return found


def read_records(path: Path, repair: bool = False) -> Iterator[Record]:
    """The lines of ``predictions.jsonl``; none when there is no such file.

    Args:
        path: the file.
        repair: cut off a last line that a kill has left unfinished.

    Raises:
        InputError: a line is no record.
    """
    if not path.is_file():
        return
    good = 0
    with open(path, "r+b" if repair else "rb") as lines:
        for number, line in enumerate(lines, 1):
            if repair and not line.endswith(b"\n"):
                lines.seek(good)
                lines.truncate()
                return
            good += len(line)
            try:
                yield Record.model_validate_json(line)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                at = ".".join(str(part) for part in first["loc"])
                reason = f"no prediction: {first['msg']}{f' at {at}' if at else ''}"
                raise InputError(path, reason, f"line {number}") from error


def append(handle: IO[str], records: Iterable[Record]) -> None:
    """Write records and see them on the disk before anything else is done."""
    for record in records:
        handle.write(record.model_dump_json() + "\n")
    handle.flush()
    os.fsync(handle.fileno())


def known_records(folder: Path) -> dict[str, Record]:
    """Everything that was answered before, by key.

    Raises:
        InputError: a line is no record.
    """
    found = {record.key: record for record in read_records(folder / UNUSED)}
    return found | {record.key: record for record in read_records(folder / PREDICTIONS, repair=True)}


def settle(folder: Path, order: Sequence[str]) -> None:
    """Leave the predictions of these keys, in this order, and put others aside; nothing that was answered is lost."""
    records = known_records(folder)
    wanted = [records[key] for key in order if key in records]
    aside = sorted((r for key, r in records.items() if key not in set(order)), key=lambda r: (r.id, r.key))
    write_lines(folder / UNUSED, (record.model_dump(mode="json") for record in aside))
    if wanted != list(read_records(folder / PREDICTIONS)):
        with atomic_write(folder / PREDICTIONS) as handle:
            handle.writelines(record.model_dump_json() + "\n" for record in wanted)


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """A file of JSON lines, whole or absent; an old one goes when there is nothing to say."""
    found = list(lines)
    if not found:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as handle:
        handle.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in found)


def _relative(image: Path, places: Sequence[Path]) -> str:
    for place in places:
        if image.is_relative_to(place):
            return image.relative_to(place).as_posix()
    return str(image)

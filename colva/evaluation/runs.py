"""The folder of an evaluation run: its configuration, the predictions as they come, and what is made from them.

run.json           which model answers which benchmark, and how it is asked; another run is refused in the same folder
predictions.jsonl  one ``Prediction`` a question, synced as replies come, in the benchmark's order at the end
unused.jsonl       the same, of questions that the present run does not ask (an earlier one had a larger --limit)
errors.jsonl       questions without a reply, and why
left_out.jsonl     cases that could not be asked about, and why
scores.json        see ``scoring.metrics``
environment.json   versions, machine, times
answers.jsonl      the letters, as ``mmvm-data browse --predictions`` reads them
report.html        see ``reports.report``
vlmevalkit/        the predictions, as VLMEvalKit reads them
.replaced/         the run that this one replaces, until this one is complete
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from colva.evaluation.models.base import ModelAdapter, Reply
from colva.evaluation.question import AskOptions, Question, question_digest
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.types import FrozenModel
from mmvm_data.io.files import atomic_write
from mmvm_data.io.folder_lock import lock_folder
from mmvm_data.io.json_files import read_json_object
from mmvm_data.io.set_aside import restore_moving, restore_replaced, set_aside

RUN, PREDICTIONS, UNUSED = "run.json", "predictions.jsonl", "unused.jsonl"
ERRORS, LEFT_OUT = "errors.jsonl", "left_out.jsonl"
SCORES, ENVIRONMENT, ANSWERS, REPORT = "scores.json", "environment.json", "answers.jsonl", "report.html"
VLMEVALKIT = "vlmevalkit"
_RUN_FILES = (RUN, PREDICTIONS, UNUSED, ERRORS, LEFT_OUT, SCORES, ENVIRONMENT, ANSWERS, REPORT, VLMEVALKIT)
_LIMIT, _EARLIER_LIMITS = "max_tokens", "earlier_max_tokens"
RUN_VERSION = 1
"""Version of ``run.json`` and of the keys of ``predictions.jsonl``."""


class Prediction(FrozenModel):
    """One line of ``predictions.jsonl``: the question, the right answer, and the reply.

    Attributes:
        key: SHA-256 of everything that could change the reply: images, words, choices, regions, fingerprint.
        id, case, index, variant, types, source, candidates, difficulty: see ``question.Question``.
        protocol: mcq or vqa.
        images: paths relative to the benchmark's folder, or to the run's (``drawn/``, ``images/``).
        text, pure, choices, answer: of the question; ``answer`` is the right label.
        rationale: why the answer is right, when the set says so.
        model: name of the model.
        reply, scores, why, truncated, withheld, tokens_in, tokens_out: see ``models.base.Reply``.
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
    truncated: bool = False
    withheld: bool = False
    tokens_in: int = 0
    tokens_out: int = 0


_REPLY_FIELDS = ("why", "truncated", "withheld", "tokens_in", "tokens_out")
_QUESTION_FIELDS = (
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


def prediction_keys(question: Question, model: ModelAdapter, earlier_limits: Sequence[int] = ()) -> list[str]:
    """Return SHA-256 of the question and the model's fingerprint, then the same with each of the earlier limits of
    tokens, the latest first. The right answer is not part of it.

    Raises:
        InputError: an image cannot be read.
    """
    digest, fingerprint = question_digest(question), dict(model.fingerprint)
    fingerprints = [fingerprint, *(fingerprint | {_LIMIT: limit} for limit in reversed(earlier_limits))]
    texts = [json.dumps([digest, question.id, variant], sort_keys=True) for variant in fingerprints]
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def make_prediction(
    question: Question, key: str, model: ModelAdapter, reply: Reply, base_dirs: Sequence[Path]
) -> Prediction:
    """Return the line for a reply; ``base_dirs`` are the folders that image paths may be relative to."""
    return Prediction(
        key=key,
        images=tuple(_relative_path(image, base_dirs) for image in question.images),
        model=model.name,
        reply=reply.text,
        scores=dict(reply.scores) if reply.scores is not None else None,
        choices=dict(question.choices),
        **{name: getattr(reply, name) for name in _REPLY_FIELDS},
        **{name: getattr(question, name) for name in _QUESTION_FIELDS},
    )


def run_config(bench: Path, ask_options: AskOptions, model: ModelAdapter) -> dict[str, Any]:
    """Return the content of ``run.json``: two runs are the same run when it is equal. The limit of cases, the mode of
    extraction and the judge are not part of it."""
    config = {
        "version": RUN_VERSION,
        "bench": str(bench.resolve()),
        "model": model.name,
        "ask_options": asdict(ask_options),
        "fingerprint": dict(model.fingerprint),
    }
    loaded: dict[str, Any] = json.loads(json.dumps(config))  # as it is read from a file
    return loaded


@contextmanager
def open_run(folder: Path, config: Mapping[str, Any], overwrite: bool, resume: bool = False) -> Iterator[None]:
    """Lock a run's folder against other processes, with ``config`` as its ``run.json``.

    Args:
        folder: created when it is missing.
        config: from ``run_config``.
        overwrite: move another run in it aside; ``delete_replaced`` deletes it when the new one is complete.
        resume: continue a run that had a smaller limit of tokens.

    Raises:
        UsageError: it holds another run, holds something else, or another process works on it.
        OutputError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock_folder(folder, "colva eval", wait_seconds=0):
            _prepare_folder(folder, config, overwrite, resume)
            if not (folder / RUN).is_file():
                _write_config(folder, config)
            yield
    except OSError as error:
        raise OutputError(error.filename or folder, error) from error


def _write_config(folder: Path, config: Mapping[str, Any]) -> None:
    with atomic_write(folder / RUN) as handle:
        handle.write(json.dumps(config, indent=1, sort_keys=True) + "\n")


def _prepare_folder(folder: Path, config: Mapping[str, Any], overwrite: bool, resume: bool) -> None:
    restore_moving(folder)
    path = folder / RUN
    if not path.is_file():
        restore_replaced(folder)  # of a command that was killed before it wrote anything
    if not path.is_file():
        if any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise UsageError(f"{folder}: is not empty and holds no run; name another `out`")
        return
    earlier_limits = read_earlier_limits(folder)
    existing = {name: value for name, value in read_json_object(path).items() if name != _EARLIER_LIMITS}
    if existing == config:
        return
    limit = _smaller_limit(existing, config)
    if resume and limit is not None:
        _write_config(folder, {**config, _EARLIER_LIMITS: [*earlier_limits, limit]})
        return
    if not overwrite:
        differing = sorted(name for name in {*existing, *config} if existing.get(name) != config.get(name))
        reason = f"holds a run with another {', '.join(differing)}; name another `out`"
        if limit is not None:
            reason = f"holds a run with `max_tokens={limit}`; ask what was cut there again with `resume=True`"
        raise UsageError(f"{folder}: {reason}, or replace it with `overwrite=True`")
    set_aside(folder, _RUN_FILES, keep_unfinished=True)


def _smaller_limit(existing: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    """Return the limit of tokens of an existing run if it is smaller than that of ``config`` and all else is equal;
    0 is no limit."""
    old, new = existing.get("fingerprint"), config["fingerprint"]
    if not isinstance(old, dict) or {**existing, "fingerprint": {**old, _LIMIT: new.get(_LIMIT)}} != config:
        return None
    before, after = old.get(_LIMIT), new.get(_LIMIT)
    if not isinstance(before, int) or not isinstance(after, int):
        return None
    return before if before and (after > before or after == 0) else None


def read_earlier_limits(folder: Path) -> list[int]:
    """Return the limits of tokens that a run had before it was resumed with a larger one, ascending.

    Raises:
        InputError: they are no list of integers.
    """
    limits = read_json_object(folder / RUN).get(_EARLIER_LIMITS, [])
    if not isinstance(limits, list) or not all(isinstance(limit, int) for limit in limits):
        raise InputError(folder / RUN, "expected a list of integers", _EARLIER_LIMITS)
    return limits


def read_bench(folder: Path) -> Path:
    """Return the benchmark that a run answers.

    Raises:
        InputError: ``run.json`` is missing or does not name it.
    """
    bench = read_json_object(folder / RUN).get("bench")
    if not isinstance(bench, str):
        raise InputError(folder / RUN, "expected the path of a benchmark", "bench")
    return Path(bench)


def read_predictions(path: Path, repair: bool = False) -> Iterator[Prediction]:
    """Yield the lines of ``predictions.jsonl``; none when there is no such file.

    Args:
        path: the file.
        repair: cut off a last line that a kill has left unfinished.

    Raises:
        InputError: a line is no prediction.
    """
    if not path.is_file():
        return
    complete_bytes = 0
    with open(path, "r+b" if repair else "rb") as lines:
        for number, line in enumerate(lines, 1):
            if repair and not line.endswith(b"\n"):
                lines.seek(complete_bytes)
                lines.truncate()
                return
            complete_bytes += len(line)
            try:
                yield Prediction.model_validate_json(line)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                field = ".".join(str(part) for part in first["loc"])
                reason = f"no prediction: {first['msg']}{f' at {field}' if field else ''}"
                raise InputError(path, reason, f"line {number}") from error


def append_predictions(handle: IO[str], predictions: Iterable[Prediction]) -> None:
    """Write predictions, and return when they are on the disk."""
    for prediction in predictions:
        handle.write(prediction.model_dump_json() + "\n")
    handle.flush()
    os.fsync(handle.fileno())


def load_known_predictions(folder: Path) -> dict[str, Prediction]:
    """Return everything that was answered before, by key. An unfinished last line is cut off the file.

    Raises:
        InputError: a line is no prediction.
    """
    unused = {prediction.key: prediction for prediction in read_predictions(folder / UNUSED)}
    return unused | {p.key: p for p in read_predictions(folder / PREDICTIONS, repair=True)}


def finalize_predictions(folder: Path, order: Sequence[str]) -> None:
    """Leave the predictions of these keys, in this order, in ``predictions.jsonl``; move the others to
    ``unused.jsonl``."""
    known = load_known_predictions(folder)
    asked = [known[key] for key in order if key in known]
    unused = sorted((p for key, p in known.items() if key not in set(order)), key=lambda p: (p.id, p.key))
    write_json_lines(folder / UNUSED, (prediction.model_dump(mode="json") for prediction in unused))
    if asked != list(read_predictions(folder / PREDICTIONS)):
        with atomic_write(folder / PREDICTIONS) as handle:
            handle.writelines(prediction.model_dump_json() + "\n" for prediction in asked)


def write_json_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines atomically; without lines, delete an old one."""
    texts = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines]
    if not texts:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as handle:
        handle.writelines(texts)


def _relative_path(image: Path, base_dirs: Sequence[Path]) -> str:
    for base_dir in base_dirs:
        if image.is_relative_to(base_dir):
            return image.relative_to(base_dir).as_posix()
    return str(image)

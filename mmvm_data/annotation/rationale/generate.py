"""Rationales for the cases of a benchmark: from a model behind an endpoint, or from cues by template.

Replies are kept in ``.rationales`` under the hash of everything that enters the request, as soon as they come, so that
no reply is paid for twice. The benchmark changes once, at the end, as a new revision.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmvm_data.annotation.rationale.text import PROMPT_VERSION, SYSTEM, TEMPLATE_VERSION, fault, template, user_text
from mmvm_data.cases.cues import propose
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.types import Case, Cue, RationaleAuthor
from mmvm_data.formats import bench
from mmvm_data.formats.revisions import revise
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.io import media
from mmvm_data.io.files import atomic_write, safe_join
from mmvm_data.io.openai_client import (
    Endpoint,
    EndpointError,
    Reply,
    ReplyError,
    build_request,
    create_client,
    load_cached_reply,
    make_image_part,
    request_completion,
    save_reply,
)

CACHE = ".rationales"
FAILURES = "rationale_failures.jsonl"
_IN_A_ROW = 10  # cases without a usable reply, after which the endpoint counts as down


@dataclass(frozen=True)
class RationaleOptions:
    """What is done.

    Attributes:
        endpoint: None for rationales by template.
        concurrency: requests under way at a time.
        limit: ask for so many cases at most, replies that are kept already included.
        replace: also where a model's rationale is there.
        retry_failed: ask again where a kept reply was refused by the check.
        cache: folder of the replies; None: ``.rationales`` in the benchmark.
    """

    endpoint: Endpoint | None = None
    concurrency: int = 8
    limit: int | None = None
    replace: bool = False
    retry_failed: bool = False
    cache: Path | None = None


@dataclass
class Tally:
    """What a run did so far, and at its end.

    Attributes:
        cases: of the benchmark.
        human, present, rejected: cases left alone: a person wrote or accepted their rationale, a model did, or the
            case was rejected.
        total: cases to work on.
        written: rationales that passed the check; ``cached`` of the replies came from earlier runs.
        requests: sent, further attempts included.
        tokens_in, tokens_out: of this run's replies, as the endpoint counted.
        failures: (case, reason).
        changed: ids of the cases that became different.
    """

    cases: int = 0
    human: int = 0
    present: int = 0
    rejected: int = 0
    total: int = 0
    written: int = 0
    cached: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Cases that are finished, well or not."""
        return self.written + len(self.failures)


Show = Callable[[Tally], None]


def write_rationales(directory: Path, options: RationaleOptions, show: Show = lambda _: None) -> Tally:
    """Give the cases of a benchmark their rationales. What a person wrote or accepted stays as it is.

    Args:
        directory: a benchmark with cases.jsonl.
        options: what is done.
        show: called after each case.

    Raises:
        InputError: the benchmark cannot be read.
        UsageError: it has no cases.jsonl, another run works on it, the openai package is missing, or the endpoint
            refuses everything. Replies that came are kept.
        OutputError: the folder cannot be written.
        KeyboardInterrupt: after the requests under way were waited for.
    """
    tally, found = count(directory, options), {}
    try:
        if options.endpoint is None:
            found = _by_template(directory, options, tally, show)
        else:
            cache, client = options.cache or directory / CACHE, create_client(options.endpoint)
            with _alone(cache):
                found = _by_model(directory, options, options.endpoint, client, cache, tally, show)
        _list_failures(directory / FAILURES, tally.failures)
    except OSError as error:
        raise OutputError(error.filename or directory, error) from error
    tally.changed = revise(directory, found)
    return tally


def count(directory: Path, options: RationaleOptions) -> Tally:
    """What there is to do, without doing it; see ``write_rationales``."""
    tally = Tally()
    for case in _cases(directory):
        tally.cases += 1
        if (reason := _left_alone(case, options)) is None:
            tally.total += 1
        else:
            setattr(tally, reason, getattr(tally, reason) + 1)
    if options.limit is not None:
        tally.total = min(tally.total, options.limit)
    return tally


def request_for(case: Case, directory: Path, cues: tuple[Cue, ...], endpoint: Endpoint) -> dict[str, Any]:
    """The request for one case: its drawn images as data URLs, the answer, the cues as hints.

    Raises:
        InputError: a drawn image is missing or lies outside the benchmark.
    """
    lines, text = user_text(case, cues)
    content: list[dict[str, Any]] = []
    paths = drawn_paths(case)
    if len(paths) != len(case.frames):
        raise InputError(case.id, "its drawn images do not lie in a case folder", field="frames")
    for line, name in zip(lines, paths, strict=True):
        data = media.read_bytes(safe_join(directory, name, case.id))
        content += [{"type": "text", "text": line}, make_image_part(data)]
    content.append({"type": "text", "text": text})
    return build_request(endpoint, [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}])


def key_of(endpoint: Endpoint, request: dict[str, Any]) -> str:
    """Name of a reply in the cache: SHA-256 of the address, the version of the prompt and the whole request."""
    whole = json.dumps([endpoint.url.rstrip("/"), PROMPT_VERSION, request], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def cues_of(case: Case, directory: Path) -> tuple[Cue, ...]:
    """The cues of a case; proposed now when it has none.

    Raises:
        InputError: an image cannot be read, or a mask does not fit it.
    """
    if case.cues or case.answer is None:
        return case.cues
    try:
        return propose(case, [media.read_frame_bgr(directory, frame) for frame in case.frames])
    except ValueError as error:
        raise InputError(case.id, str(error)) from error


def first_prompt(directory: Path, options: RationaleOptions) -> str | None:
    """What the first case would be asked, without its images; None when there is nothing to do.

    Raises:
        InputError: as ``cues_of``.
    """
    for case in _wanted(directory, options):
        lines, text = user_text(case, cues_of(case, directory))
        return "\n".join([SYSTEM, "", *(f"{line} [image]" for line in lines), text])
    return None


def _cases(directory: Path) -> Iterator[Case]:
    if not (directory / bench.CASES).is_file():
        raise UsageError(f"{directory}: has no {bench.CASES}; `mmvm-data export DIR --to bench --out COPY` makes one")
    return bench.read(directory)


def _left_alone(case: Case, options: RationaleOptions) -> str | None:
    """Field of the tally for a case that is not worked on."""
    by = case.rationale_by
    if case.review.state == "rejected":
        return "rejected"
    if by == "human" or (by and case.review.state != "proposed"):
        return "human"
    if by == "model" and (options.endpoint is None or not options.replace):
        return "present"
    return None


def _wanted(directory: Path, options: RationaleOptions) -> Iterator[Case]:
    taken = 0
    for case in _cases(directory):
        if options.limit is not None and taken >= options.limit:
            return
        if _left_alone(case, options) is None:
            taken += 1
            yield case


def _marked(case: Case, cues: tuple[Cue, ...], text: str, by: Any, version: str, model: str | None = None) -> Case:
    mark = RationaleAuthor(by=by, model=model, version=version, digest=hashlib.sha256(text.encode()).hexdigest())
    return case.model_copy(update={"cues": cues, "rationale": text, "written": mark})


def _by_template(directory: Path, options: RationaleOptions, tally: Tally, show: Show) -> dict[str, Case]:
    found = {}
    for case in _wanted(directory, options):
        try:
            cues = cues_of(case, directory)
            text = template(case, cues)
        except InputError as error:
            tally.failures.append((case.id, str(error)))
        else:
            if text is None:
                why = "no cue tells the answer from the others" if case.answer is not None else "no answer to explain"
                tally.failures.append((case.id, why))
            else:
                found[case.id] = _marked(case, cues, text, "template", TEMPLATE_VERSION)
                tally.written += 1
        show(tally)
    return found


def _by_model(
    directory: Path,
    options: RationaleOptions,
    endpoint: Endpoint,
    client: Any,
    cache: Path,
    tally: Tally,
    show: Show,
) -> dict[str, Case]:
    stop = threading.Event()
    found: dict[str, Case] = {}
    running: dict[Future[Reply], tuple[Case, tuple[Cue, ...]]] = {}
    in_a_row = 0

    def request(name: Path, body: dict[str, Any]) -> Reply:
        if stop.is_set():
            raise ReplyError("stopped")
        reply = request_completion(client, endpoint, body, stop.wait)
        save_reply(name, reply)
        return reply

    def take(case: Case, cues: tuple[Cue, ...], reply: Reply) -> None:
        wrong = "the reply was cut at the limit of tokens" if reply.cut else fault(reply.text, case)
        if wrong is None:
            found[case.id] = _marked(case, cues, reply.text.strip(), "model", PROMPT_VERSION, endpoint.model)
            tally.written += 1
        else:
            tally.failures.append((case.id, wrong))
        show(tally)

    def collect(most: int) -> None:
        """Take what has come, and wait until at most so many requests are under way."""
        nonlocal in_a_row
        while len(running) > most:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                case, cues = running.pop(future)
                try:
                    reply = future.result()
                except ReplyError as error:
                    tally.failures.append((case.id, str(error)))
                    tally.requests += error.attempts
                    in_a_row += 1
                    show(tally)
                    if in_a_row >= _IN_A_ROW:
                        raise EndpointError(
                            f"{in_a_row} cases in a row got no usable reply, the last: {error}"
                        ) from None
                else:
                    in_a_row = 0
                    tally.requests += reply.attempts
                    tally.tokens_in += reply.tokens_in
                    tally.tokens_out += reply.tokens_out
                    take(case, cues, reply)

    with ThreadPoolExecutor(options.concurrency) as pool:
        try:
            for case in _wanted(directory, options):
                try:
                    cues = cues_of(case, directory)
                    body = request_for(case, directory, cues, endpoint)
                except InputError as error:
                    tally.failures.append((case.id, str(error)))
                    show(tally)
                    continue
                key = key_of(endpoint, body)
                name = cache / key[:2] / f"{key}.json"
                kept = load_cached_reply(name)
                if kept and not (options.retry_failed and (kept.cut or fault(kept.text, case))):
                    tally.cached += 1
                    take(case, cues, kept)
                    continue
                name.parent.mkdir(exist_ok=True)
                running[pool.submit(request, name, body)] = (case, cues)
                collect(most=options.concurrency)
            collect(most=0)
        finally:
            stop.set()  # on the way out of an error: what is under way ends and is kept, nothing new begins
    return found


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{cache}: another run is writing rationales here") from None
        yield


def _list_failures(path: Path, failures: list[tuple[str, str]]) -> None:
    if failures:
        with atomic_write(path) as lines:
            for case, reason in sorted(failures):
                lines.write(json.dumps({"case": case, "reason": reason}, ensure_ascii=False) + "\n")
    else:
        path.unlink(missing_ok=True)

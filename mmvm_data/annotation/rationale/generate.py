"""Write rationales for the cases of a benchmark, with a model at an endpoint or from cues with a template.

Each reply is cached in ``.rationales`` as soon as it arrives, under a hash of the complete request, so that no reply is
paid for twice. The benchmark changes once, at the end, as a new revision.
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
from typing import Annotated, Any, Literal

from pydantic import Field

from mmvm_data.annotation.rationale.text import (
    PROMPT_VERSION,
    SYSTEM,
    TEMPLATE_VERSION,
    build_user_prompt,
    check_reply,
    fill_template,
)
from mmvm_data.cases.cues import propose_cues
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.options import options
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
_MAX_CONSECUTIVE_FAILURES = 10  # cases without a usable reply, after which the endpoint counts as down


@options
class RationaleOptions:
    """How rationales are written.

    Attributes:
        endpoint: the model; None fills a template from cues.
        concurrency: maximum number of concurrent requests.
        limit: maximum number of cases, including those whose reply is cached.
        replace: also replace rationales of a model.
        retry_failed: send a request again when the check rejects its cached reply.
        cache: folder of the replies; None: ``.rationales`` in the benchmark.

    Raises:
        OptionError: an argument is not valid.
    """

    endpoint: Endpoint | None = None
    concurrency: Annotated[int, Field(ge=1)] = 8
    limit: Annotated[int, Field(ge=1)] | None = None
    replace: bool = False
    retry_failed: bool = False
    cache: Path | None = None


@dataclass
class RationaleProgress:
    """Counts and results of a run, updated while it works.

    Attributes:
        cases: number of cases of the benchmark.
        human, present, rejected: number of cases that are skipped: a person wrote or accepted the rationale, a model
            wrote it, or the case was rejected.
        total: number of cases to work on.
        written: number of rationales that passed the check.
        cached: number of replies from the cache.
        requests: number of requests sent, including further attempts.
        tokens_in, tokens_out: of the replies of this run, as counted by the endpoint.
        failures: (case id, reason).
        changed: ids of the cases that changed.
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
        """Number of cases that are finished, with or without a rationale."""
        return self.written + len(self.failures)


ProgressCallback = Callable[[RationaleProgress], None]


def write_rationales(
    directory: Path, options: RationaleOptions, on_progress: ProgressCallback = lambda _: None
) -> RationaleProgress:
    """Write the rationales of a benchmark. What a person wrote or accepted is kept.

    Args:
        directory: a benchmark with cases.jsonl.
        options: model or template, and which cases.
        on_progress: called after each case.

    Returns:
        counts, failures and ids of the changed cases.

    Raises:
        InputError: the benchmark cannot be read.
        UsageError: it has no cases.jsonl, another run works on it, the openai package is missing, or the endpoint
            rejects every request. Replies that arrived stay in the cache.
        OutputError: the folder cannot be written.
        KeyboardInterrupt: after waiting for the pending requests.
    """
    progress = count_cases(directory, options)
    try:
        if options.endpoint is None:
            changed = _write_by_template(directory, options, progress, on_progress)
        else:
            cache = options.cache or directory / CACHE
            writer = _ModelWriter(directory, options, options.endpoint, cache, progress, on_progress)
            with _lock_cache(cache):
                changed = writer.write_all()
        _write_failures(directory / FAILURES, progress.failures)
    except OSError as error:
        raise OutputError(error.filename or directory, error) from error
    progress.changed = revise(directory, changed)
    return progress


def count_cases(directory: Path, options: RationaleOptions) -> RationaleProgress:
    """Count the cases that ``write_rationales`` would work on and skip, without changing anything."""
    progress = RationaleProgress()
    for case in _read_cases(directory):
        progress.cases += 1
        reason = _skip_reason(case, options)
        if reason is None:
            progress.total += 1
        else:
            setattr(progress, reason, getattr(progress, reason) + 1)
    if options.limit is not None:
        progress.total = min(progress.total, options.limit)
    return progress


def build_case_request(case: Case, directory: Path, cues: tuple[Cue, ...], endpoint: Endpoint) -> dict[str, Any]:
    """Return the request for one case: its drawn images as data URLs, the answer, and the cues as hints.

    Raises:
        InputError: a drawn image is missing or lies outside the benchmark.
    """
    image_lines, text = build_user_prompt(case, cues)
    content: list[dict[str, Any]] = []
    paths = drawn_paths(case)
    if len(paths) != len(case.frames):
        raise InputError(case.id, "its drawn images are not in a case folder", field="frames")
    for line, name in zip(image_lines, paths, strict=True):
        data = media.read_bytes(safe_join(directory, name, case.id))
        content += [{"type": "text", "text": line}, make_image_part(data)]
    content.append({"type": "text", "text": text})
    return build_request(endpoint, [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}])


def cache_key(endpoint: Endpoint, request: dict[str, Any]) -> str:
    """Return the name of a reply in the cache: SHA-256 of the URL, the prompt version and the complete request."""
    content = json.dumps([endpoint.url.rstrip("/"), PROMPT_VERSION, request], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def load_or_propose_cues(case: Case, directory: Path) -> tuple[Cue, ...]:
    """Return the cues of a case; they are proposed from the images when it has none.

    Raises:
        InputError: an image cannot be read, or a mask does not fit it.
    """
    if case.cues or case.answer is None:
        return case.cues
    try:
        return propose_cues(case, [media.read_frame_bgr(directory, frame) for frame in case.frames])
    except ValueError as error:
        raise InputError(case.id, str(error)) from error


def preview_prompt(directory: Path, options: RationaleOptions) -> str | None:
    """Return the prompt of the first case, without its images; None when there is no case to work on.

    Raises:
        InputError: as ``load_or_propose_cues``.
    """
    for case in _select_cases(directory, options):
        image_lines, text = build_user_prompt(case, load_or_propose_cues(case, directory))
        return "\n".join([SYSTEM, "", *(f"{line} [image]" for line in image_lines), text])
    return None


def _read_cases(directory: Path) -> Iterator[Case]:
    if not (directory / bench.CASES).is_file():
        raise UsageError(f"{directory}: has no {bench.CASES}; `mmvm-data export DIR --to bench --out COPY` writes one")
    return bench.read(directory)


def _skip_reason(case: Case, options: RationaleOptions) -> Literal["rejected", "human", "present"] | None:
    """Return the field of ``RationaleProgress`` that counts a skipped case; None for a case to work on."""
    author = case.rationale_by
    if case.review.state == "rejected":
        return "rejected"
    if author == "human" or (author and case.review.state != "proposed"):
        return "human"
    if author == "model" and (options.endpoint is None or not options.replace):
        return "present"
    return None


def _select_cases(directory: Path, options: RationaleOptions) -> Iterator[Case]:
    selected = 0
    for case in _read_cases(directory):
        if options.limit is not None and selected >= options.limit:
            return
        if _skip_reason(case, options) is None:
            selected += 1
            yield case


def _with_rationale(
    case: Case,
    cues: tuple[Cue, ...],
    text: str,
    by: Literal["model", "template"],
    version: str,
    model: str | None = None,
) -> Case:
    digest = hashlib.sha256(text.encode()).hexdigest()
    author = RationaleAuthor(by=by, model=model, version=version, digest=digest)
    return case.model_copy(update={"cues": cues, "rationale": text, "written": author})


def _write_by_template(
    directory: Path, options: RationaleOptions, progress: RationaleProgress, on_progress: ProgressCallback
) -> dict[str, Case]:
    """Return the changed cases by id."""
    changed = {}
    for case in _select_cases(directory, options):
        try:
            cues = load_or_propose_cues(case, directory)
            text = fill_template(case, cues)
        except InputError as error:
            progress.failures.append((case.id, str(error)))
        else:
            if text is not None:
                changed[case.id] = _with_rationale(case, cues, text, "template", TEMPLATE_VERSION)
                progress.written += 1
            elif case.answer is None:
                progress.failures.append((case.id, "no answer to explain"))
            else:
                progress.failures.append((case.id, "no cue distinguishes the answer from the other candidates"))
        on_progress(progress)
    return changed


class _ModelWriter:
    """Requests rationales from a model, several at a time, and checks the replies."""

    def __init__(
        self,
        directory: Path,
        options: RationaleOptions,
        endpoint: Endpoint,
        cache: Path,
        progress: RationaleProgress,
        on_progress: ProgressCallback,
    ) -> None:
        self._directory = directory
        self._options = options
        self._endpoint = endpoint
        self._client = create_client(endpoint)
        self._cache = cache
        self._progress = progress
        self._on_progress = on_progress
        self._stop = threading.Event()
        self._pending: dict[Future[Reply], tuple[Case, tuple[Cue, ...]]] = {}
        self._consecutive_failures = 0
        self._changed: dict[str, Case] = {}

    def write_all(self) -> dict[str, Case]:
        """Return the changed cases by id.

        Raises:
            EndpointError: the endpoint rejects every request, or too many cases in a row got no usable reply.
        """
        with ThreadPoolExecutor(self._options.concurrency) as pool:
            try:
                for case in _select_cases(self._directory, self._options):
                    self._start_case(pool, case)
                    self._collect_replies(max_pending=self._options.concurrency)
                self._collect_replies(max_pending=0)
            finally:
                self._stop.set()  # after an error, pending requests end and are cached, and no new one starts
        return self._changed

    def _start_case(self, pool: ThreadPoolExecutor, case: Case) -> None:
        """Use the cached reply of a case, or submit its request."""
        try:
            cues = load_or_propose_cues(case, self._directory)
            request = build_case_request(case, self._directory, cues, self._endpoint)
        except InputError as error:
            self._add_failure(case, str(error))
            return
        key = cache_key(self._endpoint, request)
        file = self._cache / key[:2] / f"{key}.json"
        cached = load_cached_reply(file)
        if cached and not (self._options.retry_failed and (cached.cut or check_reply(cached.text, case))):
            self._progress.cached += 1
            self._add_reply(case, cues, cached)
            return
        file.parent.mkdir(exist_ok=True)
        self._pending[pool.submit(self._request_reply, file, request)] = (case, cues)

    def _request_reply(self, file: Path, request: dict[str, Any]) -> Reply:
        if self._stop.is_set():
            raise ReplyError("stopped")
        reply = request_completion(self._client, self._endpoint, request, self._stop.wait)
        save_reply(file, reply)
        return reply

    def _collect_replies(self, max_pending: int) -> None:
        """Process finished requests until at most ``max_pending`` are pending."""
        progress = self._progress
        while len(self._pending) > max_pending:
            for future in wait(self._pending, return_when=FIRST_COMPLETED).done:
                case, cues = self._pending.pop(future)
                try:
                    reply = future.result()
                except ReplyError as error:
                    progress.requests += error.attempts
                    self._consecutive_failures += 1
                    self._add_failure(case, str(error))
                    if self._consecutive_failures >= _MAX_CONSECUTIVE_FAILURES:
                        raise EndpointError(
                            f"{self._consecutive_failures} cases in a row got no usable reply, the last: {error}"
                        ) from None
                else:
                    self._consecutive_failures = 0
                    progress.requests += reply.attempts
                    progress.tokens_in += reply.tokens_in
                    progress.tokens_out += reply.tokens_out
                    self._add_reply(case, cues, reply)

    def _add_reply(self, case: Case, cues: tuple[Cue, ...], reply: Reply) -> None:
        error = "the reply was cut off at the limit of tokens" if reply.cut else check_reply(reply.text, case)
        if error is not None:
            self._add_failure(case, error)
            return
        model = self._endpoint.model
        self._changed[case.id] = _with_rationale(case, cues, reply.text.strip(), "model", PROMPT_VERSION, model)
        self._progress.written += 1
        self._on_progress(self._progress)

    def _add_failure(self, case: Case, reason: str) -> None:
        self._progress.failures.append((case.id, reason))
        self._on_progress(self._progress)


@contextmanager
def _lock_cache(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{cache}: another run is writing rationales here") from None
        yield


def _write_failures(path: Path, failures: list[tuple[str, str]]) -> None:
    if failures:
        with atomic_write(path) as lines:
            for case, reason in sorted(failures):
                lines.write(json.dumps({"case": case, "reason": reason}, ensure_ascii=False) + "\n")
    else:
        path.unlink(missing_ok=True)

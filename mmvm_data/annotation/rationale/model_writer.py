"""Request rationales from a model at an endpoint and cache its replies."""

from __future__ import annotations

import fcntl
import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmvm_data.annotation.rationale.selection import (
    NewRationale,
    ProgressCallback,
    RationaleOptions,
    RationaleProgress,
    load_or_propose_cues,
    new_rationale,
    select_cases,
)
from mmvm_data.annotation.rationale.text import PROMPT_VERSION, SYSTEM, build_user_prompt, check_reply
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Case, Cue
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.io.checked_images import read_frame_image
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

_MAX_CONSECUTIVE_FAILURES = 10  # cases without a usable reply, after which the endpoint counts as down


def build_case_request(case: Case, directory: Path, cues: tuple[Cue, ...], endpoint: Endpoint) -> dict[str, Any]:
    """Return the request for one case: its drawn images as data URLs, the answer, and the cues as hints.

    Raises:
        InputError: a drawn image is missing, damaged, of another size, or lies outside the benchmark.
    """
    image_lines, text = build_user_prompt(case, cues)
    content: list[dict[str, Any]] = []
    paths = drawn_paths(case)
    if len(paths) != len(case.frames):
        raise InputError(case.id, "its drawn images are not in a case folder", field="frames")
    for line, name, frame in zip(image_lines, paths, case.frames, strict=True):
        data = read_frame_image(directory, name, frame, case.id)
        content += [{"type": "text", "text": line}, make_image_part(data)]
    content.append({"type": "text", "text": text})
    return build_request(endpoint, [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}])


def cache_key(endpoint: Endpoint, request: dict[str, Any]) -> str:
    """Return the name of a reply in the cache: SHA-256 of the URL, the prompt version and the complete request."""
    content = json.dumps([endpoint.shown_url, PROMPT_VERSION, request], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


class ModelWriter:
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
        self._rationales: dict[str, NewRationale] = {}

    def write_all(self) -> dict[str, NewRationale]:
        """Return the rationales by case id.

        Raises:
            EndpointError: the endpoint rejects every request, or too many cases in a row got no usable reply.
        """
        with ThreadPoolExecutor(self._options.concurrency) as pool:
            try:
                for case in select_cases(self._directory, self._options):
                    self._start_case(pool, case)
                    self._collect_replies(max_pending=self._options.concurrency)
                self._collect_replies(max_pending=0)
            finally:
                self._stop.set()  # after an error, pending requests end and are cached, and no new one starts
        return self._rationales

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
        self._rationales[case.id] = new_rationale(case, cues, reply.text.strip(), "model", PROMPT_VERSION, model)
        self._progress.written += 1
        self._on_progress(self._progress)

    def _add_failure(self, case: Case, reason: str) -> None:
        self._progress.failures.append((case.id, reason))
        self._on_progress(self._progress)


@contextmanager
def lock_cache(cache: Path) -> Iterator[None]:
    """Hold the lock of a cache folder, which is created if it is missing.

    Raises:
        UsageError: another run holds it.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{cache}: another run is writing rationales here") from None
        yield

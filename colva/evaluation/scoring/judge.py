"""A judge: a model behind an endpoint that says which option a text means, where the rule finds none.

As in VLMEvalKit the rule comes first, and the judge sees only what it cannot read. Unlike there, a judge that cannot be
understood either leaves the text unparsed; nothing is drawn at random. Every verdict is kept on disk under the hash of
its request and is never paid for twice.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colva.evaluation.runs import Record
from colva.evaluation.scoring.extract import REFUSED, extract_number, extract_option
from mmvm_data.io.openai_client import (
    Endpoint,
    ReplyError,
    build_request,
    create_client,
    load_cached_reply,
    request_completion,
    save_reply,
)

CACHE = ".judge"
VERSION = "1"
"""Changes with every change of the prompts."""

_OPTION = """\
A model was asked a question with one right option. Say which option its reply means.

Question: {question}
Options:
{options}
Reply: {reply}

If the reply picks no option, refuses, or fits several, the verdict is Z. Write the verdict alone, \
one of {labels} or Z."""

_NUMBER = """\
A model was asked which numbered object in the last image is a certain object. Say which number its reply means.

Question: {question}
Reply: {reply}

If the reply says that none of the objects is right, the verdict is none. If it names no object, refuses, or names \
several, the verdict is Z. Write the verdict alone: a number, none, or Z."""

_REASON = """\
A model was asked which numbered object in the last image is a certain object, and why. Compare its reason with \
that of a person.

Question: {question}
The person's reason: {reference}
The model's reason: {reply}

Is at least one sign by which the model tells the right object among those of the person, and does the model's reason \
contradict none of them? Write yes or no alone."""


@dataclass
class Judged:
    """What the judge said, and what it cost.

    Attributes:
        labels: id of the question -> label or ``Z``; without those that it could not be understood on.
        reasons: id of the question -> whether the reason of the second turn agrees with the person's.
        asked, cached: requests of this run, and verdicts of earlier ones.
        tokens_in, tokens_out: of this run.
        failures: (id, why there is no verdict).
    """

    labels: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, bool] = field(default_factory=dict)
    asked: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


def judge(
    unread: Sequence[Record],
    reasoned: Sequence[Record],
    endpoint: Endpoint,
    cache: Path,
    workers: int = 8,
    show: Callable[[int, int], None] = lambda done, of: None,
) -> Judged:
    """Ask a judge about texts that no option could be read from, and about reasons.

    Args:
        unread: predictions without an option.
        reasoned: predictions with a second turn and a rationale to compare with.
        endpoint: the judge.
        cache: folder of its verdicts, made when it is missing.
        workers: requests at a time.
        show: called with (verdicts, of how many).

    Raises:
        UsageError: the openai package is missing, or the endpoint refuses everything. Verdicts that came are kept.
        OSError: the cache cannot be written.
    """
    client, found = create_client(endpoint), Judged()
    stop = threading.Event()
    cache.mkdir(parents=True, exist_ok=True)
    jobs = [(record, _about_option(record)) for record in unread]
    jobs += [(record, _about_reason(record)) for record in reasoned]

    def verdict(text: str) -> tuple[str, bool, int, int]:
        request = build_request(endpoint, [{"role": "user", "content": text}])
        name = cache / f"{_key(endpoint, request)}.json"
        if kept := load_cached_reply(name):
            return kept.text, True, 0, 0
        reply = request_completion(client, endpoint, request, stop.wait)
        save_reply(name, reply)
        return reply.text, False, reply.tokens_in, reply.tokens_out

    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = [pool.submit(verdict, text) for _, text in jobs]
            for number, ((record, _), future) in enumerate(zip(jobs, futures, strict=True)):
                try:
                    text, cached, tokens_in, tokens_out = future.result()
                except ReplyError as error:
                    found.failures.append((record.id, str(error)))
                else:
                    found.cached += cached
                    found.asked += not cached
                    found.tokens_in += tokens_in
                    found.tokens_out += tokens_out
                    _take(found, record, text, is_reason=number >= len(unread))
                show(number + 1, len(jobs))
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return found


def _take(found: Judged, record: Record, text: str, is_reason: bool) -> None:
    if is_reason:
        said = text.strip().strip(".*\"'`").casefold()
        if said in ("yes", "no"):
            found.reasons[record.id] = said == "yes"
            return
    elif (label := _label(record, text)) is not None:
        found.labels[record.id] = label
        return
    found.failures.append((record.id, f"the verdict cannot be understood: {text.strip()[:80]!r}"))


def _label(record: Record, text: str) -> str | None:
    if text.strip().strip(".*\"'`") == REFUSED:
        return REFUSED
    if record.protocol == "vqa":
        return extract_number(text, [int(label) for label in record.choices if label.isdigit()], "strict")
    return extract_option(text, record.choices, "strict")


def _about_option(record: Record) -> str:
    if record.protocol == "vqa":
        return _NUMBER.format(question=record.pure.strip(), reply=record.reply)
    options = "\n".join(f"{label}. {text}" for label, text in record.choices.items())
    labels = ", ".join(record.choices)
    return _OPTION.format(question=record.pure.strip(), options=options, labels=labels, reply=record.reply)


def _about_reason(record: Record) -> str:
    return _REASON.format(question=record.pure.strip(), reference=record.rationale, reply=record.why)


def _key(endpoint: Endpoint, request: Mapping[str, Any]) -> str:
    whole = json.dumps([endpoint.url.rstrip("/"), VERSION, request], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()

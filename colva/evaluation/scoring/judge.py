"""A judge: a model behind an endpoint that reads which option a text means, where the rule finds none.

As in VLMEvalKit the rule comes first, and the judge sees only what it cannot read. Unlike there, a verdict that cannot
be parsed leaves the text unread; no answer is drawn at random. Every verdict is cached on disk under the hash of its
request, so it is paid for once.
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

from colva.evaluation.runs import Prediction
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

CACHE_DIR = ".judge"
"""Folder of the verdicts in a run's folder."""
PROMPT_VERSION = "1"
"""Changes with every change of the prompts; part of the cache key."""

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
class Verdicts:
    """The judge's verdicts, and what they cost.

    Attributes:
        labels: id of the question -> label or ``Z``; without those whose verdict could not be parsed.
        reasons: id of the question -> whether the reason of the second turn agrees with the person's.
        num_requests, num_cached: requests of this run, and verdicts of earlier ones.
        tokens_in, tokens_out: of this run.
        failures: (id, why there is no verdict).
    """

    labels: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, bool] = field(default_factory=dict)
    num_requests: int = 0
    num_cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


def judge_predictions(
    unread: Sequence[Prediction],
    with_reason: Sequence[Prediction],
    judge: Endpoint,
    cache_dir: Path,
    workers: int = 8,
    on_verdict: Callable[[int, int], None] = lambda done, total: None,
) -> Verdicts:
    """Ask a judge about texts that no option could be read from, and about reasons.

    Args:
        unread: predictions without an option.
        with_reason: predictions with a second turn and a rationale to compare with.
        judge: the endpoint.
        cache_dir: folder of the verdicts, created when it is missing.
        workers: requests at a time.
        on_verdict: called with (verdicts, of how many).

    Raises:
        UsageError: the openai package is missing, or the endpoint refuses everything. Verdicts that came are kept.
        OSError: the cache cannot be written.
    """
    client, verdicts = create_client(judge), Verdicts()
    stop = threading.Event()
    cache_dir.mkdir(parents=True, exist_ok=True)
    jobs = [(prediction, _option_prompt(prediction)) for prediction in unread]
    jobs += [(prediction, _reason_prompt(prediction)) for prediction in with_reason]

    def request_verdict(text: str) -> tuple[str, bool, int, int]:
        request = build_request(judge, [{"role": "user", "content": text}])
        path = cache_dir / f"{_cache_key(judge, request)}.json"
        if cached := load_cached_reply(path):
            return cached.text, True, 0, 0
        reply = request_completion(client, judge, request, stop.wait)
        if reply.cut and not reply.text:
            raise ReplyError(f"the verdict was cut off at the limit of {judge.max_tokens} tokens", reply.attempts)
        save_reply(path, reply)
        return reply.text, False, reply.tokens_in, reply.tokens_out

    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = [pool.submit(request_verdict, text) for _, text in jobs]
            for number, ((prediction, _), future) in enumerate(zip(jobs, futures, strict=True)):
                try:
                    text, is_cached, tokens_in, tokens_out = future.result()
                except ReplyError as error:
                    verdicts.failures.append((prediction.id, str(error)))
                else:
                    verdicts.num_cached += is_cached
                    verdicts.num_requests += not is_cached
                    verdicts.tokens_in += tokens_in
                    verdicts.tokens_out += tokens_out
                    _add_verdict(verdicts, prediction, text, is_reason=number >= len(unread))
                on_verdict(number + 1, len(jobs))
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return verdicts


def _add_verdict(verdicts: Verdicts, prediction: Prediction, text: str, is_reason: bool) -> None:
    if is_reason:
        word = text.strip().strip(".*\"'`").casefold()
        if word in ("yes", "no"):
            verdicts.reasons[prediction.id] = word == "yes"
            return
    elif (label := _parse_label(prediction, text)) is not None:
        verdicts.labels[prediction.id] = label
        return
    verdicts.failures.append((prediction.id, f"the verdict cannot be parsed: {text.strip()[:80]!r}"))


def _parse_label(prediction: Prediction, text: str) -> str | None:
    if text.strip().strip(".*\"'`") == REFUSED:
        return REFUSED
    if prediction.protocol == "vqa":
        return extract_number(text, [int(label) for label in prediction.choices if label.isdigit()], "strict")
    return extract_option(text, prediction.choices, "strict")


def _option_prompt(prediction: Prediction) -> str:
    question = prediction.pure.strip()
    if prediction.protocol == "vqa":
        return _NUMBER.format(question=question, reply=prediction.reply)
    options = "\n".join(f"{label}. {text}" for label, text in prediction.choices.items())
    labels = ", ".join(prediction.choices)
    return _OPTION.format(question=question, options=options, labels=labels, reply=prediction.reply)


def _reason_prompt(prediction: Prediction) -> str:
    question = prediction.pure.strip()
    return _REASON.format(question=question, reference=prediction.rationale, reply=prediction.why)


def _cache_key(judge: Endpoint, request: Mapping[str, Any]) -> str:
    text = json.dumps([judge.shown_url, PROMPT_VERSION, request], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

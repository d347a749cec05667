"""A model behind an OpenAI-compatible endpoint: GPT-4o, vLLM, any server with ``/chat/completions``."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from colva.evaluation.models.base import DEFAULT_MAX_TOKENS, ModelOptions, Reply
from colva.evaluation.question import Question, frame_sizes
from mmvm_data.core.errors import UsageError
from mmvm_data.core.redact import redact_fields
from mmvm_data.formats.drawing import encode_jpeg
from mmvm_data.io import media, openai_client
from mmvm_data.io.checked_images import read_checked_image
from mmvm_data.io.env import env_value
from mmvm_data.io.openai_client import NO_KEY, Endpoint, EndpointError, ReplyError


class RateLimiter:
    """Limits the starts of requests a minute, evenly spaced, over all threads.

    Args:
        rpm: requests a minute; 0: no limit.
    """

    def __init__(self, rpm: int) -> None:
        self._interval = 60 / rpm if rpm else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> bool:
        """Wait for a turn; return True when ``stop`` was set meanwhile."""
        if not self._interval:
            return stop.is_set()
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._interval
        return stop.wait(max(0.0, turn - time.monotonic()))


class EndpointModelAdapter:
    """Asks an endpoint; see ``base.ModelAdapter`` for the attributes. Images go as data URLs, before the text, as the
    published evaluator orders them.

    Args:
        endpoint: address, model, key, retries.
        options: concurrency, rate, size of images, ``stop``.

    Raises:
        UsageError: the openai package is missing.
    """

    batch = 1

    def __init__(self, endpoint: Endpoint, options: ModelOptions) -> None:
        self.name = endpoint.model
        self.workers = options.concurrency
        self.fingerprint: Mapping[str, Any] = {
            "adapter": "openai",
            "url": endpoint.shown_url,
            "model": endpoint.model,
            "max_tokens": endpoint.max_tokens,
            "body": redact_fields(endpoint.body),
            "max_side": options.max_side,
        }
        self._endpoint = endpoint
        self._client = openai_client.create_client(endpoint)
        self._rate_limiter = RateLimiter(options.rpm)
        self._max_side = options.max_side
        self._stop = options.stop

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Return one reply for each question; failed requests are replies with an error.

        Raises:
            InputError: an image is missing, damaged or of another size.
            EndpointError: the endpoint refuses its key, the model or the address.
        """
        return [self._reply(question) for question in questions]

    def _reply(self, question: Question) -> Reply:
        sizes = frame_sizes(question)
        images = [
            openai_client.make_image_part(self._image_bytes(path, size))
            for path, size in zip(question.images, sizes, strict=True)
        ]
        content = [*images, {"type": "text", "text": question.text}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        try:
            first = self._ask(messages)
            reply = Reply(
                first.text,
                truncated=first.cut,
                withheld=first.withheld,
                tokens_in=first.tokens_in,
                tokens_out=first.tokens_out,
            )
            if question.why_prompt is None:
                return reply
            messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": question.why_prompt}]
            second = self._ask(messages)
        except ReplyError as error:
            rejected = error.refused and not error.too_long
            return Reply("", error=str(error), retryable=not error.refused, rejected=rejected)
        return replace(
            reply,
            why=second.text,
            truncated=first.cut or second.cut,
            tokens_in=first.tokens_in + second.tokens_in,
            tokens_out=first.tokens_out + second.tokens_out,
        )

    def _ask(self, messages: list[dict[str, Any]]) -> openai_client.Reply:
        if self._rate_limiter.wait(self._stop):
            raise ReplyError("stopped")
        try:
            return openai_client.request_completion(
                self._client, self._endpoint, openai_client.build_request(self._endpoint, messages), self._pause
            )
        except EndpointError:
            self._stop.set()  # the other requests would be refused too
            raise

    def _pause(self, seconds: float) -> bool:
        """Wait before another attempt, which the rate limit counts too; return True to give up."""
        return self._stop.wait(seconds) or self._rate_limiter.wait(self._stop)

    def _image_bytes(self, path: Path, size: tuple[int, int] | None) -> bytes:
        """Return the file without its orientation tag, or a smaller JPEG when ``max_side`` asks for one."""
        data = read_checked_image(path.parent, path.name, size)
        if not self._max_side:
            return data
        image = media.decode_image(path, data, cv2.IMREAD_COLOR)
        height, width = image.shape[:2]
        scale = self._max_side / max(height, width)
        if scale >= 1:
            return data
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return encode_jpeg(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))


def open_model(name: str, options: ModelOptions) -> EndpointModelAdapter:
    """Open the model of that name; key and, without ``base_url``, address come from the environment or ``.env``.

    Raises:
        UsageError: there is no address, the openai package is missing, or likelihoods are asked for, which the chat
            API does not return for options.
    """
    if options.answer_by == "likelihood":
        raise UsageError("`answer_by='likelihood'` is for local models: an endpoint returns no likelihood of options")
    url = options.base_url or env_value("OPENAI_API_BASE", options.env)
    if not url:
        raise UsageError("openai:NAME needs `base_url`, or OPENAI_API_BASE in the environment or in .env")
    endpoint = Endpoint(
        url=url,
        model=name,
        key=env_value("OPENAI_API_KEY", options.env) or NO_KEY,
        timeout=options.timeout,
        retries=options.retries,
        backoff=options.backoff,
        max_tokens=DEFAULT_MAX_TOKENS if options.max_tokens is None else options.max_tokens,
        body=options.body,
    )
    return EndpointModelAdapter(endpoint, options)

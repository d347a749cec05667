"""A model behind an OpenAI-compatible endpoint: GPT-4o, vLLM, any server with ``/chat/completions``."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from colva.evaluation.models.base import PlayerOptions, Reply
from colva.evaluation.question import Question
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.formats.drawing import encode_jpeg
from mmvm_data.io import media, openai_client
from mmvm_data.io.env import env_value
from mmvm_data.io.openai_client import NO_KEY, Endpoint, EndpointError, ReplyError


class Pace:
    """At most so many starts a minute, evenly spaced, over all threads.

    Args:
        rpm: starts a minute; 0: no limit.
    """

    def __init__(self, rpm: int) -> None:
        self._gap = 60 / rpm if rpm else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> bool:
        """Wait for a turn; true when ``stop`` was set meanwhile."""
        if not self._gap:
            return stop.is_set()
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._gap
        return stop.wait(max(0.0, turn - time.monotonic()))


class EndpointPlayer:
    """Asks an endpoint; see ``player.Player`` for the attributes. Images go as data URLs, before the text, as the
    published evaluator orders them.

    Args:
        endpoint: where and how.
        options: concurrency, rate, size of images, ``stop``.

    Raises:
        UsageError: the openai package is missing.
    """

    batch = 1

    def __init__(self, endpoint: Endpoint, options: PlayerOptions) -> None:
        self.name = endpoint.model
        self.workers = options.concurrency
        self.fingerprint: Mapping[str, Any] = {
            "player": "openai",
            "url": endpoint.url.rstrip("/"),
            "model": endpoint.model,
            "max_tokens": endpoint.max_tokens,
            "body": dict(endpoint.body),
            "max_side": options.max_side,
        }
        self._endpoint = endpoint
        self._client = openai_client.create_client(endpoint)
        self._pace = Pace(options.rpm)
        self._max_side = options.max_side
        self._stop = options.stop

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply a question, faults as such.

        Raises:
            InputError: an image cannot be read.
            EndpointError: the endpoint refuses its key, the model or the address.
        """
        return [self._reply(question) for question in questions]

    def _reply(self, question: Question) -> Reply:
        images = [openai_client.make_image_part(self._image(path)) for path in question.images]
        content = [*images, {"type": "text", "text": question.text}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        try:
            first = self._ask(messages)
            if question.why is None:
                return Reply(first.text, cut=first.cut, tokens_in=first.tokens_in, tokens_out=first.tokens_out)
            messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": question.why}]
            second = self._ask(messages)
        except ReplyError as error:
            return Reply("", fault=str(error), passing=not error.refused)
        return Reply(
            first.text,
            why=second.text,
            cut=first.cut,
            tokens_in=first.tokens_in + second.tokens_in,
            tokens_out=first.tokens_out + second.tokens_out,
        )

    def _ask(self, messages: list[dict[str, Any]]) -> openai_client.Reply:
        if self._pace.wait(self._stop):
            raise ReplyError("stopped")
        try:
            return openai_client.request_completion(
                self._client, self._endpoint, openai_client.build_request(self._endpoint, messages), self._pause
            )
        except EndpointError:
            self._stop.set()  # the others would be refused, too
            raise

    def _pause(self, seconds: float) -> bool:
        """Before another attempt, which takes its turn in the pace, too."""
        return self._stop.wait(seconds) or self._pace.wait(self._stop)

    def _image(self, path: Path) -> bytes:
        """The file as it is, or smaller when a limit is set."""
        data = media.read_bytes(path)
        if not self._max_side:
            return data
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
        if image is None:
            raise InputError(path, "image cannot be decoded")
        height, width = image.shape[:2]
        scale = self._max_side / max(height, width)
        if scale >= 1:
            return data
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return encode_jpeg(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))


def open_player(name: str, options: PlayerOptions) -> EndpointPlayer:
    """The model of that name; key and, without ``base_url``, address come from the environment or ``.env``.

    Raises:
        UsageError: no address is given, the openai package is missing, or likelihoods are asked for, which the API of
            chats does not give for options.
    """
    if options.by == "likelihood":
        raise UsageError("--by likelihood: an endpoint gives no likelihood of options; it is for local models")
    url = options.base_url or env_value("OPENAI_API_BASE", options.env)
    if not url:
        raise UsageError("--model openai:NAME needs --base-url URL, or OPENAI_API_BASE in the environment or in .env")
    endpoint = Endpoint(
        url=url,
        model=name,
        key=env_value("OPENAI_API_KEY", options.env) or NO_KEY,
        timeout=options.timeout,
        retries=options.retries,
        backoff=options.backoff,
        max_tokens=options.max_tokens,
        body=options.body,
    )
    return EndpointPlayer(endpoint, options)

"""The options of an endpoint, and requests to a real HTTP server."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.core.options import OptionError
from mmvm_data.io import openai_client
from mmvm_data.io.openai_client import Endpoint, ReplyError
from tests.endpoint import Server, good, send, serving

KEY = "sk-very-secret-0123456789"
URL = "http://localhost:8000/v1"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("openai")
    with serving(monkeypatch, tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "localhost:8000"}, "url must be an address such as http://localhost:8000/v1, got 'localhost:8000'"),
        ({"model": ""}, "model"),
        ({"timeout": 0.0}, "timeout must be above 0, got 0.0"),
        ({"timeout": "9"}, "timeout must be a number, got '9'"),
        ({"retries": -1}, "retries must be at least 0, got -1"),
        ({"retries": True}, "retries must be an integer, got True"),
        ({"backoff": -0.1}, "backoff must be at least 0, got -0.1"),
        ({"max_tokens": -5}, "max_tokens must be at least 0, got -5"),
        ({"body": {"stream": True}}, "body must not contain stream"),
        ({"temperature": 0}, "temperature is an unknown option"),
    ],
)
def test_endpoint_rejects_values(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Endpoint(**{"url": URL, "model": "m", **arguments})
    assert message in str(caught.value)


def test_key_is_not_shown() -> None:
    assert KEY not in repr(Endpoint(url=URL, model="m", key=KEY))
    with pytest.raises(OptionError) as caught:
        Endpoint(url=URL, model="m", key=KEY.encode())  # type: ignore[arg-type]
    assert str(caught.value) == "key must be a string, got a secret"


@pytest.mark.parametrize("status", [200, 400, 500])
def test_key_is_redacted_in_errors(server: Server, status: int) -> None:
    text = "x" * 110 + KEY  # the excerpt in the message ends within the key
    server.act = lambda s, handler, r, n: send(handler, status, text)
    endpoint = Endpoint(url=server.url, model="m", key=KEY, retries=1, backoff=0)
    request = openai_client.build_request(endpoint, [{"role": "user", "content": "?"}])
    for pause in (lambda seconds: False, lambda seconds: True):
        with pytest.raises(ReplyError) as caught:
            openai_client.request_completion(openai_client.create_client(endpoint), endpoint, request, pause)
        assert KEY[:5] not in str(caught.value)


def test_parse_retry_after() -> None:
    soon = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert openai_client._parse_retry_after("7") == 7
    assert 20 < (openai_client._parse_retry_after(soon) or 0) <= 31
    assert [openai_client._parse_retry_after(text) for text in (None, "soon", "")] == [None, None, None]


def test_retry_after_is_respected(server: Server) -> None:
    server.act = lambda s, h, r, n: send(h, 429, "{}", **{"retry-after": "9"}) if n < 3 else good(s, h, r, n)
    endpoint = Endpoint(url=server.url, model="m", key="k")
    pauses: list[float] = []
    content = [{"type": "text", "text": "Object 1 is the query"}]
    request = openai_client.build_request(
        endpoint, [{"role": "system", "content": ""}, {"role": "user", "content": content}]
    )
    reply = openai_client.request_completion(openai_client.create_client(endpoint), endpoint, request, pauses.append)
    assert (pauses, reply.attempts) == ([9.0, 9.0], 3)
    assert json.loads(reply.model_dump_json())["text"] == reply.text


@pytest.mark.parametrize(
    ("message", "finish", "usage", "text", "cut"),
    [
        ({"content": [{"type": "text", "text": "The "}, {"type": "text", "text": "B"}]}, "stop", {}, "The B", False),
        ({"content": [{"type": "thinking", "thinking": "A?"}, {"text": "B"}]}, "stop", {}, "B", False),
        ({"content": None, "refusal": "I cannot help with it."}, "stop", {}, "I cannot help with it.", False),
        ({"content": None, "reasoning_content": "Is it A?"}, "length", {}, "", True),
        ({"content": ""}, "content_filter", None, "", False),
        ({}, None, None, "", False),
        ({"content": "B"}, "stop", {"prompt_tokens": None, "completion_tokens": None}, "B", False),
    ],
)
def test_forms_of_a_message(
    server: Server, message: dict[str, Any], finish: str | None, usage: dict[str, Any] | None, text: str, cut: bool
) -> None:
    completion = {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}
    server.act = lambda s, handler, r, n: send(handler, 200, json.dumps(completion))
    endpoint = Endpoint(url=server.url, model="m", retries=0)
    request = openai_client.build_request(endpoint, [{"role": "user", "content": "?"}])
    reply = openai_client.request_completion(openai_client.create_client(endpoint), endpoint, request)
    assert (reply.text, reply.cut, reply.tokens_in, reply.tokens_out) == (text, cut, 0, 0)

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
from tests.endpoint import Server, completion, good, send, serving

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
    ("message", "finish", "usage", "text", "marks"),
    [
        ({"content": [{"type": "text", "text": "The "}, {"type": "text", "text": "B"}]}, "stop", {}, "The B", ""),
        ({"content": [{"type": "thinking", "thinking": "A?"}, {"text": "B"}]}, "stop", {}, "B", ""),
        ({"content": None, "refusal": "I cannot help with it."}, "stop", {}, "I cannot help with it.", "withheld"),
        ({"content": None, "reasoning_content": "Is it A?"}, "length", {}, "", "cut"),
        ({"content": "B", "reasoning_content": "Is it A? No."}, "stop", {}, "B", ""),
        ({"content": "The answer"}, "length", {}, "The answer", "cut"),
        ({"content": ""}, "content_filter", None, "", "withheld"),
        ({"content": "B. It"}, "content_filter", None, "B. It", ""),
        ({}, None, None, "", ""),
        ({"content": "B"}, "stop", {"prompt_tokens": None, "completion_tokens": None}, "B", ""),
    ],
)
def test_forms_of_a_message(
    server: Server, message: dict[str, Any], finish: str | None, usage: dict[str, Any] | None, text: str, marks: str
) -> None:
    body = {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}
    server.act = lambda s, handler, r, n: send(handler, 200, json.dumps(body))
    reply = ask(Endpoint(url=server.url, model="m", retries=0))
    assert (reply.text, reply.tokens_in, reply.tokens_out) == (text, 0, 0)
    assert (reply.cut, reply.withheld) == (marks == "cut", marks == "withheld")


def ask(endpoint: Endpoint, client: openai_client.Client | None = None) -> openai_client.Reply:
    request = openai_client.build_request(endpoint, [{"role": "user", "content": "?"}])
    return openai_client.request_completion(client or openai_client.create_client(endpoint), endpoint, request)


def refuses_max_tokens(server: Server, handler: Any, request: dict[str, Any], nth: int) -> None:
    if "max_tokens" in request:
        message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
        send(handler, 400, json.dumps({"error": {"message": message, "code": "unsupported_parameter"}}))
    else:
        send(handler, 200, completion("B"))


def test_a_model_that_refuses_max_tokens_gets_the_limit_that_it_asks_for(server: Server) -> None:
    server.act = refuses_max_tokens
    endpoint = Endpoint(url=server.url, model="m", retries=0, max_tokens=77)
    client = openai_client.create_client(endpoint)
    assert [ask(endpoint, client).attempts for _ in range(2)] == [2, 1]
    limits = [(body.get("max_tokens"), body.get("max_completion_tokens")) for body in server.requests]
    assert limits == [(77, None), (None, 77), (None, 77)]


@pytest.mark.parametrize("body", [{}, {"max_completion_tokens": 9}])
def test_no_limit_is_sent_where_there_is_none_or_the_body_has_its_own(server: Server, body: dict[str, Any]) -> None:
    server.act = refuses_max_tokens
    ask(Endpoint(url=server.url, model="m", retries=0, max_tokens=77 if body else 0, body=body))
    assert [{name: value for name, value in r.items() if "token" in name} for r in server.requests] == [body]


def test_a_prompt_that_a_filter_refuses_gets_a_withheld_reply(server: Server) -> None:
    error = {"error": {"message": "The response was filtered", "code": "content_filter"}}
    server.act = lambda s, handler, r, n: send(handler, 400, json.dumps(error))
    reply = ask(Endpoint(url=server.url, model="m", retries=0))
    assert (reply.text, reply.withheld, reply.attempts) == ("", True, 1)


@pytest.mark.parametrize(
    ("text", "cause", "too_long"),
    [
        ("At most 1 image(s) may be provided in one prompt.", "fewer images .* --limit-mm-per-prompt in vLLM", False),
        ("Multiple images are not supported", "fewer images", False),
        ("image input is not supported - hint: provide the mmproj", "the model takes no images", False),
        ("m is not a multimodal model", "the model takes no images", False),
        ("This model's maximum context length is 4096 tokens", "longer than the model's context", True),
        ("Unsupported value: 'temperature'", "^status 400", False),
    ],
)
def test_causes_of_rejections(server: Server, text: str, cause: str, too_long: bool) -> None:
    server.act = lambda s, handler, r, n: send(handler, 400, json.dumps({"object": "error", "message": text}))
    with pytest.raises(ReplyError, match=cause) as caught:
        ask(Endpoint(url=server.url, model="m", retries=3, backoff=0))
    assert (caught.value.refused, caught.value.too_long, caught.value.attempts) == (True, too_long, 1)


def test_a_short_key_is_not_masked_inside_words(server: Server) -> None:
    server.act = lambda s, handler, r, n: send(handler, 500, "the token B1 is bad: Beta, B1x")
    with pytest.raises(ReplyError, match=r"the token \*\*\* is bad: Beta, B1x"):
        ask(Endpoint(url=server.url, model="m", key="B1", retries=0))
    server.act = lambda s, handler, r, n: send(handler, 200, completion("B1 is Beta"))
    assert ask(Endpoint(url=server.url, model="m", key="B1")).text == "B1 is Beta"

"""Chat completions of an OpenAI-compatible endpoint, with retries. The key is in no message, record or ``repr``."""

from __future__ import annotations

import base64
import email.utils
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_core import to_json

from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import options
from mmvm_data.core.redact import MASK, MIN_UNIQUE_LENGTH, redact, redact_urls
from mmvm_data.io.files import atomic_write, read_regular

_RETRYABLE_STATUS = (408, 409, 429)  # and every 5xx
_FATAL_STATUS = (401, 403, 404)  # every other request would fail in the same way
_INVALID_STATUS = (400, 422)
_CONTEXT_EXCEEDED = re.compile(
    r"context_length_exceeded|max(?:imum)?[ _-](?:context|model)[ _-]len|context (?:length|window)", re.I
)
_REJECTIONS = {
    re.compile(
        r"at most \d+ (?:image|multi-?modal)|(?:multiple|too many|more than (?:one|\d+)) images"
        r"|only (?:one|1|a single) image|limit[_-]mm[_-]per[_-]prompt",
        re.I,
    ): "the server allows fewer images in a request than this one has; raise its limit, --limit-mm-per-prompt in vLLM",
    re.compile(
        r"not support(?:ed)?.{0,20}(?:image|vision|multi-?modal)|(?:image|vision|multi-?modal).{0,20}not support"
        r"|not a (?:multi-?modal|vision)",
        re.I,
    ): "the model takes no images",
}
"""Text of a rejected request -> what it means."""
_MAX_WAIT = 120.0  # seconds, also where Retry-After asks for more
NO_KEY = "none"
"""Key for servers that need none."""
_RESERVED_FIELDS = {"model", "messages", "stream"}
_LIMIT, _RENAMED_LIMIT = "max_tokens", "max_completion_tokens"
_FILTERED = "content_filter"
"""Finish reason, and code of an error, where a filter of the endpoint withholds a reply."""


class ReplyError(Exception):
    """A request got no usable reply. The message does not contain the key.

    Attributes:
        attempts: number of requests sent.
        refused: the endpoint works, but rejects this request.
        too_long: it is rejected because it is longer than the model's context.
    """

    def __init__(self, reason: str, attempts: int = 0, refused: bool = False, too_long: bool = False) -> None:
        self.attempts = attempts
        self.refused = refused
        self.too_long = too_long
        super().__init__(reason)


class EndpointError(UsageError):
    """The endpoint rejects every request: the key, the model or the address is wrong, or nothing listens there."""


@options
class Endpoint:
    """An endpoint, a model there, and how requests are sent.

    Attributes:
        url: base URL of the API, such as ``http://localhost:8000/v1``; not part of ``repr``, as it may hold a password.
        model: name of the model at the endpoint.
        key: API key; not part of ``repr`` or of error messages. Servers that need no key ignore the default.
        timeout: seconds to wait for one reply.
        retries: further attempts after the first.
        backoff: seconds before the second attempt, doubled for each further one.
        max_tokens: limit of the reply; 0 leaves it out of the request. A model that refuses `max_tokens` gets
            `max_completion_tokens`.
        body: further fields of the request, such as ``{"temperature": 0}``.

    Raises:
        OptionError: an argument is not valid.
    """

    url: str = field(repr=False)
    model: Annotated[str, Field(min_length=1)]
    key: str = field(default=NO_KEY, repr=False)
    timeout: Annotated[float, Field(gt=0)] = 120.0
    retries: Annotated[int, Field(ge=0)] = 5
    backoff: Annotated[float, Field(ge=0)] = 1.0
    max_tokens: Annotated[int, Field(ge=0)] = 400
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown_url(self) -> str:
        """The URL without its password or token: for files, keys of caches and messages."""
        return redact_urls(self.url.rstrip("/"))

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"must be an address such as http://localhost:8000/v1, got {redact_urls(url)!r}")
        return url

    @field_validator("body")
    @classmethod
    def _check_body(cls, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if reserved := sorted(_RESERVED_FIELDS & body.keys()):
            raise ValueError(f"must not contain {', '.join(reserved)}")
        return body


class _Part(BaseModel):
    text: str | None = None


class _Message(BaseModel):
    """A message; its content is text, a list of parts, or null: a refusal, or nothing but reasoning before the end."""

    content: str | list[_Part] | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or ""


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(BaseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


class Reply(BaseModel):
    """The reply of a model.

    Attributes:
        text: unchanged; of a refusal the reason that the model gives, "" when the endpoint's filter withholds it, or
            when the limit of tokens was reached while the model was reasoning.
        cut: whether it ended at the limit of tokens.
        withheld: there is no text, because the model refused (`message.refusal`) or a filter of the endpoint did.
        tokens_in, tokens_out: as counted by the endpoint; 0 when it does not report them.
        attempts: number of requests sent.
    """

    text: str
    cut: bool = False
    withheld: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    attempts: int = 1


@dataclass
class Client:
    """A client of the openai package, and what was learned about its endpoint.

    Attributes:
        api: the client.
        renames_limit: the model refuses `max_tokens` and takes `max_completion_tokens`.
    """

    api: Any
    renames_limit: bool = False


def make_image_part(data: bytes) -> dict[str, Any]:
    """Return the message part for an image file (bytes of a PNG, WebP or JPEG), as a data URL."""
    image_format = "png" if data.startswith(b"\x89PNG") else "webp" if data[8:12] == b"WEBP" else "jpeg"
    url = f"data:image/{image_format};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def load_cached_reply(file: Path) -> Reply | None:
    """Return the reply that ``save_reply`` wrote; None when the file is missing or not valid."""
    try:
        return Reply.model_validate_json(read_regular(file))
    except (FileNotFoundError, ValidationError):
        return None


def save_reply(file: Path, reply: Reply) -> None:
    """Write a reply to a file and sync it to disk, so that it is never paid for twice.

    Raises:
        OSError: the disk is full or read-only.
    """
    with atomic_write(file) as handle:
        handle.write(reply.model_dump_json())


def build_request(endpoint: Endpoint, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the complete body of a request; caches derive their keys from it."""
    limit = {_LIMIT: endpoint.max_tokens} if endpoint.max_tokens and _RENAMED_LIMIT not in endpoint.body else {}
    return {"model": endpoint.model, "messages": messages, **limit, **endpoint.body}


def create_client(endpoint: Endpoint) -> Client:
    """Return a client of the openai package with its own retries disabled, see ``request_completion``.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        import openai
    except ImportError as error:
        raise UsageError("endpoints need the openai package: pip install 'mmvm-data[review]'") from error
    return Client(openai.OpenAI(base_url=endpoint.url, api_key=endpoint.key, timeout=endpoint.timeout, max_retries=0))


def request_completion(
    client: Client, endpoint: Endpoint, request: dict[str, Any], pause: Callable[[float], Any] = time.sleep
) -> Reply:
    """Send one request and return the reply.

    The request is repeated after status 408, 409, 429 and 5xx (a Retry-After header is respected), timeouts, broken or
    refused connections, and replies that are not a completion. When the model refuses `max_tokens` and asks for
    `max_completion_tokens`, this and all later requests of the client are sent with that.

    Args:
        client: from ``create_client``.
        endpoint: the endpoint that the client was created for.
        request: from ``build_request``.
        pause: waits the given number of seconds; a true result cancels further attempts.

    Raises:
        ReplyError: no usable reply after all attempts, or the endpoint rejects this request.
        EndpointError: the endpoint rejects every request (401, 403, 404).
    """
    import httpx
    import openai

    reason, attempt, failures = "", 0, 0
    while failures <= endpoint.retries:
        attempt += 1
        wait = min(endpoint.backoff * 2**failures, _MAX_WAIT) * random.uniform(0.75, 1.25)
        renames_limit = client.renames_limit and _LIMIT in request
        body = _rename_limit(request) if renames_limit else request
        try:
            # encoded here, since the client is slow at encoding a request of several megabytes
            raw = client.api.post("/chat/completions", cast_to=httpx.Response, body=to_json(body))
            completion = _Completion.model_validate_json(raw.content)
            if completion.choices:
                return _make_reply(completion, endpoint.key, attempt)
            reason = "the reply has no choices"
        except ValidationError:
            content_type = raw.headers.get("content-type", "no type").partition(";")[0]
            reason = f"the reply is no completion ({content_type}, {_excerpt(raw.content, endpoint.key)})"
        except openai.APIStatusError as error:
            reason = f"status {error.status_code}: {_excerpt(error.response.content, endpoint.key)}"
            if error.status_code in _FATAL_STATUS:
                raise EndpointError(f"the endpoint rejects model {endpoint.model!r}: {reason}") from None
            if error.status_code in _INVALID_STATUS:
                if error.code == _FILTERED:
                    return Reply(text="", withheld=True, attempts=attempt)
                if _LIMIT in body and _RENAMED_LIMIT in error.response.text:
                    client.renames_limit = True
                    continue
            if error.status_code not in _RETRYABLE_STATUS and error.status_code < 500:
                text = error.response.text
                if _CONTEXT_EXCEEDED.search(text):
                    reason = f"the request is longer than the model's context ({reason})"
                    raise ReplyError(reason, attempt, refused=True, too_long=True) from None
                cause = next((cause for pattern, cause in _REJECTIONS.items() if pattern.search(text)), None)
                raise ReplyError(f"{cause} ({reason})" if cause else reason, attempt, refused=True) from None
            retry_after = _parse_retry_after(error.response.headers.get("retry-after"))
            wait = wait if retry_after is None else min(retry_after, _MAX_WAIT)
        except openai.APITimeoutError:
            reason = f"no reply within {endpoint.timeout:g} s"
        except openai.APIConnectionError as error:
            reason = _redact(f"connection failed: {error.__cause__ or error}", endpoint.key)
        failures += 1
        if failures <= endpoint.retries and pause(wait):
            raise ReplyError(f"{reason} (stopped)", attempt)
    raise ReplyError(f"{reason} (after {attempt} attempts)", attempt)


def _rename_limit(request: Mapping[str, Any]) -> dict[str, Any]:
    return {_RENAMED_LIMIT if name == _LIMIT else name: value for name, value in request.items()}


def _make_reply(completion: _Completion, key: str, attempts: int) -> Reply:
    choice, usage = completion.choices[0], completion.usage or _Usage()
    text, refusal = choice.message.text, choice.message.refusal or ""
    return Reply(
        text=_redact_reply(text or refusal, key),
        cut=choice.finish_reason == "length",
        withheld=not text and (bool(refusal) or choice.finish_reason == _FILTERED),
        tokens_in=usage.prompt_tokens or 0,
        tokens_out=usage.completion_tokens or 0,
        attempts=attempts,
    )


def _parse_retry_after(text: str | None) -> float | None:
    """Return the seconds of a Retry-After header: a number, or a date (RFC 9110, 10.2.3); None for anything else."""
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _excerpt(content: bytes, key: str) -> str:
    """Return the first 120 characters of a reply for a message, without the key."""
    text = _redact(content.decode("utf-8", "replace"), key)  # all of it: a part might end within the key
    return repr(" ".join(text[:120].split()))


def _redact_reply(text: str, key: str) -> str:
    """Return a reply without the key; short ones, such as "none", are words that a reply may need."""
    return text if len(key) < MIN_UNIQUE_LENGTH or key == NO_KEY else text.replace(key, MASK)


def _redact(text: str, key: str) -> str:
    return redact(text, "" if key == NO_KEY else key)

"""One question to an OpenAI-compatible endpoint: sent, tried again where that helps, checked. The key stays here."""

from __future__ import annotations

import base64
import email.utils
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io.files import atomic_write

_AGAIN = (408, 409, 429)  # and every 5xx
_HOPELESS = (401, 403, 404)  # the same for every case
_TOO_LONG = re.compile(
    r"context_length_exceeded|max(?:imum)?[ _-](?:context|model)[ _-]len|context (?:length|window)", re.I
)
_LONGEST_WAIT = 120.0  # seconds, whatever Retry-After says


class ReplyError(Exception):
    """A request that got no usable reply after so many attempts; what it says holds no key. ``refused``: the endpoint
    works, and does not take this request."""

    def __init__(self, reason: str, attempts: int = 0, refused: bool = False) -> None:
        self.attempts = attempts
        self.refused = refused
        super().__init__(reason)


class EndpointError(UsageError):
    """The endpoint refuses every request: a wrong key, model or address, or nobody listens there."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask.

    Attributes:
        url: base of the API, such as ``http://localhost:8000/v1``.
        model: its name there.
        key: secret; never printed.
        timeout: seconds for one reply.
        retries: further attempts after the first.
        backoff: seconds before the second attempt, doubled for each further one.
        max_tokens: of the reply; 0 leaves it out of the request.
        body: more of the request, such as ``{"temperature": 0}``.
    """

    url: str
    model: str
    key: str = field(repr=False)
    timeout: float = 120.0
    retries: int = 5
    backoff: float = 1.0
    max_tokens: int = 400
    body: Mapping[str, Any] = field(default_factory=dict)


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


class Reply(BaseModel):
    """What a model said.

    Attributes:
        text: as it came.
        cut: it ended at the limit of tokens.
        tokens_in, tokens_out: as the endpoint counted them; 0 when it does not say.
        attempts: requests that were sent for it.
    """

    text: str
    cut: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    attempts: int = 1


def env_value(name: str, file: Path = Path(".env")) -> str | None:
    """A variable of the environment, else of a ``.env`` file (lines of NAME=value, quotes and ``export`` allowed).

    Raises:
        InputError: the file is there and cannot be read.
    """
    if os.environ.get(name):
        return os.environ[name]
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(file, "cannot be read as UTF-8 text") from error
    for line in lines:
        key, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and key.strip() == name and (value := value.strip().strip("'\"")):
            return value
    return None


def make_image_part(data: bytes) -> dict[str, Any]:
    """The part of a message that holds an image: its file's bytes (PNG, WebP or JPEG) as a data URL."""
    kind = "png" if data.startswith(b"\x89PNG") else "webp" if data[8:12] == b"WEBP" else "jpeg"
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def load_cached_reply(name: Path) -> Reply | None:
    """A reply that an earlier run kept; None when there is none, or a file that is none."""
    try:
        return Reply.model_validate_json(name.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def save_reply(name: Path, reply: Reply) -> None:
    """Keep a reply, on the disk before anything else is done: it is paid for.

    Raises:
        OSError: the disk is full or read-only.
    """
    with atomic_write(name) as handle:
        handle.write(reply.model_dump_json())


def build_request(endpoint: Endpoint, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole body of a request, as it is sent and as the cache is keyed."""
    limit = {"max_tokens": endpoint.max_tokens} if endpoint.max_tokens else {}
    return {"model": endpoint.model, "messages": messages, **limit, **endpoint.body}


def create_client(endpoint: Endpoint) -> Any:
    """The client of the openai package, its own retries switched off, since ours wait and count.

    Raises:
        UsageError: the package is not installed, or the address is none.
    """
    try:
        import openai
    except ImportError as error:
        raise UsageError("asking an endpoint needs the openai package: pip install 'mmvm-data[review]'") from error
    if not endpoint.url.startswith(("http://", "https://")):
        raise UsageError(f"--endpoint: expected an address such as http://localhost:8000/v1, found {endpoint.url!r}")
    return openai.OpenAI(base_url=endpoint.url, api_key=endpoint.key, timeout=endpoint.timeout, max_retries=0)


def request_completion(
    client: Any, endpoint: Endpoint, request: dict[str, Any], pause: Callable[[float], Any] = time.sleep
) -> Reply:
    """Send one request, again after 408, 409, 429 and 5xx (a Retry-After is kept to), timeouts, cut or refused
    connections, and replies that are no completion.

    Args:
        client: from ``connect``.
        request: from ``request_of``.
        pause: waits so many seconds; a true result says to give up.

    Raises:
        ReplyError: no usable reply after all attempts, or the endpoint refuses this request.
        EndpointError: it refuses every request (401, 403, 404).
    """
    import httpx
    import openai

    reason = ""
    for attempt in range(1, endpoint.retries + 2):
        wait = min(endpoint.backoff * 2 ** (attempt - 1), _LONGEST_WAIT) * random.uniform(0.75, 1.25)
        try:
            # as bytes, a request of megabytes is not walked through and encoded by the client, which is slow at it
            raw = client.post("/chat/completions", cast_to=httpx.Response, body=to_json(request))
            found = _Completion.model_validate_json(raw.content)
            if found.choices:
                choice, usage = found.choices[0], found.usage or _Usage()
                return Reply(
                    text=choice.message.content or "",
                    cut=choice.finish_reason == "length",
                    tokens_in=usage.prompt_tokens,
                    tokens_out=usage.completion_tokens,
                    attempts=attempt,
                )
            reason = "the reply holds no choices"
        except ValidationError:
            kind = raw.headers.get("content-type", "no type").partition(";")[0]
            reason = f"the reply is no completion ({kind}, {_start(raw.content)})"
        except openai.APIStatusError as error:
            reason = _hidden(f"status {error.status_code}: {_start(error.response.content)}", endpoint.key)
            if error.status_code in _HOPELESS:
                raise EndpointError(f"the endpoint refuses model {endpoint.model!r}: {reason}") from None
            if error.status_code not in _AGAIN and error.status_code < 500:
                if _TOO_LONG.search(error.response.text):
                    reason = f"the request is longer than the model's context ({reason})"
                raise ReplyError(reason, attempt, refused=True) from None
            asked = _retry_after(error.response.headers.get("retry-after"))
            wait = wait if asked is None else min(asked, _LONGEST_WAIT)
        except openai.APITimeoutError:
            reason = f"no reply within {endpoint.timeout:g} s"
        except openai.APIConnectionError as error:
            reason = _hidden(f"connection failed: {error.__cause__ or error}", endpoint.key)
        if attempt <= endpoint.retries and pause(wait):
            raise ReplyError(f"{reason} (stopped)", attempt)
    raise ReplyError(f"{_hidden(reason, endpoint.key)} (after {endpoint.retries + 1} attempts)", endpoint.retries + 1)


def _retry_after(text: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date (RFC 9110, 10.2.3); None for anything else."""
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


def _start(content: bytes) -> str:
    return repr(" ".join(content[:120].decode("utf-8", "replace").split()))


def _hidden(text: str, key: str) -> str:
    return text.replace(key, "***") if key else text

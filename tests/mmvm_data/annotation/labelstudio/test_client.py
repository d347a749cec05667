"""The rules of requests, against servers that fail in known ways."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mmvm_data.annotation.labelstudio.client import Client, OutcomeUnknown, RequestRejected, ServerError
from mmvm_data.core.options import OptionError

pytest.importorskip("label_studio_sdk")
TOKEN = "3f" * 20


@contextmanager
def server(*answers: tuple[int, Any]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers, the last one for ever; yields its URL and the list of requests."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answers[min(len(requests), len(answers) - 1)]
            requests.append(f"{self.command} {self.path}")
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status in (301, 302):
                self.send_header("Location", "https://127.0.0.1:1/elsewhere")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, *arguments: Any) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", requests
    finally:
        running.shutdown()
        running.server_close()


def test_a_busy_server_is_asked_again() -> None:
    with server((503, "busy"), (200, [{"id": 1, "email": "a@b.c"}])) as (url, requests):
        assert Client(url, TOKEN).list_users() == {1: "a@b.c"}
        assert len(requests) == 2


def test_what_creates_is_repeated_only_when_the_server_did_not_look_at_it() -> None:
    with server((503, "busy"), (201, {"task_count": 1})) as (url, requests):
        Client(url, TOKEN).import_tasks(3, b"[]")
        assert requests == ["POST /api/projects/3/import"] * 2
    for status in (500, 502, 504):
        with server((status, "<html>proxy</html>")) as (url, requests):
            with pytest.raises(OutcomeUnknown, match=f"{url} answered {status} .cannot import tasks into project 3"):
                Client(url, TOKEN).import_tasks(3, b"[]")
            assert len(requests) == 1


def test_refusals_name_server_status_and_reason_but_not_the_token() -> None:
    cases = [
        (400, {"detail": "no such tag"}, "cannot create project 'abc' .400.: no such tag"),
        (401, {"detail": "Invalid token."}, "does not accept the token in LABEL_STUDIO_API_KEY"),
        (403, {"detail": "not yours"}, "does not accept the token .* .403, not yours"),
        (404, b"<html>nothing</html>", "was the project deleted.*: no reason given"),
    ]
    for status, body, message in cases:
        with server((status, body)) as (url, requests):
            with pytest.raises(RequestRejected, match=message) as caught:
                Client(url, TOKEN).create_project("abc", "<View/>")
            assert caught.value.status == status
            assert url in str(caught.value)
            assert TOKEN not in str(caught.value)
            assert len(requests) == 1


def test_a_redirect_is_not_followed() -> None:
    """A POST that is redirected becomes a GET, which looks like success."""
    with server((301, b"")) as (url, requests):
        with pytest.raises(ServerError, match="answered 301"):
            Client(url, TOKEN).create_project("abc", "<View/>")
        assert len(requests) == 1


def test_what_is_gone_counts_as_deleted() -> None:
    with server((404, {"detail": "gone"})) as (url, requests):
        Client(url, TOKEN).delete_task(7)
        assert requests == ["DELETE /api/tasks/7/"]


def test_the_url_is_checked() -> None:
    with pytest.raises(OptionError, match="url must start with http:// or https://, got 'ftp://x'"):
        Client("ftp://x", TOKEN)
    with pytest.raises(OptionError, match="url must be a URL, got 'http://host:port'"):
        Client("http://host:port", TOKEN)


def test_two_projects_of_one_title_are_named() -> None:
    project = {"id": 1, "title": "twin", "label_config": "<View/>"}
    listed = {"count": 2, "next": None, "previous": None, "results": [project, project | {"id": 2}]}
    with (
        server((200, listed), (404, {"detail": "Invalid page."})) as (url, _),
        pytest.raises(OptionError, match=r"project must be a number .* one of 1, 2"),
    ):
        Client(url, TOKEN).find_project("twin")

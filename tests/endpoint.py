"""An OpenAI-compatible endpoint that counts and misbehaves on request, and a small benchmark to ask about."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.pipeline.build import BuildOptions, build
from tests.worlds import davis

Act = Callable[["Server", BaseHTTPRequestHandler, dict[str, Any], int], None]


class Server:
    """A real HTTP server. ``act`` answers; it gets the request and how often that very request has come."""

    def __init__(self) -> None:
        self.act: Act = good
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.requests: list[dict[str, Any]] = []
        self.most = self.now = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                name = hashlib.sha256(body).hexdigest()
                with server.lock:
                    server.asked[name] += 1
                    server.requests.append(json.loads(body))
                    server.keys.add(self.headers["authorization"])
                    server.now += 1
                    server.most = max(server.most, server.now)
                try:
                    server.act(server, self, {**json.loads(body), "name": name}, server.asked[name])
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client has gone
                finally:
                    with server.lock:
                        server.now -= 1

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def send(handler: BaseHTTPRequestHandler, status: int, body: str, kind: str = "application/json", **more: str) -> None:
    data = body.encode()
    handler.send_response(status)
    for name, value in {"content-type": kind, "content-length": str(len(data)), **more}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def completion(text: str, finish: str = "stop") -> str:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1000, "completion_tokens": 50}})


def right_answer(request: dict[str, Any]) -> str:
    """What a good model would say."""
    text = request["messages"][1]["content"][-1]["text"]
    number = re.search(r"Object (\d+) is the query", text)
    if number is None:
        return "None of the candidates is the query: its texture appears nowhere in the last image."
    return f"The texture of object {number[1]} is the same coarse pattern as before, and no other candidate shows it."


def good(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
    with server.lock:
        server.answered[request["name"]] += 1
    send(handler, 200, completion(right_answer(request)))


def cut(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
    """Half of a reply, then the connection ends."""
    data = completion(right_answer(request)).encode()
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.close_connection = True


def asleep(handler: BaseHTTPRequestHandler, seconds: float) -> None:
    time.sleep(seconds)
    handler.close_connection = True


def never(handler: BaseHTTPRequestHandler) -> None:
    """No reply until the client gives up and closes the connection."""
    handler.connection.recv(1)
    handler.close_connection = True


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Server]:
    """A server that answers well, an environment without keys, and ``folder`` as the working folder."""
    for name in ("OPENAI_API_KEY", "OPENAI_API_BASE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    running = Server()
    try:
        yield running
    finally:
        running.http.shutdown()
        running.http.server_close()


def small_bench(folder: Path) -> Path:
    """A benchmark of about 16 cases, some without an answer, built from ``folder / "world"``."""
    sampling = SamplingOptions(min_area=100, none_share=0.3, cases_per_video=4)
    build("davis", davis(folder / "world", videos=4), folder / "b", BuildOptions(sampling=sampling))
    return folder / "b"

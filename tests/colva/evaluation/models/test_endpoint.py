"""A real server with faults plays the endpoint."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from colva.cli import main
from colva.evaluation import runs
from colva.evaluation.ask import ask_questions
from colva.evaluation.benchmark import load_questions
from colva.evaluation.models.base import ModelOptions
from colva.evaluation.models.endpoint import EndpointModelAdapter, RateLimiter, open_model
from colva.evaluation.question import AskOptions
from colva.evaluation.scoring.score_run import score_run
from mmvm_data.core.errors import UsageError
from mmvm_data.io.openai_client import Endpoint, EndpointError
from tests.colva.evaluation.worlds import folder_of, lines, options
from tests.endpoint import Server, asleep, completion, send, serving

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(monkeypatch, tmp_path) as running:
        running.act = say("B")
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "b", 12)


def say(text: str) -> Any:
    def act(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        send(handler, 200, completion(text))

    return act


def open_endpoint(server: Server, **changes: Any) -> EndpointModelAdapter:
    return open_model("gpt-x", options(base_url=server.url, **{"concurrency": 4, **changes}))


def run_model(model: EndpointModelAdapter, folder: Path, out: Path, **ask_options: Any) -> Any:
    options_of_run = AskOptions(**ask_options)
    with runs.open_run(out, runs.run_config(folder, options_of_run, model), overwrite=False):
        return ask_questions(model, folder, options_of_run, out), score_run(out)


def test_what_is_sent(server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(f"export OPENAI_API_KEY='sk-secret'\nOPENAI_API_BASE={server.url}\n")
    model = open_model("gpt-x", options(body={"temperature": 0}, max_tokens=9))
    progress, scored = run_model(model, folder, tmp_path / "run")
    assert (progress.replies, len(server.requests)) == (12, 12)
    assert server.keys == {"Bearer sk-secret"}
    by_text = {q.text: q for q in load_questions(folder, AskOptions(), tmp_path)}
    for request in server.requests:
        assert {name: request[name] for name in ("model", "max_tokens", "temperature")} == {
            "model": "gpt-x",
            "max_tokens": 9,
            "temperature": 0,
        }
        *images, text = request["messages"][0]["content"]
        files = [path.read_bytes() for path in by_text[text["text"]].images]
        urls = [image["image_url"]["url"] for image in images]
        assert len(urls) == 2
        assert all(url.startswith("data:image/jpeg;base64,") for url in urls)
        sent = {base64.b64decode(url.partition(",")[2]) for url in urls}
        assert sent <= {p.read_bytes() for q in by_text.values() for p in q.images}
        assert len(sent) == len(set(files)) == 2
    assert progress.tokens_in == 12_000
    assert scored.summary["letters"]["by"]["B"]["chosen"] == 12
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"sk-secret" not in path.read_bytes()
    assert "sk-secret" not in repr(model.fingerprint)


def test_retryable_errors_are_retried(server: Server, folder: Path, tmp_path: Path) -> None:
    """HTML, a cut reply, 500, 429 with Retry-After: each once for every question."""

    def act(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        kind = (int(request["name"], 16) + nth) % 4
        if nth > 1:
            send(handler, 200, completion("B"))
        elif kind == 0:
            send(handler, 200, "<html><body>Bad gateway</body></html>", "text/html")
        elif kind == 1:
            send(handler, 429, '{"error": {"message": "slow down"}}', **{"retry-after": "0.05"})
        elif kind == 2:
            send(handler, 503, "<html>busy</html>", "text/html")
        else:
            asleep(handler, 0)

    server.act = act
    progress, scored = run_model(open_endpoint(server), folder, tmp_path / "run")
    assert (progress.replies, progress.failed) == (12, [])
    assert scored.summary["cases"]["replied"] == 12
    assert set(server.asked.values()) == {2}


def test_errors_of_single_questions_are_counted_and_asked_again(server: Server, folder: Path, tmp_path: Path) -> None:
    """A prompt that is too long, and HTML for ever: named, wrong in the score, asked by the next run alone."""
    bad: dict[str, str] = {}

    def act(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        with server.lock:
            if request["name"] not in bad and len(bad) < 2:
                bad[request["name"]] = ("long", "html")[len(bad)]
        kind = bad.get(request["name"])
        if kind == "long":
            message = "This model's maximum context length is 4096 tokens, however you requested 9000 tokens"
            send(handler, 400, json.dumps({"error": {"message": message, "code": "context_length_exceeded"}}))
        elif kind == "html":
            send(handler, 200, "<html>maintenance</html>", "text/html")
        else:
            send(handler, 200, completion("B"))

    server.act = act
    progress, scored = run_model(open_endpoint(server, concurrency=1), folder, tmp_path / "run")
    replies = {line["id"]: line["reason"] for line in lines(tmp_path / "run" / runs.ERRORS)}
    assert list(replies) == ["case_000000", "case_000001"]
    assert "longer than the model's context" in replies["case_000000"]
    assert "no completion (text/html, '<html>maintenance</html>')" in replies["case_000001"]
    cases = scored.summary["cases"]
    assert (cases["asked"], cases["replied"], cases["no_reply"]) == (12, 10, 2)
    assert (scored.summary["overall"]["n"], scored.summary["replied"]["n"]) == (12, 10)
    server.act, before = say("B"), len(server.requests)
    progress, scored = run_model(open_endpoint(server), folder, tmp_path / "run")
    assert (len(server.requests) - before, progress.kept) == (2, 10)
    assert scored.summary["cases"]["no_reply"] == 0
    assert not (tmp_path / "run" / runs.ERRORS).exists()


def test_ten_refusals_in_a_row_stop_the_run_with_a_hint(server: Server, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "many", 40)
    message = "At most 1 image(s) may be provided in one prompt."
    server.act = lambda s, handler, r, n: send(handler, 400, json.dumps({"object": "error", "message": message}))
    with pytest.raises(EndpointError, match=r"10 questions .*--limit-mm-per-prompt.*; `max_tokens`, `max_side`"):
        run_model(open_endpoint(server, concurrency=1), folder, tmp_path / "run")
    assert len(server.requests) <= 12
    # a prompt may be too long for its own reasons, so many in a row do not stop the run
    message = "This model's maximum context length is 10 tokens"
    progress, _ = run_model(open_endpoint(server, concurrency=1), folder, tmp_path / "long")
    assert len(progress.failed) == 40


def test_what_is_withheld_counts_as_refused(server: Server, folder: Path, tmp_path: Path) -> None:
    choice = {"message": {"content": None, "refusal": "A person? No."}, "finish_reason": "stop"}
    server.act = lambda s, handler, r, n: send(handler, 200, json.dumps({"choices": [choice]}))
    _, scored = run_model(open_endpoint(server), folder, tmp_path / "run")
    assert scored.summary["cases"]["refused"] == 12
    assert {o.prediction.reply for o in scored.outcomes} == {"A person? No."}


def reason_for(tokens: int) -> Any:
    """A model that reasons before it answers: of every third question for more than ``tokens`` tokens."""

    def act(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        images = json.dumps(request["messages"][0]["content"])
        is_hard = sum(images.encode()) % 3 == 0
        if is_hard and request.get("max_tokens", 10**9) <= tokens:
            message = {"role": "assistant", "content": None, "reasoning_content": "Is it A? Or"}
            choice = {"index": 0, "message": message, "finish_reason": "length"}
            send(handler, 200, json.dumps({"choices": [choice], "usage": {"prompt_tokens": None}}))
        else:
            send(handler, 200, completion("B"))

    return act


def test_cut_replies_are_shown_and_asked_again_with_a_larger_limit(server: Server, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "thirty", 30)
    server.act = reason_for(100)

    def evaluate(*words: str) -> Result:
        common = ["eval", "--bench", str(folder), "--model", "openai:m", "--base-url", server.url, "--out", "run"]
        return CliRunner().invoke(main, [*common, *words])

    first = evaluate("--max-tokens", "100")
    scores = json.loads((tmp_path / "run/scores.json").read_text())
    names = scores["truncated"]
    assert 3 <= len(names) < 20
    assert f"{len(names)} cut at the limit of tokens" in first.output
    assert "a larger --max-tokens with --resume asks these again" in first.output
    report = (tmp_path / "run/report.html").read_text()
    assert "Cut at the limit of tokens" in report
    assert set(names) <= set(scores["unread"])

    refused = evaluate("--max-tokens", "200")
    assert refused.exit_code == 2
    assert "holds a run with --max-tokens 100; ask what was cut there again with --resume" in " ".join(
        refused.output.split()
    )
    before = len(server.requests)
    assert evaluate("--max-tokens", "100", "--resume").exit_code == 0
    assert len(server.requests) == before, "with the same limit nothing changes"
    assert evaluate("--max-tokens", "50", "--resume").exit_code == 2
    assert evaluate("--max-tokens", "200", "--suffix", "x", "--resume").exit_code == 2

    assert evaluate("--max-tokens", "200", "--resume").exit_code == 0
    assert [request["max_tokens"] for request in server.requests[before:]] == [200] * len(names)
    scores = json.loads((tmp_path / "run/scores.json").read_text())
    assert (scores["truncated"], scores["cases"]["replied"], scores["cases"]["unread"]) == ([], 30, 0)
    assert [p["id"] for p in lines(tmp_path / "run" / runs.PREDICTIONS)] == [f"case_{k:06d}" for k in range(30)]

    before = len(server.requests)
    assert "30 answers of an earlier run kept, 0 new" in evaluate("--max-tokens", "200").output
    assert "30 answers of an earlier run kept, 0 new" in evaluate("--max-tokens", "0", "--resume").output
    assert len(server.requests) == before


@pytest.mark.parametrize("status", [401, 404])
def test_a_refused_key_stops_at_once(server: Server, folder: Path, tmp_path: Path, status: int) -> None:
    server.act = lambda s, handler, r, n: send(handler, status, '{"error": {"message": "no such key sk-1"}}')
    with pytest.raises(EndpointError, match=str(status)):
        run_model(open_endpoint(server), folder, tmp_path / "run")
    assert len(server.requests) <= 5


def test_a_dead_endpoint_stops_the_run_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "many", 60)

    def act(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        if len(server.answered) < 20:
            server.answered[request["name"]] += 1
            send(handler, 200, completion("A"))
        else:
            send(handler, 500, "down")

    server.act = act
    with pytest.raises(EndpointError, match="in a row got no reply"):
        run_model(open_endpoint(server, retries=0), folder, tmp_path / "run")
    kept = len(lines(tmp_path / "run" / runs.PREDICTIONS))
    assert 20 <= kept <= 24  # four requests are under way at a time
    server.act, before = say("A"), len(server.requests)
    run_model(open_endpoint(server), folder, tmp_path / "run")
    assert len(server.requests) - before == 60 - kept


def test_many_requests_are_under_way(server: Server, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "many", 80)
    enough = threading.Event()

    def act(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        if server.now >= 32:
            enough.set()
        enough.wait(60)  # nobody is answered before 32 have asked
        send(handler, 200, completion("A"))

    server.act = act
    run_model(open_endpoint(server, concurrency=32, timeout=120), folder, tmp_path / "run")
    assert server.most == 32
    assert len(server.requests) == 80


def test_second_turn_goes_on_with_the_first(server: Server, folder: Path, tmp_path: Path) -> None:
    def act(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        turns = [message["role"] for message in request["messages"]]
        send(handler, 200, completion("B" if turns == ["user"] else f"because {request['messages'][1]['content']}"))

    server.act = act
    _, scored = run_model(open_endpoint(server), folder, tmp_path / "run", ask_why=True)
    assert {o.prediction.why for o in scored.outcomes} == {"because B"}
    assert scored.summary["reasons"]["asked"] == 12
    turns = [[m["role"] for m in request["messages"]] for request in server.requests]
    assert turns.count(["user", "assistant", "user"]) == 12
    last = next(r for r in server.requests if len(r["messages"]) == 3)
    assert last["messages"][2]["content"] == "Why is that the right choice?"


def test_images_can_be_made_smaller(server: Server, folder: Path, tmp_path: Path) -> None:
    run_model(open_endpoint(server, max_side=40), folder, tmp_path / "run")
    url = server.requests[0]["messages"][0]["content"][0]["image_url"]["url"]
    image = cv2.imdecode(np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[:2] == (22, 40)  # of 80 x 45


def test_pace_spaces_starts_evenly() -> None:
    limiter, stop, waits = RateLimiter(600), threading.Event(), []
    stop.wait = lambda seconds: waits.append(seconds) or False  # type: ignore[assignment, func-returns-value]
    for _ in range(5):
        assert not limiter.wait(stop)
    assert [round(w, 1) for w in waits] == [0.0, 0.1, 0.2, 0.3, 0.4]
    stop = threading.Event()
    stop.set()
    assert RateLimiter(600).wait(stop)
    assert RateLimiter(0).wait(stop)


def test_wrong_usage() -> None:
    with pytest.raises(UsageError, match="`base_url`, or OPENAI_API_BASE"):
        open_model("m", options())
    with pytest.raises(UsageError, match="http"):
        open_model("m", options(base_url="localhost"))
    with pytest.raises(UsageError, match="likelihood"):
        open_model("m", options(base_url="http://localhost", answer_by="likelihood"))


SECRET_URL = "http://user:pass-1@127.0.0.1:9/v1?api_key=pass-2"


def test_an_evaluation_records_no_secret_of_its_endpoint(tmp_path: Path) -> None:
    body = {"api_key": "pass-3", "max_tokens": 5, "stop_token": "</s>", "tools": [{"url": SECRET_URL}]}
    endpoint = Endpoint(url=SECRET_URL, model="m", key="pass-4", body=body)
    assert "pass" not in repr(endpoint).replace(repr(body), "")
    config = runs.run_config(tmp_path, AskOptions(), EndpointModelAdapter(endpoint, ModelOptions()))
    assert "pass-" not in json.dumps(config)
    shown = "http://***@127.0.0.1:9/v1?api_key=***"
    assert config["fingerprint"]["url"] == shown
    kept = {"api_key": "***", "max_tokens": 5, "stop_token": "</s>", "tools": [{"url": shown}]}
    assert config["fingerprint"]["body"] == kept

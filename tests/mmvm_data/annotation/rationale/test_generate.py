"""``mmvm-data rationale`` against a real HTTP server."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mmvm_data import cli
from mmvm_data.annotation.rationale.selection import RationaleOptions
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import Case, Review
from mmvm_data.formats import bench, sft
from mmvm_data.formats.revisions import revise
from mmvm_data.io.flags import message_with_flags
from tests.endpoint import Server, asleep, completion, cut, good, never, right_answer, send, serving, small_bench
from tests.worlds import tree

pytest.importorskip("openai")
FAST = ("--backoff", "0.01", "--retries", "3")


@pytest.fixture()
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    with serving(monkeypatch, tmp_path) as running:
        yield running


@pytest.fixture()
def bench_dir(tmp_path: Path) -> Path:
    return small_bench(tmp_path)


def rationale(folder: Path, *arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli.cli, ["rationale", *map(str, (folder, *arguments))])
    if isinstance(result.exception, (UsageError, InputError)):
        assert code == 2
        if isinstance(result.exception, UsageError):
            return message_with_flags(result.exception)
        return str(result.exception)
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def endpoint_arguments(server: Server) -> tuple[object, ...]:
    return ("--endpoint", server.url, "--model", "m", *FAST)


def cases(folder: Path) -> list[Case]:
    return list(bench.read(folder))


def failures(folder: Path) -> dict[str, str]:
    lines = (folder / "rationale_failures.jsonl").read_text().splitlines()
    return {record["case"]: record["reason"] for record in map(json.loads, lines)}


def test_every_case_gets_one_request(server: Server, bench_dir: Path) -> None:
    before = cases(bench_dir)
    assert any(case.answer is None for case in before)
    output = rationale(bench_dir, *endpoint_arguments(server), "--price-in", 2, "--price-out", 10)
    assert f"{len(before)} rationales by m" in " ".join(output.split())
    assert f"{1000 * len(before)} tokens in" in output and f"cost {len(before) * 0.0025:.4f}" in output
    assert set(server.answered.values()) == {1} and len(server.answered) == len(before)
    for case in cases(bench_dir):
        assert case.rationale_by == "model" and case.written and case.written.model == "m"
        assert f"object {case.answer}" in str(case.rationale) or case.answer is None
    content = server.requests[0]["messages"][1]["content"]
    images = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    sent = {base64.b64decode(url.partition("base64,")[2]) for url in images}
    drawn = [{(p / n).read_bytes() for n in ("FRAME00.jpg", "FRAME01_CAND.jpg")} for p in bench_dir.glob("*/case_*")]
    assert sent in drawn
    assert server.requests[0]["max_tokens"] == 400
    assert not bench.validate(bench_dir).problems
    sft.write(bench.read(bench_dir), bench_dir.parent / "talks.json", kind="conversations")
    talks = json.loads((bench_dir.parent / "talks.json").read_text())
    assert [t["conversations"][3]["value"] for t in talks] == [case.rationale for case in cases(bench_dir)]
    files = tree(bench_dir)
    second_output = rationale(bench_dir, *endpoint_arguments(server))
    assert "0 cases changed" in second_output and tree(bench_dir) == files
    assert sum(server.asked.values()) == len(before)


def test_transient_errors_are_retried(server: Server, bench_dir: Path) -> None:
    kinds: dict[str, int] = {}

    def act(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        kind = kinds.setdefault(request["name"], len(kinds) % 8)
        if nth > 1:
            return good(server, handler, request, nth)
        if kind == 0:
            return send(handler, 429, '{"error": {"message": "slow down"}}', **{"retry-after": "0"})
        if kind == 1:
            return send(handler, 500, "oops", "text/plain")
        if kind == 2:
            return never(handler)
        if kind == 3:
            return send(handler, 200, '{"choices": [{"mess')
        if kind == 4:
            return cut(handler, request)
        if kind == 5:
            return send(handler, 200, "<html><body>Log in</body></html>", "text/html")
        if kind == 6:
            return send(handler, 200, '{"choices": []}')
        return good(server, handler, request, nth)

    server.act = act
    rationale(bench_dir, *endpoint_arguments(server), "--timeout", 3)  # all other replies come within that
    assert len(kinds) >= 8
    assert all(case.rationale_by == "model" for case in cases(bench_dir))
    assert set(server.answered.values()) == {1}
    assert {server.asked[name] for name, kind in kinds.items() if kind < 7} == {2}


def test_failures_are_listed(server: Server, bench_dir: Path) -> None:
    replies = [
        (500, "oops", "status 500"),
        (200, "<html>Log in</html>", "text/html"),
        (200, completion("Object 1 is the same. Object 2 is the same. Object 3 is the same."), "as the match"),
        (200, completion("The texture", "length"), "limit of tokens"),
        (200, completion(""), "empty"),
        (400, '{"error": {"message": "image too large"}}', "image too large"),
    ]
    kinds: dict[str, int] = {}

    def act(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        kind = kinds.setdefault(request["name"], len(kinds))
        if kind >= len(replies):
            return good(server, handler, request, nth)
        status, text, _ = replies[kind]
        send(handler, status, text, "text/html" if text.startswith("<") else "application/json")

    server.act = act
    output = rationale(bench_dir, *endpoint_arguments(server), "--concurrency", 1, "--strict", code=1)
    found = failures(bench_dir)
    assert len(found) == len(replies) and "rationale_failures.jsonl" in output
    assert all(any(reason in text for text in found.values()) for _, _, reason in replies)
    assert {case.id for case in cases(bench_dir) if case.rationale is None} == set(found)
    sent = server.asked.total()
    server.act = good
    rationale(
        bench_dir, *endpoint_arguments(server)
    )  # cases without a reply are requested again, rejected replies are not
    assert server.asked.total() == sent + 3 and len(failures(bench_dir)) == 3
    rationale(bench_dir, *endpoint_arguments(server), "--retry-failed")
    assert all(case.rationale_by == "model" for case in cases(bench_dir))
    assert not (bench_dir / "rationale_failures.jsonl").exists()


@pytest.mark.parametrize("stop_signal", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_resumed(server: Server, bench_dir: Path, stop_signal: signal.Signals) -> None:
    total, answers = len(cases(bench_dir)), 5
    before = (bench_dir / "cases.jsonl").read_bytes()

    def act(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        with server.lock:
            mine = server.answered.total() < answers
            if mine:
                server.answered[request["name"]] += 1
        if mine:
            send(handler, 200, completion(right_answer(request)))
        else:  # pending when the process dies: no reply ever arrives
            asleep(handler, 2 if stop_signal == signal.SIGINT else 20)

    server.act = act
    command = [
        sys.executable,
        "-m",
        "mmvm_data.cli",
        "rationale",
        str(bench_dir),
        *map(str, endpoint_arguments(server)),
    ]
    root = str(Path(cli.__file__).parents[1])
    process = subprocess.Popen(
        [*command, "--concurrency", "3"],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while len(list(bench_dir.glob(".rationales/??/*.json"))) < answers or server.now < 3:
            assert process.poll() is None, process.stderr
            time.sleep(0.02)
        process.send_signal(stop_signal)
        _, errors = process.communicate(timeout=180)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == (-9 if stop_signal == signal.SIGKILL else 130), errors
    assert "Traceback" not in errors
    assert (bench_dir / "cases.jsonl").read_bytes() == before
    server.act = good
    output = rationale(bench_dir, *endpoint_arguments(server))
    assert f"{answers} replies from the cache" in output
    assert all(case.rationale_by == "model" for case in cases(bench_dir))
    assert len(server.answered) == total and set(server.answered.values()) == {1}


def test_truncated_cache_file_is_requested_again(server: Server, bench_dir: Path) -> None:
    rationale(bench_dir, *endpoint_arguments(server), "--limit", 3)
    assert server.asked.total() == 3
    kept = sorted(bench_dir.glob(".rationales/??/*.json"))
    kept[0].write_text('{"text": "Obj')
    rationale(bench_dir, *endpoint_arguments(server), "--replace", "--limit", 3)
    assert server.asked.total() == 4


def test_human_rationales_are_kept(server: Server, bench_dir: Path) -> None:
    rationale(bench_dir)
    made = {case.id: case for case in cases(bench_dir) if case.rationale_by == "template"}
    assert len(made) > 4
    names = sorted(made)
    mine = made[names[0]].model_copy(update={"rationale": "Object 1 has a scratch, I looked closely."})
    accepted = made[names[1]].model_copy(update={"review": Review(state="accepted", by="ann")})
    dropped = made[names[2]].model_copy(update={"review": Review(state="rejected", by="ann")})
    revise(bench_dir, {case.id: case for case in (mine, accepted, dropped)})
    output = rationale(bench_dir, *endpoint_arguments(server), "--replace")
    assert "2 by people" in output and "1 rejected" in output
    now = {case.id: case for case in cases(bench_dir)}
    assert [now[name] for name in names[:3]] == [mine, accepted, dropped]
    assert all(now[name].rationale_by == "model" for name in names[3:])
    rationale(bench_dir)  # a template replaces no model
    assert {case.id: case for case in cases(bench_dir)} == now
    rationale(bench_dir, "--endpoint", server.url, "--model", "other", *FAST)
    assert server.requests[-1]["model"] == "m"


def test_key_is_in_no_file_or_message(server: Server, bench_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-very-secret-0123456789"
    (bench_dir.parent / ".env").write_text(f'# mine\nexport OPENAI_API_KEY="{key}"\nOPENAI_API_BASE={server.url}\n')

    def act(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        if len(server.asked) < 4:
            return send(handler, 422, json.dumps({"error": f"key {key} may not do that"}))
        good(server, handler, request, nth)

    server.act = act
    output = rationale(bench_dir, "--model", "m", *FAST)
    assert server.keys == {f"Bearer {key}"}
    assert "key *** may not" in output and key not in output
    assert not any(key.encode() in data for data in tree(bench_dir, leave_out=()).values())
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    server.act = good
    rationale(bench_dir, "--model", "m", *FAST)
    assert "Bearer sk-other" in server.keys


@pytest.mark.parametrize("status", [401, 403, 404])
def test_fatal_status_stops_the_run(server: Server, bench_dir: Path, status: int) -> None:
    before = tree(bench_dir)
    server.act = lambda s, handler, r, n: send(handler, status, '{"error": "no such thing"}')
    output = rationale(bench_dir, *endpoint_arguments(server), "--concurrency", 1, code=2)
    assert f"status {status}" in output and "no such thing" in output
    assert server.asked.total() <= 3
    assert {n: d for n, d in tree(bench_dir).items() if ".rationales" not in n} == before


def test_unreachable_endpoint(server: Server, bench_dir: Path) -> None:
    server.http.shutdown()
    server.http.server_close()
    output = rationale(bench_dir, *endpoint_arguments(server), code=2)
    assert "10 cases in a row" in output and "connection failed" in output


def test_concurrent_run_is_rejected(server: Server, bench_dir: Path) -> None:
    (bench_dir / ".rationales").mkdir()
    with open(bench_dir / ".rationales/lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run" in rationale(bench_dir, *endpoint_arguments(server), code=2)
    assert not server.asked


def test_dry_run_sends_and_writes_nothing(server: Server, bench_dir: Path) -> None:
    before = tree(bench_dir)
    output = rationale(bench_dir, *endpoint_arguments(server), "--dry-run")
    assert "would be written by m" in output and "is the query" in output
    assert not server.asked and tree(bench_dir) == before


def test_concurrency_limit(server: Server, bench_dir: Path) -> None:
    enough = threading.Event()

    def act(server: Server, handler: BaseHTTPRequestHandler, request: dict[str, Any], nth: int) -> None:
        if server.now >= 4:
            enough.set()
        enough.wait(60)  # nobody is answered before four have asked
        good(server, handler, request, nth)

    server.act = act
    rationale(bench_dir, *endpoint_arguments(server), "--concurrency", 4)
    assert server.most == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--endpoint", "http://x/v1"), "needs --model"),
        (("--model", "m"), "needs --endpoint"),
        (("--endpoint", "x", "--model", "m"), "--endpoint must be an address"),
        (("--endpoint", "http://x", "--model", "m", "--body", "{"), "--body must be a JSON object"),
        (("--endpoint", "http://x", "--model", "m", "--body", '{"stream": true}'), "--body must not contain stream"),
    ],
)
def test_wrong_usage(server: Server, bench_dir: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in rationale(bench_dir, *arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"concurrency": "8"}, "concurrency must be an integer, got '8'"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"replace": "yes"}, "replace must be True or False, got 'yes'"),
        ({"endpoint": "http://localhost"}, "endpoint"),
        ({"retry": True}, "retry is an unknown option"),
    ],
)
def test_invalid_options(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        RationaleOptions(**arguments)
    assert message in str(caught.value)


def test_missing_openai_package(server: Server, bench_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    assert "mmvm-data[review]" in rationale(bench_dir, *endpoint_arguments(server), code=2)
    assert not (bench_dir / ".rationales").exists()
    rationale(bench_dir)


def test_missing_image_is_one_failure(server: Server, bench_dir: Path) -> None:
    (bench_dir / "match_bench/case_000002/FRAME00.jpg").unlink()
    rationale(bench_dir, *endpoint_arguments(server))
    assert list(failures(bench_dir)) == ["case_000002"]

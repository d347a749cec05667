"""Push and pull against a real Label Studio."""

from __future__ import annotations

import copy
import http.server
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mmvm_data.annotation.labelstudio.brush import encode_brush
from mmvm_data.annotation.labelstudio.client import Client, OutcomeUnknown, RequestRejected, ServerError
from mmvm_data.annotation.labelstudio.storages import list_folders
from mmvm_data.annotation.review.pull import pull
from mmvm_data.annotation.review.push import ReviewPushOptions, push
from mmvm_data.core import masks
from mmvm_data.core.errors import UsageError
from mmvm_data.core.types import Review
from mmvm_data.formats import bench
from mmvm_data.formats.revisions import revise
from mmvm_data.formats.tsv import read_rows
from tests.mmvm_data.annotation.conftest import Studio, choice, tasks_of
from tests.worlds import tree

pytestmark = [pytest.mark.xdist_group("label-studio"), pytest.mark.slow]
Annotate = Callable[..., dict[str, Any]]


def lose_answers(client: Client, monkeypatch: pytest.MonkeyPatch, path: str, count: int) -> list[str]:
    """Let the first ``count`` POSTs to ``path`` be carried out and their answers be lost; returns a list of those."""
    http = client._connect()._client_wrapper.httpx_client.httpx_client
    send, lost = http.request, []

    def slow(**request: Any) -> httpx.Response:
        answer = send(**request)
        if request["method"] == "POST" and request["url"].endswith(path) and len(lost) < count:
            lost.append(request["url"])
            raise httpx.ReadTimeout("timed out")
        return answer

    monkeypatch.setattr(http, "request", slow)
    return lost


def test_an_identical_second_push_changes_nothing(built: Path, studio: Studio) -> None:
    client = studio.client()
    first = push(built, client, built.name)
    assert (first.created, first.problems) == (4, [])
    before = tasks_of(client, first.project)
    second = push(built, client, built.name)
    assert (second.created, second.updated, second.unchanged, second.duplicates) == (0, 0, 4, 0)
    assert tasks_of(client, first.project) == before
    image = before["case_000000"]["data"]["drawn1"]
    assert studio.request("GET", image).content == (built / "match_bench/case_000000/FRAME00.jpg").read_bytes()


def test_changed_cases_are_updated_and_touched_ones_are_left(built: Path, studio: Studio, annotate: Annotate) -> None:
    client = studio.client()
    project = push(built, client, built.name).project
    tasks = tasks_of(client, project)
    annotate(tasks["case_000001"])
    cases = {case.id: case for case in bench.read(built)}
    revise(built, {n: cases[n].model_copy(update={"rationale": "new"}) for n in ("case_000000", "case_000001")})
    again = push(built, client, built.name)
    assert (again.updated, again.unchanged, again.annotated) == (1, 2, 1)
    now = tasks_of(client, project)
    assert [t["id"] for t in now.values()] == [t["id"] for t in tasks.values()]
    assert "new" in json.dumps(now["case_000000"]["predictions"][0]["result"])
    assert len(now["case_000000"]["predictions"]) == 1
    assert now["case_000001"] == tasks_of(client, project)["case_000001"]
    brush = push(built, client, built.name, ReviewPushOptions(editor="brush"))
    assert (brush.updated, brush.annotated) == (3, 1)


def test_bad_cases_are_reported_and_the_others_are_pushed(built: Path, studio: Studio) -> None:
    (built / "match_bench/case_000002/FRAME01_ORI.jpg").unlink()
    done = push(built, studio.client(), built.name)
    assert done.created == 3
    assert [name for name, _ in done.problems] == ["case_000002"]
    assert "FRAME01_ORI.jpg: image is missing" in done.problems[0][1]


def test_answers_types_rationales_and_rejections(built: Path, studio: Studio, annotate: Annotate) -> None:
    client, before = studio.client(), {case.id: case for case in bench.read(built)}
    project = push(built, client, built.name).project
    tasks = tasks_of(client, project)
    ids = sorted(tasks)
    other = next(o for o in before[ids[1]].options if o.number not in (None, before[ids[1]].answer))

    def correct(results: list[dict[str, Any]]) -> None:
        results[:] = [r for r in results if r["from_name"] != "answer"]
        results.append(choice("answer", f"{other.letter}. {other.number}"))
        results.append(choice("match_types", "CL colour", "OM object markers"))
        results.append(choice("rationale") | {"type": "textarea", "value": {"text": ["same bag"]}})

    def why(results: list[dict[str, Any]]) -> None:
        results.append(choice("reason") | {"type": "textarea", "value": {"text": ["blurred"]}})

    annotate(tasks[ids[0]])
    annotate(tasks[ids[1]], "fix", correct)
    annotate(tasks[ids[2]], "reject", why)
    files = tree(built)
    done = pull(built, client, project)
    assert done.changed == ids[:3]
    assert done.problems == []
    now = {case.id: case for case in bench.read(built)}
    assert now[ids[0]] == before[ids[0]].model_copy(update={"review": now[ids[0]].review})
    assert now[ids[0]].review.state == "accepted"
    assert now[ids[0]].review.by == studio.server.user
    assert now[ids[0]].review.seconds == 12.5
    fixed = now[ids[1]]
    assert (fixed.answer, fixed.match_types, fixed.rationale) == (other.number, (1, 8), "same bag")
    assert fixed.review.state == "fixed"
    assert (now[ids[2]].review.state, now[ids[2]].review.reason) == ("rejected", "blurred")
    assert [row.cells["case_id"] for row in read_rows(built / bench.TSV)] == [ids[0], ids[1], ids[3]]
    assert bench.validate(built, deep=True).problems == []
    assert tree(built)["revisions/cases.0001.jsonl"] == files["cases.jsonl"]
    # nothing new: no byte changes, and what was changed since by other means stays
    after = tree(built)
    assert pull(built, client, project).changed == []
    assert tree(built) == after
    revise(built, {ids[0]: now[ids[0]].model_copy(update={"rationale": "by hand"})})
    assert pull(built, client, project).changed == []
    assert next(bench.read(built)).rationale == "by hand"
    # a push after a pull leaves reviewed tasks alone
    again = push(built, client, built.name)
    assert (again.created, again.updated, again.unchanged, again.annotated) == (0, 0, 1, 3)


def test_masks_come_back_to_the_pixel(built: Path, studio: Studio, annotate: Annotate) -> None:
    client = studio.client()
    project = push(built, client, built.name, ReviewPushOptions(editor="brush")).project
    task = tasks_of(client, project)["case_000000"]
    case = next(bench.read(built))
    wanted = masks.decode(case.candidates[0].region.mask)  # type: ignore[arg-type]
    wanted[2:7, 3:11] = 1
    rle = masks.encode(wanted)

    def paint(results: list[dict[str, Any]]) -> None:
        for result in results:
            if result["id"] == "1-2-0":
                result["value"] = result["value"] | {"rle": encode_brush(rle)}

    annotate(task, "accept", paint)
    assert pull(built, client, project).changed == ["case_000000"]
    now = next(bench.read(built))
    assert now.candidates[0].region.mask == rle
    assert now.candidates[1:] == case.candidates[1:]
    assert now.query == case.query
    assert now.review.state == "fixed"
    assert bench.validate(built, deep=True).problems == []


def test_two_people_the_latest_wins_and_agreement_is_written(built: Path, studio: Studio, annotate: Annotate) -> None:
    client = studio.client()
    project = push(built, client, built.name).project
    tasks = tasks_of(client, project)
    email = f"{built.name[:12]}@example.org"
    account = {"email": email, "username": email, "password": "a-long-passphrase"}
    user = studio.request("POST", "/api/users/", account).json()
    for name in ("case_000000", "case_000001"):
        annotate(tasks[name])
    second = annotate(tasks["case_000000"], "reject")
    studio.request("PATCH", f"/api/annotations/{second['id']}/", {"completed_by": user["id"]})
    annotate(tasks["case_000001"])
    done = pull(built, client, project)
    now = {case.id: case for case in bench.read(built)}
    assert now["case_000000"].review.state == "rejected"
    assert now["case_000001"].review.state == "accepted"
    history = [json.loads(line) for line in (built / "annotation/history.jsonl").read_text().splitlines()]
    assert len(history) == done.annotations == 4
    assert [h["applied"] for h in history].count(True) == 2
    assert done.shared == 1
    agreement = json.loads((built / "annotation/agreement.json").read_text())
    assert agreement["disagreements"] == ["case_000000"]
    assert agreement["people"] == {email: 1, studio.server.user: 1}
    after = tree(built)
    pull(built, client, project)
    assert tree(built) == after


def test_bad_annotations_are_reported_and_change_nothing(built: Path, studio: Studio, annotate: Annotate) -> None:
    client = studio.client()
    project = push(built, client, built.name, ReviewPushOptions(editor="brush")).project
    tasks = tasks_of(client, project)

    def no_answer(results: list[dict[str, Any]]) -> None:
        results[:] = [r for r in results if r["from_name"] != "answer"]

    def wrong_image(results: list[dict[str, Any]]) -> None:
        for result in results:
            if result["id"] == "1-2-0":
                name = str(result["from_name"]).replace("2", "1")
                result |= {"to_name": "original1", "from_name": name}

    def of_other_size(results: list[dict[str, Any]]) -> None:
        for result in results:
            if result["id"] == "1-2-0" and result["type"] == "brush":
                result["value"] = result["value"] | {"rle": encode_brush(masks.encode(np.ones((9, 9), np.uint8)))}

    annotate(tasks["case_000000"], "accept", no_answer)
    annotate(tasks["case_000001"], "accept", wrong_image)
    annotate(tasks["case_000002"], "accept", of_other_size)
    annotate(tasks["case_000003"], None)
    before = (built / "cases.jsonl").read_bytes()
    done = pull(built, client, project)
    assert done.changed == []
    assert (built / "cases.jsonl").read_bytes() == before
    problems = [f"{where}: {reason}" for where, reason in sorted(done.problems)]
    for name, part in zip(sorted(tasks), ("has no answer", "wrong image", "brush covers", "no verdict"), strict=True):
        assert any(name in line and part in line for line in problems), problems
    annotate(tasks["case_000000"])
    assert pull(built, client, project).changed == ["case_000000"]


def test_exports_and_older_projects(built: Path, studio: Studio, annotate: Annotate, tmp_path: Path) -> None:
    client = studio.client()
    project = push(built, client, built.name).project
    annotate(tasks_of(client, project)["case_000001"])
    exported = studio.request("GET", f"/api/projects/{project.id}/export", exportType="JSON").json()
    older = copy.deepcopy(exported[0]) | {"id": 77}
    del older["data"]["base"]
    rebuilt = copy.deepcopy(exported[0]) | {"id": 78}
    rebuilt["data"]["base"] = (
        rebuilt["data"]["base"].replace('"seed":0', '"seed":1').replace('"video":"clip', '"video":"klip')
    )
    file = tmp_path / "export.json"
    file.write_text(json.dumps([older, rebuilt, *exported]))
    copied = tmp_path / "copy"
    shutil.copytree(built, copied)
    done = pull(copied, None, None, file)
    assert done.changed == ["case_000001"]
    assert [where for where, _ in done.problems] == ["task 77 (case_000001)", "task 78 (case_000001)"]
    assert "older" in done.problems[0][1]
    assert "built again" in done.problems[1][1]
    assert pull(built, client, project).changed == ["case_000001"]
    # an export names people by their numbers only
    by = studio.server.user.encode()
    assert (copied / "cases.jsonl").read_bytes().replace(b"user 1", by) == (built / "cases.jsonl").read_bytes()


def test_wrong_token_no_server_and_no_project(built: Path, studio: Studio) -> None:
    with pytest.raises(RequestRejected, match="does not accept the token"):
        push(built, Client(studio.url, "0" * 40), built.name)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(ServerError, match="is the server running"):
            push(built, Client(f"http://127.0.0.1:{closed.getsockname()[1]}", "x"), built.name)
    with pytest.raises(UsageError, match="no project 999999"):
        push(built, studio.client(), "999999")


def test_a_project_that_was_deleted(built: Path, studio: Studio) -> None:
    client = studio.client()
    project = push(built, client, built.name).project
    client.delete_project(project.id)
    before = tree(built)
    with pytest.raises(RequestRejected, match="deleted"):
        pull(built, client, project)
    assert tree(built) == before
    assert push(built, client, built.name).created == 4


def test_rejected_cases_are_not_pushed(built: Path, studio: Studio) -> None:
    case = next(bench.read(built))
    revise(built, {case.id: case.model_copy(update={"review": Review(state="rejected")})})
    done = push(built, studio.client(), built.name)
    assert (done.created, done.skipped) == (3, 1)


def test_a_server_that_restarts_in_mid_push(built: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmvm_data.annotation.labelstudio.sync.BATCH_TASKS", 1)
    client = studio.client()
    seen: list[int] = []
    restarts: list[threading.Thread] = []

    def stop_after_two(done: int, of: int) -> None:
        seen.append(done)
        if done == 2:
            restarts.append(threading.Thread(target=studio.restart))
            restarts[0].start()
            time.sleep(1)

    done = push(built, client, built.name, progress=stop_after_two)
    restarts[0].join()
    assert seen == [1, 2, 3, 4]
    assert done.created == 4
    assert sorted(tasks_of(client, done.project)) == [f"case_{k:06d}" for k in range(4)]
    assert len(list(client.iter_tasks(done.project.id, "id"))) == 4


def test_an_answer_that_is_lost_makes_no_second_tasks(
    built: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow server: the batch is carried out, its answer comes too late."""
    monkeypatch.setattr("mmvm_data.annotation.labelstudio.sync.BATCH_TASKS", 2)
    client = studio.client()
    lost = lose_answers(client, monkeypatch, "/import", 2)
    done = push(built, client, built.name)
    assert (done.created, len(lost)) == (4, 2)
    assert len(list(client.iter_tasks(done.project.id, "id"))) == 4


def test_lost_answers_leave_one_project_one_storage_and_one_prediction(
    built: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmvm_data.annotation.labelstudio.project.SETTLE_SECONDS", 0.1)
    monkeypatch.setattr("mmvm_data.annotation.labelstudio.storages.SETTLE_SECONDS", 0.1)
    monkeypatch.setattr("mmvm_data.annotation.labelstudio.sync.SETTLE_SECONDS", 0.1)
    client = studio.client()
    lost = [lose_answers(client, monkeypatch, path, 1) for path in ("projects/", "views/", "localfiles/")]
    project = push(built, client, built.name).project
    assert [len(answers) for answers in lost] == [1, 1, 1]
    assert client.find_project(built.name) == project
    assert len(list_folders(client, project.id)) == 1
    cases = {case.id: case for case in bench.read(built)}
    revise(built, {"case_000000": cases["case_000000"].model_copy(update={"rationale": "new"})})
    lost = [lose_answers(client, monkeypatch, "predictions/", 1)]
    assert push(built, client, built.name).updated == 1
    assert len(lost[0]) == 1
    (prediction,) = tasks_of(client, project)["case_000000"]["predictions"]
    assert "new" in json.dumps(prediction["result"])
    # what cannot be repaired by looking is passed on
    lose_answers(client, monkeypatch, "projects/", 1)
    with pytest.raises(OutcomeUnknown, match="took too long to answer"):
        client.create_project("another one", project.label_config)


def test_begun_work_is_left_alone_and_second_copies_are_deleted(built: Path, studio: Studio) -> None:
    client = studio.client()
    project = push(built, client, built.name).project
    tasks = tasks_of(client, project)
    begun = tasks["case_000001"]
    studio.request("POST", f"/api/tasks/{begun['id']}/drafts", {"result": begun["predictions"][0]["result"]})
    copies = [{"data": tasks[name]["data"]} for name in ("case_000001", "case_000002")]
    studio.request("POST", f"/api/projects/{project.id}/import", copies)
    done = push(built, client, built.name, ReviewPushOptions(editor="brush"))
    assert (done.duplicates, done.updated, done.annotated) == (2, 3, 1)
    assert client.get_task(begun["id"])["data"] == begun["data"]
    assert [task["id"] for task in tasks_of(client, project).values()] == [task["id"] for task in tasks.values()]


def test_a_project_that_is_deleted_in_mid_push(built: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmvm_data.annotation.labelstudio.sync.BATCH_TASKS", 1)
    client, before = studio.client(), tree(built)

    def delete(done: int, of: int) -> None:
        if done == 2:
            project = client.find_project(built.name)
            assert project is not None
            client.delete_project(project.id)

    with pytest.raises(RequestRejected, match="was the project deleted"):
        push(built, client, built.name, progress=delete)
    assert tree(built) == before
    assert push(built, client, built.name).created == 4


class _Slow:
    """Stands before a server: the first request of each kind that changes something is answered ``seconds`` late."""

    def __init__(self, target: str, seconds: float) -> None:
        self.late: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")}
                got = httpx.request(self.command, target + self.path, headers=headers, content=body, timeout=60)
                if self.command == "POST" and self.path.endswith("/import") and not outer.late:
                    outer.late.append(self.path)
                    time.sleep(seconds)
                try:
                    self.send_response(got.status_code)
                    self.send_header("Content-Type", got.headers.get("Content-Type", "text/plain"))
                    self.send_header("Content-Length", str(len(got.content)))
                    self.end_headers()
                    self.wfile.write(got.content)
                except OSError:  # nobody waits any more
                    pass

            do_GET = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_answers_that_take_30_seconds(built: Path, studio: Studio) -> None:
    """A long timeout waits for them; with a short one, every task still exists once."""
    for timeout, title in ((120.0, "patient"), (5.0, "impatient")):
        slow = _Slow(studio.url, 30)
        done = push(built, Client(f"http://127.0.0.1:{slow.port}", studio.server.token, timeout=timeout), title)
        slow.server.shutdown()
        assert (done.created, len(slow.late)) == (4, 1)
        assert len(list(studio.client().iter_tasks(done.project.id, "id"))) == 4


def test_a_server_that_never_answers_is_one_message(built: Path, studio: Studio) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        client = Client(f"http://127.0.0.1:{deaf.getsockname()[1]}", studio.server.token, timeout=0.5, patience=1)
        before = tree(built)
        with pytest.raises(ServerError, match="took too long to answer: is the server running"):
            push(built, client, built.name)
        assert tree(built) == before


def test_a_personal_access_token_is_refreshed(built: Path, studio: Studio) -> None:
    settings = studio.request("GET", "/api/jwt/settings").json()
    studio.request("POST", "/api/jwt/settings", settings | {"api_tokens_enabled": True})
    refresh = studio.request("POST", "/api/token/", {}).json()["token"]
    assert refresh.count(".") == 2
    client = Client(studio.url, refresh)
    done = push(built, client, built.name)
    assert done.created == 4
    sdk = client._connect()
    assert sdk._client_wrapper.get_headers()["Authorization"].startswith("Bearer ")
    access = sdk._client_wrapper._tokens_client
    access._access_token = access.api_key[:-6] + "AAAAAA"  # not expired by our clock, and not valid for the server
    assert pull(built, client, done.project).tasks == 4
    with pytest.raises(RequestRejected, match="does not accept the token"):
        push(built, Client(studio.url, "a.b.c"), built.name)

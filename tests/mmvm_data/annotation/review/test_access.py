"""A login that no longer counts, and a server that restarts while somebody works: one message, and no work is lost."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Request

from mmvm_data import cli
from mmvm_data.annotation.labelstudio.client import RequestRejected
from mmvm_data.annotation.labelstudio.history import submitted_annotations
from mmvm_data.annotation.labelstudio.server import stop_server
from mmvm_data.formats import bench
from tests.browser import open_browser
from tests.mmvm_data.annotation.conftest import Studio, tasks_of
from tests.mmvm_data.annotation.editor_page import log_in
from tests.mmvm_data.annotation.review.grids import write_grids
from tests.mmvm_data.annotation.review.test_page import (
    invoke,
    open_queue,
    press_keys,
    submit_with_keys,
    wait_for_case,
)
from tests.worlds import tree

pytestmark = [pytest.mark.xdist_group("label-studio"), pytest.mark.slow]


@pytest.fixture
def folder(studio: Studio, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Two cases on the server."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.server.token)
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    place: Path = studio.files / request.node.name[:40]
    write_grids(place, (6, 4))
    invoke("review", "push", place)
    return place


def test_tokens_that_no_longer_count_are_one_message(
    folder: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = studio.request("GET", "/api/jwt/settings").json()
    studio.request("POST", "/api/jwt/settings", settings | {"api_tokens_enabled": True})
    revoked = studio.request("POST", "/api/token/", {}).json()["token"]
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", revoked)
    invoke("review", "status", folder)
    studio.request("POST", "/api/token/blacklist/", {"refresh": revoked})
    head, claims, signature = revoked.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"exp": 1_700_000_000}
    claims = base64.urlsafe_b64encode(json.dumps(decoded).encode()).decode().rstrip("=")
    expired = f"{head}.{claims}.{signature}"
    files = tree(folder)
    for token in ("0" * 40, expired, revoked):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
        for command in ("push", "pull", "status"):
            with pytest.raises(RequestRejected, match="does not accept the token in LABEL_STUDIO_API_KEY") as caught:
                CliRunner().invoke(cli.cli, ["review", command, str(folder)], catch_exceptions=False)
            assert "Account & Settings" in str(caught.value) and token not in str(caught.value)
        assert tree(folder) == files


def test_a_server_that_restarts_under_an_open_page(folder: Path, studio: Studio) -> None:
    """The editor leaves its page empty when nobody answers. What it had drafted is there when the page is loaded again,
    the login still counts, and the annotation is stored once."""
    project = studio.client().find_project(folder.name)
    assert project is not None
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        log_in(page, studio)
        open_queue(page, studio, project.id)
        wait_for_case(page, 7)
        with page.expect_response(lambda r: "/drafts" in r.url and '"fix"' in (r.request.post_data or "")) as draft:
            ticked = press_keys(page, "3", "f")
        assert draft.value.ok
        # an editor with a draft on its way submits when that is saved: then it is the draft that fails
        failed: list[Request] = []
        page.on("requestfailed", lambda request: failed.append(request))
        stop_server(studio.server)
        page.keyboard.press("Control+Enter")
        while not any(request.method in ("POST", "PATCH") for request in failed):
            page.wait_for_timeout(50)
        studio.start(studio.port)
        open_queue(page, studio, project.id)
        page.wait_for_selector(".mmvm input:checked")
        assert press_keys(page) == ticked == ["Fix: I changed something", "C. 3", "CL colour"]
        submit_with_keys(page)
        wait_for_case(page, 5)
    tasks = tasks_of(studio.client(), project)
    assert [len(submitted_annotations(tasks[name])) for name in ("case_000000", "case_000001")] == [1, 0]
    assert "1 case changed" in invoke("review", "pull", folder)
    case = next(bench.read(folder))
    assert (case.answer, case.review.state) == (3, "fixed")

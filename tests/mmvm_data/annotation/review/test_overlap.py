"""Two people review the same cases on a real Label Studio, blind to each other; a third decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from mmvm_data.annotation.labelstudio.history import author, submitted_annotations
from mmvm_data.annotation.review.adjudicate import VIEW
from mmvm_data.formats import bench
from tests.browser import CHROMIUM, FLAGS
from tests.mmvm_data.annotation.conftest import Studio, choice, tasks_of
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
Annotate = Callable[..., dict[str, Any]]


@pytest.fixture
def server(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Studio:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.server.token)
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    return studio


def add_user(studio: Studio, email: str) -> int:
    account = {"email": email, "username": email, "password": studio.server.password}
    return int(studio.request("POST", "/api/users/", account).json()["id"])


def test_overlap_agreement_and_adjudication(server: Studio, annotate: Annotate) -> None:
    folder = server.files / "overlap"
    write_grids(folder, (3, 4, 5))
    first, second = server.server.user, "overlap@example.org"
    number = add_user(server, second)
    invoke("review", "push", folder, "--annotators", f"{first},{second}")
    client = server.client()
    project = client.find_project("overlap")
    assert project is not None and project.overlap == 2
    titles = {data["title"]: view for view, data in client.list_views(project.id)}
    assert [*titles] == ["All", f"Left for {first}", f"Left for {second}"]
    for view in titles.values():
        listed = server.request("GET", "/api/tasks", view=view).json()["tasks"]
        assert [task["data"]["case_id"] for task in listed] == ["case_000002", "case_000001", "case_000000"]  # hardest

    def other_answer(results: list[dict[str, Any]]) -> None:
        results[:] = [r for r in results if r["from_name"] != "answer"]
        results.append(choice("answer", "C. 3"))

    tasks = tasks_of(client, project)
    for name in ("case_000000", "case_000001"):
        annotate(tasks[name])
    for name, changes in (("case_000000", lambda results: None), ("case_000001", other_answer)):
        made = annotate(tasks[name], "accept" if name.endswith("0") else "fix", changes)
        server.request("PATCH", f"/api/annotations/{made['id']}/", {"completed_by": number})
    left = {data["title"]: view for view, data in client.list_views(project.id)}[f"Left for {second}"]
    listed = server.request("GET", "/api/tasks", view=left).json()["tasks"]
    assert [task["data"]["case_id"] for task in listed] == ["case_000002"]

    output = invoke("review", "pull", folder)
    assert "1 case to adjudicate" in output and "agreement over 2 cases: verdict 100 %, answer 50 %" in output
    assert [case.review.state for case in bench.read(folder)] == ["accepted", "proposed", "proposed"]
    output = invoke("review", "adjudicate", folder)
    assert "case_000001: answer" in output and f"{second}: fixed, object 3" in output
    view = {data["title"]: view for view, data in client.list_views(project.id)}[VIEW]
    listed = server.request("GET", "/api/tasks", view=view).json()["tasks"]
    assert [task["data"]["case_id"] for task in listed] == ["case_000001"]
    invoke("review", "adjudicate", folder, "--case", "case_000001", "--take", second)
    assert "1 cases changed" in invoke("review", "pull", folder)
    assert [case.answer for case in bench.read(folder)] == [2, 3, 2]
    before = tree(folder)
    assert "0 cases changed" in invoke("review", "pull", folder)
    assert tree(folder) == before
    assert "0 to adjudicate" in invoke("review", "status", folder)
    invoke("review", "adjudicate", folder)
    assert server.request("GET", "/api/tasks", view=view).json()["tasks"] == []
    assert "left alone" in invoke("review", "push", folder)
    assert len(client.list_views(project.id)) == 4


def test_two_browsers_see_the_proposal_and_not_each_other(server: Studio) -> None:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is missing: install Debian's chromium or set CHROMIUM")
    folder: Path = server.files / "blind"
    write_grids(folder, (6, 4))
    people = ("blind-a@example.org", "blind-b@example.org")
    invoke("review", "push", folder, "--overlap", 2)
    project = server.client().find_project("blind")
    assert project is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        for person, keys in zip(people, (["3", "z", "f"], ["a"]), strict=True):
            review_first_case(browser, server, project.id, person, keys)
        browser.close()
    task = tasks_of(server.client(), project)["case_000000"]
    users = server.client().list_users()
    assert [author(annotation, users) for annotation in submitted_annotations(task)] == list(people)
    invoke("review", "pull", folder)
    output = invoke("review", "adjudicate", folder)
    assert "case_000000: answer, match_types" in output
    assert f"{people[0]}: fixed, object 3, CL SZ" in output and f"{people[1]}: accepted, object 2, CL" in output


def review_first_case(browser: Browser, studio: Studio, project: int, person: str, keys: list[str]) -> None:
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    page = context.new_page()
    page.goto(studio.url + studio.request("GET", "/api/invite").json()["invite_url"])  # as people join a server
    page.fill("input[name=email]", person)
    page.fill("input[name=password]", studio.server.password)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(lambda url: "/user/" not in url)
    open_queue(page, studio, project)
    wait_for_case(page, 7)
    assert press_keys(page) == ["B. 2", "CL colour"]
    assert page.get_by_role("button", name="Submit").count() and not page.get_by_role("button", name="Update").count()
    press_keys(page, *keys)
    submit_with_keys(page)
    context.close()

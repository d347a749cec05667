"""Two people review the same cases on a real Label Studio, blind to each other; a third decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from mmvm_data.annotation.labelstudio.history import author, submitted_annotations
from mmvm_data.annotation.review.adjudicate import VIEW
from mmvm_data.formats import bench
from tests.browser import open_browser
from tests.mmvm_data.annotation.conftest import Studio, answer_with, tasks_of
from tests.mmvm_data.annotation.editor_page import TIMEOUT, keep_screenshot
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

    tasks = tasks_of(client, project)
    for name in ("case_000000", "case_000001"):
        annotate(tasks[name])
    for made in (annotate(tasks["case_000000"]), annotate(tasks["case_000001"], "fix", answer_with("C. 3"))):
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
    assert "1 case changed" in invoke("review", "pull", folder)
    assert [case.answer for case in bench.read(folder)] == [2, 3, 2]
    before = tree(folder)
    assert "0 cases changed" in invoke("review", "pull", folder)
    assert tree(folder) == before
    assert "0 to adjudicate" in invoke("review", "status", folder)
    invoke("review", "adjudicate", folder)
    assert server.request("GET", "/api/tasks", view=view).json()["tasks"] == []
    views = dict(client.list_views(project.id))
    old = {number: {k: v for k, v in data.items() if k != "columnsWidth"} for number, data in views.items()}
    old[titles["All"]]["columnsWidth"] = {"tasks:id": 333}  # somebody dragged one column; the rest is of earlier pushes
    for number, data in old.items():
        client.update_view(number, data)
    assert "left alone" in invoke("review", "push", folder)
    now = dict(client.list_views(project.id))
    assert now[titles["All"]] == views[titles["All"]] | {
        "columnsWidth": {**views[titles["All"]]["columnsWidth"], "tasks:id": 333}
    }
    assert {n: now[n] for n in now if n not in (titles["All"], view)} == {
        n: views[n] for n in views if n not in (titles["All"], view)
    }


def test_two_browsers_disagree_and_a_third_decides(server: Studio) -> None:
    """Nobody sees a colleague's work before the adjudicator, who answers one case and takes over an answer."""
    folder: Path = server.files / "blind"
    write_grids(folder, (6, 4))
    people = ("blind-a@example.org", "blind-b@example.org")
    curator = "curator@example.org"
    invoke("review", "push", folder, "--overlap", 2)
    project = server.client().find_project("blind")
    assert project is not None
    with open_browser() as browser:
        answers = ((["3", "z", "f"], ["a"]), (["a"], ["4", "f"]))
        for person, keys in zip(people, answers, strict=True):
            review_in_browser(join(browser, server, person), server, project.id, keys)
        tasks, users = tasks_of(server.client(), project), server.client().list_users()
        for task in tasks.values():
            assert [author(annotation, users) for annotation in submitted_annotations(task)] == list(people)
        assert "0 cases changed" in invoke("review", "pull", folder)
        page = join(browser, server, curator)
        output = invoke("review", "adjudicate", folder, "--by", curator)
        assert "case_000000: answer, match_types" in output
        assert f"{people[0]}: fixed, object 3, CL SZ" in output and f"{people[1]}: accepted, object 2, CL" in output
        (view,) = (view for view, data in server.client().list_views(project.id) if data["title"] == VIEW)
        urls = {
            name: f"{server.url}/projects/{project.id}/data?tab={view}&task={task['id']}"
            for name, task in tasks.items()
        }
        adjudicate(page, urls["case_000000"], None, ["B. 2", "CL colour"], ["5", "f"])
        right = submitted_annotations(tasks["case_000001"])[1]["id"]
        adjudicate(page, urls["case_000001"], right, ["Fix: I changed something", "D. 4", "CL colour"], [])
    assert "2 cases changed" in invoke("review", "pull", folder)
    cases = [(case.answer, case.review.state, case.review.by) for case in bench.read(folder)]
    assert cases == [(5, "fixed", curator), (4, "fixed", curator)]
    before = tree(folder)
    assert "0 cases changed" in invoke("review", "pull", folder)
    assert tree(folder) == before
    assert "0 to adjudicate" in invoke("review", "status", folder)


def join(browser: Browser, studio: Studio, person: str) -> Page:
    """A browser of a person who joins the server by its invitation."""
    page = browser.new_context(viewport={"width": 1366, "height": 768}).new_page()
    page.set_default_timeout(TIMEOUT)
    page.goto(studio.url + studio.request("GET", "/api/invite").json()["invite_url"])
    page.fill("input[name=email]", person)
    page.fill("input[name=password]", studio.server.password)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(lambda url: "/user/" not in url)
    return page


def review_in_browser(page: Page, studio: Studio, project: int, answers: Sequence[list[str]]) -> None:
    """Answer the two cases of the queue by keys; each shows its proposal and nothing else."""
    open_queue(page, studio, project)
    for options, keys in zip((7, 5), answers, strict=True):
        wait_for_case(page, options)
        assert press_keys(page) == ["B. 2", "CL colour"]
        page.get_by_role("button", name="Submit").first.wait_for()
        assert not page.get_by_role("button", name="Update").count()
        press_keys(page, *keys)
        submit_with_keys(page)
    page.context.close()


def adjudicate(page: Page, url: str, copied: int | None, ticked: Sequence[str], keys: Sequence[str]) -> None:
    """Answer a case on a copy of an annotation, or of the proposal where it is None.

    Args:
        page: of the adjudicator.
        url: of the case in the tab of the disputed ones.
        copied: number of the annotation.
        ticked: what the copy has.
        keys: what the adjudicator presses.
    """
    page.goto(url)
    page.wait_for_selector(".mmvm-side img")
    tabs = page.locator(".lsf-annotation-button")
    proposal = tabs.filter(has=page.locator(".lsf-annotation-button__userpic_prediction"))
    tab = proposal if copied is None else page.locator(f".lsf-annotation-button[data-annotation-id='{copied}']")
    tab.locator(".lsf-annotation-button__trigger").click()
    count = tabs.count()
    page.get_by_text("Duplicate Annotation").click()
    tabs.nth(count).wait_for()
    page.wait_for_function("text => document.querySelector('.mmvm input:checked')?.name === text", arg=ticked[0])
    assert press_keys(page) == ticked
    press_keys(page, *keys)
    keep_screenshot(page, "adjudicate")
    submit_with_keys(page)

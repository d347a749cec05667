"""The App in a browser: cases with their masks, a tag set by hand, the record that has it afterwards."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route

from mmvm_data import synth
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.formats import bench
from mmvm_data.pipeline import build
from tests.mmvm_data.viz.browse_world import run, start, write_answers
from tests.ports import free_port

WAIT = 60_000


def ready(page: Page, url: str) -> None:
    """Wait for the grid, and put away what the App advertises at its first start."""
    page.goto(url)
    page.wait_for_selector("[data-cy=looker] canvas", timeout=WAIT)
    offer = page.get_by_text("Dismiss", exact=True)
    offer.wait_for(timeout=WAIT)
    offer.click()
    offer.wait_for(state="detached")


def set_tag(page: Page, tag: str) -> None:
    """Tick the first image of the grid and tag it.

    The App forgets what is ticked when its server reports a new state, and a tag would then go to all cases: a request
    without the one case is not let through, and the steps are done again.
    """
    sent: list[bool] = []

    def send_for_one_case(route: Route) -> None:
        body = route.request.post_data_json
        assert isinstance(body, dict)
        sent.append(len(body["sample_ids"] or ()) == 1)
        if sent[-1]:
            route.continue_()
        else:
            route.fulfill(status=409)

    page.route("**/tag", send_for_one_case)
    for attempt in range(3):
        if attempt:
            page.reload()
            page.wait_for_selector("[data-cy=looker] canvas", timeout=WAIT)
        first = page.locator("[data-cy=looker]").first
        first.hover()
        page.wait_for_timeout(700)  # the box to tick fades in; a click before that is lost
        first.click(position={"x": 12, "y": 12})
        page.locator("[data-cy=action-manage-selected]").get_by_text("1", exact=True).wait_for()
        page.locator("[data-cy=action-tag-sample-labels]").first.click()
        page.get_by_placeholder("sample").first.fill(tag)
        page.keyboard.press("Enter")
        with page.expect_event("requestfinished", lambda request: request.url.endswith("/tag")) as done:
            page.get_by_text("Apply", exact=True).click()
        if sent[-1]:
            answer = done.value.response()
            assert answer is not None and answer.ok
            page.get_by_text("Apply", exact=True).wait_for(state="detached")
            return
    raise AssertionError("the App did not keep the selection")


@pytest.mark.slow
def test_a_tag_set_in_the_app_is_in_the_record_after_a_pull(browser: Browser, tmp_path: Path) -> None:
    root = synth.generate(tmp_path / "videos", synth.SynthOptions(videos=4, frames=10, seed=1))
    sampling = SamplingOptions(cases_per_video=2)
    build.build("ytvos", root, tmp_path / "bench", build.BuildOptions(sampling=sampling, workers=1))
    folder, database = tmp_path / "bench", ("--database-dir", tmp_path / "database")
    cases = {case.id: case for case in bench.read(folder)}
    answers = write_answers(tmp_path / "answers.jsonl", cases.values(), {"gpt-4o": 2, "colva-4b": 3})
    port = free_port()
    process = start(folder, *database, "--predictions", answers, "--port", port)
    assert process.stdout is not None
    printed = ""
    while "Ctrl-C" not in printed:
        line = process.stdout.readline()
        assert line, printed + process.communicate()[1]
        printed += line
    url = f"http://127.0.0.1:{port}/datasets/bench"
    assert url in printed
    context = browser.new_context(viewport={"width": 1500, "height": 900})
    page = context.new_page()
    page.set_default_timeout(WAIT)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    try:
        ready(page, url)
        keep = os.environ.get("MMVM_SCREENSHOT")
        set_tag(page, "golden")
        page.wait_for_selector("[data-cy=looker] canvas")
        assert page.locator("[data-cy=looker]").count() >= min(len(cases), 4)
        page.locator("[data-cy=looker]").first.click()
        page.wait_for_selector("[data-cy=modal] [data-cy=group-carousel] [data-cy=looker]")
        assert page.locator("[data-cy=group-carousel] [data-cy=looker]").count() == 2
        page.wait_for_selector("[data-cy=modal] [data-cy=sample-canvas], [data-cy=modal] canvas")
        page.locator("[data-cy=modal] [data-cy=sidebar-entry-case_id]").wait_for()
        if keep:
            page.wait_for_timeout(3000)
            page.screenshot(path=keep, type="jpeg", quality=70)
        pulled = run("pull", folder, *database)  # while the App is open: it joins the same database
        process.send_signal(signal.SIGINT)
        printed, faults = process.communicate(timeout=240)
        assert (process.returncode, "next: mmvm-data browse pull" in printed) == (0, True), printed + faults
    finally:
        context.close()
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert "golden 1" in pulled
    tagged = [case for case in bench.read(folder) if case.extra]
    assert [case.extra for case in tagged] == [{"tags": ["golden"]}]
    assert tagged[0].model_copy(update={"extra": {}}) == cases[tagged[0].id]
    assert bench.validate(folder).problems == []
    # the App's page asks for two fonts; the toolkit and its server ask for nothing
    strangers = {u.split("/")[2] for u in asked if u.startswith("http") and f"127.0.0.1:{port}" not in u}
    assert strangers <= {"fonts.googleapis.com", "fonts.gstatic.com"}

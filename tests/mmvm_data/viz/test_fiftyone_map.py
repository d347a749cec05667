"""The App in a browser: the list of saved views, and the map of colors in the panel Embeddings."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from mmvm_data import synth
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.formats import bench
from mmvm_data.pipeline import build
from mmvm_data.viz.embeddings import MAP_KEY, VIEW
from tests.mmvm_data.annotation.editor_page import keep_screenshot
from tests.mmvm_data.viz.browse_world import start, write_answers
from tests.mmvm_data.viz.test_fiftyone_page import ready
from tests.ports import free_port


@dataclass
class App:
    """The command with its App, of a benchmark."""

    folder: Path
    database: Path
    url: str
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """``mmvm-data browse`` with answers of models and a map of colors, until Ctrl-C at the end."""
    place = tmp_path_factory.mktemp("app")
    root = synth.generate(place / "videos", synth.SynthOptions(videos=4, frames=10, seed=1))
    sampling = SamplingOptions(cases_per_video=2)
    build.build("ytvos", root, place / "bench", build.BuildOptions(sampling=sampling, workers=1))
    folder, database = place / "bench", place / "database"
    cases = list(bench.read(folder))
    answers = write_answers(place / "answers.jsonl", cases, {"gpt-4o": 2, "colva-4b": 3})
    (folder / "annotation").mkdir()
    queue = {"adjudicate": {cases[1].id: {"fields": ["answer"], "people": {}}}}
    (folder / "annotation/agreement.json").write_text(json.dumps(queue))
    port = free_port()
    options = ("--database-dir", database, "--predictions", answers, "--embeddings", "color", "--port", port)
    process = start(folder, *options)
    assert process.stdout is not None
    printed = ""
    try:
        while "Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, printed + process.communicate()[1]
            printed += line
        url = f"http://127.0.0.1:{port}/datasets/bench"
        assert url in printed and f"{len(cases)} cases in the map of colors" in printed
        yield App(folder, database, url, process)
        process.send_signal(signal.SIGINT)
        printed, faults = process.communicate(timeout=240)
        assert (process.returncode, "next: mmvm-data browse pull" in printed) == (0, True), printed + faults
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def page(browser: Browser, app: App) -> Iterator[Page]:
    """A page with the App's grid, which asks nobody but the App and for two fonts."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    ready(opened, app.url)
    yield opened
    context.close()
    hosts = {url.split("/")[2] for url in asked if url.startswith("http")}
    assert hosts - {app.url.split("/")[2]} <= {"fonts.googleapis.com", "fonts.gstatic.com"}


def wait_for_count(page: Page, shown: str) -> None:
    page.locator("[data-cy=entry-counts]").get_by_text(shown).wait_for()


def open_map(page: Page) -> None:
    """Open the map of colors in the panel Embeddings."""
    page.locator("[data-cy=new-panel-btn]").first.click()
    page.locator("[data-cy=new-panel-option-Embeddings]").click()
    page.locator("[data-cy=embeddings-runs-page]").get_by_text(MAP_KEY).click()


@pytest.mark.slow
def test_saved_views_and_the_map_of_colors(app: App, page: Page) -> None:
    count = sum(1 for _ in bench.read(app.folder))
    page.locator("[data-cy=saved-views-selection]").click()
    page.locator("[data-cy=saved-views-annotators-disagree-selection-option]").click()
    wait_for_count(page, "1 group")
    page.goto(f"{app.url}?view={VIEW.replace(' ', '-')}")
    wait_for_count(page, f"{count} samples")
    open_map(page)
    panel = page.locator("[data-cy=panel-content-Embeddings]")
    panel.get_by_text(f"{count} points").wait_for()
    panel.locator("canvas").first.wait_for()
    page.wait_for_timeout(500)
    keep_screenshot(page, "map")

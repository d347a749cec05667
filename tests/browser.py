"""The browser that opens reports, as fixtures; a conftest that wants them imports them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.pages import Open, Scheme

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
expect.set_options(timeout=60_000)  # five seconds can be too few on a busy machine
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Open Chromium. Where it is missing the test is skipped, and in CI it fails."""
    if not CHROMIUM.exists():
        message = f"{CHROMIUM} is missing: install Debian's chromium or set CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as running:
        yield running


@pytest.fixture
def open_report(browser: Browser) -> Iterator[Open]:
    """Opens a report; at the end of the test nothing may have been said on the console or fetched from elsewhere."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def listen(message: ConsoleMessage) -> None:
        if "ERR_FILE_NOT_FOUND" not in message.text:  # an image that is not beside the page, which is allowed
            said.append(message.text)

    def start(
        report: Path, hash: str = "", width: int = 1600, height: int = 1000, scheme: Scheme = "light", density: int = 1
    ) -> Page:
        viewport = {"width": width, "height": height}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, device_scale_factor=density)
        context.set_default_timeout(120_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{report.resolve().as_uri()}#{hash}")
        return page

    yield start
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:image/webp", "data:,"))] == []

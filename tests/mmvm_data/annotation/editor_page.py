"""Steps of a person in Label Studio's pages, of reviews and of tracks alike."""

from __future__ import annotations

import os

from playwright.sync_api import Page

from tests.mmvm_data.annotation.conftest import Studio

TIMEOUT = 120_000
"""Milliseconds that a page may take for a step, on a machine that does other things."""


def log_in(page: Page, studio: Studio) -> None:
    page.set_default_timeout(TIMEOUT)
    page.goto(f"{studio.url}/user/login/")
    page.fill("input[name=email]", studio.server.user)
    page.fill("input[name=password]", studio.server.password)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(lambda url: "/login" not in url)


def submit(page: Page) -> None:
    """Send the annotation with the button, and wait until the server has it."""
    with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as answer:
        page.get_by_role("button", name="Submit").first.click()
    assert answer.value.status == 201


def drag_mouse(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Press at a place of the window, move to another in steps that the editor follows, and let go."""
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=12)
    page.mouse.up()


def keep_screenshot(page: Page, name: str) -> None:
    """Write a picture of the page into the folder that MMVM_SCREENSHOTS names, if it names one."""
    if folder := os.environ.get("MMVM_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png")

"""What tests ask of a report that is open in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from playwright.sync_api import Page

PAGE = 24
Open = Callable[..., Page]
Scheme = Literal["light", "dark"]


def ids(page: Page) -> list[str]:
    return page.locator(".card").evaluate_all("cards => cards.map(card => card.dataset.case)")


def count(page: Page) -> int:
    return int((page.locator("#count").text_content() or "").split()[0].replace(",", ""))


def node_count(page: Page) -> int:
    return page.evaluate("document.querySelectorAll('*').length")


def facet(page: Page, name: str, value: str) -> None:
    page.locator(f'[data-facet="{name}"] [data-value="{value}"]').first.click()

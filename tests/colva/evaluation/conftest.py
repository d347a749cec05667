"""The browser that opens reports."""

from __future__ import annotations

from tests.browser import browser, open_report

__all__ = ["browser", "open_report"]

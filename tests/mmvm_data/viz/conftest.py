"""The browser that opens reports, and the report of a known build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmvm_data.core.types import Case
from mmvm_data.viz import fiftyone, mongo
from mmvm_data.viz.report import write_report
from tests.browser import browser, open_report
from tests.builds import make_case, make_reject, write_build

__all__ = ["browser", "open_report"]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [make_case(i) for i in range(120)]


@pytest.fixture(scope="module")
def report(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    rejects = [make_reject(i) for i in range(3)] + [make_reject(9, "file 'x.png' is cut off")]
    return write_report(write_build(tmp_path_factory.mktemp("a build #1"), cases, rejects))


@pytest.fixture(scope="session")
def fo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fiftyone.connect(mongo.open_database(folder=tmp_path_factory.mktemp("mongo") / "database"))

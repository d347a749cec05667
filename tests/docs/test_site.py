"""The documentation site builds in strict mode: a broken link, anchor, snippet or API name fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmvm_data.builders import SOURCES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.slow
def test_builds_strictly_with_every_page(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    renamed = {Path("commands/README"): Path("commands/index")}
    assert {renamed.get(page, page) for page in pages} <= built
    api = (site / "api/mmvm_data.html").read_text(encoding="utf-8")
    for name in ("build", "open_benchmark", "Case", "SamplingOptions"):
        assert f'id="mmvm_data.{name}"' in api


def test_sources_page_lists_every_source_with_its_layout() -> None:
    """Written by docs/reference.py, which test_pages.py checks; each row holds what the command prints."""
    text = (ROOT / "docs/sources.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| (.*)$", text, re.M)
    assert [name for name, _ in rows] == list(SOURCES)
    for name, row in rows:
        plain = row.replace("\\", "").replace("&lt;", "<")
        assert all(fact in plain for fact in (SOURCES[name].title, SOURCES[name].layout, SOURCES[name].license)), name


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in ("index.html", "api/colva.html"):
        text = (site / page).read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img)[^>]*src=[\"']?(https?://[^\"' >]+)", text)
        loaded += re.findall(r"<link[^>]*rel=[\"']?stylesheet[\"']?[^>]*href=[\"']?(https?://[^\"' >]+)", text)
        assert not loaded

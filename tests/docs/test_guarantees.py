"""The page of guarantees: every promise is linked to tests, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/guarantees.md"
SECTIONS = ("Durability", "Isolation", "Determinism", "No remote code", "Paths", "Secrets", "Resources")


def find_missing(text: str) -> list[str]:
    """The files and functions that a page names as tests and that do not exist."""
    missing = []
    for link in re.findall(r"`(tests/[^`]*|benchmarks/[^`]*)`", text):
        name, _, function = link.partition("::")
        path = ROOT / name
        if not path.is_file():
            missing.append(link)
        elif function:
            names = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
            missing += [link] if function not in names else []
    return missing


def test_every_linked_test_exists() -> None:
    assert find_missing(PAGE.read_text(encoding="utf-8")) == []


def test_every_promise_has_a_test() -> None:
    text = PAGE.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", text, re.MULTILINE))
    assert set(SECTIONS) <= sections.keys()
    for title, section in sections.items():
        promises = [line for line in section.splitlines() if line.startswith("| **")]
        assert promises, title
        for promise in promises:
            assert re.search(r"\| `tests/[^|]+ \|$", promise), promise


@pytest.mark.parametrize("link", ["tests/no_such.py", "tests/docs/test_guarantees.py::test_nothing"])
def test_a_link_to_nothing_is_found(link: str) -> None:
    assert find_missing(f"`{link}`") == [link]
    assert find_missing("`tests/docs/test_guarantees.py::find_missing`") == []

"""The public names of colva: there, documented, and imported only when they are used."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import colva

ROOT = Path(__file__).resolve().parents[2]


def test_every_public_name_resolves_and_is_documented() -> None:
    page = (ROOT / "docs/api/colva.md").read_text(encoding="utf-8")
    assert set(colva.__all__) == {*colva._MODULES, "__version__"}
    for name in colva._MODULES:
        value = getattr(colva, name)
        assert inspect.getdoc(value), name
        assert f"::: colva.{name}\n" in page


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="'colva' has no attribute 'trian'"):
        colva.trian  # noqa: B018


def test_import_is_light() -> None:
    code = "import sys, colva; print(*(m for m in ('torch', 'transformers', 'cv2', 'pydantic') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

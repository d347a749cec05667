"""Loads the harnesses of ``benchmarks/``, which are programs and no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def load_harness(name: str, patch: pytest.MonkeyPatch) -> ModuleType:
    """The harness ``benchmarks/<name>.py`` as a module, for as long as ``patch`` holds."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    patch.syspath_prepend(str(FOLDER))  # where it finds what the harnesses share
    patch.setitem(sys.modules, spec.name, module)  # for dataclasses
    spec.loader.exec_module(module)
    return module

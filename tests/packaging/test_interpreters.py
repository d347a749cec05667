"""The fast tests of ``mmvm_data`` under each supported interpreter that is at hand beside the one running this."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging"), pytest.mark.timeout(1200)]

VERSIONS = [
    version
    for version in ("3.10", "3.11", "3.12", "3.13")
    if tuple(map(int, version.split("."))) != sys.version_info[:2]
]
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "pandas", "scipy", "shapely", "psutil")
FAST = ("core", "io", "cases", "formats", "builders/test_every.py", "pipeline/test_journal.py", "test_cli.py")
NEEDS_EXTRAS = ("formats/test_hub.py", "formats/test_open_benchmark.py", "formats/test_webdataset.py")


def find_interpreter(version: str) -> Path | None:
    """An executable of a Python version: on the path, or among those of pyenv."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(versions.glob(f"{version}.*/bin/python"), reverse=True)]
    for candidate in candidates:
        check = f"import sys, venv; sys.exit(sys.version_info[:2] != {tuple(map(int, version.split('.')))})"
        if candidate and subprocess.run([candidate, "-c", check], capture_output=True).returncode == 0:
            return Path(candidate)
    return None


@pytest.fixture(params=VERSIONS)
def interpreter(request: pytest.FixtureRequest, wheel: Path) -> Path:
    """An environment of another interpreter with the base dependencies, kept beside this one's between runs."""
    base = find_interpreter(request.param)
    if base is None:
        pytest.skip(f"no Python {request.param} at hand")
    content = (ROOT / "pyproject.toml").read_bytes() + str((TOOLS, base)).encode()
    folder = Path(sys.prefix) / "interpreters" / f"{request.param}-{hashlib.sha256(content).hexdigest()[:12]}"
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        run([base, "-m", "venv", folder], ROOT)
        run([folder / "bin/python", "-m", "pip", "install", "-q", wheel, *TOOLS], ROOT)
        run([folder / "bin/python", "-m", "pip", "uninstall", "-q", "-y", "mmvm-data"], ROOT)
        (folder / "complete").touch()
    return folder / "bin/python"


def test_fast_tests_pass(interpreter: Path) -> None:
    tests = ROOT / "tests/mmvm_data"
    ignored = [f"--ignore={tests / name}" for name in NEEDS_EXTRAS]
    command = [interpreter, "-m", "pytest", "-q", "-x", "-m", "not slow", *ignored, *(tests / name for name in FAST)]
    output = run(command, ROOT, PYTHONPATH=str(ROOT))
    assert " passed" in output.splitlines()[-1], output[-2000:]

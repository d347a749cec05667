"""The wheel, built once, and a fresh environment that it is installed in."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(command: list[str | Path], cwd: Path, **environment: str) -> str:
    """Run a command without this process's Python settings; its standard output, or a failure with all that it said."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=clean | environment, capture_output=True, text=True)
    if done.returncode:  # the end first: a summary of failures shows one line
        last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-5:]
        said = " | ".join(reversed(last))
        pytest.fail(f"{said}\n{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}", pytrace=False)
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel and its base dependencies."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=True)
    constraints = ROOT / "constraints.txt"
    run([folder / "bin/python", "-m", "pip", "install", "-q", "-c", constraints, wheel], folder)
    return folder

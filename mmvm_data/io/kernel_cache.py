"""Loads the compiled loops of ``core.kernels`` where they pay, and keeps their machine code in the cache folder.

Numba takes about half a second and 130 MB to load them, once a process, and about ten seconds to compile them, once a
machine. Compiled, a case takes 1.5 ms less.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

from mmvm_data.core import acceleration
from mmvm_data.core.errors import OutputError, UsageError
from mmvm_data.io import files, remote
from mmvm_data.io.folder_lock import lock_folder

VARIABLE: Final = "MMVM_DATA_KERNELS"
"""Environment variable: ``numba`` loads the loops always, ``numpy`` never; not set, where they pay."""
CASES_TO_LOAD: Final = 1000
"""Cases a process makes at least, where it loads loops that are compiled."""
CASES_TO_COMPILE: Final = 10_000
"""The same where they must be compiled first."""
_PACKAGE = "mmvm_data.core.kernels"
_COMPLETE = "complete"  # this file exists when all is compiled and on disk


def requested_kernels() -> str:
    """Return the value of the environment variable: ``numba``, ``numpy``, or "" where it is not set.

    Raises:
        UsageError: it has another value, or is ``numba`` and Numba is not installed.
    """
    value = os.environ.get(VARIABLE, "").strip()
    if value not in ("", "numba", "numpy"):
        raise UsageError(f"{VARIABLE} must be numba or numpy, got {value!r:.40}")
    if value == "numba" and not is_installed():
        raise UsageError(f"{VARIABLE}=numba: Numba is not installed; `pip install 'mmvm-data[fast]'` installs it")
    return value


def use_kernels_for(num_cases: int) -> bool:
    """Load the compiled loops if they pay for so many cases; the environment variable takes precedence.

    A process that has loaded them keeps them, unless the variable is ``numpy``.

    Args:
        num_cases: how many this process makes, at most.

    Returns:
        Whether they are used now. They are not where Numba is missing or does not run with the installed NumPy, or
        where they would have to be compiled and the cache folder cannot be written.

    Raises:
        UsageError: see ``requested_kernels``, or the variable is ``numba`` and the loops cannot be loaded.
    """
    requested = requested_kernels()
    if requested == "numpy":
        acceleration.use_kernels(None)
        return False
    if acceleration.loaded_kernels():
        return True
    if not requested and (num_cases < CASES_TO_LOAD or not is_installed()):
        return False
    problem = _load(is_compiling=requested == "numba" or num_cases >= CASES_TO_COMPILE)
    if problem and requested:
        raise UsageError(f"{VARIABLE}=numba: {problem}")
    return problem is None


def is_installed() -> bool:
    """Return whether Numba is installed, without importing it."""
    return find_spec("numba") is not None


def _load(is_compiling: bool) -> str | None:
    """Load the loops, or return why not."""
    folder = _machine_code_folder()
    if (folder / _COMPLETE).is_file():
        return _import_kernels(folder)
    if not is_compiling:
        return "they are not compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # several workers start at once; one of them compiles
        with lock_folder(folder, "compiling loops", on_wait=lambda holder: None):
            return _compile_kernels(folder)
    except OSError as error:
        return str(OutputError(error.filename or folder, error))
    except UsageError as error:  # the lock cannot be written, or is held for minutes
        return str(error)


def _compile_kernels(folder: Path) -> str | None:
    """Import the loops and write their machine code, unless another process has just done it."""
    if (folder / _COMPLETE).is_file():
        return _import_kernels(folder)
    for path in folder.rglob("*.nb[ci]*"):  # of a process that was killed
        path.unlink()
    problem = _import_kernels(folder)
    if problem is None:
        files.sync_tree(folder)
        (folder / _COMPLETE).touch()
    return problem


def _import_kernels(folder: Path) -> str | None:
    """Import the loops, whose machine code is in a folder or is written to it; return what prevents it."""
    try:
        config = import_module("numba").config
    except ImportError as error:  # Numba refuses a NumPy that is newer than itself
        return str(error)
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
    try:
        acceleration.use_kernels(import_module(_PACKAGE))
    finally:
        config.CACHE_DIR = before
    return None


def _machine_code_folder() -> Path:
    """Return the folder for these source files, compiled by this Numba for this Python and this processor."""
    spec = find_spec(_PACKAGE)
    assert spec is not None and spec.origin is not None
    digest = hashlib.sha256("\0".join((version("numba"), np.__version__, sys.version, _processor())).encode())
    for path in sorted(Path(spec.origin).parent.glob("*.py")):
        digest.update(f"{path}\0{path.stat().st_mtime_ns}\0".encode() + path.read_bytes())
    return remote.cache_dir() / "kernels" / digest.hexdigest()[:16]


def _processor() -> str:
    """Return the first processor's model and features, as far as the system says."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    lines = text.partition("\n\n")[0].splitlines()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))

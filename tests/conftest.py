"""Real files that tests read, and the settings of hypothesis."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from mmvm_data.core import acceleration
from mmvm_data.io import kernel_cache

settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci")
# hypothesis tries numbers and texts that stand in the modules of this project that are loaded, so that what it tries
# would depend on which tests the same process ran before
providers._get_local_constants = lambda: providers._local_constants

# a shell's background job ignores Ctrl-C, and so would every process that a test starts and interrupts
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(os.environ.get("MMVM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
TEST_CACHE = Path(tempfile.gettempdir()) / f"mmvm-data-tests-{os.getuid()}"
"""Cache folder for what takes long to make and is kept for the next run."""


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        message = f"{folder} is missing: set MMVM_SHARED to the folder that holds realdata/, parity/ and cases/"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of real videos, masks and boxes, one folder a source."""
    return _shared("realdata")


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder of inputs and exact expected outputs of the published code."""
    return _shared("parity")


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """Folder of inputs that once went wrong, one folder an input; its EXPECT.md says what is right."""
    return _shared("cases")


@pytest.fixture(scope="session")
def cases(shared_cases: Path) -> Path:
    """As ``shared_cases``, for modules that have no ``cases`` of their own."""
    return shared_cases


@pytest.fixture(scope="session")
def kernels() -> ModuleType:
    """The compiled loops, which no test uses unless it asks for it. Their machine code is kept for the next run."""
    pytest.importorskip("numba", reason="Numba is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMVM_DATA_CACHE", str(TEST_CACHE))
        patch.setenv(kernel_cache.VARIABLE, "numba")
        assert kernel_cache.use_kernels_for(0)
    loaded = acceleration.use_kernels(None)
    assert loaded is not None
    return loaded

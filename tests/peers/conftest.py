"""The benchmark that other projects' code is run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers import world


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of PEER_CASES cases, see `world.CASES`; tests only read it."""
    folder = tmp_path_factory.mktemp("peers")
    world.write_benchmark(folder, world.CASES)
    return folder / "bench"

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.colva.train import world as worlds


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model and toy videos."""
    torch.set_num_threads(1)
    return worlds.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def unbroken(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    assert worlds.finished(worlds.start(worlds.config(world, out))) == 0
    return out

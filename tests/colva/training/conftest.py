from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.colva.training import stage2_world
from tests.colva.training import world as worlds


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model and toy videos."""
    return worlds.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def unbroken(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    assert worlds.wait_for(worlds.start_run(worlds.make_config(world, out))) == 0
    return out


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy checkpoint for stage 2."""
    return stage2_world.make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A build and conversations to learn from in stage 2."""
    folder = tmp_path_factory.mktemp("data")
    return [
        {"kind": "build", "path": stage2_world.make_build(folder / "build")},
        {"kind": "llava", "path": stage2_world.write_talk(folder / "talk"), "root": folder / "talk"},
    ]

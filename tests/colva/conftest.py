"""Random draws of PyTorch are the same in every run and on every worker."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def drawn_alike() -> None:
    """What a test draws must not depend on which tests ran before it."""
    torch.manual_seed(0)

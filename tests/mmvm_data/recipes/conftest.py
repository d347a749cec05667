"""Fixtures of tests of choosing cases."""

from __future__ import annotations

import pytest

from mmvm_data.audit import gradient_boosting


@pytest.fixture
def no_boosting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where scikit-learn is missing; also quicker."""
    monkeypatch.setattr(gradient_boosting, "_is_installed", lambda: False)

"""Fixtures of the tests of cases."""

from __future__ import annotations

import pytest

from mmvm_data.cases import cues


@pytest.fixture
def no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cue of pattern: keypoints take most of the time."""
    monkeypatch.setattr(cues, "count_pattern_matches", lambda a, b: 0)

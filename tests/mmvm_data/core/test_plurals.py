"""Counts with their nouns."""

from __future__ import annotations

import pytest

from mmvm_data.core.plurals import pluralize


@pytest.mark.parametrize(("number", "text"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases"), (48, "48 cases")])
def test_counts_have_the_form_of_their_number(number: int, text: str) -> None:
    assert pluralize(number, "case") == text


def test_irregular_plurals_are_given() -> None:
    assert [pluralize(n, "reply", "replies") for n in (1, 2)] == ["1 reply", "2 replies"]

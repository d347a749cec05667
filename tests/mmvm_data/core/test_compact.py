"""Names are those that were added, in order; repeats are counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmvm_data.core.compact import NameList, Numbering


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5)))
def test_a_list_of_names(names: list[str]) -> None:
    made = NameList(names)
    assert list(made) == names == [made[k] for k in range(len(names))]
    assert len(made) == len(names)
    assert made.count_repeats() == len(names) - len(set(names))
    assert list(made[1:3]) == names[1:3]
    with pytest.raises(IndexError):
        made[len(names)]


def test_numbers_count_new_keys() -> None:
    numbers = Numbering[str]()
    assert [numbers[name] for name in ("b", "a", "b", "c")] == [0, 1, 0, 2]
    assert list(numbers) == ["b", "a", "c"]

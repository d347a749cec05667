from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colva.data.order import chance, shuffled


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(0, 5), st.integers(0, 3))
def test_every_item_has_one_position(count: int, seed: int, epoch: int) -> None:
    assert sorted(shuffled(k, count, seed, epoch) for k in range(count)) == list(range(count))


def test_seeds_and_epochs_differ_and_orders_look_random() -> None:
    count = 2000
    orders = [[shuffled(k, count, seed, epoch) for k in range(count)] for seed, epoch in ((0, 0), (1, 0), (0, 1))]
    for a in orders:
        assert sum(x < y for x, y in pairwise(a)) == pytest.approx(count / 2, rel=0.1)
        for b in orders:
            if a is not b:
                assert sum(x == y for x, y in zip(a, b, strict=True)) < 20


def test_a_position_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="position 3 of 3"):
        shuffled(3, 3, 0)


def test_chance_depends_on_its_key_alone() -> None:
    assert chance("a", 1).random() == chance("a", 1).random()
    assert chance("a", 1).random() != chance("a", 2).random()
    assert chance("a", "1 2").random() != chance("a 1", 2).random()

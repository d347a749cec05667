from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colva.data.packing import PackingPlan, collate_packed, plan_packing
from colva.processing.collator import Sample


def list_rows(plan: PackingPlan) -> list[list[int]]:
    return [plan.row(number) for number in range(len(plan))]


@given(st.lists(st.integers(-1, 40), max_size=200), st.integers(1, 32), st.integers(0, 5), st.integers(1, 50))
def test_each_conversation_that_fits_is_in_one_row(lengths: list[int], most: int, seed: int, window: int) -> None:
    plan = plan_packing(np.array(lengths, dtype=np.int64), most, seed, window=window)
    packed = sorted(number for row in list_rows(plan) for number in row)
    assert packed == [number for number, length in enumerate(lengths) if 0 < length <= most]
    assert plan.too_long.tolist() == [number for number, length in enumerate(lengths) if length > most]
    assert all(0 < sum(lengths[number] for number in row) <= most for row in list_rows(plan))
    assert plan.num_tokens == sum(lengths[number] for number in packed)


def test_a_plan_depends_on_seed_epoch_and_window_alone() -> None:
    lengths = np.random.default_rng(0).integers(100, 3000, 2000)
    first, again = plan_packing(lengths, 8192, 1, 0), plan_packing(lengths, 8192, 1, 0)
    assert first.order.tobytes() == again.order.tobytes() and first.starts.tobytes() == again.starts.tobytes()
    others = [
        plan_packing(lengths, 8192, 1, 1),
        plan_packing(lengths, 8192, 0, 1),
        plan_packing(lengths, 8192, 2, 0),
        plan_packing(lengths, 8192, 1, 0, window=500),
    ]
    assert len({plan.order.tobytes() for plan in (first, *others)}) == 5


@pytest.mark.parametrize("spread", [(300, 900), (500, 4000), (2000, 5000)])
def test_rows_have_little_padding(spread: tuple[int, int]) -> None:
    lengths = np.random.default_rng(1).integers(*spread, 20_000)
    plan = plan_packing(lengths, 8192, 0)
    assert plan.padding_share < 0.03


def test_rows_are_a_random_draw() -> None:
    lengths = np.full(4000, 1000)
    plan = plan_packing(lengths, 8192, 0)
    first = np.array([number for row in list_rows(plan)[:250] for number in row])
    assert 1700 < first.mean() < 2300


def make_sample(length: int, axes: int = 1) -> Sample:
    ids = torch.arange(length) + 1
    positions = torch.arange(length) if axes == 1 else torch.arange(length).repeat(3, 1) * 2
    return Sample(ids, ids * 10, positions)


def test_rows_restart_their_positions_and_no_sample_predicts_the_next_ones_first_token() -> None:
    batch = collate_packed([[make_sample(3), make_sample(2)], [make_sample(4)]], pad_id=9)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 1, 2], [1, 2, 3, 4, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]]
    assert batch["labels"].tolist() == [[-100, 20, 30, -100, 20], [-100, 20, 30, 40, -100]]
    assert batch["segments"] == [(3, 2), (4, 1)]
    assert "attention_mask" not in batch


def test_positions_in_space_come_after_plain_ones() -> None:
    batch = collate_packed([[make_sample(2, 3), make_sample(3, 3)]], max_length=6)
    assert batch["position_ids"].shape == (4, 1, 6)
    assert batch["position_ids"][0].tolist() == [[0, 1, 0, 1, 2, 0]]
    assert batch["position_ids"][2].tolist() == [[0, 2, 0, 2, 4, 0]]


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of 4 to 5 tokens for rows of 4"):
        collate_packed([[make_sample(3), make_sample(2)], [make_sample(4)]], max_length=4)
    with pytest.raises(ValueError, match="max_length must be at least 1, got 0"):
        plan_packing(np.ones(3), 0, 0)

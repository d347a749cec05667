from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from colva.training.estimate import estimate_memory
from colva.training.loader import evaluation_loader, shard_batch, training_loader
from colva.training.metrics import StepActions, actions_after
from colva.training.run import count_steps
from colva.training.stage import PartialItem, Stage
from mmvm_data.core.errors import Reject
from tests.colva.training import world as worlds


class Ordinals:
    """Items that are their ordinals; those divisible by 5 are unusable."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, ordinal: int) -> Any:
        return ordinal if ordinal % 5 else Reject("test", str(ordinal), -1, "unusable")


def make_stage(model: nn.Module | None = None, activation_bytes: float = 0.0) -> Stage:
    return Stage(
        model=model or nn.Identity(),
        train=Ordinals(40),
        held_out=None,
        collate=lambda items: {"items": items},
        count_units=lambda batch: len(batch["items"]),
        step=None,  # type: ignore[arg-type]
        save_weights=None,  # type: ignore[arg-type]
        load_weights=None,  # type: ignore[arg-type]
        estimate_activation_bytes=lambda items: activation_bytes * items,
    )


def list_ordinals(loader: Any) -> list[list[int]]:
    return [
        sorted([*(entry["inputs"]["items"] if entry["inputs"] else []), *(int(r.video) for r in entry["rejects"])])
        for entry in loader
    ]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_resumed_loader_continues_at_its_step(rank: int) -> None:
    sharding = shard_batch(8, 2, 2, rank)
    full = list_ordinals(training_loader(make_stage(), sharding, 3, 0, False))
    assert len(full) == 3 * sharding.accumulation_steps
    assert full[0] == [2 * rank, 2 * rank + 1]
    resumed = list_ordinals(training_loader(make_stage(), sharding, 3, 0, False, first_step=2))
    assert resumed == full[2 * sharding.accumulation_steps :]


def test_unusable_items_are_counted_and_left_out() -> None:
    entries = list(training_loader(make_stage(), shard_batch(5, 5, 1, 0), 2, 0, False))
    assert [entry["inputs"]["items"] for entry in entries] == [[1, 2, 3, 4], [6, 7, 8, 9]]
    assert [[reject.video for reject in entry["rejects"]] for entry in entries] == [["0"], ["5"]]
    assert [entry["seen"] for entry in entries] == [5, 5]
    (entry,) = training_loader(make_stage(), shard_batch(1, 1, 1, 0), 1, 0, False)
    assert entry["inputs"] is None


def test_partial_items_report_how_many_samples_they_had() -> None:
    class Rows(Ordinals):
        def __getitem__(self, ordinal: int) -> Any:
            return PartialItem(ordinal, (Reject("test", "x", -1, "unusable"),), 3)

    stage = make_stage()
    loader, _ = evaluation_loader(Rows(4), stage, shard_batch(2, 2, 1, 0), 0, False)
    entries = list(loader)
    assert [(entry["inputs"]["items"], len(entry["rejects"]), entry["seen"]) for entry in entries] == [
        ([0, 1], 2, 6),
        ([2, 3], 2, 6),
    ]


def test_evaluation_reads_each_item_once_over_all_processes() -> None:
    counted_items: list[int] = []
    lengths = set()
    for rank in range(3):
        loader, counted = evaluation_loader(Ordinals(10), make_stage(), shard_batch(6, 2, 3, rank), 0, False)
        batches = list_ordinals(loader)
        lengths.add(len(batches))
        counted_items += [item for batch, counts in zip(batches, counted, strict=True) if counts for item in batch]
    assert sorted(counted_items) == list(range(10))
    assert lengths == {2}  # processes stay in step


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (1, StepActions(log=False, evaluate=False, save=False, is_last=False)),
        (2, StepActions(log=True, evaluate=False, save=False, is_last=False)),
        (3, StepActions(log=False, evaluate=True, save=False, is_last=False)),
        (5, StepActions(log=False, evaluate=False, save=True, is_last=False)),
        (7, StepActions(log=True, evaluate=True, save=True, is_last=True)),
    ],
)
def test_actions_follow_the_configuration_and_the_last_step_has_all(
    tmp_path: Path, step: int, expected: StepActions
) -> None:
    steps = {"trainer__logging_steps": 2, "trainer__eval_steps": 3, "trainer__save_steps": 5}
    assert actions_after(worlds.make_config(tmp_path, tmp_path / "run", **steps), step, 7) == expected
    steps = {"trainer__logging_steps": 10, "trainer__eval_steps": 0, "trainer__save_steps": 0}
    never = actions_after(worlds.make_config(tmp_path, tmp_path / "run", **steps), 5, 7)
    assert never == StepActions(log=False, evaluate=False, save=False, is_last=False)


def test_steps_are_those_of_the_epochs_unless_they_are_given(tmp_path: Path) -> None:
    def count(items: int, **changes: Any) -> int:
        return count_steps(worlds.make_config(tmp_path, tmp_path / "run", **changes), items)

    assert count(100, trainer__max_steps=7) == 7
    assert count(100, trainer__max_steps=None) == 25
    assert count(101, trainer__max_steps=None, trainer__num_epochs=2.0) == 51
    assert count(1, trainer__max_steps=None, trainer__num_epochs=0.1) == 1


def test_memory_is_sharded_as_zero_does() -> None:
    model = nn.Sequential(nn.Linear(1024, 1024, bias=False), nn.Linear(1024, 512, bias=False, dtype=torch.bfloat16))
    model[0].requires_grad_(False)
    stage = make_stage(model, activation_bytes=2.0**20)
    whole = {"frozen_weights": 4.0, "trained_weights": 1.0, "gradients": 1.0, "optimizer": 4.0, "activations": 3.0}
    sharded: dict[int, set[str]] = {
        0: set(),
        1: {"optimizer"},
        2: {"optimizer", "gradients"},
        3: {"optimizer", "gradients", "trained_weights", "frozen_weights"},
    }
    for zero, names in sharded.items():
        expected = {name: value / 4 if name in names else value for name, value in whole.items()}
        memory = estimate_memory(stage, 3, 4, zero)
        assert memory == expected | {"total": sum(expected.values())}

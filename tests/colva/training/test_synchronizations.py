"""How often a training step reads a value from its device, counted on the CPU by tracing what would wait for a GPU."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from colva.training import stage1, stage2
from colva.training.loader import shard_batch
from colva.training.metrics import MetricsTracker
from colva.training.stage import Stage, StepResult
from tests.colva.training import stage2_world
from tests.colva.training import world as worlds

_DISPATCHED = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_consecutive",
    "unique_dim",
    "bincount",
    "is_nonzero",
    "equal",
}
_CALLED = {Tensor.tolist, Tensor.numpy, Tensor.cpu}


class _Calls(TorchFunctionMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _CALLED:
            self.found.append(_describe(func.__name__))
        return func(*args, **(kwargs or {}))


class Synchronizations(TorchDispatchMode):
    """Lists operations that make the host wait for a device: reads of values, and results of a size that they set."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._calls = _Calls(self.found)

    def __enter__(self) -> Synchronizations:
        self._calls.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._calls.__exit__(kind, error, trace)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        masks = [one for one in (args[1] if name in ("index", "index_put", "index_put_") else ()) if one is not None]
        unsized = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name in _DISPATCHED or unsized or any(mask.dtype in (torch.bool, torch.uint8) for mask in masks):
            self.found.append(_describe(name))
        return func(*args, **(kwargs or {}))


def _describe(name: str) -> str:
    stack = [frame for frame in traceback.extract_stack() if f"{os.sep}torch{os.sep}" not in frame.filename]
    frame = [frame for frame in stack if frame.name not in ("_describe", "__torch_dispatch__", "__torch_function__")][
        -1
    ]
    return f"{name} at {frame.filename}:{frame.lineno}"


def count(run: Any) -> tuple[Any, list[str]]:
    with Synchronizations() as synchronizations:
        result = run()
    return result, synchronizations.found


def test_the_counter_sees_each_kind() -> None:
    values = torch.arange(4.0)
    for run in (
        lambda: values[0].item(),
        lambda: bool(values[0] > 1),
        lambda: values[values > 1],
        lambda: values.masked_select(values > 1),
        lambda: values.tolist(),
        lambda: torch.repeat_interleave(values, torch.tensor([1, 2, 0, 1])),
        lambda: values.clone().__setitem__(values > 1, torch.zeros(2)),
    ):
        assert count(run)[1], run
    assert not count(lambda: values[1:].sum() + values[torch.tensor([0, 2])])[1]


def check_step(stage: Stage, tracker: MetricsTracker) -> None:
    """No read in forward, backward and the meter; one for the step's finite loss, and one array a logging step."""
    batches = [stage.collate([value]) for value in _usable_items(stage)[:2]]

    def forward(batch: Any) -> StepResult:
        return stage.step(stage.model, batch)

    for batch in batches:
        result, found = count(lambda: forward(batch))  # noqa: B023
        assert not found
        assert not count(lambda: result.loss.backward())[1]  # noqa: B023
        assert not count(lambda: tracker.on_micro_batch(result.loss, result.means, 1.0))[1]  # noqa: B023
        assert not count(lambda: stage.count_throughput(batch))[1]  # noqa: B023
    assert len(count(lambda: tracker.on_step_end(0))[1]) == 1
    assert len(count(lambda: tracker.summarize_window(1))[1]) == 1


def _usable_items(stage: Stage) -> list[Any]:
    items = [stage.train[ordinal] for ordinal in range(len(stage.train))]
    return [getattr(item, "value", item) for item in items if getattr(item, "value", item) is not None]


def make_tracker(stage: Stage, config: Any) -> MetricsTracker:
    return MetricsTracker(stage, config, shard_batch(2, 1, 1, 0), False, None, lambda local: local)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("use_cache", [True, False])
def test_stage_2(tiny: Path, sources: list[dict[str, Any]], tmp_path: Path, packing: bool, use_cache: bool) -> None:
    config = stage2_world.make_config(
        tiny, tmp_path / "run", sources, data={"packing": packing, "use_object_cache": use_cache}
    )
    stage = stage2.build_stage(config)
    stage.prepare()
    check_step(stage, make_tracker(stage, config))


def test_stage_1(world: Path, tmp_path: Path) -> None:
    config = worlds.make_config(world, tmp_path / "run")
    stage = stage1.build_stage(config)
    check_step(stage, make_tracker(stage, config))

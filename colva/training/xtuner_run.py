"""The run that all parts of an mmengine configuration share, and helpers around mmengine's runner."""

from __future__ import annotations

# ruff: isort: off
import atexit
import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import colva.training.xtuner_imports  # noqa: F401  before anything of xtuner

import torch
from mmengine.dist import all_reduce, get_dist_info
from torch import Tensor, nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from colva.training.metrics import MetricsTracker
from colva.training.run import PreparedRun, describe_strategy, load_config, lock_run, prepare_run
from mmvm_data.core.errors import UsageError
# ruff: isort: on

ENGINE: Final = "xtuner"


class XtunerRun(PreparedRun):
    """A prepared run with its metrics."""

    @property
    def steps_done(self) -> int:
        """Steps that were completed before."""
        return self.start_step or 0

    @cached_property
    def metrics(self) -> MetricsTracker:
        """The metrics of the run in this process."""
        is_main = self.sharding.rank == 0
        return MetricsTracker(self.stage, self.config, self.sharding, is_main, self.start_step, all_reduce_sum)


_runs: dict[str, XtunerRun] = {}
_locks = ExitStack()
"""Held until the process ends."""
atexit.register(_locks.close)


def get_run(config: str, changes: Sequence[str] = (), resume: bool = False, strategy: str | None = None) -> XtunerRun:
    """The run that a YAML file describes; all parts of a configuration that name the same file share it.

    Args:
        config: path of the YAML file.
        changes: `key=value`, as for `colva train --set`.
        resume: continue from the newest complete checkpoint, if there is one.
        strategy: see `describe_strategy`, when it is known before there is a runner; used when the run is first
            requested.

    Raises:
        UsageError, InputError: see `colva.training.run.train`.
    """
    key = json.dumps([config, list(changes), resume])
    if key not in _runs:
        settings, (rank, num_processes) = load_config(Path(config), changes), get_dist_info()
        if settings.trainer.report_to:
            raise UsageError("trainer.report_to: needs the native engine; log.jsonl has the same metrics")
        _locks.enter_context(lock_run(settings.output_dir, rank))
        use_reentrant = is_deepspeed_zero3_enabled()
        _runs[key] = XtunerRun(**vars(prepare_run(settings, resume, strategy, num_processes, rank, use_reentrant)))
    return _runs[key]


def all_reduce_sum(local: Tensor) -> Tensor:
    """The sum of a tensor over all processes, on the CPU."""
    # gloo and NCCL both accept float64 on their own device
    reduced = local.cuda() if torch.cuda.is_available() else local.clone()
    all_reduce(reduced, "sum")
    return reduced.cpu()


def uses_deepspeed(runner: Any) -> bool:
    """Whether DeepSpeed runs the model of a runner."""
    return not isinstance(runner.model, nn.Module)


def strategy_of(runner: Any) -> str:
    """The strategy of a runner, see `describe_strategy`."""
    if not uses_deepspeed(runner):
        return ENGINE
    return describe_strategy(ENGINE, {"zero_optimization": {"stage": runner.model.zero_optimization_stage()}})

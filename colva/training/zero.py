"""DeepSpeed's configurations: ZeRO 1 to 3 by name, or a JSON file of one's own.

Optimiser, schedule, clipping and batch sizes come from the run's own configuration ("auto"), so that a run is the same
with and without DeepSpeed. Sizes of buckets are DeepSpeed's defaults, written out, since "auto" would ask the model for
a hidden size. `configs/deepspeed/` holds the same as files to change.
"""

from __future__ import annotations

import json
import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from colva.training.fsdp import whole
from mmvm_data.core.errors import InputError, UsageError

NAMES = ("zero1", "zero2", "zero3")


def zero_config(name: str) -> dict[str, Any]:
    """The configuration that `zero1`, `zero2`, `zero3` or the path of a JSON file stands for.

    Raises:
        UsageError: no such name or file, or DeepSpeed is not installed.
        InputError: the file is not JSON, or sets an optimiser or a scheduler.
    """
    if find_spec("deepspeed") is None:
        raise UsageError("--deepspeed: DeepSpeed is not installed; pip install 'mmvm-data[deepspeed]'")
    if name in NAMES:
        return built_in(int(name[-1]))
    path = Path(name)
    if path.suffix != ".json":
        raise UsageError(f"--deepspeed {name}: expected {', '.join(NAMES)} or a JSON file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(path, f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(path, "an object is expected")
    for key in ("optimizer", "scheduler"):
        if key in content:
            raise InputError(path, "belongs into the run's own configuration (optimiser)", key)
    return content


def trained_weights(model: nn.Module, sharded: bool) -> dict[str, Tensor]:
    """Every trained parameter on the CPU, whole; called in every process.

    Args:
        model: whose parameters with a gradient are meant.
        sharded: DeepSpeed runs it, and a process may hold a part of each only. FSDP's parameters say so themselves.
    """
    found = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if sharded:
            import deepspeed

            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=None):
                found[name] = parameter.detach().cpu().clone()
        else:
            found[name] = whole(parameter.detach()).cpu().clone()
    return found


def step_without_gradient(engine: Any) -> None:
    """Let ZeRO 1 and 2 gather into a buffer that has a gradient function, which gloo may not write to otherwise."""
    engine.step = torch.no_grad()(engine.step)


def quiet() -> None:
    """Keep libraries from saying at every start, and DeepSpeed at every collective, what nobody here can change."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when DeepSpeed is imported
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")


def built_in(stage: int) -> dict[str, Any]:
    """ZeRO of one stage: 1 shards the optimiser's state, 2 also gradients, 3 also parameters."""
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True}
    zero |= {"reduce_bucket_size": 50_000_000, "allgather_bucket_size": 50_000_000}
    if stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": 50_000_000,
            "stage3_param_persistence_threshold": 100_000,
            "stage3_max_live_parameters": 1_000_000_000,
            "stage3_max_reuse_distance": 1_000_000_000,
        }
    return {
        "bf16": {"enabled": "auto"},
        "zero_optimization": zero,
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "steps_per_print": 1_000_000_000,
    }

"""DeepSpeed: configurations of ZeRO 1 to 3 by name or from a JSON file, and work-arounds for its engine.

Optimizer, schedule, clipping and batch sizes come from the run's configuration ("auto"), so that a run is the same with
and without DeepSpeed. Bucket sizes are DeepSpeed's defaults, written out, since "auto" would ask the model for a hidden
size. `configs/deepspeed/` holds the same configurations as files to edit.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from colva.training.fsdp import gather_parameter
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io.json_files import read_json_object

ZERO_NAMES = ("zero1", "zero2", "zero3")
_LOCK_SECONDS = 60


def load_deepspeed_config(name: str) -> dict[str, Any]:
    """The configuration of `zero1`, `zero2`, `zero3` or a JSON file.

    Raises:
        UsageError: an unknown name, or DeepSpeed is not installed.
        InputError: the file is missing or not a JSON object, sets an optimizer or a scheduler, or has no valid stage.
    """
    if find_spec("deepspeed") is None:
        raise UsageError("--deepspeed: DeepSpeed is not installed; pip install 'mmvm-data[deepspeed]'")
    if name in ZERO_NAMES:
        return builtin_deepspeed_config(int(name[-1]))
    path = Path(name)
    if path.suffix != ".json":
        raise UsageError(f"--deepspeed {name}: expected {', '.join(ZERO_NAMES)} or a JSON file")
    content = read_json_object(path)
    for key in ("optimizer", "scheduler"):
        if key in content:
            raise InputError(path, "belongs in the configuration of the run (optimizer)", key)
    zero = content.get("zero_optimization", {})
    if not isinstance(zero, dict):
        raise InputError(path, f"expected an object, found {zero!r:.40}", "zero_optimization")
    stage = zero.get("stage", 0)
    if type(stage) is not int or stage not in range(4):
        raise InputError(path, f"expected 0, 1, 2 or 3, found {stage!r:.40}", "zero_optimization.stage")
    return content


def read_zero_stage(deepspeed: dict[str, Any]) -> int:
    """The stage of ZeRO in a configuration; 0 without one."""
    return int(deepspeed.get("zero_optimization", {}).get("stage", 0))


def remove_stale_build_locks() -> list[Path]:
    """Remove locks of compilations that were killed: PyTorch would wait for them for ever.

    DeepSpeed compiles parts of itself when they are first used, and PyTorch marks such a compilation by a file that its
    process keeps open (`torch.utils.file_baton`). A file older than a minute that no process has open is left over.
    Returns the removed files.
    """
    from torch.utils.cpp_extension import get_default_build_root  # imports setuptools, which DeepSpeed alone needs

    root = os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()
    old = []
    for lock in sorted(Path(root).glob("**/lock")):
        with contextlib.suppress(FileNotFoundError):  # it has just been released
            if time.time() - lock.stat().st_mtime > _LOCK_SECONDS:
                old.append(lock)
    open_files = _list_open_files() if old else set()
    stale = [lock for lock in old if lock.resolve() not in open_files]
    for lock in stale:
        lock.unlink(missing_ok=True)
    return stale


def _list_open_files() -> set[Path]:
    """The files that processes of this user have open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
            found.add(Path(os.readlink(link)))
    return found


def shard_layers(
    layers: Iterable[nn.Module], deepspeed: dict[str, Any], use_bf16: bool, fill_weights: Callable[[nn.Module], None]
) -> None:
    """Shard layers for ZeRO 3, each before the weights of the next are read; called in each process.

    What is in no layer is sharded by DeepSpeed's engine.

    Args:
        layers: modified: each process keeps its part of their parameters.
        deepspeed: the configuration, without "auto".
        use_bf16: trained weights become bfloat16 too, as in DeepSpeed's engine, which keeps float32 copies of them.
        fill_weights: see `Stage.fill_weights`.
    """
    import deepspeed as library

    library.init_distributed()  # otherwise done by its engine, later
    for layer in layers:
        fill_weights(layer)
        if use_bf16:
            layer.to(torch.bfloat16)
        library.zero.Init(module=layer, config_dict_or_path=deepspeed)


def gather_trained_weights(model: nn.Module, uses_deepspeed: bool) -> dict[str, Tensor]:
    """Every trained parameter on the CPU, unsharded; called in every process.

    Args:
        model: its parameters with `requires_grad` are gathered.
        uses_deepspeed: DeepSpeed runs the model and may have sharded them. FSDP's parameters are recognized.
    """
    weights = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if uses_deepspeed:
            import deepspeed

            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=None):
                weights[name] = parameter.detach().cpu().clone()
        else:
            weights[name] = gather_parameter(parameter.detach()).cpu().clone()
    return weights


def step_without_grad(engine: Any) -> None:
    """Wrap the engine's step in `no_grad`: ZeRO 1 and 2 gather into a buffer that gloo otherwise may not write to."""
    engine.step = torch.no_grad()(engine.step)


def silence_warnings() -> None:
    """Suppress messages of DeepSpeed and torch.distributed that a user cannot act on."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when DeepSpeed is imported
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")


def builtin_deepspeed_config(stage: int) -> dict[str, Any]:
    """The configuration of a ZeRO stage: 1 shards the optimizer's state, 2 also gradients, 3 also parameters."""
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

"""`colva train --engine xtuner`: a stage under xtuner's loop and mmengine's runner, with its DeepSpeed strategy.

Model, data, optimizer and order are those of the native engine, and so are the losses; for clusters that are set up for
xtuner. `configs/xtuner/` has files for `xtuner train` that do the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from colva.config import FINAL_DIR
from colva.training.run import describe_strategy

if TYPE_CHECKING:
    from colva.training.xtuner_run import XtunerRun


def train_with_xtuner(
    path: Path, changes: Sequence[str] = (), resume: bool = False, deepspeed: dict[str, Any] | None = None
) -> Path:
    """Train one stage; called in every process. See `colva.training.run.train`.

    Args:
        path: of the configuration file.
        changes: `key=value`, such as `trainer.global_batch_size=32`.
        resume: continue from the newest complete checkpoint, if there is one.
        deepspeed: its configuration, or None.

    Returns:
        The folder with the trained weights.

    Raises:
        UsageError, InputError, OutputError: see there; xtuner is not installed.
    """
    from colva.training.xtuner_parts import StageModel
    from colva.training.xtuner_run import ENGINE, get_run

    num_processes, local_rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    has_cuda = torch.cuda.is_available()
    if has_cuda:
        torch.cuda.set_device(local_rank)
    if num_processes > 1 or deepspeed is not None:
        torch.distributed.init_process_group("nccl" if has_cuda else "gloo")
    arguments: dict[str, Any] = {"config": str(path), "changes": list(changes), "resume": resume}
    # before a strategy could enable DeepSpeed in transformers
    run = get_run(**arguments, strategy=describe_strategy(ENGINE, deepspeed))
    settings = runner_settings(arguments, run, deepspeed)
    if deepspeed is not None:
        from mmengine.runner import FlexibleRunner

        FlexibleRunner(StageModel(**arguments), **settings).train()
    else:
        from mmengine.runner import Runner

        Runner(_wrap_model(StageModel(**arguments), num_processes, local_rank), **settings).train()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return run.config.output_dir / FINAL_DIR


def runner_settings(arguments: dict[str, Any], run: XtunerRun, deepspeed: dict[str, Any] | None) -> dict[str, Any]:
    """The arguments of mmengine's runner.

    Args:
        arguments: of `get_run`, which every part receives.
        run: what `get_run` returned.
        deepspeed: its configuration, or None.
    """
    from mmengine.optim import OptimWrapper

    from colva.training.xtuner_hook import StageHook
    from colva.training.xtuner_parts import StageLoop, StageOptimizer, StageSchedule

    max_norm, accumulation_steps = run.config.optimizer.max_grad_norm, run.sharding.accumulation_steps
    optimizer = {"type": StageOptimizer, **arguments}
    settings: dict[str, Any] = {
        "work_dir": str(run.config.output_dir / "mmengine"),
        "train_dataloader": {"batch_size": run.sharding.micro_batch_size},
        "train_cfg": {"type": StageLoop, **arguments},
        "param_scheduler": [{"type": StageSchedule, **arguments}],
        "custom_hooks": [{"type": StageHook, **arguments}],
        "default_hooks": dict.fromkeys(("runtime_info", "timer", "sampler_seed", "logger", "checkpoint")),
        "log_level": "ERROR",
        "experiment_name": run.config.output_dir.name,
    }
    if deepspeed is None:
        wrapper: dict[str, Any] = {
            "type": OptimWrapper,
            "optimizer": optimizer,
            "accumulative_counts": accumulation_steps,
        }
        return settings | {"optim_wrapper": wrapper | ({"clip_grad": {"max_norm": max_norm}} if max_norm else {})}
    from xtuner.engine import DeepSpeedStrategy

    config = {name: value for name, value in deepspeed.items() if value != "auto"}
    config["zero_allow_untested_optimizer"] = True  # a subclass of torch's AdamW
    config["bf16"] = {"enabled": run.config.trainer.precision == "bf16"}
    strategy = {
        "type": DeepSpeedStrategy,
        "config": config,
        "gradient_clipping": max_norm,
        "gradient_accumulation_steps": accumulation_steps,
        "train_micro_batch_size_per_gpu": run.sharding.micro_batch_size,
        "exclude_frozen_parameters": True,
    }
    return settings | {
        "strategy": strategy,
        "optim_wrapper": {"type": "DeepSpeedOptimWrapper", "optimizer": optimizer},
    }


def _wrap_model(model: Any, num_processes: int, local_rank: int) -> Any:
    """The model on its device, and for several processes in DDP, which mmengine itself would do on GPUs only."""
    from mmengine.device import get_device
    from mmengine.model import MMDistributedDataParallel

    model = model.to(get_device())
    if num_processes == 1:
        return model
    devices = [local_rank] if torch.cuda.is_available() else None
    return MMDistributedDataParallel(module=model, device_ids=devices, broadcast_buffers=False)

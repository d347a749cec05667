"""`colva train --engine xtuner`: a stage under xtuner's loop and mmengine's runner, with its DeepSpeed strategy.

The same model, data, optimiser and order as under our own engine, so that the losses are the same; for those whose
cluster is set up for xtuner. `configs/xtuner/` has files for `xtuner train` that do this on their own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from colva.config import FINAL


def run(path: Path, changes: Sequence[str] = (), resume: bool = False, deepspeed: dict[str, Any] | None = None) -> Path:
    """Train one stage; called in every process. See `colva.training.run.run`.

    Args:
        path: of the configuration file.
        changes: other values, such as `run.batch=32`.
        resume: go on from the newest complete checkpoint, if there is one.
        deepspeed: its configuration, or None.

    Returns:
        The folder with the trained weights.

    Raises:
        UsageError, InputError, OutputError: see there; xtuner is not installed.
    """
    from colva.training import xtuner_parts as parts
    from colva.training.run import manner

    processes, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local)
    if processes > 1 or deepspeed is not None:
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    named: dict[str, Any] = {"config": str(path), "changes": list(changes), "resume": resume}
    way = manner(parts.ENGINE, deepspeed)
    job = parts.job_of(**named, way=way)  # before a strategy could tell transformers of DeepSpeed
    given = settings(named, job, deepspeed)
    if deepspeed is not None:
        from mmengine.runner import FlexibleRunner

        FlexibleRunner(parts.Tuner(**named), **given).train()
    else:
        from mmengine.runner import Runner

        Runner(_wrapped(parts.Tuner(**named), processes, local), **given).train()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return job.config.out / FINAL


def settings(named: dict[str, Any], job: Any, deepspeed: dict[str, Any] | None) -> dict[str, Any]:
    """What mmengine's runner is made with; `named` are the arguments of `xtuner_parts.job_of`."""
    from mmengine.optim import OptimWrapper

    from colva.training import xtuner_parts as parts

    clip, rounds = job.config.optimiser.clip, job.deal.rounds
    optimiser = {"type": parts.Optimiser, **named}
    found: dict[str, Any] = {
        "work_dir": str(job.config.out / "mmengine"),
        "train_dataloader": {"batch_size": job.deal.micro},
        "train_cfg": {"type": parts.StepLoop, **named},
        "param_scheduler": [{"type": parts.Schedule, **named}],
        "custom_hooks": [{"type": parts.Flow, **named}],
        "default_hooks": dict.fromkeys(("runtime_info", "timer", "sampler_seed", "logger", "checkpoint")),
        "log_level": "ERROR",
        "experiment_name": job.config.out.name,
    }
    if deepspeed is None:
        wrapper: dict[str, Any] = {"type": OptimWrapper, "optimizer": optimiser, "accumulative_counts": rounds}
        return found | {"optim_wrapper": wrapper | ({"clip_grad": {"max_norm": clip}} if clip else {})}
    from xtuner.engine import DeepSpeedStrategy

    said = {name: value for name, value in deepspeed.items() if value != "auto"}
    said["zero_allow_untested_optimizer"] = True  # torch's AdamW, by another name
    said["bf16"] = {"enabled": job.config.run.precision == "bf16"}
    strategy = {
        "type": DeepSpeedStrategy,
        "config": said,
        "gradient_clipping": clip,
        "gradient_accumulation_steps": rounds,
        "train_micro_batch_size_per_gpu": job.deal.micro,
        "exclude_frozen_parameters": True,
    }
    return found | {"strategy": strategy, "optim_wrapper": {"type": "DeepSpeedOptimWrapper", "optimizer": optimiser}}


def _wrapped(tuner: Any, processes: int, local: int) -> Any:
    """The model on its device, and for several processes in DDP, which mmengine itself would do on GPUs only."""
    from mmengine.device import get_device
    from mmengine.model import MMDistributedDataParallel

    tuner = tuner.to(get_device())
    if processes == 1:
        return tuner
    devices = [local] if torch.cuda.is_available() else None
    return MMDistributedDataParallel(module=tuner, device_ids=devices, broadcast_buffers=False)

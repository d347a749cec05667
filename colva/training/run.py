"""From a configuration to a trained model: what `colva train` does in each process."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

from colva.config import FINAL, TrainConfig, dump, parse, read_raw
from colva.training import checkpoint, fsdp, stage1, stage2
from colva.training.engine import Engine
from colva.training.loader import Dealing, dealing
from colva.training.stage import Stage
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.io.files import atomic_write

CONFIG = "config.yaml"
_ZERO3 = "ZeRO 3"
STAGES: dict[str, tuple[type[TrainConfig], Callable[[Any], Stage]]] = {
    "stage1": (stage1.Config, stage1.build),
    "stage2": (stage2.Config, stage2.build),
}


@dataclass(frozen=True)
class Job:
    """One run in one process, ready to be trained.

    Attributes:
        config, stage, deal: of the run.
        steps: optimiser steps in all.
        begun: the checkpoint to go on from.
    """

    config: TrainConfig
    stage: Stage
    deal: Dealing
    steps: int
    begun: Path | None

    @property
    def step(self) -> int | None:
        """Steps that were done before; None for a run that begins."""
        return None if self.begun is None else checkpoint.step_of(self.begun)


def checked(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """The configuration in a file, with changes put in.

    Raises:
        InputError: unreadable, an unknown or missing key, or a value that does not fit.
        UsageError: a change that cannot be made.
    """
    content = read_raw(path, changes)
    known = ", ".join(STAGES)
    name = content.get("stage")
    if not isinstance(name, str) or name not in STAGES:
        raise InputError(path, f"expected one of {known}, found {name!r}", "stage")
    return parse(content, STAGES[name][0], path)


def run(
    config: TrainConfig, resume: bool = False, deepspeed: dict[str, Any] | None = None, sharded: bool = False
) -> Path:
    """Train one stage; called in every process.

    Args:
        config: of a stage of `STAGES`.
        resume: go on from the newest complete checkpoint, if there is one.
        deepspeed: its configuration, or None.
        sharded: parameters, gradients and the optimiser's state over all processes (FSDP2).

    Returns:
        The folder with the trained weights (an adapter folder that `colva.load` and `colva merge` read).

    Raises:
        UsageError, InputError: see `build` of the stage; a run lies in the folder already; the loss is no number.
        OutputError: a full or read-only disk.
    """
    processes, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    for name in config.run.report:
        if find_spec(name) is None:
            raise UsageError(f"run.report: {name} is not installed; pip install {name}")
    way = manner(checkpoint.PLAIN, deepspeed, sharded)
    job = opened(config, resume, way, processes, rank)
    given = arguments(config, job.steps, job.deal.micro, job.deal.rounds, deepspeed)
    if sharded:
        fsdp.shard(job.stage.model, given.device)
    engine = Engine(job.stage, config, given, job.deal, job.step, way, sharded)
    if job.step is not None and job.step >= job.steps:
        engine._load_from_checkpoint(str(job.begun))
    else:
        engine.train(resume_from_checkpoint=None if job.begun is None else str(job.begun))
    weights = engine.trained_weights()
    if engine.is_world_process_zero():
        checkpoint.write_final(config.out / FINAL, lambda folder: job.stage.save(folder, weights))
    engine.accelerator.wait_for_everyone()
    return config.out / FINAL


def manner(engine: str, deepspeed: dict[str, Any] | None, sharded: bool = False) -> str:
    """Who trains, and how the model is sharded, in words: what a checkpoint can be read back with."""
    if deepspeed is not None:
        return f"{engine} with ZeRO {deepspeed.get('zero_optimization', {}).get('stage', 0)}"
    return f"{engine} with FSDP" if sharded else engine


def opened(
    config: TrainConfig, resume: bool, way: str | None, processes: int, rank: int, reentrant: bool = False
) -> Job:
    """Open the run of a configuration; called in every process.

    Args:
        config: of the run.
        resume: go on from the newest complete checkpoint, if there is one.
        way: see `manner`; None where it is known and compared later.
        processes, rank: how many there are, and which this is.
        reentrant: the form of checkpointing, whatever `way` says. ZeRO 3 needs it: in the other one a layer is computed
            anew after its parameters have been given back.

    Raises:
        UsageError, InputError, OutputError: see `run`.
    """
    begun = _begin(config, resume, way)
    deal = dealing(config.run.batch, config.run.micro_batch, processes, rank)
    transformers_logging.set_verbosity_error()
    torch.manual_seed(config.seed)
    stage = STAGES[config.stage][1](config)
    if not any(parameter.requires_grad for parameter in stage.model.parameters()):
        raise UsageError("nothing is left to train")
    if config.run.checkpointing:
        if stage.checkpointing is None:
            raise UsageError(f"run.checkpointing: {config.stage} has nothing to recompute")
        stage.checkpointing(reentrant or (way or "").endswith(_ZERO3))
    stage.prepare()
    return Job(config, stage, deal, total_steps(config, len(stage.train)), begun)


def total_steps(config: TrainConfig, items: int) -> int:
    """Optimiser steps of a run over data with so many items an epoch."""
    return config.run.steps or max(1, math.ceil(config.run.epochs * items / config.run.batch))


def schedule_name(config: TrainConfig) -> str:
    """What transformers calls the schedule of a run."""
    chosen = config.optimiser.schedule
    return "constant_with_warmup" if chosen == "constant" else chosen


def arguments(
    config: TrainConfig, steps: int, micro: int, rounds: int, deepspeed: dict[str, Any] | None
) -> TrainingArguments:
    """Trainer's own arguments; logging, evaluation and saving are the engine's."""
    chosen, cuda = config.optimiser, torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(config.out),
        logging_dir=str(config.out / "tensorboard"),
        run_name=config.out.name,
        max_steps=steps,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=rounds,
        learning_rate=chosen.lr,
        adam_beta1=chosen.betas[0],
        adam_beta2=chosen.betas[1],
        adam_epsilon=chosen.eps,
        weight_decay=chosen.weight_decay,
        max_grad_norm=chosen.clip,
        lr_scheduler_type=schedule_name(config),
        warmup_ratio=chosen.warmup,
        optim="adamw_torch",
        bf16=config.run.precision == "bf16",
        seed=config.seed,
        use_cpu=not cuda,
        # accelerate takes a named backend for a sign that there are several processes
        ddp_backend="gloo" if not cuda and int(os.environ.get("WORLD_SIZE", "1")) > 1 else None,
        ddp_timeout=int(config.run.timeout * 60),
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        deepspeed=deepspeed,
        report_to=list(config.run.report) or "none",
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        log_level="error",
    )


def _begin(config: TrainConfig, resume: bool, way: str | None) -> Path | None:
    """Make the folder of the run, and find the checkpoint to go on from.

    Args:
        config: of the run.
        resume: go on from the newest complete checkpoint, if there is one.
        way: see `manner`; None: not compared.

    Raises:
        UsageError: a run lies there and `resume` is false.
        InputError: it was begun with other values or in another manner.
        OutputError: the folder cannot be made.
    """
    found = checkpoint.latest(config.out)
    if found is not None and not resume:
        raise UsageError(f"{config.out}: holds a run already ({found.name}); --resume goes on with it")
    if found is not None:
        checkpoint.same_run(found, config)
        if way is not None:
            checkpoint.same_manner(found, way)
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        if int(os.environ.get("RANK", "0")) == 0:
            with atomic_write(config.out / CONFIG) as handle:
                handle.write(dump(config))
    except OSError as error:
        raise OutputError(config.out, error) from error
    return found

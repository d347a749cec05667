"""From a configuration to a trained model: what `colva train` does in each process."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

from colva.config import FINAL_DIR, TrainConfig, dump_config, read_yaml
from colva.training import checkpoint, fsdp, stage1, stage2
from colva.training.compiled_layers import compile_layers
from colva.training.config_files import find_config
from colva.training.engine import StageTrainer
from colva.training.loader import BatchSharding, shard_batch
from colva.training.selection import BEST_DIR, BestEvaluation
from colva.training.stage import Stage
from colva.training.unsharded import find_colva, keep_encoders_whole
from colva.training.zero import read_zero_stage, shard_layers
from mmvm_data.core.config_values import parse_config
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.io.files import atomic_write
from mmvm_data.io.folder_lock import lock_folder

CONFIG_FILE = "config.yaml"
_ZERO3, _FSDP = "ZeRO 3", "FSDP"
STAGES: dict[str, tuple[type[TrainConfig], Callable[..., Stage]]] = {
    "stage1": (stage1.Stage1Config, stage1.build_stage),
    "stage2": (stage2.Stage2Config, stage2.build_stage),
}


@dataclass(frozen=True)
class PreparedRun:
    """One run in one process, ready to be trained.

    Attributes:
        config, stage, sharding: of the run.
        num_steps: total number of optimizer steps.
        resume_from: the checkpoint to resume from; None for a new run.
        start_values: what the main process of a new run logs at step 0, see `Stage.measure_start`.
    """

    config: TrainConfig
    stage: Stage
    sharding: BatchSharding
    num_steps: int
    resume_from: Path | None
    start_values: Mapping[str, float]

    @property
    def start_step(self) -> int | None:
        """Steps that were completed before; None for a new run."""
        return None if self.resume_from is None else checkpoint.step_of(self.resume_from)


def load_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """The configuration in a file, with changes applied.

    Args:
        path: of the YAML file.
        changes: `key=value` with the value in YAML, see `read_yaml`.

    Raises:
        InputError: the file cannot be read, an unknown or missing key, or a value that is not valid.
        UsageError: a change is malformed or does not apply.
    """
    content = read_yaml(path, changes)
    name = content.get("stage")
    if not isinstance(name, str) or name not in STAGES:
        raise InputError(path, f"stage must be one of {', '.join(STAGES)}, got {name!r}")
    return parse_config(content, STAGES[name][0], path)


def train(
    config: TrainConfig | str | Path,
    resume: bool = False,
    deepspeed: dict[str, Any] | None = None,
    use_fsdp: bool = False,
) -> Path:
    """Train one stage; called in every process.

    Args:
        config: configuration of a stage of `STAGES`, or the path or name of its file (see `find_config`).
        resume: continue from the newest complete checkpoint, if there is one.
        deepspeed: its configuration, or None.
        use_fsdp: shard parameters, gradients and the optimizer's state over all processes (FSDP2).

    Returns:
        The folder with the trained weights (an adapter folder that `colva.load` and `colva merge` read).

    Raises:
        UsageError, InputError: see `build_stage` of the stage; the folder holds a run already, or another run is
            being trained in it; the loss is not finite.
        OutputError: a full or read-only disk.
    """
    if not isinstance(config, TrainConfig):
        config = load_config(find_config(config))
    num_processes, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    for name in config.trainer.report_to:
        if find_spec(name) is None:
            raise UsageError(f"trainer.report_to: {name} is not installed; pip install {name}")
    with lock_run(config.output_dir, rank):
        return _train(config, resume, deepspeed, use_fsdp, num_processes, rank)


@contextmanager
def lock_run(folder: Path, rank: int) -> Iterator[None]:
    """Hold the lock of a run's folder, so that another run is refused there; called in every process.

    Args:
        folder: of the run; created if it is missing.
        rank: of this process; the first one holds the lock.

    Raises:
        UsageError: another run is trained in this folder.
        OutputError: the folder cannot be written.
    """
    if rank:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(folder, error) from error
    with lock_folder(folder, "colva train", wait_seconds=0):
        yield


def _train(
    config: TrainConfig, resume: bool, deepspeed: dict[str, Any] | None, use_fsdp: bool, num_processes: int, rank: int
) -> Path:
    strategy = describe_strategy(checkpoint.NATIVE_ENGINE, deepspeed, use_fsdp)
    uses_zero3 = deepspeed is not None and read_zero_stage(deepspeed) == 3
    run = prepare_run(config, resume, strategy, num_processes, rank, defer_layers=use_fsdp or uses_zero3)
    arguments = trainer_arguments(config, run.num_steps, run.sharding, deepspeed)
    is_finished = run.start_step is not None and (
        run.start_step >= run.num_steps or BestEvaluation(config, run.start_step).is_exhausted
    )
    if is_finished:
        run.stage.fill_weights(run.stage.model)
    else:
        _shard_model(run, arguments, uses_zero3, use_fsdp)
    trainer = StageTrainer(run.stage, config, arguments, run.sharding, run.start_step, strategy, use_fsdp)
    trainer.start_values = run.start_values
    if is_finished:
        trainer._load_from_checkpoint(str(run.resume_from))
    else:
        trainer.train(resume_from_checkpoint=None if run.resume_from is None else str(run.resume_from))
    weights = trainer.gather_trained_weights()
    if trainer.is_world_process_zero():
        best = None if trainer.best.step is None else config.output_dir / BEST_DIR
        checkpoint.write_result(config.output_dir, best, lambda folder: run.stage.save_weights(folder, weights))
    trainer.accelerator.wait_for_everyone()
    return config.output_dir / FINAL_DIR


def _shard_model(run: PreparedRun, arguments: TrainingArguments, uses_zero3: bool, use_fsdp: bool) -> None:
    """Shard a model whose decoder layers have no weights yet; one that is not sharded is left as it is."""
    model, fill_weights, use_bf16 = run.stage.model, run.stage.fill_weights, run.config.trainer.precision == "bf16"
    if use_fsdp:
        fsdp.shard_model(model, arguments.device, use_bf16, fill_weights)
    elif uses_zero3 and run.config.stage == "stage2":
        layers = find_colva(model).backbone.decoder_layers
        shard_layers(layers, arguments.hf_deepspeed_config.config, use_bf16, fill_weights)
        model.to(arguments.device)  # DeepSpeed's engine moves no model of which a part is sharded


def describe_strategy(engine: str, deepspeed: dict[str, Any] | None, use_fsdp: bool = False) -> str:
    """The engine and how it shards the model, in words: a checkpoint is resumed with the same strategy only."""
    if deepspeed is not None:
        return f"{engine} with ZeRO {read_zero_stage(deepspeed)}"
    return f"{engine} with {_FSDP}" if use_fsdp else engine


def prepare_run(
    config: TrainConfig,
    resume: bool,
    strategy: str | None,
    num_processes: int,
    rank: int,
    use_reentrant: bool = False,
    defer_layers: bool = False,
) -> PreparedRun:
    """Build the stage of a configuration and open its output folder; called in every process.

    Args:
        config: of the run.
        resume: continue from the newest complete checkpoint, if there is one.
        strategy: see `describe_strategy`; None when it is known, and checked, later.
        num_processes, rank: number of processes, and which of them this is.
        use_reentrant: use the reentrant form of gradient checkpointing whatever the strategy. ZeRO 3 needs it: in the
            other form a layer is recomputed after its parameters were released.
        defer_layers: leave the decoder layers of stage 2 without weights, see `Stage.fill_weights`.

    Raises:
        UsageError, InputError, OutputError: see `train`.
    """
    uses_zero3 = use_reentrant or (strategy or "").endswith(_ZERO3)
    uses_fsdp = (strategy or "").endswith(_FSDP)
    if config.trainer.compile:
        _check_can_compile(config, uses_zero3)
    resume_from = _open_output_dir(config, resume, strategy)
    sharding = shard_batch(config.trainer.global_batch_size, config.trainer.micro_batch_size, num_processes, rank)
    transformers_logging.set_verbosity_error()
    torch.manual_seed(config.seed)
    options = {"defer_layers": True} if defer_layers and config.stage == "stage2" else {}
    stage = STAGES[config.stage][1](config, **options)
    if not any(parameter.requires_grad for parameter in stage.model.parameters()):
        raise UsageError("the model has no trainable parameter")
    if config.trainer.gradient_checkpointing:
        if stage.enable_gradient_checkpointing is None:
            raise UsageError(f"trainer.gradient_checkpointing: {config.stage} has nothing to recompute")
        stage.enable_gradient_checkpointing(uses_zero3)
    if config.trainer.compile:
        compile_layers(find_colva(stage.model).backbone.decoder_layers)
    if config.stage == "stage2" and (uses_zero3 or uses_fsdp):  # in stage 1 each batch has pictures
        keep_encoders_whole(stage.model)
    stage.prepare()
    start_values = stage.measure_start() if resume_from is None and rank == 0 else {}
    return PreparedRun(config, stage, sharding, count_steps(config, len(stage.train)), resume_from, start_values)


def _check_can_compile(config: TrainConfig, uses_zero3: bool) -> None:
    """Refuse `trainer.compile` where nothing could be compiled."""
    if config.stage != "stage2":
        raise UsageError(f"trainer.compile: {config.stage} runs no decoder layer")
    if uses_zero3:
        raise UsageError(
            "trainer.compile: ZeRO 3 gathers parameters inside of a layer, which cannot be compiled; use --fsdp, or "
            "--deepspeed zero2"
        )


def count_steps(config: TrainConfig, items_per_epoch: int) -> int:
    """Total number of optimizer steps of a run."""
    trainer = config.trainer
    return trainer.max_steps or max(1, math.ceil(trainer.num_epochs * items_per_epoch / trainer.global_batch_size))


def trainer_arguments(
    config: TrainConfig, num_steps: int, sharding: BatchSharding, deepspeed: dict[str, Any] | None
) -> TrainingArguments:
    """Arguments of transformers' Trainer; logging, evaluation and saving are done by `StageTrainer`."""
    optimizer, has_cuda = config.optimizer, torch.cuda.is_available()
    # transformers sets it for bf16 and leaves it, and accelerate would train the process's next run in bf16 too
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if config.trainer.precision == "bf16" else "no"
    return TrainingArguments(
        output_dir=str(config.output_dir),
        logging_dir=str(config.output_dir / "tensorboard"),
        run_name=config.output_dir.name,
        max_steps=num_steps,
        per_device_train_batch_size=sharding.micro_batch_size,
        per_device_eval_batch_size=sharding.micro_batch_size,
        gradient_accumulation_steps=sharding.accumulation_steps,
        learning_rate=optimizer.learning_rate,
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        adam_epsilon=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        max_grad_norm=optimizer.max_grad_norm,
        lr_scheduler_type=optimizer.lr_scheduler_type,
        warmup_ratio=optimizer.warmup_ratio,
        optim="adamw_torch",
        bf16=config.trainer.precision == "bf16",
        seed=config.seed,
        use_cpu=not has_cuda,
        # accelerate takes a named backend as a sign that there are several processes
        ddp_backend="gloo" if not has_cuda and int(os.environ.get("WORLD_SIZE", "1")) > 1 else None,
        ddp_timeout=int(config.trainer.timeout_minutes * 60),
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        deepspeed=deepspeed,
        report_to=list(config.trainer.report_to) or "none",
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        log_level="error",
    )


def _open_output_dir(config: TrainConfig, resume: bool, strategy: str | None) -> Path | None:
    """Create the folder of the run, and find the checkpoint to resume from.

    Raises:
        UsageError: the folder holds a run and `resume` is false.
        InputError: that run was started with other values or with another strategy.
        OutputError: the folder cannot be created.
    """
    latest = checkpoint.find_latest(config.output_dir)
    if latest is not None and not resume:
        raise UsageError(f"{config.output_dir}: holds a run already ({latest.name}); --resume continues it")
    if latest is not None:
        checkpoint.check_same_config(latest, config)
        if strategy is not None:
            checkpoint.check_same_strategy(latest, strategy)
    try:
        config.output_dir.mkdir(parents=True, exist_ok=True)
        if int(os.environ.get("RANK", "0")) == 0:
            with atomic_write(config.output_dir / CONFIG_FILE) as handle:
                handle.write(dump_config(config))
    except OSError as error:
        raise OutputError(config.output_dir, error) from error
    return latest

"""Estimates for `--dry-run`: number of items and steps, sequence lengths, and memory from a count of bytes."""

from __future__ import annotations

from typing import Any

from colva.config import TrainConfig
from colva.training.loader import shard_batch
from colva.training.run import STAGES, count_steps
from colva.training.stage import Stage
from colva.training.unsharded import list_frozen_encoders
from colva.training.zero import read_zero_stage

_MIB = 2**20


def estimate_run(
    config: TrainConfig, num_processes: int, deepspeed: dict[str, Any] | None, use_fsdp: bool = False
) -> dict[str, Any]:
    """What `colva train --dry-run` prints; builds the stage without weights, trains nothing and writes nothing.

    Args:
        config: of the run.
        num_processes: over all machines.
        deepspeed: its configuration, or None.
        use_fsdp: shard as FSDP does, which is as ZeRO 3.
    """
    sharding = shard_batch(config.trainer.global_batch_size, config.trainer.micro_batch_size, num_processes, 0)
    stage = STAGES[config.stage][1](config, is_dry_run=True)
    num_steps = count_steps(config, len(stage.train))
    zero = read_zero_stage(deepspeed) if deepspeed else 0
    zero = 3 if use_fsdp else zero
    return {
        "stage": config.stage,
        "steps": num_steps,
        "epochs": round(num_steps * config.trainer.global_batch_size / len(stage.train), 4),
        "batch": {
            "global_batch_size": sharding.global_batch_size,
            "processes": num_processes,
            "micro_batch_size": sharding.micro_batch_size,
            "accumulation_steps": sharding.accumulation_steps,
        },
        "memory_mb_per_process": estimate_memory(
            stage, sharding.micro_batch_size, num_processes, zero, has_whole_encoders=config.stage == "stage2"
        ),
        "data": dict(stage.describe()),
    }


def estimate_memory(
    stage: Stage, micro_batch_size: int, num_processes: int, zero: int, has_whole_encoders: bool = False
) -> dict[str, float]:
    """MiB of weights, gradients, AdamW's two moments and stored activations in one process.

    ZeRO 1 shards the moments, 2 also gradients, 3 also all weights (Rajbhandari et al., arXiv 1910.02054, section 5);
    with whole encoders not those of frozen ones (see `colva.training.unsharded`).
    Fragmentation, temporary activations of the encoders and the CUDA context (about 1 GB) are not included.
    """
    frozen = sum(p.numel() * p.element_size() for p in stage.model.parameters() if not p.requires_grad)
    encoders = list_frozen_encoders(stage.model) if has_whole_encoders else []
    whole = sum(p.numel() * p.element_size() for part in encoders for p in part.parameters())
    trained = sum(p.numel() * p.element_size() for p in stage.model.parameters() if p.requires_grad)
    num_trained = sum(p.numel() for p in stage.model.parameters() if p.requires_grad)
    parts = {
        "frozen_weights": whole + (frozen - whole) / (num_processes if zero == 3 else 1),
        "trained_weights": trained / (num_processes if zero == 3 else 1),
        "gradients": trained / (num_processes if zero >= 2 else 1),
        "optimizer": 8 * num_trained / (num_processes if zero >= 1 else 1),
        "activations": stage.estimate_activation_bytes(micro_batch_size),
    }
    memory = {name: round(value / _MIB, 2) for name, value in parts.items()}
    return memory | {"total": round(sum(parts.values()) / _MIB, 2)}

"""What a run would take: counts, lengths, steps, and memory by a plain count of bytes."""

from __future__ import annotations

from typing import Any

from colva.config import TrainConfig
from colva.training.loader import dealing
from colva.training.run import STAGES, total_steps
from colva.training.stage import Stage

_MB = 2**20


def dry_run(config: TrainConfig, processes: int, deepspeed: dict[str, Any] | None) -> dict[str, Any]:
    """What `colva train --dry-run` prints; builds the stage, trains nothing and writes nothing.

    Args:
        config: of the run.
        processes: over all machines.
        deepspeed: its configuration, or None.
    """
    deal = dealing(config.run.batch, config.run.micro_batch, processes, 0)
    stage = STAGES[config.stage][1](config)
    steps = total_steps(config, len(stage.train))
    zero = int(deepspeed.get("zero_optimization", {}).get("stage", 0)) if deepspeed else 0
    return {
        "stage": config.stage,
        "steps": steps,
        "epochs": round(steps * config.run.batch / len(stage.train), 4),
        "batch": {"items": deal.batch, "processes": processes, "micro": deal.micro, "accumulated": deal.rounds},
        "memory_mb_per_process": memory(stage, deal.micro, processes, zero),
        "data": dict(stage.describe()),
    }


def memory(stage: Stage, micro: int, processes: int, zero: int) -> dict[str, float]:
    """Bytes of weights, gradients, AdamW's two moments and kept activations of one process, in MiB.

    ZeRO 1 shards the moments, 2 also gradients, 3 also all weights (Rajbhandari et al., arXiv 1910.02054, section 5).
    The allocator's own waste, the encoders' passing activations and CUDA's context (about 1 GB) come on top.
    """
    frozen = sum(p.numel() * p.element_size() for p in stage.model.parameters() if not p.requires_grad)
    trained = sum(p.numel() * p.element_size() for p in stage.model.parameters() if p.requires_grad)
    count = sum(p.numel() for p in stage.model.parameters() if p.requires_grad)
    parts = {
        "frozen_weights": frozen / (processes if zero == 3 else 1),
        "trained_weights": trained / (processes if zero == 3 else 1),
        "gradients": trained / (processes if zero >= 2 else 1),
        "optimiser": 8 * count / (processes if zero >= 1 else 1),
        "activations": stage.activations(micro),
    }
    found = {name: round(value / _MB, 2) for name, value in parts.items()}
    return found | {"total": round(sum(parts.values()) / _MB, 2)}

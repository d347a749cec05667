"""PyTorch's fully sharded data parallel (FSDP2): what ZeRO 3 does, without DeepSpeed.

A layer's parameters lie sharded over the processes and are gathered while it runs. accelerate has this for GPUs alone,
so the model is sharded here, by the same few calls of PyTorch anywhere. What is saved is gathered first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

OPTIMISER = "optimizer.pt"
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def shard(model: nn.Module, device: torch.device) -> None:
    """Shard a model over all processes, layer by layer and at last what is in no layer; called in each.

    Args:
        model: is changed: its parameters are DTensors afterwards, and its `forward` gathers them.
        device: of this process.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    # the classes that transformers keeps whole when it splits a model over devices
    layers = {name for part in parts for name in part._no_split_modules or ()}
    model.to(device)
    for part in [part for part in model.modules() if type(part).__name__ in layers]:
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)


class Outside(nn.Module):
    """A sharded model in a module that Trainer takes for wrapped already, so that it adds no DDP."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, *arguments: Any, **given: Any) -> Any:
        """That of the model."""
        return self.inside(*arguments, **given)


def whole(parameter: Tensor) -> Tensor:
    """A parameter, gathered from all processes if it is sharded; called in each."""
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def put(parameter: Tensor, value: Tensor) -> None:
    """Give a parameter a whole value, of which each process keeps its part."""
    if isinstance(parameter, DTensor):
        placed = value.to(parameter.device, parameter.dtype)
        parameter.copy_(distribute_tensor(placed, parameter.device_mesh, parameter.placements))
    else:
        parameter.copy_(value)


def save_optimiser(model: nn.Module, optimiser: torch.optim.Optimizer, folder: Path, main: bool) -> None:
    """Write its state, gathered; called in each process."""
    state = get_optimizer_state_dict(model, optimiser, options=_WHOLE)
    if main:
        torch.save(state, folder / OPTIMISER)


def load_optimiser(model: nn.Module, optimiser: torch.optim.Optimizer, folder: Path) -> None:
    """Read it back, each process its part."""
    state = torch.load(folder / OPTIMISER, map_location="cpu", weights_only=True)
    set_optimizer_state_dict(model, optimiser, state, options=_WHOLE)

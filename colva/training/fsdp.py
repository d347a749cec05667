"""PyTorch's fully sharded data parallel (FSDP2): the same sharding as ZeRO 3, without DeepSpeed.

A layer's parameters are sharded over the processes and gathered while it runs. accelerate supports this on GPUs only,
so the model is sharded here, with the same few calls of PyTorch on any device. Weights are gathered before saving.
"""

from __future__ import annotations

from collections.abc import Callable
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
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

OPTIMIZER_FILE = "optimizer.pt"
_FULL_STATE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def shard_model(
    model: nn.Module,
    device: torch.device,
    use_bf16: bool = False,
    fill_weights: Callable[[nn.Module], None] = lambda module: None,
) -> None:
    """Shard a model over all processes, first its layers, then what is in no layer; called in each process.

    Args:
        model: modified: its parameters become DTensors, and its `forward` gathers them.
        device: of this process.
        use_bf16: gather parameters in bfloat16, whatever their dtype, and compute with that; shards keep their dtype,
            and gradients are summed over the processes in float32.
        fill_weights: see `Stage.fill_weights`; called for each layer, which is then sharded and freed before the next.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    # inputs are left as they are: autocast says what each operation computes in
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if use_bf16 else None,
        reduce_dtype=torch.float32 if use_bf16 else None,
        cast_forward_inputs=False,
    )
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    # the classes that transformers does not split when it distributes a model over devices
    layers = {name for part in parts for name in part._no_split_modules or ()}
    for part in [part for part in model.modules() if type(part).__name__ in layers]:
        fill_weights(part)
        part.to(device)
        fully_shard(part, mesh=mesh, mp_policy=policy)
    fill_weights(model)
    model.to(device)
    fully_shard(model, mesh=mesh, mp_policy=policy)


class ShardedWrapper(nn.Module):
    """A module around a sharded model: Trainer considers it wrapped already, and adds no DDP."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's forward pass."""
        return self.model(*args, **kwargs)


def gather_parameter(parameter: Tensor) -> Tensor:
    """The full parameter, gathered from all processes if it is sharded; called in each process."""
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def assign_parameter(parameter: Tensor, value: Tensor) -> None:
    """Assign a full value to a parameter, of which each process keeps its shard."""
    if isinstance(parameter, DTensor):
        placed = value.to(parameter.device, parameter.dtype)
        parameter.copy_(distribute_tensor(placed, parameter.device_mesh, parameter.placements))
    else:
        parameter.copy_(value)


def save_optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, is_main: bool) -> None:
    """Write the gathered optimizer state; called in each process."""
    state = get_optimizer_state_dict(model, optimizer, options=_FULL_STATE)
    if is_main:
        torch.save(state, folder / OPTIMIZER_FILE)


def load_optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Read the optimizer state back; each process keeps its shard."""
    state = torch.load(folder / OPTIMIZER_FILE, map_location="cpu", weights_only=True)
    set_optimizer_state_dict(model, optimizer, state, options=_FULL_STATE)

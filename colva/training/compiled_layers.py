"""`torch.compile` of the decoder layers: one graph for rows of any length.

Only `forward` of a layer is compiled. What is around it (gradient checkpointing, the hooks by which FSDP gathers a
layer's parameters) is called as it is, and attention in packed rows breaks the graph, since the lengths of the
conversations are numbers that differ from batch to batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


def compile_layers(layers: Iterable[nn.Module], backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the forward passes of decoder layers, when they are first called.

    All layers of a kind share their graphs. There is one for each of: training and evaluation, a layer whose input has
    a gradient and one whose input has none (the first, with frozen embeddings).

    Args:
        layers: are modified.
        backend: of `torch.compile`.
    """
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=True, backend=backend)

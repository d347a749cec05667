"""Casts that leave computed buffers, such as rotary frequencies, in the precision in which they were computed.

A buffer that is not saved with the weights is computed from the configuration, in float32. `Module.to(torch.bfloat16)`
rounds it to 8 bits, which turns position 4,000 by up to several radians, while a model that is loaded in bfloat16 keeps
it in float32: it would be trained with other positions than it is used with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def keep_computed_buffers(module: nn.Module) -> Iterator[None]:
    """Restore the dtype and the values of buffers outside the state dict after a cast; devices may change."""
    before = dict(_computed_buffers(module))
    yield
    for (owner, name), old in before.items():
        new = owner._buffers[name]
        if new is not None and new.dtype != old.dtype:
            owner._buffers[name] = old.to(new.device)


def cast_parameters(module: nn.Module, dtype: torch.dtype) -> None:
    """Cast parameters and saved buffers; those outside the state dict keep their dtype."""
    with keep_computed_buffers(module):
        module.to(dtype)


def _computed_buffers(module: nn.Module) -> Iterator[tuple[tuple[nn.Module, str], Tensor]]:
    for owner in module.modules():
        for name in owner._non_persistent_buffers_set:
            buffer = owner._buffers.get(name)
            if buffer is not None and buffer.is_floating_point():
                yield (owner, name), buffer

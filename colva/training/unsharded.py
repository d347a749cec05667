"""Frozen encoders outside FSDP, so that a process may leave them out of a step.

A sharded layer is gathered by all processes when it runs. But an encoder runs only where a batch has pictures: a
process with a row of text would not take part, and the others would wait for it for ever. So what is frozen beside the
language model is held by each process as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from colva.model.buffers import keep_computed_buffers
from colva.model.colva import ColvaModel


class Unsharded(nn.Module):
    """A frozen module that is no submodule of its owner: what walks over modules and parameters does not see it.

    Attributes of the module can be read from it, and casts and moves of the owner reach it.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._held = (module,)

    @property
    def module(self) -> nn.Module:
        """The module itself."""
        return self._held[0]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's forward pass."""
        return self.module(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_held"][0], name)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Unsharded:
        with keep_computed_buffers(self.module):
            self.module._apply(fn, recurse)
        return self


def list_frozen_encoders(model: nn.Module) -> list[nn.Module]:
    """The modules of a stage's model that run only where a batch has pictures or objects, and are not trained."""
    colva = next(module for module in model.modules() if isinstance(module, ColvaModel))
    parts = [*colva.backbone.frozen_parts, colva.expert, colva.adapter]
    return [part for part in parts if part is not None and not any(p.requires_grad for p in part.parameters())]


def keep_encoders_whole(model: nn.Module) -> None:
    """Take the frozen encoders of a stage's model out of what FSDP shards; called in each process."""
    encoders = {id(encoder) for encoder in list_frozen_encoders(model)}
    for owner in list(model.modules()):
        for name, child in list(owner.named_children()):
            if id(child) in encoders:
                setattr(owner, name, Unsharded(child))

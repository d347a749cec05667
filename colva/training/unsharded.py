"""Frozen encoders outside FSDP and ZeRO 3, so that a process may leave them out of a step.

A sharded layer is gathered by all processes when it runs, and ZeRO 3 expects the same modules to run in each of them.
But an encoder runs only where a batch has pictures: a process with a row of text would not take part, and the others
would wait for it for ever. So what is frozen beside the language model is held by each process as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from colva.model.buffers import keep_computed_buffers
from colva.model.colva import ColvaModel

_HOLDER = "unsharded"


class UnshardedModules(nn.Module):
    """Passes casts and moves on to modules that are not its submodules; it is never called itself.

    Args:
        modules: frozen ones; what walks over submodules and parameters does not see them.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self._held = tuple(modules)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> UnshardedModules:
        for module in self._held:
            with keep_computed_buffers(module):
                module._apply(fn, recurse)
        return self


def list_frozen_encoders(model: nn.Module) -> list[nn.Module]:
    """The modules of a stage's model that run only where a batch has pictures or objects, and are not trained."""
    colva = find_colva(model)
    parts = [*colva.backbone.frozen_parts, colva.expert, colva.adapter]
    return [part for part in parts if part is not None and not any(p.requires_grad for p in part.parameters())]


def keep_encoders_whole(model: nn.Module) -> None:
    """Take the frozen encoders of a stage's model out of what is sharded; called in each process.

    They become plain attributes of their owners: no submodules, and not wrapped, since a wrapper in the tree of modules
    would get DeepSpeed's hooks, which compare the modules that run in each process. The same is done with frozen
    parameters that are in no layer of their own, such as LLaVA-OneVision's newline.
    """
    colva = find_colva(model)
    encoders = list_frozen_encoders(model)
    for owner in list(model.modules()):
        for name, child in list(owner.named_children()):
            if any(child is encoder for encoder in encoders):
                delattr(owner, name)
                owner.__dict__[name] = child.eval()
    rest = {
        id(part) for text in (colva.backbone.language_model, colva.get_output_embeddings()) for part in text.modules()
    }
    loose = nn.ParameterList()
    for owner in [owner for owner in colva.modules() if id(owner) not in rest]:
        for name, parameter in list(owner.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                delattr(owner, name)
                owner.__dict__[name] = parameter
                loose.append(parameter)
    colva.add_module(_HOLDER, UnshardedModules([*encoders, loose]))


def find_colva(model: nn.Module) -> ColvaModel:
    """The `ColvaModel` in a stage's model."""
    return next(module for module in model.modules() if isinstance(module, ColvaModel))

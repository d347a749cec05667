"""Weights that are read when they are needed, so that a process never holds the whole model.

Under FSDP and ZeRO 3 the decoder layers are built on the meta device. Each process reads a layer, keeps its shard, and
frees the rest before the next one. What is outside of the layers is read at once: the frozen encoders, which are not
sharded, the embeddings and the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakValueDictionary

from torch import Tensor, nn

from colva.checkpoints.checkpoint import module_name
from colva.checkpoints.lazy_tensors import LazyTensor
from colva.model.colva import ColvaModel
from colva.training.lora import initial_lora_weight

_BASE_LAYER = ".base_layer."
"""Between the name of a linear layer and that of its weight, once LoRA is added to it."""


class DeferredWeights:
    """The weights of a model whose parameters are on the meta device.

    Args:
        model: with what is trained selected, in the dtypes that it is to have.
        tensors: of the checkpoint, by their names in the model before LoRA was added.
        seed: of LoRA.
    """

    def __init__(self, model: ColvaModel, tensors: Mapping[str, LazyTensor], seed: int) -> None:
        named = [*model.named_parameters(), *model.named_buffers()]
        # by identity, since names change when encoders are taken out of the model; kept, so that no id is used again
        self._names = {id(tensor): (name, tensor) for name, tensor in named if tensor.is_meta}
        self._filled = WeakValueDictionary[int, Tensor]()  # for shared ones; layers are freed when they are sharded
        self._tensors = tensors
        self._seed = seed
        self._text = module_name(model, model.backbone.language_model) + "."

    def fill(self, module: nn.Module, except_for: nn.Module | None = None) -> None:
        """Read the weights of a part of the model that are not read yet, on the CPU; shared ones stay shared.

        Args:
            module: is modified.
            except_for: a submodule that is left as it is.
        """
        skipped = set() if except_for is None else {id(part) for part in except_for.modules()}
        for owner in module.modules():
            if id(owner) in skipped:
                continue
            for leaf, parameter in list(owner._parameters.items()):
                if parameter is not None and parameter.is_meta:
                    filled = self._read(parameter)
                    assert isinstance(filled, nn.Parameter)
                    owner._parameters[leaf] = filled
            for leaf, buffer in list(owner._buffers.items()):
                if buffer is not None and buffer.is_meta:
                    owner._buffers[leaf] = self._read(buffer)

    def _read(self, tensor: Tensor) -> Tensor:
        filled = self._filled.get(id(tensor))
        if filled is None:
            name = self._names[id(tensor)][0]
            if ".lora_" in name:
                value = initial_lora_weight(name.removeprefix(self._text), tuple(tensor.shape), self._seed)
            else:
                value = self._tensors[name.replace(_BASE_LAYER, ".")].read()
            value = value.to(tensor.dtype, copy=True)  # what was read may be mapped from a file
            is_parameter = isinstance(tensor, nn.Parameter)
            filled = nn.Parameter(value, tensor.requires_grad) if is_parameter else value
            self._filled[id(tensor)] = filled
        return filled

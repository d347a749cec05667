"""A checkpoint that is not loaded yet: its configuration, and each tensor of the model with its source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from colva.checkpoints.lazy_tensors import LazyTensor
from colva.checkpoints.published_names import Layout
from colva.model.colva import ColvaModel
from colva.model.config import ColvaConfig
from mmvm_data.core.errors import InputError

CONFIG: Final = "config.json"
PUBLISHED_CONFIG: Final = "published_config.json"
"""The configuration of a converted folder, kept beside ours so that the conversion back is exact."""

_MAX_LISTED: Final = 12

Shape = tuple[int, ...]


class CheckpointError(InputError):
    """Tensors that do not fit the configuration.

    Attributes:
        missing: names that the model has and the checkpoint lacks.
        unexpected: names that the checkpoint has and the model lacks.
        mismatched: name -> (expected shape, shape in the checkpoint).
    """

    def __init__(
        self, file: str | Path, missing: list[str], unexpected: list[str], mismatched: Mapping[str, tuple[Shape, Shape]]
    ) -> None:
        self.missing, self.unexpected, self.mismatched = missing, unexpected, dict(mismatched)
        shapes = [f"{name}: expected {list(want)}, found {list(have)}" for name, (want, have) in mismatched.items()]
        lines = [
            *_format_names("missing", missing),
            *_format_names("unexpected", unexpected),
            *_format_names("of another shape", shapes),
        ]
        super().__init__(file, "the tensors do not fit the configuration\n" + "\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.missing, self.unexpected, self.mismatched)


def _format_names(title: str, names: list[str]) -> list[str]:
    if not names:
        return []
    rest = [f"    and {len(names) - _MAX_LISTED} more"] if len(names) > _MAX_LISTED else []
    return [f"  {title} ({len(names)}):", *(f"    {name}" for name in names[:_MAX_LISTED]), *rest]


@dataclass
class Checkpoint:
    """A configuration and the tensors for it, each read only when it is asked for.

    Attributes:
        config: a CoLVA configuration.
        tensors: by their names in a `ColvaModel`; `check_tensors` reports whether they are complete.
        path: the folder.
        layout: of the folder.
        published: the folder's own configuration when it is not a CoLVA one.
        unused: names in the folder that are not needed -> why.
        unknown: names in the folder that match nothing.
        tokenizer: with `<VPT_CONTEXT>`; None when the folder has none.
        notes: what was decided while reading, a sentence each.
    """

    config: ColvaConfig
    tensors: dict[str, LazyTensor]
    path: Path
    layout: Layout
    published: dict[str, Any] | None = None
    unused: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    tokenizer: PreTrainedTokenizerFast | None = None
    notes: list[str] = field(default_factory=list)


def meta_model(config: ColvaConfig) -> ColvaModel:
    """Return the model without weights, in eval mode: parameters on the meta device, non-persistent buffers real."""
    with init_empty_weights(include_buffers=False):
        model = ColvaModel(config)
        model.eval()
        return model


def expected_shapes(model: ColvaModel) -> dict[str, Shape]:
    """Return names and shapes of the tensors in a checkpoint of this model; a tied head is not saved."""
    tied = head_name(model) if has_tied_head(model) else None
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name != tied}


def has_tied_head(model: ColvaModel) -> bool:
    """Whether the head shares the weight of the token embeddings."""
    return bool(model.backbone.config.get_text_config().tie_word_embeddings)


def embedding_name(model: ColvaModel) -> str:
    """Return the name of the token embeddings' weight."""
    return module_name(model, model.get_input_embeddings()) + ".weight"


def head_name(model: ColvaModel) -> str:
    """Return the name of the head's weight."""
    return module_name(model, model.get_output_embeddings()) + ".weight"


def module_name(model: ColvaModel, module: nn.Module) -> str:
    """Return the name of a submodule of a model."""
    names: list[str] = [name for name, submodule in model.named_modules() if submodule is module]
    return names[0]


def check_tensors(checkpoint: Checkpoint, model: ColvaModel | None = None, ignore: Iterable[str] = ()) -> ColvaModel:
    """Check that the tensors are exactly those of the configuration, and return the model without weights.

    Args:
        checkpoint: to check.
        model: the meta model of the configuration, if there is one already.
        ignore: unknown names that may be left out.

    Raises:
        CheckpointError: tensors missing, unexpected, or of another shape.
    """
    if model is None:
        model = meta_model(checkpoint.config)
    shapes = expected_shapes(model)
    tensors = checkpoint.tensors
    mismatched = {
        name: (shape, tensors[name].shape)
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    }
    missing = [name for name in shapes if name not in tensors]
    ignored = set(ignore)
    unexpected = [name for name in checkpoint.unknown if name not in ignored]
    unexpected += [name for name in tensors if name not in shapes]
    if missing or mismatched or unexpected:
        raise CheckpointError(checkpoint.path, missing, unexpected, mismatched)
    return model


def resize_embeddings(checkpoint: Checkpoint, model: ColvaModel, rows: int) -> None:
    """Give embeddings and head `rows` rows, in place.

    A new row is the mean of the old ones, which favors no token. That of `<VPT_CONTEXT>` is never read, since an
    object's embedding takes its place.

    Args:
        checkpoint: its tensors and its configuration are changed.
        model: the meta model of the configuration before the change.
        rows: more than there are.
    """
    text = checkpoint.config.backbone_config.get_text_config()
    old_rows = text.vocab_size
    for name in {embedding_name(model), head_name(model)}:
        stored = checkpoint.tensors.get(name)
        if stored is not None and stored.shape[0] == old_rows:
            checkpoint.tensors[name] = replace(
                stored,
                shape=(rows, *stored.shape[1:]),
                read=lambda stored=stored: _append_mean_rows(stored.read(), rows),  # type: ignore[misc]
            )
    text.vocab_size = rows
    if "vocab_size" in checkpoint.config.backbone_config.__dict__:
        checkpoint.config.backbone_config.vocab_size = rows
    checkpoint.notes.append(
        f"embeddings and head resized from {old_rows} to {rows} rows; new rows are the mean of the old"
    )


def _append_mean_rows(tensor: Tensor, rows: int) -> Tensor:
    mean = tensor.float().mean(dim=0, keepdim=True).to(tensor.dtype)
    return torch.cat([tensor, mean.expand(rows - len(tensor), *tensor.shape[1:])])

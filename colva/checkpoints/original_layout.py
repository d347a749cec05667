"""A checkpoint in the layout of the released InternVL2 and CoLVA folders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from colva.checkpoints.checkpoint import CONFIG, PUBLISHED_CONFIG, Checkpoint, expected_shapes, meta_model
from colva.checkpoints.configs import to_colva_config, to_original_config
from colva.checkpoints.lazy_tensors import LazyTensor
from colva.checkpoints.published_names import Layout, TensorMapping, map_tensors
from mmvm_data.core.errors import UsageError


def original_config(checkpoint: Checkpoint) -> tuple[dict[str, Any], Layout]:
    """Return the content of config.json and the layout of its text model.

    The published configuration is used if it was kept and still describes this model; else a new one is built.

    Raises:
        UsageError: the original layout cannot describe this model.
    """
    shapes = expected_shapes(meta_model(checkpoint.config))
    kept = checkpoint.published
    if kept is not None and isinstance(kept.get("llm_config"), dict):
        vocabulary = checkpoint.config.backbone_config.get_text_config().vocab_size
        llm_config = kept["llm_config"] | {"vocab_size": vocabulary}
        kept = kept | {"llm_config": llm_config, "template": checkpoint.config.template}
        if expected_shapes(meta_model(to_colva_config(kept, checkpoint.path / PUBLISHED_CONFIG))) == shapes:
            return kept, "internlm2" if llm_config.get("model_type") == "internlm2" else "internvl"
    try:
        config = to_original_config(checkpoint.config, "internvl")
    except ValueError as error:
        raise UsageError(f"{checkpoint.path}: {error}") from error
    if expected_shapes(meta_model(to_colva_config(config, checkpoint.path / CONFIG))) != shapes:
        raise UsageError(f"{checkpoint.path}: the original layout cannot describe this model's configuration")
    return config, "internvl"


def original_tensors(checkpoint: Checkpoint, layout: Layout) -> dict[str, LazyTensor]:
    """Return the tensors of the original layout, fused where it fuses them."""
    shapes = expected_shapes(meta_model(checkpoint.config))
    mappings = map_tensors(shapes, checkpoint.config.backbone_config, layout)
    return {name: _join_tensors(mapping, checkpoint.tensors) for name, mapping in mappings.items()}


def _join_tensors(mapping: TensorMapping, tensors: dict[str, LazyTensor]) -> LazyTensor:
    parts = [tensors[name] for name in mapping.names]
    if mapping.rows is None:
        return replace(parts[0], sources=mapping.names)

    def read() -> Tensor:
        return mapping.join([part.read() for part in parts])

    rows = sum(part.shape[0] for part in parts)
    return LazyTensor((rows, *parts[0].shape[1:]), parts[0].dtype, read, mapping.names)

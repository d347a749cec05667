"""Stage 1: trains the adapter alone with the object contrastive loss (arXiv 2501.04670, section 4)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colva.checkpoints.adapters import write_adapter
from colva.checkpoints.checkpoint import Checkpoint
from colva.checkpoints.load import build_model, build_model_without_weights
from colva.checkpoints.read import open_checkpoint
from colva.checkpoints.trained_weights import ResolvedWeights, read_trained_weights
from colva.config import PositiveFloat, TrainConfig
from colva.data.pairs import PairReader
from colva.data.pseudo_video import EncoderSpec, PairDataset, PairItem, PairOptions, collate_pairs, open_pair_sources
from colva.losses import matching_hits, object_contrastive_loss
from colva.model.alignment import AlignmentModel, ObjectEmbeddings
from colva.model.buffers import cast_parameters
from colva.model.pooling import Keys
from colva.processing.image_processors import build_image_processor
from colva.training.object_adapter import load_adapter
from colva.training.stage import Batch, Stage, StepResult
from mmvm_data.core.errors import Reject, UsageError
from mmvm_data.core.options import OptionError, options

_INPUTS = ("canvases", "pixels", "grid", "tokens", "expert_cells", "key_cells", "frames", "most")
_MODEL_PREFIX = "colva."


@options
class Stage1Config(TrainConfig):
    """Configuration of stage 1.

    Attributes:
        data: see `PairOptions`.
        negatives: `frame`, the other objects of the same frame (published), or `batch`, also those of the other pairs
            in the micro-batch.
        keys: what an object is matched with in the other frame: `model`, its embedding by the frozen vision tower and
            projector (published); or `adapter`, its embedding by the adapter itself, for a model whose own vision says
            little about an object.
        temperature: None compares by dot products (published); otherwise by cosines, divided by this, and the squared
            difference of each anchor's norm from 1 is added to the loss.
        adapter: an adapter folder or file to start from, instead of the model's own adapter.
    """

    _: KW_ONLY
    data: PairOptions
    negatives: Literal["frame", "batch"] = "frame"
    keys: Keys = "model"
    temperature: PositiveFloat | None = None
    adapter: Path | None = None


def build_stage(config: Stage1Config, is_dry_run: bool = False) -> Stage:
    """The stage for the engine.

    Args:
        config: of the run.
        is_dry_run: leave the model without weights, on the meta device.

    Raises:
        InputError: the model or a source is damaged.
        UsageError: the model has no expert, or there is nothing to train on.
    """
    base = open_checkpoint(config.model)
    if base.config.expert is None:
        raise UsageError(f"{config.model}: has no expert; `colva convert {config.model} DST --expert EXPERT` adds one")
    readers = open_pair_sources(replace(config.data, cache_dir=None) if is_dry_run else config.data)
    encoders = make_encoder_spec(base, config.data, config.keys)
    train = _make_dataset(config, readers, encoders, held_out=False)
    if train is None:
        raise UsageError("data: no pair to train on")
    model = load_model(base, config, with_weights=not is_dry_run)
    frozen_dtype = torch.bfloat16 if config.trainer.precision == "bf16" else torch.float32
    for part in (model.colva.expert, *model.colva.backbone.frozen_parts):
        assert part is not None
        cast_parameters(part, frozen_dtype)
    held_out = _make_dataset(config, readers, encoders, held_out=True)

    def step(wrapped: nn.Module, batch: Batch) -> StepResult:
        return contrastive_step(
            wrapped(**{name: batch[name] for name in _INPUTS}), batch, config.negatives, config.temperature
        )

    def save_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
        adapter = {name.removeprefix(_MODEL_PREFIX): tensor for name, tensor in weights.items()}
        write_adapter(folder, model.colva, ResolvedWeights(adapter), os.path.relpath(config.model, folder))

    def load_weights(folder: Path) -> Mapping[str, Tensor]:
        return {_MODEL_PREFIX + name: tensor for name, tensor in read_trained_weights(folder).tensors.items()}

    return Stage(
        model=model,
        train=train,
        held_out=held_out,
        collate=collate_pairs,
        count_units=lambda batch: int(batch["units"]),
        step=step,
        save_weights=save_weights,
        load_weights=load_weights,
        count_throughput=lambda batch: {"images": len(batch["canvases"]), "objects": len(batch["frames"])},
        describe=lambda: _describe(train, held_out, readers),
        estimate_activation_bytes=lambda items: estimate_adapter_activations(model, base.config.expert_side, items),
    )


def contrastive_step(
    objects: ObjectEmbeddings,
    batch: Batch,
    negatives: Literal["frame", "batch"] = "frame",
    temperature: float | None = None,
) -> StepResult:
    """The loss of both directions, summed over anchors, and how many anchors score their own object highest.

    Args:
        objects: of a batch.
        batch: its `frames` `[n]` (2p and 2p + 1 are the frames of pair p) and `ids` `[n]`.
        negatives, temperature: see `Stage1Config`.
    """
    frames, ids = batch["frames"], batch["ids"]
    anchors, keys, anchor_valid, key_valid = objects
    penalty = anchors.new_zeros(())
    if temperature is not None:
        # cosines leave the norm free, but stage 2 reads vectors
        penalty = ((torch.linalg.vector_norm(anchors.float(), dim=-1) - 1).square() * anchor_valid).sum()
        anchors = F.normalize(anchors.float(), dim=-1) / temperature
        keys = F.normalize(keys.float(), dim=-1)
    # an anchor of one frame is compared with the keys of the other frame
    groups = (frames, frames ^ 1) if negatives == "frame" else (frames % 2, 1 - frames % 2)
    loss, count = object_contrastive_loss(anchors, keys, ids, ids, anchor_valid, key_valid, *groups)
    with torch.no_grad():
        # accuracy is always among the objects of the other frame, so that runs are comparable
        hits, _ = matching_hits(anchors, keys, ids, ids, anchor_valid, key_valid, frames, frames ^ 1)
    return StepResult(loss + penalty, {"accuracy": (hits, count)})


def make_encoder_spec(base: Checkpoint, options: PairOptions, keys: Keys = "model") -> EncoderSpec:
    """How images reach the encoders of a checkpoint that has an expert."""
    from colva.model.experts import build_expert

    config = base.config
    fields = dict(config.expert or {})
    with torch.device("meta"):
        stride = build_expert(fields.pop("kind"), fields).stride
    try:
        image_processor = build_image_processor(config.backbone_config, config.pictures | options.image_options)
    except OptionError as error:
        raise OptionError("data.image_options", error.reason) from error
    return EncoderSpec(image_processor, config.expert_side, stride, config.mask_threshold, keys)


def load_model(base: Checkpoint, config: Stage1Config, with_weights: bool = True) -> AlignmentModel:
    """The network with the checkpoint's weights, and the adapter to start from; or without any weights."""
    colva = build_model(base) if with_weights else build_model_without_weights(base)
    if config.adapter is not None and with_weights:
        assert colva.adapter is not None
        colva.adapter.load_state_dict(load_adapter(base, config.adapter))
    return AlignmentModel(colva, config.keys)


def estimate_adapter_activations(model: AlignmentModel, side: int, items: int) -> float:
    """Bytes that the adapter stores for its backward pass: its input and three layers, in float32."""
    expert, adapter = model.colva.expert, model.colva.adapter
    assert expert is not None and adapter is not None
    tokens = 2 * items * (side // expert.stride) ** 2
    return float(tokens * (2 * expert.hidden_size + 3 * model.colva.backbone.hidden_size) * 4)


def _make_dataset(
    config: Stage1Config, readers: Sequence[PairReader], encoders: EncoderSpec, held_out: bool
) -> PairDataset | None:
    """The training or the held-out pairs; None when there are none."""
    dataset = PairDataset(readers, encoders, config.seed, config.data, held_out)
    return dataset if len(dataset) else None


def _describe(train: PairDataset, held_out: PairDataset | None, readers: Sequence[PairReader]) -> dict[str, Any]:
    item = train[0]
    facts: dict[str, Any] = {
        "sources": [{"kind": reader.source.kind, "names": len(reader.names)} for reader in readers],
        "pairs_in_an_epoch": len(train),
        "pairs_held_out": len(held_out) if held_out else 0,
    }
    if isinstance(item, Reject):
        return facts | {"first_pair": {"rejected": item.reason, "file": item.file}}
    return facts | {"first_pair": _describe_pair(item)}


def _describe_pair(item: PairItem) -> dict[str, Any]:
    batch = collate_pairs([item])
    return {
        "name": item.name,
        "anchors": batch["units"],
        "frames": [
            {
                "objects": len(side.ids),
                "seen_by_the_expert": int(side.expert_cells.any(dim=1).sum()),
                "seen_by_the_model": int(side.key_cells.any(dim=1).sum()),
                "canvas": list(side.canvas.shape),
                "pixels": list(side.pixels.shape),
                "image_tokens": side.key_cells.shape[1],
            }
            for side in item.sides
        ],
    }

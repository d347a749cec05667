"""Stage 1: the adapter alone is trained, by the object contrastive loss on pairs of frames (DESIGN section 5)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from colva.checkpoints.adapters import Resolved, read_delta, resolve, write_adapter
from colva.checkpoints.load import build_model
from colva.checkpoints.view import Checkpoint, open_checkpoint
from colva.config import TrainConfig
from colva.data.pseudo_video import Encoders, PairItem, PairOptions, Pairs, collate, open_all
from colva.losses import matching_hits, object_contrastive_loss
from colva.model.alignment import AlignmentModel, Objects
from colva.processing.image_processors import build_image_processor
from colva.training.stage import Batch, Stage, Step
from mmvm_data.core.errors import InputError, Reject, UsageError
from mmvm_data.core.options import OptionError

_INPUTS = ("canvases", "pixels", "grid", "tokens", "expert_cells", "key_cells", "frames", "most")
_ADAPTER = "adapter."
_OURS = "colva."


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """Stage 1.

    Attributes:
        data: see `PairOptions`.
        negatives: `frame`, the other objects of the same frame (published), or `batch`, also those of the other
            pairs in the micro-batch.
        adapter: an adapter folder or file to begin with, in place of the model's own adapter.
    """

    data: PairOptions
    negatives: Literal["frame", "batch"] = "frame"
    adapter: Path | None = None


def build(config: Config) -> Stage:
    """The stage for the engine.

    Raises:
        InputError: the model or a source is damaged.
        UsageError: the model has no expert, or nothing to train on is left.
    """
    found = open_checkpoint(config.model)
    if found.config.expert is None:
        raise UsageError(f"{config.model}: has no expert; `colva convert {config.model} DST --expert EXPERT` gives one")
    opened = open_all(config.data)
    encoders = encoders_of(found, config.data)
    train = _pairs(config, opened, encoders, held_out=False)
    if train is None:
        raise UsageError("data: no pair is left to train on")
    model = load_model(found, config)
    frozen_dtype = torch.bfloat16 if config.run.precision == "bf16" else torch.float32
    for part in (model.colva.expert, *model.colva.backbone.frozen_parts):
        assert part is not None
        part.to(frozen_dtype)
    held_out = _pairs(config, opened, encoders, held_out=True)

    def step(wrapped: nn.Module, batch: Batch) -> Step:
        return contrast(wrapped(**{name: batch[name] for name in _INPUTS}), batch, config.negatives)

    def save(folder: Path, weights: Mapping[str, Tensor]) -> None:
        whole = {name.removeprefix(_OURS): tensor for name, tensor in weights.items()}
        write_adapter(folder, model.colva, Resolved(whole), os.path.relpath(config.model, folder))

    def load(folder: Path) -> Mapping[str, Tensor]:
        return {_OURS + name: tensor for name, tensor in read_delta(folder).tensors.items()}

    def describe() -> Mapping[str, Any]:
        return _describe(train, held_out, [(one.source.kind, len(one.names)) for one in opened])

    return Stage(
        model=model,
        train=train,
        held_out=held_out,
        collate=collate,
        units=lambda batch: int(batch["units"]),
        step=step,
        save=save,
        load=load,
        counts=lambda batch: {"images": len(batch["canvases"]), "objects": len(batch["frames"])},
        describe=describe,
        activations=lambda items: adapter_activations(model, found.config.expert_side, items),
    )


def contrast(objects: Objects, batch: Batch, negatives: Literal["frame", "batch"] = "frame") -> Step:
    """The loss of both directions, summed over anchors, and how many of them score their own object highest.

    Args:
        objects: of a batch.
        batch: its `frames` `[n]` (2p and 2p + 1 are the frames of pair p) and `ids` `[n]`.
        negatives: where they come from, see `Config`.
    """
    frames, ids = batch["frames"], batch["ids"]
    anchors, keys, anchor_valid, key_valid = objects
    # an anchor of one frame looks among the keys of the other one
    here, there = (frames, frames ^ 1) if negatives == "frame" else (frames % 2, 1 - frames % 2)
    given = (anchors, keys, ids, ids, anchor_valid, key_valid, here, there)
    loss, count = object_contrastive_loss(*given)
    with torch.no_grad():
        # accuracy is always among the objects of the other frame, so that runs compare
        hits, _ = matching_hits(anchors, keys, ids, ids, anchor_valid, key_valid, frames, frames ^ 1)
    return Step(loss, {"accuracy": (hits, count)})


def encoders_of(found: Checkpoint, options: PairOptions) -> Encoders:
    """How pictures reach the encoders of a checkpoint that has an expert."""
    from colva.model.experts import build as build_expert

    config = found.config
    fields = dict(config.expert or {})
    with torch.device("meta"):
        stride = build_expert(fields.pop("kind"), fields).stride
    try:
        image_processor = build_image_processor(config.backbone_config, config.pictures | options.pictures)
    except OptionError as error:
        raise OptionError(f"data.{error.argument}", error.reason) from error
    return Encoders(image_processor, config.expert_side, stride, config.mask_threshold)


def load_model(found: Checkpoint, config: Config) -> AlignmentModel:
    """The network with the checkpoint's weights, and the adapter to begin with."""
    colva = build_model(found)
    if config.adapter is not None:
        delta = read_delta(config.adapter)
        given = resolve(delta, colva).whole
        if not any(name.startswith(_ADAPTER) for name in given):
            raise InputError(config.adapter, "holds no adapter")
        assert colva.adapter is not None
        colva.adapter.load_state_dict({n.removeprefix(_ADAPTER): t for n, t in given.items() if n.startswith(_ADAPTER)})
    return AlignmentModel(colva)


def adapter_activations(model: AlignmentModel, side: int, items: int) -> float:
    """Bytes that the adapter keeps for its backward pass: its input and three layers, in float32."""
    expert, adapter = model.colva.expert, model.colva.adapter
    assert expert is not None and adapter is not None
    tokens = 2 * items * (side // expert.stride) ** 2
    return float(tokens * (2 * expert.hidden_size + 3 * model.colva.backbone.hidden_size) * 4)


def _pairs(config: Config, opened: Any, encoders: Encoders, held_out: bool) -> Pairs | None:
    pairs = Pairs(opened, encoders, config.seed, config.data, held_out)
    return pairs if len(pairs) else None


def _describe(train: Pairs, held_out: Pairs | None, sources: list[tuple[str, int]]) -> dict[str, Any]:
    item = train[0]
    facts: dict[str, Any] = {
        "sources": [{"kind": kind, "names": count} for kind, count in sources],
        "pairs_in_an_epoch": len(train),
        "pairs_held_out": len(held_out) if held_out else 0,
    }
    if isinstance(item, Reject):
        return facts | {"first_pair": {"rejected": item.reason, "file": item.file}}
    return facts | {"first_pair": _sample(item)}


def _sample(item: PairItem) -> dict[str, Any]:
    batch = collate([item])
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

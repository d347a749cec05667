"""The network of stage 1: the adapter is trained to match the frozen multimodal encoder's embedding of an object.

Anchors are pooled adapted expert tokens; keys are pooled embeddings of the frozen vision tower and projector
(arXiv 2501.04670, section 4), or on request the adapted expert tokens of the other frame. The language model is not
used and not kept in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from colva.model.colva import ColvaModel
from colva.model.experts.base import to_unit_range
from colva.model.pooling import Keys, pool_objects


class ObjectEmbeddings(NamedTuple):
    """Each object of a batch as anchor and as key, `[n, d]`, and whether it covers a token, bool `[n]`."""

    anchors: Tensor
    keys: Tensor
    anchor_valid: Tensor
    key_valid: Tensor


class AlignmentModel(nn.Module):
    """A `ColvaModel` without its language model; only the adapter is trainable.

    Args:
        colva: the model, whose decoder and head are removed (its configuration still describes them).
        keys: see there; those of the adapter are trained too.

    Raises:
        ValueError: the model has no expert.
    """

    def __init__(self, colva: ColvaModel, keys: Keys = "model") -> None:
        super().__init__()
        self.keys = keys
        if colva.expert is None or colva.adapter is None:
            raise ValueError("the model has no expert; `colva convert MODEL DST --expert EXPERT` gives it one")
        drop_language_model(colva)
        self.colva = colva
        colva.requires_grad_(False)
        colva.adapter.requires_grad_(True).float()

    def train(self, mode: bool = True) -> AlignmentModel:
        """Train the adapter; frozen parts stay in eval mode (no dropout, no dropped paths)."""
        super().train(mode)
        self.colva.eval()
        if self.colva.adapter is not None:
            self.colva.adapter.train(mode)
        return self

    def forward(
        self,
        canvases: Tensor,
        pixels: Tensor,
        grid: Tensor,
        tokens: Sequence[int],
        expert_cells: Tensor,
        key_cells: Tensor,
        frames: Tensor,
        most: int,
    ) -> ObjectEmbeddings:
        """Embed the objects of some frames; for the arguments see `colva.data.pseudo_video.collate_pairs`."""
        expert, adapter = self.colva.expert, self.colva.adapter
        assert expert is not None and adapter is not None
        with torch.no_grad():
            features = expert(to_unit_range(canvases), check_values=canvases.dtype != torch.uint8).tokens
        anchors, anchor_valid = pool_objects(adapter(features), expert_cells, frames, most)
        if self.keys == "adapter":
            return ObjectEmbeddings(anchors, anchors, anchor_valid, anchor_valid)
        with torch.no_grad():
            image_tokens = self.colva.encode_images(pixels, grid)
            keys, key_valid = pool_objects(pad_by_frame(image_tokens.flatten(0, -2), tokens), key_cells, frames, most)
        return ObjectEmbeddings(anchors, keys, anchor_valid, key_valid)


def pad_by_frame(tokens: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the concatenated tokens `[t, d]` of some frames as `[frames, longest, d]`, padded with zeros."""
    if len(set(counts)) == 1:
        return tokens.view(len(counts), counts[0], -1)
    return pad_sequence(list(torch.split(tokens, list(counts))), batch_first=True)


def drop_language_model(colva: ColvaModel) -> None:
    """Remove the decoder and the head from a model, in place."""
    removed = (colva.backbone.language_model, colva.get_output_embeddings())
    for name, module in list(colva.named_modules()):
        if any(module is part for part in removed):
            owner, _, leaf = name.rpartition(".")
            setattr(colva.get_submodule(owner), leaf, nn.Identity())

"""Stage 1's network: the adapter learns to say of an object what the frozen multimodal encoder says of it.

Anchors are pooled adapted expert tokens; keys are pooled embeddings of the frozen vision tower and projector
(arXiv 2501.04670, section 4). The language model has no part in it and is not kept in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from colva.model.colva import ColvaModel
from colva.model.experts.base import to_unit_range
from colva.model.pooling import pool_objects


class Objects(NamedTuple):
    """Each object of a batch as anchor and as key: `[n, d]` each, and where it kept a token, bool `[n]`."""

    anchors: Tensor
    keys: Tensor
    anchor_valid: Tensor
    key_valid: Tensor


class AlignmentModel(nn.Module):
    """Everything of a `ColvaModel` but its language model; exactly the adapter is trained.

    `colva` is the model itself, whose decoder and head have been taken out (its configuration still speaks of them).

    Raises:
        ValueError: the model has no expert.
    """

    def __init__(self, colva: ColvaModel) -> None:
        super().__init__()
        if colva.expert is None or colva.adapter is None:
            raise ValueError("the model has no expert; `colva convert MODEL DST --expert EXPERT` gives it one")
        drop_language_model(colva)
        self.colva = colva
        colva.requires_grad_(False)
        colva.adapter.requires_grad_(True).float()

    def train(self, mode: bool = True) -> AlignmentModel:
        """Train the adapter; what is frozen stays in eval mode (no dropout, no dropped paths)."""
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
    ) -> Objects:
        """Embed the objects of some frames; for the arguments see `colva.data.pseudo_video.collate_pairs`."""
        expert, adapter = self.colva.expert, self.colva.adapter
        assert expert is not None and adapter is not None
        with torch.no_grad():
            features = expert(to_unit_range(canvases)).tokens
            seen = self.colva.encode_images(pixels, grid)
            keys, key_valid = pool_objects(by_frame(seen.flatten(0, -2), tokens), key_cells, frames, most)
        anchors, anchor_valid = pool_objects(adapter(features), expert_cells, frames, most)
        return Objects(anchors, keys, anchor_valid, key_valid)


def by_frame(tokens: Tensor, counts: Sequence[int]) -> Tensor:
    """The tokens `[t, d]` of some frames, one after the other, as `[frames, most, d]`, padded with zeros."""
    if len(set(counts)) == 1:
        return tokens.view(len(counts), counts[0], -1)
    return pad_sequence(tokens.split(list(counts)), batch_first=True)


def drop_language_model(colva: ColvaModel) -> None:
    """Take the decoder and the head out of a model, in place."""
    dropped = (colva.backbone.language_model, colva.get_output_embeddings())
    for name, module in list(colva.named_modules()):
        if any(module is one for one in dropped):
            owner, _, leaf = name.rpartition(".")
            setattr(colva.get_submodule(owner), leaf, nn.Identity())

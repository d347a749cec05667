"""How objects look to a vision expert alone: pooled features, without any training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from colva.checkpoints.experts import is_expert, read_expert
from colva.checkpoints.load import load
from colva.model.experts import Expert, build_expert
from colva.model.experts.base import to_unit_range
from colva.model.pooling import pool_objects
from colva.processing.tiling import expert_canvas
from mmvm_data.core.errors import UsageError
from mmvm_data.io import media

SIDE = 1024
"""Pixels a side of the canvas, where the weights do not come with a side of their own."""
RANKING_SIDE = 512
"""The same at most for ranking candidates of a build: a quarter of the pixels."""


def open_expert(name: str) -> tuple[str, Expert, int]:
    """An expert by name: what to call it, the network, and the side of its canvas.

    Args:
        name: `mobilenetv2` for ImageNet weights of a package, or a folder or file with an expert's weights, of any
            layout that `colva.checkpoints.experts.read_expert` knows, or a CoLVA folder, for its expert.

    Raises:
        UsageError, InputError: no such expert, or no weights for it.
    """
    if Path(name, "config.json").is_file() and not is_expert(Path(name)):
        model = load(name)
        if model.expert is None:
            raise UsageError(f"{name}: this model has no expert")
        return Path(name).name, model.expert, model.config.expert_side
    found = read_expert(name)
    fields = dict(found.config)
    expert = build_expert(fields.pop("kind"), fields)
    expert.load_state_dict({key: stored.read() for key, stored in found.tensors.items()})
    return name if found.config["kind"] == name else Path(name).name, expert, SIDE


@torch.inference_mode()
def object_features(
    expert: Expert, side: int, pictures: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> list[Tensor]:
    """Features `[n, c]`, float32 on the CPU, of the objects of each picture.

    An object that covers no token by the threshold gets the one token that it covers most.

    Args:
        expert: on the device to use.
        side: of its canvas, a multiple of its stride.
        pictures: uint8 `[H, W, 3]`, red first.
        masks: uint8 or bool `[n, H, W]` for each picture.
    """
    canvases, cells = [], []
    for picture, bitmaps in zip(pictures, masks, strict=True):
        height, width = picture.shape[:2]
        canvas, geometry = expert_canvas(picture, side, expert.stride)
        shapes = torch.from_numpy(bitmaps)
        kept = geometry.token_mask(shapes)
        for row in (~kept.any(dim=1)).nonzero().flatten().tolist():
            kept[row] = _most_covered(shapes[row], geometry.grids[0].num_tokens, width, height)
        canvases.append(canvas)
        cells.append(kept)
    device = next(expert.parameters()).device
    tokens = expert(to_unit_range(torch.stack(canvases).to(device))).tokens
    images = torch.repeat_interleave(torch.arange(len(cells)), torch.tensor([len(kept) for kept in cells]))
    features = pool_objects(tokens, torch.cat(cells).to(device), images.to(device))[0].float().cpu()
    return list(features.split([len(kept) for kept in cells]))


def open_ranker(name: str) -> ExpertRanker:
    """The ranker that `mmvm-data build --embeddings` uses: an `EmbeddingRankerFactory` of `mmvm_data.cases.hardness`,
    offered through the entry point group `mmvm_data.embedding_rankers`. See `open_expert` for the names and errors."""
    return ExpertRanker(name)


class ExpertRanker:
    """Ranks objects by an expert on the CPU and one thread, so that a build has the same bytes on any number of
    workers: an `EmbeddingRanker` of `mmvm_data.cases.hardness`."""

    def __init__(self, name: str) -> None:
        """See `open_expert`."""
        _, expert, side = open_expert(name)
        self._expert = expert.eval()
        self._side = round(min(side, RANKING_SIDE) / expert.stride) * expert.stride

    def __call__(self, first: np.ndarray, query: np.ndarray, last: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Cosine (-1..1) of the query with each other object, float64 `[n]`.

        Args:
            first, last: uint8 `[H, W, 3]`, blue first.
            query: uint8 `[H, W]`, in the first image.
            others: uint8 `[n, H, W]`, in the last.
        """
        pictures = [media.bgr_to_rgb(image) for image in (first, last)]
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            one, many = object_features(self._expert, self._side, pictures, [query[None], others])
        finally:
            torch.set_num_threads(before)
        return F.cosine_similarity(many, one).double().numpy()


def _most_covered(mask: Tensor, tokens: int, width: int, height: int) -> Tensor:
    """The one token of a square canvas on which most of a mask lies: bool `[tokens]`."""
    cells = round(tokens**0.5)
    y, x = mask.nonzero(as_tuple=True)
    longest = max(width, height)
    at = (y * cells // longest) * cells + x * cells // longest
    found = torch.zeros(tokens, dtype=torch.bool)
    if len(at):
        found[torch.bincount(at, minlength=tokens).argmax()] = True
    return found

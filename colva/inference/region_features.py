"""Pooled features of objects from a vision expert alone, without any training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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

DEFAULT_SIDE = 1024
"""Pixels a side of the canvas for weights without a CoLVA configuration."""
RANKING_SIDE = 512
"""Largest canvas for ranking candidates of a build: a quarter of the pixels."""


def open_expert(name: str) -> tuple[str, Expert, int]:
    """Return the display name, the network and the canvas side of an expert.

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
    weights = read_expert(name)
    fields = dict(weights.config)
    expert = build_expert(fields.pop("kind"), fields)
    expert.load_state_dict({key: stored.read() for key, stored in weights.tensors.items()})
    return name if weights.config["kind"] == name else Path(name).name, expert, DEFAULT_SIDE


@torch.inference_mode()
def object_features(
    expert: Expert, side: int, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[Any]]
) -> list[Tensor]:
    """Return the pooled features of the objects of each image, float32 `[n, c]` on the CPU.

    An object that covers no token by the threshold gets the one token that it covers most.

    Args:
        expert: on the device to use.
        side: pixels a side of its canvas, a multiple of its stride.
        images: RGB uint8 `[H, W, 3]`.
        masks: uint8 or bool `[n, H, W]` for each image.
    """
    canvases, object_cells = [], []
    for image, image_masks in zip(images, masks, strict=True):
        height, width = image.shape[:2]
        canvas, geometry = expert_canvas(image, side, expert.stride)
        mask_tensor = torch.from_numpy(image_masks)
        cells = geometry.token_mask(mask_tensor)
        for row in (~cells.any(dim=1)).nonzero().flatten().tolist():
            cells[row] = _most_covered_token(mask_tensor[row], geometry.num_tokens, width, height)
        canvases.append(canvas)
        object_cells.append(cells)
    device = next(expert.parameters()).device
    tokens = expert(to_unit_range(torch.stack(canvases).to(device))).tokens
    counts = [len(cells) for cells in object_cells]
    image_numbers = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    features = pool_objects(tokens, torch.cat(object_cells).to(device), image_numbers.to(device))[0].float().cpu()
    return list(torch.split(features, counts))


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

    def __call__(
        self,
        first: NDArray[np.uint8],
        query: NDArray[np.uint8],
        last: NDArray[np.uint8],
        others: NDArray[np.uint8],
    ) -> NDArray[np.float64]:
        """Return the cosine similarity (-1..1) of the query with each other object, float64 `[n]`.

        Args:
            first, last: BGR uint8 `[H, W, 3]`.
            query: mask uint8 `[H, W]`, in the first image.
            others: masks uint8 `[n, H, W]`, in the last.
        """
        images = [media.bgr_to_rgb(image) for image in (first, last)]
        num_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            query_features, features = object_features(self._expert, self._side, images, [query[None], others])
        finally:
            torch.set_num_threads(num_threads)
        return F.cosine_similarity(features, query_features).double().numpy()


def _most_covered_token(mask: Tensor, num_tokens: int, width: int, height: int) -> Tensor:
    """Return the token of a square canvas that contains most of a mask: bool `[num_tokens]`, all False if empty."""
    cells = round(num_tokens**0.5)
    y, x = mask.nonzero(as_tuple=True)
    longest = max(width, height)
    tokens = (y * cells // longest) * cells + x * cells // longest
    is_covered = torch.zeros(num_tokens, dtype=torch.bool)
    if len(tokens):
        is_covered[torch.bincount(tokens, minlength=num_tokens).argmax()] = True
    return is_covered

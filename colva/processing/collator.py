"""Conversations with pictures and marked objects to the tensors of `ColvaModel.forward`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from colva.model.token_grid import THRESHOLD, Geometry
from colva.processing.chat_templates import Template, Turn
from colva.processing.tiling import expert_canvas
from colva.processing.tokens import IGNORED, Vocabulary

if TYPE_CHECKING:
    from colva.model.backbones.base import Pictures


@dataclass(frozen=True)
class Marked:
    """One picture of a conversation.

    Attributes:
        shown: RGB uint8 `[H, W, 3]`, what the language model sees (with drawn prompts).
        clean: the same without marks, what the expert sees; None when it has no object.
        masks: uint8 or bool `[n, H, W]`, its objects in the order in which the text names them; None for none.
        embeddings: `[n, d]` in place of clean picture and masks, from a cache.
    """

    shown: np.ndarray
    clean: np.ndarray | None = None
    masks: np.ndarray | Tensor | None = None
    embeddings: Tensor | None = None

    @property
    def objects(self) -> int:
        """How many objects it has."""
        marks = self.embeddings if self.embeddings is not None else self.masks
        return 0 if marks is None else len(marks)


@dataclass(frozen=True)
class Dialogue:
    """What is said, and the pictures that it is about, in the order of their `<image>`."""

    turns: tuple[Turn, ...]
    pictures: tuple[Marked, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Sample:
    """One conversation as tensors, not padded; `objects` embeddings `[n, d]` or None when they are to be computed."""

    ids: Tensor
    labels: Tensor
    positions: Tensor
    pixels: tuple[Tensor, ...] = ()
    grids: tuple[tuple[int, int, int], ...] = ()
    canvases: tuple[Tensor, ...] = ()
    cells: tuple[Tensor, ...] = ()
    objects: Tensor | None = None
    name: str = ""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Processor:
    """All that is needed to prepare conversations for one model, without its weights.

    Attributes:
        vocabulary, template, pictures: the family's.
        expert_side, expert_stride: pixels of the expert's canvas, and of a token of it; 0 for a model without expert.
        threshold: of masks (see `Geometry.cells`).
        prompt_style: see `colva.processing.tokens.object_lines`.
    """

    vocabulary: Vocabulary
    template: Template
    pictures: Pictures
    expert_side: int = 1024
    expert_stride: int = 16
    threshold: float = THRESHOLD
    prompt_style: str = "colva"
    pad_id: int = field(default=0)

    def sample(self, dialogue: Dialogue, prompt: bool = False) -> Sample:
        """Prepare one conversation.

        Args:
            dialogue: its pictures in the order of their `<image>`.
            prompt: leave the assistant to go on; nothing is learnt.

        Raises:
            ValueError: a mask of another size than its picture, an object that no token can show because it lies
                outside what the encoder sees, counts that do not agree; the message begins with the dialogue's name.
        """
        try:
            return self._sample(dialogue, prompt)
        except ValueError as error:
            raise ValueError(f"{dialogue.name}: {error}" if dialogue.name else str(error)) from error

    def _sample(self, dialogue: Dialogue, prompt: bool) -> Sample:
        shown = [self.pictures(picture.shown) for picture in dialogue.pictures]
        count = sum(picture.objects for picture in dialogue.pictures)
        encoding = self.vocabulary.encode(
            dialogue.turns, self.template, [picture.tokens for picture in shown], count, prompt
        )
        grids = tuple(picture.grid for picture in shown)
        canvases, cells = self._objects(dialogue.pictures, [picture.geometry for picture in shown])
        cached = [picture.embeddings for picture in dialogue.pictures if picture.embeddings is not None]
        if cached and canvases:
            raise ValueError("some pictures have cached object embeddings and others masks; give one kind")
        return Sample(
            ids=encoding.ids,
            labels=encoding.labels,
            positions=self.pictures.positions(encoding.ids, iter(grids)),
            pixels=tuple(picture.pixels for picture in shown),
            grids=grids,
            canvases=canvases,
            cells=cells,
            objects=torch.cat(cached) if cached else None,
            name=dialogue.name,
        )

    def _objects(
        self, pictures: Sequence[Marked], shown: Sequence[Geometry]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        canvases, cells = [], []
        for number, (picture, seen_by_model) in enumerate(zip(pictures, shown, strict=True), 1):
            if picture.masks is None or picture.embeddings is not None or len(picture.masks) == 0:
                continue
            if not self.expert_stride:
                raise ValueError("the model has no expert, so it cannot be asked about masks")
            clean = picture.shown if picture.clean is None else picture.clean
            canvas, geometry = expert_canvas(clean, self.expert_side, self.expert_stride)
            masks = torch.as_tensor(np.asarray(picture.masks))
            try:
                kept = geometry.cells(masks, self.threshold)
            except ValueError as error:
                raise ValueError(f"Image-{number}: {error}") from error
            if not masks.flatten(1).any(dim=1).all():
                which = int((~masks.flatten(1).any(dim=1)).nonzero()[0]) + 1
                raise ValueError(f"Image-{number}: the mask of object {which} is empty")
            if picture.shown.shape == clean.shape and bool((lost := seen_by_model.unseen(masks)).any()):
                which = int(lost.nonzero()[0]) + 1
                raise ValueError(f"Image-{number}: object {which} lies outside the part that the model sees")
            canvases.append(canvas)
            cells.append(kept)
        return tuple(canvases), tuple(cells)

    def collate(self, samples: Sequence[Sample], side: Literal["left", "right"] = "right") -> dict[str, Tensor]:
        """Join samples to a batch, padded on one side (left for generation).

        Returns:
            `input_ids`, `attention_mask`, `labels`, `position_ids`, and as far as there are any `pixel_values`,
            `image_grid`, `expert_pixel_values`, `object_cells`, `object_images`, `object_embeddings`.
        """
        longest = max(len(sample) for sample in samples)

        def padded(row: Tensor, value: int) -> Tensor:
            space = row.new_full((*row.shape[:-1], longest - row.shape[-1]), value)
            return torch.cat([space, row] if side == "left" else [row, space], dim=-1)

        batch = {
            "input_ids": torch.stack([padded(sample.ids, self.pad_id) for sample in samples]),
            "attention_mask": torch.stack([padded(torch.ones_like(sample.ids), 0) for sample in samples]),
            "labels": torch.stack([padded(sample.labels, IGNORED) for sample in samples]),
            "position_ids": torch.stack([padded(sample.positions, 0) for sample in samples], dim=-2),
        }
        return batch | join(samples)

    def __call__(self, dialogues: Sequence[Dialogue], prompt: bool = False) -> dict[str, Tensor]:
        """Prepare and join; padded on the left for a prompt, else on the right."""
        return self.collate([self.sample(dialogue, prompt) for dialogue in dialogues], "left" if prompt else "right")


def join(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """The pictures and objects of some samples, in order, as `ColvaModel.forward` takes them."""
    found: dict[str, Tensor] = {}
    pixels = [pixel for sample in samples for pixel in sample.pixels]
    if pixels:
        found["pixel_values"] = torch.cat(pixels)
        found["image_grid"] = torch.tensor([grid for sample in samples for grid in sample.grids], dtype=torch.int64)
    cached = [sample.objects for sample in samples if sample.objects is not None]
    canvases = [canvas for sample in samples for canvas in sample.canvases]
    if cached and canvases:
        raise ValueError("a batch mixes cached object embeddings with masks")
    if cached:
        found["object_embeddings"] = torch.cat(cached)
    if canvases:
        cells = [kept for sample in samples for kept in sample.cells]
        found["expert_pixel_values"] = torch.stack(canvases)
        found["object_cells"] = torch.cat(cells)
        counts = torch.tensor([len(kept) for kept in cells])
        found["object_images"] = torch.repeat_interleave(torch.arange(len(cells)), counts)
    return found

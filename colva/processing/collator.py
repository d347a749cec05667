"""Conversations with images and marked objects to the tensors of `ColvaModel.forward`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colva.losses import IGNORE_INDEX
from colva.model.positions import ImageGrid
from colva.model.token_grid import THRESHOLD, Geometry
from colva.processing.chat_templates import ChatTemplate, Turn
from colva.processing.image_processors.base import ImageProcessor
from colva.processing.tiling import expert_canvas
from colva.processing.tokens import Vocabulary


@dataclass(frozen=True)
class ImageInput:
    """One image of a conversation.

    Attributes:
        image: RGB uint8 `[H, W, 3]`, with drawn prompts; the input of the language model. None for an image that the
            text does not show, of which only the objects are named.
        clean_image: the same without marks, the input of the expert; None when it has no objects.
        masks: uint8 or bool `[n, H, W]`, its objects in the order in which the text names them; None for none.
        object_embeddings: `[n, d]` from a cache, in place of the clean image and the masks.
    """

    image: NDArray[np.uint8] | None
    clean_image: NDArray[np.uint8] | None = None
    masks: NDArray[Any] | Tensor | None = None
    object_embeddings: Tensor | None = None

    @property
    def num_objects(self) -> int:
        """Number of marked objects."""
        objects = self.object_embeddings if self.object_embeddings is not None else self.masks
        return 0 if objects is None else len(objects)


@dataclass(frozen=True)
class Conversation:
    """Turns of text, and their images in the order of `<image>` and of objects. `name` is used in error messages."""

    turns: tuple[Turn, ...]
    images: tuple[ImageInput, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Sample:
    """One conversation as tensors without padding.

    Attributes:
        input_ids, labels: int64 `[t]`.
        position_ids: int64 `[t]` or `[3, t]`.
        pixel_values, image_grids: one for each image.
        canvases: uint8 `[3, S, S]`, the expert's input, one for each image with masks.
        object_cells: bool `[n, h*w]` for each canvas, the tokens that its objects cover.
        object_embeddings: `[n, d]` of all objects; None when they are to be computed from the canvases.
        name: of the conversation.
        option_ids: of a case that is asked for its accuracy, the token of each option's letter.
        num_candidates: of such a case.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    pixel_values: tuple[Tensor, ...] = ()
    image_grids: tuple[ImageGrid, ...] = ()
    canvases: tuple[Tensor, ...] = ()
    object_cells: tuple[Tensor, ...] = ()
    object_embeddings: Tensor | None = None
    name: str = ""
    option_ids: tuple[int, ...] = ()
    num_candidates: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class Processor:
    """Prepares conversations for one model, without its weights.

    Attributes:
        vocabulary, template, image_processor: the model family's.
        expert_side, expert_stride: pixels of the expert's canvas, and of one of its tokens; 0 for a model without an
            expert.
        threshold: of masks (see `Geometry.token_mask`).
        prompt_style: see `colva.processing.tokens.build_case_text` and `ColvaConfig.prompt_layout`.
        fill_empty: see `Geometry.token_mask` and `ColvaConfig.fill_empty`.
        pad_id: id of the padding token.
    """

    vocabulary: Vocabulary
    template: ChatTemplate
    image_processor: ImageProcessor
    expert_side: int = 1024
    expert_stride: int = 16
    threshold: float = THRESHOLD
    prompt_style: str = "colva"
    fill_empty: bool = True
    pad_id: int = 0

    def prepare(self, conversation: Conversation, prompt: bool = False) -> Sample:
        """Return one conversation as tensors.

        Args:
            conversation: its images in the order of their `<image>`.
            prompt: end with the start of an assistant turn, for generation; no token has a label.

        Raises:
            ValueError: a mask of another size than its image, an empty mask, an object outside the part of the image
                that the language model sees, counts that do not agree. The message begins with the conversation's
                name.
        """
        try:
            return self._prepare(conversation, prompt)
        except ValueError as error:
            raise ValueError(f"{conversation.name}: {error}" if conversation.name else str(error)) from error

    def _prepare(self, conversation: Conversation, prompt: bool) -> Sample:
        images = conversation.images
        shown = [None if image.image is None else self.image_processor(image.image) for image in images]
        prepared = [image for image in shown if image is not None]
        encoding = self.vocabulary.encode(
            conversation.turns,
            self.template,
            [image.num_tokens for image in prepared],
            sum(image.num_objects for image in images),
            prompt,
        )
        grids = tuple(image.grid for image in prepared)
        canvases, object_cells = self._prepare_objects(
            images, [None if image is None else image.geometry for image in shown]
        )
        cached = [image.object_embeddings for image in images if image.object_embeddings is not None]
        if cached and canvases:
            raise ValueError("some images have cached object embeddings and others masks; give one kind")
        return Sample(
            input_ids=encoding.ids,
            labels=encoding.labels,
            position_ids=self.image_processor.position_ids(encoding.ids, iter(grids)),
            pixel_values=tuple(image.pixels for image in prepared),
            image_grids=grids,
            canvases=canvases,
            object_cells=object_cells,
            object_embeddings=torch.cat(cached) if cached else None,
            name=conversation.name,
        )

    def _prepare_objects(
        self, images: Sequence[ImageInput], geometries: Sequence[Geometry | None]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the expert's canvas and the object cells of each image with masks.

        Args:
            images: of one conversation.
            geometries: how the language model's tokens lie over each of them; None for one that is not shown.
        """
        canvases, object_cells = [], []
        for number, (image, model_geometry) in enumerate(zip(images, geometries, strict=True), 1):
            if image.masks is None or image.object_embeddings is not None or len(image.masks) == 0:
                continue
            if not self.expert_stride:
                raise ValueError("the model has no expert, so it cannot be asked about masks")
            clean = image.image if image.clean_image is None else image.clean_image
            if clean is None:
                raise ValueError(f"Image-{number}: has masks, but neither an image nor a clean one")
            canvas, geometry = expert_canvas(clean, self.expert_side, self.expert_stride, self.prompt_style != "colva")
            masks = torch.as_tensor(np.asarray(image.masks))
            try:
                cells = geometry.token_mask(masks, self.threshold, self.fill_empty)
            except ValueError as error:
                raise ValueError(f"Image-{number}: {error}") from error
            is_empty = ~masks.flatten(1).bool().any(dim=1)
            if is_empty.any():
                raise ValueError(f"Image-{number}: the mask of object {int(is_empty.nonzero()[0]) + 1} is empty")
            is_same_size = image.image is not None and image.image.shape == clean.shape
            if is_same_size and model_geometry and (is_outside := model_geometry.is_out_of_view(masks)).any():
                which = int(is_outside.nonzero()[0]) + 1
                raise ValueError(f"Image-{number}: object {which} lies outside the part that the model sees")
            canvases.append(canvas)
            object_cells.append(cells)
        return tuple(canvases), tuple(object_cells)

    def collate(self, samples: Sequence[Sample], side: Literal["left", "right"] = "right") -> dict[str, Tensor]:
        """Join samples to a batch, padded on one side (left for generation).

        Returns:
            `input_ids`, `attention_mask`, `labels`, `position_ids`, and where the samples have them `pixel_values`,
            `image_grid`, `expert_pixel_values`, `object_cells`, `object_images`, `object_embeddings`.
        """
        longest = max(len(sample) for sample in samples)

        def pad(row: Tensor, value: int) -> Tensor:
            space = row.new_full((*row.shape[:-1], longest - row.shape[-1]), value)
            return torch.cat([space, row] if side == "left" else [row, space], dim=-1)

        batch = {
            "input_ids": torch.stack([pad(sample.input_ids, self.pad_id) for sample in samples]),
            "attention_mask": torch.stack([pad(torch.ones_like(sample.input_ids), 0) for sample in samples]),
            "labels": torch.stack([pad(sample.labels, IGNORE_INDEX) for sample in samples]),
            "position_ids": torch.stack([pad(sample.position_ids, 0) for sample in samples], dim=-2),
        }
        return batch | join_images(samples)

    def __call__(self, conversations: Sequence[Conversation], prompt: bool = False) -> dict[str, Tensor]:
        """Prepare and join conversations; padded on the left for prompts, else on the right."""
        samples = [self.prepare(conversation, prompt) for conversation in conversations]
        return self.collate(samples, "left" if prompt else "right")


def join_images(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Return the images and objects of some samples, in order, as `ColvaModel.forward` takes them.

    Raises:
        ValueError: some samples have cached object embeddings and others masks.
    """
    inputs: dict[str, Tensor] = {}
    pixel_values = [pixels for sample in samples for pixels in sample.pixel_values]
    if pixel_values:
        grids = [grid for sample in samples for grid in sample.image_grids]
        inputs["pixel_values"] = torch.cat(pixel_values)
        inputs["image_grid"] = torch.tensor(grids, dtype=torch.int64)
    cached = [sample.object_embeddings for sample in samples if sample.object_embeddings is not None]
    canvases = [canvas for sample in samples for canvas in sample.canvases]
    if cached and canvases:
        raise ValueError("a batch mixes cached object embeddings with masks")
    if cached:
        inputs["object_embeddings"] = torch.cat(cached)
    if canvases:
        cells = [image_cells for sample in samples for image_cells in sample.object_cells]
        inputs["expert_pixel_values"] = torch.stack(canvases)
        inputs["object_cells"] = torch.cat(cells)
        counts = torch.tensor([len(image_cells) for image_cells in cells])
        inputs["object_images"] = torch.repeat_interleave(torch.arange(len(cells)), counts)
    return inputs

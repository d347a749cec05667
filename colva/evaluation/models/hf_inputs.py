"""From chats with images to tensors, for any model that transformers loads as image-text-to-text.

Where transformers can build the model's own processor, that is used. Some processors cannot be built without
torchvision, since they also hold a video processor (Qwen2-VL and its successors, InternVL): there the image processor
and the tokenizer are called by themselves, and the image tokens are multiplied here by the same rule.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, ProcessorMixin

from mmvm_data.core.errors import UsageError

Message = dict[str, Any]


class Inputs(Protocol):
    """Makes the tensors of a batch.

    Attributes:
        tokenizer: pads on the left, so that generated text follows the prompt at once.
    """

    tokenizer: Any

    def text_of(self, messages: Sequence[Message]) -> str:
        """The prompt of a chat, up to where the model has to go on."""
        ...

    def tensors(self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]) -> Mapping[str, Any]:
        """What the model's forward takes: PyTorch tensors; ``input_ids`` and ``attention_mask`` are [n, length]."""
        ...


class OwnProcessor:
    """The processor of the model."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self.tokenizer = processor.tokenizer
        self._template = processor if processor.chat_template else processor.tokenizer
        self.has_template = bool(self._template.chat_template)

    def text_of(self, messages: Sequence[Message]) -> str:
        """See ``Inputs``."""
        return self._template.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)

    def tensors(self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]) -> Mapping[str, Any]:
        """See ``Inputs``."""
        given = [list(row) for row in images]
        special = {"add_special_tokens": False} if _begins(self.tokenizer, texts) else {}
        return self._processor(text=list(texts), images=given, padding=True, return_tensors="pt", **special)


class Pair:
    """Image processor and tokenizer, and the rule for the family's image tokens.

    Args:
        image_processor, tokenizer: of the model.
        family: ``model_type`` of its configuration, a key of ``FAMILIES``.
        template: chat template, when the tokenizer has none.
        settings: of ``processor_config.json``.
    """

    def __init__(
        self, image_processor: Any, tokenizer: Any, family: str, template: str | None, settings: Mapping[str, Any]
    ) -> None:
        self.tokenizer = tokenizer
        self._images = image_processor
        self._rule = FAMILIES[family]
        self._template = template
        self._settings = settings

    def text_of(self, messages: Sequence[Message]) -> str:
        """See ``Inputs``."""
        return self.tokenizer.apply_chat_template(
            list(messages), chat_template=self._template, tokenize=False, add_generation_prompt=True
        )

    def tensors(self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]) -> Mapping[str, Any]:
        """See ``Inputs``."""
        flat = [image for row in images for image in row]
        token, long, pixels = self._rule(self._images, self.tokenizer, flat, self._settings)
        counts, expanded = iter(long), []
        for text, row in zip(texts, images, strict=True):
            pieces = text.split(token)
            if len(pieces) != len(row) + 1:
                raise UsageError(
                    f"the chat template gives {len(pieces) - 1} image marks for {len(row)} images; "
                    "it is not that of this model"
                )
            expanded.append("".join(piece + next(counts) for piece in pieces[:-1]) + pieces[-1])
        special = {"add_special_tokens": False} if _begins(self.tokenizer, expanded) else {}
        coded = self.tokenizer(expanded, padding=True, return_tensors="pt", **special)
        return {"input_ids": coded["input_ids"], "attention_mask": coded["attention_mask"], **pixels}


_Rule = Callable[[Any, Any, list[Image.Image], Mapping[str, Any]], tuple[str, list[str], dict[str, Any]]]


def _qwen(
    processor: Any, tokenizer: Any, images: list[Image.Image], settings: Mapping[str, Any]
) -> tuple[str, list[str], dict[str, Any]]:
    """One token for each merge_size x merge_size patches (Qwen2-VL, arXiv 2409.12191, section 2.1)."""
    found = processor(images=images, return_tensors="pt")
    token = getattr(tokenizer, "image_token", None) or "<|image_pad|>"
    counts = (found["image_grid_thw"].prod(dim=1) // processor.merge_size**2).tolist()
    pixels = {"pixel_values": found["pixel_values"], "image_grid_thw": found["image_grid_thw"]}
    return token, [token * count for count in counts], pixels


def _internvl(
    processor: Any, tokenizer: Any, images: list[Image.Image], settings: Mapping[str, Any]
) -> tuple[str, list[str], dict[str, Any]]:
    """So many tokens (256) for each tile, between the marks of an image's begin and end (InternVL in transformers)."""
    found = processor(images=images, crop_to_patches=True, return_tensors="pt")
    token, length = tokenizer.context_image_token, int(settings.get("image_seq_length", 256))
    begin, end = tokenizer.start_image_token, tokenizer.end_image_token
    tiles = [int(count) for count in found["num_patches"]]
    return token, [f"{begin}{token * length * count}{end}" for count in tiles], {"pixel_values": found["pixel_values"]}


FAMILIES: Mapping[str, _Rule] = {
    "qwen2_vl": _qwen,
    "qwen2_5_vl": _qwen,
    "qwen3_vl": _qwen,
    "qwen3_vl_moe": _qwen,
    "internvl": _internvl,
}
"""``model_type`` -> how its image tokens are multiplied, for models whose processor may not be there."""


def open_inputs(folder: Path, family: str) -> Inputs:
    """The inputs of a model.

    Args:
        folder: of the model, with its tokenizer and image processor.
        family: ``model_type`` of its configuration.

    Raises:
        UsageError: there is no processor that can be built, or no chat template.
    """
    inputs = _own(folder) if family not in FAMILIES else _pair(folder, family)
    inputs.tokenizer.padding_side = "left"
    if inputs.tokenizer.pad_token is None:
        inputs.tokenizer.pad_token = inputs.tokenizer.eos_token
    return inputs


def _own(folder: Path) -> Inputs:
    processor: Any
    try:
        processor = AutoProcessor.from_pretrained(folder)
    except (ImportError, TypeError, ValueError, OSError) as error:
        raise UsageError(f"{folder}: its processor cannot be built: {_first_line(error)}") from error
    if not isinstance(processor, ProcessorMixin):  # a tokenizer alone
        raise UsageError(f"{folder}: has no processor of images and text (found {type(processor).__name__})")
    inputs = OwnProcessor(processor)
    if not inputs.has_template:
        raise UsageError(f"{folder}: has no chat template")
    return inputs


def _pair(folder: Path, family: str) -> Inputs:
    try:
        images = AutoImageProcessor.from_pretrained(folder, use_fast=False)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(f"{folder}: tokenizer or image processor cannot be read: {_first_line(error)}") from error
    template = tokenizer.chat_template
    for name, read in (("chat_template.jinja", str), ("chat_template.json", lambda t: json.loads(t)["chat_template"])):
        file = folder / name
        if not template and file.is_file():
            template = read(file.read_text(encoding="utf-8"))
    if not template:
        raise UsageError(f"{folder}: has no chat template")
    settings = folder / "processor_config.json"
    return Pair(images, tokenizer, family, template, json.loads(settings.read_text()) if settings.is_file() else {})


def _begins(tokenizer: Any, texts: Sequence[str]) -> bool:
    """Whether the template has written the token that the tokenizer would put in front."""
    first = tokenizer.bos_token
    return bool(first) and all(text.startswith(first) for text in texts)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

"""Chats with images as tensors, for any model that transformers loads as image-text-to-text.

The model's own processor is used where transformers can build it. Some processors cannot be built without
torchvision, since they also hold a video processor (Qwen2-VL and its successors, InternVL): there the image processor
and the tokenizer are called separately, and the image tokens are expanded here by the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jinja2 import TemplateError
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, ProcessorMixin

from colva.processing.control_tokens import break_tokens
from mmvm_data.core.errors import UsageError, first_line
from mmvm_data.io.json_files import read_json_object, read_text_file

Message = dict[str, Any]
_WORD_JOINER = "\u2060"
"""A character without width."""


class InputMaker(Protocol):
    """Makes the tensors of a batch.

    Attributes:
        tokenizer: pads on the left, so that generated text follows the prompt at once.
    """

    tokenizer: Any

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """Return the prompt of a chat, up to where the model's reply begins."""
        ...

    def tensors(self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]) -> Mapping[str, Any]:
        """Return the arguments of the model's forward as tensors; ``input_ids``, ``attention_mask``: [n, length]."""
        ...


class ProcessorInputs:
    """The processor of the model."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self.tokenizer = processor.tokenizer
        self._template = processor if processor.chat_template else processor.tokenizer
        self.has_template = bool(self._template.chat_template)

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """See ``InputMaker``."""
        image_token = getattr(self._processor, "image_token", None)
        return _render_chat(self._template, _hide_control_tokens(messages, self.tokenizer, image_token), None)

    def tensors(self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]) -> Mapping[str, Any]:
        """See ``InputMaker``."""
        special = {"add_special_tokens": False} if _starts_with_bos(self.tokenizer, texts) else {}
        rows = [list(row) for row in images]
        inputs: Mapping[str, Any] = self._processor(
            text=list(texts), images=rows, padding=True, return_tensors="pt", **special
        )
        return inputs


class SeparateInputs:
    """Image processor and tokenizer called separately, and the family's rule for image tokens.

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
        self._image_processor = image_processor
        self._expand = FAMILIES[family]
        self._template = template
        self._settings = settings

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """See ``InputMaker``."""
        return _render_chat(self.tokenizer, _hide_control_tokens(messages, self.tokenizer), self._template)

    def tensors(self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]) -> Mapping[str, Any]:
        """See ``InputMaker``."""
        flat_images = [image for row in images for image in row]
        token, replacements, pixels = self._expand(self._image_processor, self.tokenizer, flat_images, self._settings)
        remaining, expanded = iter(replacements), []
        for text, row in zip(texts, images, strict=True):
            pieces = text.split(token)
            if len(pieces) != len(row) + 1:
                raise UsageError(
                    f"the chat template has {len(pieces) - 1} image marks for {len(row)} images; "
                    "it does not belong to this model"
                )
            expanded.append("".join(piece + next(remaining) for piece in pieces[:-1]) + pieces[-1])
        special = {"add_special_tokens": False} if _starts_with_bos(self.tokenizer, expanded) else {}
        encoded = self.tokenizer(expanded, padding=True, return_tensors="pt", **special)
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], **pixels}


ExpandTokens = Callable[[Any, Any, list[Image.Image], Mapping[str, Any]], tuple[str, list[str], dict[str, Any]]]


def _expand_qwen(
    processor: Any, tokenizer: Any, images: list[Image.Image], settings: Mapping[str, Any]
) -> tuple[str, list[str], dict[str, Any]]:
    """One token for each merge_size x merge_size patches (Qwen2-VL, arXiv 2409.12191, section 2.1)."""
    features = processor(images=images, return_tensors="pt")
    token = getattr(tokenizer, "image_token", None) or "<|image_pad|>"
    counts = (features["image_grid_thw"].prod(dim=1) // processor.merge_size**2).tolist()
    pixels = {"pixel_values": features["pixel_values"], "image_grid_thw": features["image_grid_thw"]}
    return token, [token * count for count in counts], pixels


def _expand_internvl(
    processor: Any, tokenizer: Any, images: list[Image.Image], settings: Mapping[str, Any]
) -> tuple[str, list[str], dict[str, Any]]:
    """256 tokens (``image_seq_length``) for each tile, between the marks of an image's begin and end (InternVL in
    transformers)."""
    features = processor(images=images, crop_to_patches=True, return_tensors="pt")
    token, length = tokenizer.context_image_token, int(settings.get("image_seq_length", 256))
    begin, end = tokenizer.start_image_token, tokenizer.end_image_token
    tiles = [int(count) for count in features["num_patches"]]
    replacements = [f"{begin}{token * length * count}{end}" for count in tiles]
    return token, replacements, {"pixel_values": features["pixel_values"]}


FAMILIES: Mapping[str, ExpandTokens] = {
    "qwen2_vl": _expand_qwen,
    "qwen2_5_vl": _expand_qwen,
    "qwen3_vl": _expand_qwen,
    "qwen3_vl_moe": _expand_qwen,
    "internvl": _expand_internvl,
}
"""``model_type`` -> how its image tokens are expanded, for models whose processor cannot always be built."""


def open_input_maker(folder: Path, family: str) -> InputMaker:
    """Return the input maker of a model.

    Args:
        folder: of the model, with its tokenizer and image processor.
        family: ``model_type`` of its configuration.

    Raises:
        UsageError: the processor cannot be built, or there is no chat template.
    """
    inputs = _open_processor(folder) if family not in FAMILIES else _open_separately(folder, family)
    inputs.tokenizer.padding_side = "left"
    if inputs.tokenizer.pad_token is None:
        inputs.tokenizer.pad_token = inputs.tokenizer.eos_token
    return inputs


def _open_processor(folder: Path) -> InputMaker:
    processor: Any
    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    except (ImportError, TypeError, ValueError, OSError) as error:
        raise UsageError(f"{folder}: its processor cannot be built: {first_line(error)}") from error
    if not isinstance(processor, ProcessorMixin):  # a tokenizer alone
        raise UsageError(f"{folder}: has no processor of images and text (only a {type(processor).__name__})")
    inputs = ProcessorInputs(processor)
    if not inputs.has_template:
        raise UsageError(f"{folder}: has no chat template")
    return inputs


def _open_separately(folder: Path, family: str) -> InputMaker:
    try:
        images = AutoImageProcessor.from_pretrained(folder, use_fast=False, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(f"{folder}: tokenizer or image processor cannot be read: {first_line(error)}") from error
    template = tokenizer.chat_template
    if not template and (folder / "chat_template.jinja").is_file():
        template = read_text_file(folder / "chat_template.jinja")
    if not template and (folder / "chat_template.json").is_file():
        template = read_json_object(folder / "chat_template.json").get("chat_template")
    if not template:
        raise UsageError(f"{folder}: has no chat template")
    config = folder / "processor_config.json"
    settings = read_json_object(config) if config.is_file() else {}
    return SeparateInputs(images, tokenizer, family, template, settings)


def _hide_control_tokens(messages: Sequence[Message], tokenizer: Any, *image_tokens: str | None) -> list[Message]:
    """Return a chat whose text contains no token that controls the model: special ones, and those of images.

    A character without width is put into each, so that the tokenizer takes it for plain text.
    """
    added = tokenizer.added_tokens_decoder.values() if hasattr(tokenizer, "added_tokens_decoder") else ()
    tokens = {token.content for token in added if token.special} | {token for token in image_tokens if token}
    ordered = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)

    def hide(part: Mapping[str, Any]) -> dict[str, Any]:
        if part["type"] != "text":
            return dict(part)
        return {**part, "text": break_tokens(part["text"], ordered, _WORD_JOINER)}

    return [{**message, "content": [hide(part) for part in message["content"]]} for message in messages]


def _render_chat(renderer: Any, messages: Sequence[Message], template: str | None) -> str:
    """Return a chat in the words of a template, which transformers renders in a sandbox: it reaches no Python objects.

    Raises:
        UsageError: the template is broken, or tries to leave the sandbox.
    """
    chosen = {} if template is None else {"chat_template": template}
    try:
        return str(renderer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True, **chosen))
    except TemplateError as error:
        raise UsageError(f"the chat template of the model cannot be used: {first_line(error)}") from error


def _starts_with_bos(tokenizer: Any, texts: Sequence[str]) -> bool:
    """Return whether the template has written the token that the tokenizer would add in front."""
    token = tokenizer.bos_token
    return bool(token) and all(text.startswith(token) for text in texts)

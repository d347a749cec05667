"""Conversations to token ids, with placeholder tokens for images and objects and labels on assistant turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from colva.losses import IGNORE_INDEX
from colva.processing.chat_templates import ChatTemplate, Turn
from colva.processing.published_eval import INTERNVL, QWEN2_VL
from mmvm_data.cases import prompts
from mmvm_data.core.masks import area
from mmvm_data.core.types import Case

IMAGE = "<image>"
OBJECT = "<VPT_CONTEXT>"
STYLES = ("colva", INTERNVL, QWEN2_VL)


@dataclass(frozen=True)
class Encoding:
    """Token ids and labels of one conversation, int64 `[t]`; labels are -100 where a token is not a target."""

    ids: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer with placeholder tokens for images and objects.

    Attributes:
        tokenizer: a fast one, which reports the offsets of its tokens.
        image_wrap: text before an image's tokens, the token itself, and text after them.
    """

    tokenizer: PreTrainedTokenizerFast
    image_wrap: tuple[str, str, str]

    def __post_init__(self) -> None:
        if not self.tokenizer.is_fast:
            raise ValueError(
                f"{type(self.tokenizer).__name__} is a slow tokenizer; labels need a fast one (tokenizer.json)"
            )
        for token in (self.image_wrap[1], OBJECT):
            if self.token_id(token) is None:
                raise ValueError(f"the tokenizer has no single token {token!r}")

    def token_id(self, token: str) -> int | None:
        """Return the id of a token; None when the vocabulary has no such single token."""
        number = self.tokenizer.convert_tokens_to_ids(token)
        if number is None or (number == self.tokenizer.unk_token_id and token != self.tokenizer.unk_token):
            return None
        return int(number)

    @property
    def image_id(self) -> int:
        """Id of the image token."""
        return int(self.tokenizer.convert_tokens_to_ids(self.image_wrap[1]))

    @property
    def object_id(self) -> int:
        """Id of `<VPT_CONTEXT>`."""
        return int(self.tokenizer.convert_tokens_to_ids(OBJECT))

    def encode(
        self,
        turns: Sequence[Turn],
        template: ChatTemplate,
        image_tokens: Sequence[int],
        num_objects: int = 0,
        prompt: bool = False,
    ) -> Encoding:
        """Return a conversation as token ids, by one call of the tokenizer so that no boundary changes a token.

        Args:
            turns: each `<image>` is the next image, each `<VPT_CONTEXT>` the next object.
            template: the family's.
            image_tokens: number of tokens of each image.
            num_objects: number of objects.
            prompt: end with the start of an assistant turn, for generation.

        Raises:
            ValueError: another number of `<image>` or `<VPT_CONTEXT>` than of images or objects, or a turn that
                contains the family's own image token.
        """
        text, spans = template.render(list(turns), prompt)
        for token, count in ((IMAGE, len(image_tokens)), (OBJECT, num_objects)):
            if text.count(token) != count:
                raise ValueError(f"{text.count(token)} {token} in the conversation, but {count} given")
        if self.image_wrap[1] != IMAGE and self.image_wrap[1] in text:
            raise ValueError(f"{self.image_wrap[1]} in the text of a conversation: write {IMAGE} for an image")
        text, spans = self._wrap_images(text, spans)
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        ids = torch.tensor(encoded["input_ids"], dtype=torch.int64)
        offsets = torch.tensor(encoded["offset_mapping"], dtype=torch.int64).view(-1, 2)
        labels = torch.full_like(ids, IGNORE_INDEX)
        for start, end in spans:
            # every token that overlaps the assistant's text
            inside = (offsets[:, 1] > start) & (offsets[:, 0] < end) & (offsets[:, 1] > offsets[:, 0])
            labels = torch.where(inside, ids, labels)
        repeats = torch.ones_like(ids)
        repeats[ids == self.image_id] = torch.tensor(list(image_tokens), dtype=torch.int64)
        return Encoding(ids.repeat_interleave(repeats), labels.repeat_interleave(repeats))

    def _wrap_images(self, text: str, spans: list[tuple[int, int]]) -> tuple[str, list[tuple[int, int]]]:
        """Return the text with each `<image>` as the family writes it, one image token each, and the spans shifted."""
        wrapped = "".join(self.image_wrap)
        growth = len(wrapped) - len(IMAGE)

        def shift(offset: int) -> int:
            return offset + growth * text.count(IMAGE, 0, offset)

        return text.replace(IMAGE, wrapped), [(shift(start), shift(end)) for start, end in spans]

    def answer_ids(self, text: str, template: ChatTemplate) -> list[int]:
        """Return the ids of an answer as an assistant turn, its end mark last."""
        encoding = self.encode([Turn("user", "?"), Turn("assistant", text)], template, [])
        return encoding.labels[encoding.labels != IGNORE_INDEX].tolist()


def format_object_lines(case: Case, style: str = "colva") -> str:
    """Return the lines that name a case's objects, one `<VPT_CONTEXT>` each, candidates ordered by number.

    The published evaluation has no full stop after the line of the query.
    """
    _check_style(style)
    stop = "." if style == "colva" else ""
    lines = [
        f"Objects in Image-{k + 1}: <query object>{OBJECT}{stop}\n"
        for k in range(len(case.query))
        if is_query_visible(case, k)
    ]
    numbers = sorted(candidate.number for candidate in case.candidates)
    objects = ", ".join(f"<object-{number}>{OBJECT}" for number in numbers)
    return "".join(lines) + f"Objects in Image-{len(case.frames)}: {objects}.\n"


def is_query_visible(case: Case, position: int) -> bool:
    """Whether an image before the last shows the query; with three or more images one may not."""
    mask = case.query[position].mask
    return mask is None or area(mask) > 0


def format_image_lines(count: int) -> str:
    """Return `Image-1: <image>` and so on, a line each."""
    return "".join(f"Image-{k}: {IMAGE}\n" for k in range(1, count + 1))


def build_prompt_text(num_images: int, object_lines: str, question: str, style: str = "colva") -> str:
    """Return the user's message about images: their lines, those of the objects ("" for none), and the question.

    Args:
        num_images: two or more.
        object_lines: from `format_object_lines`.
        question: with its choices.
        style: `colva`, or a form of the published evaluation (`colva.processing.published_eval`).
    """
    _check_style(style)
    if style == QWEN2_VL:
        return "".join(f"Image-{k}: {IMAGE}" for k in range(1, num_images + 1)) + object_lines + question
    repeated = "".join(f"<Image-{k}>" for k in range(1, num_images + 1)) if style == INTERNVL else ""
    return format_image_lines(num_images) + object_lines + repeated + question


def build_case_text(case: Case, style: str = "colva", object_tokens: bool = True) -> str:
    """The user's message about a case: images, objects (if they are named by tokens), question and choices."""
    lines = format_object_lines(case, style) if object_tokens else ""
    return build_prompt_text(len(case.frames), lines, case.question + prompts.format_choices(case.options), style)


def _check_style(style: str) -> None:
    if style not in STYLES:
        raise ValueError(f"prompt style {style!r} is not one of {', '.join(STYLES)}")

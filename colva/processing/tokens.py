"""Conversations to token ids, with placeholder tokens for images and objects and labels on assistant turns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from colva.losses import IGNORE_INDEX
from colva.processing.chat_templates import ChatTemplate, Turn
from colva.processing.control_tokens import ESCAPE, ControlTokens, break_tokens, drop_reserved
from colva.processing.published_eval import INTERNVL, QWEN2_VL
from mmvm_data.cases import prompts
from mmvm_data.core.masks import area
from mmvm_data.core.types import Case

IMAGE = "<image>"
OBJECT = "<VPT_CONTEXT>"
STYLES = ("colva", INTERNVL, QWEN2_VL)
_PLACEHOLDER = re.compile(f"({IMAGE}|{OBJECT})")
_OBJECTS_ONLY = "Which object is the query object?\n"


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

        Control tokens in the text of a turn, such as `<|im_end|>` in a caption, are encoded as plain text.

        Args:
            turns: each `<image>` of a user's turn is the next image, each `<VPT_CONTEXT>` the next object; see
                `plain_text` for text in which they stand for themselves.
            template: the family's.
            image_tokens: number of tokens of each image.
            num_objects: number of objects.
            prompt: end with the start of an assistant turn, for generation.

        Raises:
            ValueError: another number of `<image>` or `<VPT_CONTEXT>` than of images or objects.
        """
        pieces = [self._split_turn(turn) for turn in turns]
        for token, mark, count in (
            (IMAGE, "".join(self.image_wrap), len(image_tokens)),
            (OBJECT, OBJECT, num_objects),
        ):
            marks = sum(piece == mark for turn in pieces for piece, is_data in turn if not is_data)
            if marks != count:
                raise ValueError(f"{marks} {token} in the conversation, but {count} given")
        token_ids, token_offsets, spans = self._tokenize(turns, pieces, template, prompt)
        ids = torch.tensor(token_ids, dtype=torch.int64)
        offsets = torch.tensor(token_offsets, dtype=torch.int64).view(-1, 2)
        labels = torch.full_like(ids, IGNORE_INDEX)
        for start, end in spans:
            # every token that overlaps the assistant's text
            inside = (offsets[:, 1] > start) & (offsets[:, 0] < end) & (offsets[:, 1] > offsets[:, 0])
            labels = torch.where(inside, ids, labels)
        repeats = torch.ones_like(ids)
        repeats[ids == self.image_id] = torch.tensor(list(image_tokens), dtype=torch.int64)
        return Encoding(ids.repeat_interleave(repeats), labels.repeat_interleave(repeats))

    def _tokenize(
        self, turns: Sequence[Turn], pieces: list[list[tuple[str, bool]]], template: ChatTemplate, prompt: bool
    ) -> tuple[list[int], list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the tokens of a conversation, the (start, end) of each, and those of the assistant's turns.

        Args:
            turns: whose roles count.
            pieces: the text of each turn, from `_split_turn`.
            template, prompt: see `encode`.
        """
        control = self._control_tokens
        has_control = any(control.occur_in(piece) for turn in pieces for piece, is_data in turn if is_data)
        rendered = []
        for turn, parts in zip(turns, pieces, strict=True):
            text = "".join(control.rename(part) if has_control and not is_data else part for part, is_data in parts)
            rendered.append(Turn(turn.role, text))
        if has_control:
            text, spans = control.rename_template(template).render(rendered, prompt)
            encoding = control.encode(text)
            return encoding.ids, encoding.offsets, spans
        text, spans = template.render(rendered, prompt)
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        return encoded["input_ids"], encoded["offset_mapping"], spans

    @cached_property
    def _control_tokens(self) -> ControlTokens:
        return ControlTokens(
            self.tokenizer, [token for token in (*self.image_wrap, OBJECT) if self.token_id(token) is not None]
        )

    def _split_turn(self, turn: Turn) -> list[tuple[str, bool]]:
        """Return the pieces of a turn, each with whether it is data. `<image>`, as the family writes it, and
        `<VPT_CONTEXT>` of a user's turn are not, all else is."""
        if turn.role != "user":
            return [(drop_reserved(turn.text), True)]
        pieces = _PLACEHOLDER.split(turn.text)
        marks = {IMAGE: "".join(self.image_wrap), OBJECT: OBJECT}
        return [
            (marks[piece], False) if number % 2 else (drop_reserved(piece), True) for number, piece in enumerate(pieces)
        ]

    def answer_ids(self, text: str, template: ChatTemplate) -> list[int]:
        """Return the ids of an answer as an assistant turn, its end mark last."""
        encoding = self.encode([Turn("user", "?"), Turn("assistant", text)], template, [])
        return encoding.labels[encoding.labels != IGNORE_INDEX].tolist()


def plain_text(text: str, *placeholders: str) -> str:
    """Return text for a user's turn in which placeholders, by default all, stand for themselves."""
    return break_tokens(drop_reserved(text), placeholders or (IMAGE, OBJECT), ESCAPE)


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
        question: with its choices; plain text, see `plain_text`.
        style: `colva`, or a form of the published evaluation (`colva.processing.published_eval`).
    """
    _check_style(style)
    question = plain_text(question)
    if style == QWEN2_VL:
        return "".join(f"Image-{k}: {IMAGE}" for k in range(1, num_images + 1)) + object_lines + question
    repeated = "".join(f"<Image-{k}>" for k in range(1, num_images + 1)) if style == INTERNVL else ""
    return format_image_lines(num_images) + object_lines + repeated + question


def build_case_text(case: Case, style: str = "colva", object_tokens: bool = True) -> str:
    """The user's message about a case: images, objects (if they are named by tokens), question and choices."""
    lines = format_object_lines(case, style) if object_tokens else ""
    return build_prompt_text(len(case.frames), lines, case.question + prompts.format_choices(case.options), style)


def build_object_text(case: Case) -> str:
    """The user's message about a case in which only its object tokens and the choices are given.

    Its lines are those of the whole question, without the images and without most of the wording: from such a short
    question a model from scratch learns sooner to compare object tokens.
    """
    return _OBJECTS_ONLY + format_object_lines(case) + prompts.format_choices(case.options)


def _check_style(style: str) -> None:
    if style not in STYLES:
        raise ValueError(f"prompt style {style!r} is not one of {', '.join(STYLES)}")

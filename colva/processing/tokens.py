"""Conversations to token ids: pictures and objects in their places, and labels on what the assistant says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from colva.losses import IGNORE_INDEX
from colva.processing.chat_templates import ChatTemplate, Turn
from mmvm_data.core.masks import area
from mmvm_data.core.types import Case

IMAGE = "<image>"
OBJECT = "<VPT_CONTEXT>"


@dataclass(frozen=True)
class Encoding:
    """One conversation: `ids` and `labels` `[t]` int64 (-100 where nothing is learnt)."""

    ids: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer with the tokens that stand for pictures and objects.

    Attributes:
        tokenizer: a fast one; it must know where in the text each token lies.
        wrap: text before a picture's tokens, the token itself, and text after them.
    """

    tokenizer: PreTrainedTokenizerFast
    wrap: tuple[str, str, str]

    def __post_init__(self) -> None:
        if not self.tokenizer.is_fast:
            raise ValueError(
                f"{type(self.tokenizer).__name__} is a slow tokenizer; labels need a fast one (tokenizer.json)"
            )
        for token in (self.wrap[1], OBJECT):
            if self.id_of(token) is None:
                raise ValueError(f"the tokenizer has no single token {token!r}")

    def id_of(self, token: str) -> int | None:
        """A token's number; None when the vocabulary has no such single token."""
        found = self.tokenizer.convert_tokens_to_ids(token)
        if found is None or (found == self.tokenizer.unk_token_id and token != self.tokenizer.unk_token):
            return None
        return int(found)

    @property
    def image_id(self) -> int:
        """Number of the image token."""
        return int(self.tokenizer.convert_tokens_to_ids(self.wrap[1]))

    @property
    def object_id(self) -> int:
        """Number of `<VPT_CONTEXT>`."""
        return int(self.tokenizer.convert_tokens_to_ids(OBJECT))

    def encode(
        self,
        turns: Sequence[Turn],
        template: ChatTemplate,
        image_tokens: Sequence[int],
        objects: int = 0,
        prompt: bool = False,
    ) -> Encoding:
        """Encode a conversation in one pass of the tokenizer, so that no piece boundary changes a token.

        Args:
            turns: what is said; each `<image>` is the next picture, each `<VPT_CONTEXT>` the next object.
            template: the family's.
            image_tokens: number of tokens of each picture.
            objects: number of objects that there are.
            prompt: leave the assistant to go on.

        Raises:
            ValueError: the pictures or objects named are not as many as given, or a turn holds an image token of the
                family in plain text.
        """
        text, said = template.render(list(turns), prompt)
        for name, given in ((IMAGE, len(image_tokens)), (OBJECT, objects)):
            if text.count(name) != given:
                raise ValueError(f"{text.count(name)} {name} in the conversation, but {given} given")
        if self.wrap[1] != IMAGE and self.wrap[1] in text:
            raise ValueError(f"{self.wrap[1]} in the text of a conversation: write {IMAGE} for a picture")
        text, said = self._wrapped(text, said)
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        ids = torch.tensor(encoded["input_ids"], dtype=torch.int64)
        offsets = torch.tensor(encoded["offset_mapping"], dtype=torch.int64).view(-1, 2)
        labels = torch.full_like(ids, IGNORE_INDEX)
        for start, end in said:
            # every token that touches the assistant's words, except one that only ends where they begin
            inside = (offsets[:, 1] > start) & (offsets[:, 0] < end) & (offsets[:, 1] > offsets[:, 0])
            labels = torch.where(inside, ids, labels)
        repeats = torch.ones_like(ids)
        repeats[ids == self.image_id] = torch.tensor(list(image_tokens), dtype=torch.int64)
        return Encoding(ids.repeat_interleave(repeats), labels.repeat_interleave(repeats))

    def _wrapped(self, text: str, said: list[tuple[int, int]]) -> tuple[str, list[tuple[int, int]]]:
        """Each `<image>` as the family writes it, with one image token; the spans of the assistant moved along."""
        pieces = text.split(IMAGE)
        whole = "".join(self.wrap)
        grown = len(whole) - len(IMAGE)

        def moved(at: int) -> int:
            return at + grown * text.count(IMAGE, 0, at)

        return whole.join(pieces), [(moved(start), moved(end)) for start, end in said]

    def answer_ids(self, text: str, template: ChatTemplate) -> list[int]:
        """The tokens of an answer as the assistant says it, its end mark last."""
        encoding = self.encode([Turn("user", "?"), Turn("assistant", text)], template, [])
        return encoding.labels[encoding.labels != IGNORE_INDEX].tolist()


def format_object_lines(case: Case, style: str = "colva") -> str:
    """The lines that name a case's objects, one `<VPT_CONTEXT>` each, candidates in the order of their numbers.

    `published-eval` is the text of the released checkpoints' evaluation: no full stop after the line of the query.
    """
    stop = {"colva": ".", "published-eval": ""}
    if style not in stop:
        raise ValueError(f"prompt style {style!r} is not one of {', '.join(stop)}")
    lines = [
        f"Objects in Image-{k + 1}: <query object>{OBJECT}{stop[style]}\n"
        for k in range(len(case.query))
        if is_query_visible(case, k)
    ]
    marked = sorted(candidate.number for candidate in case.candidates)
    listed = ", ".join(f"<object-{number}>{OBJECT}" for number in marked)
    return "".join(lines) + f"Objects in Image-{len(case.frames)}: {listed}.\n"


def is_query_visible(case: Case, position: int) -> bool:
    """Whether the query is there in a picture before the last; of three or more it may be missing in one."""
    mask = case.query[position].mask
    return mask is None or area(mask) > 0


def format_image_lines(count: int) -> str:
    """`Image-1: <image>` and so on, a line each."""
    return "".join(f"Image-{k}: {IMAGE}\n" for k in range(1, count + 1))

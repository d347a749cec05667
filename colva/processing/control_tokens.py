"""A tokenizer that reads control tokens in text as plain text.

A tokenizer splits `<|im_end|>` off wherever it stands, also in a caption or a question. Here each control token has
another name, made of characters that no text contains, and the chat template is written with these names. One call
then encodes a conversation as the original does, but knows `<|im_end|>` in data as text only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerFast

from colva.processing.chat_templates import TEMPLATES, ChatTemplate

ESCAPE: Final = "\ufdd0"
_OPEN, _CLOSE = "\ufdd1", "\ufdd2"
_RESERVED = re.compile(f"[{ESCAPE}{_OPEN}{_CLOSE}]")
"""Noncharacters of Unicode, which are for use within a program and in no text."""
_TEMPLATE_TEXT: Final = "".join("".join(t.system_marks + t.user_marks + t.assistant_marks) for t in TEMPLATES.values())


def drop_reserved(text: str) -> str:
    """Return text without the characters that mark something here."""
    return _RESERVED.sub("", text)


def break_tokens(text: str, tokens: Iterable[str], mark: str) -> str:
    """Return text in which none of the tokens occurs: a mark stands behind the first character of each that did."""
    for token in tokens:
        text = text.replace(token, token[0] + mark + token[1:])
    return text


class ControlTokens:
    """The control tokens of a tokenizer: those it calls special, those of chat templates, and placeholders.

    Args:
        tokenizer: the model's.
        placeholders: further tokens that stand for something in the model's input.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, placeholders: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        tokens = {token.content for token in added if token.special or token.content in _TEMPLATE_TEXT}
        names = sorted({*tokens, *placeholders} - {""}, key=lambda token: (-len(token), token))
        self._names = {token: f"{_OPEN}{number}{_CLOSE}" for number, token in enumerate(names)}
        self._pattern = re.compile("|".join(map(re.escape, names)))
        self._templates: dict[ChatTemplate, ChatTemplate] = {}
        self._renamed: Tokenizer | None = None

    def occur_in(self, text: str) -> bool:
        """Return whether text contains a control token."""
        return self._pattern.search(text) is not None

    def rename(self, text: str) -> str:
        """Return text with the control tokens by their other names."""
        return self._pattern.sub(lambda match: self._names[match[0]], text)

    def rename_template(self, template: ChatTemplate) -> ChatTemplate:
        """Return a chat template with the control tokens by their other names."""
        if template not in self._templates:

            def pair(marks: tuple[str, str]) -> tuple[str, str]:
                return self.rename(marks[0]), self.rename(marks[1])

            self._templates[template] = replace(
                template,
                system_marks=pair(template.system_marks),
                user_marks=pair(template.user_marks),
                assistant_marks=pair(template.assistant_marks),
                lead=self.rename(template.lead),
                after_assistant=self.rename(template.after_assistant),
            )
        return self._templates[template]

    def encode(self, text: str) -> Encoding:
        """Return the tokens of text in which control tokens have their other names.

        Raises:
            ValueError: the tokenizer cannot be built with other names.
        """
        if self._renamed is None:
            self._renamed = self._build()
        return self._renamed.encode(text)

    def _build(self) -> Tokenizer:
        content = json.loads(self._tokenizer.backend_tokenizer.to_str())
        unknown = content["model"].get("unk_token")
        content["model"]["unk_token"] = self._names.get(unknown, unknown)
        vocabulary = content["model"].get("vocab")
        if isinstance(vocabulary, dict):
            content["model"]["vocab"] = {self._names.get(token, token): number for token, number in vocabulary.items()}
        elif isinstance(vocabulary, list):
            content["model"]["vocab"] = [[self._names.get(token, token), score] for token, score in vocabulary]
        added: list[dict[str, Any]] = content.get("added_tokens") or []
        for token in added:
            token["content"] = self._names.get(token["content"], token["content"])
        contents = {token["content"] for token in added}
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for token, name in self._names.items():
            if name not in contents:  # of the vocabulary alone
                number = self._tokenizer.convert_tokens_to_ids(token)
                added.append({"id": number, "content": name, **flags})
        content["added_tokens"] = added
        content["truncation"] = content["padding"] = None
        renamed = Tokenizer.from_str(json.dumps(content))
        for token, name in self._names.items():
            if renamed.token_to_id(name) != self._tokenizer.convert_tokens_to_ids(token):
                raise ValueError(f"the tokenizer cannot read {token!r} in a text as plain text")
        return renamed

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_renamed": None}  # built again where it is needed, rather than sent

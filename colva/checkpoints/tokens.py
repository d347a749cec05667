"""Tokenizers of published folders, with the tokens that CoLVA needs, and without remote code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import transformers
from transformers import PreTrainedTokenizerFast

from colva.checkpoints.store import read_json
from colva.processing.tokens import OBJECT
from mmvm_data.core.errors import InputError
from mmvm_data.io.files import path_kind

FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
# of text models that came with a tokenizer of their own code, which is SentencePiece as Llama's
_LIKE_LLAMA: Final = {"InternLM2Tokenizer", "InternLM2TokenizerFast", "InternLMTokenizer"}


def has_tokenizer(folder: Path) -> bool:
    """Whether there is anything to make a tokenizer of."""
    return any(path_kind(folder / name) == "file" for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a folder.

    Raises:
        InputError: none, one of a class that transformers does not have, or one that comes out with another number
            for an added token than the folder says.
    """
    settings = folder / "tokenizer_config.json"
    config = read_json(settings) if path_kind(settings) == "file" else {}
    name = config.get("tokenizer_class") or "PreTrainedTokenizerFast"
    if name in _LIKE_LLAMA:
        name = "LlamaTokenizerFast"
    found: Any = getattr(transformers, name.removesuffix("Fast") + "Fast", None)
    if name in ("PreTrainedTokenizer", "PreTrainedTokenizerFast") or (found is None and has_file(folder)):
        found = PreTrainedTokenizerFast
    if not (isinstance(found, type) and issubclass(found, PreTrainedTokenizerFast)):
        raise InputError(settings, f"expected a tokenizer that transformers has, found {name!r}", "tokenizer_class")
    reader: Any = found
    given = {"legacy": False} if config.get("tokenizer_class") in _LIKE_LLAMA else {}
    try:
        tokenizer = reader.from_pretrained(folder, local_files_only=True, **given)
    except (OSError, ValueError, ImportError, TypeError) as error:
        raise InputError(folder, f"its tokenizer cannot be made: {str(error).splitlines()[0]}") from error
    if given and hasattr(tokenizer._tokenizer.pre_tokenizer, "prepend_scheme"):
        tokenizer._tokenizer.pre_tokenizer.prepend_scheme = "never"  # InternLM2 puts no space before a text
    _check_added(tokenizer, config, settings)
    return tokenizer


def has_file(folder: Path) -> bool:
    """Whether the folder has a `tokenizer.json`, which needs no class of its own."""
    return path_kind(folder / "tokenizer.json") == "file"


def _check_added(tokenizer: PreTrainedTokenizerFast, config: dict[str, Any], file: Path) -> None:
    listed = config.get("added_tokens_decoder") or {}
    for number, facts in listed.items():
        text = facts.get("content") if isinstance(facts, dict) else None
        found = tokenizer.convert_tokens_to_ids(text) if isinstance(text, str) else None
        if found != int(number):
            raise InputError(file, f"expected {text!r} to be token {number}, found {found}", "added_tokens_decoder")


def with_object_token(tokenizer: PreTrainedTokenizerFast) -> tuple[int, bool]:
    """The number of `<VPT_CONTEXT>`, and whether it had to be added (as the last one, a special token)."""
    added = tokenizer.add_tokens([OBJECT], special_tokens=True)
    return int(tokenizer.convert_tokens_to_ids(OBJECT)), bool(added)


def token_id(tokenizer: PreTrainedTokenizerFast, text: str) -> int | None:
    """The number of a token, or None when the vocabulary has no such single one."""
    return tokenizer.get_vocab().get(text)


def copy_tokenizer(source: Path, destination: Path) -> None:
    """The tokenizer's files as they are."""
    for name in FILES:
        if path_kind(source / name) == "file":
            shutil.copyfile(source / name, destination / name)

"""Tokenizers of published folders, with the tokens that CoLVA needs, and without remote code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import transformers
from transformers import PreTrainedTokenizerFast

from colva.processing.tokens import OBJECT
from mmvm_data.core.errors import InputError, first_line
from mmvm_data.io.files import path_kind
from mmvm_data.io.json_files import read_json_object

TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
# tokenizers with remote code that are SentencePiece as Llama's
_SENTENCEPIECE_CLASSES: Final = {"InternLM2Tokenizer", "InternLM2TokenizerFast", "InternLMTokenizer"}


_DATA_ERRORS = (OSError, ValueError, ImportError, TypeError, AttributeError, KeyError, IndexError)
"""What transformers raises for files of a tokenizer whose values are of other types than it expects."""


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder has the files of a tokenizer."""
    return any(path_kind(folder / name) == "file" for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return the fast tokenizer of a folder.

    Raises:
        InputError: there is none, its class is not in transformers, or an added token has another id than the folder
            says.
    """
    file = folder / "tokenizer_config.json"
    config = read_json_object(file) if path_kind(file) == "file" else {}
    name = config.get("tokenizer_class") or "PreTrainedTokenizerFast"
    if not isinstance(name, str):
        raise InputError(file, f"expected the name of a class, found {name!r:.40}", "tokenizer_class")
    if name in _SENTENCEPIECE_CLASSES:
        name = "LlamaTokenizerFast"
    tokenizer_class: Any = getattr(transformers, name.removesuffix("Fast") + "Fast", None)
    if name in ("PreTrainedTokenizer", "PreTrainedTokenizerFast") or (
        tokenizer_class is None and has_tokenizer_json(folder)
    ):
        tokenizer_class = PreTrainedTokenizerFast
    if not (isinstance(tokenizer_class, type) and issubclass(tokenizer_class, PreTrainedTokenizerFast)):
        raise InputError(file, f"expected a tokenizer that transformers has, found {name!r}", "tokenizer_class")
    loader: Any = tokenizer_class
    options = {"legacy": False} if config.get("tokenizer_class") in _SENTENCEPIECE_CLASSES else {}
    try:
        tokenizer = loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except _DATA_ERRORS as error:
        raise InputError(folder, f"its tokenizer cannot be loaded: {first_line(error)}") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        # the tokenizers library raises this very class for a tokenizer.json that it cannot read
        raise InputError(folder / "tokenizer.json", f"cannot be loaded: {first_line(error)}") from error
    if options and hasattr(tokenizer._tokenizer.pre_tokenizer, "prepend_scheme"):
        tokenizer._tokenizer.pre_tokenizer.prepend_scheme = "never"  # InternLM2 puts no space before a text
    _check_added(tokenizer, config, file)
    if isinstance(tokenizer.model_max_length, bool) or not isinstance(tokenizer.model_max_length, int | float):
        found = f"{tokenizer.model_max_length!r:.40}"
        raise InputError(file, f"expected a number of tokens, found {found}", "model_max_length")
    return tokenizer


def has_tokenizer_json(folder: Path) -> bool:
    """Whether the folder has a `tokenizer.json`, which needs no tokenizer class."""
    return path_kind(folder / "tokenizer.json") == "file"


def _check_added(tokenizer: PreTrainedTokenizerFast, config: dict[str, Any], file: Path) -> None:
    entries = config.get("added_tokens_decoder") or {}
    for number, entry in entries.items():
        text = entry.get("content") if isinstance(entry, dict) else None
        actual = tokenizer.convert_tokens_to_ids(text) if isinstance(text, str) else None
        if actual != int(number):
            raise InputError(file, f"expected {text!r} to be token {number}, found {actual}", "added_tokens_decoder")


def add_object_token(tokenizer: PreTrainedTokenizerFast) -> tuple[int, bool]:
    """Return the id of `<VPT_CONTEXT>`, and whether it was added (as the last token, a special one)."""
    added = tokenizer.add_tokens([OBJECT], special_tokens=True)
    return int(tokenizer.convert_tokens_to_ids(OBJECT)), bool(added)


def token_id(tokenizer: PreTrainedTokenizerFast, text: str) -> int | None:
    """Return the id of a token; None when the vocabulary has no such single token."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary.get(text)


def copy_tokenizer(source: Path, destination: Path) -> None:
    """Copy the tokenizer's files unchanged."""
    for name in TOKENIZER_FILES:
        if path_kind(source / name) == "file":
            shutil.copyfile(source / name, destination / name)

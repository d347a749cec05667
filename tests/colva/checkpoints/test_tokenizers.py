"""Tokenizers of published folders without their remote code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import LlamaTokenizerFast, Qwen2TokenizerFast

from colva.checkpoints.init_tiny import FAMILIES, build_tiny_tokenizer
from colva.checkpoints.tokenizers import add_object_token, read_tokenizer, token_id
from mmvm_data.cases import prompts
from mmvm_data.core.errors import InputError


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model as InternLM2's: byte fallback, no space put before a text."""
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    folder = tmp_path_factory.mktemp("pieces")
    trainer.train(
        sentence_iterator=iter([prompts.format_question(), "Objects in Image-1: the same object."] * 5),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=340,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    return folder


def folder(pieces: Path, place: Path, name: str, added: int = 340) -> Path:
    place.mkdir()
    (place / "tokenizer.model").write_bytes((pieces / "tokenizer.model").read_bytes())
    tokens = ("<unk>", "<s>", "</s>")
    listed = {str(n): token for n, token in enumerate(tokens)} | {
        str(added): "<|im_end|>",
        str(added + 1): "<IMG_CONTEXT>",
    }
    decoder = {
        number: {"content": token, "special": True, "normalized": False, "lstrip": False, "rstrip": False}
        for number, token in listed.items()
    }
    config = {
        "tokenizer_class": name,
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "added_tokens_decoder": decoder,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "</s>",
    }
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    return place


def test_internlm2(pieces: Path, tmp_path: Path) -> None:
    """Ids are SentencePiece's own, and its remote code (which is not there) is not asked for."""
    import sentencepiece

    tokenizer = read_tokenizer(folder(pieces, tmp_path / "x", "InternLM2Tokenizer"))
    assert isinstance(tokenizer, LlamaTokenizerFast)
    own = sentencepiece.SentencePieceProcessor(model_file=str(pieces / "tokenizer.model"))
    for text in (prompts.format_question(), "the same  object\n 東京", "A. 1"):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == own.encode(text)
    ids = tokenizer("object<IMG_CONTEXT>object<|im_end|>")["input_ids"]
    object_ids = own.encode("object")
    assert ids == [1, *object_ids, 341, *object_ids, 340]
    assert token_id(tokenizer, "<IMG_CONTEXT>") == 341 and token_id(tokenizer, "<nothing>") is None
    assert add_object_token(tokenizer) == (342, True)
    assert add_object_token(tokenizer) == (342, False)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = read_tokenizer(tmp_path / "saved")
    assert again("the same object<VPT_CONTEXT>")["input_ids"] == tokenizer("the same object<VPT_CONTEXT>")["input_ids"]


def test_added_token_with_another_number(pieces: Path, tmp_path: Path) -> None:
    place = folder(pieces, tmp_path / "x", "InternLM2Tokenizer", added=400)
    with pytest.raises(InputError, match=r"added_tokens_decoder: expected '<\|im_end\|>' to be token 400, found 340"):
        read_tokenizer(place)


def test_class_that_transformers_lacks(pieces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a tokenizer that transformers has, found 'Remote"):
        read_tokenizer(folder(pieces, tmp_path / "x", "RemoteTokenizer"))


def test_qwen2(tmp_path: Path) -> None:
    tokenizer = build_tiny_tokenizer(FAMILIES["internvl2_5-qwen2"])
    tokenizer.save_pretrained(tmp_path)
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"tokenizer_class": "Qwen2Tokenizer"}))
    found = read_tokenizer(tmp_path)
    assert isinstance(found, Qwen2TokenizerFast)
    assert found(prompts.format_question())["input_ids"] == tokenizer(prompts.format_question())["input_ids"]

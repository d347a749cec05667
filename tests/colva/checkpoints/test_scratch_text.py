"""The small language model that is trained from scratch."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2Config

from colva.checkpoints.scratch_text import TEMPLATE, build_scratch_text, build_sentence_tokenizer
from colva.processing.chat_templates import TEMPLATES, Turn
from mmvm_data.cases import prompts


def test_each_line_of_a_question_is_one_token_and_the_answer_another() -> None:
    tokenizer = build_sentence_tokenizer()
    question = "Objects in Image-2: <object-1><VPT_CONTEXT>, <object-2><VPT_CONTEXT>.\n" + prompts.format_question(
        "mask"
    )
    choices = prompts.format_choices(prompts.build_options(range(1, 12), 1))
    text, spans = TEMPLATES[TEMPLATE].render([Turn("user", question + choices), Turn("assistant", "B")])
    encoded = tokenizer(text, return_offsets_mapping=True)
    tokens = [tokenizer.decode([number]) for number in encoded["input_ids"]]
    assert tokenizer.decode(encoded["input_ids"]) == text
    assert tokens[:2] == ["<|im_start|>", "user\n"]
    start = tokens.index("<VPT_CONTEXT>")
    assert tokens[start : start + 4] == ["<VPT_CONTEXT>", ", <object-2>", "<VPT_CONTEXT>", "."]
    assert tokens[start + 5 : start + 8] == ["\nA. 1", "\nB. 2", "\nC. 3"] and "\nK. 11" in tokens
    # the answer is a token of its own, whatever stands before it
    assert spans[0][0] in {start for start, _ in encoded["offset_mapping"]}
    assert tokens[tokens.index("assistant\n") + 1 :][:2] == ["B", "<|im_end|>"]


@pytest.mark.parametrize("text", ["Cześć, świecie! 中文 \U0001f600", "A\tB\r\n<|im_end|", ""])
def test_any_text_survives(text: str) -> None:
    tokenizer = build_sentence_tokenizer()
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_same_seed_same_values_and_head_apart_from_embeddings() -> None:
    first, second, other = (build_scratch_text(seed) for seed in (0, 0, 1))
    assert isinstance(first.config, Qwen2Config)
    assert first.head is not None and second.head is not None and other.head is not None
    assert all(torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items())
    assert torch.equal(first.head, second.head) and not torch.equal(first.head, other.head)
    embeddings = first.tensors["embed_tokens.weight"]
    assert float(embeddings.std()) == pytest.approx(1.0, rel=0.02)
    assert float(first.head.std()) == pytest.approx(first.config.hidden_size**-0.5, rel=0.02)
    assert not torch.equal(embeddings, first.head)

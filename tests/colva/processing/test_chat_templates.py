from __future__ import annotations

import pytest

from colva.processing.chat_templates import TEMPLATES, Turn, get_template

TURNS = [Turn("user", "one?"), Turn("assistant", "A"), Turn("user", "why?"), Turn("assistant", "It is red.")]


@pytest.mark.parametrize("name", TEMPLATES)
def test_spans_hold_what_the_assistant_says_and_its_end_mark(name: str) -> None:
    chosen = get_template(name)
    text, spans = chosen.render(TURNS)
    assert [text[a:b] for a, b in spans] == [chosen.lead + words + chosen.end for words in ("A", "It is red.")]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_prompt_is_where_the_assistant_begins(name: str) -> None:
    whole, spans = get_template(name).render(TURNS[:2])
    prompt, none = get_template(name).render(TURNS[:1], prompt=True)
    assert not none
    assert prompt == whole[: spans[0][0]]


def test_texts_are_the_published_ones() -> None:
    short = [Turn("system", "S"), Turn("user", "Q"), Turn("assistant", "A"), Turn("user", "R")]
    rendered = {name: get_template(name).render(short, prompt=True)[0] for name in TEMPLATES}
    assert (
        rendered["phi3-chat"]
        == "<|system|>\nS<|end|><|user|>\nQ<|end|><|assistant|>\nA<|end|><|user|>\nR<|end|><|assistant|>\n"
    )
    assert rendered["internvl2_5"] == rendered["qwen2-vl"] == rendered["qwen3-vl"] == rendered["smollm2"]
    assert rendered["qwen2-vl"] == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n"
    )
    assert rendered["internlm2-chat"] == rendered["qwen2-vl"].replace("<|im_end|>\n", "<|im_end|>")
    assert rendered["llava-v1"] == "S USER: Q ASSISTANT: A</s>USER: R ASSISTANT:"


def test_no_system_text_leaves_its_marks_out() -> None:
    assert get_template("qwen3-vl").render([Turn("user", "Q")])[0] == "<|im_start|>user\nQ<|im_end|>\n"
    assert (
        get_template("qwen2-vl").render([Turn("system", ""), Turn("user", "Q")])[0] == "<|im_start|>user\nQ<|im_end|>\n"
    )


def test_turns_in_disorder_are_named() -> None:
    with pytest.raises(ValueError, match="turn 0: 'assistant', expected 'user'"):
        get_template("phi3-chat").render([Turn("assistant", "A")])
    with pytest.raises(ValueError, match="must end with a user turn"):
        get_template("phi3-chat").render(TURNS, prompt=True)
    with pytest.raises(ValueError, match="'phi3' is not one of phi3-chat"):
        get_template("phi3")

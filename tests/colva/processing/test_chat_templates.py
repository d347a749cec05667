from __future__ import annotations

import pytest

from colva.processing.chat_templates import TEMPLATES, ChatTemplate, Turn, _chatml, get_template

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


def test_default_system_texts_and_ends() -> None:
    turns = [Turn("user", "Q"), Turn("assistant", "A"), Turn("user", "R"), Turn("assistant", "B")]
    internvl2 = (
        "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"  # noqa: RUF001
    )
    internvl25 = (
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"  # noqa: RUF001
    )
    vicuna = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    smollm = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

    def chatml(system: str, between: str) -> str:
        says = [("system", system), ("user", "Q"), ("assistant", "A"), ("user", "R"), ("assistant", "B")]
        return "".join(f"<|im_start|>{role}\n{text}<|im_end|>{between}" for role, text in says if text)

    expected = {
        "phi3-chat": f"<|system|>\n{internvl2}<|end|><|user|>\nQ<|end|><|assistant|>\nA<|end|>"
        "<|user|>\nR<|end|><|assistant|>\nB<|end|>",
        "internlm2-chat": chatml(internvl2, ""),
        "Hermes-2": chatml(internvl2, ""),
        "internvl2_5": chatml(internvl25, "\n"),
        "qwen2-vl": chatml("You are a helpful assistant.", "\n"),
        "qwen3-vl": chatml("", "\n"),
        "smollm2": chatml(smollm, "\n"),
        "llava-v1": f"{vicuna} USER: Q ASSISTANT: A</s>USER: R ASSISTANT: B</s>",
    }
    assert {name: get_template(name).render(turns)[0] for name in TEMPLATES} == expected
    ends = {name: get_template(name).end for name in TEMPLATES}
    assert ends == dict.fromkeys(TEMPLATES, "<|im_end|>") | {"phi3-chat": "<|end|>", "llava-v1": "</s>"}


@pytest.mark.parametrize(
    ("turns", "prompt", "message"),
    [
        ([Turn("user", "Q"), Turn("user", "R")], False, "turn 1: 'user', expected 'assistant'"),
        ([Turn("system", "S"), Turn("assistant", "A")], False, "turn 0: 'assistant', expected 'user'"),
        ([Turn("user", "Q"), Turn("system", "S")], False, "turn 1: 'system', expected 'assistant'"),
        ([], True, "a prompt must end with a user turn"),
        ([Turn("system", "S")], True, "a prompt must end with a user turn"),
    ],
)
def test_messages_about_turns(turns: list[Turn], prompt: bool, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        get_template("qwen2-vl").render(turns, prompt)
    assert str(caught.value) == message


def test_message_about_an_unknown_template() -> None:
    with pytest.raises(ValueError) as caught:
        get_template("x")
    names = "phi3-chat, internlm2-chat, Hermes-2, internvl2_5, qwen2-vl, qwen3-vl, smollm2, llava-v1"
    assert str(caught.value) == f"chat template 'x' is not one of {names}"
    assert get_template("qwen3-vl").render([]) == ("", [])


def test_chatml_of_another_system_text() -> None:
    expected = ChatTemplate(
        "S",
        ("<|im_start|>system\n", "<|im_end|>-"),
        ("<|im_start|>user\n", "<|im_end|>-"),
        ("<|im_start|>assistant\n", "<|im_end|>"),
        after_assistant="-",
    )
    assert _chatml("S", "-") == expected

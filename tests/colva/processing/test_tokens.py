from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colva.losses import IGNORE_INDEX
from colva.processing.chat_templates import TEMPLATES, Turn, get_template
from colva.processing.tokens import OBJECT, Vocabulary, format_image_lines, format_object_lines
from tests.builds import make_case
from tests.toys import tokenizer

WRAP = ("<img>", "<IMG_CONTEXT>", "</img>")
WORDS = Vocabulary(tokenizer(*WRAP), WRAP)
# anything but surrogates, and the marks of templates themselves
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<|"), max_size=40)


@pytest.mark.parametrize("name", TEMPLATES)
@given(st.lists(texts, min_size=1, max_size=3), texts, st.integers(0, 3))
def test_labels_are_what_the_assistant_says(name: str, answers: list[str], question: str, pictures: int) -> None:
    turns = []
    for number, answer in enumerate(answers):
        lines = format_image_lines(pictures) + OBJECT if number == 0 else ""
        turns += [Turn("user", lines + question), Turn("assistant", answer)]
    chosen = get_template(name)
    encoding = WORDS.encode(turns, chosen, [3, 5, 7][:pictures], 1)
    is_target = encoding.labels != IGNORE_INDEX
    assert torch.equal(encoding.ids[is_target], encoding.labels[is_target])
    text = WORDS.tokenizer.decode(encoding.labels[is_target], skip_special_tokens=False)
    assert text == "".join(chosen.lead + answer + chosen.end for answer in answers)


def test_images_and_objects_stand_where_the_text_says() -> None:
    turns = [Turn("user", f"{format_image_lines(2)}a{OBJECT} b{OBJECT}?")]
    encoding = WORDS.encode(turns, get_template("qwen2-vl"), [2, 4], 2, prompt=True)
    text = WORDS.tokenizer.decode(encoding.ids, skip_special_tokens=False)
    image = "<IMG_CONTEXT>"
    assert f"Image-1: <img>{image * 2}</img>\nImage-2: <img>{image * 4}</img>\na{OBJECT} b{OBJECT}?" in text
    assert text.endswith("<|im_start|>assistant\n")
    assert (encoding.labels == IGNORE_INDEX).all()


def test_counts_that_do_not_agree_are_named() -> None:
    turns = [Turn("user", f"<image> {OBJECT}{OBJECT}{OBJECT}")]
    with pytest.raises(ValueError, match=r"3 <VPT_CONTEXT> in the conversation, but 2 given"):
        WORDS.encode(turns, get_template("qwen2-vl"), [2], 2)
    with pytest.raises(ValueError, match=r"1 <image> in the conversation, but 0 given"):
        WORDS.encode(turns, get_template("qwen2-vl"), [], 3)
    with pytest.raises(ValueError, match=r"<IMG_CONTEXT> in the text of a conversation: write <image>"):
        WORDS.encode([Turn("user", "<IMG_CONTEXT>")], get_template("qwen2-vl"), [])


def test_a_tokenizer_without_the_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="no single token '<image_pad>'"):
        Vocabulary(tokenizer(), ("", "<image_pad>", ""))


def test_answers_as_tokens() -> None:
    end = WORDS.token_id("<|im_end|>")
    assert WORDS.answer_ids("B", get_template("qwen2-vl")) == [*WORDS.tokenizer("B")["input_ids"], end]


def test_object_lines_follow_the_candidates_numbers() -> None:
    case = make_case(0)
    numbers = sorted(one.number for one in case.candidates)
    listed = ", ".join(f"<object-{number}>{OBJECT}" for number in numbers)
    head = f"Objects in Image-1: <query object>{OBJECT}"
    assert format_object_lines(case) == f"{head}.\nObjects in Image-2: {listed}.\n"
    assert format_object_lines(case, "published-eval") == f"{head}\nObjects in Image-2: {listed}.\n"
    backwards = case.model_copy(update={"candidates": tuple(reversed(case.candidates))})
    assert format_object_lines(backwards) == format_object_lines(case)
    with pytest.raises(ValueError, match="'mine' is not one of colva, published-eval"):
        format_object_lines(case, "mine")

"""The words of a case."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmvm_data.cases import prompts

OFFICIAL = (
    "Here are two images. In the second image, I have marked several visual objects with their contours in different "
    "colors, and each is identified by a white numeric ID against a background that matches the contour's color. Could "
    "you please tell me which of these marked objects is the same as the object marked with a cyan contour in the "
    "first image? Please make a choice from the following options: \n"
)


def test_question_is_the_official_one() -> None:
    assert prompts.format_question() == OFFICIAL


def test_boxes_are_asked_about_as_boxes() -> None:
    text = prompts.format_question("box", "red")
    assert "red bounding box" in text
    assert "contour" not in text


def test_choices_read_as_published() -> None:
    offered = prompts.build_options([2, 1, 3], 2)
    assert prompts.format_choices(offered) == "A. 1\nB. 2\nC. 3\nD. None of the above choices are correct"


@given(st.integers(1, 60), st.data())
def test_options_hold_the_answer_and_end_with_none(count: int, data: st.DataObject) -> None:
    numbers = data.draw(st.permutations(range(1, count + 1)))
    answer = data.draw(st.sampled_from([None, *numbers]))
    offered = prompts.build_options(numbers, answer)
    shown = [o.number for o in offered[:-1]]
    assert offered[-1].number is None
    assert shown == sorted(shown)
    assert len(shown) == min(count, 25)
    assert answer is None or answer in shown
    assert "".join(o.letter for o in offered) == prompts.LETTERS[: len(offered)]


def test_an_answer_above_the_letters_is_one_of_many() -> None:
    """Each number above the 25th could be the answer: the sequence has gaps before and after it."""
    letters = set()
    for answer in range(26, 38):
        offered = prompts.build_options(range(1, 38), answer)
        assert offered == prompts.build_options(range(37, 0, -1), answer)
        numbers = [o.number for o in offered[:-1] if o.number is not None]
        assert len(numbers) == 25 and sum(number > 25 for number in numbers) > 4
        letters.add(next(o.letter for o in offered if o.number == answer))
    assert len(letters) > 4


@pytest.mark.parametrize(("numbers", "answer"), [([1, 1], 1), ([1, 2], 3)])
def test_impossible_options(numbers: list[int], answer: int) -> None:
    with pytest.raises(ValueError):
        prompts.build_options(numbers, answer)


def test_words_of_options() -> None:
    offered = prompts.build_options([5, 2], None)
    assert [(o.letter, o.number) for o in offered] == [("A", 2), ("B", 5), ("C", None)]
    texts = {"A": "2", "B": "5", "C": "None of the above choices are correct"}
    assert prompts.choice_texts(offered) == texts
    box = OFFICIAL.replace("their contours in", "their bounding boxes in").replace(
        "the contour's color", "the bounding box color"
    )
    assert prompts.format_question("box", "red") == box.replace("a cyan contour", "a red bounding box")
    with pytest.raises(ValueError) as caught:
        prompts.build_options([2, 1, 2], 7)
    assert str(caught.value) == "numbers [1, 2, 2] must be distinct and hold the answer 7"


def test_options_of_many_candidates_never_change() -> None:
    offered = prompts.build_options(range(1, 38), 30)
    rng = random.Random(f"({list(range(1, 38))}, 30)")
    others = [number for number in range(1, 38) if number != 30]
    assert [o.number for o in offered] == [*sorted([30, *rng.sample(others, 24)]), None]
    assert [o.number for o in prompts.build_options(range(1, 27), 25)] == [*range(1, 26), None]

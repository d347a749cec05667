"""The strict rule reads what a reply states, and nothing from one that contradicts itself."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colva.evaluation.scoring.extract import extract_number, extract_option
from mmvm_data.cases.prompts import NONE_TEXT


def choices(candidates: int) -> dict[str, str]:
    texts = [*map(str, range(1, candidates + 1)), NONE_TEXT]
    return dict(zip(string.ascii_uppercase, texts, strict=False))


def load_replies() -> list[tuple[str, int, str | None]]:
    """Reply, number of candidates and label of each line of ``replies.txt``."""
    found = []
    for line in Path(__file__).with_name("replies.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        head, text = line.split(" | ", 1)
        label, _, candidates = head.partition("@")
        found.append((text.replace("\\n", "\n"), int(candidates or 4), None if label == "-" else label))
    return found


REPLIES = load_replies()


def test_labelled_replies_are_many() -> None:
    assert len(REPLIES) >= 300
    assert len({(text, candidates) for text, candidates, _ in REPLIES}) == len(REPLIES)


def test_labelled_replies_read_right() -> None:
    found = [extract_option(text, choices(candidates), "strict") for text, candidates, _ in REPLIES]
    wrong = [
        (text, label, read) for (text, _, label), read in zip(REPLIES, found, strict=True) if read not in (label, None)
    ]
    assert not wrong
    unread = [text for (text, _, label), read in zip(REPLIES, found, strict=True) if label and read is None]
    assert len(unread) <= 0.03 * sum(label is not None for *_, label in REPLIES), unread


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("3", "3"),
        ("The answer is 3, not 4.", "3"),
        ("<think>4?</think>\n\\boxed{\\text{3}}", "3"),
        ('{"answer": 3}', "3"),
        ("答案是3号物体。", "3"),
        ("3 or 4", None),
        ("The answer is 3 or 4.", None),
        ("<think>It is 3", None),
        ("99", None),
        ("None of the above", "none"),
        ("I cannot determine the answer.", "Z"),
    ],
)
def test_numbers(text: str, label: str | None) -> None:
    assert extract_number(text, range(1, 21), "strict") == label


def test_any_number_is_read_where_the_candidates_are_not_known() -> None:
    assert extract_number("The answer is 99.", mode="strict") == "99"


@pytest.mark.parametrize(
    "piece", ["the answer is ", "A or ", "<think>", "</think>", "{", "(", "\n", "\\text{", "答案是"]
)
def test_long_replies_of_one_piece_state_nothing(piece: str) -> None:
    assert extract_option(piece * 20_000, choices(4), "strict") is None


def test_the_end_of_a_long_reply_is_read() -> None:
    assert extract_option("The hat is red. " * 5_000 + "The answer is B.", choices(4), "strict") == "B"


@given(st.sampled_from(REPLIES), st.sampled_from(["\n", "  ", "<|im_end|>", "</s>"]))
def test_what_surrounds_a_reply_does_not_change_it(reply: tuple[str, int, str | None], end: str) -> None:
    text, candidates, _ = reply
    expected = extract_option(text, choices(candidates), "strict")
    assert extract_option(f"\n {text}{end}", choices(candidates), "strict") == expected
    assert extract_option(f"<think>C or A?</think>{text}", choices(candidates), "strict") == (
        extract_option("Maybe A.</think>" + text, choices(candidates), "strict")
    )

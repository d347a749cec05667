"""Which candidates a text names, and which of them it calls the match."""

from __future__ import annotations

import pytest

from mmvm_data.cases.claims import claimed_matches, direct_claims, referenced_numbers, sentence_subjects


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Object 3 has a bell.", {3}),
        ("candidates 1, 2 and 12 are alike; option #4, number 5 or 6", {1, 2, 12, 4, 5, 6}),
        ("choice no. 7, ID: 8 & #9", {7, 8, 9}),
        ("it has 3 wheels and 2 doors", set()),
        ("", set()),
    ],
)
def test_numbers_that_are_named(text: str, numbers: set[int]) -> None:
    assert referenced_numbers(text) == numbers


@pytest.mark.parametrize(
    ("text", "direct", "claimed"),
    [
        ("Object 3 is the same car.", {3}, {3}),
        ("The answer is 3.", {3}, {3}),
        ("It must be #12, as its logo recurs.", {12}, {12}),
        ("Its shape corresponds to object 2 and is identical to that of object 4.", {2, 4}, {2, 4}),
        ("It is not the same as object 3.", set(), set()),
        ("Hence object 3 is therefore the query, while object 1 is not the same.", {3}, {3}),
        ("Candidate 2 has the same logo.", set(), {2}),
        ("Candidate 2 has the same logo, but candidate 3 differs in the same way.", set(), {2}),
        ("Candidate 2 has not the same logo", set(), set()),
        ("Objects 1 and 2 match! Object 5 does not.", set(), {1, 2}),
        ("Object 3 has a bell.", set(), set()),
        ("none, and 123456789012 matches object 7", {7}, {7}),
        ("not as seen object 7 is the match", set(), set()),  # the denial precedes by 12 characters
        ("not, as seen object 7 is the match", {7}, {7}),  # by 13
    ],
)
def test_numbers_that_are_called_the_match(text: str, direct: set[int], claimed: set[int]) -> None:
    assert direct_claims(text) == direct
    assert claimed_matches(text) == claimed


def test_subjects_of_sentences() -> None:
    assert sentence_subjects("Object 3 has a bell. candidate 12 has none! The object 4 is red? Object 5") == [3, 12, 5]
    assert sentence_subjects("It is object 3.") == []

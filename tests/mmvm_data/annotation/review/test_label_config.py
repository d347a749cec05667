"""The page's label config: which key does what, and that no key is left to chance."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from mmvm_data.annotation.review.interpret import apply_annotation
from mmvm_data.annotation.review.page import build_label_config, option_key, write_instructions
from mmvm_data.annotation.review.task import build_task
from mmvm_data.cases import prompts
from mmvm_data.core.types import Candidate, Case
from tests.builds import make_case
from tests.mmvm_data.annotation.annotations import choice, text

EDITOR_KEYS = set("behpruv")
KEYS = {"accept": "a", "fix": "f", "reject": "x", "unsure": "n"}


def case_with(count: int) -> Case:
    case = make_case(1)
    region = case.candidates[0].region
    candidates = tuple(Candidate(number=n, region=region) for n in range(1, count + 1))
    return case.model_copy(
        update={"candidates": candidates, "options": prompts.build_options(range(1, count + 1), case.answer)}
    )


@pytest.mark.parametrize("num_images", [2, 3])
def test_verdicts_and_match_types_have_keys_of_their_own(num_images: int) -> None:
    page = ElementTree.fromstring(build_label_config(num_images, has_boxes=True))
    tags = {tag.get("name"): tag for tag in page.iter("Choices")}
    assert {tag.get("alias"): tag.get("hotkey") for tag in tags["verdict"]} == KEYS
    types = [str(tag.get("hotkey")) for tag in tags["match_types"]]
    keys = [*types, *KEYS.values(), *(tag.get("hotkey", "") for tag in tags["look"])]
    assert len(types) == 8 and len(set(keys)) == len(keys)
    assert not EDITOR_KEYS & set(keys)
    names = [tag.get("name") or tag.get("className") for tag in page.iter()]
    assert names.index("verdict") < names.index("question") < names.index("drawn1") < names.index("match_types")


@pytest.mark.parametrize("count", [4, 6, 29, 37])
def test_keys_do_not_depend_on_the_number_of_candidates(count: int) -> None:
    case = case_with(count)
    data = build_task(case, str, 2)["data"]
    keys = {option["value"].split(". ")[1]: option["hotkey"] for option in data["options"]}
    expected = {str(n): str(n) for n in range(1, min(count, 9) + 1)}
    assert {name: keys[name] for name in expected} == expected
    assert keys["None of the above choices are correct"] == "0"
    labels = [label["hotkey"] for k in (1, 2) for label in data[f"objects{k}"]]
    assert len({*keys.values(), *labels}) == len(keys) + len(labels)
    assert all(len(key) == 1 and not key.isascii() for key in labels)


def test_keys_of_two_digits() -> None:
    assert [option_key(n) for n in (9, 10, 21, 37)] == ["9", "ctrl+alt+0", "ctrl+shift+alt+1", "shift+alt+7"]
    assert not option_key(40).isascii()


def test_instructions_have_pictures_and_every_key() -> None:
    case = make_case(1)
    words = write_instructions(case, lambda path: f"https://host/{path}?a=1&b=2")
    assert words.count("<img") == 2 and "case_000001/FRAME00.jpg?a=1&amp;b=2" in words
    assert all(f"<code>{key}</code>" in words for key in (*KEYS.values(), *"cstzldgk", "0", "o", "m"))


def test_instructions_leave_out_pictures_that_a_browser_cannot_fetch() -> None:
    words = write_instructions(make_case(1), None)
    assert "<img" not in words and "example" not in words
    assert all(f"<code>{key}</code>" in words for key in KEYS.values())


@pytest.mark.parametrize("changes", [[], [choice("answer", "A. 1"), text("rationale", "new")]])
def test_not_sure_keeps_the_case_and_is_its_review(changes: list[dict[str, Any]]) -> None:
    case = make_case(1)
    annotation = {"result": [*changes, choice("verdict", "unsure")], "updated_at": "2030-01-01T00:00:00Z"}
    after = apply_annotation(case, case, annotation, "ann")
    assert (after.review.state, after.review.by) == ("unsure", "ann")
    assert after == case.model_copy(update={"review": after.review})

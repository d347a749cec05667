"""The template's sentences: they name the answer, hold no measurements, and agree with what is checked elsewhere."""

from __future__ import annotations

import re
from itertools import product

import pytest

from mmvm_data.annotation.rationale.phrases import write_sentences
from mmvm_data.annotation.rationale.text import check_reply, fill_template
from mmvm_data.cases.claims import claimed_matches
from mmvm_data.cases.consistency import rationale_conflict
from mmvm_data.core.types import Cue
from tests.builds import make_case

CASE = make_case(4)
ANSWER = CASE.answer
RIVAL = 1 if ANSWER != 1 else 2
M = {"rival": float(RIVAL), "answer": 3.0, "next": 40.0}
"""Measures."""
COLOR = f"its colour, on average dark red, is nearest: 3 apart in CIELAB, object {RIVAL} is 40 apart"
CUES = {
    "color": Cue(type=1, score=0.9, evidence=COLOR, measures=M),
    "far color": Cue(type=1, score=0.9, evidence=COLOR, measures=M | {"answer": 25.0}),
    "shape": Cue(type=2, score=0.9, evidence="its outline: Hu moments differ by 0.10", measures=M),
    "text": Cue(
        type=3, score=0.9, evidence='the text "TAXI" is written on it in both images', measures={"letters": 4.0}
    ),
    "size": Cue(
        type=4,
        score=0.9,
        evidence=f"it fills 3.0 % of the first image and 3.3 % of the last, object {RIVAL} fills 5.0 %",
        measures=M,
    ),
    "far size": Cue(
        type=4,
        score=0.9,
        evidence=f"it fills 3.0 % of the first image and 6.3 % of the last, object {RIVAL} fills 1.0 %",
        measures=M,
    ),
    "place": Cue(type=5, score=0.9, evidence="it is near its place: 2 % of the diagonal away", measures=M),
    "order": Cue(type=5, score=0.9, evidence="its neighbours stand", measures=M | {"neighbours": 3.0}),
    "orientation": Cue(type=6, score=0.9, evidence="its long axis by 3 degrees", measures=M),
    "motion": Cue(
        type=6,
        score=0.9,
        evidence=f"it goes on moving to the left: 0 degrees off its way, object {RIVAL} 158",
        measures=M | {"speed": 4.0},
    ),
    "binding": Cue(type=7, score=0.9, evidence="it touches", measures={"partner": float(RIVAL)}),
    "pattern": Cue(type=8, score=0.9, evidence="its pattern recurs: 9 details", measures=M),
}


@pytest.mark.parametrize("kind", CUES)
def test_sentences_agree_with_the_answer_and_hold_no_measurements(kind: str) -> None:
    for seed, other in product(range(30), ("color", "binding")):
        text = write_sentences(CASE, [CUES[kind], CUES[other]], seed)
        assert check_reply(text, CASE) is None, text
        assert rationale_conflict(CASE.model_copy(update={"rationale": text})) is None, text
        assert claimed_matches(text) <= {ANSWER}, text
        numbers = re.findall(r"\d+", text)
        assert len(numbers) == len(re.findall(r"[Oo]bject \d+", text)), text
        assert not re.search(r"[{}]|  |\.\.|%|degrees|CIELAB|Hu ", text), text
        assert all(sentence[0].isupper() for sentence in text.rstrip(".").split(". ")), text


def test_words_of_the_measurement_are_kept() -> None:
    texts = {kind: write_sentences(CASE, [cue]) for kind, cue in CUES.items()}
    assert "dark red" in texts["color"] and "TAXI" in texts["text"] and "to the left" in texts["motion"]
    assert "larger" in texts["size"] and "smaller" in texts["far size"]


def test_phrasings_follow_the_seed_and_the_case() -> None:
    cues = list(CUES.values())[:3]
    assert write_sentences(CASE, cues, 5) == write_sentences(CASE, cues, 5) == fill_template(CASE, cues, 5)
    assert len({write_sentences(CASE, cues, seed) for seed in range(40)}) > 20
    openings = {write_sentences(CASE.model_copy(update={"id": f"case_{k}"}), cues)[:12] for k in range(40)}
    assert len(openings) >= 5


def test_people_are_not_called_it_and_their_words_are_kept() -> None:
    person = CASE.query[0].model_copy(update={"category": "person"})
    case = CASE.model_copy(update={"query": (person, *CASE.query[1:])})
    text = write_sentences(case, [CUES["color"], CUES["size"]])
    assert "this person" in text and not re.search(r"\bits?\b", re.sub("It is object", "", text))
    human = Cue(type=8, score=1, evidence="it has a {red} bell.", source="human")
    assert write_sentences(CASE, [human]).endswith(" it has a {red} bell.")

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colva.data.mixture import Mixture, SftOptions, SftSource, dialogue, open_sources
from colva.data.order import chance
from colva.data.prompt_variants import PLAIN, Variant, variants
from colva.data.sft import ask
from mmvm_data.cases import prompts
from mmvm_data.core.errors import InputError
from mmvm_data.formats import sft
from tests.colva.training import stage2_world as world


def talks(folder: Path, count: int, name: str = "talk.jsonl") -> Path:
    lines = [
        json.dumps({"id": k, "conversations": [{"from": "human", "value": f"{k}?"}, {"from": "gpt", "value": "yes"}]})
        for k in range(count)
    ]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def mixture(folder: Path, seed: int = 0, evaluation: bool = False, **changes: Any) -> Mixture:
    sources = (
        SftSource(kind="text", path=talks(folder, 100), weight=2.3),
        SftSource(kind="text", path=talks(folder, 50, "b.jsonl")),
    )
    options = SftOptions(sources=sources, **changes)
    return Mixture(open_sources(options, None), options, variants(), seed, evaluation)


def test_an_epoch_takes_each_record_as_often_as_its_weight_says(tmp_path: Path) -> None:
    made = mixture(tmp_path)
    first, second = made.items(0), made.items(1)
    counts = np.bincount(first.record[first.source == 0], minlength=100)
    assert sorted(set(counts.tolist())) == [2, 3] and counts.sum() == 230
    assert np.bincount(first.record[first.source == 1]).tolist() == [1] * 50
    others = np.bincount(second.record[second.source == 0], minlength=100)
    assert others.sum() == 230 and (others != counts).any()  # other ones come a third time
    again = mixture(tmp_path).items(0)
    assert all((a == b).all() for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    assert (mixture(tmp_path, seed=1).items(0).variant != first.variant).any()


def test_what_is_held_out_is_never_trained_on_whatever_the_seed(tmp_path: Path) -> None:
    given = {"held_out": 0.2, "most_held_out": 15}
    parts = [mixture(tmp_path, seed, **given) for seed in (0, 1)]
    kept = mixture(tmp_path, evaluation=True, **given).items()
    assert [(kept.source == k).sum() for k in (0, 1)] == [15, 10]
    held = set(zip(kept.source.tolist(), kept.record.tolist(), strict=True))
    for part in parts:
        taken = part.items(0)
        assert not held & set(zip(taken.source.tolist(), taken.record.tolist(), strict=True))
        assert len(set(taken.record[taken.source == 0].tolist())) == 85


def test_variants_come_as_often_as_their_shares_say_and_keep_the_benchmark_question() -> None:
    found = variants(clean_share=0.25)
    drawn = [found.kinds[k] for k in found.draw(20_000, np.random.default_rng(0))]
    assert abs(np.mean([one.clean for one in drawn]) - 0.25) < 0.02
    assert {one.color for one in drawn if not one.clean} == {"red", "yellow", "blue", "green", "cyan", "magenta"}
    assert PLAIN.question("mask") == prompts.format_question() and PLAIN.question("box") == prompts.format_question(
        "box"
    )
    assert Variant(color="red").question("box") == prompts.format_question("box", "red")
    for one in found.kinds:
        for prompt, word, other in (("mask", "contour", "bounding box"), ("box", "bounding box", "contour")):
            text = one.question(prompt)  # type: ignore[arg-type]
            assert text.endswith("from the following options: \n")
            if not one.clean:
                assert one.color in text and word in text and other not in text
    assert variants(False).kinds == (PLAIN,)


def test_numbers_change_and_the_answer_stays_the_same_object(tmp_path: Path) -> None:
    case = world.make_case(3, tmp_path, 3)
    right = next(one.region for one in case.candidates if one.number == case.answer)
    letters = set()
    for k in range(40):
        asked = ask(case, PLAIN, chance("x", k)).case
        assert [one.number for one in asked.candidates] == [1, 2, 3]
        assert next(one.region for one in asked.candidates if one.number == asked.answer) == right
        letters.add(asked.letter)
    assert letters == {"A", "B", "C"}
    spoken = case.model_copy(update={"rationale": f"object {case.answer} has the same pattern"})
    assert all(ask(spoken, PLAIN, chance("x", k)).case.answer == case.answer for k in range(10))
    gone = case.model_copy(update={"answer": None})
    assert ask(gone, PLAIN, chance("x", 1)).case.letter == "D"


def test_marks_follow_the_variant_and_clean_pictures_stay_clean(tmp_path: Path) -> None:
    case = world.make_case(3, tmp_path, 3)
    world.write_build(tmp_path, [case])
    opened = open_sources(SftOptions(sources=(SftSource(kind="build", path=tmp_path),)), None)[0]

    def shown(variant: Variant, key: Any = None) -> tuple[Any, ...]:
        return dialogue(opened, 0, variant, key, None, True, "colva").images

    red, cyan = shown(Variant(color="red")), shown(PLAIN)
    assert (red[0].image == (255, 0, 0)).all(axis=2).sum() > 50 and (cyan[0].image == (0, 255, 255)).all(axis=2).any()
    assert not (red[0].image == (0, 255, 255)).all(axis=2).any()
    clean = shown(Variant(clean=True))
    assert all((one.image == one.clean_image).all() for one in clean)
    assert (cyan[1].image != clean[1].clean_image).any() and (cyan[1].clean_image == clean[1].clean_image).all()
    # an epoch's own colours of candidates, the same each time
    first, again, other = (shown(PLAIN, ("a", k))[1].image for k in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_published_formats_are_read(tmp_path: Path) -> None:
    cases = [world.make_case(k, tmp_path, 3, "box" if k else "mask", "same pattern") for k in range(2)]
    sft.write(cases, tmp_path / "match.json")
    world.talk(tmp_path)
    records = json.loads((tmp_path / "talk.json").read_text())
    (tmp_path / "gpt-4o.jsonl").write_text("".join(json.dumps(one | {"width": 3}) + "\n" for one in records))
    kinds = {
        "match-choice": "match.json",
        "match-reasoning": "match.json",
        "llava": "talk.json",
        "sharegpt4o": "gpt-4o.jsonl",
    }
    sources = tuple(SftSource(kind=k, path=tmp_path / name, root=tmp_path) for k, name in kinds.items())  # type: ignore[arg-type]
    opened = open_sources(SftOptions(sources=sources), tmp_path / "cache")
    said = [dialogue(one, 1, Variant(wording=1, why=1), None, None, True, "colva") for one in opened]
    assert [len(one.turns) for one in said] == [2, 4, 2, 2] and said[1].turns[2].text == "Why?"
    assert "bounding box" in said[0].turns[0].text and said[0].turns[0].text.count("<VPT_CONTEXT>") == 4
    assert [len(one.images) for one in said] == [2, 2, 1, 1]
    assert dialogue(opened[2], 0, PLAIN, None, None, True, "colva").turns[0].text.startswith("<image>\n")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"conversations": [{"from": "human", "value": "x"}]}, "nobody answers"),
        ({"image": "a.jpg", "conversations": [{"from": "gpt", "value": "x"}]}, "has no root|has an image"),
        ({"conversations": 3}, "expected conversations"),
        (33, "expected an object"),
    ],
)
def test_records_that_cannot_be_used_are_named(tmp_path: Path, record: Any, reason: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    opened = open_sources(SftOptions(sources=(SftSource(kind="llava", path=tmp_path / "a.jsonl"),)), None)[0]
    with pytest.raises(InputError, match=reason) as caught:
        dialogue(opened, 0, PLAIN, None, None, True, "colva")
    found = opened.reject(0, caught.value)
    assert found.file.endswith("a.jsonl") and found.field.startswith("record 0") and found.source == "llava"

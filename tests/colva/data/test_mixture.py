from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from colva.data.mixture import Mixture, SftOptions, open_record_sources
from colva.data.order import keyed_rng
from colva.data.prompt_variants import DEFAULT_VARIANT, PromptVariant, make_prompt_variants
from colva.data.record_reader import RecordReader, SftSource, build_record_conversation, measure_record
from colva.data.sft import CasePrompt, make_case_prompt
from colva.processing.collator import Conversation
from mmvm_data.cases import prompts
from mmvm_data.core.errors import InputError
from mmvm_data.core.options import OptionError
from mmvm_data.formats import sft
from tests import toys
from tests.colva.training import stage2_world as world


def write_conversations(folder: Path, count: int, name: str = "talk.jsonl") -> Path:
    lines = [
        json.dumps({"id": k, "conversations": [{"from": "human", "value": f"{k}?"}, {"from": "gpt", "value": "yes"}]})
        for k in range(count)
    ]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def make_mixture(folder: Path, seed: int = 0, held_out: bool = False, **changes: Any) -> Mixture:
    sources = (
        SftSource(kind="text", path=write_conversations(folder, 100), weight=2.3),
        SftSource(kind="text", path=write_conversations(folder, 50, "b.jsonl")),
    )
    options = SftOptions(sources=sources, **changes)
    return Mixture(open_record_sources(options, None), options, make_prompt_variants(), seed, held_out)


def read_conversation(
    reader: RecordReader, number: int, variant: PromptVariant = DEFAULT_VARIANT, key: Any = None
) -> Conversation:
    prompt = reader.make_prompt(number, variant, key) if reader.has_cases else None
    return build_record_conversation(reader, number, prompt, None, True, "colva")


def test_an_epoch_uses_each_record_as_often_as_its_weight_says(tmp_path: Path) -> None:
    mixture = make_mixture(tmp_path)
    first, second = mixture.epoch_items(0), mixture.epoch_items(1)
    counts = np.bincount(first.record[first.source == 0], minlength=100)
    assert sorted(set(counts.tolist())) == [2, 3] and counts.sum() == 230
    assert np.bincount(first.record[first.source == 1]).tolist() == [1] * 50
    other_counts = np.bincount(second.record[second.source == 0], minlength=100)
    assert other_counts.sum() == 230 and (other_counts != counts).any()  # other records come a third time
    again = make_mixture(tmp_path).epoch_items(0)
    assert all((a == b).all() for a, b in zip(vars(first).values(), vars(again).values(), strict=True))


def test_items_depend_on_seed_and_epoch(tmp_path: Path) -> None:
    mixture, other_seed = make_mixture(tmp_path), make_mixture(tmp_path, seed=1)
    first, second, other = mixture.epoch_items(0), mixture.epoch_items(1), other_seed.epoch_items(0)
    for items in (second, other):
        assert (items.variant != first.variant).any()
        assert sorted(items.record.tolist()) != sorted(first.record.tolist())


def test_the_key_of_an_item_is_unique_and_depends_on_seed_and_epoch(tmp_path: Path) -> None:
    mixture, other_seed = make_mixture(tmp_path), make_mixture(tmp_path, seed=1)
    items = mixture.epoch_items(0)
    keys = {mixture.item_key(items, index, 0) for index in range(len(items))}
    assert len(keys) == len(items)  # a record that comes twice has two keys
    assert mixture.item_key(items, 0, 1) not in keys
    assert other_seed.item_key(items, 0, 0) not in keys


def test_held_out_records_are_never_trained_on_whatever_the_seed(tmp_path: Path) -> None:
    options = {"held_out_share": 0.2, "max_held_out": 15}
    parts = [make_mixture(tmp_path, seed, **options) for seed in (0, 1)]
    held_out = make_mixture(tmp_path, held_out=True, **options).epoch_items()
    assert [(held_out.source == k).sum() for k in (0, 1)] == [15, 10]
    held_out_records = set(zip(held_out.source.tolist(), held_out.record.tolist(), strict=True))
    for part in parts:
        items = part.epoch_items(0)
        assert not held_out_records & set(zip(items.source.tolist(), items.record.tolist(), strict=True))
        assert len(set(items.record[items.source == 0].tolist())) == 85
    again = make_mixture(tmp_path, 7, held_out=True, **options)
    assert (again.epoch_items().record == held_out.record).all()
    assert again.item_key(held_out, 0, 0) == make_mixture(tmp_path, 8, held_out=True, **options).item_key(
        held_out, 0, 0
    )


def test_variants_come_as_often_as_their_shares_say_and_keep_the_benchmark_question() -> None:
    distribution = make_prompt_variants(clean_share=0.25)
    sampled = [distribution.variants[k] for k in distribution.sample(20_000, np.random.default_rng(0))]
    assert abs(np.mean([variant.clean for variant in sampled]) - 0.25) < 0.02
    colors = {variant.color for variant in sampled if not variant.clean}
    assert colors == {"red", "yellow", "blue", "green", "cyan", "magenta"}
    assert DEFAULT_VARIANT.question("mask") == prompts.format_question()
    assert DEFAULT_VARIANT.question("box") == prompts.format_question("box")
    assert PromptVariant(color="red").question("box") == prompts.format_question("box", "red")
    for variant in distribution.variants:
        for prompt, word, other in (("mask", "contour", "bounding box"), ("box", "bounding box", "contour")):
            text = variant.question(prompt)  # type: ignore[arg-type]
            assert text.endswith("from the following options: \n")
            if not variant.clean:
                assert variant.color in text and word in text and other not in text
    assert make_prompt_variants(False).variants == (DEFAULT_VARIANT,)


def test_numbers_change_and_the_answer_stays_the_same_object(tmp_path: Path) -> None:
    case = world.make_case(3, tmp_path, 3)
    right = next(candidate.region for candidate in case.candidates if candidate.number == case.answer)
    letters = set()
    for k in range(40):
        prompted = make_case_prompt(case, DEFAULT_VARIANT, keyed_rng("x", k)).case
        assert [candidate.number for candidate in prompted.candidates] == [1, 2, 3]
        answer = next(candidate for candidate in prompted.candidates if candidate.number == prompted.answer)
        assert answer.region == right
        letters.add(prompted.letter)
    assert letters == {"A", "B", "C"}
    with_number = case.model_copy(update={"rationale": f"object {case.answer} has the same pattern"})
    prompts_of_it = [make_case_prompt(with_number, DEFAULT_VARIANT, keyed_rng("x", k)) for k in range(10)]
    assert all(prompt.case.answer == case.answer for prompt in prompts_of_it)
    without_reason = [make_case_prompt(with_number, DEFAULT_VARIANT, keyed_rng("x", k), False) for k in range(10)]
    assert {prompt.case.answer for prompt in without_reason} == {1, 2, 3}
    absent = case.model_copy(update={"answer": None})
    assert make_case_prompt(absent, DEFAULT_VARIANT, keyed_rng("x", 1)).case.letter == "D"


def test_numbers_and_colors_are_drawn_independently(tmp_path: Path) -> None:
    case = world.make_case(3, tmp_path, 3)

    def draw(**switches: bool) -> list[CasePrompt]:
        return [make_case_prompt(case, DEFAULT_VARIANT, keyed_rng("x", k), **switches) for k in range(10)]

    both, numbers, colors = draw(), draw(recolor=False), draw(renumber=False)
    assert [prompt.case for prompt in numbers] == [prompt.case for prompt in both]
    assert len({prompt.case.answer for prompt in numbers}) > 1 and {prompt.palette for prompt in numbers} == {None}
    assert {prompt.case.answer for prompt in colors} == {case.answer}
    assert len({prompt.palette for prompt in colors}) > 1


def test_marks_follow_the_variant_and_clean_images_stay_clean(tmp_path: Path) -> None:
    case = world.make_case(3, tmp_path, 3)
    world.write_build(tmp_path, [case])
    reader = open_record_sources(SftOptions(sources=(SftSource(kind="build", path=tmp_path),)), None)[0]
    red, cyan = (read_conversation(reader, 0, PromptVariant(color=color)).images for color in ("red", "cyan"))
    assert (red[0].image == (255, 0, 0)).all(axis=2).sum() > 50 and (cyan[0].image == (0, 255, 255)).all(axis=2).any()
    assert not (red[0].image == (0, 255, 255)).all(axis=2).any()
    clean = read_conversation(reader, 0, PromptVariant(clean=True)).images
    assert all((item.image == item.clean_image).all() for item in clean)
    assert (cyan[1].image != clean[1].clean_image).any() and (cyan[1].clean_image == clean[1].clean_image).all()
    # the candidates' colors of an epoch depend on the key alone
    first, again, other = (read_conversation(reader, 0, key=("a", k)).images[1].image for k in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_published_formats_are_read(tmp_path: Path) -> None:
    cases = [world.make_case(k, tmp_path, 3, "box" if k else "mask", "same pattern") for k in range(2)]
    sft.write(cases, tmp_path / "match.json")
    world.write_talk(tmp_path)
    records = json.loads((tmp_path / "talk.json").read_text())
    (tmp_path / "gpt-4o.jsonl").write_text("".join(json.dumps(record | {"width": 3}) + "\n" for record in records))
    files = {
        "match-choice": "match.json",
        "match-reasoning": "match.json",
        "llava": "talk.json",
        "sharegpt4o": "gpt-4o.jsonl",
    }
    sources = tuple(
        SftSource(kind=kind, path=tmp_path / name, root=tmp_path)  # type: ignore[arg-type]
        for kind, name in files.items()
    )
    readers = open_record_sources(SftOptions(sources=sources), tmp_path / "cache")
    variant = PromptVariant(wording=1, reason_wording=1)
    conversations = [read_conversation(reader, 1, variant) for reader in readers]
    assert [len(conversation.turns) for conversation in conversations] == [2, 4, 2, 2]
    assert conversations[1].turns[2].text == "Why?"
    question = conversations[0].turns[0].text
    assert "bounding box" in question and question.count("<VPT_CONTEXT>") == 4
    assert [len(conversation.images) for conversation in conversations] == [2, 2, 1, 1]
    assert read_conversation(readers[2], 0).turns[0].text.startswith("<image>\n")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"conversations": [{"from": "human", "value": "x"}]}, "no assistant turn"),
        ({"image": "a.jpg", "conversations": [{"from": "gpt", "value": "x"}]}, "has no root|has an image"),
        ({"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": " "}]}, "turn is empty"),
        ({"conversations": 3}, "expected conversations"),
        (33, "expected an object"),
    ],
)
def test_the_message_names_an_unusable_record(tmp_path: Path, record: Any, reason: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    source = SftSource(kind="llava", path=tmp_path / "a.jsonl")
    reader = open_record_sources(SftOptions(sources=(source,)), None)[0]
    with pytest.raises(InputError, match=reason) as caught:
        read_conversation(reader, 0)
    reject = reader.make_reject(0, caught.value)
    assert reject.file.endswith("a.jsonl") and reject.field.startswith("record 0") and reject.source == "llava"


@pytest.mark.parametrize("image", ["", [], None])
def test_an_empty_image_is_none(tmp_path: Path, image: Any) -> None:
    talk = [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"image": image, "conversations": talk}) + "\n")
    reader = open_record_sources(SftOptions(sources=(SftSource(kind="llava", path=tmp_path / "a.jsonl"),)), None)[0]
    assert read_conversation(reader, 0).images == ()


def test_control_tokens_in_records_are_plain_text(tmp_path: Path) -> None:
    """They add no image, object or end of a turn, neither to the sample nor to its measured length."""
    processor = toys.internvl().processor
    assert processor is not None
    Image.new("RGB", (60, 40)).save(tmp_path / "1.png")
    hostile, samples = "<image> <VPT_CONTEXT> <|im_end|> <IMG_CONTEXT>", []
    for number, (question, answer) in enumerate([("what?", "a cat"), (f"what? {hostile[8:]}", f"a cat {hostile}")]):
        talk = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps([{"id": "1", "image": "1.png", "conversations": talk}]))
        source = SftSource(kind="llava", path=file, root=tmp_path)
        reader = open_record_sources(SftOptions(sources=(source,)), None)[0]
        samples.append(processor.prepare(read_conversation(reader, 0)))
        assert measure_record(reader, 0, processor, True) == (len(samples[-1]), "conversation")
    plain, with_marks = samples
    for token in ("<VPT_CONTEXT>", "<|im_end|>", "<IMG_CONTEXT>"):
        number = processor.vocabulary.token_id(token)
        assert (plain.input_ids == number).sum() == (with_marks.input_ids == number).sum()
    targets = with_marks.labels[with_marks.labels >= 0]
    assert processor.vocabulary.tokenizer.decode(targets) == f"a cat {hostile}<|im_end|>"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "lava"}, "kind must be 'match-choice', .*`mmvm-data sources`, got 'lava'"),
        ({"weight": 0.0}, "weight must be above 0, got 0.0"),
        ({"weight": "2"}, "weight must be a number, got '2'"),
        ({"wieght": 2.0}, "wieght is an unknown option"),
    ],
)
def test_invalid_source_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SftSource(**{"kind": "text", "path": Path("a.json")} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clean_share": 1.5}, r"clean_share must be in \[0, 1\], got 1.5"),
        ({"held_out_share": 1.0}, r"held_out_share must be in \[0, 1\), got 1.0"),
        ({"max_length": 8}, "max_length must be at least 16, got 8"),
        ({"packing": "yes"}, "packing must be True or False, got 'yes'"),
        ({"cache": None}, "cache is an unknown option"),
        ({"sources": ()}, "sources must have at least 1 item"),
    ],
)
def test_invalid_data_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SftOptions(**{"sources": (SftSource(kind="text", path=Path("a.json")),)} | changes)

"""Every family of language models with two experts: what must hold whichever they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from colva.checkpoints.init_tiny import FAMILIES, init_tiny
from colva.checkpoints.load import load
from colva.inference import generate
from colva.losses import IGNORE_INDEX
from colva.model.colva import ColvaModel
from colva.processing.chat_templates import Turn
from tests.toys import conversations

EXPERTS = ("radio", "dinov2")


@pytest.fixture(scope="module", params=[f"{family}+{expert}" for family in FAMILIES for expert in EXPERTS])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ColvaModel:
    family, expert = request.param.split("+")
    folder = tmp_path_factory.mktemp("tiny") / "model"
    init_tiny(folder, family, expert, seed=1)
    return load(folder)


def logits_of(model: ColvaModel, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    given = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        logits = model(**given).logits
    return [row[there.bool()] for row, there in zip(logits, batch["attention_mask"], strict=True)]


def test_padding_changes_nothing(model: ColvaModel) -> None:
    samples = [model.processor.prepare(one, prompt=True) for one in conversations()]
    alone = [logits_of(model, model.processor.collate([sample], "left"))[0] for sample in samples]
    for side in ("left", "right"):
        for row, wanted in zip(logits_of(model, model.processor.collate(samples, side)), alone, strict=True):
            torch.testing.assert_close(row, wanted, atol=1e-4, rtol=0)


def test_the_language_model_alone_learns_when_the_rest_is_frozen(model: ColvaModel) -> None:
    frozen = [model.expert, model.adapter, *model.backbone.frozen_parts]
    for part in frozen:
        part.requires_grad_(False)
    model(**model.processor(conversations("B"))).loss.backward()
    still = {id(weight) for part in frozen for weight in part.parameters()}
    for name, weight in model.named_parameters():
        assert (weight.grad is not None) == (id(weight) not in still), name
    model.zero_grad()
    model.requires_grad_(True)


def test_permuted_candidates_permute_object_tokens_and_nothing_else(model: ColvaModel) -> None:
    one = conversations()[0]
    first, second = one.images
    found = []
    for which in (one, replace(one, images=(first, replace(second, masks=second.masks[[2, 0, 1]])))):
        batch = model.processor([which], prompt=True)
        with torch.no_grad():
            objects = model.pool_object_cells(
                batch["expert_pixel_values"], batch["object_cells"], batch["object_images"]
            )
        others = {name: value for name, value in batch.items() if name not in ("object_cells", "labels")}
        found.append((others, objects))
    for name, value in found[0][0].items():
        assert torch.equal(value, found[1][0][name]), name
    assert torch.equal(found[0][1][[0, 3, 1, 2]], found[1][1])
    assert not torch.equal(found[0][1], found[1][1])


def test_saved_and_loaded_it_says_the_same(model: ColvaModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    model.processor.vocabulary.tokenizer.save_pretrained(tmp_path)
    again = load(tmp_path)
    before = model.processor(conversations(), prompt=True)
    after = again.processor(conversations(), prompt=True)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    for row, wanted in zip(logits_of(again, after), logits_of(model, before), strict=True):
        assert torch.equal(row, wanted)


def test_generation_is_the_same_alone_and_in_a_batch(model: ColvaModel) -> None:
    together = generate.generate(model, conversations(), 4, 5)
    assert together == [generate.generate(model, [one], 1, 5)[0] for one in conversations()]


def test_options_score_as_whole_answers_do(model: ColvaModel) -> None:
    options = ["1", "12", "None"]
    rows = generate.score_options(model, conversations(), [options] * 4, 4)
    for number, row in enumerate(rows):
        for option, score in zip(options, row, strict=True):
            batch = model.processor([conversations(option)[number]])
            with torch.no_grad():
                loss = float(model(**batch).loss)
            assert score == pytest.approx(-loss * int((batch["labels"] != IGNORE_INDEX).sum()), abs=2e-3)


def test_labels_are_what_the_assistant_says(model: ColvaModel) -> None:
    one = conversations("It is B.")[0]
    more = replace(one, turns=(*one.turns, Turn("user", "Why?"), Turn("assistant", "Same colour & shape.")))
    labels = model.processor.prepare(more).labels
    chosen = model.processor.template
    text = model.processor.vocabulary.tokenizer.decode(labels[labels != IGNORE_INDEX], skip_special_tokens=False)
    assert text == "".join(chosen.lead + text + chosen.end for text in ("It is B.", "Same colour & shape."))

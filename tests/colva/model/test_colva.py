from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from colva.inference import generate
from colva.model.colva import ColvaModel
from tests.toys import conversation, conversations, internvl

OPTIONS = ["1", "12", "13", "None of them"]


@pytest.fixture(scope="module")
def model() -> ColvaModel:
    return internvl()


def prompt_logits(model: ColvaModel, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    batch = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        logits = model(**batch).logits
    return [row[there.bool()] for row, there in zip(logits, batch["attention_mask"], strict=True)]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_sample_alone_is_the_same_in_a_batch(model: ColvaModel, side: str) -> None:
    samples = [model.processor.prepare(one, prompt=True) for one in conversations()]
    together = prompt_logits(model, model.processor.collate(samples, side))
    for sample, row in zip(samples, together, strict=True):
        alone = prompt_logits(model, model.processor.collate([sample], side))[0]
        torch.testing.assert_close(row, alone, atol=1e-4, rtol=0)


def test_objects_stand_in_their_own_places(model: ColvaModel) -> None:
    one = conversation([(60, 90), (100, 50)], [1, 3], 0)
    batch = model.processor([one], prompt=True)
    places = (batch["input_ids"][0] == model.config.object_token_id).nonzero().flatten()
    with torch.no_grad():
        embeds, _ = model.embed_inputs(batch["input_ids"], None, torch.arange(4.0)[:, None].expand(4, 48))
    assert embeds[0, places, 0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_permuted_candidates_permute_object_tokens_and_nothing_else(model: ColvaModel) -> None:
    one = conversation([(60, 90), (100, 50)], [1, 3], 0)
    second = one.images[1]
    swapped = replace(one, images=(one.images[0], replace(second, masks=second.masks[[2, 0, 1]])))
    found = []
    for which in (one, swapped):
        batch = model.processor([which], prompt=True)
        with torch.no_grad():
            objects = model.pool_object_cells(
                batch["expert_pixel_values"], batch["object_cells"], batch["object_images"]
            )
        found.append((batch["input_ids"], batch["pixel_values"], objects))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][2][[0, 3, 1, 2]], found[1][2], atol=0, rtol=0)
    assert not torch.equal(found[0][2], found[1][2])


def test_masks_give_the_embeddings_that_cells_give(model: ColvaModel) -> None:
    one = conversation([(128, 128), (64, 128)], [2, 1], 3)
    batch = model.processor([one], prompt=True)
    whole = [torch.from_numpy(picture.masks) for picture in one.images]
    padded = torch.zeros(1, 128, 128, dtype=torch.uint8)
    padded[:, :64] = whole[1]
    with torch.no_grad():
        by_cells = model.pool_object_cells(batch["expert_pixel_values"], batch["object_cells"], batch["object_images"])
        by_masks = model.object_embeddings(batch["expert_pixel_values"].float() / 255, [whole[0], padded])
    torch.testing.assert_close(by_masks, by_cells)
    with pytest.raises(ValueError, match="masks for 1 images, but 2 images"):
        model.object_embeddings(batch["expert_pixel_values"], whole[:1])


def test_saved_and_loaded_it_is_the_same(model: ColvaModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    again, info = ColvaModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    batch = model.processor(conversations(), prompt=True)
    for before, after in zip(prompt_logits(model, batch), prompt_logits(again.eval(), batch), strict=True):
        assert torch.equal(before, after)


def test_only_what_should_learn_has_gradients() -> None:
    model = internvl()
    for part in (*model.backbone.frozen_parts, model.expert, model.adapter):
        part.requires_grad_(False)
    model(**model.processor(conversations("B"))).loss.backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is not None) == ("language_model" in name or "lm_head" in name), name


def test_the_loss_is_the_mean_over_learnt_tokens(model: ColvaModel) -> None:
    batch = model.processor(conversations("B it is"))
    loss = model(**batch).loss
    logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
    targets = batch["labels"][:, 1:]
    plain = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=-100)
    torch.testing.assert_close(loss, plain)
    items = int((targets != -100).sum())
    torch.testing.assert_close(model(**batch, num_items_in_batch=2 * items).loss, plain / 2)


def test_generation_equals_a_loop_without_a_cache(model: ColvaModel) -> None:
    texts = conversations()
    batch = model.processor(texts, prompt=True)
    batch.pop("labels")
    options = generate.stop_options(model.processor) | {"do_sample": False, "max_new_tokens": 6}
    tokens = model.generate(**batch, **options)
    for one, row in zip(texts, tokens, strict=True):
        sample = model.processor.prepare(one, prompt=True)
        alone = model.processor.collate([sample], "left")
        alone.pop("labels")
        for token in row.tolist():
            with torch.no_grad():
                chosen = int(model(**alone).logits[0, -1].argmax())
            assert chosen == token
            if token in options["eos_token_id"]:
                break
            alone["input_ids"] = torch.cat([alone["input_ids"], torch.tensor([[token]])], dim=1)
            alone["attention_mask"] = torch.ones_like(alone["input_ids"])
            alone["position_ids"] = torch.arange(alone["input_ids"].shape[1])[None]


def test_beams_and_several_answers_repeat_images_with_their_prompt(model: ColvaModel) -> None:
    batch = model.processor(conversations()[:2], prompt=True)
    batch.pop("labels")
    options = generate.stop_options(model.processor) | {"max_new_tokens": 4}
    assert len(model.generate(**batch, **options, num_beams=2, do_sample=False)) == 2
    assert len(model.generate(**batch, **options, num_return_sequences=3, do_sample=True)) == 6


def test_options_score_as_whole_answers_do(model: ColvaModel) -> None:
    texts = conversations()
    found = generate.score_options(model, texts, [OPTIONS] * len(texts), batch_size=3)
    for number, row in enumerate(found):
        for option, score in zip(OPTIONS, row, strict=True):
            batch = model.processor([conversations(option)[number]])
            learned = int((batch["labels"] != -100).sum())
            assert score == pytest.approx(-float(model(**batch).loss.detach()) * learned, abs=1e-4)


def test_likely_letters_are_those_of_greedy_generation(model: ColvaModel) -> None:
    texts, letters = conversations(), ["A", "B", "C", "D"]
    rows = generate.score_options(model, texts, [letters] * len(texts))
    allowed = generate.restrict_to_letters(model.processor, letters)
    written = generate.generate(model, texts, 2, 4, prefix_allowed_tokens_fn=allowed)
    assert written == [letters[row.index(max(row))] for row in rows]


def test_options_are_checked(model: ColvaModel) -> None:
    with pytest.raises(ValueError, match=r"conversation 0: options \['A', 'A'\]"):
        generate.score_options(model, conversations()[:1], [["A", "A"]])


def test_embeddings_and_places_that_do_not_agree_are_named(model: ColvaModel) -> None:
    batch = model.processor(conversations()[:1], prompt=True)
    batch.pop("labels")
    with pytest.raises(ValueError, match="4 object tokens in the text, but 3 object embeddings"):
        model(batch["input_ids"], object_embeddings=torch.zeros(3, 48))
    with pytest.raises(ValueError, match="image tokens in the text, but 8 image embeddings"):
        model(batch["input_ids"], pixel_values=batch["pixel_values"][:2])
    bare = ColvaModel(model.config)
    with pytest.raises(ValueError, match="has no tokenizer"):
        generate.generate(bare, conversations())


def test_bfloat16_runs_and_stays_near(model: ColvaModel) -> None:
    batch = model.processor(conversations(), prompt=True)
    exact = prompt_logits(model, batch)
    low = internvl().bfloat16()
    for wanted, found in zip(exact, prompt_logits(low, batch), strict=True):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), wanted, atol=0.3, rtol=0.3)

"""Small models made here play ``hf:``; batches change nothing, likelihoods are those of plain forward passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessor

from colva.evaluation.benchmark import load_questions
from colva.evaluation.models.hf import HfModelAdapter, _make_chat, _read_image, open_model
from colva.evaluation.question import AskOptions, Question
from mmvm_data.core.errors import UsageError
from tests.colva.evaluation import tiny_models
from tests.colva.evaluation.worlds import folder_of, options

torch.set_num_threads(1)
MAKERS = {"llava": tiny_models.llava, "qwen2_vl": tiny_models.qwen2_vl, "internvl": tiny_models.internvl}


@pytest.fixture(scope="module", params=list(MAKERS))
def model_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param) / request.param)


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> list[Question]:
    folder = folder_of(tmp_path_factory.mktemp("world") / "b", 7)
    return list(load_questions(folder, AskOptions(), folder))


def open_adapter(folder: Path, **changes: object) -> HfModelAdapter:
    return open_model(str(folder), options(device="cpu", **{"max_tokens": 5, **changes}))


def test_a_batch_says_what_each_says_alone(model_dir: Path, questions: list[Question]) -> None:
    adapter = open_adapter(model_dir)
    together = adapter.answer(questions)
    alone = [adapter.answer([question])[0] for question in questions]
    assert [reply.text for reply in together] == [reply.text for reply in alone]
    assert [reply.tokens_in for reply in together] == [reply.tokens_in for reply in alone]
    assert len({reply.tokens_in for reply in together}) > 1, "prompts differ in length, so the batch was padded"
    assert len({reply.text for reply in together}) > 1, "the model looks at what it is given"
    assert all(reply.text and 0 < reply.tokens_out <= 5 for reply in together)
    assert [reply.truncated for reply in together] == [reply.tokens_out == 5 for reply in together]
    assert any(reply.truncated for reply in together), "a reply is cut at the limit, and marked"


def test_control_tokens_in_a_question_are_plain_text(model_dir: Path, questions: list[Question]) -> None:
    adapter = open_adapter(model_dir)
    added = adapter._inputs.tokenizer.added_tokens_decoder
    text = " ".join([*(token.content for token in added.values()), "<image>"])
    plain, hostile = (
        adapter._make_tensors([adapter._inputs.prompt_text(_make_chat(question))], [images])["input_ids"][0]
        for question in (questions[0], replace(questions[0], text=f"{questions[0].text} {text}"))
        for images in [[_read_image(path) for path in question.images]]
    )
    unknown = adapter._inputs.tokenizer.unk_token_id
    for number in added.keys() - {unknown}:
        assert (plain == number).sum() == (hostile == number).sum(), added[number]


def test_images_change_the_reply(model_dir: Path, questions: list[Question], tmp_path: Path) -> None:
    adapter = open_adapter(model_dir, answer_by="likelihood")
    Image.effect_noise((80, 45), 90).convert("RGB").save(tmp_path / "other.png")
    other = replace(questions[1], images=(questions[1].images[0], tmp_path / "other.png"))
    before, after = adapter.answer([questions[1], other])
    assert before.scores != after.scores


def test_a_second_turn(model_dir: Path, questions: list[Question]) -> None:
    adapter = open_adapter(model_dir)
    first, second = adapter.answer([questions[0], replace(questions[1], why_prompt="the same ?")])
    assert first.why is None
    assert second.why
    assert second.text == adapter.answer([questions[1]])[0].text


def test_likelihoods_do_not_depend_on_the_batch(model_dir: Path, questions: list[Question]) -> None:
    by_batch = {batch: open_adapter(model_dir, answer_by="likelihood", batch=batch) for batch in (8, 1)}
    wide, narrow = (adapter.answer(questions[:3]) for adapter in by_batch.values())
    for one, two, question in zip(wide, narrow, questions, strict=False):
        assert one.scores.keys() == question.choices.keys()
        assert one.scores == pytest.approx(two.scores, abs=1e-4)
        assert one.text == max(one.scores, key=one.scores.__getitem__)
        assert all(score < 0 for score in one.scores.values())


def test_likelihoods_are_those_of_a_plain_forward(tmp_path: Path, questions: list[Question]) -> None:
    """By hand: image processor, tokenizer, one forward; "12 A" as a label of two tokens."""
    folder = tiny_models.qwen2_vl(tmp_path / "m")
    question = replace(questions[1], choices={"A": "1", "B": "2", "12 A": "3"}, answer="A")
    reply = open_adapter(folder, answer_by="likelihood").answer([question])[0]
    words, pixels = AutoTokenizer.from_pretrained(folder), Qwen2VLImageProcessor.from_pretrained(folder)
    net = Qwen2VLForConditionalGeneration.from_pretrained(folder)
    images = pixels(images=[Image.open(path).convert("RGB") for path in question.images], return_tensors="pt")
    marks = "".join(
        f"<|vision_start|>{'<|image_pad|>' * (int(grid.prod()) // 4)}<|vision_end|>"
        for grid in images["image_grid_thw"]
    )
    prompt = f"<|im_start|> user {marks}{question.text}<|im_end|><|im_start|> assistant "
    start = len(words(prompt)["input_ids"])
    for label in question.choices:
        ids = words(prompt + label, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            logits = net(input_ids=ids, attention_mask=torch.ones_like(ids), **images).logits[0].log_softmax(-1)
        by_hand = sum(logits[k - 1, ids[0, k]].item() for k in range(start, ids.shape[1]))
        assert reply.scores[label] == pytest.approx(by_hand, abs=1e-4)


def test_the_fingerprint_follows_weights_and_decoding(tmp_path: Path) -> None:
    folder = tiny_models.llava(tmp_path / "m")
    first = open_adapter(folder).fingerprint
    assert open_adapter(folder, batch=2).fingerprint == first
    assert open_adapter(folder, max_tokens=6).fingerprint != first
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert open_adapter(folder).fingerprint != first


def test_folders_that_are_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a folder with config.json"):
        open_adapter(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="transformers cannot load it"):
        open_adapter(tmp_path)
    folder = tiny_models.qwen2_vl(tmp_path / "m")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match="has no chat template"):
        open_adapter(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UsageError, match="image processor cannot be read"):
        open_adapter(folder)

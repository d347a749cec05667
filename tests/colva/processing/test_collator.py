from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from colva.model.backbones.tiny import tiny_config
from colva.processing.chat_templates import Turn, get_template
from colva.processing.collator import Conversation, ImageInput, Processor
from colva.processing.image_processors import build_image_processor
from colva.processing.tiling import expert_canvas
from colva.processing.tokens import OBJECT, Vocabulary
from tests.toys import conversation, conversations, internvl, tokenizer

PROCESSOR = internvl().processor


def test_batches_hold_each_sample_unchanged() -> None:
    samples = [PROCESSOR.prepare(one) for one in conversations("A")]
    for side in ("left", "right"):
        batch = PROCESSOR.collate(samples, side)
        for row, sample in enumerate(samples):
            there = batch["attention_mask"][row].bool()
            assert torch.equal(batch["input_ids"][row][there], sample.input_ids)
            assert torch.equal(batch["labels"][row][there], sample.labels)
            assert torch.equal(batch["position_ids"][row][there], sample.position_ids)
            assert (batch["labels"][row][~there] == -100).all()
    assert len(batch["pixel_values"]) == int(batch["image_grid"][:, 0].sum())
    assert batch["object_images"].tolist() == sorted(batch["object_images"].tolist())
    # pictures without objects are not shown to the expert
    assert len(batch["expert_pixel_values"]) == 2 + 0 + 0 + 6
    assert torch.equal(batch["object_cells"], torch.cat([kept for sample in samples for kept in sample.object_cells]))


def test_the_expert_sees_the_clean_image() -> None:
    one = conversation([(128, 128)], [1], 0)
    batch = PROCESSOR([one])
    assert torch.equal(batch["expert_pixel_values"][0], torch.from_numpy(one.images[0].clean_image).permute(2, 0, 1))


def changed(**fields: object) -> Conversation:
    one = conversation([(60, 90)], [2], 0)
    return replace(one, images=(replace(one.images[0], **fields),))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (changed(masks=np.ones((2, 90, 60), np.uint8)), r"conversation 0: Image-1: masks of shape \[2, 90, 60\]"),
        (changed(masks=np.zeros((2, 60, 90), np.uint8)), "Image-1: the mask of object 1 is empty"),
        (changed(masks=np.ones((1, 60, 90), np.uint8)), "2 <VPT_CONTEXT> in the conversation, but 1 given"),
        (changed(image=np.zeros((10, 10, 3), np.uint8)), "10 x 10 pixels"),
        (changed(clean_image=np.zeros((60, 90), np.uint8)), r"expected uint8 \[height, width, 3\]"),
    ],
)
def test_what_does_not_fit_together_is_named(wrong: Conversation, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PROCESSOR.prepare(wrong)


def test_cached_embeddings_take_the_place_of_masks() -> None:
    rows = torch.randn(2, 48)
    batch = PROCESSOR([changed(masks=None, object_embeddings=rows)])
    assert torch.equal(batch["object_embeddings"], rows)
    assert "expert_pixel_values" not in batch
    mixed = Conversation(
        (Turn("user", f"<image><image>{OBJECT * 3}"),),
        (*changed(masks=None, object_embeddings=rows).images, *conversation([(60, 90)], [1], 1).images),
    )
    with pytest.raises(ValueError, match="give one kind"):
        PROCESSOR.prepare(mixed)


def test_a_model_without_expert_cannot_be_asked_about_masks() -> None:
    with pytest.raises(ValueError, match="has no expert"):
        replace(PROCESSOR, expert_stride=0).prepare(conversation([(60, 90)], [1], 0))
    assert len(replace(PROCESSOR, expert_stride=0).prepare(conversation([(60, 90)], [0], 0)).canvases) == 0


def test_objects_at_any_place_keep_their_order() -> None:
    one = conversation([(60, 90), (100, 50)], [2, 3], 4)
    swapped = ImageInput(one.images[1].image, one.images[1].clean_image, one.images[1].masks[[2, 0, 1]])
    before, after = PROCESSOR.prepare(one), PROCESSOR.prepare(replace(one, images=(one.images[0], swapped)))
    assert torch.equal(before.object_cells[1][[2, 0, 1]], after.object_cells[1])
    assert torch.equal(before.object_cells[0], after.object_cells[0]) and torch.equal(before.input_ids, after.input_ids)


def test_message_without_a_name_has_no_prefix() -> None:
    wrong = changed(masks=np.zeros((2, 60, 90), np.uint8))
    for name, prefix in (("", ""), ("row 3", "row 3: ")):
        with pytest.raises(ValueError) as caught:
            PROCESSOR.prepare(replace(wrong, name=name))
        assert str(caught.value) == f"{prefix}Image-1: the mask of object 1 is empty"


def test_second_object_and_second_image_are_named() -> None:
    one = conversation([(60, 90), (60, 90)], [1, 2], 0)
    masks = one.images[1].masks
    assert masks is not None
    masks[1] = 0
    with pytest.raises(ValueError, match=r"^conversation 0: Image-2: the mask of object 2 is empty$"):
        PROCESSOR.prepare(one)


def test_object_outside_the_part_that_the_model_sees() -> None:
    llava = replace(PROCESSOR, image_processor=build_image_processor(tiny_config("llava"), {"fit": "crop"}))
    masks = np.zeros((2, 60, 200), np.uint8)
    masks[0, :, 90:110] = masks[1, :, :10] = 1
    one = conversation([(60, 200)], [2], 0)
    with pytest.raises(ValueError) as caught:
        llava.prepare(replace(one, images=(replace(one.images[0], masks=masks),)))
    assert str(caught.value) == "conversation 0: Image-1: object 2 lies outside the part that the model sees"
    # a clean image of another size: its masks do not lie over the image that the model sees
    clean = np.zeros((60, 202, 3), np.uint8)
    wider = np.pad(masks, ((0, 0), (0, 0), (0, 2)))
    assert (
        len(llava.prepare(replace(one, images=(replace(one.images[0], clean_image=clean, masks=wider),))).canvases) == 1
    )


def test_fields_of_a_sample() -> None:
    one = conversation([(60, 90), (100, 50)], [1, 2], 0, "A")
    sample = PROCESSOR.prepare(one)
    assert len(sample) == len(sample.input_ids) == len(sample.labels)
    assert sample.name == "conversation 0"
    assert sample.object_embeddings is None
    prepared = [PROCESSOR.image_processor(image.image) for image in one.images]
    assert sample.image_grids == tuple(image.grid for image in prepared)
    for pixels, image in zip(sample.pixel_values, prepared, strict=True):
        assert torch.equal(pixels, image.pixels)
    for k, image in enumerate(one.images):
        assert image.clean_image is not None
        canvas, geometry = expert_canvas(image.clean_image, PROCESSOR.expert_side, PROCESSOR.expert_stride)
        assert torch.equal(sample.canvases[k], canvas)
        assert torch.equal(sample.object_cells[k], geometry.token_mask(torch.as_tensor(image.masks)))
    assert [image.num_objects for image in one.images] == [1, 2]
    assert ImageInput(one.images[0].image).num_objects == 0
    assert ImageInput(one.images[0].image, object_embeddings=torch.zeros(4, 8)).num_objects == 4
    ragged = np.random.default_rng(0).random((2, 60, 90)) < 0.5
    talk = changed(masks=ragged)
    geometry = expert_canvas(talk.images[0].image, PROCESSOR.expert_side, PROCESSOR.expert_stride)[1]
    for threshold in (0.3, 0.8):
        cells = replace(PROCESSOR, threshold=threshold).prepare(talk).object_cells[0]
        assert torch.equal(cells, geometry.token_mask(torch.as_tensor(ragged), threshold))
    drawn = replace(one, images=tuple(replace(image, clean_image=None) for image in one.images))
    assert torch.equal(PROCESSOR.prepare(drawn).canvases[0], expert_canvas(one.images[0].image, 128, 16)[0])


def test_padding_of_prompts_and_of_positions_with_three_axes() -> None:
    words = tokenizer("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
    wrap = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
    config = tiny_config("qwen2_vl")
    config.image_token_id = words.convert_tokens_to_ids("<|image_pad|>")
    qwen = Processor(
        Vocabulary(words, wrap),
        get_template("qwen2-vl"),
        build_image_processor(config, {"min_pixels": 3000, "max_pixels": 9000}),
        expert_stride=0,
        pad_id=7,
    )
    talks = [conversation([(60, 90)], [0], 0), conversation([], [], 1), conversation([(50, 60), (90, 40)], [0, 0], 2)]
    for prompt in (True, False):
        samples = [qwen.prepare(talk, prompt) for talk in talks]
        batch = qwen(talks, prompt)
        longest = max(map(len, samples))
        assert batch["position_ids"].shape == (3, 3, longest)
        for row, sample in enumerate(samples):
            assert sample.position_ids.shape == (3, len(sample))
            grids = iter(sample.image_grids)
            assert torch.equal(sample.position_ids, qwen.image_processor.position_ids(sample.input_ids, grids))
            at = slice(longest - len(sample), None) if prompt else slice(0, len(sample))
            rest = slice(0, longest - len(sample)) if prompt else slice(len(sample), None)
            for name, value, padding in (
                ("input_ids", sample.input_ids, 7),
                ("labels", sample.labels, -100),
                ("attention_mask", torch.ones(len(sample), dtype=torch.int64), 0),
            ):
                assert torch.equal(batch[name][row, at], value)
                assert (batch[name][row, rest] == padding).all()
            assert torch.equal(batch["position_ids"][:, row, at], sample.position_ids)
            assert (batch["position_ids"][:, row, rest] == 0).all()
        grids = [grid for sample in samples for grid in sample.image_grids]
        assert (batch["image_grid"].tolist(), batch["image_grid"].dtype) == (
            [list(grid) for grid in grids],
            torch.int64,
        )
        assert torch.equal(batch["pixel_values"], torch.cat([p for s in samples for p in s.pixel_values]))
        assert not {"object_cells", "object_embeddings", "expert_pixel_values"} & set(batch)
    assert (qwen.prepare(talks[0], True).labels == -100).all()


def test_images_of_objects_are_numbered_over_the_batch() -> None:
    batch = PROCESSOR([conversation([(60, 90), (50, 50)], [1, 0], 0), conversation([(60, 90), (50, 50)], [2, 3], 1)])
    assert batch["object_images"].tolist() == [0, 1, 1, 2, 2, 2]
    assert len(batch["expert_pixel_values"]) == 3


def test_a_batch_has_one_kind_of_objects() -> None:
    cached = PROCESSOR.prepare(changed(masks=None, object_embeddings=torch.randn(2, 48)))
    with pytest.raises(ValueError) as caught:
        PROCESSOR.collate([cached, PROCESSOR.prepare(conversation([(60, 90)], [1], 0))])
    assert str(caught.value) == "a batch mixes cached object embeddings with masks"
    both = PROCESSOR.collate([cached, PROCESSOR.prepare(conversation([(60, 90)], [0], 0)), cached])
    assert cached.object_embeddings is not None
    assert torch.equal(both["object_embeddings"], cached.object_embeddings.repeat(2, 1))


def test_images_without_masks_and_images_after_an_answer() -> None:
    pixels = conversation([(60, 90), (50, 50)], [0, 0], 0).images
    turns = [Turn("user", "<image>a"), Turn("assistant", "it"), Turn("user", "<image>b"), Turn("assistant", "no")]
    talk = Conversation(tuple(turns), tuple(ImageInput(image.image) for image in pixels))
    sample = PROCESSOR.prepare(talk)
    assert (sample.canvases, sample.object_cells) == ((), ())
    words = PROCESSOR.vocabulary.tokenizer
    assert words.decode(sample.labels[sample.labels != -100]) == f"it{PROCESSOR.template.end}no{PROCESSOR.template.end}"

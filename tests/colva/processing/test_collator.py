from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from colva.processing.chat_templates import Turn
from colva.processing.collator import Conversation, ImageInput
from colva.processing.tokens import OBJECT
from tests.toys import conversation, conversations, internvl

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

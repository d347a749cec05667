from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from colva.processing.chat_templates import Turn
from colva.processing.collator import Dialogue, Marked
from colva.processing.tokens import OBJECT
from tests.toys import dialogue, dialogues, internvl

PROCESSOR = internvl().processor


def test_batches_hold_each_sample_unchanged() -> None:
    samples = [PROCESSOR.sample(one) for one in dialogues("A")]
    for side in ("left", "right"):
        batch = PROCESSOR.collate(samples, side)
        for row, sample in enumerate(samples):
            there = batch["attention_mask"][row].bool()
            assert torch.equal(batch["input_ids"][row][there], sample.ids)
            assert torch.equal(batch["labels"][row][there], sample.labels)
            assert torch.equal(batch["position_ids"][row][there], sample.positions)
            assert (batch["labels"][row][~there] == -100).all()
    assert len(batch["pixel_values"]) == int(batch["image_grid"][:, 0].sum())
    assert batch["object_images"].tolist() == sorted(batch["object_images"].tolist())
    # pictures without objects are not shown to the expert
    assert len(batch["expert_pixel_values"]) == 2 + 0 + 0 + 6
    assert torch.equal(batch["object_cells"], torch.cat([kept for sample in samples for kept in sample.cells]))


def test_the_expert_sees_the_clean_picture() -> None:
    one = dialogue([(128, 128)], [1], 0)
    batch = PROCESSOR([one])
    assert torch.equal(batch["expert_pixel_values"][0], torch.from_numpy(one.pictures[0].clean).permute(2, 0, 1))


def changed(**fields: object) -> Dialogue:
    one = dialogue([(60, 90)], [2], 0)
    return replace(one, pictures=(replace(one.pictures[0], **fields),))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (changed(masks=np.ones((2, 90, 60), np.uint8)), r"dialogue 0: Image-1: masks of shape \[2, 90, 60\]"),
        (changed(masks=np.zeros((2, 60, 90), np.uint8)), "Image-1: the mask of object 1 is empty"),
        (changed(masks=np.ones((1, 60, 90), np.uint8)), "2 <VPT_CONTEXT> in the conversation, but 1 given"),
        (changed(shown=np.zeros((10, 10, 3), np.uint8)), "10 x 10 pixels"),
        (changed(clean=np.zeros((60, 90), np.uint8)), r"expected uint8 \[height, width, 3\]"),
    ],
)
def test_what_does_not_fit_together_is_named(wrong: Dialogue, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PROCESSOR.sample(wrong)


def test_cached_embeddings_take_the_place_of_masks() -> None:
    rows = torch.randn(2, 48)
    batch = PROCESSOR([changed(masks=None, embeddings=rows)])
    assert torch.equal(batch["object_embeddings"], rows)
    assert "expert_pixel_values" not in batch
    mixed = Dialogue(
        (Turn("user", f"<image><image>{OBJECT * 3}"),),
        (*changed(masks=None, embeddings=rows).pictures, *dialogue([(60, 90)], [1], 1).pictures),
    )
    with pytest.raises(ValueError, match="give one kind"):
        PROCESSOR.sample(mixed)


def test_a_model_without_expert_cannot_be_asked_about_masks() -> None:
    with pytest.raises(ValueError, match="has no expert"):
        replace(PROCESSOR, expert_stride=0).sample(dialogue([(60, 90)], [1], 0))
    assert len(replace(PROCESSOR, expert_stride=0).sample(dialogue([(60, 90)], [0], 0)).canvases) == 0


def test_objects_at_any_place_keep_their_order() -> None:
    one = dialogue([(60, 90), (100, 50)], [2, 3], 4)
    swapped = Marked(one.pictures[1].shown, one.pictures[1].clean, one.pictures[1].masks[[2, 0, 1]])
    before, after = PROCESSOR.sample(one), PROCESSOR.sample(replace(one, pictures=(one.pictures[0], swapped)))
    assert torch.equal(before.cells[1][[2, 0, 1]], after.cells[1])
    assert torch.equal(before.cells[0], after.cells[0]) and torch.equal(before.ids, after.ids)

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from colva.checkpoints.init_tiny import FAMILIES, init_tiny
from colva.checkpoints.load import load
from colva.data.pseudo_video import collate_pairs
from colva.model.alignment import AlignmentModel, ObjectEmbeddings, pad_by_frame
from colva.model.backbones import BACKBONES
from colva.training import stage1
from mmvm_data.core.errors import Reject, UsageError
from tests.colva.training import world as worlds


def usable_items(data, count: int) -> list:
    items = [data[k] for k in range(12)]
    return [item for item in items if not isinstance(item, Reject)][:count]


@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_the_adapter_gets_gradients(world: Path, tmp_path: Path, family: str) -> None:
    init_tiny(tmp_path / "model", family=family)
    if load(tmp_path / "model").config.backbone_config.model_type not in BACKBONES:
        pytest.skip("its backbone is not there")
    own = {} if family.startswith("internvl") else {"data__image_options": {}}
    stage = stage1.build_stage(worlds.make_config(world, tmp_path / "run", model=str(tmp_path / "model"), **own))
    stage.model.train()
    batch = stage.collate(usable_items(stage.train, 2))
    step = stage.step(stage.model, batch)
    step.loss.backward()
    touched = {name for name, p in stage.model.named_parameters() if p.grad is not None}
    assert touched == {f"colva.adapter.{name}" for name in load(tmp_path / "model").adapter.state_dict()}
    assert all(bool(p.grad.abs().sum() > 0) for p in stage.model.parameters() if p.grad is not None)
    assert int(step.means["accuracy"][1]) == stage.count_units(batch)
    # the language model is not kept
    assert not any("language_model" in name or "lm_head" in name for name, _ in stage.model.named_parameters())
    assert not stage.model.colva.backbone.training


def test_anchors_and_keys_equal_those_of_the_full_model(world: Path, tmp_path: Path) -> None:
    stage = stage1.build_stage(worlds.make_config(world, tmp_path / "run"))
    whole = load(world / "model")
    item = usable_items(stage.train, 1)[0]
    batch = collate_pairs([item])
    objects = stage.model(**{name: batch[name] for name in stage1._INPUTS})
    start = 0
    for number, side in enumerate(item.sides):
        tokens = whole.adapt_expert_tokens(side.canvas[None])[0][0]
        image = whole.encode_images(side.pixels).flatten(0, 1)
        for k in range(len(side.ids)):
            for mine, cells, all_tokens in (
                (objects.anchors, side.expert_cells[k], tokens),
                (objects.keys, side.key_cells[k], image),
            ):
                expected = all_tokens[cells].sum(dim=0) / (cells.sum() + 1e-4)
                torch.testing.assert_close(mine[start + k], expected, atol=1e-5, rtol=1e-5)
        start += len(side.ids)
        assert number < 2


def reference_loss(objects: ObjectEmbeddings, batch: dict, everywhere: bool) -> tuple[float, int]:
    """The loss computed pair by pair, direction by direction, object by object."""
    total, count = 0.0, 0
    frames, ids = batch["frames"].tolist(), batch["ids"].tolist()
    for a in range(len(ids)):
        others = [
            k
            for k in range(len(ids))
            if (frames[k] == frames[a] ^ 1 if not everywhere else frames[k] % 2 != frames[a] % 2)
        ]
        others = [k for k in others if objects.key_valid[k]]
        mine = [k for k in others if ids[k] == ids[a]]
        if not mine or not objects.anchor_valid[a]:
            continue
        own = objects.anchors[a] @ objects.keys[mine[0]]
        terms = [torch.exp(objects.anchors[a] @ objects.keys[k] - own) for k in others if ids[k] != ids[a]]
        total += float(torch.log(1 + sum(terms, torch.zeros(()))))
        count += 1
    return total, count


@pytest.mark.parametrize("negatives", ["frame", "batch"])
def test_the_loss_is_the_published_one_in_both_directions(negatives: str) -> None:
    generator = torch.Generator().manual_seed(0)
    # two pairs; an object that is in one frame only, and some that kept no token
    frames = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3, 3])
    ids = torch.tensor([0, 1, 2, 0, 1, 5, 6, 6, 5, 7])
    anchors, keys = (torch.randn(10, 8, generator=generator) for _ in range(2))
    valid = torch.ones(10, dtype=torch.bool)
    seen = valid.clone()
    seen[4] = False
    objects, batch = ObjectEmbeddings(anchors, keys, valid, seen), {"frames": frames, "ids": ids}
    step = stage1.contrastive_step(objects, batch, negatives)  # type: ignore[arg-type]
    total, count = reference_loss(objects, batch, negatives == "batch")
    assert float(step.loss) == pytest.approx(total, rel=1e-5)
    assert int(step.means["accuracy"][1]) == count


def test_it_learns(unbroken: Path, world: Path, tmp_path: Path) -> None:
    settings = worlds.make_config(world, tmp_path / "run", trainer__global_batch_size=8, optimizer__learning_rate=2e-2)
    stage = stage1.build_stage(settings)
    batch = stage.collate(usable_items(stage.train, 6))
    optimizer = torch.optim.AdamW([p for p in stage.model.parameters() if p.requires_grad], lr=2e-2)
    first = None
    for _ in range(60):
        optimizer.zero_grad()
        step = stage.step(stage.model, batch)
        first = first or step
        (step.loss / stage.count_units(batch)).backward()
        optimizer.step()
    assert first is not None
    assert float(step.loss) < 0.5 * float(first.loss)
    assert int(step.means["accuracy"][0]) > int(first.means["accuracy"][0])


def test_frames_of_different_lengths_are_padded() -> None:
    tokens = torch.arange(10.0).view(5, 2)
    padded = pad_by_frame(tokens, (2, 3))
    assert torch.equal(padded[0], torch.cat([tokens[:2], torch.zeros(1, 2)]))
    assert torch.equal(padded[1], tokens[2:])
    assert torch.equal(pad_by_frame(tokens[:4], (2, 2)), tokens[:4].view(2, 2, 2))


def test_training_can_start_from_an_adapter(unbroken: Path, world: Path, tmp_path: Path) -> None:
    settings = worlds.make_config(world, tmp_path / "run", adapter=str(unbroken / "final"))
    begun = stage1.build_stage(settings).model.colva.adapter
    ended = load(unbroken / "final").adapter
    assert all(torch.equal(a, b) for a, b in zip(begun.parameters(), ended.parameters(), strict=True))


def test_a_model_without_an_expert_is_refused(world: Path, tmp_path: Path) -> None:
    init_tiny(tmp_path / "plain", expert="none")
    with pytest.raises(UsageError, match="has no expert; `colva convert"):
        stage1.build_stage(worlds.make_config(world, tmp_path / "run", model=str(tmp_path / "plain")))
    with pytest.raises(ValueError, match="has no expert"):
        AlignmentModel(load(tmp_path / "plain"))
    with pytest.raises(UsageError, match=r"data\.image_options must be max_tiles"):
        stage1.build_stage(worlds.make_config(world, tmp_path / "run", data__image_options={"max_tails": 3}))


def test_cosines_with_the_adapters_own_embeddings_as_keys(world: Path, tmp_path: Path) -> None:
    stage = stage1.build_stage(worlds.make_config(world, tmp_path / "run", keys="adapter", temperature=0.1))
    batch = stage.collate(usable_items(stage.train, 2))
    objects = stage.model(**{name: batch[name] for name in stage1._INPUTS})
    assert torch.equal(objects.anchors, objects.keys) and torch.equal(objects.anchor_valid, objects.key_valid)
    norms = objects.anchors.norm(dim=1)
    unit = objects.anchors / norms[:, None]
    expected = reference_loss(ObjectEmbeddings(unit / 0.1, unit, *objects[2:]), batch, False)[0]
    expected += float(((norms - 1) ** 2)[objects.anchor_valid].sum())
    step = stage.step(stage.model, batch)
    assert float(step.loss) == pytest.approx(expected, rel=1e-4)
    step.loss.backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in stage.model.colva.adapter.parameters())

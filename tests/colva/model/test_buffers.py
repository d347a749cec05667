"""Rotary frequencies keep float32 when a model is cast, so that it is trained under the positions it is served with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from colva.checkpoints.init_tiny import FAMILIES, init_tiny
from colva.checkpoints.load import load
from colva.model.buffers import cast_parameters
from colva.model.experts import EXPERTS, build_expert, tiny_config


def computed_buffers(module: nn.Module) -> dict[str, Tensor]:
    saved = module.state_dict().keys()
    return {n: b.clone() for n, b in module.named_buffers() if n not in saved and b.is_floating_point()}


def assert_kept(module: nn.Module, before: dict[str, Tensor]) -> None:
    after = computed_buffers(module)
    assert after.keys() == before.keys()
    for name, buffer in after.items():
        assert buffer.dtype == torch.float32, name
        assert torch.equal(buffer, before[name]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cast_model_has_the_positions_of_a_loaded_one(family: str, tmp_path: Path) -> None:
    init_tiny(tmp_path / "model", family, None, seed=1)
    trained = load(tmp_path / "model")
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            if any(part in name for part in ("q_proj", "k_proj", "qkv")):
                weight.mul_(20)  # sharp attention, which shows angles that are off
    native = trained.backbone.model
    native.save_pretrained(tmp_path / "native")
    before = computed_buffers(trained)
    assert any(name.endswith("inv_freq") for name in before)
    nn.ModuleDict({"model": trained}).bfloat16()  # as stage 2 and DeepSpeed, which cast a module around the model
    assert trained.dtype == torch.bfloat16
    assert_kept(trained, before)

    served = type(native).from_pretrained(tmp_path / "native", dtype=torch.bfloat16).eval()
    for (name, weight), other in zip(native.named_parameters(), served.parameters(), strict=True):
        assert torch.equal(weight, other), name
    ids = torch.randint(5, 60, (1, 24))
    positions = torch.arange(24)[None] * 170 + 100  # up to 4,010
    if "qwen" in family.split("-")[0] and family.endswith("vl"):
        positions = positions.expand(3, 1, -1)
    with torch.no_grad():
        logits = [model(input_ids=ids, position_ids=positions).logits for model in (native, served)]
    assert torch.equal(*logits)


@pytest.mark.parametrize("kind", EXPERTS)
def test_a_cast_expert_keeps_its_computed_buffers(kind: str) -> None:
    expert = build_expert(kind, tiny_config(kind))
    before = computed_buffers(expert)
    nn.Sequential(expert).to(torch.bfloat16)
    assert expert.parameter_dtype() == torch.bfloat16
    assert_kept(expert, before)


def test_the_vision_tower_alone_is_cast_in_the_same_way(tmp_path: Path) -> None:
    init_tiny(tmp_path / "model", "qwen2-vl", None)
    part = load(tmp_path / "model").backbone.frozen_parts[0]
    before = computed_buffers(part)
    assert before
    cast_parameters(part, torch.bfloat16)
    assert {weight.dtype for weight in part.parameters()} == {torch.bfloat16}
    assert_kept(part, before)

"""FSDP in one process: what is read, what is gathered, and in which precision."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from colva.training import stage2
from colva.training.fsdp import gather_parameter, shard_model
from colva.training.stage import Stage
from colva.training.unsharded import find_colva, keep_encoders_whole
from tests.colva.training import stage2_world

CPU = torch.device("cpu")


@pytest.fixture
def process_group() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def build(model: Path, out: Path, sources: list[dict[str, Any]], precision: str, **options: Any) -> Stage:
    config = stage2_world.make_config(
        model, out, sources, data={"use_object_cache": False}, trainer={"precision": precision}, tune=["head", "norms"]
    )
    return stage2.build_stage(config, **options)


@pytest.mark.parametrize("family", ["internvl2-phi3", "qwen2-vl"])
@pytest.mark.usefixtures("process_group")
def test_layers_are_read_one_by_one(family: str, sources: list[dict[str, Any]], tmp_path: Path) -> None:
    model = stage2_world.make_model(tmp_path / "model", family)
    plain = build(model, tmp_path / "plain", sources, "float32")
    stage = build(model, tmp_path / "run", sources, "float32", defer_layers=True)
    layers = find_colva(stage.model).backbone.decoder_layers
    outside = {name for name, p in stage.model.named_parameters() if not p.is_meta}
    assert all(p.is_meta for p in layers.parameters())
    assert not any(".layers." in name for name in outside if "language_model" in name)
    keep_encoders_whole(stage.model)
    read: list[list[weakref.ref[nn.Parameter]]] = []

    def fill(module: nn.Module) -> None:
        assert all(reference() is None for layer in read for reference in layer), "the layer before is not freed"
        stage.fill_weights(module)
        if any(module is layer for layer in layers):
            read.append([weakref.ref(parameter) for parameter in module.parameters()])

    shard_model(stage.model, CPU, fill_weights=fill)
    assert len(read) == len(layers)
    weights = dict(plain.model.named_parameters())
    for name, parameter in stage.model.named_parameters():
        assert isinstance(parameter, DTensor)
        assert torch.equal(gather_parameter(parameter), weights[name]), name
        assert parameter.requires_grad == weights[name].requires_grad
    batch = stage.collate([stage.train[0].value])
    loss = stage.step(stage.model, batch).loss
    torch.testing.assert_close(loss, plain.step(plain.model, batch).loss)


@pytest.mark.usefixtures("process_group")
def test_bf16_gathers_in_bfloat16_and_sums_in_float32(
    tiny: Path, sources: list[dict[str, Any]], tmp_path: Path
) -> None:
    stage = build(tiny, tmp_path / "run", sources, "bf16", defer_layers=True)
    keep_encoders_whole(stage.model)
    shard_model(stage.model, CPU, True, stage.fill_weights)
    layers = find_colva(stage.model).backbone.decoder_layers
    kept = {parameter.dtype for parameter in layers.parameters()}
    assert kept == {torch.bfloat16, torch.float32}  # what is trained
    gathered: set[torch.dtype] = set()
    layers[0].self_attn.register_forward_pre_hook(
        lambda module, _: gathered.update(parameter.dtype for parameter in layers[0].parameters())
    )
    with torch.autocast("cpu", torch.bfloat16):
        stage.step(stage.model, stage.collate([stage.train[0].value])).loss.backward()
    assert gathered == {torch.bfloat16}
    trained = [parameter for parameter in stage.model.parameters() if parameter.requires_grad]
    assert {parameter.grad.dtype for parameter in trained if parameter.grad is not None} == {torch.float32}
    rotary = find_colva(stage.model).backbone.language_model.rotary_emb
    assert rotary.inv_freq.dtype == torch.float32

"""Compiled decoder layers: the losses of plain ones, and no graph for each length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from colva.training import stage2
from colva.training.compiled_layers import compile_layers
from colva.training.run import train
from colva.training.unsharded import find_colva
from colva.training.zero import builtin_deepspeed_config
from mmvm_data.core.errors import UsageError
from tests.colva.training import stage2_world
from tests.colva.training import world as worlds


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("family", ["internvl2-phi3", "qwen3-vl"])
def test_rows_of_any_length_share_their_graphs(family: str, sources: list[dict[str, Any]], tmp_path: Path) -> None:
    model = stage2_world.make_model(tmp_path / "model", family)
    config = stage2_world.make_config(model, tmp_path / "run", sources, trainer={"gradient_checkpointing": True})
    stage = stage2.build_stage(config)
    assert stage.enable_gradient_checkpointing is not None
    stage.enable_gradient_checkpointing(False)
    stage.model.train()
    values = [stage.train[ordinal].value for ordinal in range(4)]
    samples = [sample for value in values if value is not None for sample in value]
    batches = [stage.collate([tuple(samples[:count])]) for count in (2, 1, 3, 4)]
    assert len({batch["input_ids"].shape[1] for batch in batches}) == 4

    def losses_and_gradients(batch: dict[str, Any]) -> tuple[float, torch.Tensor]:
        stage.model.zero_grad()
        loss = stage.step(stage.model, batch).loss
        loss.backward()
        gradients = [parameter.grad.flatten() for parameter in stage.model.parameters() if parameter.grad is not None]
        return float(loss.detach()), torch.cat(gradients)

    expected = [losses_and_gradients(batch) for batch in batches]
    counter = CompileCounter()
    compile_layers(find_colva(stage.model).backbone.decoder_layers, counter)
    graphs = []
    for batch, (loss, gradients) in zip(batches, expected, strict=True):
        found = losses_and_gradients(batch)
        assert found[0] == pytest.approx(loss, abs=1e-4)
        torch.testing.assert_close(found[1], gradients, atol=1e-5, rtol=1e-4)
        graphs.append(counter.frame_count)
    assert graphs[0] > 0
    assert graphs[1:] == [graphs[1]] * 3, graphs


def test_where_nothing_can_be_compiled(world: Path, tiny: Path, sources: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"trainer\.compile: stage1 runs no decoder layer"):
        train(worlds.make_config(world, tmp_path / "a", trainer__compile=True))
    config = stage2_world.make_config(tiny, tmp_path / "b", sources, trainer={"compile": True})
    with pytest.raises(UsageError, match=r"trainer\.compile: ZeRO 3 gathers parameters inside of a layer"):
        train(config, deepspeed=builtin_deepspeed_config(3))

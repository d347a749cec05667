from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from colva.checkpoints.adapters import write_adapter
from colva.checkpoints.load import load
from colva.checkpoints.trained_weights import ResolvedWeights
from colva.config import dump_config
from colva.training.stage2 import Stage2Config, build_stage
from mmvm_data.core.config_values import parse_config
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io.yaml_files import parse_yaml
from tests.colva.training import stage2_world
from tests.colva.training.stage2_world import prepare_stage, read_rows


def write_stage1(folder: Path, tiny: Path, is_published: bool = False) -> Path:
    model = load(tiny)
    assert model.adapter is not None
    weights = {f"adapter.{name}": tensor * 3 for name, tensor in model.adapter.state_dict().items()}
    folder.mkdir()
    write_adapter(folder, model, ResolvedWeights(weights), str(tiny), is_published)
    return folder


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "expert"])
def test_object_tokens_get_the_norm_of_text_embeddings(
    use_cache: bool, tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]
) -> None:
    stage1 = str(write_stage1(tmp_path / "stage1", tiny))

    def norms(name: str, **adapter: Any) -> torch.Tensor:
        data = {"packing": False, "use_object_cache": use_cache}
        options = stage2_world.make_config(
            tiny, tmp_path / name, sources[:1], adapter={"path": stage1, **adapter}, data=data
        )
        stage = prepare_stage(options)
        vectors = []
        for row in read_rows(stage):
            batch = stage.collate([row])
            found = batch.get("object_embeddings")
            if found is None:
                inner = stage.model.colva
                with torch.no_grad():
                    found = inner.pool_object_cells(
                        batch["expert_pixel_values"], batch["object_cells"], batch["object_images"]
                    )
            vectors.append(found)
        return torch.linalg.vector_norm(torch.cat(vectors), dim=1)

    plain, matched = norms("a"), norms("b", match_text_norm=True)
    text = torch.linalg.vector_norm(load(tiny).get_input_embeddings().weight, dim=1).median()
    assert float(plain.mean() / text) > 2
    assert float(matched.mean()) == pytest.approx(float(text), rel=1e-3)
    # all by one factor
    assert torch.allclose(matched / matched.mean(), plain / plain.mean(), atol=1e-4)


def test_a_published_adapter_keeps_its_scale(tmp_path: Path, tiny: Path, sources: list[dict[str, Any]]) -> None:
    published = str(write_stage1(tmp_path / "published", tiny, is_published=True))
    options = {"path": published, "match_text_norm": True}
    with pytest.raises(UsageError, match=r"match_text_norm: .*published has a published adapter"):
        build_stage(stage2_world.make_config(tiny, tmp_path / "a", sources, adapter=options))
    build_stage(stage2_world.make_config(tiny, tmp_path / "a", sources, adapter=published))


def test_a_path_alone_stands_for_the_option_and_configurations_survive_a_round_trip(tmp_path: Path) -> None:
    base = {"stage": "stage2", "model": "m", "output_dir": "o", "data": {"sources": [{"kind": "build", "path": "b"}]}}
    short, none, long = (
        parse_config(base | {"adapter": value}, Stage2Config, "c.yaml")
        for value in ("runs/a", None, {"path": "runs/a", "match_text_norm": True})
    )
    assert short.adapter.path == long.adapter.path == Path("runs/a") and none.adapter.path is None
    assert long.adapter.match_text_norm and not short.adapter.match_text_norm
    for config in (short, none, long):
        assert parse_config(parse_yaml(dump_config(config), "c.yaml"), Stage2Config, "c.yaml") == config
    with pytest.raises(InputError, match=r"adapter.*norm"):
        parse_config(base | {"adapter": {"norm": True}}, Stage2Config, "c.yaml")
    with pytest.raises(InputError, match=r"adapter.*match_text_norm must be True or False"):
        parse_config(base | {"adapter": {"match_text_norm": "yes"}}, Stage2Config, "c.yaml")

from __future__ import annotations

from pathlib import Path

import pytest

from colva.checkpoints.init_tiny import FAMILIES, init_tiny
from colva.checkpoints.load import load
from mmvm_data.core.errors import UsageError


@pytest.mark.parametrize("family", list(FAMILIES))
def test_deviations_follow_the_number_of_inputs(family: str, tmp_path: Path) -> None:
    init_tiny(tmp_path / "model", family, None, init="fan-in")
    model = load(tmp_path / "model")
    text, layers = model.backbone.language_model, model.config.get_text_config().num_hidden_layers
    deviations = {name: float(p.detach().std()) for name, p in text.named_parameters() if p.ndim == 2}
    deviations["head"] = float(model.get_output_embeddings().weight.detach().std())
    sizes = {name: p.shape[1] for name, p in text.named_parameters() if p.ndim == 2}
    sizes["head"] = model.get_output_embeddings().weight.shape[1]
    for name, deviation in deviations.items():
        expected = 1.0 if "embed_tokens" in name else sizes[name] ** -0.5
        if "o_proj" in name or "down_proj" in name:
            expected /= (2 * layers) ** 0.5
        assert deviation == pytest.approx(expected, rel=0.06), name
    assert {float(p.detach().min()) for name, p in text.named_parameters() if "norm" in name} == {1.0}


def test_the_seed_decides_and_the_rest_of_the_model_stays(tmp_path: Path) -> None:
    for name, seed, init in (("a", 0, "fan-in"), ("b", 0, "fan-in"), ("c", 1, "fan-in"), ("d", 0, "transformers")):
        init_tiny(tmp_path / name, "internvl2_5-qwen2", "mobilenetv2", seed, init)
    a, b, c, d = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abcd")
    assert a == b and a != c and a != d
    changed, plain = load(tmp_path / "a").state_dict(), load(tmp_path / "d").state_dict()
    different = {name for name in plain if not plain[name].equal(changed[name])}
    assert different and all("language_model" in name or "lm_head" in name for name in different)
    with pytest.raises(UsageError, match="init 'xavier' is not one of transformers, fan-in"):
        init_tiny(tmp_path / "e", init="xavier")

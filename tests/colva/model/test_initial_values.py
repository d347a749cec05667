from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2Model

from colva.checkpoints.init_tiny import FAMILIES, init_tiny
from colva.checkpoints.load import load
from colva.model.initial_values import align_keys_with_queries, init_fan_in
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


def test_heads_with_aligned_keys_attend_to_equal_tokens() -> None:
    config = Qwen2Config(
        hidden_size=128, intermediate_size=64, num_hidden_layers=2, num_attention_heads=8, vocab_size=8
    )
    config.num_key_value_heads = 8
    text, head = Qwen2Model(config), torch.nn.Linear(128, 8, bias=False)
    init_fan_in(text, head, 0)
    before = {name: weight.clone() for name, weight in text.state_dict().items()}
    align_keys_with_queries(text, correlation=0.9, head_share=0.5)
    tokens = torch.randn(40, 128, generator=torch.Generator().manual_seed(0))
    for layer in text.layers:
        queries, keys = (part(tokens).view(40, 8, 16) for part in (layer.self_attn.q_proj, layer.self_attn.k_proj))
        most_equal = torch.einsum("ahd,bhd->hab", queries, keys).argmax(dim=2) == torch.arange(40)
        share = most_equal.float().mean(dim=1)
        assert share[:4].min() > 0.4 and share[4:].max() < 0.2
        assert layer.self_attn.k_proj.weight.std().item() == pytest.approx(128**-0.5, rel=0.03)
    changed = {name for name, weight in text.state_dict().items() if not weight.equal(before[name])}
    assert changed == {f"layers.{layer}.self_attn.k_proj.weight" for layer in range(2)}


def test_keys_that_heads_share_cannot_be_aligned() -> None:
    config = Qwen2Config(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=8)
    config.num_key_value_heads = 2
    with pytest.raises(ValueError, match="64 rows of queries but 32 of keys"):
        align_keys_with_queries(Qwen2Model(config), correlation=0.9, head_share=0.5)

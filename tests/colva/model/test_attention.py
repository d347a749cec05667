from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, masking_utils
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import and_masks, causal_mask_function, or_masks, packed_sequence_mask_function

from colva.model.attention import ATTENTION, attend, build_mask, enable_packed_sdpa, uses_packed_sdpa
from colva.model.packed_attention import PackedRows

ROWS, TOKENS = 3, 40
PACKED = torch.tensor([[0] * 10 + [1] * 29 + [2], [0] * 40, [0] * 1 + [1] * 20 + [2] * 19])
SEGMENTS = [(10, 29, 1), (40,), (1, 20, 19)]
RULES: dict[str, Callable[..., Any]] = {
    "causal": causal_mask_function,
    "window": masking_utils.sliding_window_causal_mask_function(5),
    "chunks": masking_utils.chunked_causal_mask_function(7, torch.tensor([1, 0, 3])),
    "packed": and_masks(causal_mask_function, packed_sequence_mask_function(PACKED)),
    "either": or_masks(causal_mask_function, masking_utils.sliding_window_overlay(3)),
}
STEPS = {
    "all": (torch.arange(TOKENS), TOKENS, 0),
    "one more": (torch.tensor([TOKENS - 1]), TOKENS, 0),
    "some more": (torch.arange(30, 34), 34, 0),
    "of a window's cache": (torch.arange(30, 40), 20, 20),
    "before the mask ends": (torch.arange(0, 20), 20, 0),
    "into a larger cache": (torch.arange(38, 42), 48, 0),
}


def padding(kind: str) -> Tensor | None:
    if kind == "none":
        return None
    if kind == "full":
        return torch.ones(ROWS, TOKENS, dtype=torch.bool)
    return torch.arange(TOKENS) >= torch.tensor([[0], [7], [39]])


@pytest.mark.parametrize("kind", ["none", "full", "left"])
@pytest.mark.parametrize(
    ("rule", "step"),
    [(rule, step) for rule in RULES for step in STEPS if (rule, step) != ("packed", "into a larger cache")],
)
def test_masks_are_those_of_transformers(rule: str, step: str, kind: str) -> None:
    where, keys, offset = STEPS[step]
    for window in (None, 5):
        for skip in (True, False):
            given = (ROWS, where, keys, offset, RULES[rule], padding(kind), window, skip)
            expected = masking_utils.sdpa_mask_recent_torch(*given)
            found = build_mask(*given)
            assert (found is None) == (expected is None)
            if expected is not None and found is not None:
                assert found.dtype == torch.bool and found.shape == expected.shape
                assert torch.equal(found, expected)


def heads(count: int, seed: int) -> Tensor:
    drawn = torch.randn(ROWS, count, TOKENS, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.requires_grad_()


@pytest.mark.parametrize("window", [None, 5])
def test_segments_are_attended_to_as_under_a_block_mask(window: int | None) -> None:
    layer: Any = nn.Module()
    layer.num_key_value_groups, layer.is_causal = 2, True
    query, key, value = heads(4, 0), heads(2, 1), heads(2, 2)
    rule = causal_mask_function if window is None else masking_utils.sliding_window_causal_mask_function(window)
    whole = (ROWS, torch.arange(TOKENS), TOKENS, 0)
    blocks = build_mask(*whole, and_masks(rule, packed_sequence_mask_function(PACKED)), allow_is_causal_skip=False)
    expected, _ = sdpa_attention_forward(layer, query, key, value, blocks, scaling=0.3)
    weight = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    gradients = torch.autograd.grad((expected * weight).sum(), (query, key, value))
    packed = PackedRows(SEGMENTS, "sdpa", query.device)
    found, weights = attend(layer, query, key, value, None, packed, scaling=0.3, sliding_window=window)
    assert weights is None and found.shape == expected.shape
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad((found * weight).sum(), (query, key, value)), gradients)


def test_segments_that_are_no_row_are_refused() -> None:
    layer: Any = nn.Module()
    layer.is_causal = True
    query = heads(2, 0)
    with pytest.raises(ValueError, match="zip"):
        attend(layer, query, query, query, None, PackedRows(SEGMENTS[:2], "sdpa", query.device))
    with pytest.raises(RuntimeError, match="split"):
        attend(layer, query, query, query, None, PackedRows([(10, 29, 1), (41,), (1, 20, 19)], "sdpa", query.device))


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, pad_token_id=0
    )
    return LlamaForCausalLM(config).eval()


def test_a_padded_batch_is_continued_as_with_sdpa() -> None:
    ids = torch.randint(1, 50, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    made = []
    for ours in (False, True):
        model = llama()
        assert not ours or enable_packed_sdpa(model)
        assert uses_packed_sdpa(model) == ours
        with torch.inference_mode():
            made.append(
                model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=6,
                    min_new_tokens=6,
                    do_sample=False,
                    output_logits=True,
                    return_dict_in_generate=True,
                )
            )
    assert torch.equal(made[0].sequences, made[1].sequences)
    torch.testing.assert_close(torch.stack(made[0].logits), torch.stack(made[1].logits))


def test_a_model_that_runs_another_attention_is_left_alone() -> None:
    model = llama()
    model.set_attn_implementation("eager")
    assert not enable_packed_sdpa(model) and model.config._attn_implementation == "eager"
    assert ATTENTION not in model.config.to_json_string()
    enable_packed_sdpa(model := llama())
    assert ATTENTION not in model.config.to_json_string()
    stub: Any = SimpleNamespace(
        config=SimpleNamespace(_attn_implementation="sdpa"), _can_set_attn_implementation=lambda: False
    )
    assert not enable_packed_sdpa(stub)

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colva.checkpoints.init_tiny import FAMILIES, init_tiny
from colva.checkpoints.load import load
from colva.model import packed_attention
from colva.model.packed_attention import PackedRows, select_packed_kernel

SEGMENTS = [(10, 29, 1), (40,), (1, 20, 19)]
Qkv = tuple[Tensor, Tensor, Tensor]


def draw(dtype: torch.dtype = torch.float32, key_heads: int = 2) -> Qkv:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, heads, 40, 16, generator=generator) for heads in (4, key_heads, key_heads))
    return query.to(dtype), key.to(dtype), value.to(dtype)


def layer(groups: int = 2) -> Any:
    module: Any = nn.Module()
    module.num_key_value_groups, module.is_causal = groups, True
    return module


def attend(kernel: Any, tensors: Qkv, **options: Any) -> Tensor:
    groups = tensors[0].shape[1] // tensors[1].shape[1]
    return PackedRows(SEGMENTS, kernel, torch.device("cpu")).attend(layer(groups), *tensors, **options)


def varlen(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """flash-attention's function of variable lengths `[tokens, heads, d]`, in plain PyTorch."""
    assert options["cu_seqlens_q"] is options["cu_seqlens_k"] and options["cu_seqlens_q"].dtype == torch.int32
    assert options["max_seqlen_q"] == options["max_seqlen_k"] == 40 and options["causal"]
    ends = options["cu_seqlens_q"].tolist()
    window = options.get("window_size", (-1, -1))[0]
    parts = []
    for start, end in itertools.pairwise(ends):
        places = torch.arange(end - start)
        distance = places[:, None] - places
        mask = (distance >= 0) & ((distance <= window) if window >= 0 else True)
        row = [tensor[start:end].transpose(0, 1)[None] for tensor in (q, k, v)]
        part = F.scaled_dot_product_attention(*row, attn_mask=mask, scale=options["softmax_scale"], enable_gqa=True)
        parts.append(part[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> None:
    """flash-attention 2 as transformers finds it, with `varlen` as its kernel."""
    from transformers import modeling_flash_attention_utils as utils

    keep = ("dropout_p", "window_size", "deterministic", "softcap", "s_aux")
    supported = dict.fromkeys(keep, False) | {"window_size": True}

    def process(**options: Any) -> dict[str, Any]:
        return dict(utils._process_flash_attention_kwargs(**options, supports_mapping=supported))

    monkeypatch.setattr(utils, "lazy_import_flash_attention", lambda *_: ((None, varlen, None, None), process))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 5, 29, 100])
@pytest.mark.parametrize("kernel", ["flex", "flash"])
def test_each_kernel_equals_the_loop(kernel: str, window: int | None, dtype: torch.dtype, flash: None) -> None:
    tensors = draw(dtype)
    options = {"scaling": 0.3, "sliding_window": window}
    found = attend(kernel, tensors, **options)
    expected = attend("sdpa", tensors, **options)
    assert found.shape == expected.shape == (3, 40, 4, 16)
    if dtype == torch.float32:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    else:  # whose outputs around 1 are rounded by up to 0.004 themselves
        difference = (found - expected).float().abs()
        assert difference.mean() < 1e-3 and difference.max() < 2**-5


def test_a_block_mask_is_built_once_for_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    build = packed_attention.create_block_mask

    def count(*args: Any, **options: Any) -> Any:
        built.append(1)
        return build(*args, **options)

    monkeypatch.setattr(packed_attention, "create_block_mask", count)
    packed = PackedRows(SEGMENTS, "flex", torch.device("cpu"))
    for _ in range(3):
        packed.attend(layer(), *draw())
        packed.attend(layer(), *draw(), sliding_window=40)  # no shorter than any conversation
    assert len(built) == 1
    packed.attend(layer(), *draw(), sliding_window=7)
    assert len(built) == 2


def test_dropout_that_a_kernel_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="FlexAttention has no dropout"):
        attend("flex", draw(), dropout=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_packs_alike_with_each_kernel(family: str, tmp_path: Path, flash: None) -> None:
    init_tiny(tmp_path / "model", family, None)
    model = load(tmp_path / "model")
    ids = torch.randint(200, (3, 40), generator=torch.Generator().manual_seed(0))
    plain = torch.stack([torch.cat([torch.arange(length) for length in row]) for row in SEGMENTS])
    positions = plain.expand(4, -1, -1) if family.startswith("qwen") else plain
    logits = {}
    with torch.no_grad():
        for kernel in ("sdpa", "flex", "flash"):
            model.packed_kernel = kernel
            logits[kernel] = model(input_ids=ids, position_ids=positions, segments=SEGMENTS, use_cache=False).logits
        # the second conversation of the first row by itself
        alone = model(input_ids=ids[:1, 10:39], use_cache=False).logits
    torch.testing.assert_close(logits["sdpa"][:1, 10:39], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits["flex"], logits["sdpa"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits["flash"], logits["sdpa"], atol=1e-5, rtol=1e-4)


def test_kernels_that_cannot_be_used_here_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert select_packed_kernel("auto", "cpu", True) == select_packed_kernel("sdpa", "cpu", True) == "sdpa"
    with pytest.raises(ValueError, match="flash needs a CUDA device"):
        select_packed_kernel("flash", "cpu", True)
    with pytest.raises(ValueError, match="flex has a backward pass on a CUDA device only"):
        select_packed_kernel("flex", "cpu", True)
    for has_flash in (False, True):
        monkeypatch.setattr(packed_attention, "is_flash_attn_2_available", lambda found=has_flash: found)
        monkeypatch.setattr(packed_attention, "is_flash_attn_3_available", lambda: False)
        assert select_packed_kernel("auto", "cuda", True) == ("flash" if has_flash else "flex")
        assert select_packed_kernel("auto", "cuda", False) == "flex"
        if has_flash:
            assert select_packed_kernel("flash", "cuda", True) == "flash"
        else:
            with pytest.raises(ValueError, match="needs the package flash-attn"):
                select_packed_kernel("flash", "cuda", True)
    with pytest.raises(ValueError, match="precision=bf16"):
        select_packed_kernel("flash", "cuda", False)

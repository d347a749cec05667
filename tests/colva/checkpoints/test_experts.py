"""Weights of experts: releases of RADIO, and the folders that transformers writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from colva.checkpoints.convert import convert
from colva.checkpoints.experts import read_expert
from colva.model.experts import build_expert, tiny_config
from colva.model.experts.radio import Radio
from mmvm_data.core.errors import InputError
from tests.checkpoints import radio_file


def test_the_release_of_a_radio_file_is_in_its_name(tmp_path: Path) -> None:
    for name, is_aligned in (("radio-v2.1_half", True), ("c-radio_v3-h_half", False), ("c-radio-v3_l_half", False)):
        radio_file(tmp_path / f"{name}.pth.tar")
        assert read_expert(tmp_path / f"{name}.pth.tar").config["align_corners"] is is_aligned


def native_radio(folder: Path) -> Radio:
    """A folder as transformers 5 writes it, and the network that it holds."""
    torch.manual_seed(0)
    config = tiny_config("radio") | {"align_corners": False, "max_resolution": 256}
    expert = build_expert("radio", config)
    assert isinstance(expert, Radio)
    state: dict[str, Tensor] = {}
    places = {
        "patch_generator.embedder.weight": "embeddings.patch_projection.weight",
        "patch_generator.pos_embed": "embeddings.position_embedding",
        "patch_generator.cls_token.token": "embeddings.cls_register_token",
    }
    for name, tensor in expert.state_dict().items():
        layer = name.replace("blocks.", "encoder.layer.").replace("attn.proj", "attention.output.dense")
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                state[layer.replace("attn.qkv", f"attention.attention.{part}")] = third.contiguous()
        elif not name.startswith("input_conditioner."):
            state[places.get(name, layer)] = tensor
    state |= {f"encoder.layer.{n}.layer_scale{k}.lambda1": torch.ones(64) for n in range(2) for k in (1, 2)}
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    fields = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 2.0}
    fields |= {"max_img_size": 256, "num_cls_tokens": 3, "num_registers": 5}
    (folder / "config.json").write_text(json.dumps({"model_type": "radio", **fields}))
    return expert


def test_radio_of_transformers(tmp_path: Path) -> None:
    expert = native_radio(tmp_path / "native")
    convert(tmp_path / "native", tmp_path / "ours")
    for folder in ("native", "ours"):
        found = read_expert(tmp_path / folder)
        assert found.config == {"kind": "radio", **expert.config}
        wanted = expert.state_dict()
        assert found.tensors.keys() == wanted.keys()
        assert all(torch.equal(found.tensors[name].read(), wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_swiglu_ffn": True}, "use_swiglu_ffn: expected False, found True"),
        ({"hidden_size": [64]}, r"hidden_size: expected a number, found \[64\]"),
        ({"norm_mean": [0.5]}, r"norm_mean: expected three numbers, found \[0.5\]"),
        ({"summary_idxs": 3}, "summary_idxs: expected a list, found 3"),
    ],
)
def test_radio_of_transformers_that_is_another_network(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    native_radio(tmp_path / "native")
    config = json.loads((tmp_path / "native/config.json").read_text())
    (tmp_path / "native/config.json").write_text(json.dumps(config | fields))
    with pytest.raises(InputError, match=message):
        read_expert(tmp_path / "native")


def test_radio_of_transformers_with_scales(tmp_path: Path) -> None:
    native_radio(tmp_path / "native")
    tensors = load_file(tmp_path / "native/model.safetensors")
    tensors["encoder.layer.0.layer_scale1.lambda1"] *= 2
    save_file(tensors, tmp_path / "native/model.safetensors")
    with pytest.raises(InputError, match=r"layer_scale1\.lambda1: expected ones"):
        read_expert(tmp_path / "native")

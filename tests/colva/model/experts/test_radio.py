"""RADIO against the published tokens, and against an independent writing of the rules that those do not exercise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import ViTConfig, ViTModel

from colva.model.experts import build_expert, tiny_config
from colva.model.experts.radio import Radio
from colva.model.experts.radio_names import from_published_name, from_radio_config, to_published_name, to_radio_config
from mmvm_data.core.errors import InputError, UsageError

WRAP = "object_tokenizer."


@pytest.fixture(scope="module")
def folder(parity: Path) -> Path:
    torch.set_num_threads(1)
    return parity / "internvl2_phi3_radio_tiny"


@pytest.fixture(scope="module")
def radio_config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())["radio_config"]


@pytest.fixture(scope="module")
def published(folder: Path) -> dict[str, Tensor]:
    return {k: v for k, v in load_file(folder / "model.safetensors").items() if k.startswith(WRAP)}


@pytest.fixture(scope="module")
def radio(radio_config: dict[str, Any], published: dict[str, Tensor]) -> Radio:
    expert = build_expert("radio", from_radio_config(radio_config))
    assert isinstance(expert, Radio)
    expert.load_state_dict({str(from_published_name(key)): value for key, value in published.items()})
    return expert.requires_grad_(False)


def test_tokens_equal_the_published_ones(radio: Radio, folder: Path) -> None:
    io = load_file(folder / "io.safetensors")
    features = radio(io["expert_pixel_values"])
    assert features.grid == (12, 12)
    torch.testing.assert_close(features.tokens, io["expert_tokens"], rtol=0, atol=1e-5)


def expected_tokens(radio: Radio, images: Tensor, side: int = 16) -> Tensor:
    """All tokens by other means: positions in numpy, patches by a convolution, blocks by transformers' ViT."""
    state = radio.state_dict()
    width, patch = radio.hidden_size, radio.stride
    rows, columns = images.shape[2] // patch, images.shape[3] // patch

    grid = state["patch_generator.pos_embed"].numpy().reshape(side, side, width).astype(np.float64)
    at = np.linspace(0, side - 1, max(rows, columns))  # corners aligned
    grid = np.apply_along_axis(lambda v: np.interp(at, np.arange(side), v), 0, grid)
    grid = np.apply_along_axis(lambda v: np.interp(at, np.arange(side), v), 1, grid)
    positions = torch.from_numpy(grid[:rows, :columns].reshape(1, rows * columns, width)).float()

    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.4815, 0.4578, 0.4082], [0.2686, 0.2613, 0.2758]))
    kernel = state["patch_generator.embedder.weight"].view(width, 3, patch, patch)
    patches = F.conv2d((images - mean) / std, kernel, stride=patch).flatten(2).mT + positions
    tokens = torch.cat([state["patch_generator.cls_token.token"].expand(len(images), -1, -1), patches], 1)

    vit = ViTModel(
        ViTConfig(
            hidden_size=width,
            num_hidden_layers=radio.config["depth"],
            num_attention_heads=radio.config["heads"],
            intermediate_size=radio.config["mlp_size"],
            layer_norm_eps=1e-6,
        ),
        add_pooling_layer=False,
    ).eval()
    theirs = {}
    for i in range(radio.config["depth"]):
        for kind in ("weight", "bias"):
            for name, part in zip(
                ("query", "key", "value"), state[f"blocks.{i}.attn.qkv.{kind}"].chunk(3), strict=True
            ):
                theirs[f"layer.{i}.attention.attention.{name}.{kind}"] = part
            for ours, name in {
                "attn.proj": "attention.output.dense",
                "mlp.fc1": "intermediate.dense",
                "mlp.fc2": "output.dense",
                "norm1": "layernorm_before",
                "norm2": "layernorm_after",
            }.items():
                theirs[f"layer.{i}.{name}.{kind}"] = state[f"blocks.{i}.{ours}.{kind}"]
    vit.encoder.load_state_dict(theirs)
    with torch.no_grad():
        return vit.encoder(tokens).last_hidden_state


@pytest.mark.parametrize(
    "grid", [(16, 16), (12, 12), (5, 9), (16, 7), (3, 16), (1, 1), (20, 20), (18, 24), (24, 4), (1, 30)]
)
def test_any_grid_follows_the_published_rule(radio: Radio, grid: tuple[int, int]) -> None:
    rows, columns = grid
    images = torch.rand(2, 3, 16 * rows, 16 * columns, generator=torch.Generator().manual_seed(rows))
    features = radio(images)
    assert features.grid == grid
    # the constants above have four digits
    torch.testing.assert_close(features.tokens, expected_tokens(radio, images)[:, 8:], rtol=0, atol=2e-3)
    exact = radio.patch_generator.positions(rows, columns)
    assert exact.shape == (1, rows * columns, 64)


@pytest.mark.parametrize("grid", [(5, 9), (18, 24), (24, 4)])
def test_positions_equal_numpy_interpolation(radio: Radio, grid: tuple[int, int]) -> None:
    rows, columns = grid
    trained = radio.patch_generator.pos_embed.numpy().reshape(16, 16, 64).astype(np.float64)
    at = np.linspace(0, 15, max(grid))
    low = np.minimum(at.astype(int), 14)
    share = (at - low)[:, None, None]
    down = trained[low] * (1 - share) + trained[low + 1] * share
    share = share.transpose(1, 0, 2)
    both = down[:, low] * (1 - share) + down[:, low + 1] * share
    found = radio.patch_generator.positions(rows, columns)[0].numpy().reshape(rows, columns, 64)
    np.testing.assert_allclose(found, both[:rows, :columns], atol=1e-6)


def test_positions_of_later_releases_are_resized_from_centers_to_centers() -> None:
    torch.manual_seed(0)
    radio = build_expert("radio", tiny_config("radio") | {"align_corners": False})
    assert isinstance(radio, Radio)
    trained = radio.patch_generator.pos_embed.detach().numpy().reshape(16, 16, 64).astype(np.float64)
    for rows, columns in [(5, 9), (18, 24), (24, 4)]:
        longer = max(rows, columns)
        at = ((np.arange(longer) + 0.5) * 16 / longer - 0.5).clip(0, 15)
        grid = np.apply_along_axis(lambda v, at=at: np.interp(at, np.arange(16), v), 0, trained)
        grid = np.apply_along_axis(lambda v, at=at: np.interp(at, np.arange(16), v), 1, grid)
        found = radio.patch_generator.positions(rows, columns)[0].detach().numpy().reshape(rows, columns, 64)
        np.testing.assert_allclose(found, grid[:rows, :columns], atol=1e-6)


def test_summary_joins_the_class_tokens_of_the_chosen_teachers(radio: Radio) -> None:
    images = torch.rand(2, 3, 48, 80, generator=torch.Generator().manual_seed(5))
    summary, features = radio.summary(images)
    assert radio.summary_idxs.tolist() == [0, 1]
    torch.testing.assert_close(summary, expected_tokens(radio, images)[:, [0, 1]].flatten(1), rtol=0, atol=2e-3)
    assert torch.equal(features.tokens, radio(images).tokens)


def test_too_large_an_image_is_refused() -> None:
    expert = build_expert("radio", tiny_config("radio") | {"max_resolution": 64})
    expert(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="64 x 80 pixels, expected at most 64 a side"):
        expert(torch.rand(1, 3, 64, 80))


def test_final_and_mlp_norms_are_built_where_the_configuration_has_them() -> None:
    torch.manual_seed(0)
    config = tiny_config("radio") | {"final_norm": True, "mlp_norm": True, "qkv_bias": False}
    expert = build_expert("radio", config)
    tokens = expert(torch.rand(1, 3, 32, 32)).tokens
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(1, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(tokens.var(-1, unbiased=False), torch.ones(1, 4), rtol=1e-3, atol=0)
    state = expert.state_dict()
    assert "blocks.1.mlp.norm.weight" in state and "norm.bias" in state and "blocks.0.attn.qkv.bias" not in state
    assert from_radio_config(to_radio_config(config)) == config


def test_names_go_there_and_back(radio: Radio, published: dict[str, Tensor]) -> None:
    ours = radio.state_dict()
    assert {WRAP + str(to_published_name(key)) for key in ours} == set(published)
    for key in ours:
        for layout in ("folder", "file"):
            theirs = to_published_name(key, layout)
            if theirs is None:
                assert (key, layout) == ("summary_idxs", "file")
                continue
            for prefix in ("", WRAP, "module.", "module._orig_mod."):
                assert from_published_name(prefix + theirs) == key
    assert to_published_name("blocks.0.norm1.bias", "file") == "base_model.blocks.0.norm1.bias"
    assert to_published_name("input_conditioner.norm_mean", "file") == "input_conditioner.norm_mean"


@pytest.mark.parametrize(
    "key",
    [
        "_heads.0.fc1.weight",
        "_feature_projections.1.final.2.bias",
        "radio_model.adaptors.clip.head_mlp.fc1.weight",
        "base_model.head.weight",
        "radio_model.blocks.0.norm1.weight",
        "ot_mlp1.0.weight",
        "",
    ],
)
def test_other_tensors_have_no_name(key: str) -> None:
    assert from_published_name(key) is None


def test_configurations_go_there_and_back(radio: Radio, radio_config: dict[str, Any]) -> None:
    written = to_radio_config(radio.config)
    assert from_radio_config(written) == radio.config
    assert set(written["args"]) == set(radio_config["args"])  # the published code reads them as attributes
    huge = from_radio_config({"args": {**radio_config["args"], "model": "vit_huge_patch16_224", "model_kwargs": {}}})
    assert (huge["hidden_size"], huge["depth"], huge["heads"], huge["mlp_size"]) == (1280, 32, 16, 5120)
    with pytest.raises(UsageError, match="summary_idxs"):
        to_radio_config(radio.config | {"summary_idxs": [1, 0]})


def test_registers_follow_the_published_rule(radio_config: dict[str, Any]) -> None:
    args = radio_config["args"]
    for teachers, multiple, registers in [(3, 8, 5), (4, 16, 12), (8, 8, 8), (9, 8, 7), (3, None, 0)]:
        given = args | {"teachers": [{"name": str(i)} for i in range(teachers)], "register_multiple": multiple}
        found = from_radio_config({"args": given})
        assert (found["class_tokens"], found["registers"]) == (teachers, registers)
        assert found["summary_idxs"] == list(range(teachers))


def test_later_releases(radio_config: dict[str, Any]) -> None:
    """C-RADIOv3 and v4: other networks, registers by number, teachers that share a token, and positions."""

    def read(version: str | None = None, **args: Any) -> dict[str, Any]:
        changed = {**radio_config, "args": {**radio_config["args"], "model_kwargs": {}, **args}, "version": version}
        return from_radio_config(changed)

    so400m, other = read(model="vit_so400m_patch16_224"), read(model="vit_so400m_v2_patch16_224")
    assert [so400m[name] for name in ("hidden_size", "depth", "heads", "mlp_size")] == [1152, 27, 16, 4304]
    assert other["mlp_size"] == 4320 and read(model="vit_giant_patch16_224")["depth"] == 40
    for config in (so400m, other, read("c-radio_v4-h")):
        assert from_radio_config(to_radio_config(config)) == config
    assert read(cpe_num_registers=4, register_multiple=16)["registers"] == 4
    names = [{"name": name, "use_summary": name != "sam"} for name in ("clip", "dino", "sam", "clip")]
    shared = read(teachers=names)
    assert (shared["class_tokens"], shared["summary_idxs"]) == (3, [0, 1])
    aligned = {
        v: read(v)["align_corners"] for v in (None, "radio_v2.1", "c-radio_v2-g", "c-radio_v3-h", "c-radio_v4-h")
    }
    assert aligned == {
        None: True,
        "radio_v2.1": True,
        "c-radio_v2-g": True,
        "c-radio_v3-h": False,
        "c-radio_v4-h": False,
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"args": None}, "args"),
        ({"args.model": "eradio"}, "args.model"),
        ({"args.model": "vit_bigG_patch14_224"}, "args.model"),
        ({"feature_normalizer_config": {"embed_dim": 64}}, "feature_normalizer_config"),
        ({"args.model_kwargs": {"init_values": 1e-5}}, "args.model_kwargs.init_values"),
        ({"patch_size": 14}, "patch_size"),
        ({"vitdet_window_size": 8}, "vitdet_window_size"),
        ({"args.in_chans": 4}, "args.in_chans"),
        ({"args.spectral_reparam": True}, "args.spectral_reparam"),
        ({"args.cpe_max_size": None}, "args.cpe_max_size"),
        ({"args.cpe_max_size": 224}, "args.cpe_max_size"),
        ({"args.teachers": []}, "args.teachers"),
        ({"args.teachers": "clip"}, "args.teachers"),
    ],
)
def test_another_network_is_refused(radio_config: dict[str, Any], change: dict[str, Any], field: str) -> None:
    config = dict(radio_config)
    for name, value in change.items():
        if name.startswith("args."):
            config["args"] = {**radio_config["args"], name.removeprefix("args."): value}
        else:
            config[name] = value
    with pytest.raises(InputError) as caught:
        from_radio_config(config)
    assert caught.value.field == f"radio_config.{field}"

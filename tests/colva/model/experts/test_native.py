"""Experts on transformers' classes: published folders, normalisation, stages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BitImageProcessor,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    PreTrainedModel,
)

from colva.model.experts import build_expert, tiny_config
from colva.model.experts.convnextv2 import ConvNextV2
from colva.model.experts.dinov2 import Dinov2
from colva.model.experts.dinov3 import Dinov3
from colva.model.experts.mobilenetv2 import MobileNetV2
from colva.model.experts.native import NativeExpert
from mmvm_data.core.errors import InputError, UsageError

DINO = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
# what published configurations also say, and an expert has no use for
DROPPED = {"drop_path_rate": 0.3}


def dinov2() -> PreTrainedModel:
    return Dinov2Model(Dinov2Config(**DINO, mlp_ratio=2, image_size=56, **DROPPED))


def dinov2_registers() -> PreTrainedModel:
    return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**DINO, image_size=56, num_register_tokens=3))


def dinov3() -> PreTrainedModel:
    config = DINOv3ViTConfig(
        **DINO, intermediate_size=48, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu", **DROPPED
    )
    return DINOv3ViTModel(config)


def convnextv2() -> PreTrainedModel:
    config = ConvNextV2Config(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], num_labels=5, **DROPPED)
    return ConvNextV2ForImageClassification(config)


def mobilenetv2() -> PreTrainedModel:
    return MobileNetV2ForImageClassification(MobileNetV2Config(depth_multiplier=0.1, num_labels=5))


CASES = [
    (Dinov2, dinov2, {}, 1),
    (Dinov2, dinov2_registers, {}, 4),
    (Dinov3, dinov3, {}, 5),
    (ConvNextV2, convnextv2, {}, None),
    (MobileNetV2, mobilenetv2, {"blocks": 0, "output_stride": 32}, None),
]


def spread(model: PreTrainedModel) -> PreTrainedModel:
    """Weights that are not what a fresh network starts with."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.add_(torch.rand_like(buffer))
    return model.eval()


@pytest.mark.parametrize(("cls", "make", "fields", "prefix"), CASES)
def test_a_published_folder_gives_its_tokens(
    cls: type[NativeExpert], make, fields: dict[str, int], prefix: int | None, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    native = spread(make())
    native.save_pretrained(tmp_path, max_shard_size="30KB")
    expert = cls.from_pretrained(tmp_path, **fields)
    assert json.loads(json.dumps(expert.config)) == build_expert(expert.kind, expert.config).config
    pixels = np.random.default_rng(0).integers(0, 256, (3 * expert.stride, 2 * expert.stride, 3), np.uint8)

    # the publishers' own preprocessing, on bytes
    processor = BitImageProcessor(
        do_resize=False,
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    base = getattr(native, native.base_model_prefix, native)
    with torch.no_grad():
        expected = base(processor(pixels, return_tensors="pt")["pixel_values"]).last_hidden_state
        found = expert(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    expected = expected.flatten(2).mT if prefix is None else expected[:, prefix:]
    assert found.grid == (3, 2)
    torch.testing.assert_close(found.tokens, expected, rtol=1e-5, atol=1e-5)


def test_another_kind_of_network_is_refused(tmp_path: Path) -> None:
    spread(dinov2()).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"config.json: model_type: expected dinov3_vit, found 'dinov2'"):
        Dinov3.from_pretrained(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("layer_norm_eps", 1e-3), ("hidden_act", "relu"), ("num_channels", 4)])
def test_a_variant_that_the_fields_cannot_describe_is_refused(tmp_path: Path, name: str, value: object) -> None:
    spread(Dinov2Model(Dinov2Config(**DINO, image_size=56, **{name: value}))).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"config.json: {name}: expected .*, found {value!r}"):
        Dinov2.from_pretrained(tmp_path)


def test_missing_tensors_are_refused(tmp_path: Path) -> None:
    spread(dinov3()).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["layer.1.norm2.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"1 tensor missing, such as layer.1.norm2.weight"):
        Dinov3.from_pretrained(tmp_path)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    native = spread(dinov2())
    native.config.save_pretrained(tmp_path)
    torch.save(native.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        Dinov2.from_pretrained(tmp_path)


def test_an_unknown_field_is_refused(tmp_path: Path) -> None:
    spread(convnextv2()).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="unknown field 'stages'; did you mean 'stage'"):
        ConvNextV2.from_pretrained(tmp_path, stages=2)


@pytest.mark.parametrize(("stage", "stride", "width"), [(1, 4, 8), (2, 8, 16), (3, 16, 24), (4, 32, 32)])
def test_a_stage_of_convnextv2_is_that_stage(stage: int, stride: int, width: int, tmp_path: Path) -> None:
    native = spread(convnextv2())
    native.save_pretrained(tmp_path)
    expert = ConvNextV2.from_pretrained(tmp_path, stage=stage)
    assert (expert.stride, expert.hidden_size) == (stride, width)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = native.convnextv2(expert.pixels(images), output_hidden_states=True).hidden_states[stage]
        found = expert(images)
    assert found.grid == (64 // stride, 96 // stride)
    torch.testing.assert_close(found.tokens, expected.flatten(2).mT)


def test_rotary_positions_stay_exact_in_bfloat16() -> None:
    expert = build_expert("dinov3", tiny_config("dinov3") | {"hidden_size": 256})
    assert isinstance(expert, Dinov3)
    before = expert.model.rope_embeddings.inv_freq.clone()
    after = expert.bfloat16().model.rope_embeddings.inv_freq
    assert after.dtype == torch.float32 and torch.equal(before, after)

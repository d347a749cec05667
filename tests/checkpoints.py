"""Published checkpoints at toy size, made here to their layouts."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from colva.checkpoints.convert import ConvertOptions, convert
from colva.checkpoints.init_tiny import init_tiny
from colva.checkpoints.load import load
from colva.model.experts import build_expert, tiny_config
from colva.model.experts.radio_names import to_published_name, to_radio_config


def radio_file(path: Path) -> dict[str, Tensor]:
    """RADIO's own file, as it was trained (an argparse Namespace, a wrapped network, teachers' heads); gives its
    tensors by our names."""
    torch.manual_seed(0)
    fields = tiny_config("radio")
    expert = build_expert("radio", fields)
    state = {}
    for name, tensor in expert.state_dict().items():
        other = to_published_name(name, "file")
        if other is not None:
            state[other] = tensor
    args = argparse.Namespace(**to_radio_config(fields)["args"])
    torch.save({"args": args, "state_dict": state | {"heads.0.weight": torch.ones(2)}, "epoch": 3}, path)
    return expert.state_dict()


def published_folders(place: Path) -> None:
    """What the pages name: two original folders and one of transformers, RADIO's file, and two `.pth` of training."""
    init_tiny(place / "with", "internvl2-phi3", "radio")
    init_tiny(place / "without", "internvl2-phi3", "none")
    convert(place / "with", place / "CoLVA-InternVL2-4B", ConvertOptions(to="original"))
    convert(place / "without", place / "InternVL2-4B", ConvertOptions(to="original"))
    model = load(place / "with")
    adapter = {f"ot_mlp1.{name}": tensor for name, tensor in model.adapter.state_dict().items()}
    torch.save({"state_dict": adapter}, place / "radio_adapter.pth")
    module = "model.language_model.base_model.model.model.layers.0.self_attn.qkv_proj"
    rows, columns = model.backbone.language_model.layers[0].self_attn.qkv_proj.weight.shape
    lora = {f"{module}.lora_A.default.weight": torch.ones(2, columns)}
    lora |= {f"{module}.lora_B.default.weight": torch.ones(rows, 2)}
    torch.save({"state_dict": adapter | lora}, place / "iter_18252.pth")
    model.backbone.model.save_pretrained(place / "InternVL3-1B-hf")
    model.processor.vocabulary.tokenizer.save_pretrained(place / "InternVL3-1B-hf")
    radio_file(place / "radio-v2.1_half.pth.tar")

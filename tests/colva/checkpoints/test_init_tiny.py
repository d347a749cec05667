"""Toy checkpoints: the same bytes each time, and everything that a large one has."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from colva.checkpoints.init_tiny import FAMILIES, build_tiny_tokenizer, init_tiny
from colva.checkpoints.load import load
from colva.model.colva import ColvaModel
from colva.model.experts import EXPERTS
from colva.processing.tokens import OBJECT
from mmvm_data.cases import prompts
from mmvm_data.core.errors import UsageError
from tests.toys import conversation


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def asked(model: ColvaModel, objects: list[int]) -> dict[str, Tensor]:
    """A prompt about pictures with so many objects each."""
    batch = model.processor([conversation([(60, 90)] * len(objects), objects, 0)], prompt=True)
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


@pytest.mark.parametrize("family", FAMILIES)
def test_answers(family: str, tmp_path: Path) -> None:
    init_tiny(tmp_path / "toy", family, "mobilenetv2")
    model = load(tmp_path / "toy")
    batch = asked(model, [1, 3])
    with torch.no_grad():
        logits = model(**batch).logits
        tokens = model.generate(**batch, max_new_tokens=3, do_sample=False)
    assert logits.isfinite().all() and tokens.shape[0] == 1 and 1 <= tokens.shape[1] <= 3
    assert int((batch["input_ids"] == model.config.object_token_id).sum()) == 4


@pytest.mark.parametrize("expert", [*EXPERTS, "none"])
def test_experts(expert: str, tmp_path: Path) -> None:
    init_tiny(tmp_path / "toy", expert=expert)
    model = load(tmp_path / "toy")
    if expert == "none":
        assert model.expert is None and model.processor.expert_stride == 0
        return
    assert model.config.expert_side % model.processor.expert_stride == 0
    batch = asked(model, [2])
    with torch.no_grad():
        assert model(**batch).logits.isfinite().all()


def test_same_seed_same_bytes_in_another_process(tmp_path: Path) -> None:
    code = "from pathlib import Path; from colva.checkpoints.init_tiny import init_tiny; init_tiny(Path('toy'), seed=7)"
    env = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True, capture_output=True)
    found = digest(tmp_path / "toy")
    init_tiny(tmp_path / "here", seed=7)
    assert digest(tmp_path / "here") == found
    init_tiny(tmp_path / "other", seed=8)
    other = digest(tmp_path / "other")
    assert other["model.safetensors"] != found["model.safetensors"]
    assert other["tokenizer.json"] == found["tokenizer.json"]


def test_the_callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    init_tiny(tmp_path / "toy")
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizer(family: str) -> None:
    kind = FAMILIES[family]
    tokenizer = build_tiny_tokenizer(kind)
    for token in (*kind.tokens, OBJECT):
        ids = tokenizer(f"a{token}b", add_special_tokens=False)["input_ids"]
        assert ids.count(tokenizer.convert_tokens_to_ids(token)) == 1
    text = prompts.format_question() + " ünïcödé 東京 \n\n  A. 1"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert len(ids) < len(text) / 2  # it has learned the question's words


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="family 'gpt' is not one of internvl2-phi3"):
        init_tiny(tmp_path / "toy", "gpt")
    with pytest.raises(UsageError, match="expert 'clip' is not one of radio"):
        init_tiny(tmp_path / "toy", expert="clip")
    assert list(tmp_path.iterdir()) == []
    init_tiny(tmp_path / "toy")
    before = digest(tmp_path / "toy")
    with pytest.raises(UsageError, match="already exists"):
        init_tiny(tmp_path / "toy", seed=1)
    assert digest(tmp_path / "toy") == before


def test_config_is_plain_json(tmp_path: Path) -> None:
    init_tiny(tmp_path / "toy")
    config = json.loads((tmp_path / "toy/config.json").read_text())
    assert config["model_type"] == "colva" and config["expert"]["kind"] == "radio"
    assert str(tmp_path) not in (tmp_path / "toy/config.json").read_text()

"""Folders whose JSON files hold values of other types than their fields have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from colva.checkpoints.init_tiny import init_tiny
from colva.checkpoints.read import open_checkpoint
from mmvm_data.core.errors import InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    init_tiny(folder)
    return folder


@pytest.mark.parametrize(
    ("file", "field", "value", "message"),
    [
        ("config.json", "prompt_style", 3, "prompt_style: expected str, found 3"),
        ("config.json", "template", [], r"template: expected str, found \[\]"),
        ("config.json", "mask_threshold", [0.5], r"mask_threshold: expected int or float, found \[0.5\]"),
        ("config.json", "mask_threshold", True, "mask_threshold: expected int or float, found True"),
        ("config.json", "expert_side", "64", "expert_side: expected int, found '64'"),
        ("config.json", "object_token_id", 1.5, "object_token_id: expected int or null, found 1.5"),
        ("config.json", "use_object_tokens", 1, "use_object_tokens: expected bool, found 1"),
        ("config.json", "pictures", {"max_tiles": [12]}, r"pictures: .*max_tiles must be a positive integer, got \[12"),
        ("config.json", "pictures", {"max_tiles": True}, "pictures: .*max_tiles must be a positive integer, got True"),
        ("config.json", "pictures", {"thumbnail": 1}, "pictures: .*thumbnail must be True or False, got 1"),
        ("config.json", "pictures", {"tiles": 1}, "pictures: .*must be max_tiles, min_tiles, thumbnail; got tiles"),
        ("tokenizer_config.json", "model_max_length", "8192", "model_max_length: expected a number of tokens"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_file_and_field(
    model: Path, tmp_path: Path, file: str, field: str, value: Any, message: str
) -> None:
    changed = tmp_path / "model"
    shutil.copytree(model, changed)
    content = json.loads((changed / file).read_text()) | {field: value}
    (changed / file).write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"{file}: .*{message}|{file}: {message}"):
        open_checkpoint(changed)

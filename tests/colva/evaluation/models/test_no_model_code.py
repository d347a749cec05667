"""Code in the folder of a model is not run, whatever stdin answers."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from colva.evaluation.benchmark import load_questions
from colva.evaluation.models.hf import open_model
from colva.evaluation.question import AskOptions
from mmvm_data.core.errors import UsageError
from tests.colva.evaluation import tiny_models
from tests.colva.evaluation.worlds import folder_of, options

_LOADERS = {
    "config": ("config.json", "AutoConfig"),
    "model": ("config.json", "AutoModelForImageTextToText"),
    "tokenizer": ("tokenizer_config.json", "AutoTokenizer"),
    "processor": ("processor_config.json", "AutoProcessor"),
    "image processor": ("preprocessor_config.json", "AutoImageProcessor"),
}
"""Loader -> file that names its class, and key of ``auto_map``."""


@pytest.fixture(autouse=True)
def yes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n" * 100))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))


def try_to_open(folder: Path) -> UsageError | None:
    try:
        open_model(str(folder), options(device="cpu"))
    except UsageError as error:
        return error
    return None


@pytest.mark.parametrize("loader", _LOADERS)
@pytest.mark.parametrize("make", [tiny_models.llava, tiny_models.qwen2_vl])
def test_auto_map_runs_nothing(make, loader: str, tmp_path: Path) -> None:
    folder, marker = make(tmp_path / "m"), tmp_path / "ran"
    name, key = _LOADERS[loader]
    file = folder / name
    content = json.loads(file.read_text()) if file.is_file() else {}
    content["auto_map"] = {key: "evil.Evil"}
    if loader in ("config", "model"):
        content["model_type"] = "evil"
    if loader == "tokenizer":
        content["tokenizer_class"] = "Evil"
        content["auto_map"] = {key: ["evil.Evil", None]}
    if loader == "image processor":
        content["image_processor_type"] = "Evil"
    file.write_text(json.dumps(content))
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    try_to_open(folder)
    assert not marker.exists()


def test_code_for_generation_is_refused(tmp_path: Path) -> None:
    folder, marker = tiny_models.llava(tmp_path / "m"), tmp_path / "ran"
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate/generate.py").write_text(
        f"open({str(marker)!r}, 'w')\ndef generate(model, **kwargs): pass\n"
    )
    error = try_to_open(folder)
    assert not marker.exists() and error is not None
    assert "custom_generate" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("make", [tiny_models.llava, tiny_models.qwen2_vl])
def test_a_chat_template_stays_in_the_sandbox(make, tmp_path: Path) -> None:
    folder, marker = make(tmp_path / "m"), tmp_path / "ran"
    template = "{{ cycler.__init__.__globals__.os.system('touch " + str(marker) + "') }}"
    (folder / "chat_template.jinja").write_text(template)
    bench = folder_of(tmp_path / "b", 1)
    model = open_model(str(folder), options(device="cpu"))
    with pytest.raises(UsageError, match="chat template of the model cannot be used"):
        model.answer(list(load_questions(bench, AskOptions(), bench)))
    assert not marker.exists()

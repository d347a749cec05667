from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from colva.training import config_files
from colva.training.commands import configs, train
from colva.training.config_files import find_config, list_shipped_configs
from mmvm_data.core.errors import UsageError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def test_a_path_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("finetune/tiny") == CONFIGS / "finetune" / "tiny.yaml"
    assert find_config("finetune/tiny.yaml") == CONFIGS / "finetune" / "tiny.yaml"
    assert find_config("configs/finetune/tiny.yaml") == CONFIGS / "finetune" / "tiny.yaml"
    own = tmp_path / "finetune" / "tiny"
    own.parent.mkdir()
    own.write_text("stage: stage1\n")
    assert find_config("finetune/tiny") == Path("finetune/tiny")
    assert find_config(own) == own


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(UsageError) as caught:
        find_config("finetune/tinny")
    message = str(caught.value)
    assert message.startswith("finetune/tinny: neither a file nor a shipped configuration; did you mean finetune/tiny?")
    assert all(f"\n  {config.name}" in message for config in list_shipped_configs())
    result = CliRunner().invoke(train, ["finetune/tinny"])
    assert isinstance(result.exception, UsageError)


def test_every_shipped_configuration_states_its_hardware() -> None:
    shipped = {config.name: config for config in list_shipped_configs()}
    assert len(shipped) == len(list(CONFIGS.glob("*/*.yaml")))
    assert all(config.title and config.hardware for config in shipped.values())
    assert shipped["pretrain/tiny"].hardware.startswith("CPU")
    measured = ("tiny", "scratch", "smollm2", "smollm2_objects")
    assert all("estimate" in config.hardware for name, config in shipped.items() if not name.endswith(measured))


def test_the_command_lists_names_and_hardware() -> None:
    result = CliRunner().invoke(configs)
    assert result.exit_code == 0
    for config in list_shipped_configs():
        assert config.name in result.output and config.hardware in result.output and config.title in result.output


def test_an_installed_package_finds_them_without_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages"
    (installed / "colva_configs" / "finetune").mkdir(parents=True)
    (installed / "colva_configs" / "finetune" / "own.yaml").write_text("# A run.\n# hardware: none\nstage: stage2\n")
    monkeypatch.setattr(config_files, "__file__", str(installed / "colva" / "training" / "config_files.py"))
    with monkeypatch.context() as patch:
        patch.setattr(config_files, "SHIPPED_PACKAGE", "colva_configs_missing")
        with pytest.raises(UsageError, match="reinstall the package"):
            list_shipped_configs()
    monkeypatch.syspath_prepend(str(installed))
    try:
        (found,) = list_shipped_configs()
        assert (found.name, found.title, found.hardware) == ("finetune/own", "A run.", "none")
        assert find_config("finetune/own").read_text().endswith("stage: stage2\n")
    finally:
        sys.modules.pop("colva_configs", None)

"""The wheel in a fresh environment runs the commands of the README outside a checkout."""

from __future__ import annotations

import re
import shlex
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging"), pytest.mark.timeout(900)]


def readme_commands() -> list[list[str]]:
    """The commands of the README's block that starts with generated videos."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M)
    (block,) = [block for block in blocks if "mmvm-data synth" in block]
    return [shlex.split(line) for line in block.splitlines()]


def test_content(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"mmvm_data/py.typed", "colva/py.typed"} <= set(names)
    shipped = {name.removeprefix("colva_configs/") for name in names if name.startswith("colva_configs/")}
    configs = ROOT / "configs"
    files = [p for p in configs.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert shipped == {str(p.relative_to(configs)) for p in files}
    for suffix in (".html", ".css", ".js"):
        for package in ("mmvm_data", "colva"):
            present = {str(p.relative_to(ROOT)) for p in (ROOT / package).rglob(f"*{suffix}")}
            assert present <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]


def test_commands_run_outside_a_checkout(environment: Path, tmp_path: Path) -> None:
    """The base installation, without any extra."""
    where = run([environment / "bin/python", "-c", "import mmvm_data; print(mmvm_data.__file__)"], tmp_path)
    assert where.startswith(str(environment))
    commands = readme_commands()
    assert len(commands) >= 8
    for words in commands:
        run([environment / "bin" / words[0], *words[1:]], tmp_path)
    assert (tmp_path / "bench/report.html").stat().st_size > 100_000
    assert (tmp_path / "comparison.html").is_file()


def test_shipped_configurations_train(environment: Path, tmp_path: Path) -> None:
    """PyTorch and its kin come from the test environment, our two packages from the wheel."""
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "zz_libraries.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n", encoding="utf-8")
    colva = environment / "bin/colva"
    listed = run([colva, "configs"], tmp_path)
    assert "finetune/internvl2_4b_radio" in listed
    run([environment / "bin/mmvm-data", "synth", "demo/videos", "--videos", "4", "--frames", "4"], tmp_path)
    run([colva, "init-tiny", "demo/tiny", "--family", "internvl2_5-qwen2", "--expert", "mobilenetv2"], tmp_path)
    run([colva, "train", "pretrain/tiny", "--set", "trainer.max_steps=2"], tmp_path)
    assert (tmp_path / "demo/stage1/final").is_dir()

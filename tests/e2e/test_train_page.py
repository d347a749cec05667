"""Runs the commands of docs/train.md one after the other in one folder; those for several GPUs are only parsed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from colva import cli as colva
from colva.training.config_files import find_config
from mmvm_data import cli as data

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "train.md"
# enough to start, save and resume
SMALL = [
    *("--set", "trainer.max_steps=2"),
    *("--set", "trainer.global_batch_size=4"),
    *("--set", "trainer.num_workers=0"),
    *("--set", "data.sources.0.repeat=2"),
]


def read_commands() -> list[list[str]]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    blocks = "\n".join(text for language, text in fenced if not language)
    return [shlex.split(line) for line in blocks.splitlines() if line.strip()]


@pytest.mark.slow
def test_every_command_does_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(ROOT / "configs")
    commands = read_commands()
    assert {words[0] for words in commands} == {"mmvm-data", "colva"}
    for program, *words in commands:
        if "--nproc" in words:
            colva.main.load_command("train").make_context("train", words[1:])
            assert find_config(words[1]).is_file()
            continue
        if words[0] == "synth":
            words[words.index("--videos") + 1] = "5"
        if words[0] == "train":
            words += SMALL
        result = CliRunner().invoke(data.cli if program == "mmvm-data" else colva.main, words)
        assert result.exit_code == 0, (words, result.output, result.exception)
    assert Path("demo/stage1/final/adapter.safetensors").is_file()
    assert Path("demo/merged/model.safetensors").is_file()


def test_the_page_has_every_option_and_no_other() -> None:
    known = {
        name for p in colva.main.load_command("train").params if not getattr(p, "hidden", False) for name in p.opts
    }
    known = {name for name in known if name.startswith("--")}
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page))
    assert known <= named
    assert named - known <= {"--videos", "--seed"}


def test_every_published_run_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for config in (ROOT / "configs" / "pretrain").glob("*.yaml"):
        assert config.stem in page

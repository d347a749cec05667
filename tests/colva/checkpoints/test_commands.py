"""What `colva convert`, `merge` and `init-tiny` print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from colva.cli import main


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_tiny_convert_and_back(tmp_path: Path) -> None:
    assert run("init-tiny", tmp_path / "toy", "--family", "internvl2_5-qwen2", "--expert", "radio").exit_code == 0
    there = run("convert", tmp_path / "toy", tmp_path / "original", "--to", "original", "--shard-size", "500K")
    assert there.exit_code == 0, there.output
    assert "missing: none" in there.output and "not needed: none" in there.output
    assert "vision_model" in there.output and "backbone.model.model.vision_tower" in there.output
    assert len(list((tmp_path / "original").glob("model-*.safetensors"))) > 1
    back = run("convert", tmp_path / "original", tmp_path / "ours", "--list")
    assert back.exit_code == 0
    assert "adapter.0.weight [64] <- ot_mlp1.0.weight" in back.output
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "toy" / name).read_bytes()


def test_merge(tmp_path: Path, parity: Path) -> None:
    folder = parity / "internvl2_phi3_radio_tiny"
    pth = folder / "iter_18252.pth"
    result = run("merge", pth, tmp_path / "out", "--base", folder)
    assert result.exit_code == 2 and "--lora-alpha" in result.output and not (tmp_path / "out").exists()
    dry = run("merge", pth, tmp_path / "out", "--base", folder, "--lora-alpha", "8", "--dry-run")
    assert dry.exit_code == 0 and "dry run: nothing written" in dry.output and not (tmp_path / "out").exists()
    done = run("merge", pth, tmp_path / "out", "--base", folder, "--lora-alpha", "8", "--prompt-style", "colva")
    assert json.loads((tmp_path / "out/config.json").read_text())["prompt_style"] == "colva"
    assert done.exit_code == 0
    assert "6 tensors replaced, LoRA folded into 8 (rank 4, scale 2)" in done.output


def test_refusal_is_one_error_with_a_list(tmp_path: Path) -> None:
    run("init-tiny", tmp_path / "toy", "--expert", "none")
    torch.save({"state_dict": {"what.is.this": torch.ones(1)}}, tmp_path / "x.pth")
    result = run("convert", tmp_path / "x.pth", tmp_path / "out", "--base", tmp_path / "toy")
    assert result.exit_code == 2
    assert "error:" in result.output and "unexpected (1):\n    what.is.this" in result.output
    assert "Traceback" not in result.output and not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["", "4X", "0", "-1G"])
def test_sizes(tmp_path: Path, size: str) -> None:
    (tmp_path / "x").mkdir()
    result = run("convert", tmp_path / "x", tmp_path / "y", "--shard-size", size)
    assert result.exit_code == 2 and "expected a size such as 500M or 4G" in result.output


def test_names() -> None:
    result = run("init-tiny", "--list")
    assert result.exit_code == 0 and "qwen2-vl" in result.output and "dinov3" in result.output

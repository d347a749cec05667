"""A recipe over real files, whole and killed again and again: equal bytes, valid splits."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmvm_data.formats.bench_check import validate
from mmvm_data.recipes.multi_source.build import build_recipe
from mmvm_data.recipes.multi_source.recipe import read_recipe
from tests.worlds import tree

RECIPE = """
sources:
  - {{name: girls, reader: davis2017, root: {0}/davis2017_schoolgirls_240p, quota: 4}}
  - {{name: stills, reader: coco, root: {0}/coco, quota: 10, sampling: {{cases_per_video: 1}}}}
  - {{name: walkers, reader: mot17, root: {0}/mot17_mini, quota: 4}}
splits: {{train: 0.5, test: 0.5}}
"""
KILLS = 6


@pytest.mark.slow
def test_a_recipe_that_is_killed_gives_the_same_bytes(realdata: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(realdata.resolve()))
    whole = tmp_path / "whole/out"
    started = time.monotonic()
    assert build_recipe(read_recipe(path), tmp_path, whole).build.cases == 18
    seconds = time.monotonic() - started
    for split in ("train", "test"):
        assert not validate(whole / split).problems
    command = [sys.executable, "-m", "mmvm_data.cli", "build", str(path), "--out", str(tmp_path / "out"), "--resume"]
    killed = 0
    for k in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=0.5 + seconds * k / KILLS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
    assert killed
    subprocess.run(command, check=True, capture_output=True)
    assert tree(tmp_path / "out") == tree(whole)
    assert not list(tmp_path.glob(".out*"))

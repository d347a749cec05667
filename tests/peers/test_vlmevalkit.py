"""Our table and predictions in MMVMBench itself; VLMEVALKIT names a checkout of open-compass/VLMEvalKit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colva import evaluate
from colva.evaluation.models.base import Reply
from mmvm_data.core.types import MATCH_TYPES
from mmvm_data.formats import bench, vlmevalkit
from mmvm_data.formats.tsv import drawn_paths
from tests.colva.evaluation.worlds import ScriptedModel
from tests.peers import world

COUNT = 300


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("replies", ["numbers", "mixed"])
def test_the_kit_finds_our_scores_and_keeps_every_pixel(tmp_path: Path, replies: str) -> None:
    """All replies bare numbers, and numbers among others; every fourth case of the world has no right candidate."""
    checkout = world.checkout("VLMEVALKIT")
    world.write_benchmark(tmp_path, COUNT)
    cases = list(bench.read(tmp_path / "bench"))
    vlmevalkit.write(cases, tmp_path / "bench", tmp_path / "mine.tsv")
    said = {case.id: Reply(str(1 + k % 3)) for k, case in enumerate(cases)}
    if replies == "mixed":
        none = vlmevalkit.NONE_TEXT
        said |= {case.id: Reply(none if case.answer is None else "I see none") for case in cases[::5]}
    report = evaluate(tmp_path / "bench", ScriptedModel(said), tmp_path / "run", protocol="vqa")
    (tmp_path / "run/vlmevalkit/planted_MMVMBench.tsv").rename(tmp_path / "predictions.tsv")
    world.run_peer("run_vlmevalkit.py", checkout, tmp_path, tmp_path / "out.json")
    out = json.loads((tmp_path / "out.json").read_text())
    for scores in out["scores"].values():
        assert scores.pop("Overall") == pytest.approx(report.accuracy)
        ours = {name: share.value for name, share in report.by_type.items() if name != "(none)"}
        assert {name: scores[name] for name in ours} == pytest.approx(ours)
        assert set(scores) == {name for name, _ in MATCH_TYPES.values()}
    for case, saved in zip(cases[:12], out["images"][:12], strict=True):
        for name, file in zip(drawn_paths(case), saved, strict=True):
            drawn = np.asarray(Image.open(tmp_path / "bench" / name).convert("RGB"))
            assert np.array_equal(np.asarray(Image.open(file).convert("RGB")), drawn)

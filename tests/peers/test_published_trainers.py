"""The two subsets of match records go through the published training code; COLVA names a checkout of zhouyiks/CoLVA."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.formats import bench, sft
from tests.peers import world


def load_module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"published_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["choices", "reasoning"])
def test_the_published_loader_reads_the_subsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    datasets = pytest.importorskip("datasets")
    code = world.checkout("COLVA") / "projects/colva/dataset"
    utils = types.ModuleType("xtuner.utils")
    utils.DEFAULT_IMAGE_TOKEN = "<image>"  # type: ignore[attr-defined]
    for name, module in (("xtuner", types.ModuleType("xtuner")), ("xtuner.utils", utils)):
        monkeypatch.setitem(sys.modules, name, module)
    cases = world.write_benchmark(tmp_path, 24)
    sft.write(bench.read(tmp_path / "bench"), tmp_path, kind)  # type: ignore[arg-type]
    load = load_module(code / "process_functions/annotation_json_file_load.py").MatchDataset_load_fn
    maps = load_module(code / "map_fns/match_map_fn.py")
    records, rows = load(str(tmp_path / sft.FILES[kind]), 1)  # type: ignore[index]
    table = datasets.Dataset.from_list(rows).to_list() if kind == "reasoning" else records
    map_record = maps.match_reasoning_map_fn if kind == "reasoning" else maps.match_choice_only_map_fn
    assert len(records) == len(table) > 0
    known = {case.id: case for case in cases}
    (tmp_path / "data").symlink_to(tmp_path / "bench")
    monkeypatch.chdir(tmp_path)
    for record, row in zip(records, table, strict=True):
        assert all(Path(name).is_file() for name in record["file_names"])
        turns = map_record(row)["conversations"]
        said = [turn["value"].format(color="red", choices="A. 1", answer="A. 1") for turn in turns]
        if kind == "reasoning":
            assert said[3].endswith(known[record["id"]].rationale)
